//! What monitors ask of the uplink: one request a packet of a SOCK_SEQPACKET socket, as JSON, and one
//! reply to each.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::policy::Registration;
use crate::network::Published;
use crate::sys::seqpacket;

/// Spoken by this binary. An uplink lives as long as any container of its user's, so a monitor of a
/// later version may meet it.
pub const VERSION: u32 = 1;

/// Room for the longest packet.
pub const PACKET: usize = 64 * 1024;

/// Listeners in one request, so that it fits a packet and its descriptors fit a message.
pub const MOST_LISTENERS: usize = 100;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First word to a new uplink, by who started it. With it come the socket that it listens at and,
    /// where containers are in another network namespace than the host's, that namespace.
    Begin {
        version: u32,
        /// Where the socket is, and under which name.
        directory: PathBuf,
        name: String,
    },
    /// First word of every later client.
    Hello {
        version: u32,
    },
    Register(Registration),
    /// With a socket for each.
    Publish(Vec<Target>),
    Unpublish(Vec<Published>),
}

/// Where connections to a published port go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub published: Published,
    pub target: SocketAddr,
    /// The container sees the client's address. It needs a route to it, so a container of an
    /// `--internal` network does not, and sees the bridge's.
    pub keep_source: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Failed { message: String, hint: Option<String> },
}

/// Sends one message, waiting for room.
///
/// # Errors
/// As [`seqpacket::send`].
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    // Structures of strings and numbers are always JSON.
    let bytes = serde_json::to_vec(message).map_err(|_| nix::errno::Errno::EBADMSG)?;
    seqpacket::send(socket.as_fd(), &[&bytes, b""], fds, true)
}

/// The next message and its descriptors; `None`: the peer is gone.
///
/// # Errors
/// As [`seqpacket::receive`]; `EBADMSG` for what is no message.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd, wait: bool) -> nix::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; PACKET];
    let (length, fds) = seqpacket::receive(socket.as_fd(), &mut buffer, wait)?;
    if length == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[..length]).map_err(|_| nix::errno::Errno::EBADMSG)?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::network::Protocol;
    use crate::store::Id;

    #[test]
    fn requests_survive_the_socket_with_their_descriptors() {
        let (a, b) = seqpacket::pair().unwrap();
        let published = Published {
            host: IpAddr::V6(Ipv6Addr::from(u128::MAX)),
            host_port: 65535,
            container_port: 65535,
            protocol: Protocol::Sctp,
        };
        let target = Target {
            published,
            target: "[1234:1234:1234:1234:1234:1234:1234:1234]:65535".parse().unwrap(),
            keep_source: false,
        };
        let registration = Registration {
            container: Id::random().unwrap(),
            addresses: vec!["172.17.0.2".parse().unwrap()],
            host_loopback: true,
        };
        let requests = [
            Request::Hello { version: VERSION },
            Request::Register(registration),
            Request::Publish(vec![target; MOST_LISTENERS]),
            Request::Unpublish(vec![published; MOST_LISTENERS]),
        ];
        for request in requests {
            let fds = vec![a.as_fd(); if matches!(request, Request::Publish(_)) { MOST_LISTENERS } else { 0 }];
            send(&a, &request, &fds).unwrap();
            let (received, came) = receive::<Request>(&b, true).unwrap().unwrap();
            assert_eq!((received, came.len()), (request, fds.len()));
        }
        drop(a);
        assert!(receive::<Reply>(&b, true).unwrap().is_none());
    }
}
