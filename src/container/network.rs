//! Which networks a container is to be on and which of its ports are published: first what it was
//! made with, then what `network connect`, `network disconnect` and `update` made of it.

pub mod change;

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::container::config::{ContainerConfig, Endpoint, PortBinding, PortBindings};
use crate::container::{start, state};
use crate::monitor;
use crate::monitor::protocol::{self, Message, PACKET, VERSION};
use crate::network::listen::Wanted;
use crate::network::{Protocol, Published, member, ports};
use crate::store::record::{self, Durability, Record};
use crate::store::{Id, Store};

/// `containers/<id>/network.json`: what is wanted since it was changed. Written under the
/// container's lock; where it is missing, `config.json` says it ([`wish`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub mode: Mode,
    /// The networks in the order they were asked for; the first with the highest priority leads
    /// outside. Empty with another mode than [`Mode::Networks`], or when it was disconnected from all.
    pub endpoints: Vec<Endpoint>,
    pub port_bindings: PortBindings,
    pub publish_all_ports: bool,
    /// `--link CONTAINER:ALIAS`, on the default network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

impl Record for Wish {
    const VERSION: u32 = 1;
}

/// Where a container's network namespace comes from, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One of its own, connected to networks of ctr's.
    Networks,
    /// One of its own with loopback alone.
    None,
    /// The host's.
    Host,
    /// Another container's, by its id.
    Container(String),
    /// One that is there already: a file as `/run/netns/x` or `/proc/PID/ns/net`.
    Namespace(PathBuf),
    /// One of its own that the program `pasta` connects, with these options of it (`pasta:OPTIONS`).
    Pasta(String),
}

impl Mode {
    /// Of `HostConfig.NetworkMode`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "none" => Self::None,
            "host" => Self::Host,
            "pasta" => Self::Pasta(String::new()),
            _ => match text.split_once(':') {
                Some(("container", id)) => Self::Container(id.to_owned()),
                Some(("ns", path)) => Self::Namespace(path.into()),
                Some(("pasta", options)) => Self::Pasta(options.to_owned()),
                _ => Self::Networks,
            },
        }
    }

    /// Whether the namespace is somebody else's: nothing in it is the container's to change.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Host | Self::Container(_) | Self::Namespace(_))
    }
}

impl Wish {
    /// What the container was made with.
    #[must_use]
    pub fn of(config: &ContainerConfig) -> Self {
        let host = &config.host_config;
        let mode = Mode::of(&host.network_mode);
        let mut endpoints = config.endpoints.clone();
        if mode == Mode::Networks && endpoints.is_empty() {
            endpoints.push(Endpoint::on(match host.network_mode.as_str() {
                "" | "default" => "bridge",
                name => name,
            }));
        }
        Self {
            mode,
            endpoints,
            port_bindings: host.port_bindings.clone(),
            publish_all_ports: host.publish_all_ports,
            links: host.links.clone(),
        }
    }

    /// Takes the links of this alias away; whether there were any.
    pub fn unlink(&mut self, alias: &str) -> bool {
        let all = self.endpoints.iter_mut().map(|endpoint| &mut endpoint.links).chain([&mut self.links]);
        all.fold(false, |was, links| {
            let before = links.len();
            links.retain(|link| alias_of(link) != alias);
            was || links.len() != before
        })
    }

    /// What `ps` shows in NETWORKS for a container that does not run.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match &self.mode {
            Mode::Networks => self.endpoints.iter().map(|endpoint| endpoint.network.clone()).collect(),
            Mode::None => vec!["none".into()],
            Mode::Host => vec!["host".into()],
            Mode::Container(_) | Mode::Namespace(_) | Mode::Pasta(_) => Vec::new(),
        }
    }
}

/// Of a link as it is kept, `CONTAINER:ALIAS`.
#[must_use]
pub fn alias_of(link: &str) -> &str {
    link.split_once(':').map_or(link, |(_, alias)| alias)
}

/// The ports that are to be bound on the host, in the order of the container's: those of `bindings`,
/// and with `publish_all` each of `exposed` (`80/tcp` and so on) that has none.
///
/// # Errors
/// A record that names a port or an address which is none.
pub fn listeners<'a>(
    bindings: &PortBindings,
    publish_all: bool,
    exposed: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<Wanted>> {
    let any = [PortBinding::default()];
    let all = exposed.into_iter().filter(|port| publish_all && !bindings.contains_key(*port));
    let all = all.map(|port| (port, &any[..])).chain(bindings.iter().map(|(port, bindings)| (port, &bindings[..])));
    let mut wanted = Vec::new();
    for (port, bindings) in all {
        let wrong = || format!("{port:?} is not a port and its protocol");
        let (container_port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let container_port = container_port.parse().with_context(wrong)?;
        let protocol = Protocol::of(protocol).with_context(wrong)?;
        for PortBinding { host_ip, host_port } in bindings {
            let wrong = || format!("{host_ip:?} and {host_port:?} are not an address and a port");
            let host =
                Some(host_ip).filter(|ip| !ip.is_empty()).map(|ip| ip.parse()).transpose().with_context(wrong)?;
            let (first, last) = host_port.split_once('-').unwrap_or((host_port, host_port));
            let port = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u16>() };
            let ports = port(first).with_context(wrong)?..=port(last).with_context(wrong)?;
            wanted.push(Wanted { host, ports, container_port, protocol });
        }
    }
    wanted.sort_by_key(|wanted| (wanted.container_port, wanted.protocol));
    Ok(wanted)
}

/// What is wanted now.
///
/// # Errors
/// The record cannot be read.
pub fn wish(store: &Store, config: &ContainerConfig) -> Result<Wish> {
    Ok(record::read(&path(store, &config.id))?.unwrap_or_else(|| Wish::of(config)))
}

