//! Holding a container still and letting it go on.
//!
//! Its cgroup is frozen. Where it has none (an ordinary user on cgroup v1), each of its processes is
//! stopped by SIGSTOP, from the first one on, so that no parent sees a child stop before it stands
//! still itself; they go on in the opposite order, for the same reason.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::container::signal::{self, Running};
use crate::container::state::{Phase, Process, State};
use crate::container::{list, processes, start, state};
use crate::error::Failure;
use crate::events;
use crate::runtime::cgroup::Cgroup;
use crate::store::record::Durability;
use crate::store::{Id, Lock, Store, record};
use crate::sys::pidfd;

/// How long processes may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses a container that runs.
///
/// # Errors
/// It does not run, or is paused already: Docker's sentences. One of its processes does not stop.
pub fn pause(store: &Store, id: &Id) -> Result<()> {
    let held = Held::take(store, id)?;
    let Some(started) = held.started else { return Err(not_running(id)) };
    if held.paused {
        return Err(Failure::new(format!("Container {id} is already paused")).exit(1).into());
    }
    let process = held.process()?.ok_or_else(|| not_running(id))?;
    hold(&process).with_context(|| format!("cannot pause container {id}"))?;
    if let Err(e) = held.record(Phase::Running { started, paused: true }) {
        // What nobody knows to be paused, nobody would let go on.
        let _ = release(&process);
        return Err(e);
    }
    Ok(())
}

/// Lets a paused container go on.
///
/// # Errors
/// It is not paused: Docker's sentence.
pub fn unpause(store: &Store, id: &Id) -> Result<()> {
    let held = Held::take(store, id)?;
    let process = held.process()?;
    let (Some(started), Some(process)) = (held.started, process) else { return Err(not_paused(id)) };
    // Frozen and not recorded so: who paused it was killed in between.
    if !held.paused && !Cgroup::from_paths(&process.cgroups).is_frozen() {
        return Err(not_paused(id));
    }
    release(&process).with_context(|| format!("Cannot unpause container {id}"))?;
    held.record(Phase::Running { started, paused: false })
}

/// Whether the container is recorded as paused.
#[must_use]
pub fn is_paused(store: &Store, id: &Id) -> bool {
    let state = record::read::<State>(&store.container(id).join("state.json"));
    state.is_ok_and(|state| state.is_some_and(|state| matches!(state.phase, Phase::Running { paused: true, .. })))
}

/// Lets a paused container go on that has been sent a signal to end it, so that it meets it. As Docker
/// does it, any signal is meant to end one that has no stop signal of its own.
///
/// # Errors
/// It cannot be let go on.
pub fn wake(store: &Store, id: &Id, sent: i32, running: &Running) -> Result<()> {
    if !is_paused(store, id) {
        // Frozen and not recorded so, on cgroup v1, it would not even be killed.
        if sent == libc::SIGKILL {
            let cgroup = Cgroup::from_paths(&running.process.cgroups);
            return if cgroup.is_frozen() { cgroup.thaw() } else { Ok(()) };
        }
        return Ok(());
    }
    let config = start::config(store, id)?;
    let own = config.config.stop_signal.as_deref().and_then(|name| signal::parse(name).ok());
    if sent != libc::SIGKILL && own.is_some_and(|own| own != sent) {
        return Ok(());
    }
    match unpause(store, id) {
        // Ended, gone on by another command, or removed with its end.
        Err(_) if !is_paused(store, id) => Ok(()),
        other => other,
    }
}

fn not_running(id: &Id) -> anyhow::Error {
    Failure::new(format!("container {id} is not running")).exit(1).into()
}

fn not_paused(id: &Id) -> anyhow::Error {
    Failure::new(format!("Container {id} is not paused")).exit(1).into()
}

/// A container whose lock is held, so that neither its end nor another command comes in between.
struct Held<'a> {
    store: &'a Store,
    id: &'a Id,
    /// Since when it runs, if it does.
    started: Option<jiff::Timestamp>,
    paused: bool,
    _lock: Lock,
}

impl<'a> Held<'a> {
    fn take(store: &'a Store, id: &'a Id) -> Result<Self> {
        // What a killed monitor left is put in order first.
        list::one(store, id)?;
        let place = store.container(id);
        let lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
        let state = record::read::<State>(&place.join("state.json"))?.map(|state| state.phase);
        let (started, paused) = match state {
            Some(Phase::Running { started, paused }) if state::is_alive(store, id) => (Some(started), paused),
            _ => (None, false),
        };
        Ok(Self { store, id, started, paused, _lock: lock })
    }

    fn process(&self) -> Result<Option<Process>> {
        record::read(&self.store.container(self.id).join(state::PROCESS))
    }

    fn record(&self, phase: Phase) -> Result<()> {
        let path = self.store.container(self.id).join("state.json");
        let Some(mut state) = record::read::<State>(&path)? else { return Ok(()) };
        let action = if matches!(phase, Phase::Running { paused: true, .. }) { "pause" } else { "unpause" };
        state.phase = phase;
        record::write(&path, &state, Durability::Unsynced)?;
        events::container(self.store, self.id, &state, action, &[]);
        Ok(())
    }
}

/// Lets none of its processes run.
pub(super) fn hold(process: &Process) -> Result<()> {
    if Cgroup::from_paths(&process.cgroups).freeze()? {
        return Ok(());
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let pids = stoppable(process)?;
        let running: Vec<i32> = pids.into_iter().filter(|pid| !stands_still(*pid)).collect();
        // What was forked while others were stopped is found in the next round.
        if running.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            let _ = release(process);
            return Err(Failure::new(format!("its process {} does not stop", running[0])).into());
        }
        for pid in running {
            send(process, pid, libc::SIGSTOP);
        }
        sleep(Duration::from_millis(1));
    }
}

/// Lets them go on.
pub(super) fn release(process: &Process) -> Result<()> {
    let cgroup = Cgroup::from_paths(&process.cgroups);
    if cgroup.is_frozen() {
        return cgroup.thaw();
    }
    if process.cgroups.is_empty() {
        for pid in stoppable(process)?.into_iter().rev() {
            send(process, pid, libc::SIGCONT);
        }
    }
    Ok(())
}

/// The processes of a container that has no cgroup, the first one first.
fn stoppable(process: &Process) -> Result<Vec<i32>> {
    let mut pids = processes::in_namespace(process).ok_or_else(|| {
        Failure::new("it has no cgroup, and its processes are among the host's")
            .hint("leave --pid host out, or use a machine with cgroup v2")
    })?;
    pids.sort_unstable_by_key(|pid| (*pid != process.pid, *pid));
    Ok(pids)
}

fn send(process: &Process, pid: i32, signal: i32) {
    let Ok(handle) = pidfd::open(Pid::from_raw(pid)) else { return };
    // Asked after the descriptor was opened, so that it is about the process that gets the signal.
    if processes::is_in_namespace(pid, process) {
        // It has ended meanwhile.
        let _ = pidfd::signal(handle.as_fd(), signal);
    }
}

/// Stopped, traced, or dead: proc_pid_stat(5).
fn stands_still(pid: i32) -> bool {
    pidfd::state(Pid::from_raw(pid)).is_none_or(|state| "TtZX".contains(state))
}
