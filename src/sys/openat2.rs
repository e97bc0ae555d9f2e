//! Opening paths that a stranger chose: an image, a container, an archive. openat2(2) keeps the
//! whole walk below a directory inside the kernel, where no race and no symbolic link gets out.

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Opens `path` as a process sees it whose root is `root`: symbolic links are followed, absolute
/// ones and `..` end at `root`. For paths that a container would resolve itself.
///
/// # Errors
/// As openat2(2).
pub fn open_in_root<P: NixPath + ?Sized>(root: impl AsFd, path: &P, flags: OFlag) -> nix::Result<OwnedFd> {
    open(root, path, flags, ResolveFlag::RESOLVE_IN_ROOT)
}

/// Opens `path` below `root`, and fails with `ELOOP` where a component is a symbolic link, with
/// `EXDEV` where the path is absolute or leaves `root`.
///
/// # Errors
/// As openat2(2).
pub fn open_beneath<P: NixPath + ?Sized>(root: impl AsFd, path: &P, flags: OFlag) -> nix::Result<OwnedFd> {
    open(root, path, flags, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn open<P: NixPath + ?Sized>(root: impl AsFd, path: &P, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(&root, path, how) {
            // A rename somewhere on the machine while `..` was walked: openat2(2) says try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = std::fs::File::open(dir.path()).expect("root");
        symlink("/etc", dir.path().join("abs")).expect("symlink");
        symlink("../../../../../../etc", dir.path().join("rel")).expect("symlink");
        for path in ["abs/passwd", "rel/passwd", "../../../../../../../etc/passwd", "/etc/passwd"] {
            assert_eq!(open_in_root(&root, path, OFlag::O_RDONLY).err(), Some(Errno::ENOENT), "{path}");
        }
        assert_eq!(open_beneath(&root, "abs/passwd", OFlag::O_RDONLY).err(), Some(Errno::ELOOP));
        assert_eq!(open_beneath(&root, "../x", OFlag::O_RDONLY).err(), Some(Errno::EXDEV));
        std::fs::create_dir_all(dir.path().join("etc")).expect("mkdir");
        assert!(open_in_root(&root, "abs", OFlag::O_DIRECTORY).is_ok(), "the link ends inside");
    }
}
