//! A place to launch containers in: a root made of busybox, and a process to be the monitor.
//!
//! The test harness has threads, and what makes namespaces must not. So each launch is made by a
//! forked process, which sends back what became of it.
#![allow(unsafe_code, reason = "fork(2) has no safe form; see `in_process_of_one_thread`")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork, geteuid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::runtime::{Further, Launch, Process, Root, Stdio};

/// Who the engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root of the host.
    Root,
    /// A user with subordinate ids: root of a user namespace of its own, where the container gets
    /// another one.
    User,
}

/// First id of the user's own namespace, and how many there are.
const SUBORDINATE: (u32, u32) = (1_000_000, 65536);

/// What became of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// As a shell has it.
    pub code: i32,
    /// Why it was not launched, with its exit code.
    pub refused: Option<(String, Option<u8>)>,
}

impl Outcome {
    /// Its output, if it ended well and said nothing else.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str(), &self.refused), (0, "", &None), "{self:?}");
        self.stdout
    }

    /// Why it was not launched, and the exit code.
    #[track_caller]
    pub fn refused(self) -> (String, u8) {
        let (message, code) = self.refused.expect("launched");
        (message, code.unwrap_or(crate::error::exit::ENGINE))
    }
}

/// A root file system and the folders of an overlay.
#[derive(Debug)]
pub struct Bed {
    pub who: Who,
    folder: tempfile::TempDir,
}

