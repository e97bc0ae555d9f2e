//! Networks, members and published ports: loaded, changed, taken away. Each call is one batch.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::{fs, io};

use anyhow::{Context, Result};
use nix::errno::Errno;

use super::{MemberRules, NetworkRules, Publication, explained, no_nf_tables, spoofing, tables, tracked};
use crate::error::Failure;
use crate::network::netlink::{Refused, Socket};
use crate::network::nft::batch::ifname;
use crate::network::nft::list;
use crate::network::nft::{Batch, Element, Table};
use crate::network::settings::GatewayMode;
use crate::network::space::Space;
use crate::network::{Protocol, Published};

/// An element and the set or map that it is in.
pub(super) type Entry = (Table<'static>, &'static str, Element);

/// What there is to load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct All {
    pub networks: Vec<NetworkRules>,
    pub members: Vec<MemberRules>,
    pub published: Vec<Publication>,
}

/// Puts everything in place of whatever is there, at once. The bridges should exist
/// ([`load_network`]). `read` is asked again if rules changed meanwhile: a container that has written
/// its record and its rules while the records were read is not lost.
///
/// # Errors
/// `read`'s; no nf_tables, or what the kernel refuses.
pub fn load_all(space: &Space, mut read: impl FnMut() -> Result<All>) -> Result<()> {
    // Where rules change all the time, the last attempt is made whatever they do.
    const ATTEMPTS: usize = 20;
    let mut socket = socket(space)?;
    for attempt in 1.. {
        let generation = list::generation(&mut socket).map_err(|refused| lacking(space, refused))?;
        let all = read()?;
        let entries = all.networks.iter().flat_map(|network| bridge(space, network));
        let entries = entries.chain(all.members.iter().flat_map(spoofing::elements));
        let entries = entries.chain(all.members.iter().filter_map(|member| loopback(space, member)));
        let served = all.published.iter().filter(|(from, to)| serves(space, from, *to)).map(port);
        let entries: Vec<Entry> = entries.chain(served).collect();
        let loaded = Batch::load(&mut socket, |batch| {
            if attempt < ATTEMPTS {
                batch.since(generation);
            }
            tables::write(batch, space);
            spoofing::write(batch);
            add(batch, entries.clone());
        });
        match loaded {
            Err(refused) if refused.errno == Errno::ERESTART && attempt < ATTEMPTS => {}
            loaded => {
                loaded.map_err(|refused| lacking(space, refused))?;
                return all.networks.iter().try_for_each(|network| allow_loopback(space, network));
            }
        }
    }
    Ok(())
}

/// Deletes both tables; it is no error if they are not there.
///
/// # Errors
/// What the kernel refuses.
pub fn unload_all(space: &Space) -> Result<()> {
    let mut batch = Batch::new();
    for table in [tables::TABLE, spoofing::TABLE] {
        batch.table(table).delete_table(table);
    }
    batch.send(&mut socket(space)?).map_err(|refused| explained("delete the rules for networks", refused))
}

/// [`unload_all`], unless a bridge is in them.
///
/// # Errors
/// As [`unload_all`].
pub fn unload_unused(space: &Space) -> Result<()> {
    let bridges = list::elements(&mut socket(space)?, tables::TABLE, tables::BRIDGES);
    match bridges {
        Ok(0) => unload_all(space),
        // There are no rules, or somebody needs them.
        Ok(_) | Err(Refused { errno: Errno::ENOENT, .. }) => Ok(()),
        Err(refused) => Err(explained("list the rules for networks", refused)),
    }
}

/// A network's bridge, which must exist: its `route_localnet` is set. Again: no error.
///
/// # Errors
/// [`is_missing`](super::is_missing): nothing is loaded yet; else what the kernel refuses.
pub fn load_network(space: &Space, network: &NetworkRules) -> Result<()> {
    put(space, bridge(space, network).collect())?;
    allow_loopback(space, network)
}

/// Takes a network's bridge out of the rules, whether it is in them or not.
///
/// # Errors
/// What the kernel refuses.
pub fn unload_network(space: &Space, network: &NetworkRules) -> Result<()> {
    take(space, bridge(space, network).collect())
}

/// Lets a container send from its address. To be called before its interface is up.
///
/// # Errors
/// As [`load_network`].
pub fn add_member(space: &Space, member: &MemberRules) -> Result<()> {
    put(space, spoofing::elements(member).into_iter().chain(loopback(space, member)).collect())
}

/// Whoever calls this waits 8 to 16 ms, as with all that takes something away ([`Batch::load`]): after
/// the user was told that the container has ended.
///
/// # Errors
/// What the kernel refuses; not that it is not there.
pub fn remove_member(space: &Space, member: &MemberRules) -> Result<()> {
    let loopback = loopback(space, member).map_or(Ok(()), |entry| {
        take(space, vec![entry])?;
        // Or whoever has its address next would go on with its exchanges, and be led where it was.
        match (member.ipv4, member.loopback) {
            (Some(own), Some(gateway)) => tracked::forget_between(&mut socket(space)?, own, gateway),
            _ => Ok(()),
        }
    });
    take(space, spoofing::elements(member)).and(loopback)
}

