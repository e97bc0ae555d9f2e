//! `ctr update`: limits. Those of cgroup v2 are tested in an emulated machine (`tests/vm`).

use std::path::{Path, PathBuf};

use crate::support::{Sandbox, Who, both, check, skipped};

fn file(id: &str, name: &str) -> PathBuf {
    let controller = name.split('.').next().unwrap();
    Path::new("/sys/fs/cgroup").join(controller).join("ctr").join(id).join(name)
}

fn limit(id: &str, name: &str) -> String {
    let file = file(id, name);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
}

fn has_v1() -> bool {
    let there = Path::new("/sys/fs/cgroup/memory/tasks").exists();
    if !there {
        skipped("no cgroup v1: tests/vm has the tests for v2");
    }
    there
}

const SHOWN: &str =
    "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}}";

#[test]
fn of_one_that_runs() {
    if !has_v1() {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        let id = cx.ctr("run -d --name box busybox sh -c 'while :; do (sleep 0.01); done'").succeeds();
        cx.ctr("update --cpus 0.5 box").prints("box\n");
        assert_eq!(limit(&id, "cpu.cfs_quota_us"), "50000");
        // Those inside can read it too: some size themselves by it.
        cx.ctr("exec box cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us").prints("50000\n");
        cx.ctr("exec -d box sleep 1000").succeeds();
        crate::support::until("exec enters it", || {
            let procs = std::fs::read_to_string(file(&id, "cpu.cgroup.procs").with_file_name("cgroup.procs")).unwrap();
            procs.lines().any(|pid| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words == b"sleep\x001000\x00")
            })
        });
        // Up and down, whichever order the kernel wants.
        for (memory, swap) in [("64m", "128m"), ("512m", "512m"), ("32m", "48m"), ("256m", "1g")] {
            cx.ctr(&format!("update -m {memory} --memory-swap {swap} box")).prints("box\n");
            let bytes = |text: &str| match text.strip_suffix('g') {
                Some(n) => n.parse::<u64>().unwrap() << 30,
                None => text.trim_end_matches('m').parse::<u64>().unwrap() << 20,
            };
            assert_eq!(limit(&id, "memory.limit_in_bytes"), bytes(memory).to_string());
        }
        cx.ctr("update --pids-limit 20 --cpu-shares 512 box").prints("box\n");
        assert_eq!((limit(&id, "pids.max"), limit(&id, "cpu.shares")), ("20".into(), "512".into()));
        cx.ctr("update --pids-limit -1 box").prints("box\n");
        assert_eq!(limit(&id, "pids.max"), "max");
        // One is refused: none is changed, and none is recorded.
        cx.ctr("update --cpu-shares 256 --cpuset-cpus 4000 box")
            .refuses(1, &format!("Cannot update container {id}: Requested CPUs are not available[..]"));
        assert_eq!(limit(&id, "cpu.shares"), "512");
        cx.ctr(&format!("inspect -f '{SHOWN}' box")).prints("268435456 1073741824 500000000 512\n");
        // Paused, it stays so; started again, it has them all.
        cx.ctr("pause box").prints("box\n");
        cx.ctr("update --cpuset-cpus 0 box").prints("box\n");
        cx.ctr("ps --format '{{.State}}'").prints("paused\n");
        cx.ctr("restart -t 0 box").prints("box\n");
        let all =
            ["memory.limit_in_bytes", "cpu.cfs_quota_us", "cpu.shares", "cpuset.cpus"].map(|name| limit(&id, name));
        assert_eq!(all, ["268435456", "50000", "512", "0"]);
        cx.ctr("rm -f box").prints("box\n");
        assert!(!file(&id, "cpuset.cpus").exists() && !file(&id, "cpu.shares").exists());
    });
}

