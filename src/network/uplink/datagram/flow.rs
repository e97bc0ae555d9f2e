//! What a container sends from one of its ports: a socket of the host's, and with whom it speaks.
//!
//! One socket serves a port of the container's whoever it speaks to, as Linux's masquerading does, so
//! that what depends on being found under one port (STUN, BitTorrent, games) works. It is not
//! connected, since only one peer could be; the kernel still reports ICMP errors to it
//! (`IP_RECVERR`). Its port is not the container's: a container must not be able to take ports that
//! programs of the host want (5353, 4500). And as with masquerading a peer is heard only after it was
//! spoken to (address and port dependent filtering), or everybody who finds the port could speak to
//! the container.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::packet::Packet;
use crate::network::uplink::policy::Owner;
use crate::sys::datagrams;
use crate::sys::sockets::set_int;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Udp,
    /// ICMP echo through a ping socket; the identifier is in the place of the port.
    Echo,
}

/// The container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: Kind,
    pub source: SocketAddr,
}

#[derive(Debug)]
pub struct Flow {
    pub owner: Owner,
    pub socket: OwnedFd,
    pub peers: Peers,
    /// What the address of the host's that containers know was resolved to for this flow.
    pub host: Option<IpAddr>,
    manner: Manner,
}

/// How packets leave: options of the socket, set when they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Manner {
    hops: u8,
    class: u8,
    uncut: bool,
}

impl Flow {
    /// # Errors
    /// As socket(2): `EMFILE`, `ENFILE`: no descriptors left; `EACCES`: ping sockets are not for this
    /// group ([`may_ping`]); `EAFNOSUPPORT`: the host has no IPv6.
    pub fn open(kind: Kind, ipv4: bool, owner: Owner, budget: &Budget) -> nix::Result<Self> {
        let socket = match kind {
            Kind::Udp => {
                let family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
                let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                let socket = socket(family, SockType::Datagram, flags, None)?;
                // Since 5.0: without it datagrams come one by one.
                let _ = set_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
                socket
            }
            Kind::Echo => ping_socket(ipv4)?,
        };
        let options: &[(i32, i32)] = if ipv4 {
            &[(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IP, libc::IP_RECVTOS)]
        } else {
            // An address of IPv4 in IPv6's form must not be a way round the policy.
            &[
                (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
            ]
        };
        for (level, option) in options {
            let set = set_int(socket.as_fd(), *level, *option, 1);
            set.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        }
        // The kernel's own defaults, which no packet has: all is set by the first.
        let manner = Manner { hops: 0, class: 0, uncut: false };
        Ok(Self { owner, socket, peers: Peers::new(budget), host: None, manner })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether [`Flow::adapt`] has something to do: what was queued before is sent before.
    pub fn differs(&self, packet: &Packet<'_>) -> bool {
        self.manner != Manner { hops: packet.hops, class: packet.class, uncut: packet.uncut }
    }

    /// Lets what is sent next leave as the container sent it: so traceroute sees each router, a path's
    /// MTU is found, and congestion marks are passed on.
    pub fn adapt(&mut self, packet: &Packet<'_>) {
        let new = Manner { hops: packet.hops, class: packet.class, uncut: packet.uncut };
        let old = std::mem::replace(&mut self.manner, new);
        let ipv4 = packet.source.is_ipv4();
        let (level, hops, class, discover) = if ipv4 {
            (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, libc::IPV6_TCLASS, libc::IPV6_MTU_DISCOVER)
        };
        // None of these fails for values of a byte. That it may be cut is not the default: the kernel
        // would forbid it up to the MTU that it knows of the path.
        if old.hops != new.hops {
            let _ = set_int(self.socket(), level, hops, i32::from(new.hops).max(1));
        }
        if old.class != new.class {
            let _ = set_int(self.socket(), level, class, i32::from(new.class));
        }
        if old.uncut != new.uncut || old.hops == 0 {
            let cut = if ipv4 { libc::IP_PMTUDISC_DONT } else { libc::IPV6_PMTUDISC_WANT };
            let _ = set_int(self.socket(), level, discover, if new.uncut { libc::IP_PMTUDISC_DO } else { cut });
        }
    }
}

/// Sends over IPv6 in fragments what is too long for the path, and not only tells the container so: what it
/// sent in fragments comes whole out of the TUN, since the namespace's kernel puts it together, and nothing
/// in it says that it may be cut.
pub fn send_cut(socket: BorrowedFd<'_>, datagram: &[u8], to: &SocketAddr) {
    let cut = |how| set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, how);
    if cut(libc::IPV6_PMTUDISC_WANT).is_ok() {
        let _ = datagrams::send(socket, datagram, Some(to), None, 0);
        let _ = cut(libc::IPV6_PMTUDISC_DO);
    }
}

/// A socket that sends ICMP echo requests without a privilege: icmp(7), `ping_group_range`.
fn ping_socket(ipv4: bool) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (family, protocol) =
        if ipv4 { (AddressFamily::Inet, SockProtocol::Icmp) } else { (AddressFamily::Inet6, SockProtocol::IcmpV6) };
    socket(family, SockType::Datagram, flags, protocol)
}

/// Whether this process may send ICMP echo requests, and with it containers behind its uplink.
///
/// # Errors
/// `EACCES`: `net.ipv4.ping_group_range` does not have any of its groups.
pub fn may_ping() -> nix::Result<()> {
    ping_socket(true).map(drop)
}

