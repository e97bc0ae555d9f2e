//! Putting a container in order whose monitor was killed, or that was running when the machine went
//! down: recorded as running, and nobody holds its `alive`.
//!
//! Called by every command that notices one, and by the monitor for its own tidying up.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use anyhow::Result;
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::Pid;

use crate::container::config::ContainerConfig;
use crate::container::state::{self, ALIVE, PROCESS, Phase, Process, State};
use crate::container::{launch, remove, restart};
use crate::error::exit;
use crate::events;
use crate::network::teardown;
use crate::runtime::cgroup::Cgroup;
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store, tree};
use crate::sys::pidfd;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healed {
    /// It was in order, or somebody else is at it.
    Nothing,
    /// It is recorded as exited now.
    Exited,
    /// It was to be removed at its end, and is.
    Removed,
}

/// Puts the container in order if that is needed and nobody holds its lock.
///
/// # Errors
/// A record cannot be read or written.
pub fn heal(store: &Store, id: &Id) -> Result<Healed> {
    match Lock::try_exclusive(&store.container(id)) {
        Ok(Some(_lock)) => heal_locked(store, id),
        Ok(None) => Ok(Healed::Nothing),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Healed::Nothing),
        Err(e) => Err(e.into()),
    }
}

/// [`heal`] for a caller that holds the container's lock.
///
/// # Errors
/// As [`heal`].
pub fn heal_locked(store: &Store, id: &Id) -> Result<Healed> {
    let directory = store.container(id);
    let path = directory.join("state.json");
    let Some(mut state) = record::read::<State>(&path)? else { return Ok(Healed::Nothing) };
    let Phase::Running { started, .. } = state.phase else {
        remove_old_traces(store, id);
        return Ok(Healed::Nothing);
    };
    if state::is_alive(store, id) {
        return Ok(Healed::Nothing);
    }
    remove_traces(store, id);
    let config: Option<ContainerConfig> = record::read(&directory.join("config.json"))?;
    let removes = config.is_some_and(|c| c.host_config.auto_remove) && !restart::is_under_way(store, id);
    let finished = Timestamp::now();
    if removes && remove::discard(store, id, &state.name).is_ok() {
        events::died(store, id, &state, exit::KILLED, started);
        events::container(store, id, &state, "destroy", &[]);
        return Ok(Healed::Removed);
    }
    state.ports.clear();
    state.phase = Phase::Exited { started, finished, code: exit::KILLED, oom_killed: false };
    record::write(&path, &state, Durability::Unsynced)?;
    events::died(store, id, &state, exit::KILLED, started);
    Ok(Healed::Exited)
}

/// [`remove_traces`] where there are any and no monitor lives, for a container that is not recorded as
/// running: a monitor that was killed before it recorded that leaves them too. The caller holds the
/// container's lock.
pub fn remove_old_traces(store: &Store, id: &Id) {
    let directory = store.container(id);
    let has_traces = directory.join(PROCESS).exists() || directory.join(ALIVE).exists();
    if has_traces && !state::is_alive(store, id) {
        remove_traces(store, id);
    }
}

/// Removes what a container has only while it runs: a first process that outlived its monitor, its
/// cgroups, the socket, the records. The caller holds the container's lock, and no monitor lives.
pub fn remove_traces(store: &Store, id: &Id) {
    let directory = store.container(id);
    let process: Option<Process> = record::read(&directory.join(PROCESS)).ok().flatten();
    // A storage root that was copied while its containers ran describes processes that are not its
    // own: their monitor lives, with the original's lock.
    if let Some(process) = process.as_ref().filter(|p| !is_watched(p)) {
        // What is frozen on cgroup v1 does not die; its monitor's end has sent its first process the signal.
        let _ = Cgroup::from_paths(&process.cgroups).thaw();
        kill_leftover(process);
        remove_cgroups(&process.cgroups);
        remove_run(&Store::at(store.root().to_owned(), process.run.clone()), id);
    }
    if process.is_none() && !state::monitor(store, id).is_some_and(|pid| launch::is_monitor(pid, id)) {
        remove_cgroups(&state::planned_cgroups(store, id));
    }
    // What cannot be read now is met again by whoever wants these addresses.
    let _ = teardown::forget_all(store, id);
    remove_run(store, id);
    for file in [PROCESS, ALIVE] {
        let _ = fs::remove_file(directory.join(file));
    }
}

/// With whatever is in them. After a reboot they are not there.
fn remove_cgroups(paths: &[String]) {
    let cgroup = Cgroup::from_paths(paths);
    let _ = cgroup.kill();
    let _ = cgroup.remove();
}

/// Removes the run directory of a container.
pub fn remove_run(store: &Store, id: &Id) {
    let _ = tree::remove(&store.container_run(id));
}

/// Whether the first process still has the monitor that made it for its parent.
fn is_watched(process: &Process) -> bool {
    let pid = Pid::from_raw(process.pid);
    pidfd::start_time(pid) == Some(process.start_time) && pidfd::parent(pid) == Some(process.monitor)
}

/// The container's first process dies with its monitor; it is given a moment to.
fn kill_leftover(process: &Process) {
    let pid = Pid::from_raw(process.pid);
    let Ok(handle) = pidfd::open(pid) else { return };
    // Asked after the descriptor was opened, so that it is about the process that is killed.
    if pidfd::start_time(pid) != Some(process.start_time) {
        return;
    }
    let _ = pidfd::signal(handle.as_fd(), libc::SIGKILL);
    let _ = poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], 5000u16);
}
