//! A container's membership in a network, and with it its addresses:
//! `networks/<network id>/members/<container id>.json`, there while the container is connected and
//! runs. An address is taken when a member has it; they are given out under the lock of the
//! network's directory.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::container::config::Endpoint;
use crate::container::state;
use crate::error::Failure;
use crate::network::mac::Mac;
use crate::network::record::{self as networks, Network, Subnet};
use crate::network::{Published, Rate, names};
use crate::store::record::{self, Durability, Record};
use crate::store::{Id, Lock, Store};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub container: Id,
    /// The container's name; it is found by it.
    pub name: String,
    /// Further names it is found by on this network (`--network-alias`, a compose service). Several
    /// members may have the same.
    pub aliases: Vec<String>,
    /// Docker's endpoint id.
    pub endpoint: Id,
    /// The interface in the container: `eth0` and so on.
    pub interface: String,
    /// Its other side in the [`Space`](super::space::Space); empty: it has none (macvlan).
    pub port: String,
    pub mac: [u8; 6],
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// `--host-loopback` of root's: the gateway at which it meets this machine's 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loopback: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Rate::is_none")]
    pub rate: Rate,
    /// Ports that lead to the container through this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Further addresses of the interface (`--link-local-ip`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
    /// `CONTAINER:ALIAS`: names that only this member resolves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// The member with the highest is the container's way outside.
    #[serde(default)]
    pub gw_priority: i64,
}

impl Member {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.ipv4.map(IpAddr::V4), self.ipv6.map(IpAddr::V6)].into_iter().flatten()
    }
}

impl Record for Member {
    const VERSION: u32 = 1;
}

/// Who wants to join a network, and what of it is asked for.
#[derive(Debug, Clone)]
pub struct NewMember<'a> {
    pub container: &'a Id,
    /// The container's name.
    pub name: &'a str,
    pub wanted: &'a Endpoint,
    /// What it asks for on others of its networks, of which some it has not joined yet.
    pub others: &'a [Endpoint],
    pub published: Vec<Published>,
    /// [`Member::loopback`]
    pub loopback: Option<Ipv4Addr>,
}

/// Makes the container a member: chooses its addresses and names, and writes them down. What it had
/// there before is forgotten. The monitor of the container calls it, and so is known to live. `bury`
/// takes away what the kernel still has of a member that died and whose addresses are given anew.
///
/// # Errors
/// The network is gone, an address that was asked for is taken or lies outside, there is none left:
/// Docker's sentences.
pub fn join(store: &Store, network: &Network, new: NewMember, bury: impl Fn(&Member)) -> Result<Member> {
    let place = store.network(&network.id);
    let _lock = match Lock::exclusive(&place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(names::not_found(&network.name)),
        locked => locked.with_context(|| format!("lock {place:?}"))?,
    };
    let (own, others): (Vec<_>, Vec<_>) =
        members(store, &network.id)?.into_iter().partition(|member| member.container == *new.container);
    // Of a start that was killed so lately that nobody has put it in order.
    for dead in &own {
        bury(dead);
    }
    let mut seats = Seats { store, network, others, bury: &bury };
    let ipv4 = match (network.subnet(false), new.wanted.ipv4_address) {
        (Some(subnet), wanted) => seats.address(subnet, wanted.map(IpAddr::V4))?,
        (None, None) => None,
        (None, Some(wanted)) => return Err(no_subnet(wanted.into())),
    };
    let ipv6 = match (network.subnet(true), new.wanted.ipv6_address) {
        (Some(subnet), wanted) => seats.address(subnet, wanted.map(IpAddr::V6))?,
        (None, None) => None,
        (None, Some(wanted)) => return Err(no_subnet(wanted.into())),
    };
    let ipv4 = ipv4.and_then(|address| if let IpAddr::V4(address) = address { Some(address) } else { None });
    let ipv6 = ipv6.and_then(|address| if let IpAddr::V6(address) = address { Some(address) } else { None });
    let mac = match (new.wanted.mac_address, ipv4) {
        (Some(mac), _) => mac,
        (None, Some(address)) => Mac::of(address),
        (None, None) => Mac::random().context("make a hardware address")?,
    };
    let endpoint = Id::random().context("make an id")?;
    let member = Member {
        container: new.container.clone(),
        name: new.name.to_owned(),
        aliases: new.wanted.aliases.clone(),
        interface: interface(store, network, &new)?,
        // As long as a name can be: two that are alike are not to be expected.
        port: match network.driver {
            networks::Driver::Macvlan => String::new(),
            _ => format!("veth{}", &endpoint.as_str()[..11]),
        },
        endpoint,
        mac: mac.0,
        ipv4,
        ipv6,
        loopback: new.loopback.filter(|_| ipv4.is_some()),
        rate: new.wanted.rate,
        published: new.published,
        link_local: new.wanted.link_local_ips.clone(),
        links: new.wanted.links.clone(),
        driver_opts: new.wanted.driver_opts.clone(),
        gw_priority: new.wanted.gw_priority,
    };
    record::write(&path(store, &network.id, new.container), &member, Durability::Unsynced)?;
    Ok(member)
}

