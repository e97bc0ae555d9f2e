//! The way out of the containers' network namespace: a TUN that everything without a nearer route
//! goes to, and the transparent listeners that connections are handed to by the rules
//! (`firewall::uplink_rules`).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt, socket, sockopt,
};

use super::flows;
use crate::error::Failure;
use crate::network::netlink::{Message, Socket, flags};
use crate::network::space::Space;
use crate::sys::{interface, sockets, tun};

/// The TUN's name.
pub const NAME: &str = "tun0";

/// The longest packet of IPv4 less the headers of a segment, so that a packet is a multiple of a page.
const MTU: u32 = 65520;

/// Packets that may wait to be read.
const QUEUE: u32 = 4096;

/// Packets with this mark are delivered here, whatever address they are for.
const MARK: u32 = 1;
const TABLE: u8 = 100;

/// The open TUN and what listens behind it.
#[derive(Debug)]
pub struct Tun {
    pub packets: OwnedFd,
    pub listeners: Vec<OwnedFd>,
    /// The listeners' ports; none for IPv6 where the kernel has it switched off.
    pub port4: u16,
    pub port6: Option<u16>,
}

/// Makes all of it in `space`. The TUN and its routes vanish when it is closed.
///
/// # Errors
/// The kernel has no TUN, or refuses one of the steps.
pub fn open(space: &Space) -> Result<Tun> {
    space.inside(|| {
        let has_v6 = Path::new("/proc/sys/net/ipv6").is_dir();
        interface::raise_loopback().context("raise the loopback interface")?;
        // Before the TUN is there: it takes what is the default then.
        let mut settings = vec![
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/ip_forward", "1"),
            // The kernel would look a SYN's connection up before the rules, and find one that is in TIME_WAIT.
            ("ipv4/tcp_early_demux", "0"),
            // A cookie's connection would be known only when its last handshake packet is past the rules.
            ("ipv4/tcp_syncookies", "0"),
            ("ipv4/tcp_max_syn_backlog", "16384"),
            ("core/somaxconn", "16384"),
        ];
        if has_v6 {
            settings.extend([("ipv6/conf/all/forwarding", "1"), ("ipv6/conf/default/forwarding", "1")]);
        }
        for (name, value) in settings {
            set(name, value)?;
        }
        let packets = tun::open(NAME).map_err(no_tun)?;
        set("ipv4/conf/tun0/rp_filter", "0")?;
        let mut route = Socket::route().context("open a netlink socket")?;
        let index = nix::net::if_::if_nametoindex(NAME)?;
        raise(&mut route, index)?;
        let loopback = nix::net::if_::if_nametoindex("lo")?;
        let mut tun = Tun { packets, listeners: Vec::new(), port4: 0, port6: None };
        for family in [libc::AF_INET, libc::AF_INET6] {
            if family == libc::AF_INET6 && !has_v6 {
                break;
            }
            match lead(&mut route, family, index, loopback).and_then(|()| listener(family)) {
                Ok((socket, port)) => {
                    tun.listeners.push(socket);
                    if family == libc::AF_INET { tun.port4 = port } else { tun.port6 = Some(port) }
                }
                // Switched off by disable_ipv6: the containers have none either.
                Err(_) if family == libc::AF_INET6 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(tun)
    })?
}

fn no_tun(e: io::Error) -> anyhow::Error {
    let hint = match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "load the kernel's module, as root: modprobe tun (kernel option CONFIG_TUN)"
        }
        Some(libc::EACCES) => "allow it, as root: chmod 0666 /dev/net/tun",
        Some(libc::EBUSY) => "another uplink is in this namespace; stop your containers and try again",
        _ => "run containers with --network host or --network none",
    };
    Failure::new("cannot open \"/dev/net/tun\"").source(e).hint(hint).into()
}

/// Writes a setting of this thread's network namespace.
fn set(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(name);
    match fs::write(&path, value) {
        // What is right already needs no permission (/proc/sys of an outer container is read-only).
        Err(_) if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) => Ok(()),
        // Not every kernel has it in each namespace.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("write {path:?}")),
    }
}

/// The TUN's MTU and queue, and up.
fn raise(route: &mut Socket, index: u32) -> Result<()> {
    let up = u32::try_from(libc::IFF_UP)?;
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&up.to_ne_bytes());
    head[12..].copy_from_slice(&up.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &head);
    message.put_u32(libc::IFLA_MTU, MTU).put_u32(libc::IFLA_TXQLEN, QUEUE);
    route.request(message).with_context(|| format!("switch the interface \"{NAME}\" on"))
}

/// The default route through the TUN, and local delivery of what the rules mark.
fn lead(route: &mut Socket, family: i32, tun: u32, loopback: u32) -> Result<()> {
    let family = u8::try_from(family)?;
    let rtmsg = |table: u8, scope: u8, kind: u8| [family, 0, 0, 0, table, libc::RTPROT_BOOT, scope, kind, 0, 0, 0, 0];
    let new = flags::CREATE | flags::REPLACE;
    let mut default =
        Message::new(libc::RTM_NEWROUTE, new, &rtmsg(libc::RT_TABLE_MAIN, libc::RT_SCOPE_LINK, libc::RTN_UNICAST));
    default.put_u32(libc::RTA_OIF, tun);
    route.request(default).with_context(|| format!("make the default route to \"{NAME}\""))?;
    let mut local = Message::new(libc::RTM_NEWROUTE, new, &rtmsg(TABLE, libc::RT_SCOPE_HOST, libc::RTN_LOCAL));
    local.put_u32(libc::RTA_OIF, loopback);
    route.request(local).context("make the route to the uplink's listeners")?;
    // struct fib_rule_hdr: linux/fib_rules.h.
    let head = [family, 0, 0, 0, TABLE, 0, 0, 1, 0, 0, 0, 0];
    let mut rule = Message::new(libc::RTM_NEWRULE, flags::CREATE | flags::EXCL, &head);
    rule.put_u32(6, 100).put_u32(10, MARK);
    match route.request(rule) {
        // That of an uplink before this one.
        Err(e) if e.errno == Errno::EEXIST => Ok(()),
        done => done.context("make the routing rule to the uplink's listeners"),
    }
}

/// A listener that takes connections to any address, and its port.
fn listener(family: i32) -> Result<(OwnedFd, u16)> {
    let is_v4 = family == libc::AF_INET;
    let (family, address): (_, SocketAddr) = if is_v4 {
        (AddressFamily::Inet, (Ipv4Addr::LOCALHOST, 0).into())
    } else {
        (AddressFamily::Inet6, (Ipv6Addr::LOCALHOST, 0).into())
    };
    let listener = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    make_transparent(&listener, is_v4).context("make a transparent socket")?;
    flows::prepare(&listener)?;
    bind(listener.as_raw_fd(), &SockaddrStorage::from(address)).with_context(|| format!("bind to {address}"))?;
    listen(&listener, Backlog::MAXCONN)?;
    let own: SockaddrStorage = getsockname(listener.as_raw_fd())?;
    let port = sockets::to_std(&own).context("an address of another family")?.port();
    Ok((listener, port))
}

/// Lets a socket have an address that is not the machine's: ip(7), `IP_TRANSPARENT`.
///
/// # Errors
/// As setsockopt(2); `EPERM` without CAP_NET_ADMIN over the socket's network namespace.
pub fn make_transparent(socket: &OwnedFd, is_v4: bool) -> io::Result<()> {
    if is_v4 {
        setsockopt(socket, sockopt::IpTransparent, &true).map_err(io::Error::from)
    } else {
        sockets::set_int(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1)
    }
}
