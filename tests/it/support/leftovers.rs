//! What a sandbox left behind.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Sandbox;
use super::netns::interfaces;

/// Everything, a line each.
pub fn of(sandbox: &Sandbox, ids: &BTreeSet<String>, interfaces_before: &BTreeSet<OsString>) -> Vec<String> {
    let mut left = Vec::new();
    for pid in processes(&sandbox.dir) {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        left.push(format!("process {pid}: {} ({})", words.trim(), name.trim()));
    }
    left.extend(mounts(&sandbox.dir).into_iter().map(|path| format!("mount {}", path.display())));
    let stays = bridges(&sandbox.root().join("networks"));
    let now = interfaces();
    let new = now.difference(interfaces_before).filter(|name| !name.to_str().is_some_and(|n| stays.contains(n)));
    left.extend(new.map(|name| format!("interface {}", name.display())));
    networks(&sandbox.root().join("networks"), &mut left);
    if sandbox.is_root() {
        rules(&mut left);
    }
    if !ids.is_empty() {
        cgroups(Path::new("/sys/fs/cgroup"), ids, &mut left);
    }
    for dir in [sandbox.root().join("containers"), sandbox.root().join("names"), sandbox.run_root().join("containers")]
    {
        left.extend(list(&dir).into_iter().map(|path| format!("file {}", path.display())));
    }
    for dir in [sandbox.root(), sandbox.root().join("layers"), sandbox.root().join("image"), sandbox.run_root()] {
        let temporary = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"tmp-"));
        left.extend(list(&dir).into_iter().filter(temporary).map(|path| format!("file {}", path.display())));
    }
    left.extend(list(&sandbox.dir.join("tmp")).into_iter().map(|path| format!("file {}", path.display())));
    left
}

fn list(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// The processes that have to do with a directory: it stands in their words, environment, open
/// files, or among the mounts of a namespace that is not this process's own.
pub fn processes(dir: &Path) -> Vec<i32> {
    let needle = [dir.as_os_str().as_bytes(), b"/"].concat();
    let mine = fs::read_link("/proc/self/ns/mnt").ok();
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in list(Path::new("/proc")) {
        let Some(pid) = entry.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok()) else { continue };
        // Dead ones wait for their parent only.
        let stat = fs::read_to_string(entry.join("stat")).unwrap_or_default();
        let dead = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
        if pid == me || dead || is_thread_of_mine(&stat, me) {
            continue;
        }
        let mentions = |file: &str| fs::read(entry.join(file)).is_ok_and(|text| contains(&text, &needle));
        let points = |link: &Path| {
            fs::read_link(link).is_ok_and(|to| contains(&[to.as_os_str().as_bytes(), b"/"].concat(), &needle))
        };
        let elsewhere = fs::read_link(entry.join("ns/mnt")).ok() != mine;
        if mentions("cmdline")
            || mentions("environ")
            || (elsewhere && has_mounted(&entry, &needle))
            || points(&entry.join("cwd"))
            || points(&entry.join("exe"))
            || list(&entry.join("fd")).iter().any(|link| points(link))
        {
            found.push(pid);
        }
    }
    found
}

/// Whether a process's mount namespace has anything *of* the directory mounted. Where it is mounted
/// does not count: every monitor sees the small disks of other sandboxes, as the host does.
fn has_mounted(process: &Path, needle: &[u8]) -> bool {
    let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    text.lines().any(|line| line.split(' ').enumerate().any(|(at, word)| at != 4 && contains(word.as_bytes(), needle)))
}

/// A child that this test process has forked and that has not executed anything yet has its
/// descriptors for an instant.
fn is_thread_of_mine(stat: &str, me: i32) -> bool {
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
    parent == Some(me)
        && fs::read_link(format!("/proc/{}/exe", stat.split(' ').next().unwrap_or_default())).ok()
            == std::env::current_exe().ok()
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// Ends what has to do with a directory, process by process.
pub fn kill_processes(dir: &Path) {
    for _ in 0..50 {
        let left = processes(dir);
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Mount points at or below a directory, innermost first.
fn mounts(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut found: Vec<_> = points.filter(|point| point.starts_with(dir) && point.parent() != Some(dir)).collect();
    found.reverse();
    found
}

/// Takes down whatever is mounted at or below a directory.
pub fn unmount(dir: &Path) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// The interfaces that root's networks have in this namespace until they are removed.
fn bridges(networks: &Path) -> BTreeSet<String> {
    let records = list(networks).into_iter().filter_map(|dir| fs::read_to_string(dir.join("network.json")).ok());
    let name = |text: String| {
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        let given = record["options"]["com.docker.network.bridge.name"].as_str().map(str::to_owned);
        Some(given.unwrap_or(format!("br-{}", record["id"].as_str()?.get(..12)?)))
    };
    records.filter_map(name).collect()
}

/// What containers have on record in networks: addresses, the namespace, the uplink's door.
fn networks(networks: &Path, left: &mut Vec<String>) {
    let mut dirs = vec![networks.join("holders")];
    dirs.extend(list(networks).into_iter().map(|dir| dir.join("members")));
    let temporary = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"tmp-"));
    let socket = |path: &PathBuf| path.extension().is_some_and(|end| end == "socket");
    let mut files: Vec<_> = dirs.iter().flat_map(|dir| list(dir)).collect();
    files.extend(list(networks).into_iter().filter(temporary));
    files.extend(list(&networks.join("uplink")).into_iter().filter(socket));
    left.extend(files.into_iter().map(|path| format!("file {}", path.display())));
}

/// What root's rules know of containers: ports of bridges, published ports.
fn rules(left: &mut Vec<String>) {
    let words = ["--json", "--numeric", "list", "ruleset"];
    let listed = std::process::Command::new("nft").args(words).output().expect("nft: run sh tests/setup.sh --tests");
    let all: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    for entry in all["nftables"].as_array().into_iter().flatten() {
        for kind in ["set", "map"] {
            let name = entry[kind]["name"].as_str().unwrap_or_default();
            for element in entry[kind]["elem"].as_array().into_iter().flatten() {
                let element = element.to_string();
                if kind == "map" || element.contains("veth") {
                    left.push(format!("element of the {kind} {name}: {element}"));
                }
            }
        }
    }
}

/// Control groups whose name has one of the ids in it.
fn cgroups(dir: &Path, ids: &BTreeSet<String>, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            left.push(format!("cgroup {}", entry.path().display()));
        } else {
            cgroups(&entry.path(), ids, left);
        }
    }
}