/// A network whose addresses are being given out, under its lock.
struct Seats<'a> {
    store: &'a Store,
    network: &'a Network,
    /// Members beside the one that joins, dead ones among them.
    others: Vec<Member>,
    bury: &'a dyn Fn(&Member),
}

impl Seats<'_> {
    /// The address that is wanted, or the lowest that is free.
    fn address(&mut self, subnet: &Subnet, wanted: Option<IpAddr>) -> Result<Option<IpAddr>> {
        if let Some(wanted) = wanted {
            return self.take(subnet, wanted).map(Some);
        }
        let found = match lowest(subnet, &self.taken()) {
            // Those that the dead have are given anew only now, so that an address does not go
            // from one container to another while a third still talks to it.
            None if self.bury(|_| true)? => lowest(subnet, &self.taken()),
            found => found,
        };
        if found.is_none() {
            let family = if subnet.subnet.network().is_ipv6() { "IPv6" } else { "IPv4" };
            return Err(Failure::new(format!(
                "no available {family} addresses on this network's address pools: {} ({})",
                self.network.name, self.network.id
            ))
            .hint("stop containers on it, or make a network with a larger --subnet")
            .into());
        }
        Ok(found)
    }

    fn take(&mut self, subnet: &Subnet, wanted: IpAddr) -> Result<IpAddr> {
        if !subnet.subnet.contains(&wanted) {
            return Err(no_subnet(wanted));
        }
        let has = |member: &Member| {
            member.ipv4.map(IpAddr::V4) == Some(wanted) || member.ipv6.map(IpAddr::V6) == Some(wanted)
        };
        self.bury(has)?;
        let in_use = || Failure::new("Address already in use");
        if let Some(holder) = self.others.iter().find(|member| has(member)) {
            return Err(in_use().hint(format!("{wanted} is container {:?}'s", holder.name)).into());
        }
        if reserved(subnet).contains(&wanted) {
            return Err(in_use().hint(format!("{wanted} is not for containers: see 'ctr network inspect'")).into());
        }
        Ok(wanted)
    }

    fn taken(&self) -> HashSet<IpAddr> {
        let addresses = |member: &Member| [member.ipv4.map(IpAddr::V4), member.ipv6.map(IpAddr::V6)];
        self.others.iter().flat_map(addresses).flatten().collect()
    }

    /// Forgets those of the members whose containers do not run. Whether there were any.
    fn bury(&mut self, of: impl Fn(&Member) -> bool) -> Result<bool> {
        let (dead, living) = std::mem::take(&mut self.others)
            .into_iter()
            .partition::<Vec<_>, _>(|member| of(member) && !state::is_alive(self.store, &member.container));
        self.others = living;
        for member in &dead {
            (self.bury)(member);
            leave(self.store, &self.network.id, &member.container)?;
        }
        Ok(!dead.is_empty())
    }
}

fn no_subnet(address: IpAddr) -> anyhow::Error {
    Failure::new(format!("no configured subnet or ip-range contain the IP address {address}")).into()
}

/// Addresses of a subnet that no container ever has.
fn reserved(subnet: &Subnet) -> HashSet<IpAddr> {
    subnet.auxiliary.values().copied().chain(subnet.gateway).chain(unusable(subnet.subnet)).collect()
}

/// Addresses that no interface there can have. RFC 3021: between two there is no broadcast. RFC 4291,
/// 2.6.1: every router answers to the first.
pub(super) fn unusable(subnet: ipnet::IpNet) -> Vec<IpAddr> {
    match subnet {
        ipnet::IpNet::V4(net) if net.prefix_len() < 31 => vec![subnet.network(), subnet.broadcast()],
        ipnet::IpNet::V6(net) if net.prefix_len() < 127 => vec![subnet.network()],
        _ => Vec::new(),
    }
}

