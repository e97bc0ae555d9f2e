//! What a network is: `networks/<id>/network.json`, written when it is made and never changed. Made
//! and removed under the lock of `networks/`, so that no two have one name or overlapping subnets;
//! removed under its own lock too, which members join under.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::events;
use crate::network::configuration::{self, Configuration};
use crate::network::settings::GatewayMode;
use crate::network::{bridge, member, names, pool, settings};
use crate::store::record::{self, Durability, Record};
use crate::store::{Id, Lock, Store, sweep, tree};
use crate::userns;

/// `networks/<id>/network.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: Id,
    pub name: String,
    pub created: Timestamp,
    pub driver: Driver,
    /// Nothing outside is reached from it, and nothing outside reaches it.
    pub internal: bool,
    /// IPv4 first. Without any, it has no addresses of that family.
    pub subnets: Vec<Subnet>,
    /// `--opt`, Docker's names: `com.docker.network.driver.mtu` and so on.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub attachable: bool,
    /// `--ipam-opt`: kept for `inspect`; no choice of addresses here has options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ipam_options: BTreeMap<String, String>,
    /// The bridge was there before the network: somebody else's, which stays when the network goes,
    /// with these addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Vec<IpNet>>,
    /// There is no such network, only what others are made from; its driver is `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// The name of the configuration that it was made from; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_from: String,
}

impl Record for Network {
    const VERSION: u32 = 1;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    Bridge,
    Macvlan,
    /// The predefined network `host`.
    Host,
    /// The predefined network `none`.
    Null,
}

impl Driver {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// An address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    /// Where addresses are chosen from; `None`: the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// The bridge's own address, and the containers' way outside.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given out (`--aux-address name=address`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl Subnet {
    /// A subnet of which nothing more is asked.
    #[must_use]
    pub fn of(subnet: IpNet) -> Self {
        Self { subnet, range: None, gateway: None, auxiliary: BTreeMap::new() }
    }
}

impl Network {
    /// The subnet of that family.
    pub fn subnet(&self, ipv6: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.subnet.network().is_ipv6() == ipv6)
    }

    /// Docker says so of `host` and `none` too.
    pub fn has_ipv4(&self) -> bool {
        let has = || self.subnet(false).is_some() || matches!(self.driver, Driver::Host | Driver::Null);
        self.configuration.map_or_else(has, |configuration| configuration.ipv4)
    }

    pub fn has_ipv6(&self) -> bool {
        self.configuration.map_or_else(|| self.subnet(true).is_some(), |configuration| configuration.ipv6)
    }

    /// Whether published ports can lead to its containers, and its containers reach the host.
    pub fn lets_in(&self) -> bool {
        self.driver == Driver::Bridge && !self.internal
    }

    /// Whether it is one that is always there.
    pub fn is_predefined(&self) -> bool {
        names::PREDEFINED.contains(&self.name.as_str())
    }
}

/// What is wanted of a new network.
#[derive(Debug, Clone)]
pub struct New {
    pub name: String,
    pub driver: Driver,
    pub internal: bool,
    /// A subnet of the family is chosen where `subnets` has none.
    pub ipv4: bool,
    pub ipv6: bool,
    /// At most one of each family; where the gateway is missing it is the first address.
    pub subnets: Vec<Subnet>,
    pub options: BTreeMap<String, String>,
    pub ipam_options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub attachable: bool,
    /// Only what others are to be made from.
    pub config_only: bool,
    /// The configuration that it is made from, which says all but the driver; empty: none.
    pub config_from: String,
}

