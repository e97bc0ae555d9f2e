//! Starts that hang: the monitor lives and waits for the kernel (a bind mount's source on a file
//! system that does not answer), and there is no process of the container's to send a signal to.
//!
//! Called by what ends containers, and by a start that finds the monitor of an earlier one.

use std::fs;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::container::{heal, state};
use crate::error::Failure;
use crate::monitor;
use crate::store::{Id, Store};
use crate::sys::pidfd;

/// How long a start may take before whoever wants its end takes it for one that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a killed monitor may take to go.
const END: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(5);

/// Waits until the container is not being started any more; `false`: it still is after [`PATIENCE`].
#[must_use]
pub fn is_over(store: &Store, id: &Id) -> bool {
    is_over_by(store, id, Instant::now() + PATIENCE)
}

fn is_over_by(store: &Store, id: &Id, until: Instant) -> bool {
    while state::is_launching(store, id) {
        if Instant::now() >= until {
            return false;
        }
        sleep(PAUSE);
    }
    true
}

/// [`is_over`], and ends a start that is not. Returns whether it did.
///
/// # Errors
/// The monitor cannot be found, or does not end.
pub fn end(store: &Store, id: &Id) -> Result<bool> {
    if is_over(store, id) {
        return Ok(false);
    }
    let monitor = state::monitor(store, id).unwrap_or_default();
    let handle = pidfd::open(Pid::from_raw(monitor)).ok();
    // Asked after the descriptor was opened, so that it is about the process that is killed. The
    // number alone proves nothing: it may be of another pid namespace, or of a monitor of old.
    let Some(handle) = handle.filter(|_| monitor > 0 && is_monitor(monitor, id)) else {
        if !state::is_launching(store, id) {
            return Ok(false);
        }
        return Err(Failure::new(format!("container {id} is being started, and by whom cannot be told")).into());
    };
    pidfd::signal(handle.as_fd(), libc::SIGKILL).with_context(|| format!("kill the monitor of container {id}"))?;
    if !is_over_by(store, id, Instant::now() + END) {
        return Err(Failure::new(format!("the monitor of container {id}, process {monitor}, does not end"))
            .hint("see which of its mounts hangs")
            .into());
    }
    // Whoever started it does so too, unless it was killed.
    heal::heal(store, id)?;
    Ok(true)
}

/// Whether the process is a monitor of a container with this id.
pub(super) fn is_monitor(pid: i32, id: &Id) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0);
    words.next() == Some(monitor::run::NAME.as_bytes()) && words.next() == Some(id.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Lock;

    #[test]
    fn only_the_container_s_monitor_is_killed() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("root"), home.path().join("run"));
        let id = Id::random().unwrap();
        fs::create_dir_all(store.container(&id)).unwrap();
        assert!(is_over(&store, &id));
        let alive = store.container(&id).join(state::ALIVE);
        // A line of this process, which is no monitor, and cgroups: one is another's, one cut off.
        let place = format!("/sys/fs/cgroup/pids/ctr/{id}");
        fs::write(&alive, format!("{}\n{place}\n/sys/fs/cgroup/pids/ctr/x\n{place}x", std::process::id())).unwrap();
        assert_eq!(state::monitor(&store, &id), Some(std::process::id().cast_signed()));
        assert_eq!(state::planned_cgroups(&store, &id), [place]);
        let lock = Lock::exclusive(&alive).unwrap();
        assert!(end(&store, &id).unwrap_err().to_string().contains("by whom cannot be told"));
        drop(lock);
        assert!(!end(&store, &id).unwrap());
    }
}
