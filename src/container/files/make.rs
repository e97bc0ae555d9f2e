//! Makes what is copied, below one folder in which others may be at work: a container's processes,
//! which may put links in the place of anything at any moment, or the user's own.
//!
//! A name is made with calls that fail where it exists, and what was made is opened once and worked
//! on by its descriptor. Folders on the way are opened without following links, as Docker refuses to
//! put anything behind a link in the tree that it copies to.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::data::{self, Data};
use super::tree::Owners;
use crate::error::Failure;
use crate::image::pack::tar;
use crate::image::pack::walk::is;
use crate::image::unpack::Powers;
use crate::image::unpack::path::{ancestors, clean, split};
use crate::image::unpack::tar::{Entry, Kind};
use crate::sys::openat2::open_beneath;
use crate::sys::xattr::Object;

/// How often a name that others make again and again is cleared.
const ATTEMPTS: u32 = 20;

const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Of who makes them.
    Maker,
    /// The container's root.
    Root,
    /// Of those whose the originals are.
    Original,
}

/// A tree being made.
pub struct Maker<'a> {
    top: OwnedFd,
    /// What messages call `top`.
    shown: Vec<u8>,
    owner: Owner,
    owners: Owners,
    powers: Powers,
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Set at the end: whatever is made in a folder changes its time.
    times: Vec<(Vec<u8>, i64)>,
    /// Told of bytes, as an archive would count them.
    told: &'a mut dyn FnMut(u64),
}

impl<'a> Maker<'a> {
    pub fn new(top: OwnedFd, shown: Vec<u8>, owner: Owner, told: &'a mut dyn FnMut(u64)) -> Self {
        let owners = Owners::default();
        Self { top, shown, owner, owners, powers: Powers::now(), parent: None, times: Vec::new(), told }
    }

    /// Owners are those of a container.
    #[must_use]
    pub fn of(self, owners: &Owners) -> Self {
        Self { owners: owners.clone(), ..self }
    }

    /// Makes what `entry` says. The folder itself (`.`) stays as it is.
    ///
    /// # Errors
    /// A name that leads out; a folder in the place of something else, or the other way round; what
    /// the system calls say.
    pub fn put(&mut self, entry: &Entry, data: Data<'_>) -> Result<()> {
        let path = match data {
            Data::Archive(_) => clean(&entry.path).ok(),
            _ => within(&entry.path),
        };
        let Some(path) = path else {
            bail!("{:?} is outside of {:?}", OsStr::from_bytes(&entry.path), OsStr::from_bytes(&self.shown));
        };
        (self.told)(tar::overhead(entry));
        if path.is_empty() {
            return Ok(());
        }
        let done = self.make(&path, entry, data);
        done.with_context(|| format!("copy to {}", self.name(&path)))
    }

