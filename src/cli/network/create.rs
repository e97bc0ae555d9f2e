//! `ctr network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Result, bail};
use ipnet::IpNet;

use crate::cli::complete::Kind;
use crate::cli::options::{self, lines, pending};
use crate::cli::{Globals, Run, output};
use crate::error::{Failure, exit};
use crate::network::record::{self, Driver, New, Subnet};
use crate::network::{pool, settings};

/// Make a network
///
/// Containers on a bridge network reach each other by address and by name, and the outside through the host.
/// Without --subnet an address range is chosen that is free on this machine.
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr network create [OPTIONS] NETWORK",
    after_help = "Examples:
  ctr network create front
  ctr network create --subnet 10.20.0.0/16 --ip-range 10.20.5.0/24 lan
  ctr network create --internal --ipv6 back
  ctr network create --config-only --subnet 10.30.0.0/16 plan
  ctr network create --config-from plan lan2
  ctr network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 home

Options of bridge networks, all beginning with com.docker.network:
  .bridge.name, .bridge.enable_icc, .bridge.enable_ip_masquerade,
  .bridge.host_binding_ipv4, .bridge.inhibit_ipv4, .driver.mtu,
  .container_iface_prefix; for root also .host_ipv4, .host_ipv6,
  .bridge.gateway_mode_ipv4, .bridge.gateway_mode_ipv6 (nat, routed,
  nat-unprotected), .bridge.trusted_host_interfaces

Options of macvlan networks: parent, macvlan_mode."
)]
pub struct Create {
    /// For swarm services, of which there are none: only noted
    #[arg(long)]
    attachable: bool,
    /// Addresses that no container gets (router=192.168.1.1)
    #[arg(long, value_name = "name=address")]
    aux_address: Vec<String>,
    /// Take address ranges, options and labels from a network made with --config-only
    #[arg(long, value_name = "network", default_value = "", hide_default_value = true)]
    config_from: String,
    /// Only what networks are made from with --config-from: nothing can be on it
    #[arg(long)]
    config_only: bool,
    /// bridge or macvlan
    #[arg(short, long, value_name = "driver", default_value = "bridge", add = Kind::Words(&["bridge", "macvlan"]))]
    driver: String,
    /// Address of the bridge, and the containers' way outside
    #[arg(long, value_name = "address", value_delimiter = ',')]
    gateway: Vec<String>,
    #[arg(long, hide = true)]
    ingress: bool,
    /// Neither out of it nor into it
    #[arg(long)]
    internal: bool,
    /// Where addresses are chosen from
    #[arg(long, value_name = "subnet", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Who chooses addresses: default
    #[arg(long, value_name = "driver", default_value = "default",
        add = Kind::Words(&["default"]), hide_default_value = true)]
    ipam_driver: String,
    /// Options for who chooses addresses: only noted
    #[arg(long, value_name = "name=value", value_parser = lines::label)]
    ipam_opt: Vec<String>,
    /// IPv4 addresses
    #[arg(long, action = clap::ArgAction::Set, value_name = "bool", default_value = "true", num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_parser = options::boolean, hide_default_value = true)]
    ipv4: bool,
    /// IPv6 addresses too
    #[arg(long)]
    ipv6: bool,
    /// Labels
    #[arg(long, value_name = "name[=value]", value_parser = lines::label)]
    label: Vec<String>,
    /// Options of the driver
    #[arg(short, long, value_name = "name=value", value_parser = lines::label)]
    opt: Vec<String>,
    #[arg(long, value_name = "scope", hide = true)]
    scope: Option<String>,
    /// Address ranges: one of each family
    #[arg(long, value_name = "subnet", value_delimiter = ',')]
    subnet: Vec<String>,
    #[arg(value_name = "NETWORK", add = Kind::Nothing)]
    name: String,
}

impl Run for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        let swarm = |flag: &str| {
            Failure::new(format!("{flag}: This node is not a swarm manager"))
                .hint("it is for the networks of a swarm, of which ctr has none: leave it away")
                .exit(exit::ENGINE)
        };
        if self.ingress {
            return Err(swarm("--ingress").into());
        }
        match self.scope.as_deref().unwrap_or_default() {
            "" | "local" => {}
            "swarm" | "global" => return Err(swarm(&format!("--scope {}", self.scope.unwrap_or_default())).into()),
            other => bail!("invalid network scope {other:?}: there is \"local\""),
        }
        if !matches!(self.ipam_driver.as_str(), "" | "default") {
            return pending::refused(&format!("--ipam-driver {}", self.ipam_driver));
        }
        let driver = match self.driver.as_str() {
            "bridge" | "" => Driver::Bridge,
            "macvlan" => Driver::Macvlan,
            "host" | "null" => bail!("only one instance of {:?} network is allowed", self.driver),
            "overlay" | "ipvlan" => return pending::refused(&format!("--driver {}", self.driver)),
            other => bail!("network driver {other:?} not found"),
        };
        let subnets = subnets(&self.subnet, &self.ip_range, &self.gateway, &self.aux_address)?;
        let has = |ipv6| subnets.iter().any(|subnet: &Subnet| subnet.subnet.network().is_ipv6() == ipv6);
        if !self.ipv4 && has(false) {
            bail!("conflicting options: an IPv4 subnet and --ipv4=false");
        }
        let ipv6 = self.ipv6 || has(true);
        if !self.ipv4 && !ipv6 {
            bail!("IPv4 or IPv6 must be enabled");
        }
        let map = |texts: &[String]| texts.iter().map(|text| lines::pair(text)).collect::<BTreeMap<_, _>>();
        let network = record::create(
            &globals.store()?,
            New {
                name: self.name,
                driver,
                internal: self.internal,
                ipv4: self.ipv4,
                ipv6,
                subnets,
                options: map(&self.opt),
                ipam_options: map(&self.ipam_opt),
                labels: map(&self.label),
                attachable: self.attachable,
                config_only: self.config_only,
                config_from: self.config_from,
            },
        )?;
        if network.configuration.is_none() {
            for sentence in settings::ignored(network.driver, &network.options) {
                output::say(&format!("WARNING: {sentence}"));
            }
        }
        output::print(&format!("{}\n", network.id));
        Ok(0)
    }
}

