//! Names and network: host name, hosts, resolvers, which networks, and what is published.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::{Request, bad, endpoints, pending, publish, rate};
use crate::cli::complete::Kind;
use crate::cli::output;
use crate::container::config::{Empty, Endpoint, Ids, PortBindings};
use crate::container::network::{Mode, change};
use crate::container::spec::hostname;
use crate::container::start;
use crate::error::{Failure, exit};
use crate::network::record::{self, Network};
use crate::network::{Protocol, Rate};
use crate::store::{Store, names};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// A network to be on, again for several: its name, with options behind commas (ip, ip6, mac,
    /// alias, interface_name, gw-priority, rate); or host, none, container:NAME, ns:PATH, pasta
    #[arg(long, visible_alias = "net", value_name = "network", add = Kind::NetworkModes(&["pasta"]), value_parser = endpoints::network)]
    network: Vec<Endpoint>,
    /// Publish a port on the host: 8080:80, 127.0.0.1:8080:80/udp, 8000-8010:80-90
    #[arg(short, long, value_name = "[[address:]port:]port")]
    publish: Vec<String>,
    /// Publish every exposed port on one that the host has free
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Ports that the container listens on, for others to know (80, 8000-8010/udp)
    #[arg(long, value_name = "port")]
    expose: Vec<String>,
    /// IPv4 address on the first network
    #[arg(long, value_name = "address", value_parser = endpoints::ipv4)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address on the first network
    #[arg(long, value_name = "address", value_parser = endpoints::ipv6)]
    ip6: Option<Ipv6Addr>,
    /// Hardware address on the first network
    #[arg(long, value_name = "address")]
    mac_address: Option<String>,
    /// Further names for others to find it by on the first network
    #[arg(long, visible_alias = "net-alias", value_name = "name", value_parser = endpoints::alias)]
    network_alias: Vec<String>,
    /// Find another container by its name, or by an alias
    #[arg(long, value_name = "container[:alias]", value_parser = endpoints::link)]
    link: Vec<String>,
    /// Further addresses on the first network
    #[arg(long, value_name = "address", value_parser = endpoints::link_local)]
    link_local_ip: Vec<IpAddr>,
    /// What may pass in a second, on each network: 10mbit, in=10mbit,out=2mbit
    #[arg(long, value_name = "rate", value_parser = rate::rate)]
    rate: Option<Rate>,
    /// Let host.docker.internal lead to what listens on the host's loopback alone
    #[arg(long)]
    host_loopback: bool,
    /// Host name (the short id)
    #[arg(short = 'h', long, value_name = "name")]
    hostname: Option<String>,
    /// NIS domain name
    #[arg(long, value_name = "name")]
    domainname: Option<String>,
    /// A line for /etc/hosts; host-gateway as the address is the host's
    #[arg(long, value_name = "name:address", value_parser = host)]
    add_host: Vec<String>,
    /// Name servers
    #[arg(long, value_name = "address", value_parser = address)]
    dns: Vec<String>,
    /// Options for resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "option")]
    dns_option: Vec<String>,
    /// Domains in which names are looked up
    #[arg(long, value_name = "domain", value_parser = domain)]
    dns_search: Vec<String>,
}

/// What came of [`NetworkOptions`].
pub struct Checked {
    /// `HostConfig.NetworkMode`, another container by the name that was given.
    pub mode: String,
    pub endpoints: Vec<Endpoint>,
    pub links: Vec<String>,
    pub port_bindings: PortBindings,
    pub publish_all_ports: bool,
    pub host_loopback: bool,
    pub hostname: String,
    pub domainname: String,
    pub extra_hosts: Vec<String>,
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub exposed_ports: BTreeMap<String, Empty>,
}

