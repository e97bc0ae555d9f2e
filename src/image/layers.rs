//! Unpacked layers: `layers/<diff id hex>/`, each once, whichever images have it, and beside each
//! a record `layers/<diff id hex>.json`.
//!
//! A layer is published as soon as its digests are right, before its data are on the disk: one
//! `syncfs` for all layers of a pull is much faster than one each. Until that is done its record
//! names the boot it was made in, and after another boot it is not trusted. Images enter the index
//! only when their layers are synced, so no image and no container has such a layer.
//!
//! Who needs a layer to stay holds a shared lock on its folder ([`pin`]) until the index names it;
//! the garbage collector removes only what it can lock exclusively.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::image::blobs::Temporary;
use crate::image::digest::Digest;
use crate::image::unpack::{Applied, Compression};
use crate::store::record::{self, Durability, Record};
use crate::store::{Lock, Store, tree};

/// What is known of a layer beyond its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Bytes of its files' contents.
    pub size: u64,
    /// Folders that its archive has not, but objects in them; the empty name is the root.
    pub implicit: BTreeSet<Name>,
    /// Hides all layers below.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// The boot it was made in, until it is on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// What it was unpacked from. It stays while an image has the layer whose own blob is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// Its archive as registries have it, the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<PackedBlob>,
}

/// A layer's archive, as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedBlob {
    pub digest: Digest,
    pub size: u64,
    /// How it was compressed here, `gzip-6`; absent: it came so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
    /// Repositories that have it, with their hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
}

impl PackedBlob {
    /// How [`Self::made`] says it.
    #[must_use]
    pub fn maker(format: Compression, level: i32) -> Option<String> {
        match format {
            Compression::None => None,
            Compression::Gzip => Some(format!("gzip-{level}")),
            Compression::Zstd => Some(format!("zstd-{level}")),
        }
    }

    /// Whether compressing the layer so gives this.
    #[must_use]
    pub fn is(&self, format: Compression, level: i32) -> bool {
        self.made.is_some() && self.made == Self::maker(format, level)
    }
}

impl Record for LayerRecord {
    const VERSION: u32 = 1;
}

/// A path below a layer's root; text where it can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|e| Self::Bytes(e.into_bytes()), Self::Text)
    }
}

impl Name {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The folder of a layer, there or not.
#[must_use]
pub fn dir(store: &Store, diff: &Digest) -> PathBuf {
    store.layers().join(diff.hex())
}

fn record_path(store: &Store, diff: &Digest) -> PathBuf {
    store.layers().join(format!("{}.json", diff.hex()))
}

/// What is known of a layer; `None` when it is not there, or not to be trusted.
///
/// # Errors
/// The record cannot be read.
pub fn find(store: &Store, diff: &Digest) -> Result<Option<LayerRecord>> {
    if !dir(store, diff).is_dir() {
        return Ok(None);
    }
    let record: Option<LayerRecord> = record::read(&record_path(store, diff))?;
    Ok(record.filter(|r| r.boot.as_ref().is_none_or(|boot| *boot == this_boot())))
}

/// Keeps a layer from being removed as garbage while the lock is held; `None` when it is not there.
///
/// # Errors
/// It cannot be locked.
pub fn pin(store: &Store, diff: &Digest) -> Result<Option<Pinned>> {
    let dir = dir(store, diff);
    let lock = match Lock::shared(&dir) {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("lock {dir:?}")),
    };
    Ok(find(store, diff)?.map(|record| Pinned { diff: diff.clone(), record, _lock: lock }))
}

/// A layer that stays while this is held.
#[derive(Debug)]
pub struct Pinned {
    pub diff: Digest,
    pub record: LayerRecord,
    _lock: Lock,
}

/// The right to make a layer: who waits for it finds the layer made.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _file: Flock<File>,
}

