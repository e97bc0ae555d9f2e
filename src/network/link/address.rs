//! Addresses, as interfaces have them and as messages carry them.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::errno::Errno;

use crate::network::link::{self, route};
use crate::network::netlink::{Message, Refused, Socket, attribute, flags, number};

/// The families of socket(2), as the byte that they are in messages.
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
/// Bytes of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// linux/if_addr.h: all 32 bits of an address's flags.
const IFA_FLAGS: u16 = 8;

/// Adds an address to the interface of that index; one that is there already is no error.
///
/// # Errors
/// The kernel's refusal: IPv6 is switched off.
pub fn add(socket: &mut Socket, index: u32, net: IpNet) -> Result<()> {
    let address = net.addr();
    let scope = if is_link_local(address) { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let mut message = Message::new(libc::RTM_NEWADDR, flags::CREATE | flags::EXCL, &ifaddrmsg(&net, scope, index));
    message.put(libc::IFA_LOCAL, &bytes(address)).put(libc::IFA_ADDRESS, &bytes(address));
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message.put(libc::IFA_BROADCAST, &net.broadcast().octets());
        }
        IpNet::V4(_) => {}
        IpNet::V6(_) => {
            message.put_u32(IFA_FLAGS, libc::IFA_F_NODAD);
        }
    }
    match socket.request(message) {
        Ok(()) | Err(Refused { errno: Errno::EEXIST, .. }) => Ok(()),
        Err(refused) if address.is_ipv6() && link::ipv6_is_off(refused.errno) => Err(link::no_ipv6()),
        Err(refused) => Err(refused.into()),
    }
}

/// Takes an address from the interface of that index; nothing happens when it has not got it.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(socket: &mut Socket, index: u32, net: IpNet) -> Result<()> {
    let mut message = Message::new(libc::RTM_DELADDR, 0, &ifaddrmsg(&net, libc::RT_SCOPE_UNIVERSE, index));
    message.put(libc::IFA_LOCAL, &bytes(net.addr()));
    match socket.request(message) {
        Ok(()) | Err(Refused { errno: Errno::EADDRNOTAVAIL, .. }) => Ok(()),
        Err(refused) => Err(refused).with_context(|| format!("take the address {net} from an interface")),
    }
}

/// Waits until the IPv6 ones of these addresses of an interface that is up are in use: the kernel does
/// that in the background, also without duplicate address detection.
pub(super) fn settle(socket: &mut Socket, nets: &[IpNet]) -> Result<()> {
    let end = Instant::now() + link::PATIENCE;
    for net in nets.iter().filter(|net| net.addr().is_ipv6()) {
        link::until(end, || route::is_local(socket, net.addr()))?;
    }
    Ok(())
}

/// `struct ifaddrmsg`.
fn ifaddrmsg(net: &IpNet, scope: u8, index: u32) -> [u8; IFADDRMSG] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family(net.addr()), net.prefix_len(), 0, scope, a, b, c, d]
}

/// The addresses of the interface of that index, each with its prefix length.
///
/// # Errors
/// The kernel's refusal.
pub fn of(socket: &mut Socket, index: u32) -> Result<Vec<IpNet>> {
    let mut found = dump(socket, index)?;
    // Before Linux 4.20 a dump is of all interfaces, whichever was asked for.
    found.retain(|(at, _)| *at == index);
    Ok(found.into_iter().map(|(_, net)| net).collect())
}

/// The addresses of all interfaces, each with its interface's index.
///
/// # Errors
/// The kernel's refusal.
pub fn all(socket: &mut Socket) -> Result<Vec<(u32, IpNet)>> {
    dump(socket, 0)
}

fn dump(socket: &mut Socket, index: u32) -> Result<Vec<(u32, IpNet)>> {
    let mut head = [0; IFADDRMSG];
    head[4..].copy_from_slice(&index.to_ne_bytes());
    let mut found = Vec::new();
    socket
        .dump(Message::new(libc::RTM_GETADDR, flags::DUMP, &head), |_, body| found.extend(parse(body)))
        .context("list the addresses")?;
    Ok(found)
}

fn parse(body: &[u8]) -> Option<(u32, IpNet)> {
    let attributes = body.get(IFADDRMSG..)?;
    // Of a point-to-point link IFA_ADDRESS is the other side's; IPv6 has IFA_LOCAL only there.
    let own = attribute(attributes, libc::IFA_LOCAL).or_else(|| attribute(attributes, libc::IFA_ADDRESS))?;
    Some((number(body.get(4..)?)?, IpNet::new(address(own)?, *body.get(1)?).ok()?))
}

/// The link-local address that goes with an Ethernet address: RFC 4291, appendix A.
pub(super) fn link_local_of(mac: [u8; 6]) -> Ipv6Addr {
    let [first, second, third, rest @ ..] = mac;
    let mut address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, first ^ 2, second, third, 0xff, 0xfe, 0, 0, 0];
    address[13..].copy_from_slice(&rest);
    Ipv6Addr::from(address)
}

/// With the prefix length of link-local networks.
pub(super) fn link_local_net(address: IpAddr) -> Option<IpNet> {
    IpNet::new(address, if address.is_ipv4() { 16 } else { 64 }).ok()
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}
