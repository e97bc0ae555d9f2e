//! One container: what the kernel has against what is on record, and what gets through.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::{Report, Who, ask, space};
use crate::container::network::{self, Mode};
use crate::container::start;
use crate::container::state::{self, PROCESS, Process, State};
use crate::network::link::route::{self, Route};
use crate::network::link::{self, Link, address};
use crate::network::member::{self, Member};
use crate::network::netlink::Socket;
use crate::network::record::{Driver, Network};
use crate::network::space::Space;
use crate::network::{Protocol, Published, dns};
use crate::store::{Id, Store, record};
use crate::sys::netns;

/// Of so many published ports each is tried.
const MOST_PORTS: usize = 16;

/// What nobody listens on: who is there refuses it.
const CLOSED_PORT: u16 = 1;

const SEE_RULES: &str = "see the rules that are named under \"firewalls\"";

/// Answers' codes: RFC 1035, 4.1.1.
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

pub fn look(report: &mut Report, store: &Store, id: &Id, who: Who, servers: &[SocketAddr]) -> Result<()> {
    let directory = store.container(id);
    let state: State = record::read(&directory.join("state.json"))?.context("no state.json")?;
    let process: Option<Process> = record::read(&directory.join(PROCESS))?;
    let Some(process) = process.filter(|_| state::is_alive(store, id)) else {
        rests(report, &state.name);
        return Ok(());
    };
    match network::wish(store, &start::config(store, id)?)?.mode {
        Mode::Networks => {}
        Mode::Pasta(_) => {
            report.ok("networks", "the program pasta connects it: see pasta(1) for what can be reached");
            return Ok(());
        }
        Mode::None => {
            report.warning(
                "networks",
                "it is on none: it was started with --network none",
                format!("ctr network disconnect none {0} && ctr network connect bridge {0}", state.name),
            );
            return Ok(());
        }
        Mode::Host => {
            report.ok("networks", "it has this machine's own network: see ctr network doctor without a container");
            return Ok(());
        }
        Mode::Container(other) => {
            let other = &other[..other.len().min(12)];
            report.ok("networks", format!("it has those of another container: see ctr network doctor {other}"));
            return Ok(());
        }
        Mode::Namespace(path) => {
            report.ok("networks", format!("it is in the network namespace {}, which is not ctr's", path.display()));
            return Ok(());
        }
    }
    let path = format!("/proc/{}/ns/net", process.pid);
    let namespace = match File::open(&path) {
        // Its process has ended, and its monitor is about to say so.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            rests(report, &state.name);
            return Ok(());
        }
        opened => opened.with_context(|| format!("open {path:?}"))?,
    };
    let patient = Patient { name: state.name, namespace, memberships: member::of_container(store, id)? };
    patient.look(report, store, who, servers)
}

fn rests(report: &mut Report, name: &str) {
    report.problem("container", "it does not run", format!("ctr start {name}"));
}

/// The container that is looked at.
struct Patient {
    name: String,
    namespace: File,
    memberships: Vec<(Network, Member)>,
}

/// What its kernel side looks like.
struct Facts {
    links: Vec<Link>,
    addresses: Vec<(u32, IpNet)>,
    routes: Vec<Route>,
}

impl Facts {
    /// Where everything else goes.
    fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.iter().filter(|route| route.destination.prefix_len() == 0).filter_map(|route| route.gateway)
    }
}

