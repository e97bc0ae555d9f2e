//! Published ports of UDP: sockets of the host's, which monitors bound, and who speaks through them.
//!
//! Where there is a TUN, a client's datagram is written into it with the client's own address, and what
//! the container answers comes out of it again: a client costs an entry in a table and no socket.
//! A client whose address means nothing there (loopback, link-local, the other family, taken by another
//! session) gets a stand-in's. Where there is no TUN (root), or the container's answers would not come
//! out of it (an `--internal` network has no default route), each client has a socket towards the
//! container, which sees the bridge's address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, SockaddrStorage, connect};

use super::outbox::{Route, Via};
use super::table::{Limits, Place, Table};
use crate::network::Published as Port;
use crate::network::uplink::inside::Inside;
use crate::network::uplink::policy::{HOST, Owner, Policy};
use crate::sys::sockets::set_int;

/// As which containers see clients of the host's own over IPv6, as [`HOST`] is over IPv4: an address
/// of the range that everybody may choose from, RFC 4193, which is nobody's.
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd63, 0x7472, 0x686f, 0x7374, 0, 0, 0, 2);

/// Ports that are tried for a stand-in.
const TRIES: u16 = 64;

#[derive(Debug)]
struct Listener {
    owner: Owner,
    port: Port,
    socket: OwnedFd,
    target: SocketAddr,
    keep_source: bool,
}

/// Who speaks to which address of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    pub listener: u32,
    pub from: SocketAddr,
    pub local: Option<IpAddr>,
}

/// How a client's datagrams reach the container.
#[derive(Debug)]
pub enum Session {
    /// Written into the TUN, from this address.
    Packets { client: Client, target: SocketAddr, seen: SocketAddr },
    /// Sent by a socket that is connected to the container.
    Socket { client: Client, socket: OwnedFd },
}

#[derive(Debug)]
pub struct Ports {
    /// By number; a number is given out again when its port was withdrawn.
    listeners: Vec<Option<Listener>>,
    sessions: Table<Client, Session>,
    /// Sessions by what the container's answers are from and to.
    answers: HashMap<(SocketAddr, SocketAddr), Place>,
    inside: Rc<Inside>,
    next_port: u16,
}

impl Ports {
    pub fn new(inside: Rc<Inside>, limits: Limits) -> Self {
        Self { listeners: Vec::new(), sessions: Table::new(limits), answers: HashMap::new(), inside, next_port: 0 }
    }

    /// Takes a bound socket, and returns its number.
    pub fn add(&mut self, owner: Owner, port: Port, socket: OwnedFd, target: SocketAddr, keep: bool) -> Result<u32> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context("prepare a published port's socket")?;
        // An answer must come from the address that was asked: ip(7), ipv6(7).
        let (level, option) = match port.host {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        set_int(socket.as_fd(), level, option, 1).context("prepare a published port's socket")?;
        let _ = set_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
        let listener = Listener { owner, port, socket, target, keep_source: keep };
        let free = self.listeners.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        self.listeners[index] = Some(listener);
        Ok(u32::try_from(index)?)
    }

    fn listener(&self, index: u32) -> Option<&Listener> {
        self.listeners.get(index as usize)?.as_ref()
    }