/// Whether the kernel can lead this port to the container. Where it cannot, a listener must:
/// for ordinary users, between the families of addresses, and for `::1`.
#[must_use]
pub fn serves(space: &Space, from: &Published, to: SocketAddr) -> bool {
    let can = from.is_routed() || from.host != Ipv6Addr::LOCALHOST;
    matches!(space, Space::Here) && from.host.is_ipv4() == to.is_ipv4() && can
}

/// Leads those of the ports to the containers that the kernel [`serves`]. The caller has a listener
/// on each, so that nobody else has; so one that is in a map already is a dead container's, and is
/// replaced.
///
/// # Errors
/// As [`load_network`].
pub fn publish(space: &Space, published: &[Publication]) -> Result<()> {
    let entries: Vec<Entry> = published.iter().filter(|(from, to)| serves(space, from, *to)).map(port).collect();
    match put(space, entries.clone()) {
        Err(error) if is_taken(&error) => {
            take(space, entries.clone())?;
            put(space, entries)?;
        }
        done => done?,
    }
    forget(space, published)
}

/// # Errors
/// What the kernel refuses; not that it is not there.
pub fn unpublish(space: &Space, published: &[Publication]) -> Result<()> {
    take(space, published.iter().filter(|(from, to)| serves(space, from, *to)).map(port).collect())?;
    forget(space, published)
}

/// The base was refused: a part of nf_tables can be a module that is not there.
fn lacking(space: &Space, refused: Refused) -> anyhow::Error {
    const WHAT: &str = "load the rules for networks";
    let part = matches!(refused.errno, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT);
    if !part || refused.index == 0 {
        return explained(WHAT, refused);
    }
    let translation = match space {
        Space::Here => ", nft_ct, nft_nat, nft_masq, nft_fib_inet",
        Space::Apart(_) => "",
    };
    let hint = format!(
        "the kernel needs these parts of nf_tables: its families inet and bridge{translation}; \"--network host\" and \
         \"--network none\" work without"
    );
    Failure::new(WHAT).source(refused).hint(hint).into()
}

fn socket(space: &Space) -> Result<Socket> {
    space.netfilter().map_err(|error| match error.downcast_ref::<Errno>() {
        Some(Errno::EPROTONOSUPPORT) => no_nf_tables().source(error).into(),
        _ => error,
    })
}

/// The map has that key, with another value.
fn is_taken(error: &anyhow::Error) -> bool {
    let mut refused = error.chain().filter_map(|e| e.downcast_ref::<Refused>());
    refused.any(|refused| matches!(refused.errno, Errno::EEXIST | Errno::EBUSY))
}

/// One message for each set.
fn by_set(entries: Vec<Entry>) -> Vec<(Table<'static>, &'static str, Vec<Element>)> {
    let mut sets: Vec<(Table<'static>, &'static str, Vec<Element>)> = Vec::new();
    for (table, set, element) in entries {
        match sets.iter_mut().find(|(t, s, _)| *t == table && *s == set) {
            Some((_, _, elements)) => elements.push(element),
            None => sets.push((table, set, vec![element])),
        }
    }
    sets
}

fn add(batch: &mut Batch, entries: Vec<Entry>) {
    for (table, set, elements) in by_set(entries) {
        batch.add(table, set, &elements);
    }
}

fn put(space: &Space, entries: Vec<Entry>) -> Result<()> {
    let mut batch = Batch::new();
    add(&mut batch, entries);
    if batch.is_empty() {
        return Ok(());
    }
    let mut socket = socket(space)?;
    // Nothing was ever loaded here. To be refused a batch takes ten times as long as to load one.
    let is_new = list::generation(&mut socket).is_ok_and(|generation| generation == FIRST_GENERATION);
    let sent = if is_new { Err(Errno::ENOENT.into()) } else { batch.send(&mut socket) };
    sent.map_err(|refused| explained("add to the rules for networks", refused))
}

/// A namespace's number before its first change (`nf_tables_init_net`).
const FIRST_GENERATION: u32 = 1;

/// `entries`: all of one table. Where that is not there, neither are they.
fn take(space: &Space, entries: Vec<Entry>) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut socket = socket(space)?;
    let mut batch = Batch::new();
    for (table, set, elements) in by_set(entries.clone()) {
        batch.destroy(table, set, &elements);
    }
    let done = match batch.send(&mut socket) {
        Err(refused) if refused.errno == Errno::EINVAL => take_each(&mut socket, entries),
        done => unless_gone(done),
    };
    if let Ok(mut lingering) = LINGERING.lock() {
        // One wait for many, where there is no rest.
        if lingering.len() == MOST_LINGERING {
            lingering.clear();
        }
        lingering.push(socket);
    }
    done.map_err(|refused| explained("take from the rules for networks", refused))
}

const MOST_LINGERING: usize = 16;

