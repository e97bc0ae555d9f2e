//! Starting a container that exists.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::container::config::ContainerConfig;
use crate::container::list::Status;
use crate::container::state::{Phase, State};
use crate::container::{launch, state, stop, update};
use crate::error::{self, Failure, exit};
use crate::events;
use crate::monitor::{self, Connection, Streams};
use crate::store::record::Durability;
use crate::store::{Id, Lock, Store, record};

/// What came of [`start`].
#[derive(Debug)]
pub enum Start {
    Started(Connection),
    /// It ran already.
    Running,
}

/// Starts it; `streams` and `size` as [`monitor::start`] has them.
///
/// # Errors
/// Its process could not be run: exit code 125, 126 or 127.
pub fn start(
    store: &Store,
    id: &Id,
    streams: impl FnOnce(&ContainerConfig) -> Option<Streams>,
    size: Option<(u16, u16)>,
) -> Result<Start> {
    let place = store.container(id);
    let lock = loop {
        // What a killed monitor left goes first.
        let container = super::list::one(store, id)?;
        let lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
        if !state::is_alive(store, id) {
            break lock;
        }
        if container.status() == Status::Paused {
            return Err(Failure::new("cannot start a paused container, try unpause instead").exit(1).into());
        }
        if container.status() == Status::Running {
            return Ok(Start::Running);
        }
        // It has ended, and its monitor is about to leave; or who started it was killed, since nobody
        // holds the lock while starting it, and its monitor hangs.
        launch::end(store, id)?;
        drop(lock);
        stop::wait_for_monitor(store, id)?;
    };
    let config = config(store, id)?;
    start_made(store, &config, lock, streams(&config), size).map(Start::Started)
}

/// Starts a container whose lock is held.
///
/// # Errors
/// As [`start`].
pub fn start_made(
    store: &Store,
    config: &ContainerConfig,
    lock: Lock,
    streams: Option<Streams>,
    size: Option<(u16, u16)>,
) -> Result<Connection> {
    start_with(store, config, lock, streams, size, Vec::new())
}

/// [`start_made`] with descriptors for the container's process, by the numbers that it finds them
/// under.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    store: &Store,
    config: &ContainerConfig,
    lock: Lock,
    streams: Option<Streams>,
    size: Option<(u16, u16)>,
    descriptors: Vec<(i32, OwnedFd)>,
) -> Result<Connection> {
    if streams.is_some() {
        events::of_container(store, &config.id, "attach", &[]);
    }
    let connection = monitor::start(store, config, streams, size, descriptors);
    if let Err(failure) = &connection {
        // `inspect` tells why it is still only created; that this is written down matters less than
        // the failure itself.
        let _ = record_failure(store, &config.id, failure);
    }
    drop(lock);
    connection
}

/// Writes down why a container could not be started for the first time.
fn record_failure(store: &Store, id: &Id, failure: &anyhow::Error) -> Result<()> {
    let path = store.container(id).join("state.json");
    let Some(mut state) = record::read::<State>(&path)? else { return Ok(()) };
    if matches!(state.phase, Phase::Created { .. }) {
        let code = error::exit_code(failure).unwrap_or(exit::ENGINE);
        state.phase = Phase::Created { failure: Some((code, error::message(failure))) };
        record::write(&path, &state, Durability::Unsynced)?;
    }
    Ok(())
}

/// The container's configuration, with the limits that `update` gave it.
///
/// # Errors
/// It went away, or its record is damaged.
pub fn config(store: &Store, id: &Id) -> Result<ContainerConfig> {
    let directory = store.container(id);
    let config: Option<ContainerConfig> = record::read(&directory.join("config.json"))?;
    let mut config = config.ok_or_else(|| Failure::new(format!("No such container: {id}")).exit(exit::ENGINE))?;
    if let Some(resources) = record::read(&directory.join(update::RESOURCES))? {
        config.host_config.resources = resources;
    }
    Ok(config)
}
