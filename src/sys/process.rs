//! Making processes: fork(2), for the few places where `std::process` cannot do it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{ForkResult, Pid};

/// Which of the two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    Parent(Pid),
    Child,
}

/// Forks a process that has one thread. By fork(2) and not clone3(2): a seccomp policy may let nobody
/// use that one, whose flags no filter can look at, and the container's init forks too.
///
/// # Errors
/// As fork(2); `Unsupported` when this process has more than one thread.
pub fn fork() -> io::Result<Fork> {
    // Each thread is a directory there, and a directory has a link for each and two of its own.
    // Where there is no /proc (an init of ours in a root without one) no thread was started either.
    if std::fs::metadata("/proc/self/task").is_ok_and(|meta| meta.nlink() != 3) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "cannot fork a process of several threads"));
    }
    // SAFETY: with one thread there is no other whose locks the child could find held.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Has the kernel kill what `command` starts when the thread that starts it ends: prctl(2),
/// `PR_SET_PDEATHSIG`. A program that changes its user is not killed any more.
pub fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let ask = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        // Too late for a parent that is gone already.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: after fork(2) it makes two system calls, and touches no memory but its own stack.
    unsafe { command.pre_exec(ask) };
}

/// Ends this process at once: no destructor, no handler of `atexit` runs, no buffer is flushed. For
/// a forked or cloned child, which holds copies of what its parent will put away.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends this process as a signal that it did not catch would have, so that its parent sees that.
pub fn die_of(signal: i32) -> ! {
    // SAFETY: the default action runs no code of ours; the mask is this thread's.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
    exit_now(128 + signal)
}