impl New {
    /// One with nothing but a name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            driver: Driver::Bridge,
            internal: false,
            ipv4: true,
            ipv6: false,
            subnets: Vec::new(),
            options: BTreeMap::new(),
            ipam_options: BTreeMap::new(),
            labels: BTreeMap::new(),
            attachable: false,
            config_only: false,
            config_from: String::new(),
        }
    }

    /// Docker's checks of what was asked for, together in one sentence.
    fn check(&self) -> Result<()> {
        let (length, most) = (self.name.len(), crate::store::names::LONGEST);
        if length > most {
            bail!("invalid network name ({}): it has {length} characters, {most} are allowed", self.name);
        }
        if !crate::store::names::is_valid(&self.name) {
            bail!("invalid network name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", self.name);
        }
        // What a configuration's options come to, the driver of a network that is made from it says.
        if !self.config_only {
            settings::check(self.driver, self.internal, &self.options)?;
        }
        let wrong: Vec<String> = self.subnets.iter().flat_map(Subnet::faults).collect();
        if !wrong.is_empty() {
            bail!("invalid network config: {}", wrong.join("; "));
        }
        for ipv6 in [false, true] {
            if self.subnets.iter().filter(|subnet| subnet.subnet.network().is_ipv6() == ipv6).count() > 1 {
                bail!("{} driver doesn't support multiple subnets", self.driver.as_str());
            }
        }
        Ok(())
    }
}

impl Subnet {
    fn faults(&self) -> Vec<String> {
        let Self { subnet, range, gateway, auxiliary } = self;
        let mut faults = Vec::new();
        let first = subnet.network();
        if *subnet != subnet.trunc() {
            faults.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
        } else if first.is_unspecified() || first.is_loopback() || first.is_multicast() {
            faults.push(format!("invalid subnet {subnet}: no addresses for containers are there"));
        } else if subnet.prefix_len() == subnet.max_prefix_len() {
            faults.push(format!("invalid subnet {subnet}: a gateway and a container do not fit into one address"));
        }
        let outside = |address: &IpAddr| {
            if address.is_ipv6() != first.is_ipv6() {
                let family = if first.is_ipv6() { "IPv6" } else { "IPv4" };
                return Some(format!("parent subnet is an {family} block"));
            }
            (!subnet.contains(address)).then(|| format!("parent subnet {subnet} doesn't contain this address"))
        };
        if let Some(range) = range {
            if let Some(why) = outside(&range.network()) {
                faults.push(format!("invalid ip-range {range}: {why}"));
            } else if range.prefix_len() < subnet.prefix_len() {
                faults.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
            } else if *range != range.trunc() {
                faults.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
            }
        }
        if let Some((gateway, why)) = gateway.and_then(|gateway| Some((gateway, outside(&gateway)?))) {
            faults.push(format!("invalid gateway {gateway}: {why}"));
        } else if let Some(gateway) = gateway.filter(|gateway| member::unusable(*subnet).contains(gateway)) {
            faults.push(format!("invalid gateway {gateway}: it is the first or the last address of {subnet}"));
        }
        for (name, address) in auxiliary {
            faults.extend(outside(address).map(|why| format!("invalid auxiliary address {name}: {why}")));
        }
        faults
    }
}

/// Makes a network.
///
/// # Errors
/// The name is taken, the subnets cannot be had, an option is wrong; Docker's sentences.
pub fn create(store: &Store, new: New) -> Result<Network> {
    if names::PREDEFINED.contains(&new.name.as_str()) {
        bail!("operation is not permitted on predefined {} network", new.name);
    }
    new.check_configuration()?;
    new.check()?;
    // It is to have the first of the pools, as on every machine.
    default(store)?;
    let _lock = lock(store)?;
    if names::owner(store, &new.name)?.is_some() {
        bail!("network with name {} already exists", new.name);
    }
    let new = new.configured(store)?;
    new.check()?;
    let network = make(store, new)?;
    events::network(store, &network, "create", None);
    Ok(network)
}

