//! Machines on which what isolation needs is missing or covered: ctr refuses rather than go without.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::{Image, Sandbox, Who, apart, check, skipped};

const DEVICES: &str = "/sys/fs/cgroup/devices";

// With cgroup v1 a hierarchy of its own keeps a container's root from the machine's disks.
#[test]
fn without_the_devices_cgroup() {
    if !Path::new(DEVICES).join("devices.list").exists() && !Path::new(DEVICES).join("tasks").exists() {
        return skipped("the machine has no devices cgroup of v1");
    }
    let unmount = || umount2(DEVICES, MntFlags::MNT_DETACH).unwrap();
    apart(Who::Root, unmount, |cx| {
        cx.busybox();
        for flags in ["", "--device /dev/null", "--cap-drop ALL"] {
            let ran = cx.ctr(&format!("run --rm {flags} busybox true"));
            ran.refuses(
                125,
                "cannot keep the container from the machine's devices[..]devices cgroup is not mounted[..]",
            );
            assert!(ran.err().contains("\nhint: ") && ran.err().contains("--privileged"), "{ran}");
        }
        cx.ctr("run --rm --privileged busybox echo given").prints("given\n");
        cx.ctr("ps -aq").prints("");
        cx.leaves_nothing();
    });
    // A user cannot make devices anyway.
    apart(Who::User, unmount, |cx| {
        cx.busybox();
        cx.ctr("run --rm busybox echo fine").prints("fine\n");
        cx.ctr("run --rm busybox mknod /m c 1 1").ends_failing();
    });
}

// The kernel lets nobody in a user namespace mount a /proc that would show what is covered in the
// one that there is. The way round it would be the host's own, with all its processes.
#[test]
fn with_a_covered_proc_as_user() {
    apart(Who::User, cover_proc, proc_is_its_own);
}

#[test]
fn with_a_covered_proc_as_root() {
    apart(Who::Root, cover_proc, proc_is_its_own);
}

// That the question is a question.
#[test]
fn with_a_plain_proc() {
    check(Who::User, |cx| {
        cx.busybox();
        cx.ctr_args(PROCESSES).prints("1\n");
    });
}

const PROCESSES: [&str; 6] = ["run", "--rm", "busybox", "sh", "-c", "cd /proc && echo [0-9]*"];

fn cover_proc() {
    mount(Some("/dev/null"), "/proc/interrupts", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn proc_is_its_own(cx: &Sandbox) {
    cx.busybox();
    let ran = cx.ctr_args(PROCESSES);
    if cx.is_root() || ran.code == 0 {
        ran.prints("1\n");
    } else {
        ran.refuses(125, "[..]/proc[..]");
        cx.ctr("ps -aq").prints("");
    }
    cx.leaves_nothing();
}

// A user with one id is root of a namespace with that id alone: containers run, and it is said once
// what they cannot do.
#[test]
fn as_a_user_without_subordinate_ids() {
    apart(Who::User, take_subordinate_ids, |cx| {
        let image = Image::busybox();
        let load = ["load", "-q", "-i", image.oci_archive().to_str().unwrap()].map(str::to_owned);
        let ran = cx.ctr_args(&load);
        let name = &cx.account.name;
        let warning = format!("ctr: warning: no subordinate ids for {name}: files of an image keep no owner but you, ");
        assert!(ran.code == 0 && ran.err().starts_with(&warning), "{ran}");
        let hint = "hint: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535";
        assert_eq!(ran.err().lines().nth(1).unwrap(), format!("{hint} {name}"), "{ran}");
        // The second time it is known.
        cx.ctr_args(&load).is(0, "Loaded image: busybox:latest\n", "");
        let script = "id -u; wc -l < /proc/self/uid_map; echo x > /file; stat -c %u:%g /file /bin/busybox";
        cx.ctr_args(["run", "--rm", "busybox", "sh", "-c", script]).is(0, "0\n1\n0:0\n0:0\n", "");
        cx.ctr("run -d --name box busybox sleep 1000").succeeds();
        cx.ctr("exec box id -u").prints("0\n");
        // What needs a second id is an error that says how to get one.
        for (flags, says) in [
            ("-u 7", "set user 7: invalid argument"),
            ("-u 0:8", "set group 8: invalid argument"),
            ("--group-add 9", "set supplementary groups [0, 9]: operation not permitted"),
        ] {
            let ran = cx.ctr(&format!("run --rm {flags} busybox true"));
            ran.refuses(125, says);
            assert!(ran.err().contains("\nhint: ") && ran.err().contains("/etc/subuid"), "{ran}");
        }
        let ran = cx.ctr("run --rm busybox chown 7 /tmp");
        ran.ends_failing();
        assert!(ran.err().contains("Invalid argument"), "{ran}");
    });
}

fn take_subordinate_ids() {
    for file in ["/etc/subuid", "/etc/subgid"] {
        mount(Some("/dev/null"), file, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
}
