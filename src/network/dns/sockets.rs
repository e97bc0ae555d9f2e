//! Sockets of the resolver: those that it serves with, and those that it asks servers with.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, socket};

use crate::network::dns::ADDRESS;
use crate::network::dns::servers::PORT as DOMAIN;
use crate::network::firewall;
use crate::network::netlink::Socket;
use crate::sys::{netns, sockets};

/// How many are made at a time in the container's namespace, where that costs a thread.
const BATCH: usize = 8;

/// Makes the sockets that servers are asked with. Each question has one of its own, whose port the
/// kernel chose at random, so that who cannot see the question cannot forge the answer.
#[derive(Debug)]
pub struct Sockets {
    container: OwnedFd,
    /// For `--dns` servers, of one address family.
    spare: Vec<OwnedFd>,
    spare_family: AddressFamily,
}

/// Where a question goes out from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Host,
    Container,
}

impl Sockets {
    pub fn new(container: OwnedFd) -> Self {
        Self { container, spare: Vec::new(), spare_family: AddressFamily::Inet }
    }

    /// # Errors
    /// There is no way to the server, or no descriptor.
    pub fn datagram(&mut self, server: SocketAddr, from: From) -> io::Result<UdpSocket> {
        let family = family(server);
        let fd = match from {
            From::Host => make(family, SockType::Datagram)?,
            From::Container => {
                if self.spare.is_empty() || self.spare_family != family {
                    self.spare_family = family;
                    let batch = || (0..BATCH).map(|_| make(family, SockType::Datagram)).collect::<nix::Result<_>>();
                    self.spare = netns::inside(self.container.as_fd(), batch)??;
                }
                self.spare.pop().ok_or(Errno::EMFILE)?
            }
        };
        connect(fd.as_raw_fd(), &SockaddrStorage::from(server))?;
        Ok(fd.into())
    }

    /// A connection that is perhaps still being made: it is writable when that is done.
    ///
    /// # Errors
    /// There is no way to the server, or no descriptor.
    pub fn stream(&mut self, server: SocketAddr, from: From) -> io::Result<TcpStream> {
        let open = || make(family(server), SockType::Stream);
        let fd = match from {
            From::Host => open()?,
            From::Container => netns::inside(self.container.as_fd(), open)??,
        };
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd.into()),
            Err(e) => Err(e.into()),
        }
    }

    /// Closes what is only kept in reserve.
    pub fn rest(&mut self) {
        self.spare = Vec::new();
    }
}

fn family(server: SocketAddr) -> AddressFamily {
    if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn make(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// The sockets that the container's processes ask, made in its network namespace, and the way there.
///
/// # Errors
/// As setns(2), socket(2) and bind(2).
pub fn serving(netns: BorrowedFd<'_>) -> io::Result<(UdpSocket, TcpListener)> {
    netns::inside(netns, || {
        let pair = pair(0)?;
        // Without nf_tables, port 53 itself has to be taken, and whoever in the container wants it on all
        // addresses cannot have it.
        if redirect(pair.1.local_addr()?.port()) { Ok(pair) } else { self::pair(DOMAIN) }
    })?
}

fn redirect(port: u16) -> bool {
    Socket::netfilter().is_ok_and(|mut socket| firewall::dns_redirect(&mut socket, port).is_ok())
}

/// UDP and TCP on one port of [`ADDRESS`].
fn pair(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let stream = bound(SockType::Stream, port)?;
    listen(&stream, Backlog::new(16)?)?;
    let stream = TcpListener::from(stream);
    let datagram = bound(SockType::Datagram, stream.local_addr()?.port())?;
    Ok((datagram.into(), stream))
}

fn bound(kind: SockType, port: u16) -> io::Result<OwnedFd> {
    let fd = make(AddressFamily::Inet, kind)?;
    // Before the loopback is up it has no address: ip(7).
    sockets::set_int(fd.as_fd(), libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from(SocketAddrV4::new(ADDRESS, port))))?;
    Ok(fd)
}
