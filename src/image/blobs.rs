//! Blobs: files named by the digest of their bytes, `image/blobs/sha256/<hex>`. A blob is written
//! under a temporary name and renamed once its digest is known, so what bears a digest has it.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::Failure;
use crate::image::digest::{Digest, Hasher};
use crate::image::pull::partial;
use crate::store::record::{self, Durability};
use crate::store::{Lock, Store, sweep, tree};

/// Bytes of a manifest, an index or a configuration; registries take no larger ones.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The folder of all blobs.
#[must_use]
pub fn dir(store: &Store) -> PathBuf {
    store.image_layout().join("blobs/sha256")
}

/// Where a blob is, or would be.
#[must_use]
pub fn path(store: &Store, digest: &Digest) -> PathBuf {
    dir(store).join(digest.hex())
}

/// A document's bytes; `None` when the store has no such blob.
///
/// # Errors
/// It cannot be read, or is larger than [`MAX_DOCUMENT`].
pub fn read(store: &Store, digest: &Digest) -> Result<Option<Vec<u8>>> {
    let path = path(store, digest);
    match File::open(&path) {
        Ok(file) => bounded(file).with_context(|| format!("read {path:?}")).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {path:?}")),
    }
}

/// A document as its digest says; `None` when the store has no such blob.
///
/// # Errors
/// As [`read`]; it is damaged.
pub fn read_whole(store: &Store, digest: &Digest) -> Result<Option<Vec<u8>>> {
    let Some(bytes) = read(store, digest)? else { return Ok(None) };
    let is = Digest::of(&bytes);
    if is == *digest { Ok(Some(bytes)) } else { Err(damaged(store, digest, &is).into()) }
}

/// What to say of a blob that is not what it is called, and how it is mended.
#[must_use]
pub fn damaged(store: &Store, digest: &Digest, is: &Digest) -> Failure {
    let root = store.root();
    Failure::new(format!("blob {:?} of the store {root:?} is damaged: its bytes have the digest {is}", digest.short()))
        .hint(format!("fetch what is damaged again with: ctr --root {} system check --repair", root.display()))
}

/// Reads a blob, and fails at its end where its bytes are not what it is called by.
pub struct Checked {
    file: File,
    store: Store,
    digest: Digest,
    hasher: Hasher,
    size: u64,
    read: u64,
}

impl Checked {
    /// # Errors
    /// As open(2).
    pub fn open(store: &Store, digest: &Digest) -> io::Result<Self> {
        let file = File::open(path(store, digest))?;
        let size = file.metadata()?.len();
        Ok(Self { file, store: store.clone(), digest: digest.clone(), hasher: Hasher::default(), size, read: 0 })
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Lets the next byte that is read be the one at `at`. What is in front of it is read again for the digest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn restart(&mut self, at: u64) -> io::Result<()> {
        self.file.rewind()?;
        (self.hasher, self.read) = (Hasher::default(), 0);
        io::copy(&mut self.take(at), &mut io::sink()).map(drop)
    }
}

impl Read for Checked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(into)?;
        self.hasher.update(&into[..n]);
        self.read += n as u64;
        // Together with the last bytes and not behind them: who knows how many there are asks for no more.
        if self.read >= self.size || (n == 0 && !into.is_empty()) {
            let is = self.hasher.clone().finish();
            if is != self.digest {
                let (store, digest) = (&self.store, &self.digest);
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged(store, digest, &is)));
            }
        }
        Ok(n)
    }
}

/// All that `source` has, if that is a document's size.
///
/// # Errors
/// It is larger than [`MAX_DOCUMENT`], or cannot be read.
pub fn bounded(source: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Failure::new(format!("it is larger than {} MiB, the most that is read", MAX_DOCUMENT >> 20)).into());
    }
    Ok(bytes)
}

/// Keeps a document, and the garbage collector away from it while the lock is held.
///
/// # Errors
/// It cannot be written.
pub fn put(store: &Store, bytes: &[u8]) -> Result<(Digest, Lock)> {
    let digest = Digest::of(bytes);
    loop {
        if let Some(lock) = pin(store, &digest)? {
            return Ok((digest, lock));
        }
        let path = path(store, &digest);
        record::replace(&path, bytes, Durability::Unsynced).with_context(|| format!("write {path:?}"))?;
    }
}

/// Keeps the garbage collector away from a blob while the lock is held; `None` when there is none.
///
/// # Errors
/// It cannot be locked.
pub fn pin(store: &Store, digest: &Digest) -> Result<Option<Lock>> {
    let path = path(store, digest);
    match Lock::shared(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("lock {path:?}")),
    }
}

/// Gives a written blob its name.
///
/// # Errors
/// It cannot be renamed.
pub fn publish(store: &Store, digest: &Digest, written: &Temporary) -> Result<Lock> {
    // Locked before it has its name, so that no garbage collector gets in between.
    let lock = Lock::shared(written.path()).with_context(|| format!("lock {:?}", written.path()))?;
    let path = path(store, digest);
    written.rename(&path).with_context(|| format!("publish {path:?}"))?;
    Ok(lock)
}

/// What comes before anything is written: makes the OCI image layout's folders and its marker file,
/// and removes what killed commands left, and what nobody has come back for.
///
/// # Errors
/// They cannot be made.
pub fn prepare(store: &Store) -> Result<()> {
    let dir = dir(store);
    if !dir.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).with_context(|| format!("make {dir:?}"))?;
    }
    let marker = store.image_layout().join("oci-layout");
    if !marker.exists() {
        record::replace(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#, Durability::Unsynced)
            .with_context(|| format!("write {marker:?}"))?;
    }
    partial::sweep(store);
    for dir in [store.layers(), dir, store.image_layout()] {
        for garbage in sweep::garbage(&dir) {
            // Another one may be at it as well.
            let _ = tree::remove(&garbage);
        }
    }
    Ok(())
}

/// A file or folder that goes away unless it is kept.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// A name in `dir` that nobody else uses; nothing is made yet.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self(record::temporary_beside(&dir.join("x")))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it a file.
    ///
    /// # Errors
    /// As open(2).
    pub fn create(&self) -> Result<File> {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&self.0)
            .with_context(|| format!("make {:?}", self.0))
    }

    /// Gives it its lasting name; a file that bears that already is replaced. Dropping it does nothing from then on.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, name: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Whatever cannot be removed now, the next sweep removes.
        let _ = tree::remove(&self.0);
    }
}
