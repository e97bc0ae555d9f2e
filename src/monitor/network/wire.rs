//! From a network namespace to one that is connected: pairs of interfaces, addresses and routes,
//! rules, names, the ways outside and in.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::unistd::Pid;

use super::{Attached, Sandbox};
use crate::container::config::ContainerConfig;
use crate::container::spec::files::Names;
use crate::container::state::State;
use crate::error::Failure;
use crate::network::dns::{Joined, Resolver, View};
use crate::network::link;
use crate::network::link::interface::{self, Interface};
use crate::network::link::macvlan::{self, Macvlan};
use crate::network::link::veth::{self, Veth};
use crate::network::link::{neighbour, rate};
use crate::network::member::{self, Member};
use crate::network::netlink::Socket;
use crate::network::record::Driver;
use crate::network::uplink::{self, Registration, Target};
use crate::network::{Published, firewall, ports, rules, settings, sysctl};
use crate::store::names;
use crate::sys::netns;

impl Sandbox {
    /// Connects the network namespace of the container's first process, which does not run yet.
    ///
    /// # Errors
    /// The kernel refused a step.
    pub fn wire(&mut self, process: Pid) -> Result<()> {
        let path = format!("/proc/{process}/ns/net");
        self.namespace = Some(File::open(&path).with_context(|| format!("open {path:?}"))?.into());
        // Before there is an interface that could hear of a router.
        netns::inside(self.namespace()?, neighbour::settle_ipv6)??;
        self.reach_outside()?;
        for at in 0..self.attached.len() {
            self.plug(at)?;
        }
        self.let_in()?;
        self.resolver = Some(Resolver::open(self.namespace()?, self.view())?);
        Ok(())
    }

