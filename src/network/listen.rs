//! The host's side of published ports: sockets that a monitor binds before its container starts
//! and holds while it runs, so that a port that is taken is an error at once, and nobody takes it
//! later. Whether their connections come through them (the uplink) or past them (root's nf_tables)
//! is decided elsewhere.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt,
    socket, sockopt,
};

use crate::error::{Failure, exit};
use crate::network::{Protocol, Published};

/// Connections that may wait to be accepted; the kernel takes at most `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A port that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `None`: all addresses of both families.
    pub host: Option<IpAddr>,
    /// One of these, the first that is free; `0..=0`: any that the kernel gives.
    pub ports: RangeInclusive<u16>,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// A bound socket, and what it publishes: two entries where it serves both families.
#[derive(Debug)]
pub struct Listener {
    pub socket: OwnedFd,
    pub published: Vec<Published>,
}

/// Binds all, in their order.
///
/// # Errors
/// In Docker's words, `Bind for ADDRESS failed: port is already allocated`, with who has it where
/// that can be known; a port that an ordinary user may not bind, with what allows it.
pub fn bind_all(wanted: &[Wanted]) -> Result<Vec<Listener>> {
    wanted.iter().map(bind_one).collect()
}

fn bind_one(wanted: &Wanted) -> Result<Listener> {
    let mut first = None;
    for port in wanted.ports.clone() {
        match try_bind(wanted, port) {
            Ok(listener) => return Ok(listener),
            Err(Errno::EADDRINUSE) if wanted.ports.start() != wanted.ports.end() => {
                first.get_or_insert((port, Errno::EADDRINUSE));
            }
            Err(e) => {
                first = Some((port, e));
                break;
            }
        }
    }
    let (port, errno) = first.unwrap_or((*wanted.ports.start(), Errno::EADDRINUSE));
    Err(refused(wanted, port, errno))
}

fn try_bind(wanted: &Wanted, port: u16) -> nix::Result<Listener> {
    let (address, is_dual) = match wanted.host {
        Some(address) => (address, false),
        None => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), true),
    };
    let bound = match open(SocketAddr::new(address, port), wanted.protocol, is_dual) {
        // A kernel without IPv6, or one where it is switched off.
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if is_dual => {
            let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            (open(SocketAddr::new(address, port), wanted.protocol, false)?, vec![address])
        }
        made if is_dual => (made?, vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]),
        made => (made?, vec![address]),
    };
    let (socket, addresses) = bound;
    let host_port = port_of(&socket)?;
    let published = addresses.into_iter().map(|host| Published {
        host,
        host_port,
        container_port: wanted.container_port,
        protocol: wanted.protocol,
    });
    Ok(Listener { published: published.collect(), socket })
}

fn open(address: SocketAddr, protocol: Protocol, is_dual: bool) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, number)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &!is_dual)?;
    }
    if protocol == Protocol::Tcp {
        // A port whose last connections are in TIME_WAIT is free: ip(7), SO_REUSEADDR.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        listen(&fd, Backlog::new(BACKLOG)?)?;
    }
    Ok(fd)
}

fn port_of(socket: &OwnedFd) -> nix::Result<u16> {
    let name: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    let v4 = name.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
    v4.or_else(|| name.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port)).ok_or(Errno::EAFNOSUPPORT)
}

fn refused(wanted: &Wanted, port: u16, errno: Errno) -> anyhow::Error {
    let address = SocketAddr::new(wanted.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port);
    let failure = match errno {
        Errno::EADDRINUSE if wanted.ports.start() != wanted.ports.end() => Failure::new(format!(
            "Bind for {} failed: all ports from {} to {} are allocated",
            address.ip(),
            wanted.ports.start(),
            wanted.ports.end()
        )),
        Errno::EADDRINUSE => {
            let failure = Failure::new(format!("Bind for {address} failed: port is already allocated"));
            match owner(port, wanted.protocol) {
                Some(owner) => {
                    failure.hint(format!("{owner} has it; publish another, as in -p {}", other(wanted, port)))
                }
                None => failure.hint(format!(
                    "another process has it (sudo ss -lnp 'sport = :{port}' shows which); publish another, as in -p {}",
                    other(wanted, port)
                )),
            }
        }
        Errno::EACCES => Failure::new(format!(
            "Bind for {address} failed: an ordinary user may not publish a port below {}",
            lowest()
        ))
        .hint(format!(
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}, or publish a higher one, as in -p {}",
            other(wanted, port)
        )),
        Errno::EADDRNOTAVAIL => {
            Failure::new(format!("Bind for {address} failed: no interface of this machine has the address"))
                .hint("ip address shows those that there are")
        }
        Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT if wanted.protocol == Protocol::Sctp => {
            Failure::new(format!("Bind for {address} failed: this kernel has no SCTP")).hint("sudo modprobe sctp")
        }
        errno => Failure::new(format!("Bind for {address} failed")).source(errno),
    };
    failure.exit(exit::ENGINE).into()
}

