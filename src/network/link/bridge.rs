//! The bridge of a network.

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::link::{self, Link, address};
use crate::network::netlink::{Message, Refused, Socket};

/// What a network's bridge is to be.
#[derive(Debug)]
pub struct Bridge<'a> {
    pub name: &'a str,
    /// Without one a bridge takes the least of its ports' addresses, another one as they come and go.
    pub mac: Option<[u8; 6]>,
    /// `None`: the least of its ports'.
    pub mtu: Option<u32>,
    /// Its own addresses, each with its network's prefix length: the containers' gateways. None: the
    /// containers reach each other, and nothing else.
    pub addresses: &'a [IpNet],
    /// What is to be written on it, for others to know it by.
    pub alias: Option<&'a str>,
}

/// A bridge that is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ensured {
    pub index: u32,
    /// It was not there before.
    pub new: bool,
}

/// Makes the bridge, up and with its addresses, or completes the one that is there.
///
/// Idempotent: any number of commands may do it at once. A bridge that is there keeps its Ethernet
/// address and whatever else it has (`com.docker.network.bridge.name` can name an administrator's).
///
/// # Errors
/// The name is another interface's; the kernel has no bridges; an address cannot be had.
pub fn ensure(space: &mut Socket, bridge: &Bridge) -> Result<Ensured> {
    let mut new = false;
    // The one that is there, one that is made, one that somebody else made in between.
    for _ in 0..3 {
        if let Some(there) = link::find(space, bridge.name)? {
            return Ok(Ensured { index: complete(space, bridge, &there)?, new });
        }
        match make(space, bridge) {
            Ok(()) => new = true,
            Err(Refused { errno: Errno::EEXIST, .. }) => {}
            Err(refused) => return Err(link::unmade("bridge", bridge.name, refused)),
        }
    }
    bail!("make the bridge \"{}\": it is made and removed over and over", bridge.name)
}

fn make(space: &mut Socket, bridge: &Bridge) -> Result<(), Refused> {
    let mut message = link::making(bridge.name, bridge.mtu, bridge.mac);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_KIND, "bridge");
    });
    space.request(message)
}

/// The error for a name that is another interface's.
#[must_use]
pub fn taken(there: &Link) -> anyhow::Error {
    Failure::new(format!("make the bridge \"{}\": the name is taken by {}", there.name, there.what()))
        .hint("remove that interface, or name the bridge otherwise: --opt com.docker.network.bridge.name=NAME")
        .into()
}

fn complete(space: &mut Socket, bridge: &Bridge, there: &Link) -> Result<u32> {
    if !there.is_bridge() {
        return Err(taken(there));
    }
    if let Some(mtu) = bridge.mtu.filter(|mtu| *mtu != there.mtu) {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &link::head(there.index, link::Power::Same));
        message.put_u32(libc::IFLA_MTU, mtu);
        space.request(message).map_err(|refused| {
            link::failed(format!("set the MTU of the bridge \"{}\" to {mtu}", bridge.name), refused)
        })?;
    }
    // Before it has an address: whoever keeps away from such bridges knows it from the first packet on.
    if let Some(alias) = bridge.alias.filter(|alias| *alias != there.alias) {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &link::head(there.index, link::Power::Same));
        message.put(libc::IFLA_IFALIAS, alias.as_bytes());
        space
            .request(message)
            .map_err(|refused| link::failed(format!("write an alias on the bridge \"{}\"", bridge.name), refused))?;
    }
    if !there.up {
        link::without_own_addresses(space, bridge.name)?;
    }
    if !bridge.addresses.is_empty() {
        // Forwarding to IPv6 neighbours asks for them with the link-local address, and only with that.
        let own = there.mac.filter(|_| !there.up && bridge.addresses.iter().any(|net| net.addr().is_ipv6()));
        let own = own.map(|mac| address::link_local_of(mac).into()).and_then(address::link_local_net);
        let has = address::of(space, there.index)?;
        for net in bridge.addresses.iter().copied().chain(own).filter(|net| !has.contains(net)) {
            address::add(space, there.index, net)
                .with_context(|| format!("give the bridge \"{}\" the address {net}", bridge.name))?;
        }
    }
    if !there.up {
        link::set_up(space, bridge.name)?;
        address::settle(space, bridge.addresses)?;
    }
    Ok(there.index)
}
