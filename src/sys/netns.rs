//! Doing something in another network namespace: network_namespaces(7).

use std::os::fd::BorrowedFd;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// Runs `body` in the network namespace `namespace`, on a thread of its own that ends with it: a
/// network namespace belongs to a thread, and one that left the host's could not come back rootless.
/// Sockets made there stay in it, whoever uses them; `/proc/sys/net` is that namespace's too.
///
/// # Errors
/// As setns(2): `EPERM` without capabilities over the namespace; `EAGAIN`: no thread can be made.
pub fn inside<T: Send>(namespace: BorrowedFd<'_>, body: impl FnOnce() -> T + Send) -> nix::Result<T> {
    thread::scope(|scope| {
        let work = move || setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| body());
        // Little is done on it, and its stack is memory of a process that is kept small.
        let thread = thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, work);
        let thread = thread.map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
