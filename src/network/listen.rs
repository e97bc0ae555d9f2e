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

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt,
    socket, sockopt,
};

use crate::error::{Failure, exit};
use crate::network::member::{self, Member};
use crate::network::{Protocol, Published, names};
use crate::store::Store;

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
    /// `None`: SCTP on a kernel that has no such sockets, which its nf_tables need not; and a port
    /// that none of the host's leads to.
    pub socket: Option<OwnedFd>,
    pub published: Vec<Published>,
}

impl Listener {
    /// For a port that is reached at the container's own address alone.
    #[must_use]
    pub fn routed(host: IpAddr, wanted: &Wanted) -> Self {
        let Wanted { container_port, protocol, .. } = *wanted;
        Self { socket: None, published: vec![Published { host, host_port: 0, container_port, protocol }] }
    }
}

/// Binds all, in their order. `split`: where all addresses are wanted, a socket for each family, not
/// one for both; then each family's clients can be led to the container's address of that family.
///
/// # Errors
/// In Docker's words, `Bind for ADDRESS failed: port is already allocated`, with who has it where
/// that can be known; a port that an ordinary user may not bind, with what allows it.
pub fn bind_all(store: &Store, wanted: &[Wanted], split: bool) -> Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let bound = bind_one(wanted, split);
        listeners.extend(bound.map_err(|(port, errno)| refused(store, wanted, port, errno, &listeners))?);
    }
    Ok(listeners)
}

fn bind_one(wanted: &Wanted, split: bool) -> Result<Vec<Listener>, (u16, Errno)> {
    /// The port that the kernel gives for one family may be taken in the other.
    const ATTEMPTS: usize = 16;
    let mut first = None;
    if wanted.ports == (0..=0) {
        let mut attempts = (0..ATTEMPTS).map(|_| try_bind(wanted, 0, split));
        let bound = attempts.find(|bound| !matches!(bound, Err(Errno::EADDRINUSE)));
        return bound.unwrap_or(Err(Errno::EADDRINUSE)).map_err(|e| (0, e));
    }
    for port in wanted.ports.clone() {
        match try_bind(wanted, port, split) {
            Ok(listeners) => return Ok(listeners),
            Err(Errno::EADDRINUSE) if wanted.ports.start() != wanted.ports.end() => {
                first.get_or_insert((port, Errno::EADDRINUSE));
            }
            Err(e) => {
                first = Some((port, e));
                break;
            }
        }
    }
    Err(first.unwrap_or((*wanted.ports.start(), Errno::EADDRINUSE)))
}

fn try_bind(wanted: &Wanted, port: u16, split: bool) -> nix::Result<Vec<Listener>> {
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let listener = |socket: Option<OwnedFd>, port, hosts: &[IpAddr]| {
        let published = |&host| Published {
            host,
            host_port: port,
            container_port: wanted.container_port,
            protocol: wanted.protocol,
        };
        Listener { socket, published: hosts.iter().map(published).collect() }
    };
    let open = |host, port, is_dual| -> nix::Result<(Option<OwnedFd>, u16)> {
        match open(SocketAddr::new(host, port), wanted.protocol, is_dual) {
            Ok(socket) => port_of(&socket).map(|port| (Some(socket), port)),
            Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if wanted.protocol == Protocol::Sctp && port != 0 => {
                Ok((None, port))
            }
            Err(e) => Err(e),
        }
    };
    if let Some(host) = wanted.host {
        let (socket, port) = open(host, port, false)?;
        return Ok(vec![listener(socket, port, &[host])]);
    }
    if !split {
        match open(V6, port, true) {
            // A kernel without IPv6, or one where it is switched off.
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {}
            made => return made.map(|(socket, port)| vec![listener(socket, port, &[V4, V6])]),
        }
    }
    let (v4, port) = open(V4, port, false)?;
    let v4 = listener(v4, port, &[V4]);
    match open(V6, port, false) {
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => Ok(vec![v4]),
        made => made.map(|(socket, port)| vec![v4, listener(socket, port, &[V6])]),
    }
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

/// `bound`: what the same container has already.
fn refused(store: &Store, wanted: &Wanted, port: u16, errno: Errno, bound: &[Listener]) -> anyhow::Error {
    let meets = |p: &Published| p.host_port == port && p.protocol == wanted.protocol && share(wanted.host, p.host);
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
            let found = || container(store, meets).or_else(|| owner(port, wanted.protocol));
            match found() {
                _ if bound.iter().any(|listener| listener.published.iter().any(meets)) => {
                    failure.hint(format!("it is published twice; publish another, as in -p {}", other(wanted, port)))
                }
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

/// The container that publishes the port: the process that has it is its monitor, of which nobody
/// may know.
fn container(store: &Store, meets: impl Fn(&Published) -> bool) -> Option<String> {
    let networks = names::ids(store).ok()?;
    let members = networks.iter().flat_map(|network| member::living(store, network).unwrap_or_default());
    let has = |m: &Member| m.published.iter().any(&meets);
    members.into_iter().find(has).map(|m| format!("container {}", m.name))
}

/// Whether a port of both addresses cannot be had twice; `None`: all addresses.
fn share(a: Option<IpAddr>, b: IpAddr) -> bool {
    let Some(a) = a else { return true };
    a == b || ((a.is_unspecified() || b.is_unspecified()) && a.is_ipv4() == b.is_ipv4())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn any(host: Option<IpAddr>, ports: RangeInclusive<u16>, protocol: Protocol) -> Wanted {
        Wanted { host, ports, container_port: 80, protocol }
    }

    #[test]
    fn a_taken_port_says_who_has_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("root"), home.path().join("run"));
        let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let first = bind_all(&store, &[any(local, 0..=0, protocol)], false).unwrap();
            let port = first[0].published[0].host_port;
            assert_ne!(port, 0);
            let error = bind_all(&store, &[any(local, port..=port, protocol)], false).unwrap_err();
            assert_eq!(error.to_string(), format!("Bind for 127.0.0.1:{port} failed: port is already allocated"));
            let hint = crate::error::hint(&error).unwrap();
            assert!(hint.contains(&format!("(process {}) has it", std::process::id())), "{hint}");
            // Of a range, the next.
            let next = bind_all(&store, &[any(local, port..=port.saturating_add(20), protocol)], false).unwrap();
            assert!(next[0].published[0].host_port > port);
        }
        let foreign = any(Some(Ipv4Addr::new(192, 0, 2, 99).into()), 0..=0, Protocol::Tcp);
        let error = bind_all(&store, &[foreign], false).unwrap_err().to_string();
        assert!(error.ends_with("no interface of this machine has the address"), "{error}");
    }

    #[test]
    fn all_addresses_are_one_socket_or_one_of_each_family() {
        for split in [false, true] {
            let listeners = bind_one(&any(None, 0..=0, Protocol::Tcp), split).unwrap();
            assert_eq!(listeners.len(), 1 + usize::from(split));
            let published: Vec<_> = listeners.iter().flat_map(|l| l.published.clone()).collect();
            let hosts: Vec<_> = published.iter().map(|p| p.host.to_string()).collect();
            assert_eq!(hosts, ["0.0.0.0", "::"]);
            assert_eq!(published[0].host_port, published[1].host_port);
            for address in ["127.0.0.1", "::1"] {
                std::net::TcpStream::connect((address, published[0].host_port)).unwrap();
            }
        }
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