impl Patient {
    fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        netns::inside(self.namespace.as_fd(), body).context("enter the container's network namespace")
    }

    fn look(&self, report: &mut Report, store: &Store, who: Who, servers: &[SocketAddr]) -> Result<()> {
        let facts = self.inside(facts)??;
        let restart = format!("ctr stop {0} && ctr start {0}", self.name);
        for (network, member) in &self.memberships {
            interface(report, network, member, &facts, &restart);
        }
        if self.memberships.is_empty() && !facts.links.iter().any(|link| link.up && link.name != "lo") {
            report.warning("networks", "it is on none any more", format!("ctr network connect bridge {}", self.name));
            return Ok(());
        }
        // Networks that it is cut off from: what does not work because of that is not a finding more.
        let mut cut = Vec::new();
        if let Some(space) = Space::find(store)?.filter(|_| !self.memberships.is_empty()) {
            for (network, member) in self.memberships.iter().filter(|(network, _)| network.driver == Driver::Bridge) {
                if !(space::bridge(report, &space, network)? && port(report, &space, network, member, &restart)?) {
                    cut.push(&network.id);
                }
            }
            space::ways(report, &space);
        }
        let dropped = who == Who::Root && super::host::drops(report);
        self.names(report, servers, &restart)?;
        let ways: Vec<IpAddr> = facts.gateways().collect();
        let leads_out = |network: &Network| network.bridge_addresses().iter().any(|net| ways.contains(&net.addr()));
        if !self.memberships.iter().any(|(network, _)| cut.contains(&&network.id) && leads_out(network)) {
            self.way_out(report, &ways, (who, dropped), servers)?;
        }
        self.published(report, &cut)
    }

    /// Nothing outside is to be reached.
    fn is_internal(&self) -> bool {
        !self.memberships.is_empty() && self.memberships.iter().all(|(network, _)| network.internal)
    }

    /// Its resolver, and through it the machine's.
    fn names(&self, report: &mut Report, servers: &[SocketAddr], restart: &str) -> Result<()> {
        if self.memberships.is_empty() {
            return Ok(());
        }
        let resolver = [SocketAddr::from((dns::ADDRESS, dns::PORT))];
        let ask = |name: &'static str| self.inside(move || ask::servers(&resolver, name));
        if ask(dns::HOST[0])?[0].is_none() {
            let text = format!("its resolver {} does not answer: it finds nobody by name", dns::ADDRESS);
            report.problem("names", text, format!("see whether a rule in the container drops it; else {restart}"));
            return Ok(());
        }
        match ask(super::host::PROBE)?[0] {
            Some(REFUSED) if self.is_internal() => {
                report.ok("names", "it is told of containers alone: it is on internal networks");
            }
            None | Some(SERVER_FAILURE) if ask::servers(servers, super::host::PROBE).iter().any(Option::is_some) => report.problem(
                "names",
                "its resolver gets no answer from the name servers, and this machine does",
                "if it was given --dns: that server has to be reached from the container; else the way outside is closed",
            ),
            None | Some(SERVER_FAILURE | REFUSED) => report.warning(
                "names",
                "its resolver answers, but no name server of this machine does",
                "see \"name servers\" above",
            ),
            Some(_) => report.ok("names", "its resolver answers"),
        }
        Ok(())
    }

    /// From its gateway outwards.
    fn way_out(
        &self,
        report: &mut Report,
        gateways: &[IpAddr],
        (who, dropped): (Who, bool),
        servers: &[SocketAddr],
    ) -> Result<()> {
        if gateways.is_empty() {
            if self.is_internal() {
                report.ok("way out", "it has none: it is on internal networks");
            } else {
                let text = "it has no default route: it reaches its neighbours alone";
                report.problem("way out", text, format!("ctr stop {0} && ctr start {0}", self.name));
            }
            return Ok(());
        }
        let bridges: Vec<IpAddr> =
            self.memberships.iter().flat_map(|(network, _)| network.bridge_addresses()).map(|net| net.addr()).collect();
        for gateway in gateways.iter().copied().filter(|gateway| bridges.contains(gateway)) {
            let answer = self.inside(|| ask::connect((gateway, CLOSED_PORT).into()))?;
            if answer.is_answer() {
                report.ok("gateway", format!("{gateway} is there"));
            } else {
                report.warning(
                    "gateway",
                    format!("its gateway {gateway} {} when it is called from the container", answer.as_str()),
                    match who {
                        Who::Root if dropped => SEE_RULES,
                        Who::Root => {
                            "a firewall of this machine drops what comes from containers: look at its rules for input"
                        }
                        Who::User => "see whether rules in the container drop what it sends",
                    },
                );
            }
        }
        self.outside(report, dropped, servers)
    }

    /// What this machine reaches, the container should reach.
    fn outside(&self, report: &mut Report, dropped: bool, servers: &[SocketAddr]) -> Result<()> {
        let mut targets: Vec<SocketAddr> = servers.iter().filter(|s| !s.ip().is_loopback()).copied().collect();
        let mut socket = Socket::route().context("open a netlink socket")?;
        let gateway = route::outside(&mut socket, false)?.and_then(|outside| outside.gateway);
        targets.extend(gateway.map(|gateway| SocketAddr::from((gateway, 80))));
        let Some(target) = targets.into_iter().find(|target| target.is_ipv4() && ask::connect(*target).is_answer())
        else {
            report.ok("outside", "not tried: nothing known to this machine answers it either");
            return Ok(());
        };
        let answer = self.inside(|| ask::connect(target))?;
        match (answer.is_answer(), self.is_internal()) {
            (true, false) => report.ok("outside", format!("{target} {} it", answer.as_str())),
            (false, true) => report.ok("outside", "it reaches nothing there: it is on internal networks"),
            (false, false) => report.problem(
                "outside",
                format!("{target} {}, and this machine reaches it", answer.as_str()),
                if dropped {
                    SEE_RULES
                } else {
                    "see what is said of rules, firewalls, forwarding and the uplink here and by ctr network doctor \
                     without a container"
                },
            ),
            (true, true) => report.problem(
                "outside",
                format!("{target} {} it, although it is on internal networks alone", answer.as_str()),
                space::REPAIR,
            ),
        }
        Ok(())
    }

    /// Its ports, but those that come in by a network it is cut off from.
    fn published(&self, report: &mut Report, cut: &[&Id]) -> Result<()> {
        let whole = self.memberships.iter().filter(|(network, _)| !cut.contains(&&network.id));
        let published = whole.flat_map(|(_, member)| member.published.iter().map(move |p| (member, p)));
        let mut ports: Vec<(&Member, &Published)> = published.collect();
        ports.sort_by_key(|(_, port)| (port.container_port, port.protocol, port.host_port));
        ports.dedup_by_key(|(_, port)| **port);
        let count = ports.len();
        ports.truncate(MOST_PORTS);
        let mut seen = None;
        let mut listened = false;
        for (member, port) in &ports {
            let key = (port.container_port, port.protocol);
            if seen.replace(key) != Some(key) {
                listened = self.listener(report, member, port)?;
            }
            if listened && port.protocol == Protocol::Tcp && !port.is_routed() {
                from_here(report, port);
            }
        }
        if count > ports.len() {
            report.ok("ports", format!("{} more are published, which were not tried", count - ports.len()));
        }
        Ok(())
    }

    /// Whether somebody in the container listens on a published port, where it can be met.
    fn listener(&self, report: &mut Report, member: &Member, port: &Published) -> Result<bool> {
        let about = format!("port {}/{}", port.container_port, port.protocol.as_str());
        let (wanted, protocol) = (port.container_port, port.protocol);
        let at = self.inside(|| ask::listeners(wanted, protocol))?;
        let meets = |at: &IpAddr| at.is_unspecified() || member.addresses().any(|own| own == *at);
        if at.iter().any(meets) {
            report.ok(&about, "the container listens on it");
            return Ok(true);
        }
        if let Some(at) = at.first() {
            report.problem(
                &about,
                format!("the container listens on {at} alone, where nobody outside of it gets"),
                "have the program listen on 0.0.0.0 (or [::]), often an option called host, bind or listen",
            );
            return Ok(false);
        }
        let others: Vec<String> = self.inside(ask::listening_ports)?.iter().map(ToString::to_string).collect();
        let elsewhere = match others.as_slice() {
            [] => "nor on any other TCP port".to_owned(),
            others => format!("it listens on {}", others.join(", ")),
        };
        report.problem(
            &about,
            format!("nothing in the container listens on it; {elsewhere}"),
            format!("see what the program says: ctr logs {}", self.name),
        );
        Ok(false)
    }
}

