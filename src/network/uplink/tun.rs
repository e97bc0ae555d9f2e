//! The way out of the containers' network namespace: a TUN that everything without a nearer route
//! goes to, and the transparent listeners that connections are handed to by the rules
//! (`firewall::uplink_rules`).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt, socket, sockopt,
};

use super::flow;
use crate::error::Failure;
use crate::network::firewall::{MARK, uplink_rules};
use crate::network::link::route::{add_default, deliver_marked};
use crate::network::netlink::{Message, Socket};
use crate::network::space::Space;
use crate::sys::{sockets, tun};

/// The TUN's name.
pub const NAME: &str = "tun0";

/// The longest packet of IPv4 less the headers of a segment, so that a packet is a multiple of a page.
const MTU: u32 = 65520;

/// Packets that may wait to be read.
const QUEUE: u32 = 4096;

/// The routing table by which marked packets are delivered here.
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
    let tun = space.inside(|| {
        let has_v6 = Path::new("/proc/sys/net/ipv6").is_dir();
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
        let packets = open_tun().map_err(no_tun)?;
        set("ipv4/conf/tun0/rp_filter", "0")?;
        let mut route = Socket::route().context("open a netlink socket")?;
        raise(&mut route)?;
        let mut tun = Tun { packets, listeners: Vec::new(), port4: 0, port6: None };
        for is_v4 in [true, false] {
            if !is_v4 && !has_v6 {
                break;
            }
            let led = deliver_marked(&mut route, MARK, TABLE, !is_v4)
                .and_then(|()| add_default(&mut route, NAME, !is_v4))
                .and_then(|()| listener(is_v4));
            match led {
                Ok((socket, port)) => {
                    tun.listeners.push(socket);
                    if is_v4 {
                        tun.port4 = port;
                    } else {
                        tun.port6 = Some(port);
                    }
                }
                // Switched off by disable_ipv6: the containers have none either.
                Err(_) if !is_v4 => {}
                Err(e) => return Err(e),
            }
        }
        Ok::<_, anyhow::Error>(tun)
    })??;
    uplink_rules(space, NAME, tun.port4, tun.port6)?;
    Ok(tun)
}

/// Waits for that of an uplink that was killed just now: the kernel takes its time to remove it.
fn open_tun() -> io::Result<OwnedFd> {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        match tun::open(NAME) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
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
fn raise(route: &mut Socket) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(NAME)?;
    let up = u32::try_from(libc::IFF_UP)?;
    // struct ifinfomsg: rtnetlink(7).
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&up.to_ne_bytes());
    head[12..].copy_from_slice(&up.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &head);
    message.put_u32(libc::IFLA_MTU, MTU).put_u32(libc::IFLA_TXQLEN, QUEUE);
    route.request(message).with_context(|| format!("switch the interface \"{NAME}\" on"))
}

/// A listener that takes connections to any address, and its port.
fn listener(is_v4: bool) -> Result<(OwnedFd, u16)> {
    let (family, address): (_, SocketAddr) = if is_v4 {
        (AddressFamily::Inet, (Ipv4Addr::LOCALHOST, 0).into())
    } else {
        (AddressFamily::Inet6, (Ipv6Addr::LOCALHOST, 0).into())
    };
    let listener = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    make_transparent(&listener, is_v4).context("make a transparent socket")?;
    flow::prepare(&listener)?;
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
