//! Names of containers: symbolic links in `names/` to `../containers/<id>`. A link's creation is
//! the claim, so two commands that want one name cannot both have it.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::Failure;
use crate::store::{Id, Store};

/// Bytes of the longest name: that of a file's, NAME_MAX.
pub const LONGEST: usize = 255;

/// Docker's rule for names, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, and as with Podman one letter will do.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    name.len() <= LONGEST && has_valid_letters(name)
}

fn has_valid_letters(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// [`is_valid`] for a name that a person gave.
///
/// # Errors
/// Docker's `Invalid container name`, or that it is too long: it has to be a file's name.
pub fn check(name: &str) -> Result<(), Failure> {
    if is_valid(name) {
        return Ok(());
    }
    Err(Failure::new(if has_valid_letters(name) {
        format!("Invalid container name ({name}): it has {} characters, {LONGEST} are allowed", name.len())
    } else {
        format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    }))
}

/// What a claim came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The name is the container's.
    Made,
    /// Another container has it.
    Taken(Id),
}

/// Gives `name` to `id`, unless a container that exists has it. A link that a killed command
/// left behind, to a container that is no more, is replaced.
///
/// # Errors
/// The directory cannot be written.
pub fn claim(store: &Store, name: &str, id: &Id) -> Result<Claim> {
    let link = link(store, name);
    let target = PathBuf::from("../containers").join(id.as_str());
    loop {
        match symlink(&target, &link) {
            Ok(()) => return Ok(Claim::Made),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("claim the name {name:?}")),
        }
        // Who removes a stale link holds this lock, so that none removes a claim made since.
        let _lock = super::Lock::exclusive(&store.names())?;
        match owner(store, name)? {
            Some(owner) if store.container(&owner).join("config.json").exists() => return Ok(Claim::Taken(owner)),
            _ => remove(&link)?,
        }
    }
}

/// Takes the name away from `id`; nothing happens when another container has it.
///
/// # Errors
/// The directory cannot be written.
pub fn release(store: &Store, name: &str, id: &Id) -> Result<()> {
    let _lock = super::Lock::exclusive(&store.names())?;
    if owner(store, name)?.as_ref() == Some(id) {
        remove(&link(store, name))?;
    }
    Ok(())
}

/// Takes away whatever names lead to `id`: for a container whose record cannot tell.
///
/// # Errors
/// The directory cannot be read or written.
pub fn release_all(store: &Store, id: &Id) -> Result<()> {
    let dir = store.names();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("read {dir:?}"))? {
        let link = entry?.file_name();
        let Some(name) = link.to_str() else { continue };
        if owner(store, name)?.as_ref() == Some(id) {
            release(store, name, id)?;
        }
    }
    Ok(())
}

/// The container that has the name; it may be gone.
///
/// # Errors
/// The directory cannot be read.
pub fn owner(store: &Store, name: &str) -> Result<Option<Id>> {
    if !is_valid(name) {
        return Ok(None);
    }
    match std::fs::read_link(link(store, name)) {
        Ok(target) => Ok(target.file_name().and_then(|id| id.to_str()?.parse().ok())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        // Not a link: nothing of ours.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(e) => Err(e).with_context(|| format!("look up the name {name:?}")),
    }
}

/// The container that a person means: by name, by whole id, or by the unique beginning of an id.
///
/// # Errors
/// `No such container`, or more than one id begins so.
pub fn resolve(store: &Store, wanted: &str) -> Result<Id> {
    let exists = |id: &Id| store.container(id).join("config.json").exists();
    // Docker's order: a full id, then a name, then the beginning of an id.
    if let Some(id) = wanted.parse::<Id>().ok().filter(&exists) {
        return Ok(id);
    }
    let name = wanted.strip_prefix('/').unwrap_or(wanted);
    if let Some(id) = owner(store, name)?.filter(&exists) {
        return Ok(id);
    }
    let is_id = !wanted.is_empty() && wanted.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut found = if is_id { ids(store)? } else { Vec::new() };
    found.retain(|id| id.as_str().starts_with(wanted) && exists(id));
    match &found[..] {
        [id] => Ok(id.clone()),
        [] => Err(Failure::new(format!("No such container: {wanted}")).into()),
        several => Err(Failure::new(format!("multiple containers found with the id prefix {wanted:?}"))
            .hint(candidates(store, several))
            .into()),
    }
}

/// The first of several containers that could be meant, with their names.
fn candidates(store: &Store, several: &[Id]) -> String {
    const SHOWN: usize = 5;
    let mut several: Vec<&Id> = several.iter().collect();
    several.sort_unstable();
    // Names are few against what this saves the reader; where they cannot be read, ids do.
    let mut names = std::collections::HashMap::new();
    for entry in std::fs::read_dir(store.names()).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str()
            && let Ok(Some(id)) = owner(store, name)
        {
            names.insert(id, name.to_owned());
        }
    }
    let shown = several.iter().take(SHOWN).map(|&id| match names.get(id) {
        Some(name) => format!("{} ({name})", id.short()),
        None => id.short().to_owned(),
    });
    let more = several.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("it begins the ids of {}{tail}", shown.collect::<Vec<_>>().join(", "))
}

/// Every container's id, in no order; some may be half made or half gone.
///
/// # Errors
/// The directory cannot be read.
pub fn ids(store: &Store) -> Result<Vec<Id>> {
    let dir = store.containers();
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("read {dir:?}"))? {
        if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn link(store: &Store, name: &str) -> PathBuf {
    store.names().join(name)
}

fn remove(link: &Path) -> Result<()> {
    match std::fs::remove_file(link) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).with_context(|| format!("remove {link:?}")),
        _ => Ok(()),
    }
}
