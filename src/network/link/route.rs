//! Routes and the rules that choose between their tables: what is used already, where the outside is,
//! and what the uplink needs.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::errno::Errno;

use crate::network::link::address::{self, AF_INET, AF_INET6, address, bytes, family};
use crate::network::link::{self, failed};
use crate::network::netlink::{Message, Refused, Socket, attribute, flags, number};

/// Bytes of `struct rtmsg`, and of `struct fib_rule_hdr`.
const RTMSG: usize = 12;
/// `struct rtnexthop`.
const RTNEXTHOP: usize = 8;

// linux/fib_rules.h.
const FR_ACT_TO_TBL: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;

/// A route, of any table but `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// A prefix length of 0: the default route.
    pub destination: IpNet,
    pub table: u32,
    /// The index of the interface it leads over, the first of several; `None`: nowhere (`unreachable`).
    pub interface: Option<u32>,
    pub gateway: Option<IpAddr>,
    /// The address that what is sent over it has, where the route says so.
    pub source: Option<IpAddr>,
    /// The least is taken.
    pub metric: u32,
}

impl Route {
    fn parse(body: &[u8]) -> Option<Self> {
        let &[af, length, _, _, table, _, _, kind, ..] = body.first_chunk::<RTMSG>()?;
        let attributes = body.get(RTMSG..)?;
        let ways = [libc::RTN_UNICAST, libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT, libc::RTN_THROW];
        // Of another family: multicast routing.
        let any = match af {
            AF_INET => IpAddr::from([0; 4]),
            AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let table = attribute(attributes, libc::RTA_TABLE).and_then(number).unwrap_or(table.into());
        if table == u32::from(libc::RT_TABLE_LOCAL) || !ways.contains(&kind) {
            return None;
        }
        let destination = attribute(attributes, libc::RTA_DST).and_then(address).unwrap_or(any);
        let first = attribute(attributes, libc::RTA_MULTIPATH);
        let gateways = first.and_then(|hop| hop.get(RTNEXTHOP..)).unwrap_or(attributes);
        let interface = attribute(attributes, libc::RTA_OIF).or_else(|| first?.get(4..)).and_then(number);
        Some(Self {
            destination: IpNet::new(destination, length).ok()?,
            table,
            interface,
            gateway: attribute(gateways, libc::RTA_GATEWAY).and_then(address),
            source: attribute(attributes, libc::RTA_PREFSRC).and_then(address),
            metric: attribute(attributes, libc::RTA_PRIORITY).and_then(number).unwrap_or_default(),
        })
    }
}

/// The routes of both families, of all tables but `local`: a VPN's can be in one of its own.
///
/// # Errors
/// The kernel's refusal. A kernel without IPv6 has no IPv6 routes.
pub fn tables(socket: &mut Socket) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for af in [AF_INET, AF_INET6] {
        let mut head = [0; RTMSG];
        head[0] = af;
        let dumped = socket.dump(Message::new(libc::RTM_GETROUTE, flags::DUMP, &head), |kind, body| {
            if kind == libc::RTM_NEWROUTE {
                routes.extend(Route::parse(body));
            }
        });
        match dumped {
            Err(refused) if af == AF_INET6 && link::ipv6_is_off(refused.errno) => {}
            dumped => dumped.context("list the routes")?,
        }
    }
    Ok(routes)
}

/// The prefixes that are in use, each with its interface's name (empty: none): those of routes and of
/// the interfaces' own addresses. Left out are link-local and multicast ones, and the wide ones that
/// lead everything somewhere and say nothing about who is there: the default routes and their halves
/// and quarters as VPNs add them, shorter than /8 (IPv4) or /16 (IPv6).
///
/// # Errors
/// The kernel's refusal.
pub fn used(socket: &mut Socket) -> Result<Vec<(IpNet, String)>> {
    let links = link::list(socket)?;
    let name = |index: Option<u32>| {
        links.iter().find(|link| Some(link.index) == index).map(|link| link.name.clone()).unwrap_or_default()
    };
    let mut nets: Vec<(IpNet, String)> =
        tables(socket)?.iter().map(|route| (route.destination, name(route.interface))).collect();
    // One that is down, or was added without its route, has no route.
    for (index, net) in address::all(socket)? {
        nets.push((net.trunc(), name(Some(index))));
    }
    nets.retain(|(net, _)| is_specific(net));
    nets.sort_unstable();
    nets.dedup();
    Ok(nets)
}

fn is_specific(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => {
            let at = net.network();
            net.prefix_len() >= 8 && !at.is_multicast() && !at.is_link_local() && !at.is_loopback()
        }
        IpNet::V6(net) => {
            let at = net.network();
            net.prefix_len() >= 16 && !at.is_multicast() && !at.is_unicast_link_local() && !at.is_loopback()
        }
    }
}

