//! Descriptors as a process passes them on to the program it executes, and by number, where a child
//! lays out its table before that.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets the next exec close every descriptor but the first three, whoever opened it.
pub fn close_on_exec() -> nix::Result<()> {
    // SAFETY: the call takes numbers and closes nothing before the exec.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(done).map(drop)
}

/// Closes every descriptor but the first three and `kept`, whoever owns it. For a forked child that
/// ends without destructors: the owners of what was closed must not be used or dropped.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3u32;
    for last in kept.into_iter().chain([u32::MAX]) {
        if first < last {
            // SAFETY: by the contract above nobody uses what is closed here.
            Errno::result(unsafe {
                libc::syscall(libc::SYS_close_range, first, last - u32::from(last != u32::MAX), 0u32)
            })?;
        }
        first = first.max(last.saturating_add(1));
    }
    Ok(())
}

/// The limit that this process was started with, once it has raised its own.
static FIRST_LIMIT: OnceLock<(u64, u64)> = OnceLock::new();

/// Lets this process have as many descriptors as it ever may: setrlimit(2), `RLIMIT_NOFILE`.
pub fn raise_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // It may be fewer than usual, and whoever needs more says so.
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        let _ = FIRST_LIMIT.set((soft, hard));
    }
}

/// Takes [`raise_limit`] back, in a child: its program is to find the limit that the user has, since
/// some programs close as many descriptors as there could be, and select(2) is bad with many.
///
/// # Errors
/// As setrlimit(2), which lets everybody lower it.
pub fn restore_limit() -> nix::Result<()> {
    FIRST_LIMIT.get().map_or(Ok(()), |(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard))
}

/// Lets the next exec keep this one.
pub fn keep_on_exec(fd: impl AsFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

/// Makes `number` name what `fd` names, and nothing else: dup3(2). It is inherited by what is
/// executed, unless `private`.
///
/// Only for a child that is about to execute or to end: an owner of the old `number`, where there
/// is one, is not asked.
pub fn place(fd: BorrowedFd, number: RawFd, private: bool) -> io::Result<()> {
    let flags = if private { libc::O_CLOEXEC } else { 0 };
    let done = if fd.as_raw_fd() == number {
        // SAFETY: F_SETFD takes a number; `fd` is open.
        unsafe { libc::fcntl(number, libc::F_SETFD, if private { libc::FD_CLOEXEC } else { 0 }) }
    } else {
        // SAFETY: both are numbers; what `number` named is the caller's business, as documented.
        unsafe { libc::dup3(fd.as_raw_fd(), number, flags) }
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A copy of `fd` whose number is `lowest` or higher, closed on exec.
pub fn duplicate_above(fd: BorrowedFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number; `fd` is open.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The descriptor with this number, for a process that was told it is there.
///
/// # Panics
/// For a negative number.
#[must_use]
pub fn by_number(number: RawFd) -> BorrowedFd<'static> {
    assert!(number >= 0, "a descriptor's number");
    // SAFETY: it is not -1; the numbers asked for are those that `place` gave for the rest of this process's life.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes a descriptor over that this process was started with, by its number, and lets no further
/// exec keep it; or one that [`place`] put there, when every other owner of it is forgotten. To call
/// once for each, before anything else is opened.
///
/// # Errors
/// `EBADF`: there is no such descriptor.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers; it fails for a descriptor that is not open.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and by the contract above nothing in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