/// Sockets that took something away. To close one is to wait for the kernel's cleaning up, tens of
/// milliseconds, which nobody has to who is about to end: their process's end closes them, or [`rest`].
static LINGERING: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Closes what was left open so that nobody waits for it. To be called when there is nothing to do.
pub fn rest() {
    if let Ok(mut lingering) = LINGERING.lock() {
        lingering.clear();
    }
}

/// Before Linux 6.3: together if all are there, else one after the other, as the others must go.
pub(super) fn take_each(socket: &mut Socket, entries: Vec<Entry>) -> Result<(), Refused> {
    let mut batch = Batch::new();
    for (table, set, elements) in by_set(entries.clone()) {
        batch.delete(table, set, &elements);
    }
    match batch.send(socket) {
        Err(refused) if refused.errno == Errno::ENOENT => {}
        done => return done,
    }
    entries.into_iter().try_for_each(|(table, set, element)| {
        let mut batch = Batch::new();
        batch.delete(table, set, &[element]);
        unless_gone(batch.send(socket))
    })
}

fn unless_gone(done: Result<(), Refused>) -> Result<(), Refused> {
    match done {
        Err(refused) if refused.errno == Errno::ENOENT => Ok(()),
        done => done,
    }
}

fn bridge(space: &Space, network: &NetworkRules) -> impl Iterator<Item = Entry> + use<> {
    let name = ifname(&network.bridge);
    let entry = move |set| (tables::TABLE, set, Element::new(&[&name]));
    let both = (tables::TABLE, tables::SAME_BRIDGE, Element::new(&[&name, &name]));
    let mut entries = vec![entry(tables::BRIDGES), both];
    entries.extend(network.internal.then(|| entry(tables::INTERNAL)));
    if network.internal || !matches!(space, Space::Here) {
        return entries.into_iter();
    }
    for (n, way) in network.ways.iter().enumerate() {
        match way.mode {
            GatewayMode::Routed => entries.push(entry(tables::ROUTED[n])),
            GatewayMode::NatUnprotected => entries.push(entry(tables::UNPROTECTED[n])),
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
        if way.masquerade && way.mode != GatewayMode::Routed {
            entries.push(match way.source {
                Some(source) => (tables::TABLE, tables::SOURCES[n], Element::new(&[&name]).to(&[&octets(source)])),
                None => entry(tables::MASQUERADE[n]),
            });
        }
    }
    let trusted = |from: &String| (tables::TABLE, tables::TRUSTED, Element::new(&[&ifname(from), &name]));
    entries.extend(network.trusted.iter().map(trusted));
    entries.into_iter()
}

fn loopback(space: &Space, member: &MemberRules) -> Option<Entry> {
    let (own, gateway) = (member.ipv4?, member.loopback.filter(|_| matches!(space, Space::Here))?);
    Some((tables::TABLE, tables::LOOPBACK, Element::new(&[&own.octets(), &gateway.octets()])))
}

fn port((from, to): &Publication) -> Entry {
    let protocol = [number(from.protocol)];
    let host_port = from.host_port.to_be_bytes();
    let to_port = to.port().to_be_bytes();
    let host = octets(from.host);
    if from.is_routed() {
        let set = tables::REACHED[usize::from(to.is_ipv6())];
        return (tables::TABLE, set, Element::new(&[&octets(to.ip()), &protocol, &to_port]));
    }
    let element = if from.host.is_unspecified() {
        Element::new(&[&protocol, &host_port])
    } else {
        Element::new(&[&host, &protocol, &host_port])
    };
    let map = match (from.host.is_unspecified(), from.host.is_ipv4()) {
        (true, true) => tables::ANYWHERE4,
        (true, false) => tables::ANYWHERE6,
        (false, true) => tables::PORTS4,
        (false, false) => tables::PORTS6,
    };
    (tables::TABLE, map, element.to(&[&octets(to.ip()), &to_port]))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `IPPROTO_…`.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A client that has been sending to a port goes on to where its first packet went, for as long as
/// it goes on: UDP has no connections that end.
fn forget(space: &Space, published: &[Publication]) -> Result<()> {
    let served = published.iter().filter(|(from, to)| serves(space, from, *to) && from.protocol == Protocol::Udp);
    let ports: Vec<u16> = served.filter(|(from, _)| !from.is_routed()).map(|(from, _)| from.host_port).collect();
    if ports.is_empty() {
        return Ok(());
    }
    tracked::forget_udp(&mut socket(space)?, &ports)
}

/// Lets packets between this machine's loopback addresses and the bridge pass.
fn allow_loopback(space: &Space, network: &NetworkRules) -> Result<()> {
    if !matches!(space, Space::Here) || network.internal {
        return Ok(());
    }
    let path = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", network.bridge);
    match fs::read_to_string(&path) {
        Ok(value) if value.trim() == "1" => return Ok(()),
        // After a reboot a network's rules can be loaded before its bridge is made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    fs::write(&path, "1").with_context(|| format!("write {path:?}"))
}
