//! Socket options that `nix` has no name for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Switches an option of netlink(7) on, of level `SOL_NETLINK`.
///
/// # Errors
/// As setsockopt(2).
pub fn set_netlink_option(socket: BorrowedFd<'_>, option: i32) -> nix::Result<()> {
    set_int(socket, libc::SOL_NETLINK, option, 1).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
}

/// Sets an option whose value is an `int`: socket(7), ip(7), ipv6(7), tcp(7).
///
/// # Errors
/// As setsockopt(2).
pub fn set_int(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    let value = std::ptr::from_ref(&value);
    // SAFETY: `value` points to a live int, and `length` is its size.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
