//! Descriptors by number, where a child lays out its table before it executes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Closes every descriptor from `first` on: close_range(2). For a child, as [`place`].
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; nobody in this process uses those descriptors again, as documented.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

/// Takes over the descriptor that [`place`] put at this number.
///
/// # Panics
/// For a negative number.
#[must_use]
pub fn owned_by_number(number: RawFd) -> OwnedFd {
    assert!(number >= 0, "a descriptor's number");
    // SAFETY: it is not -1, and whoever placed it there forgot every other owner, as documented.
    unsafe { OwnedFd::from_raw_fd(number) }
}
