//! Paths inside a container's root: resolved by the kernel, which keeps every link and every `..`
//! within, and what is made there where it is missing.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

pub use crate::sys::openat2::open_in_root as open;

/// Links that are followed at most, as the kernel counts them: path_resolution(7).
const LINKS: u32 = 40;

/// The folder `path`, made with its parents (root's, 0755) where it is missing.
///
/// # Errors
/// `ENOTDIR`: something else is there.
pub fn directory(root: BorrowedFd, path: &Path) -> nix::Result<OwnedFd> {
    match open(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
        Err(Errno::ENOENT) => {
            // Mostly it is only the last name that is missing.
            let parent = path.parent().map(|p| open(root, p, OFlag::O_PATH | OFlag::O_DIRECTORY));
            match (parent, path.file_name()) {
                (Some(Ok(parent)), Some(name)) => make_directory(parent.as_fd(), name),
                _ => Err(Errno::ENOENT),
            }
            // Or a link is in the way.
            .or_else(|_| Walk::new(root).to(path))
        }
        result => result,
    }
}

/// A new folder in `parent`.
///
/// # Errors
/// `EEXIST`: something is there.
pub fn make_directory(parent: BorrowedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    mkdirat(parent, name, Mode::from_bits_retain(0o755))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// What lies at `path` (any kind of file), made as an empty file where nothing does; where a link
/// leads to nothing, as an image's /etc/resolv.conf does, it is made there.
///
/// # Errors
/// `EISDIR`: a folder is there.
pub fn file(root: BorrowedFd, path: &Path) -> nix::Result<OwnedFd> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match open(root, &path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => {}
            Ok(found) if is(&found, SFlag::S_IFDIR)? => return Err(Errno::EISDIR),
            result => return result,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EISDIR) };
        let parent = directory(root, above)?;
        match make_file(parent.as_fd(), name) {
            Err(Errno::EEXIST) => match readlinkat(&parent, name) {
                Ok(to) => path = above.join(to),
                // Somebody made it, or took the link away: look again.
                Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(e) => return Err(e),
            },
            result => return result,
        }
    }
    Err(Errno::ELOOP)
}

/// An empty file in `parent`; its `O_PATH` descriptor.
pub fn make_file(parent: BorrowedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let make = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, make, Mode::from_bits_retain(0o644))
}

/// Whether `fd` names a file of this type.
pub fn is(fd: impl AsFd, kind: SFlag) -> nix::Result<bool> {
    Ok(file_type(&fstat(fd)?) == kind)
}

/// The type's bits.
pub fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT)
}

/// A walk from the root, one name at a time and never through a link or `..` of the kernel's, that
/// makes the folders that are missing: also those that a dangling link of an image names, such as
/// /var/run -> /run without a /run.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The folders from the root to here; the last is where we are.
    here: Vec<OwnedFd>,
    /// Links that may still be followed.
    links: u32,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, here: Vec::new(), links: LINKS }
    }

    fn to(mut self, path: &Path) -> nix::Result<OwnedFd> {
        let mut ahead = names(path);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                self.here.pop();
                continue;
            }
            let at = self.here.last().map_or(self.root, AsFd::as_fd);
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let next = match openat(at, name.as_os_str(), flags, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    match mkdirat(at, name.as_os_str(), Mode::from_bits_retain(0o755)) {
                        Err(Errno::EEXIST) | Ok(()) => {}
                        Err(e) => return Err(e),
                    }
                    openat(at, name.as_os_str(), flags, Mode::empty())?
                }
                result => result?,
            };
            match file_type(&fstat(&next)?) {
                SFlag::S_IFDIR => self.here.push(next),
                SFlag::S_IFLNK => {
                    self.links = self.links.checked_sub(1).ok_or(Errno::ELOOP)?;
                    let to = readlinkat(&next, "")?;
                    if to.as_bytes().starts_with(b"/") {
                        self.here.clear();
                    }
                    ahead.extend(names(Path::new(&to)));
                }
                _ => return Err(Errno::ENOTDIR),
            }
        }
        match self.here.pop() {
            Some(here) => Ok(here),
            None => open(self.root, Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY),
        }
    }
}

/// The path's names, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |c: Component| match c {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_the_image_lead_nowhere_else() {
        let outside = tempfile::tempdir().expect("a folder");
        let inside = tempfile::tempdir().expect("a folder");
        let root = std::fs::File::open(inside.path()).expect("open");
        symlink("/run", inside.path().join("dangling")).expect("link");
        symlink(outside.path(), inside.path().join("out")).expect("link");
        symlink("../../../../..", inside.path().join("up")).expect("link");
        symlink("loop", inside.path().join("loop")).expect("link");
        directory(root.as_fd(), Path::new("/dangling/a/b")).expect("made");
        assert!(inside.path().join("run/a/b").is_dir());
        symlink("../run/stub", inside.path().join("run/link")).expect("link");
        file(root.as_fd(), Path::new("/run/link")).expect("made");
        assert!(inside.path().join("run/stub").is_file());
        file(root.as_fd(), Path::new("/out/f")).expect("made");
        assert!(std::fs::read_dir(outside.path()).expect("there").next().is_none());
        directory(root.as_fd(), Path::new("/up/new/../other")).expect("made");
        assert!(inside.path().join("new").is_dir() && inside.path().join("other").is_dir());
        assert_eq!(directory(root.as_fd(), Path::new("/loop/x")).unwrap_err(), Errno::ELOOP);
        assert_eq!(file(root.as_fd(), Path::new("/run")).unwrap_err(), Errno::EISDIR);
        assert_eq!(directory(root.as_fd(), Path::new("/up")).map(drop), Ok(()));
    }
}
