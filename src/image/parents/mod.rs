//! Folders that a layer's archive leaves out although it has objects in them.
//!
//! Unpacked alone, such a layer has to make them up, and in an overlay the topmost layer's folder
//! decides the mode, owner, times and attributes that are seen. So an image with such layers gets
//! one more on top, of folders alone, that shows what the nearest layer below with a real entry
//! says. It is named after the chain of layers that it belongs to.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use crate::image::blobs::Temporary;
use crate::image::digest::{Digest, chain_id};
use crate::image::layers::{self, Name, Pinned};
use crate::image::unpack::Powers;
use crate::image::unpack::path::{ancestors, split};
use crate::store::{Lock, Store};
use crate::sys::openat2::open_beneath;
use crate::sys::xattr::Object;

/// The name below `layers/` of the folders' layer for a chain, bottom first.
#[must_use]
pub fn name(diffs: &[Digest]) -> Option<String> {
    chain_id(diffs).map(|chain| format!("{}-parents", chain.hex()))
}

/// Makes the layer of folders for these layers, bottom first, if they need one. It stays while the
/// lock is held.
///
/// # Errors
/// It cannot be made.
pub fn make(store: &Store, stack: &[&Pinned], powers: Powers) -> Result<Option<Lock>> {
    let diffs: Vec<Digest> = stack.iter().map(|layer| layer.diff.clone()).collect();
    let Some(name) = name(&diffs) else { return Ok(None) };
    // The bottom layer has nothing below it to ask.
    let candidates: BTreeSet<&[u8]> =
        stack.iter().skip(1).flat_map(|layer| layer.record.implicit.iter().map(Name::as_bytes)).collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let target = store.layers().join(&name);
    if let Some(lock) = pin(&target)? {
        return Ok(Some(lock));
    }
    let opened = stack.iter().rev().map(|layer| Layer::open(store, layer, powers));
    let stack = opened.collect::<io::Result<Vec<_>>>().context("open the image's layers")?;

    let mut wanted: BTreeMap<&[u8], Seen> = BTreeMap::new();
    for path in candidates {
        if let Some(seen) = look(&stack, path)?.filter(|seen| seen.corrected) {
            wanted.insert(path, seen);
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    // Being on top, this layer's folders are seen: so those on the way there must be right as well.
    let ways: BTreeSet<&[u8]> = wanted.keys().flat_map(|path| ancestors(path)).chain([b"".as_slice()]).collect();
    for path in ways {
        if let Some(seen) = look(&stack, path)? {
            wanted.entry(path).or_insert(seen);
        }
    }
    let temporary = layers::temporary(store)?;
    fill(&temporary, &stack, &wanted).with_context(|| format!("make {target:?}"))?;
    let lock = Lock::shared(temporary.path())?;
    match temporary.rename(&target) {
        // Somebody else made the same at the same time.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => pin(&target),
        other => other.with_context(|| format!("publish {target:?}")).map(|()| Some(lock)),
    }
}

fn pin(target: &Path) -> Result<Option<Lock>> {
    match Lock::shared(target) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("lock {target:?}")),
    }
}

/// One layer, opened.
struct Layer<'a> {
    root: OwnedFd,
    implicit: &'a BTreeSet<Name>,
    opaque: bool,
    powers: Powers,
}

/// A folder as the merged tree should show it. There can be more of them than a process may have
/// files open, or wants to keep in memory.
struct Seen {
    /// The layer that says so, counted from the topmost.
    layer: usize,
    /// The topmost layer made it up, and a layer below knows it.
    corrected: bool,
}

/// What a layer has at a path.
enum Found {
    Folder,
    /// Nothing, and what is below can be seen.
    Nothing,
    /// A whiteout, a file, or an opaque folder on the way: what is below cannot be seen.
    Hidden,
}

