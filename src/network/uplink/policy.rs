//! Who may use the uplink, and what a destination that a container names is on the host.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::store::Id;

/// The host as containers of an ordinary user name it: `host.docker.internal`.
pub const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// What a monitor tells of its container. A later one of the same connection replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub container: Id,
    /// All addresses that it sends from. Packets from others are answered by nobody.
    pub addresses: Vec<IpAddr>,
    /// [`HOST`] is the host's 127.0.0.1, and not an address that the host has outside.
    pub host_loopback: bool,
}

/// A monitor's connection to the uplink: what it registered and published ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner(pub u64);

/// What becomes of what a container sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// It goes to this address, from a socket of the host's.
    Host(IpAddr),
    Refused,
}

/// The registered containers, and whom nobody reaches.
#[derive(Debug, Default)]
pub struct Policy {
    sources: HashMap<IpAddr, Source>,
    /// Root's bridges, by their own addresses: behind them are containers of another user's.
    fenced: Vec<IpNet>,
}

#[derive(Debug)]
struct Source {
    owner: Owner,
    host_loopback: bool,
}

impl Policy {
    /// Replaces what this owner has registered. An address that another has goes to the newer one:
    /// addresses are given out by the networks' records, and the older container is about to leave.
    pub fn register(&mut self, owner: Owner, registration: &Registration) {
        self.forget(owner);
        for address in &registration.addresses {
            self.sources.insert(*address, Source { owner, host_loopback: registration.host_loopback });
        }
    }

    /// Forgets all that this owner has registered.
    pub fn forget(&mut self, owner: Owner) {
        self.sources.retain(|_, source| source.owner != owner);
    }

    /// Replaces what is kept from all containers: whom the host reaches over these interfaces, each given
    /// by its own address and its network's length. The address itself is the host's, and stays.
    pub fn fence(&mut self, interfaces: Vec<IpNet>) {
        self.fenced = interfaces;
    }

    /// Whose container this address is.
    pub fn owner(&self, source: IpAddr) -> Option<Owner> {
        self.sources.get(&source).map(|source| source.owner)
    }

    /// Where a packet from `source` to `destination` goes. To be asked in the host's network
    /// namespace, and for each flow anew: the host's own address changes.
    pub fn destination(&self, source: IpAddr, destination: IpAddr) -> Destination {
        self.decide(source, destination, own_address)
    }

    fn decide(&self, source: IpAddr, destination: IpAddr, own: impl FnOnce() -> Option<IpAddr>) -> Destination {
        let Some(source) = self.sources.get(&source) else { return Destination::Refused };
        if destination == IpAddr::V4(HOST) {
            let host = if source.host_loopback { Some(Ipv4Addr::LOCALHOST.into()) } else { own() };
            return host.map_or(Destination::Refused, Destination::Host);
        }
        let reachable = match destination {
            IpAddr::V4(address) => is_reachable_v4(address),
            IpAddr::V6(address) => is_reachable_v6(address),
        };
        let fenced = self.fenced.iter().any(|net| net.contains(&destination) && net.addr() != destination);
        if reachable && !fenced { Destination::Host(destination) } else { Destination::Refused }
    }
}

/// Linux takes 0.0.0.0 for the host itself, and with it its loopback.
fn is_reachable_v4(address: Ipv4Addr) -> bool {
    !(address.is_loopback() || address.octets()[0] == 0 || address.is_multicast() || address.is_broadcast())
}

/// A socket of IPv6 reaches IPv4 by the addresses that contain one (`::ffff:127.0.0.1`), and `::` is
/// the host itself. A link-local address means nothing on another link.
fn is_reachable_v6(address: Ipv6Addr) -> bool {
    let in_v4_space = address.octets()[..10] == [0; 10];
    !(in_v4_space || address.is_multicast() || address.is_unicast_link_local())
}

/// An address by which the host is reached from outside: the one that it would use itself as the
/// source of what takes the default route, else any that is not loopback.
fn own_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing. The address is one for documentation: RFC 5737.
    let by_route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    by_route().or_else(|| {
        let addresses = nix::ifaddrs::getifaddrs().ok()?;
        addresses
            .filter_map(|interface| interface.address?.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
            .find(|address| !address.is_loopback())
            .map(IpAddr::V4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

    fn policy(host_loopback: bool) -> Policy {
        let mut policy = Policy::default();
        let addresses = vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        policy.register(Owner(1), &Registration { container: Id::random().unwrap(), addresses, host_loopback });
        policy
    }

    fn ask(policy: &Policy, source: &str, destination: &str) -> Destination {
        policy.decide(source.parse().unwrap(), destination.parse().unwrap(), || Some(OWN))
    }

    #[test]
    fn what_leads_to_the_host_itself_is_refused() {
        let policy = policy(true);
        for destination in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1"] {
            assert_eq!(ask(&policy, "172.17.0.2", destination), Destination::Refused, "{destination}");
        }
        for destination in ["::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "ff02::1", "fe80::1"] {
            assert_eq!(ask(&policy, "fd00::2", destination), Destination::Refused, "{destination}");
        }
        for destination in ["1.1.1.1", "10.0.0.1", "169.254.169.254", "2001:db8::1", "fd12::1"] {
            let host = Destination::Host(destination.parse().unwrap());
            assert_eq!(ask(&policy, "172.17.0.2", destination), host, "{destination}");
        }
    }

    #[test]
    fn whoever_is_behind_a_fence_is_refused() {
        let mut policy = policy(true);
        policy.fence(vec!["10.7.1.1/24".parse().unwrap(), "fd07::1/64".parse().unwrap()]);
        for (source, destination, expected) in [
            ("172.17.0.2", "10.7.1.2", false),
            ("172.17.0.2", "10.7.1.255", false),
            ("172.17.0.2", "10.7.1.1", true),
            ("172.17.0.2", "10.7.2.2", true),
            ("fd00::2", "fd07::2", false),
            ("fd00::2", "fd07::1", true),
            ("fd00::2", "fd07:0:0:1::2", true),
        ] {
            let reached = ask(&policy, source, destination) != Destination::Refused;
            assert_eq!(reached, expected, "{destination}");
        }
        policy.fence(Vec::new());
        assert_ne!(ask(&policy, "172.17.0.2", "10.7.1.2"), Destination::Refused);
    }

    #[test]
    fn the_host_is_its_own_address_or_its_loopback_when_asked_for() {
        assert_eq!(ask(&policy(false), "172.17.0.2", "169.254.1.2"), Destination::Host(OWN));
        assert_eq!(ask(&policy(true), "172.17.0.2", "169.254.1.2"), Destination::Host(Ipv4Addr::LOCALHOST.into()));
        let lonely = policy(false).decide("172.17.0.2".parse().unwrap(), HOST.into(), || None);
        assert_eq!(lonely, Destination::Refused);
    }

    #[test]
    fn only_registered_containers_are_served() {
        let mut policy = policy(false);
        assert_eq!(ask(&policy, "172.17.0.3", "1.1.1.1"), Destination::Refused);
        let newer = Registration {
            container: Id::random().unwrap(),
            addresses: vec!["172.17.0.2".parse().unwrap()],
            host_loopback: false,
        };
        policy.register(Owner(2), &newer);
        // The older one's end takes nothing from the newer one.
        policy.forget(Owner(1));
        assert_eq!(policy.owner("172.17.0.2".parse().unwrap()), Some(Owner(2)));
        assert_eq!(policy.owner("fd00::2".parse().unwrap()), None);
        policy.forget(Owner(2));
        assert_eq!(ask(&policy, "172.17.0.2", "1.1.1.1"), Destination::Refused);
    }
}
