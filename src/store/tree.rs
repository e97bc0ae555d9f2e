//! Removing a folder with all in it, whoever filled it: an image, a container, a process that died.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How many folders deep [`remove`] goes before it takes the rest to the top: each level costs a
/// descriptor, and a container can nest far more folders than a process may have descriptors.
const DEPTH: usize = 200;

/// Removes a file or a folder with all in it, following no symbolic link. Nothing there is fine, and so is
/// somebody who removes it at the same time.
///
/// # Errors
/// The first thing that could not be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match remove_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// [`remove`]; that the whole is gone is an error.
fn remove_all(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    let mut top = open(nix::fcntl::AT_FDCWD, &c_path(path)?)?;
    let mut moved = 0;
    loop {
        let before = moved;
        let handle = top.as_fd().try_clone_to_owned()?;
        empty(&mut top, handle.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
        top = open(nix::fcntl::AT_FDCWD, &c_path(path)?)?;
    }
    fs::remove_dir(path)
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn open(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<Dir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match Dir::openat(at, name, flags, Mode::empty()) {
        // A folder of one's own without permissions: give them.
        Err(Errno::EACCES) => {
            fchmodat(at, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            Dir::openat(at, name, flags, Mode::empty())
        }
        other => other,
    }
}

/// Empties a folder. What lies too deep is moved to `top` under a new name, for the next round.
fn empty(dir: &mut Dir, top: BorrowedFd<'_>, depth: usize, moved: &mut usize) -> io::Result<()> {
    let handle = dir.as_fd().try_clone_to_owned()?;
    let at = handle.as_fd();
    for entry in dir.iter() {
        let entry = match entry {
            // The folder itself is gone: getdents(2).
            Err(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_dir = match entry.file_type() {
            Some(kind) => kind == Type::Directory,
            None => match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                other => other?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits(),
            },
        };
        if !is_dir {
            unlinkat_writable(at, name, UnlinkatFlags::NoRemoveDir)?;
            continue;
        }
        // An empty one goes without being opened, whatever its permissions.
        match unlinkat_writable(at, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            other => {
                other?;
                continue;
            }
        }
        if depth >= DEPTH {
            // A layer or a container may have such names of its own: past those.
            loop {
                *moved += 1;
                let place = PathBuf::from(format!("moved-{moved}"));
                match renameat2(at, name, top, place.as_path(), RenameFlags::RENAME_NOREPLACE) {
                    Err(Errno::EEXIST) => {}
                    Err(Errno::ENOENT) => break,
                    done => break done?,
                }
            }
            continue;
        }
        let mut inner = match open(at, name) {
            Err(Errno::ENOENT) => continue,
            other => other?,
        };
        empty(&mut inner, top, depth + 1, moved)?;
        drop(inner);
        unlinkat_writable(at, name, UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Removes a name, giving its folder the permission to when that is all that is missing.
fn unlinkat_writable(at: BorrowedFd<'_>, name: &CStr, flag: UnlinkatFlags) -> nix::Result<()> {
    match unlinkat(at, name, flag) {
        Err(Errno::EACCES) => {
            nix::sys::stat::fchmod(at, Mode::S_IRWXU)?;
            unlinkat(at, name, flag)
        }
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::remove;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn several_who_remove_it_do_not_meet() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        for _ in 0..20 {
            for n in 0..40 {
                std::fs::create_dir_all(root.join(format!("{n}/a/b"))).unwrap();
                std::fs::write(root.join(format!("{n}/a/file")), "x").unwrap();
            }
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(|| remove(&root))).collect();
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
            assert!(!root.exists());
        }
    }

    #[test]
    fn a_tree_is_removed_and_nothing_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        std::fs::write(&outside, "x").unwrap();
        let root = home.path().join("root");
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        std::fs::write(root.join("a/file"), "x").unwrap();
        symlink(&outside, root.join("a/link")).unwrap();
        symlink(home.path(), root.join("a/b/dir")).unwrap();
        std::fs::set_permissions(root.join("a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
        remove(&root).unwrap();
        assert!(!root.exists() && outside.exists());
        remove(&root).unwrap();
    }

    #[test]
    fn deeper_than_there_are_descriptors() {
        use nix::fcntl::{OFlag, openat};
        use nix::sys::stat::{Mode, mkdirat};
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        std::fs::create_dir(&root).unwrap();
        // Names that the removal itself would use.
        for n in 1..20 {
            std::fs::write(root.join(format!("moved-{n}")), "").unwrap();
        }
        let mut at: std::os::fd::OwnedFd = std::fs::File::open(&root).unwrap().into();
        for _ in 0..3000 {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        }
        remove(&root).unwrap();
        assert!(!root.exists());
    }
}
