//! What a container's first process finds.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use super::bed::{Bed, Who};
use crate::runtime::Root;

/// Runs a test as root and as a user.
fn for_both(test: impl Fn(&Bed)) {
    for who in [Who::Root, Who::User] {
        if let Some(bed) = Bed::new(who) {
            test(&bed);
        }
    }
}

#[test]
fn a_command_runs_in_namespaces_of_its_own() {
    for_both(|bed| {
        let out = bed.run(bed.launch("hostname; echo $$; id -u; pwd; echo $HOME; umask; ls /proc/self/fd"));
        assert_eq!(out.good(), "box\n1\n0\n/\n/root\n0022\n0\n1\n2\n3\n");
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(" - overlay overlay"));
    });
}

#[test]
fn the_exit_code_is_the_commands() {
    for_both(|bed| {
        assert_eq!(bed.run(bed.launch("exit 42")).code, 42);
        assert_eq!(bed.run(bed.launch("sh -c 'kill -TERM $$'; exit $?")).code, 143);
    });
}

#[test]
fn capabilities_are_those_of_the_spec() {
    for_both(|bed| {
        let mut draft = bed.launch("grep -E 'Cap|NoNewPrivs|Groups|Uid|Gid' /proc/self/status | tr '\\t\\n' ' ;'");
        draft.user = Some("ann".into());
        draft.spec["process"]["noNewPrivileges"] = json!(true);
        let text = bed.run(draft).good();
        assert!(text.contains("Uid: 1000 1000 1000 1000;Gid: 100 100 100 100;Groups: 10 100 ;"), "{text}");
        let bounding = 1u64 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 27;
        let none = format!("{:016x}", 0);
        let sets = format!("CapInh: {none};CapPrm: {none};CapEff: {none};CapBnd: {bounding:016x};CapAmb: {none};");
        assert!(text.contains(&(sets + "NoNewPrivs: 1;")), "{text}");
        let text = bed.run(bed.launch("grep -E 'Cap' /proc/self/status | tr '\\t\\n' ' ;'")).good();
        assert!(text.contains(&format!("CapPrm: {bounding:016x};CapEff: {bounding:016x};CapBnd: {bounding:016x};")));
        let mut draft = bed.launch("grep -E 'Cap(Eff|Amb)' /proc/self/status | tr '\\t\\n' ' ;'");
        draft.user = Some("1000".into());
        for set in ["inheritable", "ambient"] {
            draft.spec["process"]["capabilities"][set] = json!(["CAP_NET_BIND_SERVICE"]);
        }
        assert_eq!(bed.run(draft).good(), "CapEff: 0000000000000400;CapAmb: 0000000000000400;");
    });
}

#[test]
fn users_and_groups_are_the_images() {
    for_both(|bed| {
        let id = |user: &str, groups: &[&str]| {
            let mut draft = bed.launch("id -u; id -g; id -G; echo $HOME");
            draft.user = Some(user.into());
            draft.groups = groups.iter().map(ToString::to_string).collect();
            bed.run(draft)
        };
        assert_eq!(id("ann", &["4711"]).good(), "1000\n100\n100 10 4711\n/home/ann\n");
        assert_eq!(id("4242:wheel", &[]).good(), "4242\n10\n10\n/\n");
        let refused = ("unable to find user eve: no matching entries in passwd file".into(), 125);
        assert_eq!(id("eve", &[]).refused(), refused);
        assert_eq!(
            id("ann:none", &[]).refused(),
            ("unable to find group none: no matching entries in group file".into(), 125)
        );
        std::fs::remove_file(bed.path("lower/etc/passwd")).expect("remove");
        nix::unistd::mkfifo(&bed.path("lower/etc/passwd"), nix::sys::stat::Mode::from_bits_retain(0o666))
            .expect("fifo");
        assert_eq!(id("ann", &[]).refused(), ("read \"/etc/passwd\": invalid argument".into(), 125), "a pipe");
        std::fs::remove_file(bed.path("lower/etc/passwd")).expect("remove");
        symlink("/proc/self/environ", bed.path("lower/etc/passwd")).expect("link");
        id("ann", &[]).refused();
    });
}

