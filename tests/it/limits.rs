//! Cgroup limits where the machine has cgroup v1 or an own v2 tree; systemd's are tested in an
//! emulated machine (`tests/vm`).

use std::path::Path;

use crate::support::{Sandbox, Who, check, skipped};

/// Whether this machine has the v1 hierarchies that these tests read.
fn has_v1(controller: &str) -> bool {
    let there = Path::new("/sys/fs/cgroup").join(controller).join("tasks").exists();
    if !there {
        skipped(&format!("no cgroup v1 hierarchy for {controller}: tests/vm has the tests for v2"));
    }
    there
}

/// A limit's file of the container's own cgroup, as the host sees it.
fn limit(cx: &Sandbox, controller: &str, file: &str) -> String {
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let in_it =
        |line: &&str| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller));
    let path = groups.lines().find(in_it).and_then(|line| line.splitn(3, ':').nth(2)).unwrap().to_owned();
    let file = Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/')).join(file);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
}

#[test]
fn memory() {
    if !has_v1("memory") {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        cx.ctr("run -d --name box --memory 64m --memory-swap 64m --memory-reservation 32m busybox sleep 1000")
            .succeeds();
        assert_eq!(limit(cx, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(limit(cx, "memory", "memory.soft_limit_in_bytes"), (32 << 20).to_string());
        cx.ctr("rm -f box").prints("box\n");
        // It bites: more than that ends the container, and it is known why.
        let ran = cx.ctr("run --name oom --memory 16m busybox sh -c 'x=x; while :; do x=$x$x; done'");
        assert_eq!(ran.code, 137, "{ran}");
        cx.ctr("inspect -f '{{.State.OOMKilled}}' oom").prints("true\n");
        cx.ctr("run --rm --memory 1k busybox true").refuses(125, "[..]inimum memory limit[..]6MB[..]");
    });
}

#[test]
fn processes() {
    if !has_v1("pids") {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        cx.ctr("run -d --name box --pids-limit 20 busybox sleep 1000").succeeds();
        assert_eq!(limit(cx, "pids", "pids.max"), "20");
        let ran = cx.ctr("exec box sh -c 'for i in $(seq 40); do sleep 5 & done; wait'");
        assert!(ran.err().contains("can't fork"), "{ran}");
    });
}