/// A port that is more likely to be had.
fn other(wanted: &Wanted, port: u16) -> String {
    let mut text = String::new();
    if let Some(host) = wanted.host {
        let _ = match host {
            IpAddr::V4(host) => write!(text, "{host}:"),
            IpAddr::V6(host) => write!(text, "[{host}]:"),
        };
    }
    let higher = if port < 1024 { 8000 + port } else { port.wrapping_add(1).max(1024) };
    let _ = write!(text, "{higher}:{}", wanted.container_port);
    text
}

/// The lowest port that everybody may bind.
fn lowest() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

/// The process that listens on the port, as far as this user may know: `nginx (process 123)`.
fn owner(port: u16, protocol: Protocol) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Protocol::Sctp => return None,
    };
    let inodes: Vec<String> = tables
        .iter()
        .flat_map(|table| listeners(&fs::read_to_string(table).unwrap_or_default(), port, protocol))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes.filter(|p| p.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok())) {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let has = |fd: &Path| {
            fs::read_link(fd).is_ok_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
        };
        if descriptors.flatten().any(|fd| has(&fd.path())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    None
}

/// The inodes of listening sockets in a table of `/proc/net`: proc_net(5).
fn listeners(table: &str, port: u16, protocol: Protocol) -> Vec<u64> {
    const TCP_LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?.parse().ok()?;
            let listens = protocol != Protocol::Tcp || state == TCP_LISTEN;
            (listens && u16::from_str_radix(local_port, 16) == Ok(port)).then_some(inode)
        })
        .collect()
}

/// As `bind_all`, for what follows from a container's `PortBindings`: `80/tcp` to its bindings.
///
/// # Errors
/// A record that is not Docker's shape.
pub fn wanted(container_port: &str, host_ip: &str, host_port: &str) -> Result<Wanted> {
    let wrong = || format!("the port binding {host_ip}:{host_port} of {container_port:?} is damaged");
    let (number, protocol) = container_port.split_once('/').unwrap_or((container_port, "tcp"));
    let (first, last) = host_port.split_once('-').unwrap_or((host_port, host_port));
    let port = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u16>() };
    let host = match host_ip {
        "" => None,
        text => Some(text.trim_matches(['[', ']']).parse().with_context(wrong)?),
    };
    Ok(Wanted {
        host,
        ports: port(first).with_context(wrong)?..=port(last).with_context(wrong)?,
        container_port: number.parse().with_context(wrong)?,
        protocol: match protocol {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(host: Option<IpAddr>, ports: RangeInclusive<u16>, protocol: Protocol) -> Wanted {
        Wanted { host, ports, container_port: 80, protocol }
    }

    #[test]
    fn a_taken_port_says_who_has_it() {
        let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = bind_one(&any(local, 0..=0, protocol)).unwrap();
            let port = first.published[0].host_port;
            assert_ne!(port, 0);
            let error = bind_one(&any(local, port..=port, protocol)).unwrap_err();
            assert_eq!(error.to_string(), format!("Bind for 127.0.0.1:{port} failed: port is already allocated"));
            let hint = crate::error::hint(&error).unwrap();
            assert!(hint.contains(&format!("(process {}) has it", std::process::id())), "{hint}");
            // Of a range, the next.
            let next = bind_one(&any(local, port..=port.saturating_add(20), protocol)).unwrap();
            assert!(next.published[0].host_port > port);
        }
    }

    #[test]
    fn all_addresses_are_one_socket() {
        let listener = bind_one(&any(None, 0..=0, Protocol::Tcp)).unwrap();
        let hosts: Vec<_> = listener.published.iter().map(|p| p.host.to_string()).collect();
        assert_eq!(hosts, ["0.0.0.0", "::"]);
        let address = ("127.0.0.1", listener.published[0].host_port);
        std::net::TcpStream::connect(address).unwrap();
        let foreign = any(Some(Ipv4Addr::new(192, 0, 2, 99).into()), 0..=0, Protocol::Tcp);
        assert!(bind_one(&foreign).unwrap_err().to_string().ends_with("no interface of this machine has the address"));
    }

    #[test]
    fn bindings_of_dockers_shape() {
        let parsed = wanted("53/udp", "::1", "8000-8010").unwrap();
        assert_eq!(parsed.host, Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!((parsed.ports, parsed.container_port, parsed.protocol), (8000..=8010, 53, Protocol::Udp));
        assert_eq!(wanted("80/tcp", "", "").unwrap(), any(None, 0..=0, Protocol::Tcp));
        assert!(wanted("80/tcp", "x", "1").is_err());
    }

    #[test]
    fn tables_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n   \
                     1: 0100007F:1F90 0100007F:9000 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n";
        assert_eq!(listeners(table, 8080, Protocol::Tcp), [4711]);
        assert_eq!(listeners(table, 8080, Protocol::Udp), [4711, 4712]);
    }
}
