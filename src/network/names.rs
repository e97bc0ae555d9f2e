//! Names of networks: symbolic links in `networks/names/` to `../<id>`, made and removed under the
//! lock of `networks/`. One that leads to no network is what a killed command left, and nobody's.

use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::error::Failure;
use crate::store::{Id, Store, names};

/// Names that nobody can give or take away; `default` is `bridge`'s other one.
pub const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// The network that has the name and is there.
///
/// # Errors
/// The directory cannot be read.
pub fn owner(store: &Store, name: &str) -> Result<Option<Id>> {
    if !names::is_valid(name) {
        return Ok(None);
    }
    let target = match std::fs::read_link(link(store, name)) {
        Ok(target) => target,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("look up the network {name:?}")),
    };
    let id: Option<Id> = target.file_name().and_then(|id| id.to_str()?.parse().ok());
    Ok(id.filter(|id| store.network(id).is_dir()))
}

/// Gives the name to a network that is about to be there. The caller holds the lock of `networks/`
/// and has found that the name has no [`owner`].
pub(super) fn claim(store: &Store, name: &str, id: &Id) -> Result<()> {
    release(store, name)?;
    symlink(PathBuf::from("..").join(id.as_str()), link(store, name))
        .with_context(|| format!("claim the network name {name:?}"))
}

/// Takes the name away, under the lock of `networks/`.
pub(super) fn release(store: &Store, name: &str) -> Result<()> {
    match std::fs::remove_file(link(store, name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {:?}", link(store, name)))
        }
        _ => Ok(()),
    }
}

/// The network that a person means: by name, by whole id, or by the unique beginning of an id.
///
/// # Errors
/// `network … not found`, or more than one id begins so.
pub fn resolve(store: &Store, wanted: &str) -> Result<Id> {
    if let Some(id) = owner(store, if wanted == "default" { "bridge" } else { wanted })? {
        return Ok(id);
    }
    let is_id = !wanted.is_empty() && wanted.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut found = if is_id { ids(store)? } else { Vec::new() };
    found.retain(|id| id.as_str().starts_with(wanted));
    match &found[..] {
        [id] => Ok(id.clone()),
        [] => Err(not_found(wanted)),
        several => Err(Failure::new(format!(
            "network {wanted} is ambiguous ({} matches found based on ID prefix)",
            several.len()
        ))
        .hint("give more digits of the id, or the name")
        .into()),
    }
}

/// Docker's sentence.
#[must_use]
pub fn not_found(wanted: &str) -> anyhow::Error {
    Failure::new(format!("network {wanted} not found")).into()
}

/// Every network's id, in no order.
///
/// # Errors
/// The directory cannot be read.
pub fn ids(store: &Store) -> Result<Vec<Id>> {
    let dir = store.networks();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("read {dir:?}")),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("read {dir:?}"))?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<Id>().ok()));
    }
    Ok(ids)
}

fn link(store: &Store, name: &str) -> PathBuf {
    store.networks().join("names").join(name)
}
