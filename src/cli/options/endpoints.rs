//! `--network`, once or several times, and the flags that speak of the first of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{bad, csv, rate};
use crate::container::config::Endpoint;
use crate::container::network::Mode;
use crate::network::mac::Mac;
use crate::network::{Rate, settings, sysctl};

/// The name that an interface is given, as Docker has it.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// `NAME`, `name=NAME,ip=…`, `NAME,ip=…` or Podman's `NAME:ip=…`.
///
/// # Errors
/// Docker's sentences.
pub fn network(text: &str) -> Result<Endpoint, String> {
    let (name, options) = if matches!(Mode::of(text), Mode::Networks) {
        match text.split_once(':') {
            // Not the colon of an address.
            Some((name, options)) if !name.contains(['=', ',']) => (Some(name), options),
            _ if text.contains(['=', ',']) => (None, text),
            _ => (Some(text), ""),
        }
    } else {
        (Some(text), "")
    };
    let mut endpoint = Endpoint::on(name.unwrap_or_default());
    let fields = if options.is_empty() { Vec::new() } else { csv::fields(options)? };
    for (n, field) in fields.iter().enumerate() {
        match field.split_once('=') {
            Some((key, value)) if !key.is_empty() => option(&mut endpoint, key.trim(), value.trim())?,
            None if n == 0 && name.is_none() => field.trim().clone_into(&mut endpoint.network),
            _ => return Err(format!("invalid field {field}")),
        }
    }
    // Without anything at all it is refused later, in other words: `networks`.
    if endpoint.network.is_empty() && !text.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(endpoint)
}

fn option(endpoint: &mut Endpoint, key: &str, value: &str) -> Result<(), String> {
    match key.to_ascii_lowercase().as_str() {
        "name" => value.clone_into(&mut endpoint.network),
        "alias" => endpoint.aliases.push(alias(value)?),
        "ip" => endpoint.ipv4_address = Some(ipv4(value)?),
        "ip6" => endpoint.ipv6_address = Some(ipv6(value)?),
        "mac-address" | "mac" => endpoint.mac_address = Some(mac(value)?),
        "link-local-ip" => endpoint.link_local_ips.push(link_local(value)?),
        "interface_name" | "interface-name" => endpoint.interface_name = Some(interface(value)?),
        "driver-opt" => driver_option(endpoint, value)?,
        "gw-priority" => {
            let priority = value.parse();
            endpoint.gw_priority =
                priority.map_err(|_| format!("invalid gw-priority ({value}): value must be an integer"))?;
        }
        "rate" => endpoint.rate = rate::rate(value)?,
        "rate-in" => endpoint.rate.ingress = rate::rate(value)?.ingress,
        "rate-out" => endpoint.rate.egress = rate::rate(value)?.egress,
        _ => return Err(format!("invalid field key {key}")),
    }
    Ok(())
}

/// `--driver-opt NAME=value` of an endpoint.
///
/// # Errors
/// No such option, or a value that it cannot have.
pub fn driver_option(endpoint: &mut Endpoint, text: &str) -> Result<(), String> {
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err("invalid key value pair format in driver options".into());
    };
    match name {
        INTERFACE => endpoint.interface_name = Some(interface(value)?),
        settings::SYSCTLS => {
            sysctl::of_interface(value, "IFNAME")?;
        }
        _ => return Err(format!("unsupported driver option {name:?}")),
    }
    endpoint.driver_opts.insert(name.to_owned(), value.to_owned());
    Ok(())
}

/// What another container can ask for: a DNS name, of which Docker checks nothing.
pub fn alias(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("invalid network alias: {text:?}"));
    }
    Ok(text.to_owned())
}

pub fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv4 address: {text}"))
}

pub fn ipv6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv6 address: {text}"))
}

pub fn mac(text: &str) -> Result<Mac, String> {
    text.parse().map_err(|e: crate::network::mac::NotAMac| e.to_string())
}

pub fn link_local(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// `CONTAINER[:ALIAS]`, with the alias that it has when none is given.
pub fn link(text: &str) -> Result<String, String> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let name = name.trim_start_matches('/');
    let alias = alias.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(format!("{name}:{alias}"))
}

fn interface(text: &str) -> Result<String, String> {
    if settings::is_interface_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("invalid interface name: {text:?}"))
    }
}

/// What the flags say of the container as a whole, and so of the first network.
#[derive(Debug, Default)]
pub struct First {
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    pub mac: Option<Mac>,
    pub aliases: Vec<String>,
    pub link_local_ips: Vec<IpAddr>,
    pub links: Vec<String>,
    /// Of all networks that have none of their own.
    pub rate: Rate,
}

/// What all came to: `NetworkMode`, the endpoints, and the links of the default network.
pub struct Networks {
    pub mode: String,
    pub endpoints: Vec<Endpoint>,
    pub links: Vec<String>,
}

