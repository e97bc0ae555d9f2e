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

/// How often a walk is begun anew.
const ATTEMPTS: u32 = 1000;

/// An empty path is `root` itself. No magic link of /proc is followed: whoever chose the path could
/// be led by it to a file that ctr has open.
fn open<P: NixPath + ?Sized>(root: impl AsFd, path: &P, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut attempts = 1..ATTEMPTS;
    loop {
        let opened = if path.is_empty() { openat2(&root, c".", how) } else { openat2(&root, path, how) };
        match opened {
            // A rename or a mount anywhere on the machine while `..` was walked: openat2(2) says try
            // again. `O_NONBLOCK` makes no difference to that; where it is what made the file itself
            // say so, the last answer is the same. Bounded: a container can rename for ever.
            Err(Errno::EAGAIN | Errno::EINTR) if attempts.next().is_some() => std::thread::yield_now(),
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

    #[test]
    fn the_empty_path_is_the_root() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = std::fs::File::open(dir.path()).expect("root");
        let itself = open_in_root(&root, "", OFlag::O_PATH | OFlag::O_DIRECTORY).expect("the root");
        let inode = |fd| nix::sys::stat::fstat(fd).expect("stat").st_ino;
        assert_eq!(inode(itself.as_fd()), inode(root.as_fd()));
    }

    #[test]
    fn magic_links_are_not_followed() {
        let proc = std::fs::File::open("/proc").expect("proc");
        for path in ["self/root", "self/exe", "self/cwd/."] {
            assert_eq!(open_in_root(&proc, path, OFlag::O_PATH).err(), Some(Errno::ELOOP), "{path}");
        }
    }

    #[test]
    fn others_renames_do_no_harm() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("mkdir");
        std::fs::write(dir.path().join("file"), "").expect("write");
        let root = std::fs::File::open(dir.path()).expect("root");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (dir.path().join("one"), dir.path().join("two"));
                std::fs::create_dir(&one).expect("mkdir");
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &two).expect("rename");
                    std::fs::rename(&two, &one).expect("rename");
                }
            });
            let failed = (0..5000).find_map(|_| {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
                open_in_root(&root, "a/../a/b/../../file", flags).err()
            });
            done.store(true, Ordering::Relaxed);
            assert_eq!(failed, None);
        });
    }
}