#[test]
fn commands_that_cannot_run_are_told_as_docker_tells_them() {
    for_both(|bed| {
        bed.write("lower/tmp/text", "no program");
        std::fs::create_dir(bed.path("lower/tmp/dir")).expect("dir");
        let refused = |name: &str| {
            let mut draft = bed.launch("");
            draft.spec["process"]["args"] = json!([name]);
            bed.run(draft).refused()
        };
        assert_eq!(refused("nosuch"), ("exec: \"nosuch\": executable file not found in $PATH".into(), 127));
        assert_eq!(refused("/no"), ("exec: \"/no\": stat /no: no such file or directory".into(), 127));
        assert_eq!(refused("/tmp/text"), ("exec: \"/tmp/text\": permission denied".into(), 126));
        assert_eq!(refused("/tmp/dir"), ("exec: \"/tmp/dir\": is a directory".into(), 126));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bed.path("lower/tmp/text"), mode).expect("mode");
        assert_eq!(refused("/tmp/text"), ("exec: \"/tmp/text\": exec format error".into(), 126));
        bed.write("lower/tmp/text", "#!/no/shell\n");
        assert_eq!(refused("/tmp/text"), ("exec: \"/tmp/text\": no such file or directory".into(), 127));
    });
}

#[test]
fn the_kernels_files_are_masked_and_read_only() {
    for_both(|bed| {
        let script = "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls -A /sys/firmware | wc -l; \
                      (echo 1 > /proc/sys/kernel/panic) 2>&1; (echo b > /proc/sysrq-trigger) 2>&1; \
                      (echo x > /sys/x) 2>&1; touch /sys/firmware/x 2>&1";
        let text = bed.run(bed.launch(script)).stdout;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["0", "0"], "{text}");
        assert_eq!(lines.len(), 6, "{text}");
        assert!(
            lines[2..].iter().all(|l| l.contains("Read-only") || l.contains("denied") || l.contains("nonexistent")),
            "{text}"
        );
    });
}

#[test]
fn devices_are_the_standard_ones() {
    for_both(|bed| {
        let script = "cd /dev; echo *; for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' $d; done; \
                      echo x > null; head -c 2 zero | wc -c; (echo x > full) 2>&1; \
                      for l in fd stdin stdout stderr ptmx; do readlink $l; done";
        assert_eq!(
            bed.run(bed.launch(script)).good(),
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n\
             null 1:3 666 character special file\nzero 1:5 666 character special file\n\
             full 1:7 666 character special file\nrandom 1:8 666 character special file\n\
             urandom 1:9 666 character special file\ntty 5:0 666 character special file\n\
             2\nsh: write error: No space left on device\n\
             /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"
        );
        let mut draft = bed.launch("stat -c '%t:%T %a' /dev/sub/fuse");
        draft.spec["linux"]["devices"] =
            json!([{ "path": "/dev/sub/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600 }]);
        if bed.who == Who::Root {
            assert_eq!(bed.run(draft).good(), "a:e5 600\n");
        }
    });
}

#[test]
fn links_in_the_image_do_not_lead_to_the_host() {
    for_both(|bed| {
        let outside = bed.path("host");
        for name in ["proc", "sys", "dev"] {
            symlink(&outside, bed.path("lower").join(name)).expect("link");
        }
        // Each on top of the other, in the container's own place of that name: a mess, but its own.
        bed.run(bed.launch("true"));
        assert_eq!(std::fs::read_dir(&outside).expect("folder").count(), 0);
        assert!(!std::fs::metadata("/dev/null").expect("null").permissions().readonly());
    });
}

#[test]
fn binds_have_their_options_and_mount_points_are_made() {
    for_both(|bed| {
        bed.write("host/file", "text\n");
        std::fs::create_dir(bed.path("host/private")).expect("dir");
        symlink("../run/stub", bed.path("lower/etc/resolv.conf")).expect("link");
        let mut draft = bed.launch(
            "cat /a/b/file /etc/resolv.conf; touch /ro/x 2>&1; touch /rw/x && ls /rw; grep -E ' /(ro|rw) ' /proc/self/mountinfo | cut -d' ' -f5-7",
        );
        let mounts = draft.spec["mounts"].as_array_mut().expect("mounts");
        let mut bind = |source: &str, target: &str, options: &[&str]| {
            mounts
                .push(json!({ "destination": target, "type": "bind", "source": bed.path(source), "options": options }));
        };
        bind("host/file", "/a/b/file", &["rbind", "ro"]);
        bind("host/file", "/etc/resolv.conf", &["rbind"]);
        bind("host", "/ro", &["rbind", "ro", "nosuid", "noexec"]);
        bind("host", "/rw", &["rbind"]);
        assert_eq!(
            bed.run(draft).good(),
            "text\ntext\ntouch: /ro/x: Read-only file system\nfile\nprivate\nx\n\
             /ro ro,nosuid,noexec,relatime -\n/rw rw,relatime -\n"
        );
        assert!(bed.path("host/x").exists());
    });
}

#[test]
fn a_source_behind_a_closed_door_is_opened_by_the_parent() {
    let Some(bed) = Bed::new(Who::User) else { return };
    let outcome = bed.as_monitor(|| {
        // A folder that is the user's own and closed, seen by a container whose root is another id.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::create_dir_all(bed.path("host/closed/source")).expect("dir");
        std::fs::write(bed.path("host/closed/source/f"), "behind\n").expect("file");
        std::fs::set_permissions(bed.path("host/closed"), mode).expect("mode");
        for folder in ["upper", "work"] {
            std::os::unix::fs::chown(bed.path(folder), Some(1000), Some(1000)).expect("chown");
        }
        let mut draft = bed.launch("cat /mnt/f");
        let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1000 }]);
        draft.spec["linux"]["uidMappings"] = map.clone();
        draft.spec["linux"]["gidMappings"] = map;
        let mount = json!({ "destination": "/mnt", "type": "bind", "source": bed.path("host/closed/source"), "options": ["rbind"] });
        draft.spec["mounts"].as_array_mut().expect("mounts").push(mount);
        bed.run_here(draft)
    });
    assert_eq!(outcome.good(), "behind\n");
}

