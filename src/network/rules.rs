//! From the records of networks and members to the rules of the [`firewall`]: what is added goes
//! into the tables that are there; where there are none (the first container; somebody flushed all
//! rules), everything is loaded from the records.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::network::firewall::{self, MemberRules, NetworkRules, Publication};
use crate::network::member::{self, Member};
use crate::network::record::{self, Driver, Network};
use crate::network::space::Space;
use crate::network::{Published, link};
use crate::store::Store;

/// What the rules have to know of a network.
#[must_use]
pub fn of_network(network: &Network) -> NetworkRules {
    NetworkRules { bridge: network.interface(), internal: network.internal, masquerade: network.masquerade() }
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

/// Each port with the member's address of the same family; where it has none, of the other.
#[must_use]
pub fn publications(published: &[Published], member: &Member) -> Vec<Publication> {
    published
        .iter()
        .filter_map(|from| {
            let (v4, v6) = (member.ipv4.map(IpAddr::V4), member.ipv6.map(IpAddr::V6));
            let address = if from.host.is_ipv4() { v4.or(v6) } else { v6.or(v4) }?;
            Some((*from, SocketAddr::new(address, from.container_port)))
        })
        .collect()
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
                if leads {
                    all.published.extend(publications(&member.published, &member));
                }
            }
        }
        Ok(all)
    })
}
