//! Against this machine's own cgroups. What needs v2 and systemd is in `tests/vm`.

use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::*;
use crate::store::Id;

/// systemd moves the caller, who is all the tests of this process.
static ALONE: Mutex<()> = Mutex::new(());

fn placement() -> Placement {
    // Under systemd a parent would have to be a slice.
    let parent = (facts().driver != "systemd").then(|| "ctr-test".into());
    Placement { id: Id::random().unwrap().as_str().into(), parent }
}

/// A cgroup with these resources; `None`, with the reason said, where this machine has none.
fn cgroup(json: &str) -> Option<Cgroup> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    if let Facts { without: Some(why), .. } = facts() {
        skip(&why);
        return None;
    }
    Cgroup::create(&placement(), Some(&resources)).unwrap()
}

/// Removes it, and what is above it once no other test is there.
fn clean(cgroup: &Cgroup) {
    cgroup.remove().unwrap();
    assert!(cgroup.paths.iter().all(|path| !path.exists()), "{:?}", cgroup.paths);
    for path in &cgroup.paths {
        if path.parent().is_some_and(|parent| parent.ends_with("ctr-test")) {
            let _ = std::fs::remove_dir(path.parent().unwrap());
        }
    }
}

#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn skip(why: &str) {
    assert!(std::env::var_os("CTR_MUST_RUN").is_none(), "cannot run: {why}");
    eprintln!("skipped: {why}");
}

fn read(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    let dir = cgroup.paths.iter().find(|p| cgroup.fd.is_some() || p.to_string_lossy().contains(controller)).unwrap();
    std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
}

#[test]
fn made_limited_killed_removed() {
    let _alone = ALONE.lock();
    let json = r#"{"memory": {"limit": 33554432}, "pids": {"limit": 7}, "cpu": {"shares": 512},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}"#;
    let Some(cgroup) = cgroup(json) else { return };
    if cgroup.fd.is_none() {
        assert_eq!(read(&cgroup, "/memory/", "memory.limit_in_bytes"), "33554432");
        assert_eq!(read(&cgroup, "/pids/", "pids.max"), "7");
        assert_eq!(read(&cgroup, "/cpu/", "cpu.shares"), "512");
        assert_eq!(read(&cgroup, "/devices/", "devices.list"), "c 1:3 rwm");
    } else {
        assert_eq!(read(&cgroup, "", "memory.max"), "33554432");
        assert_eq!(read(&cgroup, "", "pids.max"), "7");
        assert_eq!(read(&cgroup, "", "cpu.weight"), "59");
    }
    let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap();
    cgroup.join(Pid::from_raw(child.id().cast_signed())).unwrap();
    assert!(!cgroup.oom_killed());
    // A later command knows the paths alone.
    let found = Cgroup::from_paths(&cgroup.paths());
    found.kill().unwrap();
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    found.remove().unwrap();
    assert!(!reaper.join().unwrap().success());
    clean(&cgroup);
}

#[test]
fn a_process_enters_by_itself() {
    let _alone = ALONE.lock();
    let Some(cgroup) = cgroup("{}") else { return };
    if cgroup.fd.is_some() {
        skip("entering by a thread is v1's");
        return clean(&cgroup);
    }
    let id = cgroup.paths[0].file_name().unwrap().to_str().unwrap().to_owned();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            cgroup.enter().unwrap();
            std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
        });
        let lines = thread.join().unwrap();
        let count = lines.lines().filter(|line| line.ends_with(&id)).count();
        assert_eq!(count, cgroup.paths.len(), "{lines}");
    });
    clean(&cgroup);
}

#[test]
fn sub_cgroups_go_too() {
    let _alone = ALONE.lock();
    let Some(cgroup) = cgroup("{}") else { return };
    for path in &cgroup.paths {
        std::fs::create_dir_all(path.join("a/b")).unwrap();
    }
    clean(&cgroup);
}

#[test]
fn what_the_kernel_refuses_is_told_and_leaves_nothing() {
    let _alone = ALONE.lock();
    if let Facts { without: Some(why), .. } = facts() {
        return skip(&why);
    }
    if facts().version != 1 {
        return skip("the message is v1's, where cpuset is to be had");
    }
    let placement = placement();
    let resources: LinuxResources = serde_json::from_str(r#"{"cpu": {"cpus": "77777"}}"#).unwrap();
    let error = format!("{:#}", Cgroup::create(&placement, Some(&resources)).unwrap_err());
    assert!(error.starts_with("Requested CPUs are not available - requested 77777, available: 0"), "{error}");
    assert!(!Path::new("/sys/fs/cgroup/pids/ctr-test").join(&placement.id).exists());
}

#[test]
fn without_a_cgroup_only_limits_are_an_error() {
    let settings = limits::v2(&serde_json::from_str(r#"{"memory": {"limit": 9}, "pids": {"limit": 9}}"#).unwrap());
    without(&[], None, "why", "hint").unwrap();
    let error = without(&settings.unwrap(), None, "cgroup v1 gives an ordinary user none", "use v2").unwrap_err();
    let text = crate::error::render(&error);
    assert_eq!(
        text,
        "ctr: cannot limit memory, the number of processes: cgroup v1 gives an ordinary user none\nhint: use v2"
    );
    assert!(without(&[], Some("a.slice"), "why", "hint").is_err());
}

/// What a container's start pays: `cargo test --release how_long_a_cgroup -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "it is what the measurement is for")]
fn how_long_a_cgroup_takes() {
    let _alone = ALONE.lock();
    for round in 0..8 {
        // The first after a pause is what a person waits for.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let start = std::time::Instant::now();
        let pending = Pending::begin(&placement()).unwrap();
        let begun = start.elapsed();
        let cgroup = pending.finish(Some(&LinuxResources::default())).unwrap().unwrap();
        let made = start.elapsed();
        let removal = std::time::Instant::now();
        clean(&cgroup);
        eprintln!("{round}: begin {begun:?}, made after {made:?}, removed in {:?}", removal.elapsed());
    }
}
