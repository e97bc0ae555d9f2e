//! A network's bridge and rules in the [`Space`], there from its first member on.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use crate::network::link;
use crate::network::mac::Mac;
use crate::network::member;
use crate::network::record::Network;
use crate::network::settings::GatewayMode;
use crate::network::space::Space;
use crate::network::{firewall, rules, sysctl};
use crate::store::{Id, Store};

/// How what ctr writes on its bridges begins; the network's id follows. An interface's name is short
/// and can be anybody's, what is written on it is root's alone.
const ALIAS: &str = "ctr network ";

/// Whether ctr made this bridge. One that was there before is its administrator's.
#[must_use]
pub fn is_ours(link: &link::Link) -> bool {
    link.is_bridge() && link.alias.strip_prefix(ALIAS).is_some_and(|id| id.parse::<Id>().is_ok())
}

impl Network {
    /// The containers' ways outside, with their networks' prefix lengths.
    pub fn gateways(&self) -> impl Iterator<Item = IpNet> {
        let of = |subnet: &super::record::Subnet| IpNet::new(subnet.gateway?, subnet.subnet.prefix_len()).ok();
        let gateways = self.subnets.iter().filter_map(of);
        gateways.filter(|net| self.gateway_mode(net.addr().is_ipv6()) != GatewayMode::Isolated)
    }

    /// The bridge's own addresses: those of the gateways which are this machine.
    pub fn bridge_addresses(&self) -> Vec<IpNet> {
        self.gateways().filter(|net| net.addr().is_ipv6() || !self.inhibits_ipv4()).collect()
    }

    /// The bridge's hardware address. One of its own, and for good: else it would be the lowest of its
    /// ports', another one when a container comes or goes, and those whose neighbour cache has the old
    /// one would not get out until that has expired.
    fn bridge_mac(&self) -> Mac {
        let mut addresses = self.subnets.iter().filter_map(|subnet| subnet.gateway);
        let v4 = addresses.find_map(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None });
        // As containers' are made of their addresses; without one, of the id's beginning.
        let from_id = || u32::from_str_radix(&self.id.as_str()[..8], 16).unwrap_or_default().into();
        Mac::of(v4.unwrap_or_else(from_id))
    }
}

/// Makes the bridge and its rules, or completes what is there.
///
/// # Errors
/// The kernel refused a step; the interface's name is another's.
pub fn ensure(store: &Store, space: &Space, network: &Network) -> Result<()> {
    let name = network.interface();
    let addresses = network.bridge_addresses();
    let has_ipv6 = network.subnet(true).is_some();
    let mac = Some(network.bridge_mac().0);
    let alias = network.found.is_none().then(|| format!("{ALIAS}{}", network.id));
    let wanted =
        link::bridge::Bridge { name: &name, mac, mtu: network.mtu(), addresses: &addresses, alias: alias.as_deref() };
    let made = space.inside(|| -> Result<link::bridge::Ensured> {
        let mut socket = super::netlink::Socket::route()?;
        let made = link::bridge::ensure(&mut socket, &wanted)?;
        if network.found.is_some() {
            // Whose bridge it is has settled that.
        } else if has_ipv6 {
            // A container that says it is a router is not believed (CVE-2020-13401).
            sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        } else {
            // Nobody asked for the addresses that IPv6 gives itself.
            sysctl::set_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
        }
        if space.is_apart() {
            // Packets within a bridge are none of the routing rules' business, where br_netfilter is.
            for family in ["iptables", "ip6tables"] {
                sysctl::set_if_there(&format!("bridge/bridge-nf-call-{family}"), "0")?;
            }
        } else {
            sysctl::set("ipv4/ip_forward", "1")?;
            if has_ipv6 {
                sysctl::set_if_there("ipv6/conf/all/forwarding", "1")?;
            }
        }
        Ok(made)
    })??;
    if made.new {
        // Somebody may have removed the one that they were in.
        rejoin(store, space, network)?;
    }
    let rules = rules::of_network(network);
    rules::change(store, space, || firewall::load_network(space, &rules))?;
    if !space.is_apart() {
        let mut socket = space.netfilter()?;
        if let Some(foreign) = firewall::foreign::active(&mut socket)? {
            firewall::foreign::let_through(&mut socket, &foreign, &name)?;
        }
    }
    Ok(())
}

/// Puts the running containers of the network back into its bridge, where they are not in it.
///
/// # Errors
/// The members' records cannot be read; the kernel's refusal.
pub fn rejoin(store: &Store, space: &Space, network: &Network) -> Result<()> {
    let mut socket = space.route()?;
    let bridge = link::index(&mut socket, &network.interface())?;
    for member in member::living(store, &network.id)?.iter().filter(|member| !member.port.is_empty()) {
        link::veth::rejoin(&mut socket, &member.port, bridge, !network.icc(), !space.is_apart())?;
    }
    Ok(())
}

/// Takes its bridge and rules away; nobody is on it any more.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(space: &Space, network: &Network) -> Result<()> {
    let name = network.interface();
    firewall::unload_network(space, &rules::of_network(network))?;
    if !space.is_apart() {
        firewall::foreign::withdraw(&mut space.netfilter()?, &name)?;
    }
    let mut socket = space.route()?;
    let Some(there) = link::find(&mut socket, &name)?.filter(link::Link::is_bridge) else { return Ok(()) };
    match &network.found {
        None => link::remove(&mut socket, &name).map(|_| ()),
        Some(before) => {
            let ours = network.bridge_addresses().into_iter().filter(|address| !before.contains(address));
            ours.into_iter().try_for_each(|address| link::address::remove(&mut socket, there.index, address))
        }
    }
}

/// The bridge of a network that is about to be made, where it is there already: its addresses. In a
/// user's own space there are none but ours.
///
/// # Errors
/// The interface of that name is no bridge.
pub fn found(store: &Store, network: &Network) -> Result<Option<Vec<IpNet>>> {
    let Some(space @ Space::Here) = Space::find(store)? else { return Ok(None) };
    let mut socket = space.route()?;
    match link::find(&mut socket, &network.interface())? {
        None => Ok(None),
        Some(there) if there.is_bridge() => link::address::of(&mut socket, there.index).map(Some),
        Some(there) => Err(link::bridge::taken(&there)),
    }
}
