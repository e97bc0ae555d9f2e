//! Records: JSON files that are replaced as a whole and carry the version of their shape.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::Failure;

/// A kind of record.
pub trait Record: Serialize + DeserializeOwned {
    /// The newest shape that this binary writes; it reads all up to it.
    const VERSION: u32;
}

/// Whether a record must be there after a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk when the call returns.
    Synced,
    /// Whole whenever it is read, but perhaps the old one after a power loss. For what a reboot
    /// makes stale anyway (who runs), and for containers that their end removes.
    Unsynced,
}

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Reads a record; `None` when there is no such file.
///
/// # Errors
/// A file that cannot be read or parsed, or that a newer ctr wrote.
pub fn read<T: Record>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("read {path:?}")),
    };
    parse(&bytes).with_context(|| format!("read {path:?}")).map(Some)
}

/// A record's text to the record.
///
/// # Errors
/// As [`read`].
pub fn parse<T: Record>(bytes: &[u8]) -> Result<T> {
    match serde_json::from_slice(bytes) {
        Ok(body) => Ok(body),
        Err(e) => match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { version }) if version > T::VERSION => {
                Err(Failure::new(format!("written by a newer ctr (version {version})"))
                    .hint("use the newer ctr")
                    .into())
            }
            _ => Err(Failure::new("damaged record").source(e).into()),
        },
    }
}

/// Replaces the record at `path`, or makes it.
///
/// # Errors
/// The path and the reason; the old record is then still there.
pub fn write<T: Record>(path: &Path, body: &T, durability: Durability) -> Result<()> {
    let text = serde_json::to_vec(&Written { version: T::VERSION, body })?;
    replace(path, &text, durability).with_context(|| format!("write {path:?}"))
}

/// Replaces a file's content in one step: a temporary file beside it, then a rename.
///
/// # Errors
/// The old file is then still there, and the temporary one is gone.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let outcome = (|| {
        let make = || File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let mut file = match make() {
            // Left by a process that was killed and had this one's number.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&temporary)?;
                make()
            }
            made => made,
        }?;
        file.write_all(content)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        drop(file);
        std::fs::rename(&temporary, path)?;
        if durability == Durability::Synced {
            sync_parent(path)?;
        }
        Ok(())
    })();
    if outcome.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    outcome
}

/// Makes a rename or a removal in `path`'s directory survive a power loss.
///
/// # Errors
/// As `fsync(2)`.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// A name that no other process uses, which [`super::sweep`] knows as garbage once its maker is
/// dead: `tmp-PID-N-NAMESPACE`, in the directory of `path`. The number of the pid namespace is there
/// because containers of other engines can share a root, and have process numbers of their own.
#[must_use]
pub fn temporary_beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("tmp-{}-{}-{}", std::process::id(), count(), pid_namespace()))
}

fn count() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// This process's pid namespace by its inode's number; 0 where it cannot be told.
pub(super) fn pid_namespace() -> u64 {
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    *NAMESPACE.get_or_init(|| std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino()))
}