    fn make(&mut self, path: &[u8], entry: &Entry, data: Data<'_>) -> Result<()> {
        let (folder, last) = split(path);
        self.open_parent(folder)?;
        let name = OsStr::from_bytes(last);
        match entry.kind {
            Kind::Directory => self.folder(path, name, entry),
            Kind::File => self.file(path, name, entry, data),
            Kind::HardLink => self.hard_link(path, name, entry),
            Kind::Symlink => {
                self.replacing(path, name, |at| symlinkat(OsStr::from_bytes(&entry.link), at, name))?;
                self.finish_node(name, SFlag::S_IFLNK, entry)
            }
            Kind::Fifo => {
                self.replacing(path, name, |at| mknodat(at, name, SFlag::S_IFIFO, Mode::S_IRUSR, 0))?;
                self.finish_node(name, SFlag::S_IFIFO, entry)
            }
            // In a user namespace nobody can make them; Docker leaves them out there too.
            Kind::CharDevice | Kind::BlockDevice if !self.powers.host_root => Ok(()),
            Kind::CharDevice | Kind::BlockDevice => {
                let kind = if entry.kind == Kind::CharDevice { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                let device = makedev(entry.device.0.into(), entry.device.1.into());
                self.replacing(path, name, |at| mknodat(at, name, kind, Mode::empty(), device))?;
                self.finish_node(name, kind, entry)
            }
        }
    }

    /// Sets the folders' times.
    ///
    /// # Errors
    /// What the system calls say; a folder that has gone is none.
    pub fn finish(mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.times) {
            if let Ok(folder) = open_beneath(&self.top, path.as_slice(), FOLDER) {
                set_time(folder.as_fd(), time).with_context(|| format!("set the time of {}", self.name(&path)))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8], name: &OsStr, entry: &Entry, data: Data<'_>) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        let made = self.replacing(path, name, |at| openat(at, name, flags, private));
        let (mut file, is_new) = match made {
            Ok(file) => (File::from(file), true),
            // A file that something is mounted on, /etc/hosts of a container: it cannot be replaced,
            // and what it says is what is wanted.
            Err(e) if e.downcast_ref() == Some(&Errno::EBUSY) => (open_in_place(self.parent_fd(), name)?, false),
            Err(e) => return Err(e),
        };
        match data {
            Data::None => {}
            Data::File(from) => data::copy(from, &mut file, entry.size, self.told)?,
            Data::Archive(archive) => archive.write_to(entry, &mut file, self.told)?,
        }
        if !is_new {
            return Ok(());
        }
        // Owner first: chown(2) takes setuid, setgid and capabilities away, as does writing.
        self.own(file.as_fd(), entry)?;
        chmod(file.as_fd(), entry.mode)?;
        xattrs(file.as_fd(), entry)?;
        Ok(set_time(file.as_fd(), entry.mtime.0)?)
    }

    fn folder(&mut self, path: &[u8], name: &OsStr, entry: &Entry) -> Result<()> {
        let folder = loop {
            match mkdirat(self.parent_fd(), name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e.into()),
            }
            match openat(self.parent_fd(), name, FOLDER, Mode::empty()) {
                Err(Errno::ENOENT) => {}
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(self.conflict("non-directory", path, "directory")),
                other => break other?,
            }
        };
        self.own(folder.as_fd(), entry)?;
        chmod(folder.as_fd(), entry.mode)?;
        xattrs(folder.as_fd(), entry)?;
        self.times.push((path.to_vec(), entry.mtime.0));
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], name: &OsStr, entry: &Entry) -> Result<()> {
        let Ok(target) = clean(&entry.link) else {
            bail!("invalid hardlink {:?} -> {:?}", self.name(path), OsStr::from_bytes(&entry.link));
        };
        if target == path {
            return Ok(());
        }
        let (folder, last) = split(&target);
        let last = OsStr::from_bytes(last);
        let dangling = || format!("link to {}", self.name(&target));
        let from = open_beneath(&self.top, folder, FOLDER).with_context(dangling)?;
        // It must be there before what is in the way is removed, which may be the same object.
        fstatat(&from, last, AtFlags::AT_SYMLINK_NOFOLLOW).with_context(dangling)?;
        self.replacing(path, name, |at| linkat(&from, last, at, name, AtFlags::empty()))
    }

    /// Opens what was just made, if it still is that, and gives it owner, mode, attributes and time.
    fn finish_node(&self, name: &OsStr, kind: SFlag, entry: &Entry) -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let node = match openat(self.parent_fd(), name, flags, Mode::empty()) {
            // Somebody else removed it: so it is gone.
            Err(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        if !is(&fstat(&node)?, kind) {
            return Ok(());
        }
        self.own(node.as_fd(), entry)?;
        if kind != SFlag::S_IFLNK {
            chmod(node.as_fd(), entry.mode)?;
        }
        xattrs(node.as_fd(), entry)?;
        Ok(set_time(node.as_fd(), entry.mtime.0)?)
    }

    fn own(&self, object: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let (uid, gid) = match self.owner {
            Owner::Maker => return Ok(()),
            _ if !self.powers.owners => return Ok(()),
            Owner::Root => (0, 0),
            Owner::Original => (entry.uid, entry.gid),
        };
        let beyond = || {
            Failure::new(format!("its owner {uid}:{gid} is beyond your subordinate ids"))
                .hint("give the user more of them in /etc/subuid and /etc/subgid")
        };
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (outer_uid, outer_gid) = self.owners.outward(uid, gid).ok_or_else(beyond)?;
        let (Some(user), Some(group)) = (id(outer_uid), id(outer_gid)) else {
            bail!("its owner's number is too large")
        };
        match fchownat(object, "", Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH) {
            Err(Errno::EINVAL) => Err(beyond().into()),
            other => Ok(other?),
        }
    }

    /// Runs `make` with the parent; what is in the way is removed, if it is not a folder.
    fn replacing<T>(
        &mut self,
        path: &[u8],
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Result<T> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            match make(self.parent_fd()) {
                Err(Errno::EEXIST) if attempts.next().is_some() => {}
                other => return Ok(other?),
            }
            match unlinkat(self.parent_fd(), name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR) => return Err(self.conflict("directory", path, "non-directory")),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Docker's words.
    fn conflict(&self, old: &str, path: &[u8], new: &str) -> anyhow::Error {
        let top = OsStr::from_bytes(&self.shown);
        Failure::new(format!("cannot overwrite {old} {} with {new} {top:?}", self.name(path))).into()
    }

    fn name(&self, path: &[u8]) -> String {
        let top = self.shown.strip_suffix(b"/").unwrap_or(&self.shown);
        format!("{:?}", OsStr::from_bytes(&[top, path].join(&b'/')))
    }

    fn parent_fd(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().map_or(self.top.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// Makes `folder` the present parent, with what is missing on the way to it.
    fn open_parent(&mut self, folder: &[u8]) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == folder) {
            return Ok(());
        }
        if folder.is_empty() {
            self.parent = None;
            return Ok(());
        }
        // Mostly one deeper than the last.
        let (above, name) = split(folder);
        if let Some((path, fd)) = &self.parent
            && path == above
            && let Ok(fd) = openat(fd, OsStr::from_bytes(name), FOLDER, Mode::empty())
        {
            self.parent = Some((folder.to_vec(), fd));
            return Ok(());
        }
        let fd = match open_beneath(&self.top, folder, FOLDER) {
            Err(Errno::ENOENT) => self.make_folders(folder)?,
            Err(Errno::ENAMETOOLONG) => self.descend(folder)?,
            other => other.with_context(|| format!("open {}", self.name(folder)))?,
        };
        self.parent = Some((folder.to_vec(), fd));
        Ok(())
    }

    /// A folder whose path is longer than system calls take.
    fn descend(&self, folder: &[u8]) -> nix::Result<OwnedFd> {
        let mut at = open_beneath(&self.top, ".", FOLDER)?;
        for name in folder.split(|byte| *byte == b'/') {
            at = openat(&at, OsStr::from_bytes(name), FOLDER, Mode::empty())?;
        }
        Ok(at)
    }

    /// Makes the folders that an archive left out.
    fn make_folders(&self, folder: &[u8]) -> Result<OwnedFd> {
        let mut at = open_beneath(&self.top, ".", FOLDER)?;
        for path in ancestors(folder).chain([folder]) {
            let name = OsStr::from_bytes(split(path).1);
            match mkdirat(&at, name, Mode::from_bits_truncate(0o755)) {
                Err(Errno::EEXIST) => at = openat(&at, name, FOLDER, Mode::empty())?,
                other => {
                    other?;
                    at = openat(&at, name, FOLDER, Mode::empty())?;
                    if self.owner != Owner::Maker {
                        self.own(at.as_fd(), &Entry::new(Kind::Directory, Vec::new()))?;
                    }
                }
            }
        }
        Ok(at)
    }
}

/// The path of a walk, which is clean and may be longer than system calls take, without the `.` that
/// it may begin with.
fn within(path: &[u8]) -> Option<Vec<u8>> {
    if path == b"." {
        return Some(Vec::new());
    }
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let is_clean = path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    is_clean.then(|| path.to_vec())
}

fn open_in_place(parent: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty())?;
    if !is(&fstat(&file)?, SFlag::S_IFREG) {
        return Err(Errno::EBUSY.into());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    Ok(File::from(open(through(file.as_fd()).as_str(), flags, Mode::empty())?))
}

/// A path that leads to exactly what `fd` names.
fn through(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Descriptors opened with `O_PATH` have no fchmod(2); their names in /proc do.
fn chmod(fd: BorrowedFd<'_>, mode: u32) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    fchmodat(AT_FDCWD, through(fd).as_str(), mode, FchmodatFlags::FollowSymlink)
}

fn set_time(fd: BorrowedFd<'_>, seconds: i64) -> nix::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    utimensat(AT_FDCWD, through(fd).as_str(), &time, &time, UtimensatFlags::FollowSymlink)
}

fn xattrs(fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    if entry.xattrs.is_empty() {
        return Ok(());
    }
    let object = Object::opened(fd)?;
    for (name, value) in &entry.xattrs {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let name = CString::new(name.as_slice())?;
        match object.set(&name, value) {
            // What this place or this user cannot have; Docker leaves them out too.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM | libc::EINVAL)) => {}
            other => other.with_context(|| format!("attribute {name:?}"))?,
        }
    }
    Ok(())
}

/// Whether two descriptors are on the same mount, as /proc says: proc_pid_fdinfo(5).
#[must_use]
pub fn same_mount(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let mount = |fd: BorrowedFd<'_>| {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix("mnt_id:")?.trim().to_owned()))
    };
    mount(one) == mount(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn maker<'a>(dir: &Path, told: &'a mut dyn FnMut(u64)) -> Maker<'a> {
        let top = File::open(dir).expect("open").into();
        Maker::new(top, b"/dst".to_vec(), Owner::Maker, told)
    }

    fn put(dir: &Path, entry: &Entry) -> Result<(), String> {
        maker(dir, &mut |_| {}).put(entry, Data::None).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn nothing_is_made_behind_a_link() {
        let outside = tempfile::tempdir().expect("a folder");
        let inside = tempfile::tempdir().expect("a folder");
        symlink(outside.path(), inside.path().join("out")).expect("link");
        let made = put(inside.path(), &Entry::new(Kind::File, b"out/f".to_vec()));
        assert!(made.is_err_and(|e| e.contains("\"/dst/out\"")));
        let made = put(inside.path(), &Entry::new(Kind::Directory, b"out".to_vec()));
        assert!(made.is_err_and(|e| e.contains("cannot overwrite non-directory \"/dst/out\" with directory \"/dst\"")));
        let made = put(inside.path(), &Entry::new(Kind::File, b"a/../../f".to_vec()));
        assert_eq!(made.unwrap_err(), "\"a/../../f\" is outside of \"/dst\"");
        let mut link = Entry::new(Kind::HardLink, b"l".to_vec());
        link.link = b"out/x".to_vec();
        assert!(put(inside.path(), &link).is_err());
        // A link is replaced, and what it led to stays.
        std::fs::write(outside.path().join("kept"), "kept").expect("write");
        symlink(outside.path().join("kept"), inside.path().join("f")).expect("link");
        let mut file = Entry::new(Kind::File, b"f".to_vec());
        file.mode = 0o640;
        put(inside.path(), &file).expect("made");
        assert_eq!(std::fs::read(inside.path().join("f")).expect("read"), b"");
        assert_eq!(std::fs::read(outside.path().join("kept")).expect("read"), b"kept");
        assert_eq!(std::fs::read_dir(outside.path()).expect("read").count(), 1);
    }
}
