//! Goes through a tree that others may change at the same time, a container's processes among them.
//!
//! Each object is opened once, by its name below its folder's descriptor, without following a link
//! and without opening what opening does something to (`O_PATH`), and all that is said of it is said
//! of that descriptor. So nothing outside of the tree is ever reached, and an object that is
//! replaced in between is either the old one or the new one. What has gone is left out.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};

use crate::image::unpack::tar::{Entry, Kind};
use crate::sys::xattr::Object;

/// An object of the tree.
#[derive(Debug)]
pub struct Node {
    /// From where the walk began, without a slash in front or behind; empty: there.
    pub path: Vec<u8>,
    /// Opened with `O_PATH`.
    pub handle: OwnedFd,
    pub stat: FileStat,
}

/// Whether the walk goes on into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    Yes,
    No,
}

/// A folder that the walk is in.
struct Level {
    handle: OwnedFd,
    names: std::vec::IntoIter<CString>,
    /// Of its path.
    length: usize,
}

/// Calls `visit` for `top` and all below it, folders before what is in them, names in the order of
/// their bytes.
///
/// # Errors
/// An object cannot be opened or read, and what `visit` returns.
pub fn walk(top: OwnedFd, mut visit: impl FnMut(&Node) -> Result<Enter>) -> Result<()> {
    // A descriptor for each level: a container can nest deeper than programs usually have.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let stat = fstat(&top)?;
    let top = Node { path: Vec::new(), handle: top, stat };
    let mut levels = Vec::new();
    if visit(&top)? == Enter::Yes && is(&top.stat, SFlag::S_IFDIR) {
        levels.extend(level(top).context("read the folder")?);
    }
    let mut path = Vec::new();
    while let Some(here) = levels.last_mut() {
        let Some(name) = here.names.next() else {
            levels.pop();
            continue;
        };
        path.truncate(here.length);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let at = || format!("read {:?}", OsStr::from_bytes(&path));
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = match openat(&here.handle, name.as_c_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => continue,
            other => other.with_context(at)?,
        };
        let stat = fstat(&handle).with_context(at)?;
        let node = Node { path: path.clone(), handle, stat };
        if visit(&node)? == Enter::Yes && is(&stat, SFlag::S_IFDIR) {
            levels.extend(level(node).with_context(at)?);
        }
    }
    Ok(())
}

/// Reads a folder's names; `None`: it has gone.
fn level(node: Node) -> io::Result<Option<Level>> {
    let names = match names(node.handle.as_fd()) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    Ok(Some(Level { handle: node.handle, names: names.into_iter(), length: node.path.len() }))
}

/// The names in a folder, sorted.
///
/// # Errors
/// As open(2) and getdents(2).
pub fn names(folder: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let mut dir = Dir::openat(folder, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    // A folder that is changed while it is read can show a name twice.
    names.dedup();
    Ok(names)
}

/// Whether an object is of this type.
#[must_use]
pub fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) == kind
}

impl Node {
    /// What an archive says of it, under the name `path`; `None`: it is a socket, which archives do
    /// not have.
    ///
    /// # Errors
    /// Its attributes or its target cannot be read.
    pub fn entry(&self, path: Vec<u8>) -> io::Result<Option<Entry>> {
        let kind = match SFlag::from_bits_truncate(self.stat.st_mode & libc::S_IFMT) {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Symlink,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFCHR => Kind::CharDevice,
            SFlag::S_IFBLK => Kind::BlockDevice,
            _ => return Ok(None),
        };
        let mut entry = Entry::new(kind, path);
        entry.mode = self.stat.st_mode & 0o7777;
        (entry.uid, entry.gid) = (self.stat.st_uid.into(), self.stat.st_gid.into());
        entry.mtime = (self.stat.st_mtime, 0);
        match kind {
            Kind::File => entry.size = u64::try_from(self.stat.st_size).unwrap_or(0),
            Kind::Symlink => entry.link = readlinkat(&self.handle, "")?.into_vec(),
            Kind::CharDevice | Kind::BlockDevice => {
                let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                entry.device = (number(major(self.stat.st_rdev)), number(minor(self.stat.st_rdev)));
            }
            _ => {}
        }
        entry.xattrs = xattrs(&self.handle)?;
        Ok(Some(entry))
    }