impl<'a> Layer<'a> {
    fn open(store: &Store, layer: &'a Pinned, powers: Powers) -> io::Result<Self> {
        let root: OwnedFd = File::open(layers::dir(store, &layer.diff))?.into();
        Ok(Self { root, implicit: &layer.record.implicit, opaque: layer.record.opaque, powers })
    }

    fn find(&self, path: &[u8]) -> Result<Found> {
        match self.folder(path) {
            Ok(_) => Ok(Found::Folder),
            Err(Errno::ENOENT) => Ok(if self.hides_below(path)? { Found::Hidden } else { Found::Nothing }),
            Err(Errno::ENOTDIR | Errno::ELOOP) => Ok(Found::Hidden),
            Err(e) => Err(e.into()),
        }
    }

    fn folder(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        open_beneath(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// Whether a folder on the way to `path`, or the root, hides the layers below.
    fn hides_below(&self, path: &[u8]) -> Result<bool> {
        if self.opaque {
            return Ok(true);
        }
        for path in ancestors(path).chain((!path.is_empty()).then_some(path)) {
            let Ok(folder) = self.folder(path) else { return Ok(false) };
            if Object::open(&folder)?.get(&self.powers.opaque())?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn made_up(&self, path: &[u8]) -> bool {
        let name = Name::from(path.to_vec());
        self.implicit.contains(&name)
    }
}

/// Looks for a folder in layers given topmost first; `None` when the merged tree has no such folder.
fn look(stack: &[Layer<'_>], path: &[u8]) -> Result<Option<Seen>> {
    let mut topmost = None;
    for (n, layer) in stack.iter().enumerate() {
        match layer.find(path)? {
            Found::Folder => {}
            Found::Nothing => continue,
            Found::Hidden => break,
        }
        if !layer.made_up(path) {
            return Ok(Some(Seen { layer: n, corrected: topmost.is_some() }));
        }
        topmost.get_or_insert(Seen { layer: n, corrected: false });
        if layer.hides_below(path)? {
            break;
        }
    }
    Ok(topmost)
}

fn fill(temporary: &Temporary, stack: &[Layer<'_>], folders: &BTreeMap<&[u8], Seen>) -> Result<()> {
    let root: OwnedFd = File::open(temporary.path())?.into();
    for path in folders.keys().filter(|path| !path.is_empty()) {
        let (parent, last) = split(path);
        let parent = if parent.is_empty() { b".".as_slice() } else { parent };
        let parent = open_beneath(&root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        mkdirat(&parent, OsStr::from_bytes(last), Mode::S_IRWXU)?;
    }
    // Innermost first, since what is made in a folder changes its times.
    for (path, seen) in folders.iter().rev() {
        let from = stack[seen.layer].folder(path)?;
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let to = open_beneath(&root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        copy(&from, &to).with_context(|| format!("folder {:?}", PathBuf::from(OsStr::from_bytes(path))))?;
    }
    Ok(())
}

/// Gives `folder` the attributes of one of a layer.
fn copy(source: &OwnedFd, folder: &OwnedFd) -> Result<()> {
    let stat = fstat(source)?;
    debug_assert!(SFlag::from_bits_truncate(stat.st_mode).contains(SFlag::S_IFDIR));
    fchown(folder, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(folder, Mode::from_bits_truncate(stat.st_mode & 0o7777))?;
    let (from, to) = (Object::open(source)?, Object::open(folder)?);
    for name in from.list()? {
        let bytes = name.to_bytes();
        // Overlay's own marks say something about the layer they are in.
        if bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.") {
            continue;
        }
        if let Some(value) = from.get(&name)? {
            match to.set(&name, &value) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {}
                other => other?,
            }
        }
    }
    let time = |seconds, nanoseconds| TimeSpec::new(seconds, nanoseconds);
    futimens(folder, &time(stat.st_atime, stat.st_atime_nsec), &time(stat.st_mtime, stat.st_mtime_nsec))?;
    Ok(())
}
