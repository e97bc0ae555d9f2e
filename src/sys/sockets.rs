//! Socket options that `nix` has no name for.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

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

/// Takes up to `count` received bytes off a TCP socket without copying them: tcp(7), `MSG_TRUNC`.
///
/// # Errors
/// As recv(2).
pub fn discard(socket: BorrowedFd<'_>, count: usize) -> nix::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer, and so it may be null: tcp(7).
    let done = unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), count, flags) };
    Errno::result(done).map(isize::unsigned_abs)
}

/// Bytes of a TCP socket that the peer has not acknowledged: tcp(7), `SIOCOUTQ`.
#[must_use]
pub fn unsent(socket: BorrowedFd<'_>) -> i32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int there.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done == 0 { bytes } else { 0 }
}

/// The next connection of a listening socket and its peer's address; `None`: there is none now. The
/// connection does not block.
///
/// # Errors
/// As accept4(2); `EMFILE`, `ENFILE`: no descriptor is left, and the connection stays waiting.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<Option<(OwnedFd, SocketAddr)>> {
    // SAFETY: zero is a valid value of each field.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(128);
    let address = (&raw mut storage).cast();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    loop {
        // SAFETY: `storage` lives through the call and has `length` bytes.
        let fd = unsafe { libc::accept4(listener.as_raw_fd(), address, &raw mut length, flags) };
        match Errno::result(fd) {
            Ok(fd) => {
                // SAFETY: accept4(2) has just made this descriptor, and nobody else knows its number.
                let connection = unsafe { OwnedFd::from_raw_fd(fd) };
                // SAFETY: accept4(2) has filled `length` bytes of it.
                let peer = unsafe { SockaddrStorage::from_raw(address, Some(length)) };
                return Ok(peer.as_ref().and_then(to_std).map(|peer| (connection, peer)));
            }
            Err(Errno::EAGAIN) => return Ok(None),
            // That connection's own errors, which it had before anybody asked: accept(2).
            Err(
                Errno::EINTR
                | Errno::ECONNABORTED
                | Errno::ENETDOWN
                | Errno::EPROTO
                | Errno::EHOSTUNREACH
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::ENOPROTOOPT
                | Errno::EPERM,
            ) => {}
            Err(e) => return Err(e),
        }
    }
}

/// An address of IPv4 or IPv6 as the standard library has it; `None` for another family.
pub fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}
