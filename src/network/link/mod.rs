//! Network interfaces, their addresses, the routes over them and how fast they are: rtnetlink(7).
//!
//! A container's interface is one end of a veth pair whose other end, the port, is in its network's
//! bridge ([`bridge`], [`veth`]); or it is a macvlan, a further address of one of the host's interfaces.
//! It is made inside the container's network namespace, under its last name, because moving an
//! interface costs 24 ms and making one 0.2 ms. In the same way nobody removes a pair: it dies with
//! the container's namespace.
//!
//! The steps, in this order: [`bridge::ensure`], [`veth::create`], [`interface::configure`] in the
//! container, [`veth::raise`].
//!
//! Every function takes a socket of the namespace that it is to act in.

pub mod address;
pub mod bridge;
pub mod interface;
pub mod macvlan;
pub mod neighbour;
pub mod rate;
pub mod route;
pub mod veth;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::netlink::{Message, Refused, Socket, attribute, flags, number, text};

/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// The longest name of an interface: `IFNAMSIZ` without its zero byte.
const LONGEST_NAME: usize = libc::IFNAMSIZ - 1;

/// How long the kernel is given for what it does in the background, such as noticing a carrier; it takes
/// less than a millisecond when little else goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// The loopback's index, in every namespace.
const LOOPBACK: u32 = 1;

// linux/if.h, RFC 2863.
const IF_OPER_UNKNOWN: u8 = 0;
const IF_OPER_UP: u8 = 6;