/// The lowest address of the subnet's range that is not taken. As far as it goes: a range holds more
/// than `taken` does, or ends soon.
fn lowest(subnet: &Subnet, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
    let reserved = reserved(subnet);
    let is_free = |address: &IpAddr| !taken.contains(address) && !reserved.contains(address);
    let range = subnet.range.unwrap_or(subnet.subnet);
    match (range.network(), range.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (u32::from(first)..=u32::from(last)).map(|bits| IpAddr::V4(bits.into())).find(is_free)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            (u128::from(first)..=u128::from(last)).map(|bits| IpAddr::V6(bits.into())).find(is_free)
        }
        _ => None,
    }
}

/// What the interface is called in the container: as asked for, or the network's prefix and the
/// lowest number that no other interface of the container has.
fn interface(store: &Store, network: &Network, new: &NewMember) -> Result<String> {
    let mut used = HashSet::new();
    for id in names::ids(store)?.iter().filter(|id| **id != network.id) {
        used.extend(one(store, id, new.container)?.map(|member| member.interface));
    }
    if let Some(name) = &new.wanted.interface_name {
        if used.contains(name) {
            bail!("the container has an interface {name:?} already");
        }
        return Ok(name.clone());
    }
    used.extend(new.others.iter().filter_map(|other| other.interface_name.clone()));
    let prefix = network.interface_prefix();
    let free = (0..=used.len()).map(|n| format!("{prefix}{n}")).find(|name| !used.contains(name));
    Ok(free.unwrap_or_default())
}

/// Ends the membership; nothing happens when there is none.
///
/// # Errors
/// The record cannot be removed.
pub fn leave(store: &Store, network: &Id, container: &Id) -> Result<()> {
    let path = path(store, network, container);
    match std::fs::remove_file(&path) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(e).with_context(|| format!("remove {path:?}"))
        }
        _ => Ok(()),
    }
}

/// Ends all memberships of a container.
///
/// # Errors
/// A record cannot be removed.
pub fn leave_all(store: &Store, container: &Id) -> Result<()> {
    names::ids(store)?.iter().try_for_each(|network| leave(store, network, container))
}

/// All members on record, those among them that died without leaving.
///
/// # Errors
/// A record cannot be read.
pub fn members(store: &Store, network: &Id) -> Result<Vec<Member>> {
    let dir = store.network(network).join("members");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("read {dir:?}")),
    };
    let mut members = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("read {dir:?}"))?.file_name();
        let is_member = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<Id>().ok()).is_some();
        if is_member {
            // It may have left meanwhile.
            members.extend(record::read(&dir.join(name))?);
        }
    }
    Ok(members)
}

/// The members whose containers run.
///
/// # Errors
/// As [`members`].
pub fn living(store: &Store, network: &Id) -> Result<Vec<Member>> {
    let mut members = members(store, network)?;
    members.retain(|member| state::is_alive(store, &member.container));
    Ok(members)
}

/// A container's membership in one network.
///
/// # Errors
/// The record cannot be read.
pub fn one(store: &Store, network: &Id, container: &Id) -> Result<Option<Member>> {
    record::read(&path(store, network, container))
}

/// A container's memberships, in the order of their interfaces.
///
/// # Errors
/// A record cannot be read.
pub fn of_container(store: &Store, container: &Id) -> Result<Vec<(Network, Member)>> {
    let mut all = Vec::new();
    for id in names::ids(store)? {
        if let Some(member) = one(store, &id, container)?
            && let Some(network) = networks::read(store, &id)?
        {
            all.push((network, member));
        }
    }
    all.sort_by(|(_, a), (_, b)| (a.interface.len(), &a.interface).cmp(&(b.interface.len(), &b.interface)));
    Ok(all)
}

/// Changes what is on record of a member; `None`: it is none (any more).
///
/// # Errors
/// The record cannot be read or written.
pub fn update(store: &Store, network: &Id, container: &Id, change: impl FnOnce(&mut Member)) -> Result<Option<Member>> {
    let place = store.network(network);
    let _lock = match Lock::exclusive(&place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        locked => locked.with_context(|| format!("lock {place:?}"))?,
    };
    let Some(mut member) = one(store, network, container)? else { return Ok(None) };
    change(&mut member);
    record::write(&path(store, network, container), &member, Durability::Unsynced)?;
    Ok(Some(member))
}

/// Has a container that was given another name be found by that.
///
/// # Errors
/// As [`update`].
pub fn rename(store: &Store, container: &Id, name: &str) -> Result<()> {
    for network in names::ids(store)? {
        // Asked without a lock first: few containers are on many networks.
        if one(store, &network, container)?.is_some() {
            update(store, &network, container, |member| name.clone_into(&mut member.name))?;
        }
    }
    Ok(())
}

fn path(store: &Store, network: &Id, container: &Id) -> PathBuf {
    store.network(network).join("members").join(format!("{container}.json"))
}