    pub fn socket(&self, index: u32) -> Option<BorrowedFd<'_>> {
        self.listener(index).map(|listener| listener.socket.as_fd())
    }

    /// Returns the sockets that are served no more.
    pub fn withdraw(&mut self, owner: Owner, port: &Port) -> Vec<OwnedFd> {
        self.drop_listeners(|listener| listener.owner == owner && listener.port == *port)
    }

    pub fn forget(&mut self, owner: Owner) -> Vec<OwnedFd> {
        self.drop_listeners(|listener| listener.owner == owner)
    }

    fn drop_listeners(&mut self, wanted: impl Fn(&Listener) -> bool) -> Vec<OwnedFd> {
        let mut dropped = Vec::new();
        for index in 0..self.listeners.len() {
            if let Some(listener) = self.listeners[index].take_if(|listener| wanted(listener)) {
                dropped.push(listener.socket);
                for place in self.sessions.select(|client, _| client.listener as usize == index) {
                    self.close(place);
                }
            }
        }
        dropped
    }

    /// The session of a client, made if it is new. `None`: it cannot be served.
    pub fn session(&mut self, client: Client, policy: &Policy, now: Instant) -> Option<(Place, bool)> {
        if let Some(place) = self.sessions.find(&client) {
            self.sessions.touch(place, false, now);
            return Some((place, false));
        }
        let listener = self.listener(client.listener)?;
        let (target, keep) = (listener.target, listener.keep_source);
        while let Some(place) = self.sessions.surplus(target.ip()) {
            self.close(place);
        }
        let session = if keep && self.inside.is_apart() {
            let seen = self.seen_as(client.from, target, policy)?;
            self.answers.insert((target, seen), self.sessions.next());
            Session::Packets { client, target, seen }
        } else {
            Session::Socket { client, socket: self.connected(target).ok()? }
        };
        Some((self.sessions.insert(client, target.ip(), session, now), true))
    }

    /// As whom the container sees a client.
    fn seen_as(&mut self, from: SocketAddr, target: SocketAddr, policy: &Policy) -> Option<SocketAddr> {
        let own = SocketAddr::new(from.ip().to_canonical(), from.port());
        let is_free = |seen: SocketAddr| seen.port() != 0 && !self.answers.contains_key(&(target, seen));
        if own.is_ipv4() == target.is_ipv4() && is_routed(own.ip()) && is_free(own) {
            // An address that a container has would be looked for behind its bridge.
            if policy.owner(own.ip()).is_none() {
                return Some(own);
            }
        }
        let host = if target.is_ipv4() { IpAddr::V4(HOST) } else { IpAddr::V6(HOST6) };
        let others = (1..TRIES).map(|n| self.next_port.wrapping_add(n) | 0x8000);
        let port = std::iter::once(own.port()).chain(others).find(|port| is_free(SocketAddr::new(host, *port)))?;
        self.next_port = port;
        Some(SocketAddr::new(host, port))
    }

    /// A socket towards the container: the kernel takes the bridge's address for its own.
    fn connected(&self, target: SocketAddr) -> Result<OwnedFd> {
        let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = self.inside.socket(family, SockType::Datagram, None)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(target))?;
        let _ = set_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
        Ok(socket)
    }

    pub fn get(&self, place: Place) -> Option<&Session> {
        self.sessions.get(place)
    }

    /// Where a container's packet goes that answers a client.
    pub fn answer(&mut self, from: SocketAddr, to: SocketAddr, now: Instant) -> Option<Route> {
        let place = *self.answers.get(&(from, to))?;
        self.answered(place, now)
    }

    /// Where goes what the container sent to the client of this session.
    pub fn answered(&mut self, place: Place, now: Instant) -> Option<Route> {
        self.sessions.touch(place, true, now);
        let (Session::Packets { client, .. } | Session::Socket { client, .. }) = self.sessions.get(place)?;
        Some(Route { via: Via::Listener(client.listener), to: client.from, from: client.local })
    }

    pub fn close(&mut self, place: Place) {
        if let Some((_, Session::Packets { target, seen, .. })) = self.sessions.remove(place) {
            self.answers.remove(&(target, seen));
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.sessions.deadline()
    }

    pub fn expire(&mut self, now: Instant) {
        for place in self.sessions.expired(now) {
            self.close(place);
        }
    }
}

/// Whether a packet from there finds its way back over a default route.
fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;
    use crate::network::Protocol;
    use crate::network::space::Space;
    use crate::network::uplink::policy::Registration;
    use crate::store::Id;

    #[test]
    fn clients_keep_their_address_where_it_means_something() {
        // Only asked whether it is another namespace.
        let elsewhere = Space::Apart(std::fs::File::open("/proc/self/ns/net").unwrap().into());
        let mut ports = Ports::new(Rc::new(Inside::new(elsewhere)), Limits { each: 3, all: 9 });
        let mut policy = Policy::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let addresses = vec![address("10.0.0.2:0").ip(), address("10.0.0.3:0").ip()];
        policy.register(Owner(1), &Registration { container: Id::random().unwrap(), addresses, host_loopback: false });
        let socket = OwnedFd::from(UdpSocket::bind("[::]:0").unwrap());
        let host = "::".parse().unwrap();
        let port = Port { host, host_port: 5353, container_port: 53, protocol: Protocol::Udp };
        let other = socket.as_fd().try_clone_to_owned().unwrap();
        let first = ports.add(Owner(1), port, socket, address("10.0.0.2:53"), true).unwrap();
        let second = Port { host_port: 5354, ..port };
        let second = ports.add(Owner(1), second, other, address("10.0.0.2:53"), true).unwrap();
        let now = Instant::now();
        let mut seen = |listener, from: &str| {
            let client = Client { listener, from: address(from), local: None };
            let (place, new) = ports.session(client, &policy, now).unwrap();
            assert_eq!(ports.session(client, &policy, now), Some((place, false)));
            let Some(Session::Packets { seen, target, .. }) = ports.get(place) else { panic!("no packets") };
            let (seen, target) = (*seen, *target);
            assert_eq!(ports.answer(target, seen, now).unwrap().to, client.from);
            assert!(new);
            seen
        };
        assert_eq!(seen(first, "198.51.100.1:4000"), address("198.51.100.1:4000"));
        assert_eq!(seen(first, "[::ffff:198.51.100.2]:4000"), address("198.51.100.2:4000"));
        assert_eq!(seen(first, "127.0.0.1:4000"), address("169.254.1.2:4000"));
        // The same client at another port: it must be told apart by the container's answers.
        assert_eq!(seen(second, "127.0.0.2:4000").ip(), address("169.254.1.2:0").ip());
        assert_ne!(seen(second, "127.0.0.1:4000"), address("169.254.1.2:4000"));
        assert_eq!(seen(second, "[2001:db8::1]:5000"), address("169.254.1.2:5000"));
        assert_eq!(seen(second, "10.0.0.3:5001"), address("169.254.1.2:5001"));
        assert_eq!((ports.sessions.len(), ports.answers.len()), (3, 3));
        assert_eq!(ports.forget(Owner(1)).len(), 2);
        assert_eq!((ports.sessions.len(), ports.answers.len()), (0, 0));
    }
}
