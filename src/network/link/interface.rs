//! The container's side: addresses and routes of an interface that is there.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::link::address::{self, bytes};
use crate::network::link::route::rtmsg;
use crate::network::link::{self, Power};
use crate::network::netlink::{Message, Refused, Socket, flags};

/// RFC 8200, section 5.
const LEAST_IPV6_MTU: u32 = 1280;

/// What an interface is to have.
#[derive(Debug, Clone, Default)]
pub struct Interface<'a> {
    pub name: &'a str,
    /// With the prefix length of its network.
    pub addresses: &'a [IpNet],
    /// `--link-local-ip`: of 169.254.0.0/16 and fe80::/64.
    pub link_local: &'a [IpAddr],
    /// Where everything else goes: none, or one of each family. One that is in none of the networks of
    /// `addresses` is reached directly all the same.
    pub gateways: &'a [IpAddr],
    /// The default routes' metric; the least is taken. `None`: the kernel's, 0 and 1024.
    pub metric: Option<u32>,
    pub routes: &'a [Static],
    /// `None`: as it is.
    pub mac: Option<[u8; 6]>,
    /// `None`: as it is.
    pub mtu: Option<u32>,
}

/// A route of its own for some destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Static {
    pub destination: IpNet,
    /// `None`: whoever is there is on the link itself.
    pub gateway: Option<IpAddr>,
    pub metric: Option<u32>,
}

/// Switches the loopback on.
///
/// # Errors
/// The kernel's refusal.
pub fn raise_loopback(socket: &mut Socket) -> Result<()> {
    link::set_up(socket, "lo")
}

/// Gives the interface all that it is to have and switches it on. IPv6 addresses can be used at once:
/// there is no duplicate address detection.
///
/// # Errors
/// The interface is not there; an address or a gateway is refused; IPv6 is wanted and switched off.
pub fn configure(container: &mut Socket, wanted: &Interface) -> Result<()> {
    let there = link::find(container, wanted.name)?.with_context(|| format!("no interface \"{}\"", wanted.name))?;
    let index = there.index;
    if wanted.mac.is_some() || wanted.mtu.is_some() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &link::head(index, Power::Same));
        link::describe(&mut message, wanted.name, wanted.mtu, wanted.mac);
        container
            .request(message)
            .map_err(|refused| link::failed(format!("configure the interface \"{}\"", wanted.name), refused))?;
    }
    let ipv6 = wanted.addresses.iter().any(|net| net.addr().is_ipv6()) || wanted.link_local.iter().any(IpAddr::is_ipv6);
    if !link::without_own_addresses(container, wanted.name)? && ipv6 {
        let mtu = wanted.mtu.unwrap_or(there.mtu);
        let what = format!("configure the interface \"{}\"", wanted.name);
        if mtu < LEAST_IPV6_MTU {
            bail!("{what}: IPv6 needs an MTU of {LEAST_IPV6_MTU} or more, not {mtu}");
        }
        return Err(link::no_ipv6().context(what));
    }
    let own = wanted.mac.or(there.mac).filter(|_| ipv6).map(|mac| IpAddr::V6(address::link_local_of(mac)));
    let near = wanted.link_local.iter().copied().chain(own).filter_map(address::link_local_net);
    for address in wanted.addresses.iter().copied().chain(near) {
        address::add(container, index, address)
            .with_context(|| format!("give the interface \"{}\" the address {address}", wanted.name))?;
    }
    link::set_up(container, wanted.name)?;
    address::settle(container, wanted.addresses)?;
    add_gateways(container, wanted)?;
    for route in wanted.routes {
        add_route(container, index, route, is_near(wanted, route.gateway))
            .with_context(|| format!("add a route to {} over \"{}\"", route.destination, wanted.name))?;
    }
    Ok(())
}

/// Makes the default routes those of `wanted`, for an interface that is configured otherwise: the
/// container's way outside is another network of its now.
///
/// # Errors
/// As [`configure`].
pub fn add_gateways(container: &mut Socket, wanted: &Interface) -> Result<()> {
    if wanted.gateways.is_empty() {
        return Ok(());
    }
    let index = link::index(container, wanted.name)?;
    for gateway in wanted.gateways {
        let route = Static { destination: everything(*gateway), gateway: Some(*gateway), metric: wanted.metric };
        add_route(container, index, &route, is_near(wanted, Some(*gateway)))
            .with_context(|| format!("make {gateway} the gateway of the interface \"{}\"", wanted.name))?;
    }
    Ok(())
}

/// Whether the gateway is in a network of the interface's addresses.
fn is_near(wanted: &Interface, gateway: Option<IpAddr>) -> bool {
    gateway.is_none_or(|gateway| wanted.addresses.iter().any(|net| net.contains(&gateway)))
}

/// `0.0.0.0/0` or `::/0`.
fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// Adds a route; one that is there already is no error. `near`: the gateway is in a network of the
/// interface's, or there is none.
pub(super) fn add_route(socket: &mut Socket, index: u32, route: &Static, near: bool) -> Result<()> {
    const RTNH_F_ONLINK: u32 = 4; // linux/rtnetlink.h
    let scope = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    let how = if near { 0 } else { RTNH_F_ONLINK };
    let head = rtmsg(&route.destination, libc::RT_TABLE_MAIN, scope, libc::RTN_UNICAST, how);
    // Of default routes there is to be one.
    let unless = if route.destination.prefix_len() == 0 { flags::REPLACE } else { flags::EXCL };
    let mut message = Message::new(libc::RTM_NEWROUTE, flags::CREATE | unless, &head);
    if route.destination.prefix_len() > 0 {
        message.put(libc::RTA_DST, &bytes(route.destination.network()));
    }
    message.put_u32(libc::RTA_OIF, index);
    if let Some(gateway) = route.gateway {
        message.put(libc::RTA_GATEWAY, &bytes(gateway));
    }
    if let Some(metric) = route.metric {
        message.put_u32(libc::RTA_PRIORITY, metric);
    }
    match socket.request(message) {
        Ok(()) | Err(Refused { errno: Errno::EEXIST, .. }) => Ok(()),
        Err(refused) if route.destination.addr().is_ipv6() && link::ipv6_is_off(refused.errno) => Err(link::no_ipv6()),
        Err(refused) if refused.errno == Errno::ENETUNREACH => {
            Err(Failure::new("the gateway is not reached from here")
                .source(refused)
                .hint("a gateway has to be in the subnet of the network")
                .into())
        }
        Err(refused) => Err(refused.into()),
    }
}
