//! A mount of another container's, for one that shares it: `--ipc container:NAME` shows that one's
//! /dev/shm.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::{mount, openat2, pidfd, seqpacket};

/// `/proc/PID/root/…` taken apart: the process, and the path as that process sees it.
pub fn of(source: &Path) -> Option<(Pid, PathBuf)> {
    let mut parts = source.strip_prefix("/proc").ok()?.components();
    let pid = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    (parts.next()?.as_os_str() == "root").then(|| (Pid::from_raw(pid), parts.as_path().to_owned()))
}

/// The mount that lies at `path` in the mount namespace of a process, attached nowhere. Only who is in
/// that namespace can copy it, so a child goes there.
pub fn copy_tree(pid: Pid, path: &Path) -> nix::Result<OwnedFd> {
    let process = pidfd::open(pid).map_err(errno)?;
    let (ours, theirs) = seqpacket::pair()?;
    match fork().map_err(errno)? {
        Fork::Child => {
            drop(ours);
            let copy = || -> nix::Result<OwnedFd> {
                // Whoever runs there sees nothing of this process: it comes into no other namespace.
                setns(&process, CloneFlags::CLONE_NEWNS)?;
                let root = File::open("/").map_err(errno)?;
                // A link there could lead to what is not that container's.
                let place = openat2::open_beneath(&root, path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
                mount::copy_tree_of(place.as_fd(), false).map_err(errno)
            };
            let told = match copy() {
                Ok(tree) => seqpacket::send(theirs.as_fd(), &[b"ok", b""], &[tree.as_fd()], true),
                Err(e) => seqpacket::send(theirs.as_fd(), &[b"no", &(e as i32).to_ne_bytes()], &[], true),
            };
            exit_now(i32::from(told.is_err()))
        }
        Fork::Parent(child) => {
            drop(theirs);
            let mut answer = [0; 16];
            let heard = seqpacket::receive(ours.as_fd(), &mut answer, true);
            let _ = waitpid(child, None);
            let (length, fds) = heard?;
            match (fds.into_iter().next(), answer[..length].get(2..6).and_then(|b| b.first_chunk())) {
                (Some(tree), _) => Ok(tree),
                (None, Some(number)) => Err(Errno::from_raw(i32::from_ne_bytes(*number))),
                (None, None) => Err(Errno::ESRCH),
            }
        }
    }
}

fn errno(e: impl Into<std::io::Error>) -> Errno {
    e.into().raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_another_process() {
        assert_eq!(of(Path::new("/proc/12/root/dev/shm")), Some((Pid::from_raw(12), "dev/shm".into())));
        assert_eq!(of(Path::new("/proc/self/root/dev/shm")), None);
        assert_eq!(of(Path::new("/proc/12/cwd/x")), None);
        assert_eq!(of(Path::new("/srv")), None);
    }
}
