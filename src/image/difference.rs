//! `image diff`: what one image's files have differently than another's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};

use crate::container::files::diff::Change;
use crate::image::pack::walk::{Enter, is, walk};
use crate::sys::openat2::open_beneath;

/// What is remembered of an object.
struct Object {
    stat: FileStat,
    /// Of a symbolic link.
    target: Vec<u8>,
}

/// Changes from the tree `old` to the tree `new`: `/etc/passwd` and so on, folders before what is in them.
/// A folder in which something changed is changed itself; of one that is gone, what was in it is not
/// listed. Times alone are no change.
///
/// # Errors
/// Either tree cannot be read.
pub fn difference(old: &OwnedFd, new: &OwnedFd) -> Result<Vec<(Change, Vec<u8>)>> {
    let (before, after) = (objects(old)?, objects(new)?);
    let mut changes: BTreeMap<Vec<Vec<u8>>, Change> = BTreeMap::new();
    for (path, object) in &after {
        let change = match before.get(path) {
            None => Change::Added,
            Some(was) if differs(was, object) || content_differs(old, new, path, was, object)? => Change::Changed,
            Some(_) => continue,
        };
        changes.insert(path.clone(), change);
    }
    let gone: BTreeSet<&Vec<Vec<u8>>> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    for path in &gone {
        if path.len() < 2 || !gone.contains(&path[..path.len() - 1].to_vec()) {
            changes.insert((*path).clone(), Change::Deleted);
        }
    }
    let changed: Vec<Vec<Vec<u8>>> = changes.keys().cloned().collect();
    for path in changed {
        for n in 1..path.len() {
            changes.entry(path[..n].to_vec()).or_insert(Change::Changed);
        }
    }
    let whole = |path: Vec<Vec<u8>>| [b"/".as_slice(), &path.join(&b'/')].concat();
    Ok(changes.into_iter().map(|(path, change)| (change, whole(path))).collect())
}

/// All objects by the names on their way.
fn objects(root: &OwnedFd) -> Result<BTreeMap<Vec<Vec<u8>>, Object>> {
    let mut all = BTreeMap::new();
    walk(root.try_clone()?, |node| {
        if !node.path.is_empty() {
            let is_link = is(&node.stat, SFlag::S_IFLNK);
            let target =
                if is_link { nix::fcntl::readlinkat(&node.handle, "")?.into_encoded_bytes() } else { Vec::new() };
            let path = node.path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
            all.insert(path, Object { stat: node.stat, target });
        }
        Ok(Enter::Yes)
    })?;
    Ok(all)
}

fn differs(a: &Object, b: &Object) -> bool {
    let of = |stat: &FileStat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let size = |stat: &FileStat| if is(stat, SFlag::S_IFREG) { stat.st_size } else { 0 };
    of(&a.stat) != of(&b.stat) || size(&a.stat) != size(&b.stat) || a.target != b.target
}

/// Files of one size and one time are taken for the same, as make(1) and rsync(1) do.
fn content_differs(old: &OwnedFd, new: &OwnedFd, path: &[Vec<u8>], a: &Object, b: &Object) -> Result<bool> {
    let time = |stat: &FileStat| (stat.st_mtime, stat.st_mtime_nsec);
    if !is(&b.stat, SFlag::S_IFREG) || time(&a.stat) == time(&b.stat) {
        return Ok(false);
    }
    let path = path.join(&b'/');
    let open = |root: &OwnedFd| -> Result<BufReader<File>> {
        let file = open_beneath(root.as_fd(), path.as_slice(), OFlag::O_RDONLY);
        Ok(BufReader::new(File::from(file.with_context(|| format!("read {:?}", String::from_utf8_lossy(&path)))?)))
    };
    let (mut a, mut b) = (open(old)?, open(new)?);
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = fill(&mut a, &mut left)?;
        let m = fill(&mut b, &mut right)?;
        if left[..n] != right[..m] {
            return Ok(true);
        }
        if n == 0 {
            return Ok(false);
        }
    }
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