#[test]
fn a_working_directory_is_made_and_stays_inside() {
    for_both(|bed| {
        let cwd = |path: &str, user: Option<&str>| {
            let mut draft = bed.launch("pwd; stat -c %u:%a .");
            draft.user = user.map(Into::into);
            draft.spec["process"]["cwd"] = json!(path);
            draft.spec["root"] = json!({ "path": "", "readonly": true });
            bed.run(draft)
        };
        assert_eq!(cwd("/srv/app/here", Some("ann")).good(), "/srv/app/here\n0:755\n");
        let (message, code) = cwd("/etc/passwd/x", None).refused();
        assert_eq!((message.as_str(), code), ("create directory \"/etc/passwd/x\": not a directory", 126));
        assert_eq!(cwd("/etc/passwd", None).refused().1, 126);
        for number in 3..20 {
            let outcome = cwd(&format!("/proc/self/fd/{number}"), None);
            assert_eq!(outcome.refused.as_ref().map(|r| r.1), Some(Some(126)), "{outcome:?}");
            cwd(&format!("/proc/self/fd/{number}/../../.."), None).refused();
        }
    });
}

#[test]
fn a_read_only_root_is_one() {
    for_both(|bed| {
        let mut draft = bed.launch("touch /x 2>&1; touch /dev/shm/x /dev/x");
        draft.spec["root"] = json!({ "path": "", "readonly": true });
        assert_eq!(bed.run(draft).good(), "touch: /x: Read-only file system\n");
    });
}

#[test]
fn a_folder_can_be_the_root() {
    for_both(|bed| {
        let mut draft = bed.launch("echo x > /made; cat /made");
        draft.root = Root::Directory(bed.path("lower"));
        assert_eq!(bed.run(draft).good(), "x\n");
        assert!(bed.path("lower/made").exists());
    });
}

#[test]
fn hundreds_of_layers_can_be_stacked() {
    for_both(|bed| {
        let mut lower = vec![bed.path("lower")];
        for n in 0..400 {
            let layer = PathBuf::from(format!("layers/{n}/in"));
            std::fs::create_dir_all(bed.path("").join(&layer)).expect("dir");
            std::fs::write(bed.path("").join(&layer).join(format!("f{n}")), "").expect("file");
            lower.push(bed.path("").join(layer.parent().expect("parent")));
        }
        let mut draft = bed.launch("ls /in | wc -l; touch /in/x");
        draft.root = Root::Overlay { lower, upper: bed.path("upper"), work: bed.path("work"), volatile: false };
        assert_eq!(bed.run(draft).good(), "400\n");
        assert!(bed.path("upper/in/x").exists());
    });
}