fn facts() -> Result<Facts> {
    let mut socket = Socket::route().context("open a netlink socket")?;
    Ok(Facts {
        links: link::list(&mut socket)?,
        addresses: address::all(&mut socket)?,
        routes: route::tables(&mut socket)?,
    })
}

/// The container's interface on one of its networks.
fn interface(report: &mut Report, network: &Network, member: &Member, facts: &Facts, restart: &str) {
    let about = member.interface.as_str();
    let Some(link) = facts.links.iter().find(|link| link.name == member.interface) else {
        let text = format!("its interface on the network {} is gone", network.name);
        report.problem(about, text, restart);
        return;
    };
    if !link.up {
        let text = format!("its interface on the network {} is switched off", network.name);
        report.problem(about, text, restart);
        return;
    }
    if link.mac.is_some_and(|mac| mac != member.mac) && network.driver == Driver::Bridge {
        let text = format!(
            "it has another hardware address than the network {} gave it: what it sends is dropped",
            network.name
        );
        report.problem(about, text, restart);
        return;
    }
    let has = |wanted: IpAddr| facts.addresses.iter().any(|(at, net)| *at == link.index && net.addr() == wanted);
    let lost: Vec<String> = member.addresses().filter(|own| !has(*own)).map(|own| own.to_string()).collect();
    if !lost.is_empty() {
        let text = format!("it has lost its address on the network {}: {}", network.name, lost.join(", "));
        report.problem(about, text, restart);
        return;
    }
    let own: Vec<String> = member.addresses().map(|own| own.to_string()).collect();
    report.ok(about, format!("{} on the network {}", own.join(" and "), network.name));
}

/// The other side of that interface. `true`: it is as it should be.
fn port(report: &mut Report, space: &Space, network: &Network, member: &Member, restart: &str) -> Result<bool> {
    let mut socket = space.route()?;
    let bridge = link::index(&mut socket, &network.interface())?;
    let (what, fix) = match link::find(&mut socket, &member.port)? {
        None => ("is gone", restart),
        Some(link) if link.bridge != Some(bridge) => ("is not in the bridge", space::REPAIR),
        Some(link) if !link.up => ("is switched off", restart),
        Some(_) => return Ok(true),
    };
    report.problem(&member.interface, format!("the other side of {}, {}, {what}", member.interface, member.port), fix);
    Ok(false)
}

/// A published port, tried from this machine.
fn from_here(report: &mut Report, port: &Published) {
    let host = match port.host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => {
            if !Path::new("/proc/net/if_inet6").exists() {
                return;
            }
            Ipv6Addr::LOCALHOST.into()
        }
        host => host,
    };
    let address = SocketAddr::new(host, port.host_port);
    let about = format!("port {}/{}", port.container_port, port.protocol.as_str());
    match ask::connect(address) {
        ask::Answer::Connected => report.ok(&about, format!("{address} on this machine leads to it")),
        answer => report.problem(
            &about,
            format!("{address} on this machine {}", answer.as_str()),
            format!("{}; if that does not help, start the container again", space::REPAIR),
        ),
    }
}