/// Puts what was given flag by flag together: each to the subnet that it lies in.
fn subnets(subnets: &[String], ranges: &[String], gateways: &[String], auxiliary: &[String]) -> Result<Vec<Subnet>> {
    let net = |text: &str| text.parse::<IpNet>().map_err(|_| Failure::new(format!("invalid CIDR address: {text}")));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        bail!("every ip-range or gateway must have a corresponding subnet");
    }
    let mut all: Vec<Subnet> = Vec::new();
    for text in subnets {
        let subnet = net(text)?;
        if all.iter().any(|other| pool::overlap(&other.subnet, &subnet)) {
            bail!("multiple overlapping subnet configuration is not supported");
        }
        all.push(Subnet::of(subnet));
    }
    for text in ranges {
        let range = net(text)?;
        let Some(subnet) = all.iter_mut().find(|subnet| subnet.subnet.contains(&range.network())) else {
            bail!("no matching subnet for range {text}");
        };
        if let Some(other) = subnet.range.replace(range) {
            bail!("cannot configure multiple ranges ({text}, {other}) on the same subnet ({})", subnet.subnet);
        }
    }
    for text in gateways {
        let gateway: IpAddr = text.parse().map_err(|_| Failure::new(format!("invalid gateway address: {text}")))?;
        let Some(subnet) = all.iter_mut().find(|subnet| subnet.subnet.contains(&gateway)) else {
            bail!("no matching subnet for gateway {text}");
        };
        if let Some(other) = subnet.gateway.replace(gateway) {
            bail!("cannot configure multiple gateways ({text}, {other}) for the same subnet ({})", subnet.subnet);
        }
    }
    for text in auxiliary {
        let (name, address) = lines::pair(text);
        let found: Option<IpAddr> = address.parse().ok();
        let subnet = found.and_then(|found| Some((all.iter_mut().find(|s| s.subnet.contains(&found))?, found)));
        let Some((subnet, found)) = subnet else {
            if address.is_empty() || name.is_empty() {
                bail!("invalid aux-address {text:?}: NAME=ADDRESS, as in router=192.168.1.1");
            }
            bail!("no matching subnet for aux-address {address}");
        };
        subnet.auxiliary.insert(name, found);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subnet: &[&str], range: &[&str], gateway: &[&str], aux: &[&str]) -> Result<Vec<Subnet>, String> {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        subnets(&own(subnet), &own(range), &own(gateway), &own(aux)).map_err(|e| e.to_string())
    }

    #[test]
    fn each_goes_to_its_subnet() {
        let all = of(&["fd00::/64", "10.1.0.0/16"], &["10.1.5.0/24"], &["10.1.0.9", "fd00::9"], &["a=10.1.0.3"]);
        let [six, four] = &all.unwrap()[..] else { panic!("two") };
        assert_eq!(six.gateway.unwrap().to_string(), "fd00::9");
        assert_eq!((four.range.unwrap().to_string(), four.gateway.unwrap().to_string()), {
            ("10.1.5.0/24".to_owned(), "10.1.0.9".to_owned())
        });
        assert_eq!(four.auxiliary["a"].to_string(), "10.1.0.3");
    }

    #[test]
    fn dockers_words() {
        let net: &[&str] = &["10.1.0.0/16"];
        let two: &[&str] = &["10.1.0.0/16", "10.2.0.0/16"];
        for (found, expected) in [
            (of(&["x"], &[], &[], &[]), "invalid CIDR address: x"),
            (of(&[], &["10.1.0.0/24"], &[], &[]), "every ip-range or gateway must have a corresponding subnet"),
            (of(&["10.1.0.0/16", "10.1.2.0/24"], &[], &[], &[]), {
                "multiple overlapping subnet configuration is not supported"
            }),
            (of(net, &["10.2.0.0/24"], &[], &[]), "no matching subnet for range 10.2.0.0/24"),
            (of(net, &[], &["10.2.0.1"], &[]), "no matching subnet for gateway 10.2.0.1"),
            (of(net, &[], &[], &["a=b"]), "no matching subnet for aux-address b"),
            (of(two, &[], &["10.1.0.1", "10.1.0.2"], &[]), {
                "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/16)"
            }),
        ] {
            assert_eq!(found.unwrap_err(), expected);
        }
    }
}