impl Claim {
    /// Waits until nobody else makes this layer.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn wait(store: &Store, diff: &Digest) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let path = store.layers().join(format!("{}.lock", diff.hex()));
        loop {
            let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.with_context(|| format!("make {path:?}"))?;
            let file = match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(file) => file,
                Err((_, nix::errno::Errno::EINTR)) => continue,
                Err((_, e)) => return Err(e).with_context(|| format!("lock {path:?}")),
            };
            // Its last holder removed it; another one may be in its place.
            let now = std::fs::metadata(&path).map(|m| m.ino()).ok();
            if now.is_some() && now == file.metadata().map(|m| m.ino()).ok() {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked: who waits for this file sees that it is gone and makes another.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A folder to unpack a layer into.
///
/// # Errors
/// It cannot be made.
pub fn temporary(store: &Store) -> Result<Temporary> {
    let temporary = Temporary::in_dir(&store.layers());
    let path = temporary.path();
    std::fs::DirBuilder::new().mode(0o755).create(path).with_context(|| format!("make {path:?}"))?;
    Ok(temporary)
}

/// Makes a folder of [`temporary`] empty again.
///
/// # Errors
/// What it has cannot be removed.
pub fn empty(temporary: &Temporary) -> Result<()> {
    let path = temporary.path();
    tree::remove(path)
        .and_then(|()| std::fs::DirBuilder::new().mode(0o755).create(path))
        .with_context(|| format!("make {path:?}"))
}

/// Gives an unpacked layer its name; where an equal one is there already, that is kept. `blob`: what it was
/// unpacked from.
///
/// # Errors
/// It cannot be renamed.
pub fn publish(store: &Store, diff: &Digest, blob: &Digest, unpacked: &Temporary, applied: Applied) -> Result<Pinned> {
    let dir = dir(store, diff);
    let record = LayerRecord {
        size: applied.size,
        implicit: applied.implicit.into_iter().map(Name::from).collect(),
        opaque: applied.opaque,
        boot: Some(this_boot()),
        blob: Some(blob.clone()),
        packed: Vec::new(),
    };
    // Locked before it has its name, so that no garbage collector gets in between.
    let lock = Lock::shared(unpacked.path()).with_context(|| format!("lock {:?}", unpacked.path()))?;
    loop {
        if let Some(pinned) = pin(store, diff)? {
            return Ok(pinned);
        }
        if dir.exists() {
            // Left from before a power loss: nobody has it.
            discard(store, &dir)?;
        }
        record::write(&record_path(store, diff), &record, Durability::Unsynced)?;
        match unpacked.rename(&dir) {
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            other => {
                other.with_context(|| format!("publish {dir:?}"))?;
                return Ok(Pinned { diff: diff.clone(), record, _lock: lock });
            }
        }
    }
}

/// Puts all that was written so far on the disk, and says so in the layers' records.
///
/// # Errors
/// The disk refuses.
pub fn sync(store: &Store, layers: &mut [Pinned]) -> Result<()> {
    let root = File::open(store.root())?;
    nix::unistd::syncfs(&root).with_context(|| format!("write {:?} to the disk", store.root()))?;
    let mut rewritten = false;
    for layer in layers.iter_mut().filter(|l| l.record.boot.is_some()) {
        layer.record.boot = None;
        record::write(&record_path(store, &layer.diff), &layer.record, Durability::Unsynced)?;
        rewritten = true;
    }
    if rewritten {
        nix::unistd::syncfs(&root).with_context(|| format!("write {:?} to the disk", store.root()))?;
    }
    Ok(())
}

/// Changes what is noted of a layer; nothing where it is not there.
///
/// # Errors
/// The record cannot be read or written.
pub fn note(store: &Store, diff: &Digest, change: impl FnOnce(&mut LayerRecord)) -> Result<()> {
    let _claim = Claim::wait(store, diff)?;
    let Some(mut record) = find(store, diff)? else { return Ok(()) };
    change(&mut record);
    record::write(&record_path(store, diff), &record, Durability::Unsynced)
}

/// Takes a layer's folder out of sight and removes it, with its record. The caller knows that
/// nobody needs it.
///
/// # Errors
/// It cannot be renamed.
pub fn discard(store: &Store, dir: &Path) -> Result<()> {
    let gone = Temporary::in_dir(&store.layers());
    match std::fs::rename(dir, gone.path()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).with_context(|| format!("remove {dir:?}")),
        _ => {}
    }
    let _ = std::fs::remove_file(dir.with_extension("json"));
    Ok(())
}

/// What the kernel calls this boot; empty where it does not say, which no record equals.
fn this_boot() -> String {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
    .clone()
}