/// With whom a flow speaks: addresses as the host knows them, and as the container does. In two
/// generations, so that forgetting who was silent for long, or too many, costs nothing.
#[derive(Debug)]
pub struct Peers {
    /// The one spoken with last, and often the only one.
    last: Option<(SocketAddr, SocketAddr)>,
    recent: HashMap<SocketAddr, SocketAddr>,
    former: HashMap<SocketAddr, SocketAddr>,
    since: Option<Instant>,
    budget: Budget,
}

/// How many peers all flows together remember.
#[derive(Debug, Clone, Default)]
pub struct Budget(Rc<Cell<usize>>);

impl Budget {
    fn take(&self, count: usize) {
        self.0.set(self.0.get() + count);
    }

    fn give_back(&self, count: usize) {
        self.0.set(self.0.get() - count);
    }
}

/// Peers of each generation.
const PEERS: usize = 1024;
/// The same when all flows together have [`MOST_PEERS`]: a container that speaks to everybody from
/// all of its ports must not cost the uplink more memory than some megabytes.
const FEW_PEERS: usize = 16;
const MOST_PEERS: usize = 1 << 17;
/// A peer is remembered for one to two of these.
const PEER_TIME: Duration = Duration::from_secs(180);

impl Drop for Peers {
    fn drop(&mut self) {
        self.budget.give_back(self.recent.len() + self.former.len());
    }
}

impl Peers {
    fn new(budget: &Budget) -> Self {
        Self { last: None, recent: HashMap::new(), former: HashMap::new(), since: None, budget: budget.clone() }
    }

    /// The container, which knows the peer as `seen`, speaks to it.
    pub fn note(&mut self, peer: SocketAddr, seen: SocketAddr, now: Instant) {
        if self.last == Some((peer, seen)) {
            return;
        }
        if let Some((peer, seen)) = self.last.replace((peer, seen)) {
            self.keep(peer, seen, now);
        }
    }

    /// As whom the container knows the peer; `None`: it has not spoken to it.
    pub fn seen(&mut self, peer: SocketAddr, now: Instant) -> Option<SocketAddr> {
        if let Some((last, seen)) = self.last
            && last == peer
        {
            return Some(seen);
        }
        if let Some(seen) = self.recent.get(&peer) {
            return Some(*seen);
        }
        let seen = self.former.remove(&peer)?;
        self.budget.give_back(1);
        self.keep(peer, seen, now);
        Some(seen)
    }

    fn keep(&mut self, peer: SocketAddr, seen: SocketAddr, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let most = if self.budget.0.get() < MOST_PEERS { PEERS } else { FEW_PEERS };
        if self.recent.len() >= most || now.duration_since(since) >= PEER_TIME {
            self.budget.give_back(self.former.len());
            self.former = std::mem::take(&mut self.recent);
            self.since = Some(now);
        }
        if self.recent.insert(peer, seen).is_none() {
            self.budget.take(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], u16::try_from(last).unwrap()))
    }

    #[test]
    fn peers_are_remembered_in_bounds() {
        let now = Instant::now();
        let mut peers = Peers::new(&Budget::default());
        assert_eq!(peers.seen(address(1), now), None);
        peers.note(address(1), address(2), now);
        assert_eq!(peers.recent.capacity(), 0, "one peer needs no table");
        for port in 100..100 + 3 * PEERS {
            assert_eq!(peers.seen(address(1), now), Some(address(2)), "who answers is kept");
            peers.note(address(port), address(port), now);
        }
        assert!(peers.recent.len() <= PEERS && peers.former.len() <= PEERS);
        assert_eq!(peers.seen(address(100), now), None);
        assert_eq!(peers.seen(address(99 + 3 * PEERS), now), Some(address(99 + 3 * PEERS)));
    }

    #[test]
    fn all_flows_together_remember_in_bounds() {
        let now = Instant::now();
        let budget = Budget::default();
        let mut flows: Vec<Peers> = (0..1000).map(|_| Peers::new(&budget)).collect();
        for flow in &mut flows {
            for port in 0..2 * PEERS {
                flow.note(address(port), address(port), now);
            }
        }
        let counted: usize = flows.iter().map(|flow| flow.recent.len() + flow.former.len()).sum();
        assert_eq!(budget.0.get(), counted);
        assert!(counted <= MOST_PEERS + 2 * FEW_PEERS * flows.len(), "{counted}");
        // Who speaks to few is not touched by it.
        let mut quiet = Peers::new(&budget);
        for port in 0..FEW_PEERS {
            quiet.note(address(port), address(port), now);
        }
        assert!((0..FEW_PEERS).all(|port| quiet.seen(address(port), now).is_some()));
        drop((flows, quiet));
        assert_eq!(budget.0.get(), 0);
    }

    #[test]
    fn options_follow_the_packets() {
        use nix::sys::socket::{getsockopt, sockopt};
        let mut flow = Flow::open(Kind::Udp, true, Owner(1), &Budget::default()).unwrap();
        let mut packet = Packet {
            source: IpAddr::from([10, 0, 0, 2]),
            destination: IpAddr::from([192, 0, 2, 1]),
            protocol: 17,
            hops: 63,
            class: 2,
            uncut: true,
            fragment: None,
            payload: &[],
            raw: &[],
        };
        assert!(flow.differs(&packet));
        flow.adapt(&packet);
        assert!(!flow.differs(&packet));
        assert_eq!(getsockopt(&flow.socket, sockopt::Ipv4Ttl).unwrap(), 63);
        assert_eq!(getsockopt(&flow.socket, sockopt::Ipv4Tos).unwrap(), 2);
        packet.hops = 1;
        flow.adapt(&packet);
        assert_eq!(getsockopt(&flow.socket, sockopt::Ipv4Ttl).unwrap(), 1);
    }
}
