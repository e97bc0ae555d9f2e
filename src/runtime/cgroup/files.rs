//! What both versions do with a cgroup's directory.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cpuset;
use super::limits::Setting;
use super::v2::what;
use crate::error::Failure;

/// How long dying processes are waited for: freeing a large memory takes a while.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sub-cgroups in sub-cgroups; a container with the right to make them may nest them without end.
pub(super) const DEEPEST: usize = 64;

/// One write: the kernel takes each as a command of its own.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Makes a cgroup. One with its name is what a monitor that was killed left.
pub(super) fn make_afresh(dir: &Path) -> Result<()> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            kill_all(dir);
            remove(dir)?;
            std::fs::create_dir(dir)
        }
        other => other,
    }
    .with_context(|| format!("make cgroup {dir:?}"))
}

/// Writes a limit.
pub(super) fn apply(dir: &Path, setting: &Setting) -> Result<()> {
    cpuset::check(dir, setting)?;
    let mut result = write(&dir.join(&setting.file), &setting.value);
    let missing = |r: &io::Result<()>| {
        r.as_ref().is_err_and(|e| {
            // EOPNOTSUPP: v1's weights without a scheduler that knows them.
            e.kind() == io::ErrorKind::NotFound || matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP))
        })
    };
    if missing(&result)
        && let Some((file, value)) = &setting.instead
    {
        result = write(&dir.join(file), value);
    }
    let swap = matches!(setting.file.as_str(), "memory.swap.max" | "memory.memsw.limit_in_bytes");
    if missing(&result) && swap && !machine_has_swap() {
        // No swap is accounted for where there is none, and none can be used.
        return Ok(());
    }
    let absent = missing(&result);
    result.map_err(|e| {
        let subject = what(&setting.controller);
        let failure =
            Failure::new(format!("cannot limit {subject}: write {:?} to {:?}", setting.value, setting.file)).source(e);
        let hint = if absent && swap {
            "start the kernel with swapaccount=1"
        } else if absent && setting.instead.is_some() {
            "no scheduler here knows weights for block I/O: use BFQ, or limits (--device-read-bps)"
        } else {
            return failure.into();
        };
        failure.hint(hint).into()
    })
}

fn machine_has_swap() -> bool {
    // The first line is a heading.
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Kills what is in it and below it. Whoever calls waits by [`remove`].
pub(super) fn kill_all(dir: &Path) {
    // Linux 5.14, and v2 only.
    if write(&dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // What forks while it is looked for is found in the next round.
    for _ in 0..50 {
        if !kill_once(dir, 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn kill_once(dir: &Path, depth: usize) -> bool {
    let mut found = false;
    for pid in std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        // 0: of another pid namespace, which we could not kill anyway.
        if let Ok(pid @ 1..) = pid.parse::<i32>() {
            found |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        }
    }
    for child in children(dir) {
        found |= depth < DEEPEST && kill_once(&child, depth + 1);
    }
    found
}

pub(super) fn children(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Removes a cgroup with those below it. One that is gone is no error.
pub(super) fn remove(dir: &Path) -> Result<()> {
    remove_until(dir, Instant::now() + PATIENCE, 0).with_context(|| format!("remove cgroup {dir:?}"))
}

fn remove_until(dir: &Path, deadline: Instant, depth: usize) -> io::Result<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        match std::fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // EBUSY says both: there are processes in it (dead ones, for a moment), or cgroups below it.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                for child in children(dir) {
                    if depth >= DEEPEST {
                        return Err(io::Error::other("sub-cgroups are nested too deeply"));
                    }
                    remove_until(&child, deadline, depth + 1)?;
                }
                if Instant::now() >= deadline {
                    return Err(e);
                }
                wait_for_change(dir, pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Until v2's `cgroup.events` changes, but no longer than `limit`.
fn wait_for_change(dir: &Path, limit: Duration) {
    let Ok(events) = std::fs::File::open(dir.join("cgroup.events")) else { return std::thread::sleep(limit) };
    let populated = |mut file: &std::fs::File| {
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text).is_ok_and(|_| text.contains("populated 1"))
    };
    if populated(&events) {
        let timeout = PollTimeout::try_from(limit.max(Duration::from_millis(1))).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout);
    } else {
        std::thread::sleep(limit.min(Duration::from_millis(1)));
    }
}

/// The number behind `key` in a file of lines `key number`.
pub(super) fn value_of(path: &Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}