/// The ports that lead to a running container, in the order of the container's; each once, although
/// several networks may have it.
///
/// # Errors
/// A record cannot be read.
pub fn published(store: &Store, id: &Id) -> Result<Vec<Published>> {
    let mut all: Vec<Published> = Vec::new();
    for (_, member) in member::of_container(store, id)? {
        all.extend(member.published);
    }
    if all.is_empty() && state::is_alive(store, id) {
        let ports: Option<Ports> = record::read(&ports_path(store, id))?;
        all.extend(ports.into_iter().flat_map(|ports| ports.published));
    }
    all.sort_by_key(|p| (p.container_port, p.protocol, p.host, p.host_port));
    all.dedup();
    Ok(all)
}

/// `containers/<id>/ports.json`: what is published of a container that is a member of no network
/// ([`Mode::Pasta`]), good while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub published: Vec<Published>,
}

impl Record for Ports {
    const VERSION: u32 = 1;
}

/// # Errors
/// The record cannot be written.
pub fn write_ports(store: &Store, config: &ContainerConfig, ports: &Ports) -> Result<()> {
    record::write(&ports_path(store, &config.id), ports, Durability::Unsynced).context("write down published ports")
}

fn ports_path(store: &Store, id: &Id) -> PathBuf {
    store.container(id).join("ports.json")
}

/// The ports that a container which does not run is to have, as `ps` would show them.
///
/// # Errors
/// A record cannot be read.
pub fn shown_ports(store: &Store, id: &Id) -> Result<String> {
    let config = start::config(store, id)?;
    let wish = wish(store, &config)?;
    let exposed = &config.config.exposed_ports;
    let wanted = listeners(&wish.port_bindings, wish.publish_all_ports, exposed.keys())?;
    let published = |wanted: &Wanted| Published {
        host: wanted.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        host_port: *wanted.ports.start(),
        container_port: wanted.container_port,
        protocol: wanted.protocol,
    };
    let published: Vec<Published> = wanted.iter().map(published).collect();
    Ok(ports::shown(&published, exposed.keys().map(String::as_str)))
}

/// Changes what is wanted. The caller holds the container's lock.
///
/// # Errors
/// The record cannot be written.
pub fn set_wish(store: &Store, config: &ContainerConfig, wish: &Wish) -> Result<()> {
    let durability = if config.host_config.auto_remove { Durability::Unsynced } else { Durability::Synced };
    record::write(&path(store, &config.id), wish, durability).context("change the container's networks")
}

fn path(store: &Store, id: &Id) -> PathBuf {
    store.container(id).join("network.json")
}

/// A change of a running container's networks, as a command sends it to the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Connect(Endpoint),
    Disconnect {
        /// Name or id, resolved by the monitor.
        network: String,
        /// Although something of it cannot be taken down.
        force: bool,
    },
    Publish {
        add: PortBindings,
        /// A binding with neither address nor port stands for all of the container's port.
        remove: PortBindings,
    },
    /// Takes back `--link CONTAINER:ALIAS`.
    Unlink {
        alias: String,
    },
}

/// Has the monitor of a running container carry out a change. On success the change is in the
/// container's [`Wish`] too.
///
/// # Errors
/// The container does not run (any more), or the monitor's refusal.
pub fn live(store: &Store, id: &Id, request: &Request) -> Result<()> {
    let socket = monitor::dial(store, id)?;
    let request = serde_json::to_vec(request)?;
    let gone = |_| monitor::not_running(id);
    Message::Change { version: VERSION, request: &request }.send(socket.as_fd()).map_err(gone)?;
    let mut buffer = vec![0; PACKET];
    let word = protocol::receive(socket.as_fd(), &mut buffer, |message, _| match message {
        Message::Done => Ok(()),
        Message::Failed(failed) => Err(monitor::to_error(failed)),
        other => Err(anyhow::anyhow!("the monitor answered {other:?}")),
    })?;
    word.unwrap_or_else(|| Err(monitor::not_running(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_to_bind() {
        let binding = |ip: &str, port: &str| PortBinding { host_ip: ip.into(), host_port: port.into() };
        let bindings: PortBindings = [
            ("80/tcp".to_owned(), vec![binding("", "8080"), binding("::1", "")]),
            ("53/udp".to_owned(), vec![binding("", "8000-8010")]),
        ]
        .into();
        let exposed = ["80/tcp".to_owned(), "443/tcp".to_owned()];
        let shown = |all: bool| {
            let wanted = listeners(&bindings, all, &exposed).unwrap();
            wanted.iter().map(|w| format!("{:?} {:?} {}", w.host, w.ports, w.container_port)).collect::<Vec<_>>()
        };
        let mut expected = vec!["None 8000..=8010 53", "None 8080..=8080 80", "Some(::1) 0..=0 80"];
        assert_eq!(shown(false), expected);
        expected.push("None 0..=0 443");
        assert_eq!(shown(true), expected);
        assert!(listeners(&[("x/tcp".to_owned(), vec![])].into(), false, []).is_err());
    }

    #[test]
    fn modes() {
        for (text, mode) in [
            ("", Mode::Networks),
            ("bridge", Mode::Networks),
            ("frontend", Mode::Networks),
            ("none", Mode::None),
            ("container:abc", Mode::Container("abc".into())),
            ("pasta", Mode::Pasta(String::new())),
            ("pasta:--mtu,1500", Mode::Pasta("--mtu,1500".into())),
            ("ns:/run/netns/x", Mode::Namespace("/run/netns/x".into())),
        ] {
            assert_eq!(Mode::of(text), mode, "{text}");
        }
    }
}