/// The network `bridge`, made with the other predefined ones when it is first asked for.
///
/// # Errors
/// There is no subnet left for it, or the records cannot be written.
pub fn default(store: &Store) -> Result<Network> {
    let made = || match names::owner(store, "bridge")? {
        Some(id) => read(store, &id),
        None => Ok(None),
    };
    if let Some(network) = made()? {
        return Ok(network);
    }
    let _lock = lock(store)?;
    if let Some(network) = made()? {
        return Ok(network);
    }
    for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
        // Left by a command that was killed before it came to the last.
        if names::owner(store, name)?.is_none() {
            make(store, New { driver, ipv4: false, ..New::named(name) })?;
        }
    }
    // Another store of root's on this machine may have the usual name: that one's bridge is not shared.
    let is_taken = userns::is_host_root() && nix::net::if_::if_nametoindex(settings::DEFAULT_INTERFACE).is_ok();
    let mut new = New::named("bridge");
    if !is_taken {
        new.options.insert(settings::INTERFACE.to_owned(), settings::DEFAULT_INTERFACE.to_owned());
    }
    make(store, new).context("make the default network")
}

/// The lock of all networks.
fn lock(store: &Store) -> Result<Lock> {
    let dir = store.networks();
    let links = dir.join("names");
    let locked = Lock::exclusive(&dir);
    let locked = match locked {
        Ok(lock) if links.is_dir() => Ok(lock),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        other => {
            drop(other);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&links)
                .with_context(|| format!("make {links:?}"))?;
            Lock::exclusive(&dir)
        }
    };
    locked.with_context(|| format!("lock {dir:?}"))
}

/// Makes it under the lock of all networks: killed before the last step, there is no such network.
fn make(store: &Store, new: New) -> Result<Network> {
    let networks: Vec<Network> = list(store)?.into_iter().filter(|network| network.configuration.is_none()).collect();
    let named: Vec<(&str, IpNet)> =
        networks.iter().flat_map(|n| n.subnets.iter().map(|subnet| (n.name.as_str(), subnet.subnet))).collect();
    let mut taken: Vec<IpNet> = named.iter().map(|(_, subnet)| *subnet).collect();
    if new.config_only {
        let network = new.into_configuration()?;
        write(store, &network)?;
        return Ok(network);
    }
    let mut subnets = new.subnets;
    for subnet in &subnets {
        pool::check(&subnet.subnet, &named)?;
    }
    if new.driver == Driver::Bridge && !subnets.is_empty() {
        pool::check_host(&subnets, &taken, new.options.get(settings::INTERFACE).map_or("", String::as_str))?;
    }
    taken.extend(subnets.iter().map(|subnet| subnet.subnet));
    let has = |subnets: &[Subnet], ipv6| subnets.iter().any(|s: &Subnet| s.subnet.network().is_ipv6() == ipv6);
    if new.ipv4 && !has(&subnets, false) {
        subnets.push(Subnet::of(pool::choose(&taken, &pool::routes()?)?.into()));
    }
    if new.ipv6 && !has(&subnets, true) {
        subnets.push(Subnet::of(pool::unique_local(&taken)?.into()));
    }
    subnets.sort_by_key(|subnet| subnet.subnet.network().is_ipv6());
    let mut network = Network {
        id: Id::random().context("make an id")?,
        name: new.name,
        created: Timestamp::now(),
        driver: new.driver,
        internal: new.internal,
        subnets: Vec::new(),
        options: new.options,
        labels: new.labels,
        attachable: new.attachable,
        ipam_options: new.ipam_options,
        found: None,
        configuration: None,
        config_from: new.config_from,
    };
    for subnet in &mut subnets {
        let mode = network.gateway_mode(subnet.subnet.network().is_ipv6());
        if subnet.gateway.is_none() && mode != GatewayMode::Isolated {
            subnet.gateway = Some(first_address(&subnet.subnet));
        }
    }
    network.subnets = subnets;
    if network.driver == Driver::Bridge
        && let Some(other) =
            networks.iter().find(|n| n.driver == Driver::Bridge && n.interface() == network.interface())
    {
        bail!("conflicts with network {} ({}): networks have same bridge name", other.id, other.name);
    }
    if network.options.contains_key(settings::INTERFACE) && !network.is_default() {
        network.found = bridge::found(store, &network)?;
    }
    write(store, &network)?;
    Ok(network)
}