    pub(super) fn namespace(&self) -> Result<BorrowedFd<'_>> {
        self.namespace.as_ref().map(AsFd::as_fd).context("the container has no network namespace yet")
    }

    /// Makes the container's interface on one of its networks.
    pub(super) fn plug(&self, at: usize) -> Result<()> {
        let Attached { network, member } = &self.attached[at];
        let netns = self.namespace()?;
        let mut space = self.space.route()?;
        if network.driver == Driver::Macvlan {
            if self.space.is_apart() {
                let what = format!("the macvlan network {} needs an interface of the machine's", network.name);
                return Err(Failure::new(format!("{what}, which an ordinary user may not use"))
                    .hint("run the container as root, or put it on a bridge network: ctr network create NAME")
                    .into());
            }
            let parent = match network.parent() {
                Some(parent) => parent.to_owned(),
                None => macvlan::usual_parent(&mut space)?,
            };
            let wanted = Macvlan {
                parent: &parent,
                mode: network.macvlan_mode().parse()?,
                interface: &member.interface,
                netns,
                mac: Some(member.mac),
                mtu: network.mtu(),
            };
            macvlan::create(&mut space, &wanted)?;
            return neighbour::announce(&mut self.configure(at)?, &member.interface);
        }
        let veth = Veth {
            port: &member.port,
            bridge: link::index(&mut space, &network.interface())?,
            isolated: !network.icc(),
            hairpin: !self.space.is_apart(),
            interface: &member.interface,
            netns,
            mac: Some(member.mac),
            mtu: network.mtu(),
        };
        veth::create(&mut space, &veth)?;
        let member_rules = rules::of_member(member);
        rules::change(&self.store, &self.space, || firewall::add_member(&self.space, &member_rules))?;
        let mut container = self.configure(at)?;
        if !member.rate.is_none() {
            rate::limit(&mut space, &mut container, &member.port, &member.interface, &member.rate)?;
        }
        veth::raise(&mut space, &mut container, &veth)?;
        // One that follows from the address is in the neighbours' caches already.
        if member.ipv4.map(link::mac_of) != Some(member.mac) {
            neighbour::announce(&mut container, &member.interface)?;
        }
        Ok(())
    }

    /// The container's side: addresses, routes, settings. Returns a socket of its namespace.
    fn configure(&self, at: usize) -> Result<Socket> {
        let member = &self.attached[at].member;
        let has_ipv6 = member.ipv6.is_some() || member.link_local.iter().any(IpAddr::is_ipv6);
        let (addresses, gateways) = (self.attached[at].addresses(), self.gateways(at));
        let wanted = interface(member, &addresses, &gateways);
        netns::inside(self.namespace()?, || -> Result<Socket> {
            if !has_ipv6 {
                // Docker's: without it a container has addresses that no network gave it.
                sysctl::set_if_there(&format!("ipv6/conf/{}/disable_ipv6", member.interface), "1")?;
            }
            if let Some(text) = member.driver_opts.get(settings::SYSCTLS) {
                for (name, value) in sysctl::of_interface(text, &member.interface).map_err(Failure::new)? {
                    sysctl::set(&name, &value)?;
                }
            }
            let mut socket = Socket::route()?;
            interface::configure(&mut socket, &wanted)?;
            Ok(socket)
        })?
    }

    /// Has everything else go out by the network that is the way out now.
    pub(super) fn lead_out(&self) -> Result<()> {
        for (at, attached) in self.attached.iter().enumerate() {
            let (addresses, gateways) = (attached.addresses(), self.gateways(at));
            if !gateways.is_empty() {
                let wanted = interface(&attached.member, &addresses, &gateways);
                netns::inside(self.namespace()?, || interface::add_gateways(&mut Socket::route()?, &wanted))??;
            }
        }
        Ok(())
    }

    /// Those of a network's gateways that are the container's.
    fn gateways(&self, at: usize) -> Vec<IpAddr> {
        let all = self.attached[at].network.gateways().map(|net| net.addr());
        all.filter(|gateway| self.way_out(gateway.is_ipv6()) == Some(at)).collect()
    }

    /// Which of its networks everything else goes out by.
    fn way_out(&self, ipv6: bool) -> Option<usize> {
        let fits = |a: &Attached| {
            let address = if ipv6 { a.member.ipv6.is_some() } else { a.member.ipv4.is_some() };
            address && !a.network.internal
        };
        let candidates = self.attached.iter().enumerate().filter(|(_, a)| fits(a));
        candidates.rev().max_by_key(|(_, a)| a.member.gw_priority).map(|(at, _)| at)
    }

    /// Has an uplink, where what leaves the containers' namespace needs one.
    pub(super) fn call_uplink(&mut self) -> Result<()> {
        if self.space.is_apart() && self.uplink.is_none() {
            self.uplink = Some(uplink::connect(&self.store, &self.space)?);
        }
        Ok(())
    }

    /// Tells the uplink of the container, where there is need of one.
    pub(super) fn reach_outside(&mut self) -> Result<()> {
        if !self.space.is_apart() {
            return Ok(());
        }
        let outward = self.attached.iter().filter(|a| !a.network.internal);
        let addresses: Vec<IpAddr> = outward.flat_map(|a| a.member.addresses()).collect();
        if addresses.is_empty() && self.uplink.is_none() {
            return Ok(());
        }
        self.call_uplink()?;
        let Some(uplink) = &mut self.uplink else { return Ok(()) };
        uplink.register(&Registration {
            container: self.container.clone(),
            addresses,
            host_loopback: self.settings.host_loopback,
        })
    }

    /// Leads the published ports to the container: in the kernel where it can, and else by the uplink.
    pub(super) fn let_in(&mut self) -> Result<()> {
        if self.space.is_apart() {
            return self.relay_ports();
        }
        let Some(entrance) = self.entrance() else { return Ok(()) };
        let mut publications = rules::publications(&entrance.network, &entrance.member.published, &entrance.member);
        if publications.is_empty() {
            return Ok(());
        }
        if !rules::lead_ports(&self.space)? {
            publications.retain(|(from, _)| from.is_routed());
        }
        rules::change(&self.store, &self.space, || firewall::publish(&self.space, &publications))
    }

    /// Takes back [`Sandbox::let_in`], connections aside.
    pub(super) fn shut(&mut self) -> Result<()> {
        let Some(entrance) = self.entrance() else { return Ok(()) };
        if entrance.member.published.is_empty() {
            return Ok(());
        }
        let publications = rules::publications(&entrance.network, &entrance.member.published, &entrance.member);
        let published = entrance.member.published.clone();
        if let Some(uplink) = &mut self.uplink {
            uplink.unpublish(&published)?;
        }
        firewall::unpublish(&self.space, &publications)
    }

    /// Has the uplink serve the host's sockets.
    pub(super) fn relay_ports(&mut self) -> Result<()> {
        let Some(entrance) = self.entrance() else { return Ok(()) };
        let targets: Vec<_> = self
            .listeners
            .iter()
            .filter_map(|listener| {
                let publications = rules::publications(&entrance.network, &listener.published, &entrance.member);
                let (published, target) = publications.into_iter().next()?;
                let socket = listener.socket.as_ref()?.as_fd();
                Some(uplink::Listener { socket, target: Target { published, target, keep_source: true } })
            })
            .collect();
        if targets.is_empty() {
            return Ok(());
        }
        let mut uplink = match self.uplink.take() {
            Some(uplink) => uplink,
            None => uplink::connect(&self.store, &self.space)?,
        };
        let done = uplink.publish(&targets);
        drop(targets);
        self.uplink = Some(uplink);
        done
    }

    /// What the container may ask for by name.
    pub(super) fn view(&self) -> View {
        let networks = self.attached.iter().map(|Attached { network, .. }| Joined {
            id: network.id.clone(),
            name: network.name.clone(),
            links_only: network.is_default(),
            internal: network.internal,
        });
        View {
            store: self.store.clone(),
            container: self.container.clone(),
            networks: networks.collect(),
            links: self.links(),
            servers: self.settings.dns.clone(),
            options: self.settings.dns_options.clone(),
            gateways: self.host().into_iter().collect(),
        }
    }

    /// `--link CONTAINER:ALIAS` as alias and container.
    fn links(&self) -> Vec<(String, String)> {
        let all = self.settings.links.iter().map(|link| {
            let (container, alias) = link.split_once(':').unwrap_or((link, link));
            (alias.to_owned(), container.to_owned())
        });
        all.collect()
    }

    /// The linked containers' names and addresses, of those that run.
    fn linked(&self) -> Vec<(String, IpAddr)> {
        let each = self.links().into_iter().filter_map(|(alias, container)| {
            let id = names::resolve(&self.store, &container).ok()?;
            let mut members = self.attached.iter().filter_map(|a| member::one(&self.store, &a.network.id, &id).ok()?);
            let member = members.find(|member| member.addresses().next().is_some())?;
            let names = if alias == member.name { alias } else { format!("{alias} {}", member.name) };
            Some((format!("{names} {}", id.short()), member.addresses().next()?))
        });
        each.collect()
    }

    /// What the container's hosts file says of its networks.
    #[must_use]
    pub fn names(&self) -> Names {
        Names {
            addresses: self.attached.iter().flat_map(|attached| attached.member.addresses()).collect(),
            gateway: self.host(),
            links: self.linked(),
            resolver: true,
        }
    }

    /// Puts into the container's state what `ps` shows of its networks.
    pub fn describe(&self, config: &ContainerConfig, state: &mut State) {
        // Docker: a port that none of the host's leads to is shown as one that is only exposed.
        let (routed, published) = self.published().into_iter().partition::<Vec<_>, _>(Published::is_routed);
        let routed: BTreeSet<String> =
            routed.iter().map(|p| format!("{}/{}", p.container_port, p.protocol.as_str())).collect();
        let exposed = config.config.exposed_ports.keys().chain(&routed).map(String::as_str).collect::<BTreeSet<_>>();
        state.ports = ports::shown(&published, exposed);
        state.networks = self.attached.iter().map(|attached| attached.network.name.clone()).collect();
    }

    /// The host, as containers know it: `host.docker.internal`. As in Docker the bridge's own address
    /// on an internal network too.
    pub(super) fn host(&self) -> Option<IpAddr> {
        let entrance = self.entrance();
        if entrance.is_some() && self.space.is_apart() {
            return Some(IpAddr::V4(uplink::policy::HOST));
        }
        let internal = || self.attached.iter().find(|a| a.network.driver == Driver::Bridge);
        entrance.or_else(internal)?.network.bridge_addresses().first().map(IpNet::addr)
    }
}

fn interface<'a>(member: &'a Member, addresses: &'a [IpNet], gateways: &'a [IpAddr]) -> Interface<'a> {
    Interface {
        name: &member.interface,
        addresses,
        link_local: &member.link_local,
        gateways,
        metric: None,
        routes: &[],
        mac: None,
        mtu: None,
    }
}