impl NetworkOptions {
    /// # Errors
    /// What cannot be had together, wrong ports, a host name that cannot be one.
    pub fn check(self) -> Result<Checked> {
        if let Some(program) = self.network.iter().find(|given| is_absent(&given.network)) {
            return pending::refused(&format!("--network {}", program.network));
        }
        let port_bindings = publish::bindings(&self.publish)?;
        let mut exposed_ports: BTreeMap<String, Empty> =
            port_bindings.keys().map(|port| (port.clone(), Empty {})).collect();
        for text in &self.expose {
            exposed_ports.extend(ports(text)?.into_iter().map(|port| (port, Empty {})));
        }
        let hostname = self.hostname.unwrap_or_default();
        // sethostname(2) takes 64 bytes; a slash or a space is no name anywhere.
        let has_edge = hostname.starts_with('-') || hostname.ends_with('-');
        if hostname.len() > 64 || has_edge || hostname.contains(|c: char| c.is_whitespace() || c == '/' || c == '\0') {
            return bad(format!("invalid hostname: {hostname:?}"));
        }
        let mac = self.mac_address.filter(|text| !text.is_empty()).map(|text| endpoints::mac(&text));
        let mac = mac.transpose().or_else(bad)?;
        let first = endpoints::First {
            ip: self.ip,
            ip6: self.ip6,
            mac,
            aliases: self.network_alias,
            link_local_ips: self.link_local_ip,
            links: self.link,
            rate: self.rate.unwrap_or_default(),
        };
        let endpoints::Networks { mode, endpoints, links } = endpoints::networks(self.network, first)?;
        let mode_is = Mode::of(&mode);
        let is_container = matches!(mode_is, Mode::Container(_));
        let is_anothers = is_container || matches!(mode_is, Mode::Namespace(_));
        let publishes = self.publish_all || !self.publish.is_empty();
        // What is another's is not this container's to set.
        for (is_wrong, what) in [
            (is_container && !hostname.is_empty(), "hostname and the network mode"),
            (is_container && !self.dns.is_empty(), "dns and the network mode"),
            (is_container && !self.add_host.is_empty(), "custom host-to-IP mapping and the network mode"),
            (is_anothers && publishes, "port publishing and the container type network mode"),
            (self.host_loopback && mode_is != Mode::Networks, "host loopback and the network mode"),
            (is_anothers && !self.expose.is_empty(), "port exposing and the container type network mode"),
        ] {
            if is_wrong {
                return bad(format!("conflicting options: {what}"));
            }
        }
        if mode_is == Mode::Host && publishes {
            output::say("WARNING: Published ports are discarded when using host network mode");
        }
        Ok(Checked {
            mode,
            endpoints,
            links,
            port_bindings,
            publish_all_ports: self.publish_all,
            host_loopback: self.host_loopback,
            hostname,
            domainname: self.domainname.unwrap_or_default(),
            extra_hosts: self.add_host,
            dns: self.dns,
            dns_options: self.dns_option,
            dns_search: self.dns_search,
            exposed_ports,
        })
    }
}

/// Says that published ports lead nowhere, where none of the networks has connections come in.
///
/// # Errors
/// There is no such network.
pub fn warn_unreached(store: &Store, endpoints: &[Endpoint]) -> Result<()> {
    let networks = endpoints.iter().map(|endpoint| record::get(store, &endpoint.network));
    let networks = networks.collect::<Result<Vec<_>>>()?;
    if !networks.is_empty() && !networks.iter().any(Network::lets_in) {
        output::say("WARNING: Published ports are not reached: none of the networks lets connections in");
    }
    Ok(())
}

/// Podman's further modes.
fn is_absent(network: &str) -> bool {
    let program = network.split(':').next();
    matches!(program, Some("slirp4netns"))
}

impl Request {
    /// Finds the containers and networks that are named: another container's network is kept by its
    /// id, and what is not there is said before anything is made.
    ///
    /// # Errors
    /// There is no such container or network.
    pub fn find_containers(&mut self, store: &Store) -> Result<()> {
        // Docker: who has another's network has its host name too, which that network's names know.
        let uts_is_own = self.host_config.uts_mode != "host";
        match Mode::of(&self.host_config.network_mode) {
            Mode::Container(name) => {
                let id = names::resolve(store, &name)?;
                if uts_is_own {
                    let other = start::config(store, &id)?;
                    hostname(&other).clone_into(&mut self.config.hostname);
                    self.config.domainname.clone_from(&other.config.domainname);
                }
                self.host_config.network_mode = format!("container:{id}");
            }
            Mode::Host if uts_is_own && self.config.hostname.is_empty() => {
                self.config.hostname = nix::unistd::gethostname()?.to_string_lossy().into_owned();
            }
            _ => {}
        }
        for mode in [&mut self.host_config.pid_mode, &mut self.host_config.ipc_mode] {
            if let Some(name) = mode.strip_prefix("container:") {
                *mode = format!("container:{}", names::resolve(store, name)?);
            }
        }
        if let Some(id) = self.host_config.ipc_mode.strip_prefix("container:")
            && !matches!(start::config(store, &id.parse()?)?.host_config.ipc_mode.as_str(), "shareable" | "host")
        {
            return Err(Failure::new(format!("cannot join IPC of container {id}: non-shareable IPC"))
                .hint("make that container with --ipc shareable")
                .exit(exit::ENGINE)
                .into());
        }
        // Records hold a network's name, however it was given.
        for endpoint in &mut self.endpoints {
            let name = change::name(store, &endpoint.network)?;
            if self.host_config.network_mode == endpoint.network {
                self.host_config.network_mode.clone_from(&name);
            }
            endpoint.network = name;
        }
        let publishes = !self.host_config.port_bindings.is_empty() || self.host_config.publish_all_ports;
        if publishes {
            warn_unreached(store, &self.endpoints)?;
        }
        for link in self.endpoints.iter().flat_map(|endpoint| &endpoint.links).chain(&self.host_config.links) {
            let (name, _) = link.split_once(':').unwrap_or((link, ""));
            names::resolve(store, name)
                .map_err(|e| Failure::new(format!("could not get container for {name}")).source(e))
                .context("--link")?;
        }
        Ok(())
    }
}

