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
    /// Descriptors that one packet may carry; the kernel allows 253.
    const MOST: usize = 128;
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
            // Reset: the peer left without reading all that we sent. It is told once, before what the
            // peer had sent, which still waits.
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(e) => return Err(e),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((length, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn last_words_arrive_from_a_peer_that_did_not_listen() {
        let (ours, theirs) = pair().expect("socket pair");
        send(ours.as_fd(), &[b"never", b"read"], &[], true).expect("send");
        send(theirs.as_fd(), &[b"last ", b"words"], &[], true).expect("send");
        drop(theirs);
        let mut buffer = [0; 16];
        let (length, _) = receive(ours.as_fd(), &mut buffer, true).expect("receive");
        assert_eq!(&buffer[..length], b"last words");
        assert_eq!(receive(ours.as_fd(), &mut buffer, true).map(|r| r.0), Ok(0));
    }

    #[test]
    fn a_socket_below_a_long_path_can_be_reached() {
        let home = tempfile::tempdir().expect("temporary directory");
        let directory = home.path().join("d".repeat(200));
        std::fs::create_dir(&directory).expect("directory");
        let listener = listen(&directory, "socket").expect("listen");
        let ours = connect(&directory, "socket").expect("connect");
        let theirs = accept(listener.as_fd()).expect("accept").expect("a connection");
        send(ours.as_fd(), &[b"x", b""], &[], true).expect("send");
        assert_eq!(receive(theirs.as_fd(), &mut [0; 8], true).map(|r| r.0), Ok(1));
        assert!(accept(listener.as_fd()).expect("accept").is_none());
    }
}