#[test]
fn below_what_is_in_use() {
    if !has_v1() {
        return;
    }
    check(Who::Root, |cx| {
        cx.busybox();
        let fills = "sh -c 'x=$(head -c 40000000 /dev/zero | tr \"\\0\" x); echo ready; while :; do sleep 0.1; done'";
        let id = cx.ctr(&format!("run -d --name box -m 512m --memory-swap 512m busybox {fills}")).succeeds();
        cx.until_logged("box", "ready");
        let ran = cx.ctr("update -m 8m --memory-swap 8m box");
        assert_eq!(ran.code, 1, "{ran}");
        let why = format!("ctr: Cannot update container {id}: the limit is below what is in use: cannot limit memory:");
        assert!(ran.err().starts_with(&why) && ran.err().contains("hint: "), "{ran}");
        assert_eq!(limit(&id, "memory.limit_in_bytes"), (512 << 20).to_string());
        cx.ctr("inspect -f '{{.HostConfig.Memory}} {{.State.Status}}' box").prints("536870912 running\n");
    });
}

fn refusals(cx: &Sandbox, name: &str) {
    let refused = |flags: &str, why: &str| cx.ctr(&format!("update {flags} {name}")).refuses(1, why);
    refused("", "you must provide one or more flags when using this command");
    refused("-m 1m", "Minimum memory limit allowed is 6MB");
    refused("-m 64m --memory-swap 32m", "Minimum memoryswap limit should be larger than memory limit, see usage");
    refused(
        "-m 64m --memory-reservation 128m",
        "Minimum memory limit can not be less than memory reservation limit[..]",
    );
    refused("--cpus 1000", "range of CPUs is from 0.01 to [..].00, as there are only [..] CPUs available");
    refused("--cpus -1", "range of CPUs is from 0.01 to [..]");
    refused("--cpus 1 --cpu-quota 5000", "Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    refused("--cpu-period 1", "CPU cfs period can not be less than 1ms[..]");
    refused("--cpu-quota 1", "CPU cfs quota can not be less than 1ms[..]");
    refused("--cpuset-cpus x", "Invalid value x for cpuset cpus");
    refused("--blkio-weight 5", "Range of blkio weight is from 10 to 1000");
    refused(
        "-m 64m",
        "Cannot update container [..]: Memory limit should be smaller than already set memoryswap limit, update the \
         memoryswap at the same time",
    );
    let wrong = |flags: &str, why: &str| cx.ctr(&format!("update {flags} {name}")).refuses(125, why);
    wrong("-m -1", "invalid argument \"-1\" for \"-m, --memory\" flag: invalid size: '-1'");
    wrong("-m 1z", "invalid argument \"1z\" for \"-m, --memory\" flag: invalid suffix: 'z'");
    wrong("--blkio-weight 70000", "invalid argument \"70000\" for \"--blkio-weight\" flag: [..]value out of range");
    wrong("--pids-limit x", "invalid argument \"x\" for \"--pids-limit\" flag: [..]invalid syntax");
    wrong("--restart always", "the option \"--restart\" is not supported yet");
}

both!(what_makes_no_sense, |cx| {
    cx.busybox();
    cx.ctr("create --name new busybox true").succeeds();
    refusals(cx, "new");
    // Zero asks for nothing, as with Docker.
    cx.ctr("update --cpus 0 --pids-limit 0 -m 0 new nosuch new").is(
        1,
        "new\nnew\n",
        "ctr: No such container: nosuch\n",
    );
    cx.ctr(&format!("inspect -f '{SHOWN}' new")).prints("0 0 0 0\n");
    cx.ctr("update -m 64m").refuses(1, "'ctr update' requires at least 1 argument");
});

both!(of_one_that_does_not_run, |cx| {
    cx.busybox();
    cx.ctr("create --name new busybox sleep 1000").succeeds();
    let ran = cx.ctr("container update -m 64m --memory-swap 96m new");
    if !cx.is_root() && ran.code != 0 {
        // Where a user has no cgroups it would never start again: so the user is told now.
        ran.refuses(1, "Cannot update container [..]: cannot limit memory: [..]");
        cx.ctr(&format!("inspect -f '{SHOWN}' new")).prints("0 0 0 0\n");
        cx.ctr("start new").prints("new\n");
        cx.ctr("update --pids-limit 5 new").refuses(1, "Cannot update container [..]: cannot limit the number[..]");
        return;
    }
    ran.prints("new\n");
    cx.ctr(&format!("inspect -f '{SHOWN}' new")).prints("67108864 100663296 0 0\n");
    cx.ctr("start new").prints("new\n");
    cx.ctr("stats --no-stream --format '{{.MemUsage}}' new").prints("[..] / 64MiB\n");
});
