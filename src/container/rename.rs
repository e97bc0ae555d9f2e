//! Giving a container another name.

use anyhow::{Context, Result};

use crate::container::create::{self, conflict};
use crate::container::state::State;
use crate::error::Failure;
use crate::events;
use crate::network::member;
use crate::store::names::{self, Claim};
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store};

/// Claims the new name, writes it down, lets go of the old one: killed in between, the container has
/// its old name, and the new one is found to be nobody's when it is next wanted.
///
/// # Errors
/// The new name is wrong, taken, or the old one.
pub fn rename(store: &Store, id: &Id, name: &str) -> Result<()> {
    let name = name.strip_prefix('/').unwrap_or(name);
    names::check(name).map_err(|failure| failure.exit(1))?;
    let place = store.container(id);
    let _lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
    let path = place.join("state.json");
    let mut state = record::read::<State>(&path)?.ok_or_else(|| Failure::new(format!("No such container: {id}")))?;
    if state.name == name {
        return Err(Failure::new("Renaming a container with the same name as its current name").exit(1).into());
    }
    // The claim may be this container's own already: a killed `rename` to the same name.
    let is_own = names::owner(store, name)?.as_ref() == Some(id);
    if !is_own && let Claim::Taken(owner) = create::claim_name(store, name, id)? {
        return Err(conflict(name, &owner, 1));
    }
    let old = std::mem::replace(&mut state.name, name.to_owned());
    record::write(&path, &state, Durability::Unsynced)?;
    names::release(store, &old, id)?;
    events::container(store, id, &state, "rename", &[("oldName", &format!("/{old}"))]);
    // Other containers find it by the new name from here on.
    member::rename(store, id, name)
}
