//! Taking containers away.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::container::state::{self, Phase, State};
use crate::error::Failure;
use crate::events;
use crate::store::{Id, Lock, Store, names, record, tree};

/// How `rm` deals with a container that runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Removal {
    /// Kill it first.
    pub force: bool,
}

/// Removes a container for good.
///
/// # Errors
/// It runs and is not to be killed; its files cannot be removed.
pub fn remove(store: &Store, id: &Id, how: Removal) -> Result<()> {
    if state::is_alive(store, id) {
        if !how.force {
            let state = recorded(store, id);
            let is_paused = state.as_ref().is_some_and(|s| matches!(s.phase, Phase::Running { paused: true, .. }));
            let why = if is_paused {
                "paused and must be unpaused first"
            } else {
                "running: stop the container before removing or force remove"
            };
            let name = format!("/{}", state.map(|state| state.name).unwrap_or_default());
            return Err(Failure::new(format!("cannot remove container {name:?}: container is {why}")).exit(1).into());
        }
        super::stop::kill_and_wait(store, id)?;
    } else if recorded(store, id).is_some_and(|state| matches!(state.phase, Phase::Running { .. })) {
        // Its monitor was killed: what it left behind goes first.
        super::heal::heal(store, id)?;
    }
    let place = store.container(id);
    let _lock = match Lock::exclusive(&place) {
        Ok(lock) => lock,
        // It was a `--rm` container, or another `rm` was faster.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("lock {place:?}")),
    };
    if state::is_alive(store, id) {
        // It was started in between.
        return Err(Failure::new(format!("container {id} was started by another command")).exit(1).into());
    }
    super::heal::remove_old_traces(store, id);
    let state = recorded(store, id);
    discard(store, id, state.as_ref().map(|state| state.name.as_str()).unwrap_or_default())?;
    if let Some(state) = state {
        events::container(store, id, &state, "destroy", &[]);
    }
    Ok(())
}

/// A record that cannot be read must not keep its container from being removed.
fn recorded(store: &Store, id: &Id) -> Option<State> {
    record::read(&store.container(id).join("state.json")).ok().flatten()
}

/// Takes a container that does not run out of the store: in one step for whoever looks, then file
/// by file. The caller holds its lock, or is its monitor. `name` is empty where the record that had
/// it is damaged.
///
/// # Errors
/// It cannot be renamed, or not all of it be removed; what is left is swept later.
pub fn discard(store: &Store, id: &Id, name: &str) -> Result<()> {
    let place = store.container(id);
    let temporary = record::temporary_beside(&place);
    match fs::rename(&place, &temporary) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => other.with_context(|| format!("remove {place:?}"))?,
    }
    if name.is_empty() {
        names::release_all(store, id)?;
    } else {
        names::release(store, name, id)?;
    }
    let run = store.container_run(id);
    if run.exists() {
        tree::remove(&run).with_context(|| format!("remove {run:?}"))?;
    }
    destroy(store, &temporary)
}

/// Removes a tree that is out of everybody's sight.
///
/// # Errors
/// Some of it cannot be removed.
pub fn destroy(store: &Store, path: &Path) -> Result<()> {
    match tree::remove(path) {
        // Files of subordinate ids, and folders without permissions: the user's own namespace
        // has power over them.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            crate::userns::enter(store)?;
            tree::remove(path)
        }
        other => other,
    }
    .with_context(|| format!("remove {path:?}"))
}
