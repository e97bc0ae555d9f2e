//! What a container changed in its files: its overlay's upper folder beside what lies below it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::container::create::MARK;
use crate::image::pack::layer::is_opaque;
use crate::image::pack::walk::{Enter, Node, is, names, walk};
use crate::image::unpack::apply::is_whiteout;
use crate::image::unpack::path::split;

/// Where ctr mounts something in every container, and its mark. The places are made in the container's root where
/// the image has none, and are not the container's doing: Docker has them in a layer of their own.
const PLACES: [&str; 8] = [MARK, "dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "run/secrets", "sys"];

/// The folders of these places that are made with them.
const PARENTS: [&str; 2] = ["etc", "run"];

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Changed,
    Deleted,
}

impl Change {
    /// As `diff` prints it.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// Paths in the order of a walk through the tree: their names, the outermost first.
type Changes = BTreeMap<Vec<Vec<u8>>, Change>;

/// A folder of both trees.
struct Pair {
    path: Vec<u8>,
    below: Option<OwnedFd>,
    /// What is below does not show through.
    opaque: bool,
}

/// All changes, `/etc/passwd` and so on, folders before what is in them. Of a folder that is gone,
/// and of one that is new in the place of something else, what was in it is not listed.
///
/// # Errors
/// Either tree cannot be read.
pub fn diff(upper: &OwnedFd, below: Option<&OwnedFd>) -> Result<Vec<(Change, Vec<u8>)>> {
    let hidden = hidden(upper, below)?;
    let mut changes = Changes::new();
    let mut pairs: Vec<Pair> = Vec::new();
    walk(upper.try_clone()?, |node| {
        if node.path.is_empty() {
            let below = below.map(OwnedFd::try_clone).transpose()?;
            pairs.push(Pair { path: Vec::new(), below, opaque: false });
            return Ok(Enter::Yes);
        }
        if hidden.contains(&node.path) {
            return Ok(Enter::No);
        }
        let (folder, name) = split(&node.path);
        while pairs.last().is_some_and(|pair| pair.path != folder) {
            pairs.pop();
        }
        let Some(parent) = pairs.last() else { return Ok(Enter::No) };
        let old = parent.below.as_ref().map(|below| child(below, name)).transpose()?.flatten();
        if is_whiteout(&node.stat) {
            if old.is_some() {
                note(&mut changes, &node.path, Change::Deleted);
            }
            return Ok(Enter::No);
        }
        let Some((old, stat)) = old else {
            note(&mut changes, &node.path, Change::Added);
            pairs.push(Pair { path: node.path.clone(), below: None, opaque: false });
            return Ok(Enter::Yes);
        };
        let differs = || format!("compare {:?}", OsStr::from_bytes(&node.path));
        if !same(node, &old, &stat).with_context(differs)? {
            note(&mut changes, &node.path, Change::Changed);
        }
        let both = is(&node.stat, SFlag::S_IFDIR) && is(&stat, SFlag::S_IFDIR);
        let opaque = both && (parent.opaque || is_opaque(&node.handle).with_context(differs)?);
        if opaque {
            let kept = listed(node.handle.as_fd())?;
            for gone in listed(old.as_fd())?.difference(&kept) {
                note(&mut changes, &[&node.path, gone.to_bytes()].join(&b'/'), Change::Deleted);
            }
        }
        pairs.push(Pair { path: node.path.clone(), below: both.then_some(old), opaque });
        Ok(Enter::Yes)
    })?;
    Ok(changes.into_iter().map(|(path, change)| (change, [b"/", path.join(&b'/').as_slice()].concat())).collect())
}

/// What the layer of these changes leaves out: the places that ctr made, and the folders in which
/// there is nothing else and which are as they were.
///
/// # Errors
/// Either tree cannot be read.
pub fn hidden(upper: &OwnedFd, below: Option<&OwnedFd>) -> Result<BTreeSet<Vec<u8>>> {
    let mut hidden = BTreeSet::new();
    for place in PLACES {
        let Some((made, stat)) = find(upper, place.as_bytes())? else { continue };
        let is_empty = match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
            SFlag::S_IFDIR => names(made.as_fd())?.is_empty(),
            SFlag::S_IFREG => stat.st_size == 0,
            _ => false,
        };
        let is_new = below.map(|below| find(below, place.as_bytes())).transpose()?.flatten().is_none();
        if is_empty && is_new {
            hidden.insert(place.as_bytes().to_vec());
        }
    }
    for folder in PARENTS {
        let Some((made, stat)) = find(upper, folder.as_bytes())? else { continue };
        if !is(&stat, SFlag::S_IFDIR) {
            continue;
        }
        let kept = names(made.as_fd())?;
        if kept.is_empty()
            || !kept.iter().all(|name| hidden.contains(&[folder.as_bytes(), b"/", name.to_bytes()].concat()))
        {
            continue;
        }
        let old = below.map(|below| find(below, folder.as_bytes())).transpose()?.flatten();
        let as_made = old.map_or((libc::S_IFDIR | 0o755, 0, 0), |(_, old)| (old.st_mode, old.st_uid, old.st_gid));
        if (stat.st_mode, stat.st_uid, stat.st_gid) == as_made {
            hidden.insert(folder.as_bytes().to_vec());
        }
    }
    Ok(hidden)
}

