//! Makes files from a layer's entries, below one folder that nobody else writes to.
//!
//! Every name is hostile. Parents are opened with openat2(2) so that the walk cannot leave the
//! folder, and everything else is done relative to the parent's descriptor, with one component
//! and without following a symbolic link.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens, makedev, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, geteuid, linkat, symlinkat, unlinkat};

use super::fill::{Fillers, Finish, SMALL};
use super::path::{self, Name};
use super::tar::{Entry, Kind, Reader, Time};
use crate::store::tree;
use crate::sys::openat2::open_in_root;
use crate::sys::xattr::Object;

/// Bytes of folder names that are remembered until the end: some hundred thousand folders.
const MAX_REMEMBERED: usize = 64 << 20;

/// What this process may do, and how overlay marks opaque folders for it.
#[derive(Debug, Clone, Copy)]
pub struct Powers {
    /// Owners can be kept: more than one id is mapped.
    pub owners: bool,
    /// Root of the machine: device nodes and `trusted.` attributes.
    pub host_root: bool,
}

impl Powers {
    /// Those of this process. Who is not root has no ranges either, though all ids be mapped: an
    /// ordinary user outside of any namespace.
    #[must_use]
    pub fn now() -> Self {
        Self { owners: geteuid().is_root() && crate::userns::has_ranges(), host_root: crate::userns::is_host_root() }
    }

    /// The attribute by which overlayfs knows an opaque folder; an ordinary user mounts it with
    /// `userxattr` (Documentation/filesystems/overlayfs.rst).
    #[must_use]
    pub fn opaque(self) -> CString {
        if self.host_root { c"trusted.overlay.opaque".into() } else { c"user.overlay.opaque".into() }
    }
}

/// What a layer came to.
#[derive(Debug, Default)]
pub struct Applied {
    /// Bytes of all files' contents.
    pub size: u64,
    /// Folders that the archive has not, but objects in them; the empty path is the root.
    pub implicit: BTreeSet<Vec<u8>>,
    /// The root is opaque: the layers below are hidden. Overlayfs has no mark for that.
    pub opaque: bool,
}

/// A layer being made.
#[derive(Debug)]
pub struct Applier {
    root: OwnedFd,
    powers: Powers,
    /// The last entry's parent, since the next one's is mostly the same.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// A folder passes its group on to what is made in it.
    setgid_seen: bool,
    /// Times are set at the end: every object made in a folder changes the folder's.
    folders: Vec<(Vec<u8>, Time, Option<Time>)>,
    remembered: usize,
    fillers: Fillers,
    applied: Applied,
}