/// Lays what the flags say under the first network, and checks that all can be had together.
///
/// # Errors
/// Docker's sentences.
pub fn networks(mut given: Vec<Endpoint>, first: First) -> Result<Networks> {
    if given.iter().any(|endpoint| endpoint.network.is_empty()) {
        return bad("no name set for network");
    }
    for endpoint in &mut given {
        if endpoint.network == "default" {
            "bridge".clone_into(&mut endpoint.network);
        }
    }
    if given.is_empty() {
        given.push(Endpoint::on("bridge"));
    }
    for (n, endpoint) in given.iter().enumerate() {
        if given[..n].iter().any(|other| other.network == endpoint.network) {
            return bad(format!("network {:?} is specified multiple times", endpoint.network));
        }
    }
    let mode = given[0].network.clone();
    let has_network = |endpoint: &Endpoint| Mode::of(&endpoint.network) == Mode::Networks;
    if !given.iter().all(has_network) {
        if given.len() > 1 {
            return bad("conflicting options: cannot attach both user-defined and non-user-defined network-modes");
        }
        without_network(&given[0], &first)?;
        return Ok(Networks { mode, endpoints: Vec::new(), links: Vec::new() });
    }
    let rate = first.rate;
    let links = lay_under(&mut given[0], first)?;
    for endpoint in &mut given {
        if endpoint.rate.is_none() {
            endpoint.rate = rate;
        }
        if endpoint.network == "bridge" {
            on_default(endpoint)?;
        }
    }
    for (n, endpoint) in given.iter().enumerate() {
        let is_alike = |other: &Endpoint| other.interface_name == endpoint.interface_name;
        if let Some(name) = &endpoint.interface_name
            && given[..n].iter().any(is_alike)
        {
            return bad(format!("interface name {name:?} is used for two networks"));
        }
    }
    Ok(Networks { mode, endpoints: given, links })
}

/// What cannot be had on the default network.
///
/// # Errors
/// Docker's sentences.
pub fn on_default(endpoint: &Endpoint) -> Result<()> {
    if endpoint.ipv4_address.is_some() || endpoint.ipv6_address.is_some() {
        return bad("user specified IP address is supported on user defined networks only");
    }
    if !endpoint.aliases.is_empty() {
        return bad("network-scoped alias is supported only for containers in user defined networks");
    }
    Ok(())
}

/// Gives the first network what the flags say of it, and returns the links of the default one.
fn lay_under(endpoint: &mut Endpoint, first: First) -> Result<Vec<String>> {
    let conflicts = [
        (!endpoint.aliases.is_empty() && !first.aliases.is_empty(), "--network-alias", "alias"),
        (endpoint.ipv4_address.is_some() && first.ip.is_some(), "--ip", "IPv4 address"),
        (endpoint.ipv6_address.is_some() && first.ip6.is_some(), "--ip6", "IPv6 address"),
        (endpoint.mac_address.is_some() && first.mac.is_some(), "--mac-address", "MAC address"),
        (
            !endpoint.link_local_ips.is_empty() && !first.link_local_ips.is_empty(),
            "--link-local-ip",
            "link-local IP addresses",
        ),
    ];
    if let Some((_, flag, what)) = conflicts.into_iter().find(|(both, ..)| *both) {
        return bad(format!("conflicting options: cannot specify both {flag} and per-network {what}"));
    }
    endpoint.aliases.extend(first.aliases);
    endpoint.link_local_ips.extend(first.link_local_ips);
    endpoint.ipv4_address = endpoint.ipv4_address.or(first.ip);
    endpoint.ipv6_address = endpoint.ipv6_address.or(first.ip6);
    endpoint.mac_address = endpoint.mac_address.or(first.mac);
    if endpoint.network == "bridge" {
        return Ok(first.links);
    }
    endpoint.links.extend(first.links);
    Ok(Vec::new())
}