/// Notes a change, and that the folder changed in which something came or went.
fn note(changes: &mut Changes, path: &[u8], change: Change) {
    let words: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
    if let (_, [above @ .., _]) = (change, words.as_slice())
        && change != Change::Changed
        && !above.is_empty()
    {
        changes.entry(above.to_vec()).or_insert(Change::Changed);
    }
    changes.insert(words, change);
}

fn listed(folder: BorrowedFd<'_>) -> nix::Result<BTreeSet<CString>> {
    Ok(names(folder)?.into_iter().collect())
}

/// An object by a path of ordinary names.
fn find(tree: &OwnedFd, path: &[u8]) -> Result<Option<(OwnedFd, FileStat)>> {
    let mut at = tree.try_clone()?;
    let mut found = None;
    for name in path.split(|byte| *byte == b'/') {
        let Some((next, stat)) = child(&at, name)? else { return Ok(None) };
        at = next.try_clone()?;
        found = Some((next, stat));
    }
    Ok(found)
}

fn child(folder: &OwnedFd, name: &[u8]) -> Result<Option<(OwnedFd, FileStat)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(folder, OsStr::from_bytes(name), flags, Mode::empty()) {
        Ok(found) => {
            let stat = fstat(&found)?;
            // What a layer of the image took away is not there.
            Ok((!is_whiteout(&stat)).then_some((found, stat)))
        }
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether an object is as it was. One that was only opened for writing, or given the mode that it
/// had, is; of folders, what is in them does not count.
fn same(node: &Node, old: &OwnedFd, old_stat: &FileStat) -> Result<bool> {
    let key = |s: &FileStat| {
        let device = if s.st_mode & libc::S_IFMT == libc::S_IFCHR || s.st_mode & libc::S_IFMT == libc::S_IFBLK {
            s.st_rdev
        } else {
            0
        };
        (s.st_mode, s.st_uid, s.st_gid, device, s.st_mtime, s.st_mtime_nsec)
    };
    if key(&node.stat) != key(old_stat) {
        return Ok(false);
    }
    let old = Node { path: Vec::new(), handle: old.try_clone()?, stat: *old_stat };
    let (Some(new_entry), Some(old_entry)) = (node.entry(Vec::new())?, old.entry(Vec::new())?) else {
        return Ok(true);
    };
    if (&new_entry.link, &new_entry.xattrs, new_entry.size) != (&old_entry.link, &old_entry.xattrs, old_entry.size) {
        return Ok(false);
    }
    if is(&node.stat, SFlag::S_IFREG) { Ok(same_data(node.data()?, old.data()?)?) } else { Ok(true) }
}

fn same_data(mut one: File, mut other: File) -> std::io::Result<bool> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(1 << 18).read_to_end(&mut left)?;
        other.by_ref().take(1 << 18).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}
