//! Doing something in another network namespace: network_namespaces(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

/// Bytes of stack for the threads here: little is done on them, in processes that are kept small.
const STACK: usize = 128 * 1024;

/// Runs `body` in the network namespace `namespace`, on a thread of its own that ends with it: a
/// network namespace belongs to a thread, and one that left the host's could not come back rootless.
/// Sockets made there stay in it, whoever uses them; `/proc/sys/net` is that namespace's too.
///
/// # Errors
/// As setns(2): `EPERM` without capabilities over the namespace; `EAGAIN`: no thread can be made.
pub fn inside<T: Send>(namespace: BorrowedFd<'_>, body: impl FnOnce() -> T + Send) -> nix::Result<T> {
    thread::scope(|scope| {
        let work = move || setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| body());
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A new network namespace, its loopback interface up. The thread that made it has left it.
///
/// # Errors
/// As unshare(2): `ENOSPC` past `user.max_net_namespaces`.
pub fn make() -> io::Result<OwnedFd> {
    thread::scope(|scope| {
        let work = || -> io::Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            super::interface::raise_loopback()?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        };
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The user namespace that a namespace belongs to: ioctl_nsfs(2), `NS_GET_USERNS`.
///
/// # Errors
/// `EPERM`: one outside of this process's own and those below it.
pub fn owner(namespace: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument, and returns a new descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) };
    let fd = Errno::result(fd)?;
    // SAFETY: it was made for us by the call above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
