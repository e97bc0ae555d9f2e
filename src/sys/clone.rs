//! clone3(2).

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::unistd::Pid;

/// The child is made by the caller's parent, so to speak: it becomes the caller's sibling.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child in the new namespaces that `flags` (`CLONE_NEW*`, [`CLONE_PARENT`]) name, in
/// `cgroup` (a directory of cgroup v2) where one is given, and runs `child` there, which must end
/// by executing a program or by [`super::process::exit_now`]. Returns the child's pid and pidfd.
///
/// To be called by a process of one thread: another thread's locks would stay locked in the child.
///
/// # Errors
/// As clone3(2).
pub fn spawn(flags: u64, cgroup: Option<BorrowedFd>, child: impl FnOnce() -> Infallible) -> io::Result<(Pid, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: zero is a valid value of each field, and means "not used": clone3(2).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | u64::from(libc::CLONE_PIDFD.unsigned_abs());
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // A sibling's end is told as the caller's own is: clone3 refuses a signal together with CLONE_PARENT.
    args.exit_signal = if flags & CLONE_PARENT == 0 { u64::from(libc::SIGCHLD.unsigned_abs()) } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: `args` is a live clone_args of the size given, with no stack: like fork(2), the child
    // goes on with a copy of this one. It never returns from `child`.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        #[allow(unreachable_code, reason = "`child` does not return: that is the point")]
        0 => {
            // The caller's frames are the parent's: a panic must not unwind into them.
            let _abort = AbortOnUnwind;
            match child() {}
        }
        pid => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD: it stored a new descriptor that is ours alone.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?), pidfd))
        }
    }
}

struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        super::process::exit_now(101);
    }
}

/// Reaps a child that has ended, if there is one: its pid, and its exit code, or 128 and the number
/// of the signal that ended it (a real-time one too, which `nix` cannot name).
#[must_use]
pub fn reap_any() -> Option<(Pid, u8)> {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    (pid > 0).then(|| (Pid::from_raw(pid), u8::try_from(code).unwrap_or(u8::MAX)))
}
