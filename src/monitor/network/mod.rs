//! A container's networks as its monitor has them: made ready before there is a process
//! ([`Sandbox::prepare`]: addresses, host ports, bridges), joined to the process's network namespace
//! ([`Sandbox::wire`]), changed while it runs (`change`), served (`serve`: names, ports, the uplink),
//! and given back when it is dropped. Or another program connects it (`pasta`).

mod change;
mod pasta;
mod serve;
mod wire;

pub use pasta::Connected;
pub use serve::Token;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::Result;
use ipnet::IpNet;

use crate::container::config::{ContainerConfig, Endpoint};
use crate::container::network::{self, Mode, Wish};
use crate::container::spec::files::Names;
use crate::error::{Failure, exit};
use crate::events;
use crate::network::dns::Resolver;
use crate::network::listen::{self, Listener, Wanted};
use crate::network::member::{self, Member, NewMember};
use crate::network::record::{self, Driver, Network};
use crate::network::settings::GatewayMode;
use crate::network::space::Space;
use crate::network::uplink::Uplink;
use crate::network::{Protocol, Published, bridge, teardown};
use crate::store::{Id, Store};

/// One of the container's networks.
#[derive(Debug)]
struct Attached {
    network: Network,
    member: Member,
}

impl Attached {
    /// Its own addresses with their networks' prefix lengths.
    fn addresses(&self) -> Vec<IpNet> {
        let with_prefix = |address: IpAddr| {
            let subnet = self.network.subnet(address.is_ipv6())?;
            IpNet::new(address, subnet.subnet.prefix_len()).ok()
        };
        self.member.addresses().filter_map(with_prefix).collect()
    }
}

/// All of a container's networks.
#[derive(Debug)]
pub struct Sandbox {
    store: Store,
    container: Id,
    /// What others find it by.
    name: String,
    space: Space,
    attached: Vec<Attached>,
    listeners: Vec<Listener>,
    /// The container's network namespace, once there is one.
    namespace: Option<OwnedFd>,
    uplink: Option<Uplink>,
    /// When an uplink that could not be had is tried for again.
    retry_at: Option<Instant>,
    resolver: Option<Resolver>,
    /// What is in the hosts file.
    shown: Names,
    /// What of the configuration is needed later.
    settings: Settings,
}

/// What the container's configuration says to its names and the way outside.
#[derive(Debug)]
struct Settings {
    /// `--dns`
    dns: Vec<IpAddr>,
    /// `--dns-option`
    dns_options: Vec<String>,
    /// `--link`, on the default network.
    links: Vec<String>,
    /// The host's loopback is reached from the container.
    host_loopback: bool,
}

impl Sandbox {
    /// Takes addresses and host ports, and makes the bridges. `None` where the container has no
    /// network of ctr's: `none`, `host`, another container's, one at a path. `name`: the container's.
    ///
    /// # Errors
    /// A network that there is not, an address or a port that is taken, a kernel without what
    /// networks need. Nothing is left then.
    pub fn prepare(store: &Store, config: &ContainerConfig, wish: &Wish, name: &str) -> Result<Option<Self>> {
        if wish.mode != Mode::Networks {
            return Ok(None);
        }
        let host = &config.host_config;
        let mut sandbox = Self {
            store: store.clone(),
            container: config.id.clone(),
            name: name.to_owned(),
            space: Space::hold(store, &config.id)?,
            attached: Vec::new(),
            listeners: Vec::new(),
            namespace: None,
            uplink: None,
            retry_at: None,
            resolver: None,
            shown: Names::default(),
            settings: Settings {
                dns: host.dns.iter().filter_map(|server| server.parse().ok()).collect(),
                dns_options: host.dns_options.clone(),
                links: wish.links.clone(),
                host_loopback: host.host_loopback,
            },
        };
        // What `host-gateway` is for root: a gateway's address, as in Docker, and no more.
        sandbox.settings.host_loopback |= sandbox.space.is_apart() && host.reaches_loopback();
        sandbox.make_ready(config, wish)?;
        Ok(Some(sandbox))
    }

    fn make_ready(&mut self, config: &ContainerConfig, wish: &Wish) -> Result<()> {
        for endpoint in &wish.endpoints {
            self.join(endpoint, &wish.endpoints)?;
        }
        if let Some(entrance) = self.entrance().filter(|_| self.settings.host_loopback && !self.space.is_apart())
            && entrance.member.loopback.is_none()
        {
            let name = &entrance.network.name;
            return Err(Failure::new(format!(
                "--host-loopback: the network {name} has no gateway of IPv4 that leads to it"
            ))
            .hint("use a bridge network with IPv4, or have the program on the host listen on an address of the host's")
            .into());
        }
        self.take_ports(config, wish)?;
        self.record_published()?;
        self.shown = self.names();
        Ok(())
    }

    /// Binds the host's side of the ports that are to be published. Not without a network that they can
    /// come in by: who connects would wait for an answer for ever.
    fn take_ports(&mut self, config: &ContainerConfig, wish: &Wish) -> Result<()> {
        if self.entrance().is_some() {
            let exposed = config.config.exposed_ports.keys();
            let wanted = network::listeners(&wish.port_bindings, wish.publish_all_ports, exposed)?;
            self.listeners = self.bind(wanted)?;
        }
        Ok(())
    }