impl Bed {
    /// `None`, said aloud, where this machine cannot do it: the tests run as root too.
    pub fn new(who: Who) -> Option<Self> {
        let missing = if !geteuid().is_root() {
            "not root"
        } else if !Path::new("/bin/busybox").exists() {
            "no /bin/busybox (Debian: busybox-static)"
        } else {
            let folder = tempfile::tempdir().expect("a folder");
            let bed = Self { who, folder };
            bed.furnish();
            return Some(bed);
        };
        assert!(std::env::var_os("CTR_MUST_RUN").is_none(), "cannot run: {missing}");
        #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("skipped: {missing}");
        }
        None
    }

    fn furnish(&self) {
        for folder in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work", "host"] {
            fs::create_dir_all(self.path(folder)).expect("folder");
        }
        fs::copy("/bin/busybox", self.path("lower/bin/busybox")).expect("busybox");
        for applet in "cat chmod chown dd echo env false head id ls mkdir mknod mount ps pwd readlink rm sh sleep stat \
                       stty sysctl tail test touch tr true tty umount wc hostname kill ulimit grep cut sort umask"
            .split_whitespace()
        {
            symlink("busybox", self.path("lower/bin").join(applet)).expect("link");
        }
        self.write("lower/etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n");
        self.write("lower/etc/group", "root:x:0:\nusers:x:100:\nwheel:x:10:ann\n");
        fs::set_permissions(self.path("lower/tmp"), fs::Permissions::from_mode(0o1777)).expect("mode");
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    }

    pub fn path(&self, below: &str) -> std::path::PathBuf {
        self.folder.path().join(below)
    }

    pub fn write(&self, below: &str, text: &str) {
        fs::write(self.path(below), text).expect("write");
    }

    /// A launch of `sh -c script`, for a test to change.
    pub fn launch(&self, script: &str) -> Draft {
        let mut namespaces = vec!["mount", "pid", "network", "ipc", "uts", "cgroup"];
        if self.who == Who::User {
            namespaces.push("user");
        }
        let map = json!([{ "containerID": 0, "hostID": 0, "size": SUBORDINATE.1 }]);
        let caps = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "MKNOD", "NET_BIND_SERVICE"]
            .map(|c| format!("CAP_{c}"));
        let nowrite = ["nosuid", "noexec", "nodev"];
        let spec = json!({
            "ociVersion": "1.2.0",
            "hostname": "box",
            "process": {
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "user": { "uid": 0, "gid": 0 },
                "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            },
            "mounts": [
                { "destination": "/proc", "type": "proc", "options": nowrite },
                { "destination": "/dev", "type": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
                { "destination": "/dev/pts", "type": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
                { "destination": "/dev/shm", "type": "tmpfs", "options": nowrite },
                { "destination": "/dev/mqueue", "type": "mqueue", "options": nowrite },
                { "destination": "/sys", "type": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            ],
            "linux": {
                "namespaces": namespaces.iter().map(|n| json!({ "type": n })).collect::<Vec<_>>(),
                "uidMappings": if self.who == Who::User { map.clone() } else { json!([]) },
                "gidMappings": if self.who == Who::User { map } else { json!([]) },
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        });
        Draft {
            spec,
            root: Root::Overlay {
                lower: vec![self.path("lower")],
                upper: self.path("upper"),
                work: self.path("work"),
                volatile: false,
            },
            user: None,
            groups: Vec::new(),
            terminal: None,
            init: false,
            seccomp: None,
        }
    }

    /// Launches it, waits for its end, and returns all.
    pub fn run(&self, draft: Draft) -> Outcome {
        self.as_monitor(|| self.run_here(draft))
    }

    /// [`Bed::run`] for who is the monitor already.
    #[allow(clippy::unused_self, reason = "reads as the other")]
    pub fn run_here(&self, draft: Draft) -> Outcome {
        let (stdout, stdout_end) = nix::unistd::pipe().expect("pipe");
        let (stderr, stderr_end) = nix::unistd::pipe().expect("pipe");
        let terminal = draft.terminal.is_some();
        let stdin = File::open("/dev/null").expect("null").into();
        match crate::runtime::launch(draft.into_launch(stdin, stdout_end, stderr_end)) {
            Ok(process) if terminal => {
                let master = process.terminal.as_ref().expect("a terminal").try_clone().expect("copy");
                Outcome { stdout: read_to_end(master), code: end_of(&process), ..Outcome::default() }
            }
            Ok(process) => Outcome {
                stdout: read_to_end(stdout),
                stderr: read_to_end(stderr),
                code: end_of(&process),
                refused: None,
            },
            Err(error) => refusal(&error),
        }
    }

    /// Runs `body` as a monitor would be: one thread, a mount namespace of its own, and for a user
    /// in that user's namespace.
    pub fn as_monitor(&self, body: impl FnOnce() -> Outcome) -> Outcome {
        let who = self.who;
        if who == Who::User {
            let (uid, _) = SUBORDINATE;
            give(self.folder.path(), uid);
        }
        in_process_of_one_thread(|| {
            if who == Who::User {
                enter_user_namespace();
            }
            unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
            let none: Option<&str> = None;
            nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).expect("slave");
            body()
        })
    }
}

/// A launch in the making.
#[derive(Debug)]
pub struct Draft {
    pub spec: Value,
    pub root: Root,
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub terminal: Option<(u16, u16)>,
    pub init: bool,
    pub seccomp: Option<Vec<u8>>,
}

impl Draft {
    pub fn into_launch(self, stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Launch {
        Launch {
            secrets: Vec::new(),
            directories: Vec::new(),
            spec: serde_json::from_value(self.spec).expect("a spec"),
            root: self.root,
            user: self.user,
            groups: self.groups,
            stdio: match self.terminal {
                Some((rows, columns)) => Stdio::Terminal { rows, columns },
                None => Stdio::Pipes { stdin, stdout, stderr },
            },
            init: self.init,
            cgroup: None,
            seccomp: self.seccomp,
            further: Further::default(),
        }
    }
}

pub fn refusal(error: &anyhow::Error) -> Outcome {
    let refused = Some((crate::error::message(error), crate::error::exit_code(error)));
    Outcome { refused, ..Outcome::default() }
}

/// Waits for the process's end; its code as a shell has it.
pub fn end_of(process: &Process) -> i32 {
    match waitid(Id::PIDFd(process.pidfd.as_fd()), WaitPidFlag::WEXITED).expect("wait") {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

pub fn read_to_end(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // A terminal whose other side is closed says EIO.
    let _ = File::from(fd).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn in_process_of_one_thread(body: impl FnOnce() -> Outcome) -> Outcome {
    let (result, end) = nix::unistd::pipe().expect("pipe");
    // SAFETY: of what the harness's other threads may hold, the child uses only the C library's
    // allocator, which fork(2) leaves usable (glibc), and nothing that prints.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop(result);
            // Whatever hangs, hangs the test no longer than this; the container dies with us.
            nix::unistd::alarm::set(60);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panic".into());
                Outcome { stderr: format!("the monitor panicked: {message}"), code: -1, ..Outcome::default() }
            });
            let _ = File::from(end).write_all(&serde_json::to_vec(&outcome).unwrap_or_default());
            crate::sys::process::exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop(end);
            let text = read_to_end(result);
            waitpid(child, None).expect("wait");
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
        }
    }
}

/// Makes a namespace as newuidmap would: its ids are mapped from outside.
fn enter_user_namespace() {
    let (ready, ready_end) = nix::unistd::pipe().expect("pipe");
    let (mapped, mapped_end) = nix::unistd::pipe().expect("pipe");
    let monitor = std::process::id();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop((ready_end, mapped));
            read_to_end(ready);
            let map = format!("0 {} {}", SUBORDINATE.0, SUBORDINATE.1);
            for file in ["gid_map", "uid_map"] {
                fs::write(format!("/proc/{monitor}/{file}"), &map).expect("map");
            }
            drop(mapped_end);
            crate::sys::process::exit_now(0)
        }
        ForkResult::Parent { child } => {
            drop((ready, mapped_end));
            unshare(CloneFlags::CLONE_NEWUSER).expect("unshare");
            drop(ready_end);
            read_to_end(mapped);
            waitpid(child, None).expect("wait");
            setgroups(&[]).expect("setgroups");
            setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).expect("setresgid");
            setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).expect("setresuid");
            // Its files in /proc belong to this namespace's root then, as after the exec of a real monitor.
            nix::sys::prctl::set_dumpable(true).expect("dumpable");
        }
    }
}

fn give(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).expect("chown");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("folder") {
            give(&entry.expect("entry").path(), id);
        }
    }
}
