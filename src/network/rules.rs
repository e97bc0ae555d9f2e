//! From the records of networks and members to the rules of the [`firewall`]: what is added goes
//! into the tables that are there; where there are none (the first container; somebody flushed all
//! rules), everything is loaded from the records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::network::firewall::{self, MemberRules, NetworkRules, Publication, Way};
use crate::network::member::{self, Member};
use crate::network::record::{self, Driver, Network};
use crate::network::space::Space;
use crate::network::{Published, link};
use crate::store::Store;

/// What the rules have to know of a network.
#[must_use]
pub fn of_network(network: &Network) -> NetworkRules {
    let way = |ipv6| Way {
        mode: network.gateway_mode(ipv6),
        masquerade: network.masquerade(),
        source: network.host_address(ipv6),
    };
    NetworkRules {
        bridge: network.interface(),
        internal: network.internal,
        ways: [way(false), way(true)],
        trusted: network.trusted_interfaces().map(str::to_owned).collect(),
    }
}

/// What the rules have to know of a member.
#[must_use]
pub fn of_member(member: &Member) -> MemberRules {
    MemberRules {
        port: member.port.clone(),
        mac: member.mac,
        ipv4: member.ipv4,
        ipv6: member.ipv6,
        loopback: member.loopback,
    }
}

/// Each port with the member's address of the same family; where it has none, of the other. Behind them
/// those that are reached at the member's own address too (`trusted_host_interfaces`).
#[must_use]
pub fn publications(network: &Network, published: &[Published], member: &Member) -> Vec<Publication> {
    let mut own: Vec<Published> = Vec::new();
    if network.trusted_interfaces().next().is_some() {
        own.extend(published.iter().map(|from| Published { host: unspecified(from.host), host_port: 0, ..*from }));
        own.sort_unstable();
        own.dedup();
        own.retain(|from| !published.contains(from));
    }
    published
        .iter()
        .chain(&own)
        .filter_map(|from| {
            let (v4, v6) = (member.ipv4.map(IpAddr::V4), member.ipv6.map(IpAddr::V6));
            let address = if from.host.is_ipv4() { v4.or(v6) } else { v6.or(v4) }?;
            Some((*from, SocketAddr::new(address, from.container_port)))
        })
        .collect()
}

fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Does `change`; where it finds no tables, loads all there is, what it was to add included.
///
/// # Errors
/// What the kernel refuses.
pub fn change(store: &Store, space: &Space, change: impl FnOnce() -> Result<()>) -> Result<()> {
    match change() {
        Err(e) if firewall::is_missing(&e) => load(store, space),
        done => done,
    }
}

/// Whether published ports are to be led to containers by rules. Where ufw or firewalld decide about
/// what comes in for this machine, it must be a socket of this machine's that it comes in for.
///
/// # Errors
/// What the kernel refuses.
pub fn lead_ports(space: &Space) -> Result<bool> {
    if space.is_apart() {
        return Ok(false);
    }
    Ok(!firewall::foreign::active(&mut space.netfilter()?)?.is_some_and(|foreign| foreign.guards_input()))
}

/// Loads all rules of the networks whose bridges are there, in place of those that are loaded.
///
/// # Errors
/// The records cannot be read; what the kernel refuses.
pub fn load(store: &Store, space: &Space) -> Result<()> {
    let leads = lead_ports(space)?;
    firewall::load_all(space, || {
        let mut socket = space.route()?;
        let mut all = firewall::All::default();
        for network in record::list(store)?.iter().filter(|network| network.driver == Driver::Bridge) {
            // An interface that is none of ours may have taken the name.
            if !link::find(&mut socket, &network.interface())?.is_some_and(|there| there.is_bridge()) {
                continue;
            }
            all.networks.push(of_network(network));
            for member in member::living(store, &network.id)? {
                all.members.push(of_member(&member));
                let publications = publications(network, &member.published, &member);
                all.published.extend(publications.into_iter().filter(|(from, _)| leads || from.is_routed()));
            }
        }
        Ok(all)
    })
}
