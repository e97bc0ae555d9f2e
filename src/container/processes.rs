//! The processes of a container that runs, as the host numbers them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Pid, getpid};

use crate::container::state::Process;
use crate::runtime::cgroup::Cgroup;
use crate::sys::{nsfs, pidfd};

/// All of them, the first one too; those that it has in pid namespaces of their own as well. Empty
/// once it has ended.
///
/// They are those in its cgroup. Without one they are those of its pid namespace, and where it has
/// neither, those that descend from its first process.
#[must_use]
pub fn of(process: &Process) -> Vec<i32> {
    if !process.cgroups.is_empty() {
        return Cgroup::from_paths(&process.cgroups).processes();
    }
    in_namespace(process).unwrap_or_else(|| descendants(process.pid))
}

/// Those in its pid namespace and below it; `None`: it has none of its own.
#[must_use]
pub fn in_namespace(process: &Process) -> Option<Vec<i32>> {
    let (own, first) = (namespace(getpid().as_raw())?, namespace(process.pid));
    // The first one has ended, and its namespace with it.
    let Some(first) = first.filter(|_| is_same(process)) else { return Some(Vec::new()) };
    if own == first {
        return None;
    }
    let mut known = HashMap::from([(own, false), (first, true)]);
    let pids = all().into_iter();
    Some(pids.filter(|pid| namespace(*pid).is_some_and(|at| is_below(*pid, at, &mut known))).collect())
}

/// Whether the process is in the container's pid namespace or below it: for one that may have got a
/// number which was the container's.
#[must_use]
pub fn is_in_namespace(pid: i32, process: &Process) -> bool {
    let (Some(own), Some(first)) = (namespace(getpid().as_raw()), namespace(process.pid)) else { return false };
    let mut known = HashMap::from([(own, false), (first, own != first)]);
    namespace(pid).is_some_and(|at| is_below(pid, at, &mut known))
}

fn is_same(process: &Process) -> bool {
    pidfd::start_time(Pid::from_raw(process.pid)) == Some(process.start_time)
}

/// The inode that tells its pid namespace from others; `None`: gone, or somebody else's.
fn namespace(pid: i32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|meta| meta.ino())
}

/// Climbs from a namespace to those that it was made in, until one is known.
fn is_below(pid: i32, namespace: u64, known: &mut HashMap<u64, bool>) -> bool {
    if let Some(answer) = known.get(&namespace) {
        return *answer;
    }
    let climb = || {
        let mut at = File::open(format!("/proc/{pid}/ns/pid")).ok()?;
        loop {
            at = File::from(nsfs::parent(at.as_fd()).ok()?);
            if let Some(answer) = known.get(&at.metadata().ok()?.ino()) {
                return Some(*answer);
            }
        }
    };
    let answer = climb().unwrap_or(false);
    known.insert(namespace, answer);
    answer
}

/// Every process that there is.
fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn descendants(first: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in all() {
        if let Some(parent) = pidfd::parent(Pid::from_raw(pid)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![first];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        // Removed as it is visited: numbers given anew while this reads can make no ring.
        found.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_namespace_of_its_own_is_found_by_descent() {
        let child = std::process::Command::new("sleep").arg("100").spawn();
        let Ok(mut child) = child else { return };
        let pid = child.id().cast_signed();
        let me = getpid();
        let process = Process {
            pid: me.as_raw(),
            start_time: pidfd::start_time(me).unwrap(),
            monitor: 1,
            run: "/".into(),
            cgroups: Vec::new(),
        };
        assert_eq!(in_namespace(&process), None);
        assert!(of(&process).contains(&pid));
        assert!(!is_in_namespace(pid, &process));
        let ended = Process { start_time: 1, ..process };
        assert_eq!(in_namespace(&ended), Some(Vec::new()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