#[test]
fn a_volatile_overlay_can_be_mounted_again() {
    for_both(|bed| {
        for _ in 0..2 {
            let mut draft = bed.launch("true");
            if let Root::Overlay { volatile, .. } = &mut draft.root {
                *volatile = true;
            }
            bed.run(draft).good();
        }
    });
}

#[test]
fn limits_and_settings_are_set_where_they_may_be() {
    for_both(|bed| {
        let mut draft = bed.launch(
            "ulimit -n; ulimit -c; sysctl -n net.ipv4.ip_unprivileged_port_start; cat /proc/self/oom_score_adj",
        );
        draft.spec["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_NPROC", "soft": u64::MAX, "hard": u64::MAX },
        ]);
        draft.spec["process"]["oomScoreAdj"] = json!(500);
        draft.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "1000" });
        assert_eq!(bed.run(draft).good(), "100\n0\n1000\n500\n");
        let mut draft = bed.launch("true");
        draft.spec["linux"]["sysctl"] = json!({ "kernel.panic": "1" });
        assert_eq!(
            bed.run(draft).refused(),
            ("sysctl \"kernel.panic\" is not in a separate kernel namespace".into(), 125)
        );
    });
}

#[test]
fn a_terminal_is_the_containers_own() {
    for_both(|bed| {
        let mut draft = bed.launch("tty; stty size; stat -c '%u %a' $(tty); stat -c %t:%T /dev/console; test -t 0 && test -t 2 && echo x > /dev/tty");
        draft.terminal = Some((40, 120));
        draft.user = Some("ann".into());
        let text = bed.run(draft).good().replace('\r', "");
        assert_eq!(text, "/dev/pts/0\n40 120\n1000 620\n88:0\nx\n");
    });
}

#[test]
fn pipes_can_be_opened_anew_and_null_is_left_alone() {
    for_both(|bed| {
        let before = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/dev/null").expect("null"));
        let mut draft = bed.launch("echo out > /dev/stdout; echo more > /proc/self/fd/1");
        draft.user = Some("ann".into());
        assert_eq!(bed.run(draft).good(), "out\nmore\n");
        let after = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/dev/null").expect("null"));
        assert_eq!(before, after);
    });
}

#[test]
fn what_the_spec_asks_for_and_is_not_there_is_an_error() {
    for_both(|bed| {
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut draft = bed.launch("true");
            change(&mut draft.spec);
            bed.run(draft).refused().0
        };
        assert_eq!(
            refused(&|s| s["linux"]["personality"] = json!({ "domain": "LINUX32" })),
            "\"linux.personality\" of the spec is not supported yet"
        );
        assert_eq!(refused(&|s| s["process"]["args"] = json!([])), "no command specified");
        let message = refused(&|s| s["mounts"][0]["options"] = json!(["nonsense"]));
        assert!(message.starts_with("mount proc on \"/proc\": "), "{message}");
    });
}

#[test]
fn a_sysfs_that_is_refused_is_borrowed_only_with_the_network() {
    let Some(bed) = Bed::new(Who::User) else { return };
    let covered = |change: fn(&mut serde_json::Value)| {
        let mut draft = bed.launch("ls /sys/kernel | wc -l; test -d /sys/class/net/lo && echo lo");
        change(&mut draft.spec["linux"]["namespaces"]);
        bed.as_monitor(|| {
            // As another engine's masks do: the kernel gives no new, bare sysfs then.
            let none: Option<&str> = None;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("tmpfs"), "/sys/kernel", Some("tmpfs"), flags, none).expect("cover");
            bed.run_here(draft)
        })
    };
    let refused = ("mount sysfs on \"/sys\": operation not permitted".into(), 125);
    assert_eq!(covered(|_| ()).refused(), refused);
    let of_host = covered(|namespaces| {
        namespaces.as_array_mut().expect("a list").retain(|namespace| namespace["type"] != "network");
    });
    assert_eq!(of_host.good(), "0\nlo\n");
}
