//! Secrets: a name for some bytes that containers are given and that nothing else shows: not
//! `inspect`, no record of a container, no log, no image.
//!
//! ```text
//! ROOT/secrets/<id>        the content, mode 0600
//! ROOT/secrets/<id>.json   what may be shown; written last, so that without it there is no secret
//! ```
//!
//! Made and removed under the lock of the folder, read without. A container that was made with a
//! secret has a second name of the content in its own directory (`container::secret`), and so keeps it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::store::record::{self, Durability, Record};
use crate::store::{Id, Lock, Store, names, sweep};

/// Bytes of a content: fewer than so many, Podman's and Docker's.
pub const LARGEST: u64 = 512_000;

/// Digits of an id, Podman's.
const ID_DIGITS: usize = 25;

/// What may be shown of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// 25 hexadecimal digits.
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

impl Record for Secret {
    const VERSION: u32 = 1;
}

/// What is wanted of a new one.
#[derive(Debug)]
pub struct New {
    pub name: String,
    pub content: Vec<u8>,
    pub labels: BTreeMap<String, String>,
    /// `--driver-opt`: kept for `inspect`.
    pub options: BTreeMap<String, String>,
    /// In the place of one that has the name.
    pub replace: bool,
}

/// The folder of all of them.
#[must_use]
pub fn folder(store: &Store) -> PathBuf {
    store.root().join("secrets")
}

/// Where a secret's content is.
#[must_use]
pub fn content(store: &Store, id: &str) -> PathBuf {
    folder(store).join(id)
}

fn record_path(store: &Store, id: &str) -> PathBuf {
    folder(store).join(format!("{id}.json"))
}

/// Reads a content, and not more of it than it may have.
///
/// # Errors
/// It is empty, or too large.
pub fn read(source: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LARGEST).read_to_end(&mut bytes).context("read the secret")?;
    if bytes.is_empty() || bytes.len() as u64 >= LARGEST {
        bail!("secret data must be larger than 0 and less than {LARGEST} bytes");
    }
    Ok(bytes)
}

/// Makes one.
///
/// # Errors
/// The name is wrong or taken; the disk is full.
pub fn create(store: &Store, new: New) -> Result<Secret> {
    if !names::is_valid(&new.name) {
        return Err(Failure::new(format!("invalid secret name ({})", new.name))
            .hint("letters, digits and _.- are allowed, the first a letter or a digit")
            .into());
    }
    let _lock = lock(store)?;
    let old = list(store)?.into_iter().find(|secret| secret.name == new.name);
    if old.is_some() && !new.replace {
        return Err(Failure::new(format!("secret {} already exists", new.name))
            .hint("ctr secret create --replace puts the new one in its place")
            .into());
    }
    let now = Timestamp::now();
    let id = Id::random().context("make an id")?.as_str()[..ID_DIGITS].to_owned();
    let secret = Secret { id, name: new.name, labels: new.labels, options: new.options, created: now, updated: now };
    let path = content(store, &secret.id);
    write(&path, &new.content).with_context(|| format!("write {path:?}")).inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    if let Some(old) = old {
        discard(store, &old)?;
    }
    record::write(&record_path(store, &secret.id), &secret, Durability::Synced)?;
    Ok(secret)
}

fn write(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn lock(store: &Store) -> Result<Lock> {
    let folder = folder(store);
    let lock = || Lock::exclusive(&folder);
    let locked = match lock() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .with_context(|| format!("make the directory {folder:?}"))?;
            lock()
        }
        locked => locked,
    };
    let lock = locked.with_context(|| format!("lock {folder:?}"))?;
    for garbage in sweep::garbage(&folder).into_iter().chain(forsaken(store)?) {
        // What cannot be removed now is met again by the next command.
        let _ = fs::remove_file(garbage);
    }
    Ok(lock)
}

/// Contents without a record: what a killed command left. To be asked under the folder's lock.
fn forsaken(store: &Store) -> Result<Vec<PathBuf>> {
    let names = files(store)?;
    let is_forsaken = |name: &&String| !name.contains('.') && !names.contains(&format!("{name}.json"));
    Ok(names.iter().filter(is_forsaken).map(|name| content(store, name)).collect())
}

fn files(store: &Store) -> Result<Vec<String>> {
    let folder = folder(store);
    match fs::read_dir(&folder) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("read {folder:?}")),
    }
}

/// All of them, in the order of their names.
///
/// # Errors
/// A record cannot be read.
pub fn list(store: &Store) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for name in files(store)? {
        if let Some(id) = name.strip_suffix(".json") {
            secrets.extend(record::read::<Secret>(&record_path(store, id))?);
        }
    }
    secrets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(secrets)
}

/// The one that a person means: by id, by name, or by the unique beginning of an id.
///
/// # Errors
/// `secret … not found`, or more than one id begins so.
pub fn find(store: &Store, wanted: &str) -> Result<Secret> {
    let secrets = list(store)?;
    let exact = secrets.iter().find(|secret| secret.id == wanted).or(secrets.iter().find(|s| s.name == wanted));
    if let Some(secret) = exact {
        return Ok(secret.clone());
    }
    let begins = |secret: &&Secret| !wanted.is_empty() && secret.id.starts_with(wanted);
    match secrets.iter().filter(begins).collect::<Vec<_>>()[..] {
        [secret] => Ok(secret.clone()),
        [] => Err(Failure::new(format!("secret {wanted} not found")).into()),
        ref several => Err(Failure::new(format!("secret {wanted} is ambiguous ({} matches found)", several.len()))
            .hint("give more digits of the id, or the name")
            .into()),
    }
}

/// Removes it. Containers that were made with it keep what they have.
///
/// # Errors
/// As [`find`]; its files cannot be removed.
pub fn remove(store: &Store, wanted: &str) -> Result<Secret> {
    let _lock = lock(store)?;
    let secret = find(store, wanted)?;
    discard(store, &secret)?;
    Ok(secret)
}

fn discard(store: &Store, secret: &Secret) -> Result<()> {
    for path in [record_path(store, &secret.id), content(store, &secret.id)] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).with_context(|| format!("remove {path:?}")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn new(name: &str, replace: bool) -> New {
        New { name: name.into(), content: b"x".into(), labels: [].into(), options: [].into(), replace }
    }

    #[test]
    fn a_name_has_one_secret() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("root"), home.path().join("run"));
        assert!(list(&store).unwrap().is_empty());
        let first = create(&store, new("a", false)).unwrap();
        assert_eq!(create(&store, new("a", false)).unwrap_err().to_string(), "secret a already exists");
        assert!(create(&store, new("../a", false)).is_err());
        // Left by a command that was killed.
        fs::write(content(&store, "0123"), "half").unwrap();
        let second = create(&store, new("a", true)).unwrap();
        assert_eq!(list(&store).unwrap(), std::slice::from_ref(&second));
        assert!(!content(&store, "0123").exists() && !content(&store, &first.id).exists());
        assert_eq!(fs::metadata(content(&store, &second.id)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(find(&store, &second.id[..5]).unwrap(), second);
        assert_eq!(remove(&store, "a").unwrap(), second);
        assert_eq!(find(&store, "a").unwrap_err().to_string(), "secret a not found");
        assert_eq!(fs::read_dir(folder(&store)).unwrap().count(), 0);
    }

    #[test]
    fn sizes() {
        assert!(read(&b""[..]).is_err() && read(&b"x"[..]).is_ok());
        assert!(read(io::repeat(0).take(LARGEST)).is_err() && read(io::repeat(0).take(LARGEST - 1)).is_ok());
    }
}