// linux/if_link.h, what libc has no names for.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// An interface as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// At least 1.
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`, `tun` and so on; empty: a device, or the loopback.
    pub kind: String,
    /// It is switched on, which says nothing about a cable.
    pub up: bool,
    pub mtu: u32,
    /// `None`: it has no address of Ethernet's kind.
    pub mac: Option<[u8; 6]>,
    /// The bridge it is a port of.
    pub bridge: Option<u32>,
    /// What root wrote on it (`ip link set … alias`); empty: nothing.
    pub alias: String,
    /// Packets pass: it is on, and so is what it is connected with. `true` also for an interface that
    /// does not know (a TUN device, the loopback).
    pub running: bool,
}

impl Link {
    /// Of a message that tells of a link: a dump's, or one of [`Socket::news`].
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let head: &[u8; IFINFOMSG] = body.first_chunk()?;
        let attributes = body.get(IFINFOMSG..)?;
        let info = attribute(attributes, libc::IFLA_LINKINFO).unwrap_or_default();
        Some(Self {
            index: number(&head[4..])?,
            name: text(attribute(attributes, libc::IFLA_IFNAME)?).to_owned(),
            kind: attribute(info, libc::IFLA_INFO_KIND).map(text).unwrap_or_default().to_owned(),
            up: number(&head[8..])? & libc::IFF_UP.cast_unsigned() != 0,
            mtu: attribute(attributes, libc::IFLA_MTU).and_then(number).unwrap_or_default(),
            mac: attribute(attributes, libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
            bridge: attribute(attributes, libc::IFLA_MASTER).and_then(number),
            alias: attribute(attributes, libc::IFLA_IFALIAS).map(text).unwrap_or_default().to_owned(),
            running: attribute(attributes, libc::IFLA_OPERSTATE)
                .is_some_and(|state| matches!(state, [IF_OPER_UNKNOWN | IF_OPER_UP, ..])),
        })
    }

    /// Whether interfaces can be ports of it.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.kind == "bridge"
    }

    /// What it is, in words: `a tun interface`.
    #[must_use]
    pub fn what(&self) -> String {
        match self.kind.as_str() {
            "" => "an interface of the machine".to_owned(),
            kind => format!("{} {kind} interface", if kind.starts_with("ip") { "an" } else { "a" }),
        }
    }
}

/// All interfaces of the namespace.
///
/// # Errors
/// The kernel's refusal.
pub fn list(socket: &mut Socket) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    socket
        .dump(Message::new(libc::RTM_GETLINK, flags::DUMP, &[0; IFINFOMSG]), |_, body| links.extend(Link::parse(body)))
        .context("list the network interfaces")?;
    Ok(links)
}

/// All interfaces of one kind (`bridge`). Of a kernel that does not choose (before 4.20) all others are
/// read too.
///
/// # Errors
/// The kernel's refusal.
pub fn of_kind(socket: &mut Socket, kind: &str) -> Result<Vec<Link>> {
    let mut message = Message::new(libc::RTM_GETLINK, flags::DUMP, &[0; IFINFOMSG]);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_KIND, kind);
    });
    let mut links = Vec::new();
    socket
        .dump(message, |_, body| links.extend(Link::parse(body).filter(|link| link.kind == kind)))
        .with_context(|| format!("list the {kind} interfaces"))?;
    Ok(links)
}

/// The interface of that name; `None`: there is none.
///
/// # Errors
/// The kernel's refusal.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = Message::new(libc::RTM_GETLINK, 0, &[0; IFINFOMSG]);
    message.put_text(libc::IFLA_IFNAME, name);
    look(socket, message).with_context(|| format!("look up the interface \"{name}\""))
}

/// The interface of that index; `None`: there is none.
///
/// # Errors
/// The kernel's refusal.
pub fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    look(socket, Message::new(libc::RTM_GETLINK, 0, &head(index, Power::Same)))
        .with_context(|| format!("look up the interface with the index {index}"))
}

fn look(socket: &mut Socket, message: Message) -> Result<Option<Link>> {
    match socket.get(message) {
        Ok(body) => Ok(Link::parse(&body)),
        // ERANGE: no name is that long.
        Err(Refused { errno: Errno::ENODEV | Errno::ERANGE, .. }) => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

/// The index of the interface of that name.
///
/// # Errors
/// There is none: `no interface "x"`.
pub fn index(socket: &mut Socket, name: &str) -> Result<u32> {
    find(socket, name)?.map(|link| link.index).with_context(|| format!("no interface \"{name}\""))
}

/// Switches the interface on.
///
/// # Errors
/// There is none; the device refuses.
pub fn set_up(socket: &mut Socket, name: &str) -> Result<()> {
    socket.request(up(name)).map_err(|refused| failed(format!("switch the interface \"{name}\" on"), refused))
}

/// Removes the interface; `false`: there was none. It takes the kernel some 30 ms.
///
/// # Errors
/// It is one that cannot be removed, such as the loopback or a device.
pub fn remove(socket: &mut Socket, name: &str) -> Result<bool> {
    let mut message = Message::new(libc::RTM_DELLINK, 0, &[0; IFINFOMSG]);
    message.put_text(libc::IFLA_IFNAME, name);
    match socket.request(message) {
        Ok(()) => Ok(true),
        Err(Refused { errno: Errno::ENODEV | Errno::ERANGE, .. }) => Ok(false),
        Err(refused) => Err(failed(format!("remove the interface \"{name}\""), refused)),
    }
}

/// Whether an interface can have this name: at most 15 bytes, none of which the kernel, `/proc/sys`
/// and paths understand otherwise.
///
/// # Errors
/// Why it cannot.
pub fn check_name(name: &str) -> Result<()> {
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name == "." || name == ".." || name.contains(odd) {
        bail!("\"{name}\" is not a name for an interface");
    }
    if name.len() > LONGEST_NAME {
        bail!("\"{name}\" is too long for an interface: {} bytes of at most {LONGEST_NAME}", name.len());
    }
    Ok(())
}

/// The Ethernet address that goes with an address, as Docker made it: who gets an address that somebody
/// else had before has its Ethernet address too, and no neighbour needs to learn anything anew.
#[must_use]
pub fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// What a message does to the switch of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Same,
    On,
}

/// `struct ifinfomsg`.
fn head(index: u32, power: Power) -> [u8; IFINFOMSG] {
    let mut head = [0; IFINFOMSG];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    if power == Power::On {
        let up = libc::IFF_UP.to_ne_bytes();
        head[8..12].copy_from_slice(&up);
        head[12..16].copy_from_slice(&up);
    }
    head
}

/// The beginning of a message that makes an interface: its name and, where given, MTU and Ethernet address.
fn making(name: &str, mtu: Option<u32>, mac: Option<[u8; 6]>) -> Message {
    let mut message = Message::new(libc::RTM_NEWLINK, flags::CREATE | flags::EXCL, &[0; IFINFOMSG]);
    describe(&mut message, name, mtu, mac);
    message
}

fn describe(message: &mut Message, name: &str, mtu: Option<u32>, mac: Option<[u8; 6]>) {
    message.put_text(libc::IFLA_IFNAME, name);
    if let Some(mtu) = mtu {
        message.put_u32(libc::IFLA_MTU, mtu);
    }
    if let Some(mac) = mac {
        message.put(libc::IFLA_ADDRESS, &mac);
    }
}

fn up(name: &str) -> Message {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &head(0, Power::On));
    message.put_text(libc::IFLA_IFNAME, name);
    message
}

/// Keeps the kernel from giving an interface that is not up yet a link-local IPv6 address of its own,
/// which would take a second of duplicate address detection, and would be there on a network without IPv6.
/// `false`: the kernel has no IPv6, and nothing is to be kept from it.
fn without_own_addresses(socket: &mut Socket, name: &str) -> Result<bool> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &[0; IFINFOMSG]);
    message.put_text(libc::IFLA_IFNAME, name).nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(address::AF_INET6.into(), |inet6| {
            inet6.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        });
    });
    match socket.request(message) {
        Ok(()) => Ok(true),
        // `ipv6.disable=1`; a kernel without IPv6; an MTU below IPv6's least.
        Err(Refused { errno: Errno::EAFNOSUPPORT, .. }) => Ok(false),
        Err(refused) => Err(failed(format!("configure the interface \"{name}\""), refused)),
    }
}

/// Asks until it is so, or until it is `end`.
fn until(end: Instant, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut pause = Duration::from_micros(50);
    while !done()? && Instant::now() < end {
        thread::sleep(pause);
        pause *= 2;
    }
    Ok(())
}

/// The error for what the kernel refused, with the remedy where the errno tells it.
fn failed(what: impl Into<String>, refused: Refused) -> Error {
    let errno = refused.errno;
    let failure = Failure::new(what).source(refused);
    match errno {
        Errno::EPERM => failure.hint("this needs CAP_NET_ADMIN over the network namespace").into(),
        _ => failure.into(),
    }
}

/// The error for an interface of `kind` that could not be made.
fn unmade(kind: &str, name: &str, refused: Refused) -> Error {
    let what = format!("make the {kind} \"{name}\"");
    match refused.errno {
        // The kernel's answer to a kind that it does not know.
        Errno::EOPNOTSUPP => Failure::new(what)
            .source(Failure::new(format!("this kernel has no support for {kind} interfaces")))
            .hint(format!("as root: modprobe {kind}"))
            .into(),
        _ => failed(what, refused),
    }
}

/// Whether the kernel has no IPv6 at all, or none for this interface.
fn ipv6_is_off(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EACCES)
}

fn no_ipv6() -> Error {
    Failure::new("IPv6 is switched off")
        .hint("use a network without IPv6, or look at the sysctl net.ipv6.conf.all.disable_ipv6 and the kernel's option ipv6.disable")
        .into()
}