    /// Binds ports of the host.
    fn bind(&self, mut wanted: Vec<Wanted>) -> Result<Vec<Listener>> {
        if let Some(port) = wanted.iter().find(|wanted| self.space.is_apart() && wanted.protocol == Protocol::Sctp) {
            return Err(Failure::new(format!(
                "port {}/sctp cannot be published: sctp needs root",
                port.container_port
            ))
            .hint("an ordinary user's containers are reached through sockets of TCP and UDP alone")
            .exit(exit::ENGINE)
            .into());
        }
        // As in Docker, whoever gave the network an address of IPv4 wants no port on all of IPv6.
        let usual = self.entrance().and_then(|main| main.network.host_binding());
        for wanted in &mut wanted {
            wanted.host = wanted.host.or(usual);
        }
        let (routed, wanted) = self.split_routed(wanted);
        let mut listeners = listen::bind_all(&self.store, &wanted, self.has_both())?;
        listeners.extend(routed);
        Ok(listeners)
    }

    /// Divides ports into those that no port of the host's is to lead to (gateway mode `routed`, which can
    /// be one family's alone) and those that are to be bound.
    fn split_routed(&self, wanted: Vec<Wanted>) -> (Vec<Listener>, Vec<Wanted>) {
        let Some(Attached { network, member }) = self.entrance() else { return (Vec::new(), wanted) };
        let is_routed = |ipv6| network.gateway_mode(ipv6) == GatewayMode::Routed;
        let has = |ipv6| if ipv6 { member.ipv6.is_some() } else { member.ipv4.is_some() };
        if ![false, true].into_iter().any(|ipv6| is_routed(ipv6) && has(ipv6)) {
            return (Vec::new(), wanted);
        }
        let (mut routed, mut bound) = (Vec::new(), Vec::new());
        for wanted in wanted {
            let hosts = match wanted.host {
                Some(host) => vec![host],
                None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            };
            for host in hosts {
                if !is_routed(host.is_ipv6()) {
                    // Of a family that it has no address of, nothing is translated to a routed one.
                    bound.extend(has(host.is_ipv6()).then(|| Wanted { host: Some(host), ..wanted.clone() }));
                } else if has(host.is_ipv6()) {
                    let any = if host.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
                    routed.push(Listener::routed(any, &wanted));
                }
            }
        }
        (routed, bound)
    }

    /// Makes it a member of a network, and that network's bridge. `others`: what it is to be on beside it.
    fn join(&mut self, wanted: &Endpoint, others: &[Endpoint]) -> Result<usize> {
        let network = record::get(&self.store, &wanted.network)?;
        network.check_joinable()?;
        if !network.internal {
            // It gets ready meanwhile.
            self.call_uplink()?;
        }
        let loopback = self.loopback(&network);
        let (container, name) = (&self.container, &self.name);
        let new = NewMember { container, name, wanted, others, published: Vec::new(), loopback };
        let member = member::join(&self.store, &network, new, |dead| {
            // What cannot be taken away leads nowhere: the interface is gone.
            let _ = teardown::release(&self.space, &network, &teardown::inherited(&self.store, dead));
        })?;
        self.attached.push(Attached { network, member });
        let at = self.attached.len() - 1;
        if self.attached[at].network.driver == Driver::Bridge {
            bridge::ensure(&self.store, &self.space, &self.attached[at].network)?;
        }
        events::network(&self.store, &self.attached[at].network, "connect", Some(&self.container));
        Ok(at)
    }

    /// The gateway at which the container meets the host's 127.0.0.1, where the kernel's translation leads
    /// it there: `--host-loopback` of root's.
    fn loopback(&self, network: &Network) -> Option<Ipv4Addr> {
        let wanted = self.settings.host_loopback && !self.space.is_apart();
        if !wanted || network.internal || network.driver != Driver::Bridge {
            return None;
        }
        network.bridge_addresses().into_iter().find_map(|net| match net.addr() {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        })
    }

    /// Writes down, with the network that published ports come in by, which these are.
    fn record_published(&mut self) -> Result<()> {
        let published = self.published();
        let entrance = self.entrance().map(|entrance| entrance.network.id.clone());
        for attached in &mut self.attached {
            let its = if Some(&attached.network.id) == entrance.as_ref() { &published[..] } else { &[] };
            if attached.member.published != its {
                its.clone_into(&mut attached.member.published);
                member::update(&self.store, &attached.network.id, &self.container, |m| {
                    its.clone_into(&mut m.published);
                })?;
            }
        }
        Ok(())
    }

    /// The network that published ports come in by, and that leads to the host.
    fn entrance(&self) -> Option<&Attached> {
        let outward = self.attached.iter().filter(|a| a.network.lets_in());
        // Of those that are equal the first: max_by_key takes the last.
        outward.rev().max_by_key(|a| a.member.gw_priority)
    }

    /// Whether published ports lead to an address of each family.
    fn has_both(&self) -> bool {
        self.entrance().is_some_and(|a| a.member.ipv4.is_some() && a.member.ipv6.is_some())
    }

    /// What the container is on.
    #[must_use]
    pub fn networks(&self) -> Vec<Network> {
        self.attached.iter().map(|attached| attached.network.clone()).collect()
    }

    /// The published ports.
    #[must_use]
    pub fn published(&self) -> Vec<Published> {
        self.listeners.iter().flat_map(|listener| listener.published.iter().copied()).collect()
    }
}

impl Drop for Sandbox {
    /// Gives back all that it took. What fails here is met again by whoever takes it next.
    fn drop(&mut self) {
        self.resolver = None;
        for Attached { network, member } in std::mem::take(&mut self.attached) {
            let _ = teardown::forget(&self.store, &self.space, &network, &member);
        }
        // Only now may another container have the ports: the rules that lead here are gone. The uplink has
        // the sockets too, and would let go of them some time after this container has ended.
        let published = self.published();
        if let Some(uplink) = self.uplink.as_mut().filter(|_| !published.is_empty()) {
            let _ = uplink.unpublish(&published);
        }
        self.listeners.clear();
        Space::forget(&self.store, &self.container);
    }
}