impl Applier {
    /// Fills `dir`, which must be empty and private to this process.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn new(dir: &Path, powers: Powers) -> io::Result<Self> {
        let root: OwnedFd = File::open(dir)?.into();
        fchmod(&root, Mode::from_bits_truncate(0o755))?;
        let applied = Applied { implicit: BTreeSet::from([Vec::new()]), ..Applied::default() };
        let fillers = Fillers::start()?;
        Ok(Self {
            root,
            powers,
            parent: None,
            setgid_seen: false,
            folders: Vec::new(),
            remembered: 0,
            fillers,
            applied,
        })
    }

    /// Makes what `entry` says, its data read from `reader`.
    ///
    /// # Errors
    /// A name, link or whiteout that leads out or nowhere; what the system calls say, of this entry
    /// or of a file before it.
    pub fn add<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let what = || format!("unpack {:?}", OsStr::from_bytes(&entry.path));
        match self.make(entry, reader).with_context(what)? {
            Some((file, start, finish)) => self.fillers.file(file, start, finish),
            None => Ok(()),
        }
    }

    /// A file that still has to be filled or finished, with where its contents begin.
    fn make<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> io::Result<Option<(File, usize, Finish)>> {
        let path = path::clean(&entry.path)?;
        let (folder, last) = path::split(&path);
        if last.is_empty() {
            return self.root_entry(entry).map(|()| None);
        }
        match path::name(last)? {
            Name::Plain => {}
            Name::Opaque => return self.opaque_folder(folder).map(|()| None),
            Name::Whiteout(hidden) => return self.whiteout(folder, hidden).map(|()| None),
            Name::Ignored => return Ok(None),
        }
        self.open_parent(folder)?;
        if entry.kind == Kind::File {
            return self.file(&path, entry, reader).map(Some);
        }
        self.make_other(&path, entry).map(|()| None)
    }

    /// What is not a file.
    fn make_other(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let last = path::split(path).1;
        match entry.kind {
            Kind::File => Ok(()),
            Kind::Directory => self.folder(path, entry),
            Kind::HardLink => self.hard_link(path, entry),
            Kind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.replacing(path, |parent, name| symlinkat(target, parent, name))?;
                self.finish_node(last, entry)
            }
            Kind::Fifo => {
                self.replacing(path, |parent, name| mknodat(parent, name, SFlag::S_IFIFO, mode(entry), 0))?;
                self.finish_node(last, entry)
            }
            // A rootless user's container would not be allowed to use them; podman skips them too.
            Kind::CharDevice | Kind::BlockDevice if !self.powers.host_root => Ok(()),
            Kind::CharDevice | Kind::BlockDevice => {
                let kind = if entry.kind == Kind::CharDevice { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                let device = makedev(entry.device.0.into(), entry.device.1.into());
                self.replacing(path, |parent, name| mknodat(parent, name, kind, mode(entry), device))?;
                self.finish_node(last, entry)
            }
        }
    }

    /// Waits for the last files, and sets the folders' times.
    ///
    /// # Errors
    /// What the system calls say.
    pub fn finish(mut self) -> Result<Applied> {
        self.parent = None;
        self.fillers.wait_all()?;
        for (path, mtime, atime) in std::mem::take(&mut self.folders) {
            // A later entry may have put something else in its place.
            if let Ok(folder) = self.open(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW) {
                futimens(&folder, &spec(atime.unwrap_or(mtime)), &spec(mtime)).context("set the times of folders")?;
            }
        }
        Ok(self.applied)
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> io::Result<(File, usize, Finish)> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(self.replacing(path, |parent, name| openat(parent, name, flags, mode(entry)))?);
        let finish = Finish {
            path: entry.path.clone(),
            owner: self.owner(entry)?,
            mode: entry.mode,
            size: entry.size,
            atime: spec(entry.atime.unwrap_or(entry.mtime)),
            mtime: spec(entry.mtime),
        };
        self.applied.size = self.applied.size.saturating_add(entry.size);
        let start = self.fillers.data().len();
        if entry.size <= SMALL && !entry.is_sparse() && entry.xattrs.is_empty() {
            let data = self.fillers.data();
            let read = reader.data(entry, |_, bytes| {
                data.extend_from_slice(bytes);
                Ok(())
            });
            return read.map(|()| (file, start, finish));
        }
        let mut position = 0;
        reader.data(entry, |offset, bytes| {
            if offset != position {
                file.seek(SeekFrom::Start(offset))?;
            }
            file.write_all(bytes)?;
            position = offset + bytes.len() as u64;
            Ok(())
        })?;
        if position != entry.size {
            file.set_len(entry.size)?;
        }
        if !entry.xattrs.is_empty() {
            // chown(2) takes file capabilities away: the owner comes first.
            if let Some((uid, gid)) = finish.owner {
                fchown(&file, Some(uid), Some(gid)).map_err(|e| unmapped(e, uid, gid))?;
            }
            let (_, last) = path::split(path);
            Self::xattrs(&Object::at(self.parent_fd(), last)?, entry)?;
            return Ok((file, start, Finish { owner: None, ..finish }));
        }
        Ok((file, start, finish))
    }

    fn folder(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let (_, last) = path::split(path);
        let name = OsStr::from_bytes(last);
        match mkdirat(self.parent_fd(), name, mode(entry)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let there = self.stat(last)?;
                if !is(&there, SFlag::S_IFDIR) {
                    self.remove(path)?;
                    mkdirat(self.parent_fd(), name, mode(entry))?;
                    // The whiteout hid the folder of the layers below, and this one still does.
                    if is_whiteout(&there) {
                        self.mark_opaque(&Object::at(self.parent_fd(), last)?)?;
                    }
                }
            }
            Err(e) => return Err(e.into()),
        }
        if let Some((uid, gid)) = self.owner(entry)? {
            fchownat(self.parent_fd(), name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| unmapped(e, uid, gid))?;
        }
        // It is a folder, and nobody else is here to make it a link.
        fchmodat(self.parent_fd(), name, Mode::from_bits_truncate(entry.mode), FchmodatFlags::FollowSymlink)?;
        if !entry.xattrs.is_empty() {
            Self::xattrs(&Object::at(self.parent_fd(), last)?, entry)?;
        }
        self.explicit(path, entry)
    }

    fn root_entry(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.kind != Kind::Directory {
            return Err(invalid("the root of a layer must be a folder"));
        }
        if let Some((uid, gid)) = self.owner(entry)? {
            fchown(&self.root, Some(uid), Some(gid)).map_err(|e| unmapped(e, uid, gid))?;
        }
        fchmod(&self.root, Mode::from_bits_truncate(entry.mode))?;
        Self::xattrs(&Object::open(&self.root)?, entry)?;
        self.explicit(b"", entry)
    }

    /// Remembers a folder that the archive has.
    fn explicit(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        self.setgid_seen |= entry.mode & 0o2000 != 0;
        self.applied.implicit.remove(path);
        self.remember(path)?;
        self.folders.push((path.to_vec(), entry.mtime, entry.atime));
        Ok(())
    }

    fn remember(&mut self, path: &[u8]) -> io::Result<()> {
        self.remembered += path.len() + 64;
        if self.remembered > MAX_REMEMBERED { Err(invalid("the layer has too many folders")) } else { Ok(()) }
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> io::Result<()> {
        let target = path::clean(&entry.link)?;
        if target == path {
            return Ok(());
        }
        let (folder, name) = path::split(&target);
        let dangling = |e: Errno| {
            io::Error::new(io::Error::from(e).kind(), format!("link to {:?}: {e}", OsStr::from_bytes(&target)))
        };
        let from = self.open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY).map_err(dangling)?;
        // It must be there before what is in the way is removed, which may be the same object.
        fstatat(&from, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(dangling)?;
        self.replacing(path, |parent, last| linkat(&from, OsStr::from_bytes(name), parent, last, AtFlags::empty()))
            .map_err(|e| io::Error::new(e.kind(), format!("link to {:?}: {e}", OsStr::from_bytes(&target))))
    }

    fn whiteout(&mut self, folder: &[u8], hidden: &[u8]) -> io::Result<()> {
        self.open_parent(folder)?;
        let name = OsStr::from_bytes(hidden);
        match mknodat(self.parent_fd(), name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
            // A whiteout is about the layers below; what this layer has of that name stays, and a
            // folder is no longer merged with the one below.
            Err(Errno::EEXIST) if is(&self.stat(hidden)?, SFlag::S_IFDIR) => {
                self.mark_opaque(&Object::at(self.parent_fd(), hidden)?)
            }
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn opaque_folder(&mut self, folder: &[u8]) -> io::Result<()> {
        if folder.is_empty() {
            self.applied.opaque = true;
            return Ok(());
        }
        self.open_parent(folder)?;
        self.mark_opaque(&Object::at(self.parent_fd(), b".")?)
    }

    fn mark_opaque(&self, object: &Object) -> io::Result<()> {
        object.set(&self.powers.opaque(), b"y")
    }

    /// Owner, times, attributes of what is neither file nor folder.
    fn finish_node(&mut self, last: &[u8], entry: &Entry) -> io::Result<()> {
        let (parent, name) = (self.parent_fd(), OsStr::from_bytes(last));
        if let Some((uid, gid)) = self.owner(entry)? {
            fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| unmapped(e, uid, gid))?;
        }
        if entry.kind != Kind::Symlink && entry.mode & 0o7000 != 0 {
            fchmodat(parent, name, Mode::from_bits_truncate(entry.mode), FchmodatFlags::FollowSymlink)?;
        }
        if !entry.xattrs.is_empty() {
            Self::xattrs(&Object::at(parent, last)?, entry)?;
        }
        let (atime, mtime) = (spec(entry.atime.unwrap_or(entry.mtime)), spec(entry.mtime));
        utimensat(parent, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    /// The owner that must be set; `None` when a new object has it anyway, or cannot have it.
    fn owner(&self, entry: &Entry) -> io::Result<Option<(Uid, Gid)>> {
        // Who unpacks is uid 0 of this namespace, and so is what it makes.
        if !self.powers.owners
            || (entry.uid == 0 && entry.gid == 0 && !self.setgid_seen && entry.kind != Kind::Directory)
        {
            return Ok(None);
        }
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        match (id(entry.uid), id(entry.gid)) {
            (Some(uid), Some(gid)) => Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
            _ => Err(invalid("its owner's number is too large")),
        }
    }

    fn xattrs(object: &Object, entry: &Entry) -> io::Result<()> {
        for (name, value) in &entry.xattrs {
            // These would tell overlayfs to redirect or hide: instructions, not an image's data.
            if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                continue;
            }
            let name = CString::new(name.as_slice())?;
            match object.set(&name, value) {
                Ok(()) => {}
                // What this file system or this user cannot have: labels of SELinux, `trusted.`
                // without the machine's root. Docker leaves them out too.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {}
                Err(e) => return Err(io::Error::new(e.kind(), format!("attribute {name:?}: {e}"))),
            }
        }
        Ok(())
    }

    /// Runs `make` with the parent and the last component; what is in the way is removed.
    fn replacing<T>(&mut self, path: &[u8], make: impl Fn(BorrowedFd<'_>, &OsStr) -> nix::Result<T>) -> io::Result<T> {
        let name = OsStr::from_bytes(path::split(path).1);
        match make(self.parent_fd(), name) {
            Err(Errno::EEXIST) => {
                self.remove(path)?;
                Ok(make(self.parent_fd(), name)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes what an earlier entry of this layer made.
    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let last = path::split(path).1;
        match unlinkat(self.parent_fd(), OsStr::from_bytes(last), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => {
                let mut whole = format!("/proc/self/fd/{}/", self.parent_fd().as_raw_fd()).into_bytes();
                whole.extend_from_slice(last);
                tree::remove(Path::new(OsStr::from_bytes(&whole)))?;
                let below = [path, b"/"].concat();
                self.applied.implicit.retain(|p| p != path && !p.starts_with(&below));
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn stat(&self, last: &[u8]) -> nix::Result<FileStat> {
        fstatat(self.parent_fd(), OsStr::from_bytes(last), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn parent_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.parent.as_ref().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn open(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        open_in_root(&self.root, path, flags)
    }

    /// Makes `folder` the present parent, with what is missing on the way to it.
    fn open_parent(&mut self, folder: &[u8]) -> io::Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == folder) {
            return Ok(());
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let fd = match self.open(folder, flags) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_folders(folder)?,
            other => other?,
        };
        self.parent = Some((folder.to_vec(), fd));
        Ok(())
    }

    /// Makes the folders that the archive left out.
    fn make_folders(&mut self, folder: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mut fd = self.open(b"", flags)?;
        for path in path::ancestors(folder).chain([folder]) {
            fd = match self.open(path, flags) {
                Ok(next) => next,
                Err(e @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                    let name = OsStr::from_bytes(path::split(path).1);
                    let there = fstatat(&fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
                    let hidden = there.as_ref().is_ok_and(is_whiteout);
                    match there {
                        Err(Errno::ENOENT) => {}
                        Ok(_) if hidden => unlinkat(&fd, name, UnlinkatFlags::NoRemoveDir)?,
                        // A file, or a link to nothing, where the archive says there is a folder.
                        _ => {
                            return Err(io::Error::new(io::Error::from(e).kind(), format!("{name:?} is not a folder")));
                        }
                    }
                    mkdirat(&fd, name, Mode::from_bits_truncate(0o755))?;
                    if hidden {
                        self.mark_opaque(&Object::at(&fd, name.as_bytes())?)?;
                    }
                    self.remember(path)?;
                    self.applied.implicit.insert(path.to_vec());
                    self.open(path, flags)?
                }
                Err(e) => return Err(e.into()),
            };
        }
        Ok(fd)
    }
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode & 0o777)
}

fn spec((seconds, nanoseconds): Time) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds.into())
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// How overlayfs marks what is gone.
#[must_use]
pub fn is_whiteout(stat: &FileStat) -> bool {
    is(stat, SFlag::S_IFCHR) && stat.st_rdev == 0
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// chown(2) says `EINVAL` for an id that the user namespace does not have.
pub(super) fn unmapped(error: Errno, uid: Uid, gid: Gid) -> io::Error {
    if error == Errno::EINVAL {
        return io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "its owner {uid}:{gid} is beyond your subordinate ids; give the user more in /etc/subuid and /etc/subgid"
            ),
        );
    }
    error.into()
}