#[test]
fn processors() {
    if !has_v1("cpu") || !has_v1("cpuset") {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        cx.ctr("run -d --name box --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 busybox sleep 1000").succeeds();
        assert_eq!(limit(cx, "cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(limit(cx, "cpu", "cpu.cfs_period_us"), "100000");
        assert_eq!(limit(cx, "cpu", "cpu.shares"), "512");
        assert_eq!(limit(cx, "cpuset", "cpuset.cpus"), "0");
        cx.ctr("exec box nproc").prints("1\n");
        cx.ctr("run --rm --cpus 1000 busybox true").refuses(125, "range of CPUs is from 0.01 to [..]");
        cx.ctr("run --rm --cpuset-cpus 999 busybox true")
            .refuses(125, "Requested CPUs are not available - requested 999, available: [..]");
    });
}

#[test]
fn of_other_cgroups_nothing_is_seen() {
    if !has_v1("cpu") || !has_v1("cpuset") {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        let other = cx.ctr("run -d --name other busybox sleep 1000").succeeds();
        cx.ctr("run -d --name box busybox sleep 1000").succeeds();
        // One of its own in each hierarchy, named ones too.
        let pid = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds();
        let id = cx.ctr("inspect -f '{{.Id}}' box").succeeds();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        for line in groups.lines().filter(|line| !line.starts_with("0::")) {
            assert!(line.ends_with(&format!(":/ctr/{id}")), "{line}");
        }
        let seen = cx.ctr("exec box find /sys/fs/cgroup").succeeds();
        assert!(seen.lines().any(|line| line == "/sys/fs/cgroup/cpu/cpu.shares"), "{seen}");
        assert!(!seen.contains(&other) && !seen.contains("/ctr") && !seen.contains("release_agent"), "{seen}");
        // Whoever asks for the host's sees the host's.
        let seen = cx.ctr("run --rm --cgroupns host busybox find /sys/fs/cgroup/cpu -name cpu.shares").succeeds();
        assert!(seen.contains(&other), "{seen}");
        cx.ctr("rm -f box other").succeeds();
        let left =
            std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join("ctr").join(&id));
        assert_eq!(left.filter(|path| path.exists()).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn devices_are_bounded() {
    if !has_v1("devices") {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        cx.ctr("run --rm busybox sh -c 'mknod /d b 7 0 && head -c 1 /d'").ends_failing();
        cx.ctr("run --rm busybox sh -c 'mknod /n c 1 3 && echo x > /n'").prints("");
        cx.ctr("run --rm --device /dev/zero:/dev/mine:r busybox sh -c 'head -c 3 /dev/mine | wc -c'").prints("3\n");
        cx.ctr("run --rm --device /dev/nosuch busybox true").refuses(125, "[..]/dev/nosuch[..]");
    });
}

/// On cgroup v1 an ordinary user has no cgroup of its own: what was asked for is an error with the
/// controller's name, never a limit that is not there.
#[test]
fn an_ordinary_user_without_a_cgroup_is_told() {
    if !has_v1("memory") {
        return;
    }
    check(Who::User, |cx| {
        cx.busybox();
        for (flag, controller) in
            [("--memory 64m", "memory"), ("--pids-limit 10", "number of processes"), ("--cpus 1", "CPU")]
        {
            let ran = cx.ctr(&format!("run --rm {flag} busybox true"));
            ran.refuses(125, &format!("[..]{controller}[..]"));
            assert!(ran.err().contains("\nhint: "), "{ran}");
        }
        cx.leaves_nothing();
    });
}

#[test]
fn devices_and_nodes() {
    if !["blkio", "memory", "cpuset", "devices"].into_iter().all(has_v1) {
        return;
    }
    if disk().is_none() {
        return skipped("no disk of this machine's has a node in /dev");
    }
    check(Who::Root, |cx| {
        cx.busybox();
        let (device, numbers) = disk().unwrap();
        cx.ctr(&format!(
            "run -d --name box --device-read-bps {device}:1mb --device-write-bps {device}:2mb --device-read-iops {device}:50 \
             --device-write-iops {device}:100 --memory 100m --memory-swappiness 10 --oom-kill-disable --cpuset-mems 0 \
             --device-cgroup-rule 'c 10:200 rw' busybox sleep 1000"
        ))
        .succeeds();
        for (controller, file, value) in [
            ("blkio", "blkio.throttle.read_bps_device", format!("{numbers} 1048576")),
            ("blkio", "blkio.throttle.write_bps_device", format!("{numbers} 2097152")),
            ("blkio", "blkio.throttle.read_iops_device", format!("{numbers} 50")),
            ("blkio", "blkio.throttle.write_iops_device", format!("{numbers} 100")),
            ("memory", "memory.swappiness", "10".to_owned()),
            ("cpuset", "cpuset.mems", "0".to_owned()),
        ] {
            assert_eq!(limit(cx, controller, file), value, "{file}");
        }
        assert!(limit(cx, "memory", "memory.oom_control").starts_with("oom_kill_disable 1\n"));
        assert!(limit(cx, "devices", "devices.list").lines().any(|line| line == "c 10:200 rw"));
        cx.ctr("update --cpu-period 50000 --cpu-quota 25000 --memory-reservation 50m box").prints("box\n");
        assert_eq!(limit(cx, "cpu", "cpu.cfs_period_us"), "50000");
        assert_eq!(limit(cx, "cpu", "cpu.cfs_quota_us"), "25000");
        assert_eq!(limit(cx, "memory", "memory.soft_limit_in_bytes"), (50 << 20).to_string());
        for (flag, says) in [
            ("--cpuset-mems 77", "Requested memory nodes are not available - requested 77, available: [..]"),
            ("--device-read-bps /dev/nosuch:1", "[..]\"/dev/nosuch\": no such file or directory"),
            ("--memory-swappiness 101", "invalid value: 101. Valid memory swappiness range is 0-100"),
            ("--device-cgroup-rule nosuch", "[..]invalid device cgroup format 'nosuch'"),
        ] {
            cx.ctr(&format!("run --rm {flag} busybox true")).refuses(125, says);
        }
    });
}

/// A whole disk: its node, and its numbers as the kernel writes them.
fn disk() -> Option<(String, String)> {
    let names = std::fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).find_map(|name| {
        let numbers = std::fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
        let node = format!("/dev/{name}");
        let is_disk = Path::new(&format!("/sys/block/{name}/device")).exists() && Path::new(&node).exists();
        is_disk.then(|| (node, numbers.trim().to_owned()))
    })
}
