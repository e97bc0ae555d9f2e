//! `NetworkSettings`: what a container's memberships are now, or what they are to be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::container::config::{ContainerConfig, Endpoint};
use crate::container::inspect::shape;
use crate::container::list::Container;
use crate::container::network::{self, Mode, Wish};
use crate::container::state::Process;
use crate::network::mac::Mac;
use crate::network::member::{self, Member};
use crate::network::names as networks;
use crate::network::record::Network;
use crate::store::{Id, Store};

/// # Errors
/// A record cannot be read.
pub fn settings(
    store: &Store,
    container: &Container,
    config: &ContainerConfig,
    wish: &Wish,
    process: Option<&Process>,
) -> Result<Value> {
    let running = container.status().is_running();
    let members = if running { member::of_container(store, &container.id)? } else { Vec::new() };
    let mut shown = Map::new();
    for endpoint in &wish.endpoints {
        let id = networks::resolve(store, &endpoint.network).ok();
        let is_it = |(network, _): &&(Network, Member)| Some(&network.id) == id.as_ref();
        let joined = members.iter().find(is_it).map(|(network, member)| (network, member));
        let name = joined.map_or(endpoint.network.as_str(), |(network, _)| network.name.as_str());
        shown.insert(name.to_owned(), of_endpoint(container, endpoint, id.as_ref().map(Id::as_str), joined));
    }
    if matches!(wish.mode, Mode::Host | Mode::None) {
        let name = if wish.mode == Mode::Host { "host" } else { "none" };
        let id = networks::owner(store, name)?;
        shown.insert(name.into(), of_endpoint(container, &Endpoint::default(), id.as_ref().map(Id::as_str), None));
    }
    // Docker's older fields are the default network's.
    let default = members.iter().find(|(network, _)| network.is_default());
    let default = addresses(default.map(|(network, member)| (network, member)));
    let ports = if running { ports(store, container, config)? } else { Map::new() };
    let mut all = json!({
        "SandboxID": "",
        "SandboxKey": process.map_or(String::new(), |process| format!("/proc/{}/ns/net", process.pid)),
        "Ports": ports,
    });
    if let (Value::Object(all), Value::Object(default)) = (&mut all, default) {
        all.extend(default);
        all.insert("Networks".into(), shown.into());
    }
    Ok(shape::shape(all, shape::NETWORK_SETTINGS))
}

/// Published ports with where they are; `null` for those that are only exposed.
fn ports(store: &Store, container: &Container, config: &ContainerConfig) -> Result<Map<String, Value>> {
    let mut ports: Map<String, Value> =
        config.config.exposed_ports.keys().map(|port| (port.clone(), Value::Null)).collect();
    for published in network::published(store, &container.id)? {
        let port = format!("{}/{}", published.container_port, published.protocol.as_str());
        let host_port = if published.is_routed() { String::new() } else { published.host_port.to_string() };
        let place = json!({ "HostIp": published.host.to_string(), "HostPort": host_port });
        match ports.entry(port).or_insert(Value::Null) {
            Value::Array(places) => places.push(place),
            none => *none = json!([place]),
        }
    }
    Ok(ports)
}

fn of_endpoint(
    container: &Container,
    wanted: &Endpoint,
    network: Option<&str>,
    joined: Option<(&Network, &Member)>,
) -> Value {
    let or_null = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let mut names: Vec<&str> = Vec::new();
    if let Some((_, member)) = joined.filter(|(network, _)| !network.is_default()) {
        // By which it is found there: its name, its aliases, its short id.
        let all = [&*member.name].into_iter().chain(member.aliases.iter().map(String::as_str));
        let mut seen = BTreeSet::new();
        names.extend(all.chain([container.id.short()]).filter(|name| seen.insert(*name)));
    }
    let mut ipam = Map::new();
    for (name, address) in
        [("IPv4Address", wanted.ipv4_address.map(IpAddr::V4)), ("IPv6Address", wanted.ipv6_address.map(IpAddr::V6))]
    {
        ipam.extend(address.map(|address| (name.to_owned(), json!(address))));
    }
    if !wanted.link_local_ips.is_empty() {
        ipam.insert("LinkLocalIPs".into(), json!(wanted.link_local_ips));
    }
    let mut shown = json!({
        "IPAMConfig": if ipam.is_empty() { Value::Null } else { ipam.into() },
        "Links": or_null(&wanted.links),
        "Aliases": or_null(&wanted.aliases),
        "DriverOpts": if wanted.driver_opts.is_empty() { Value::Null } else { json!(wanted.driver_opts) },
        "GwPriority": wanted.gw_priority,
        "NetworkID": network.unwrap_or_default(),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, addresses(joined)) {
        shown.extend(more);
        if joined.is_none()
            && let Some(mac) = wanted.mac_address
        {
            shown.insert("MacAddress".into(), json!(mac));
        }
        shown.insert("DNSNames".into(), if names.is_empty() { Value::Null } else { json!(names) });
        // Not Docker's.
        let interface = joined.map(|(_, member)| &*member.interface).or(wanted.interface_name.as_deref());
        shown.insert("InterfaceName".into(), json!(interface.unwrap_or_default()));
        shown.insert("Rate".into(), if wanted.rate.is_none() { Value::Null } else { json!(wanted.rate) });
    }
    shape::shape(shown, shape::ENDPOINT)
}

/// Docker's fields of an endpoint, empty where there is none.
fn addresses(joined: Option<(&Network, &Member)>) -> Value {
    let subnet = |ipv6| joined.and_then(|(network, _)| network.subnet(ipv6));
    let gateway = |ipv6| {
        let subnet = subnet(ipv6).filter(|_| joined.is_some_and(|(network, _)| !network.internal));
        subnet.and_then(|subnet| subnet.gateway).map_or(String::new(), |gateway| gateway.to_string())
    };
    let length = |ipv6, has: bool| subnet(ipv6).filter(|_| has).map_or(0, |subnet| subnet.subnet.prefix_len());
    let member = joined.map(|(_, member)| member);
    let ipv4 = member.and_then(|member| member.ipv4);
    let ipv6 = member.and_then(|member| member.ipv6);
    json!({
        "EndpointID": member.map_or("", |member| member.endpoint.as_str()),
        "Gateway": gateway(false),
        "GlobalIPv6Address": ipv6.map_or(String::new(), |address| address.to_string()),
        "GlobalIPv6PrefixLen": length(true, ipv6.is_some()),
        "IPAddress": ipv4.map_or(String::new(), |address| address.to_string()),
        "IPPrefixLen": length(false, ipv4.is_some()),
        "IPv6Gateway": gateway(true),
        "MacAddress": member.map_or(String::new(), |member| Mac(member.mac).to_string()),
    })
}
