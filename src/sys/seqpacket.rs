//! Unix sockets that keep the borders of packets and carry descriptors: unix(7), SOCK_SEQPACKET.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
};

/// Two ends of one connection, both closed on exec.
pub fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Binds `directory/name` and listens there, without blocking.
///
/// # Errors
/// As bind(2); `EADDRINUSE` when the name exists.
pub fn listen(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    with_address(directory, name, |address| socket::bind(listener.as_raw_fd(), address))?;
    socket::listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

/// Connects to what listens at `directory/name`.
///
/// # Errors
/// `ENOENT` or `ECONNREFUSED`: nobody does.
pub fn connect(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let connection = socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    with_address(directory, name, |address| socket::connect(connection.as_raw_fd(), address))?;
    Ok(connection)
}

/// The next connection; `None` when there is none.
pub fn accept(listener: BorrowedFd<'_>) -> nix::Result<Option<OwnedFd>> {
    match socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
        // SAFETY: accept4(2) has just made this descriptor, and nobody else knows its number.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        // Whoever knocked left again: accept(2).
        Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A path of any length: the address holds 107 bytes, `/proc/self/fd/N/name` always fits.
fn with_address(directory: &Path, name: &str, then: impl FnOnce(&UnixAddr) -> nix::Result<()>) -> io::Result<()> {
    let directory = File::open(directory)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).as_str())?;
    Ok(then(&address)?)
}

/// Sends one packet made of `parts`, whole or not at all, never raising SIGPIPE.
///
/// # Errors
/// `EAGAIN` with `wait` false when there is no room; `EPIPE` or `ECONNRESET`: the peer is gone.
pub fn send(socket: BorrowedFd<'_>, parts: &[&[u8]; 2], fds: &[BorrowedFd<'_>], wait: bool) -> nix::Result<()> {
    let parts = parts.map(IoSlice::new);
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    loop {
        match socket::sendmsg::<()>(socket.as_raw_fd(), &parts, rights, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Receives one packet into `buffer` and returns its length, with the descriptors that came along.
/// Length 0: the peer is gone (no packet of ours is empty).
///
/// # Errors
/// `EAGAIN` with `wait` false when nothing has come; `EMSGSIZE`: more than fits was sent.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> nix::Result<(usize, Vec<OwnedFd>)> {
    /// Descriptors that one packet may carry.
    const MOST: usize = 4;
    let mut control = nix::cmsg_space!([RawFd; MOST]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let (length, fds, flags) = loop {
        let mut parts = [IoSliceMut::new(&mut *buffer)];
        match socket::recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(message) => {
                let mut fds = Vec::new();
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = part {
                        // SAFETY: the kernel has just made these descriptors for this process, and
                        // nobody else knows their numbers.
                        fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (message.bytes, fds, message.flags);
            }
            // The peer closed while a packet of ours was on its way to it. That is told once, before
            // the packets that it sent earlier, which are here still.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(e) => return Err(e),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((length, fds))
}