/// Whether what is sent to the address stays here: whether it is one of this namespace's, in use.
///
/// # Errors
/// The kernel's refusal.
pub fn is_local(socket: &mut Socket, address: IpAddr) -> Result<bool> {
    let mut head = [0; RTMSG];
    head[..2].copy_from_slice(&[family(address), IpNet::from(address).prefix_len()]);
    let mut message = Message::new(libc::RTM_GETROUTE, 0, &head);
    message.put(libc::RTA_DST, &bytes(address));
    match socket.get(message) {
        Ok(body) => Ok(body.get(7) == Some(&libc::RTN_LOCAL)),
        // No route at all leads there.
        Err(Refused { errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH, .. }) => Ok(false),
        Err(refused) => Err(refused).with_context(|| format!("look up the route to {address}")),
    }
}

/// The way to everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    pub interface: String,
    pub gateway: Option<IpAddr>,
    /// The address of this machine on it, as others see it; `None`: it has none.
    pub source: Option<IpAddr>,
}

/// The default route of table `main` with the least metric; `None`: there is none.
///
/// # Errors
/// The kernel's refusal.
pub fn outside(socket: &mut Socket, ipv6: bool) -> Result<Option<Outside>> {
    let fits = |route: &Route| {
        let everything = route.destination.prefix_len() == 0 && route.destination.addr().is_ipv6() == ipv6;
        everything && route.table == u32::from(libc::RT_TABLE_MAIN)
    };
    let routes = tables(socket)?;
    let Some((route, index)) =
        routes.iter().filter(|route| fits(route)).filter_map(|r| Some((r, r.interface?))).min_by_key(|(r, _)| r.metric)
    else {
        return Ok(None);
    };
    let Some(link) = link::by_index(socket, index)? else { return Ok(None) };
    let mut source = route.source;
    if source.is_none() {
        let own = address::of(socket, index)?.into_iter().map(|net| net.addr());
        source = own.filter(|own| own.is_ipv6() == ipv6).find(|own| !address::is_link_local(*own));
    }
    Ok(Some(Outside { interface: link.name, gateway: route.gateway, source }))
}

/// Has what carries the mark `mark` delivered here, whomever it is for: `ip rule add fwmark MARK
/// lookup TABLE; ip route add local default dev lo table TABLE`, as TPROXY needs it. Idempotent;
/// switches the loopback on.
///
/// # Errors
/// The kernel has no policy routing; IPv6 is wanted and switched off.
pub fn deliver_marked(space: &mut Socket, mark: u32, table: u8, ipv6: bool) -> Result<()> {
    let what = "have the uplink's connections delivered in its network namespace";
    let explain = |refused: Refused| {
        if ipv6 && link::ipv6_is_off(refused.errno) { link::no_ipv6().context(what) } else { failed(what, refused) }
    };
    link::interface::raise_loopback(space)?;
    let af = if ipv6 { AF_INET6 } else { AF_INET };
    // `struct fib_rule_hdr`: family, lengths, tos, table, two reserved, action, flags.
    let head = [af, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    let mut rule = Message::new(libc::RTM_NEWRULE, flags::CREATE | flags::EXCL, &head);
    // A priority of our own: without one the kernel chooses, and sees no second rule as the same.
    rule.put_u32(FRA_FWMARK, mark).put_u32(FRA_PRIORITY, u32::from(table));
    unless_there(space.request(rule)).map_err(explain)?;
    let everything = if ipv6 { IpNet::V6(ipnet::Ipv6Net::default()) } else { IpNet::V4(ipnet::Ipv4Net::default()) };
    let head = rtmsg(&everything, table, libc::RT_SCOPE_HOST, libc::RTN_LOCAL, 0);
    let mut route = Message::new(libc::RTM_NEWROUTE, flags::CREATE | flags::EXCL, &head);
    route.put_u32(libc::RTA_OIF, link::LOOPBACK);
    unless_there(space.request(route)).map_err(explain)
}

/// Makes the interface the default route of table `main`, without a gateway: the TUN device that
/// leads outside. Idempotent.
///
/// # Errors
/// There is no such interface, or it is down; IPv6 is wanted and switched off.
pub fn add_default(space: &mut Socket, interface: &str, ipv6: bool) -> Result<()> {
    let index = link::index(space, interface)?;
    let destination = if ipv6 { IpNet::V6(ipnet::Ipv6Net::default()) } else { IpNet::V4(ipnet::Ipv4Net::default()) };
    let route = link::interface::Static { destination, gateway: None, metric: None };
    link::interface::add_route(space, index, &route, true)
        .with_context(|| format!("lead everything over the interface \"{interface}\""))
}

fn unless_there(done: Result<(), Refused>) -> Result<(), Refused> {
    match done {
        Err(Refused { errno: Errno::EEXIST, .. }) => Ok(()),
        done => done,
    }
}

/// `struct rtmsg`.
pub(super) fn rtmsg(destination: &IpNet, table: u8, scope: u8, kind: u8, how: u32) -> [u8; RTMSG] {
    let [a, b, c, d] = how.to_ne_bytes();
    let to = destination;
    [family(to.addr()), to.prefix_len(), 0, 0, table, libc::RTPROT_STATIC, scope, kind, a, b, c, d]
}
