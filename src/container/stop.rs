//! Ending containers: asking, waiting, killing.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::container::config::ContainerConfig;
use crate::container::signal::{self, Running};
use crate::container::state::{Process, State};
use crate::container::{launch, pause, state};
use crate::error::Failure;
use crate::events;
use crate::store::{Id, Lock, Store, record};

/// Seconds between the signal and the end, Docker's.
const PATIENCE: i64 = 10;

/// A container that has been asked to stop.
#[derive(Debug)]
pub struct Stopping {
    id: Id,
    running: Running,
    /// `None`: wait for ever.
    deadline: Option<Instant>,
}

impl Stopping {
    /// Sends the stop signal (`signal`, or the container's own, or SIGTERM). `None`: it does not
    /// run. Several containers are asked first and then waited for, so that they stop together.
    ///
    /// # Errors
    /// Not permitted, or its records cannot be read.
    pub fn ask(store: &Store, id: &Id, signal: Option<&str>, seconds: Option<i64>) -> Result<Option<Self>> {
        let Found::Running(running) = find(store, id, true)? else { return Ok(None) };
        let path = store.container(id).join("config.json");
        let config = record::read::<ContainerConfig>(&path)?.map(|config| config.config).unwrap_or_default();
        let number = signal::parse(signal.or(config.stop_signal.as_deref()).unwrap_or("TERM"))?;
        send(store, id, &running, number)?;
        let seconds = seconds.or(config.stop_timeout).unwrap_or(PATIENCE);
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        Ok(Some(Self { id: id.clone(), running, deadline: patience.and_then(|p| Instant::now().checked_add(p)) }))
    }

    /// Waits until it has ended, and kills it when the time is up.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn finish(self, store: &Store) -> Result<()> {
        // With its end it may be gone: `--rm`.
        let state: Option<State> = record::read(&store.container(&self.id).join("state.json")).ok().flatten();
        if !has_ended(&self.running, self.deadline)? {
            send(store, &self.id, &self.running, libc::SIGKILL)?;
        }
        wait_for_end(store, &self.id, &self.running)?;
        if let Some(state) = state {
            events::container(store, &self.id, &state, "stop", &[]);
        }
        Ok(())
    }
}

/// Kills a container and waits until its monitor has left.
///
/// # Errors
/// It cannot be killed.
pub fn kill_and_wait(store: &Store, id: &Id) -> Result<()> {
    if let Found::Running(running) = find(store, id, true)? {
        send(store, id, &running, libc::SIGKILL)?;
        return wait_for_end(store, id, &running);
    }
    wait_for_monitor(store, id)
}

/// Waits until this run of the container has been recorded as ended. Another command may have started it
/// again by then, and its next monitor lives on.
fn wait_for_end(store: &Store, id: &Id, running: &Running) -> Result<()> {
    let mut pause = Duration::from_micros(100);
    while state::is_alive(store, id) {
        let now: Option<Process> = record::read(&store.container(id).join(state::PROCESS))?;
        let is_another = |now: &Process| (now.pid, now.start_time) != (running.process.pid, running.process.start_time);
        if now.as_ref().is_some_and(is_another) {
            break;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Ok(())
}

/// Sends a signal to a container that runs.
///
/// # Errors
/// It does not run: Docker's sentence.
pub fn kill(store: &Store, id: &Id, signal: i32) -> Result<()> {
    match find(store, id, signal == libc::SIGKILL)? {
        Found::Running(running) => send(store, id, &running, signal),
        Found::Ended => Ok(()),
        Found::Nothing => Err(Failure::new(format!("container {id} is not running")).exit(1).into()),
    }
}

/// Sends a signal, and lets a paused container go on that it is to end.
fn send(store: &Store, id: &Id, running: &Running, signal: i32) -> Result<()> {
    // Before it is, since the monitor records what it does.
    events::of_container(store, id, "kill", &[("signal", &signal.to_string())]);
    running.send(signal).with_context(|| format!("send signal {signal} to container {id}"))?;
    pause::wake(store, id, signal, running)
}

/// What there is to send a signal to.
enum Found {
    Running(Running),
    /// It was being started for too long, and that was ended.
    Ended,
    Nothing,
}

/// The process of a container that runs; one that is being started is waited for. `end`: a start that
/// hangs is ended.
fn find(store: &Store, id: &Id, end: bool) -> Result<Found> {
    if end {
        if launch::end(store, id)? {
            return Ok(Found::Ended);
        }
    } else if !launch::is_over(store, id) {
        return Ok(Found::Nothing);
    }
    Ok(Running::find(store, id)?.map_or(Found::Nothing, Found::Running))
}

/// Waits for the process itself.
fn has_ended(running: &Running, deadline: Option<Instant>) -> Result<bool> {
    loop {
        let left = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that the last fraction of a millisecond is slept and not spun.
                PollTimeout::try_from(left.saturating_add(Duration::from_micros(999))).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(running.pidfd.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e).context("wait for the container"),
        }
    }
}

/// Waits until the container's monitor has recorded the end and left: it holds a lock until then.
///
/// # Errors
/// The lock cannot be asked for.
pub fn wait_for_monitor(store: &Store, id: &Id) -> Result<()> {
    match Lock::shared(&store.container(id).join(state::ALIVE)) {
        Ok(_) => Ok(()),
        // Removed with its container, or by a monitor that left.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("wait for container {id}")),
    }
}
