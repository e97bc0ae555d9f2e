//! What came of a layer's blob before a pull was interrupted: `image/partial/<digest hex>`, the blob's
//! beginning. Who pulls the layer next reads that instead of fetching it, and asks for the rest.
//!
//! Nothing here is believed: a crash or a power loss may have left any bytes in it. They take the way
//! that the registry's bytes take, through the digests, and where those do not fit all is fetched anew.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::image::blobs::{self, Temporary};
use crate::image::digest::Digest;
use crate::store::{Lock, Store};

/// Nobody comes back for what is older.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

fn dir(store: &Store) -> PathBuf {
    store.image_layout().join("partial")
}

/// A blob in the making, which this process alone writes to. Dropped, it stays for the next try.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    /// At its end: there the next bytes go.
    pub file: File,
    /// Bytes that it had when it was opened.
    pub known: u64,
    lock: Lock,
}

impl Partial {
    /// The blob's beginning, perhaps empty; `None` while another process is at work on it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(store: &Store, digest: &Digest, size: u64) -> Result<Option<Self>> {
        let dir = dir(store);
        if !dir.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.with_context(|| format!("make {dir:?}"))?;
        }
        let path = dir.join(digest.hex());
        let what = || format!("open {path:?}");
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = match Lock::try_exclusive(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            // The one who had it has finished it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(what),
        };
        // Again, now that it is this one's: the name may have gone to another file in between.
        drop(file.with_context(what)?);
        let file = File::options().read(true).write(true).open(&path).with_context(what)?;
        let mut known = file.metadata().with_context(what)?.len();
        if known > size {
            file.set_len(0).with_context(what)?;
            known = 0;
        }
        io::Seek::seek(&mut &file, io::SeekFrom::End(0)).with_context(what)?;
        Ok(Some(Self { path, file, known, lock }))
    }

    /// Reads it from its beginning, by a position of its own.
    ///
    /// # Errors
    /// As open(2).
    pub fn reader(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Forgets what came.
    ///
    /// # Errors
    /// As ftruncate(2).
    pub fn restart(&mut self) -> io::Result<()> {
        self.known = 0;
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)
    }

    /// Its digest is right: gives the whole blob its lasting name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn publish(self, store: &Store, digest: &Digest) -> Result<Lock> {
        let blob = Temporary::in_dir(&blobs::dir(store));
        // Out of others' sight first, so that nobody else takes it for a beginning.
        std::fs::rename(&self.path, blob.path()).with_context(|| format!("publish {:?}", self.path))?;
        drop((self.file, self.lock));
        blobs::publish(store, digest, &blob)
    }
}

/// Removes what nobody has come back for, and what has never come to anything.
pub fn sweep(store: &Store) {
    sweep_at(&dir(store), SystemTime::now());
}

fn sweep_at(dir: &Path, now: SystemTime) {
    remove(dir, |meta| {
        let age = meta.modified().ok().and_then(|then| now.duration_since(then).ok());
        meta.len() == 0 || age.is_some_and(|age| age >= STALE)
    });
}

/// How many there are, and their bytes.
#[must_use]
pub fn space(store: &Store) -> (usize, u64) {
    let files = std::fs::read_dir(dir(store)).into_iter().flatten().flatten();
    let sizes: Vec<u64> = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).collect();
    (sizes.len(), sizes.iter().sum())
}

/// Removes all that no pull is at work with; returns its bytes.
pub fn clear(store: &Store) -> u64 {
    remove(&dir(store), |_| true)
}

fn remove(dir: &Path, which: impl Fn(&std::fs::Metadata) -> bool) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(meta) = entry.metadata().ok().filter(&which) else { continue };
        let path = entry.path();
        // Who pulls holds it; another sweep may be faster.
        if let Ok(Some(_unused)) = Lock::try_exclusive(&path)
            && std::fs::remove_file(&path).is_ok()
        {
            bytes += meta.len();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&dir.path().join("root")), Some(&dir.path().join("run"))).unwrap();
        blobs::prepare(&store).unwrap();
        (dir, store)
    }

    #[test]
    fn a_beginning_is_kept_until_it_is_whole() {
        let (_dir, store) = store();
        let digest = Digest::of(b"whole");
        let mut first = Partial::open(&store, &digest, 5).unwrap().unwrap();
        assert_eq!(first.known, 0);
        first.file.write_all(b"who").unwrap();
        assert!(Partial::open(&store, &digest, 5).unwrap().is_none(), "one at a time");
        drop(first);
        let mut second = Partial::open(&store, &digest, 5).unwrap().unwrap();
        assert_eq!(second.known, 3);
        second.file.write_all(b"le").unwrap();
        second.publish(&store, &digest).unwrap();
        assert_eq!(blobs::read(&store, &digest).unwrap().unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir(&store)).unwrap().count(), 0);
    }

    #[test]
    fn more_than_the_blob_has_is_none_of_it() {
        let (_dir, store) = store();
        let digest = Digest::of(b"whole");
        Partial::open(&store, &digest, 5).unwrap().unwrap().file.write_all(b"too long").unwrap();
        assert_eq!(Partial::open(&store, &digest, 5).unwrap().unwrap().known, 0);
    }

    #[test]
    fn after_a_day_it_is_garbage() {
        let (_dir, store) = store();
        let (old, held) = (Digest::of(b"old"), Digest::of(b"held"));
        Partial::open(&store, &old, 9).unwrap().unwrap().file.write_all(b"x").unwrap();
        let mut at_work = Partial::open(&store, &held, 9).unwrap().unwrap();
        at_work.file.write_all(b"x").unwrap();
        let left = || std::fs::read_dir(dir(&store)).unwrap().count();
        sweep(&store);
        assert_eq!(left(), 2);
        sweep_at(&dir(&store), SystemTime::now() + STALE * 2);
        assert_eq!(left(), 1, "what somebody is at work on stays");
        drop(at_work);
        assert_eq!((clear(&store), left()), (1, 0));
    }
}