    /// Opens a regular file's data: the very file that was looked at.
    ///
    /// # Errors
    /// As open(2).
    pub fn data(&self) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        Ok(File::from(open(path.as_str(), flags, Mode::empty())?))
    }
}

/// The attributes that are an object's own wherever it is: not labels, and not overlay's marks.
fn xattrs(handle: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let object = Object::opened(handle.as_fd())?;
    let names = match object.list() {
        // Not every file system has them.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM | libc::EACCES | libc::ENOENT)) => {
            return Ok(Vec::new());
        }
        other => other?,
    };
    let mut kept = Vec::new();
    for name in names {
        let bytes = name.to_bytes();
        let goes = bytes == b"security.capability"
            || bytes.starts_with(b"system.posix_acl_")
            || (bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay."));
        if !goes {
            continue;
        }
        match object.get(&name) {
            Ok(Some(value)) => kept.push((bytes.to_vec(), value)),
            Ok(None) => {}
            // What this user may see the name of and not the value.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EOVERFLOW)) => {}
            Err(e) => return Err(e),
        }
    }
    kept.sort();
    Ok(kept)
}

/// Files with several names: the first one met is the file, the others are links to it.
#[derive(Debug, Default)]
pub struct Links(HashMap<(u64, u64), Vec<u8>>);

impl Links {
    /// Turns `entry` into a link where its file was met already.
    pub fn note(&mut self, stat: &FileStat, entry: &mut Entry) {
        if stat.st_nlink < 2 || entry.kind == Kind::Directory {
            return;
        }
        match self.0.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) => {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.size = 0;
                entry.xattrs.clear();
            }
            None => {
                self.0.insert((stat.st_dev, stat.st_ino), entry.path.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_met_and_not_followed() {
        let home = tempfile::tempdir().expect("a folder");
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("d")).expect("made");
        std::fs::write(at("d/f"), "data").expect("made");
        std::fs::hard_link(at("d/f"), at("z")).expect("made");
        symlink("/etc", at("l")).expect("made");
        nix::unistd::mkfifo(&at("p"), Mode::S_IRWXU).expect("made");
        std::os::unix::net::UnixListener::bind(at("s")).expect("made");
        let (mut links, mut seen) = (Links::default(), Vec::new());
        walk(File::open(home.path()).expect("open").into(), |node| {
            if let Some(mut entry) = node.entry(node.path.clone())? {
                links.note(&node.stat, &mut entry);
                seen.push((String::from_utf8(entry.path)?, entry.kind, String::from_utf8(entry.link)?));
            }
            Ok(Enter::Yes)
        })
        .expect("walked");
        let expected = [
            ("", Kind::Directory, ""),
            ("d", Kind::Directory, ""),
            ("d/f", Kind::File, ""),
            ("l", Kind::Symlink, "/etc"),
            ("p", Kind::Fifo, ""),
            ("z", Kind::HardLink, "d/f"),
        ];
        assert_eq!(seen, expected.map(|(path, kind, link)| (path.to_owned(), kind, link.to_owned())));
    }

    #[test]
    fn deeper_than_a_path_can_be() {
        let home = tempfile::tempdir().expect("a folder");
        let mut at: OwnedFd = File::open(home.path()).expect("open").into();
        let name = "d".repeat(100);
        for _ in 0..1500 {
            nix::sys::stat::mkdirat(&at, name.as_str(), Mode::S_IRWXU).expect("made");
            at = openat(&at, name.as_str(), OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).expect("open");
        }
        let mut longest = 0;
        walk(File::open(home.path()).expect("open").into(), |node| {
            longest = longest.max(node.path.len());
            Ok(Enter::Yes)
        })
        .expect("walked");
        assert_eq!(longest, 1500 * 101 - 1);
        crate::store::tree::remove(home.path()).expect("removed");
    }
}