impl Request {
    /// The ids of the container whose namespaces this one is to be in, since their user namespace is
    /// then the same; `None`: it is in those of none.
    ///
    /// # Errors
    /// They are those of two containers.
    pub fn shared_ids(&self, store: &Store) -> Result<Option<SharedIds>> {
        let host = &self.host_config;
        let mut found: Option<SharedIds> = None;
        for mode in [&host.network_mode, &host.pid_mode, &host.ipc_mode] {
            let Some(id) = mode.strip_prefix("container:") else { continue };
            let ids = SharedIds(start::config(store, &id.parse()?)?.host_config.ids);
            if found.as_ref().is_some_and(|other| *other != ids) {
                return bad("conflicting options: containers to be joined that have different user namespaces");
            }
            found = Some(ids);
        }
        Ok(found)
    }
}

/// What [`Request::shared_ids`] found: another container's `HostConfig.ids`.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedIds(pub Option<Ids>);

/// `NAME:ADDRESS` or `NAME=ADDRESS`, an IPv6 address in brackets or without; kept with a colon.
fn host(text: &str) -> Result<String, String> {
    let bad_format = || format!("bad format for add-host: {text:?}");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad_format)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(bad_format());
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A domain to search in; `.` for none at all.
fn domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    let name = text.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(text);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if text == "." || (name.len() <= 255 && name.split('.').all(is_label)) {
        return Ok(text.to_owned());
    }
    Err(format!("{text} is not a valid domain"))
}

/// `80`, `80/udp`, `8000-8010`: each port with its protocol.
fn ports(text: &str) -> Result<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let wrong = |why: &str| bad(format!("invalid range format for --expose: {text}, error: {why}"));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        // Go's words for the first of them that is none.
        let faulty = if first.parse::<u16>().is_ok() { last } else { first };
        let is_number = !faulty.is_empty() && faulty.bytes().all(|b| b.is_ascii_digit());
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        return wrong(&format!("strconv.ParseUint: parsing {faulty:?}: {why}"));
    };
    if last < first {
        return wrong(&format!("invalid range specified for port: {range}"));
    }
    let Some(protocol) = Protocol::of(protocol) else {
        return wrong(&format!("invalid proto: {protocol}"));
    };
    Ok((first..=last).map(|port| format!("{port}/{}", protocol.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let cases = [
            ("a:1.2.3.4", Ok("a:1.2.3.4")),
            ("a=::1", Ok("a:::1")),
            ("a:[::1]", Ok("a:::1")),
            ("a:::1", Ok("a:::1")),
            ("a:bar", Err("invalid IP address in add-host: \"bar\"")),
            ("foo", Err("bad format for add-host: \"foo\"")),
        ];
        for (text, expected) in cases {
            assert_eq!(host(text).as_deref().map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn exposed_ports() {
        assert_eq!(ports("80-82/udp").unwrap(), ["80/udp", "81/udp", "82/udp"]);
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert!(ports("a").unwrap_err().to_string().starts_with("invalid range format for --expose: a, error"));
        assert!(ports("2-1").is_err() && ports("1/foo").is_err());
    }

    #[test]
    fn name_servers() {
        assert_eq!(address("1.1.1.1"), Ok("1.1.1.1".into()));
        assert_eq!(address("foo"), Err("IP address is not correctly formatted: foo".into()));
        assert_eq!(domain("."), Ok(".".into()));
        assert!(domain("a b").is_err() && domain("x..y").is_err());
    }
}