/// The one behind the subnet's own.
fn first_address(subnet: &IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) if net.prefix_len() < 32 => Ipv4Addr::from(u32::from(net.network()) + 1).into(),
        IpNet::V6(net) if net.prefix_len() < 128 => Ipv6Addr::from(u128::from(net.network()) + 1).into(),
        _ => subnet.network(),
    }
}

fn write(store: &Store, network: &Network) -> Result<()> {
    let place = store.network(&network.id);
    let temporary = record::temporary_beside(&place);
    let done = (|| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(temporary.join("members"))
            .with_context(|| format!("make the directory {temporary:?}"))?;
        record::write(&temporary.join("network.json"), network, Durability::Synced)?;
        // It leads nowhere until the network is there.
        names::claim(store, &network.name, &network.id)?;
        fs::rename(&temporary, &place).with_context(|| format!("make {place:?}"))?;
        record::sync_parent(&place).with_context(|| format!("sync {:?}", store.networks()))
    })();
    if done.is_err() {
        let _ = tree::remove(&temporary);
    }
    done
}

/// The network that a person means: by name, by whole id, or by the unique beginning of an id.
///
/// # Errors
/// `network … not found`, or more than one id begins so.
pub fn get(store: &Store, wanted: &str) -> Result<Network> {
    if names::PREDEFINED.contains(&wanted) {
        default(store)?;
    }
    let id = names::resolve(store, wanted)?;
    read(store, &id)?.ok_or_else(|| names::not_found(wanted))
}

/// By its whole id; `None`: there is none (any more).
///
/// # Errors
/// The record cannot be read.
pub fn read(store: &Store, id: &Id) -> Result<Option<Network>> {
    record::read(&store.network(id).join("network.json"))
}

/// All that are there, in the order of their names.
///
/// # Errors
/// A record cannot be read.
pub fn list(store: &Store) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for id in names::ids(store)? {
        networks.extend(read(store, &id)?);
    }
    for garbage in sweep::garbage(&store.networks()) {
        // What cannot be removed now is met again by the next command.
        let _ = tree::remove(&garbage);
    }
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(networks)
}

/// Removes a network that no running container is on. `teardown` takes its bridge and rules away,
/// when it is certain that nobody joins any more and before the record goes: killed in between, the
/// network is still there to be removed again.
///
/// # Errors
/// It is in use, predefined, or `teardown` failed.
pub fn remove(store: &Store, id: &Id, teardown: impl FnOnce(&Network) -> Result<()>) -> Result<()> {
    let _all = lock(store)?;
    let Some(network) = read(store, id)? else { return Err(names::not_found(id.as_str())) };
    if network.is_predefined() {
        bail!("{} is a pre-defined network and cannot be removed", network.name);
    }
    configuration::check_unused(store, &network)?;
    let place = store.network(id);
    // Who waits to join finds the network gone.
    let _own = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
    let members = member::living(store, id)?;
    if !members.is_empty() {
        let shown: Vec<String> =
            members.iter().map(|member| format!("name:{:?} id:{:?}", member.name, member.endpoint.short())).collect();
        return Err(Failure::new(format!(
            "error while removing network: network {} id {id} has active endpoints ({})",
            network.name,
            shown.join(", ")
        ))
        .hint("stop these containers, or take them off with 'ctr network disconnect'")
        .into());
    }
    teardown(&network)?;
    let away = record::temporary_beside(&place);
    fs::rename(&place, &away).with_context(|| format!("remove {place:?}"))?;
    names::release(store, &network.name)?;
    events::network(store, &network, "destroy", None);
    remove_tree(&away)
}

fn remove_tree(path: &PathBuf) -> Result<()> {
    tree::remove(path).with_context(|| format!("remove {path:?}"))
}
