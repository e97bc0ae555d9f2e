//! What is known of a network, in the shape of Docker's API ("Inspect a network", v1.48).

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::container::list;
use crate::network::mac::Mac;
use crate::network::member::{self, Member};
use crate::network::record::{Driver, Network, Subnet};
use crate::store::Store;

/// The network as `network inspect` shows it. `verbose`: with what Docker does not have of its
/// containers.
///
/// # Errors
/// A record cannot be read.
pub fn inspect(store: &Store, network: &Network, verbose: bool) -> Result<Value> {
    let mut containers = Map::new();
    for member in member::living(store, &network.id)? {
        containers.insert(member.container.to_string(), of_member(network, &member, verbose));
    }
    if matches!(network.driver, Driver::Host | Driver::Null) {
        // They have no members: nothing is given out there.
        for container in list::all(store, |_, _| {})? {
            let is_there = container.status().is_running() && container.state.networks == [&*network.name];
            if is_there {
                containers.insert(container.id.to_string(), empty(&container.state.name));
            }
        }
    }
    let mut options = network.options.clone();
    if network.is_default() {
        // Where scripts look for the bridge.
        options.insert("com.docker.network.bridge.name".into(), network.interface());
    }
    let config: Vec<Value> = network.subnets.iter().map(of_subnet).collect();
    Ok(json!({
        "Name": network.name,
        "Id": network.id.as_str(),
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": network.driver.as_str(),
        "EnableIPv4": network.has_ipv4(),
        "EnableIPv6": network.has_ipv6(),
        "IPAM": {
            "Driver": "default",
            "Options": if network.is_predefined() { Value::Null } else { json!(network.ipam_options) },
            "Config": if config.is_empty() { Value::Null } else { config.into() },
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": network.config_from },
        "ConfigOnly": network.configuration.is_some(),
        "Containers": containers,
        "Options": options,
        "Labels": network.labels,
    }))
}

fn of_subnet(subnet: &Subnet) -> Value {
    let mut shown = json!({
        "Subnet": subnet.subnet.to_string(),
        "IPRange": subnet.range.map_or(String::new(), |range| range.to_string()),
        "Gateway": subnet.gateway.map_or(String::new(), |gateway| gateway.to_string()),
    });
    if let Value::Object(shown) = &mut shown
        && !subnet.auxiliary.is_empty()
    {
        shown.insert("AuxiliaryAddresses".into(), json!(subnet.auxiliary));
    }
    shown
}

fn of_member(network: &Network, member: &Member, verbose: bool) -> Value {
    let mut shown = json!({
        "Name": member.name,
        "EndpointID": member.endpoint.as_str(),
        "MacAddress": Mac(member.mac).to_string(),
        "IPv4Address": with_length(network, member.ipv4.map(IpAddr::V4)),
        "IPv6Address": with_length(network, member.ipv6.map(IpAddr::V6)),
    });
    if verbose
        && let (Value::Object(shown), Value::Object(more)) = (
            &mut shown,
            json!({
                "InterfaceName": member.interface,
                "HostInterfaceName": member.port,
                "Aliases": member.aliases,
                "Rate": member.rate,
            }),
        )
    {
        shown.extend(more);
    }
    shown
}

fn empty(name: &str) -> Value {
    json!({ "Name": name, "EndpointID": "", "MacAddress": "", "IPv4Address": "", "IPv6Address": "" })
}

/// `172.17.0.2/16`; empty without an address.
fn with_length(network: &Network, address: Option<IpAddr>) -> String {
    let Some(address) = address else { return String::new() };
    let subnet = network.subnet(address.is_ipv6()).map(|subnet| subnet.subnet.prefix_len());
    subnet
        .and_then(|length| IpNet::new(address, length).ok())
        .map_or_else(|| address.to_string(), |net| net.to_string())
}