/// A container that is on no network of ctr's: nothing can be asked of one.
fn without_network(endpoint: &Endpoint, first: &First) -> Result<()> {
    let name = &endpoint.network;
    match Mode::of(name) {
        Mode::Container(id) if id.is_empty() => {
            return bad("invalid container format container:<name|id>");
        }
        Mode::Namespace(path) if !path.is_absolute() => {
            return bad(format!("--network {name}: the path of a network namespace begins with a slash"));
        }
        _ => {}
    }
    if !first.links.is_empty() {
        let kind = if name == "host" { "host type networking" } else { "container type network" };
        return bad(format!(
            "conflicting options: {kind} can't be used with links. This would result in undefined behavior"
        ));
    }
    if first.mac.is_some() {
        return bad("conflicting options: mac-address and the network mode");
    }
    if first.ip.is_some() || first.ip6.is_some() {
        return bad("user specified IP address is supported on user defined networks only");
    }
    if !first.aliases.is_empty() {
        return bad("network-scoped alias is supported only for containers in user defined networks");
    }
    if !first.rate.is_none() {
        return bad("conflicting options: rate and the network mode");
    }
    if !first.link_local_ips.is_empty() || *endpoint != Endpoint::on(name) {
        return bad(format!("conflicting options: options of a network and the network mode {name:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_in_all_forms() {
        let full = Endpoint {
            aliases: vec!["db".into(), "sql".into()],
            ipv4_address: Some(Ipv4Addr::new(10, 1, 1, 5)),
            ipv6_address: Some("fd00::5".parse().unwrap()),
            mac_address: Some("02:00:00:00:00:07".parse().unwrap()),
            gw_priority: -3,
            interface_name: Some("lan0".into()),
            rate: Rate { ingress: Some(1_000_000), egress: None },
            ..Endpoint::on("net")
        };
        let options = "alias=db,alias=sql,ip=10.1.1.5,ip6=fd00::5,mac=02:00:00:00:00:07,gw-priority=-3,\
                       interface_name=lan0,rate-in=1mbit";
        for text in [format!("name=net,{options}"), format!("net,{options}"), format!("net:{options}")] {
            assert_eq!(network(&text).as_ref(), Ok(&full), "{text}");
        }
        for text in ["net", "host", "container:web", "ns:/run/netns/a,b=c", "pasta", "pasta:--mtu,1500"] {
            assert_eq!(network(text), Ok(Endpoint::on(text)));
        }
        let options = network("\"driver-opt=com.docker.network.endpoint.ifname=wan\",name=n").unwrap();
        assert_eq!(options.interface_name.as_deref(), Some("wan"));
        let settings = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0";
        let options = network(&format!("\"driver-opt={}={settings}\",name=n", settings::SYSCTLS)).unwrap();
        assert_eq!(options.driver_opts[settings::SYSCTLS], settings);
        for (text, expected) in [
            ("ip=1.2.3.4", "network name/id is not specified"),
            ("name=a,foo=b", "invalid field key foo"),
            ("name=a,b", "invalid field b"),
            ("name=a,ip=b", "invalid IPv4 address: b"),
            ("name=a,mac=b", "b is not a valid mac address"),
            ("name=a,gw-priority=x", "invalid gw-priority (x): value must be an integer"),
            ("name=a,driver-opt=x", "invalid key value pair format in driver options"),
            ("name=a,driver-opt=x=y", "unsupported driver option \"x\""),
        ] {
            assert_eq!(network(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn links() {
        assert_eq!(link("db"), Ok("db:db".into()));
        assert_eq!(link("/db:/web/sql"), Ok("db:sql".into()));
        assert_eq!(link(":x"), Err("bad format for links: :x".into()));
    }

    fn of(texts: &[&str], first: First) -> Result<Networks, String> {
        networks(texts.iter().map(|text| network(text).unwrap()).collect(), first).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_are_the_first_networks() {
        let first = First {
            ip: Some(Ipv4Addr::new(10, 1, 1, 5)),
            links: vec!["db:db".into()],
            rate: Rate { ingress: Some(5), egress: None },
            ..First::default()
        };
        let Networks { mode, endpoints, links } = of(&["a", "bridge,rate=1mbit"], first).unwrap();
        assert_eq!((mode.as_str(), links.len()), ("a", 0));
        assert_eq!((endpoints[0].ipv4_address.is_some(), endpoints[0].links.len()), (true, 1));
        assert_eq!((endpoints[0].rate.ingress, endpoints[1].rate.ingress), (Some(5), Some(1_000_000)));
        let default = of(&[], First { links: vec!["db:db".into()], ..First::default() }).unwrap();
        assert_eq!((default.mode.as_str(), default.links, default.endpoints), {
            ("bridge", vec!["db:db".to_owned()], vec![Endpoint::on("bridge")])
        });
        assert_eq!(of(&["host"], First::default()).unwrap().endpoints, []);
    }

    #[test]
    fn conflicts_in_dockers_words() {
        let ip = || First { ip: Some(Ipv4Addr::new(10, 1, 1, 5)), ..First::default() };
        let link = || First { links: vec!["db:db".into()], ..First::default() };
        let alias = || First { aliases: vec!["x".into()], ..First::default() };
        let mac = || First { mac: Some("02:00:00:00:00:07".parse().unwrap()), ..First::default() };
        let cases: [(&[&str], First, &str); 12] = [
            (&["a", "a"], ip(), "network \"a\" is specified multiple times"),
            (&["host", "a"], ip(), {
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            }),
            (&["a,ip=10.1.1.6"], ip(), "conflicting options: cannot specify both --ip and per-network IPv4 address"),
            (&["a,alias=y"], alias(), "conflicting options: cannot specify both --network-alias and per-network alias"),
            (&[], ip(), "user specified IP address is supported on user defined networks only"),
            (&["none"], ip(), "user specified IP address is supported on user defined networks only"),
            (&["bridge"], alias(), {
                "network-scoped alias is supported only for containers in user defined networks"
            }),
            (&["host"], link(), {
                "conflicting options: host type networking can't be used with links. This would result in undefined \
                 behavior"
            }),
            (&["container:x"], mac(), "conflicting options: mac-address and the network mode"),
            (&["container:"], First::default(), "invalid container format container:<name|id>"),
            (&["ns:x"], First::default(), { "--network ns:x: the path of a network namespace begins with a slash" }),
            (&["a,interface_name=x", "b,interface_name=x"], First::default(), {
                "interface name \"x\" is used for two networks"
            }),
        ];
        for (texts, first, expected) in cases {
            assert_eq!(of(texts, first).err().as_deref(), Some(expected), "{texts:?}");
        }
    }
}
