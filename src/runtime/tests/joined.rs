//! Further processes in a container, and its init.

use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::bed::{Bed, Outcome, Who, end_of, read_to_end, refusal};
use crate::runtime::{Join, Process, Stdio, exec, launch};

/// Launches `sleep`, changed by `draft`, and runs `script` beside it.
fn beside(bed: &Bed, change: impl Fn(&mut Join), script: &str) -> Outcome {
    bed.as_monitor(|| {
        let null = || File::open("/dev/null").expect("null").into();
        let draft = bed.launch("exec sleep 1000");
        let spec: oci_spec::runtime::Spec = serde_json::from_value(draft.spec.clone()).expect("a spec");
        let container = launch(draft.into_launch(null(), null(), null())).expect("launched");
        let (stdout, stdout_end) = nix::unistd::pipe().expect("pipe");
        let (stderr, stderr_end) = nix::unistd::pipe().expect("pipe");
        let mut process = spec.process().clone().expect("a process");
        process.set_args(Some(["sh", "-c", script].map(String::from).into()));
        let mut join = Join {
            pid: container.pid,
            pidfd: container.pidfd.try_clone().expect("copy"),
            process,
            user: None,
            groups: Vec::new(),
            stdio: Stdio::Pipes { stdin: null(), stdout: stdout_end, stderr: stderr_end },
            cgroup: None,
            seccomp: None,
            descriptors: Vec::new(),
        };
        change(&mut join);
        let outcome = match exec(join) {
            Ok(Process { terminal: Some(master), pid, pidfd }) => {
                let text = read_to_end(master.try_clone().expect("copy"));
                let process = Process { terminal: None, pid, pidfd };
                Outcome { stdout: text.replace('\r', ""), code: end_of(&process), ..Outcome::default() }
            }
            Ok(process) => Outcome {
                stdout: read_to_end(stdout),
                stderr: read_to_end(stderr),
                code: end_of(&process),
                refused: None,
            },
            Err(error) => refusal(&error),
        };
        crate::sys::pidfd::signal(container.pidfd.as_fd(), libc::SIGKILL).expect("kill");
        waitid(Id::PIDFd(container.pidfd.as_fd()), WaitPidFlag::WEXITED).expect("wait");
        outcome
    })
}

fn for_both(test: impl Fn(&Bed)) {
    for who in [Who::Root, Who::User] {
        if let Some(bed) = Bed::new(who) {
            test(&bed);
        }
    }
}

#[test]
fn a_further_process_is_in_the_container() {
    for_both(|bed| {
        let script = "hostname; echo $$; id -u; pwd; ls /proc/self/fd; grep -E 'CapEff|CapBnd' /proc/self/status; \
                      ls -d /proc/[0-9]*; for n in ipc mnt net pid uts user cgroup; do \
                      test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) || echo $n; done";
        let text = beside(bed, |_| (), script).good();
        assert!(
            text.starts_with(
                "box\n2\n0\n/\n0\n1\n2\n3\nCapEff:\t00000000080004eb\nCapBnd:\t00000000080004eb\n/proc/1\n/proc/2\n"
            ),
            "{text}"
        );
        assert!(!text.contains("mnt") && !text.contains("user"), "{text}");
        let outcome = beside(bed, |join| join.user = Some("ann".into()), "id -un; echo $HOME; exit 7");
        assert_eq!((outcome.stdout.as_str(), outcome.code), ("ann\n/home/ann\n", 7));
    });
}

#[test]
fn a_further_process_can_have_a_terminal() {
    for_both(|bed| {
        let with_terminal = |join: &mut Join| join.stdio = Stdio::Terminal { rows: 10, columns: 20 };
        let text = beside(bed, with_terminal, "tty; stty size; echo x > /dev/tty").good();
        assert_eq!(text, "/dev/pts/0\n10 20\nx\n");
    });
}

#[test]
fn what_a_further_process_cannot_be_is_told() {
    for_both(|bed| {
        let in_folder = |path: &str| {
            let path = path.to_owned();
            beside(
                bed,
                move |join| {
                    join.process.set_cwd(path.clone().into());
                },
                "true",
            )
            .refused()
        };
        assert_eq!(in_folder("/none"), ("chdir to cwd (\"/none\"): no such file or directory".into(), 126));
        for number in 3..16 {
            assert_eq!(in_folder(&format!("/proc/self/fd/{number}")).1, 126);
        }
        let no_such = |join: &mut Join| {
            join.process.set_args(Some(vec!["nosuch".into()]));
        };
        assert_eq!(
            beside(bed, no_such, "").refused(),
            ("exec: \"nosuch\": executable file not found in $PATH".into(), 127)
        );
    });
}
