//! Machines on which what isolation needs is missing or covered: ctr refuses rather than go without.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::{Sandbox, Who, apart, check, skipped};

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
