//! What a network's `--opt` come to. [`check`] refuses those that ctr does not know when the
//! network is made; what was accepted then is read with a method each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

use crate::error::Failure;
use crate::network::record::{Driver, Network};

pub(super) const INTERFACE: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const MTU: &str = "com.docker.network.driver.mtu";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";

const OF_BRIDGES: [&str; 8] = [INTERFACE, ICC, MASQUERADE, HOST_BINDING, MODE_IPV4, MODE_IPV6, MTU, PREFIX];
const OF_MACVLANS: [&str; 4] = [PARENT, MACVLAN_MODE, MTU, PREFIX];

/// Ways to open a network to who routes to its containers' own addresses, which ctr has not.
const DOCKERS_MODES: [&str; 2] = ["routed", "nat-unprotected"];

/// The interface of the default network.
pub(super) const DEFAULT_INTERFACE: &str = "ctr0";

/// How a bridge's containers reach what is outside, and are reached from there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Their addresses are hidden behind the host's; published ports alone are reached.
    #[default]
    Nat,
    /// The host has no address on the bridge (`--internal` only).
    Isolated,
}

impl GatewayMode {
    fn of(text: &str) -> Option<Self> {
        match text {
            "nat" | "" => Some(Self::Nat),
            "isolated" => Some(Self::Isolated),
            _ => None,
        }
    }
}

impl Network {
    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is_on(&self, name: &str) -> bool {
        self.option(name).and_then(boolean).unwrap_or(true)
    }

    /// Whether it is the one that containers are on which ask for none.
    pub fn is_default(&self) -> bool {
        self.driver == Driver::Bridge && self.name == "bridge"
    }

    /// The bridge's interface in the [`Space`](super::space::Space).
    pub fn interface(&self) -> String {
        match self.option(INTERFACE) {
            Some(name) => name.to_owned(),
            None => format!("br-{}", self.id.short()),
        }
    }

    /// `None`: the uplink's or the kernel's.
    pub fn mtu(&self) -> Option<u32> {
        self.option(MTU)?.parse().ok()
    }

    /// Whether its containers reach each other.
    pub fn icc(&self) -> bool {
        self.is_on(ICC)
    }

    /// Whether containers' addresses are hidden behind the host's.
    pub fn masquerade(&self) -> bool {
        self.is_on(MASQUERADE)
    }

    /// The address that ports are published on when `-p` names none; `None`: all, of both families.
    pub fn host_binding(&self) -> Option<IpAddr> {
        self.option(HOST_BINDING)?.parse().ok().filter(|address: &IpAddr| !address.is_unspecified())
    }

    pub fn gateway_mode_ipv4(&self) -> GatewayMode {
        self.option(MODE_IPV4).and_then(GatewayMode::of).unwrap_or_default()
    }

    pub fn gateway_mode_ipv6(&self) -> GatewayMode {
        self.option(MODE_IPV6).and_then(GatewayMode::of).unwrap_or_default()
    }

    /// What containers' interfaces on it are called, before their number.
    pub fn interface_prefix(&self) -> &str {
        self.option(PREFIX).unwrap_or("eth")
    }

    /// A macvlan's interface on the host.
    pub fn parent(&self) -> Option<&str> {
        self.option(PARENT)
    }

    /// `bridge`, `private`, `vepa` or `passthru`.
    pub fn macvlan_mode(&self) -> &str {
        self.option(MACVLAN_MODE).unwrap_or("bridge")
    }
}

/// Whether these options can be a network's.
///
/// # Errors
/// One that this driver has not, or with a value that it cannot have.
pub fn check(driver: Driver, internal: bool, options: &BTreeMap<String, String>) -> Result<()> {
    let known: &[&str] = if driver == Driver::Macvlan { &OF_MACVLANS } else { &OF_BRIDGES };
    for (name, value) in options {
        let Some(name) = known.iter().find(|known| *known == name) else {
            return Err(Failure::new(format!("unsupported option {name:?} for a {} network", driver.as_str()))
                .hint(format!("there are {}", known.join(", ")))
                .into());
        };
        let isolated = *value == "isolated" && !internal;
        if matches!(*name, MODE_IPV4 | MODE_IPV6) && DOCKERS_MODES.contains(&value.as_str()) {
            return Err(Failure::new(format!("the gateway mode {value:?} is not supported"))
                .hint("there are \"nat\", and for --internal networks \"isolated\"; publish what is to be reached with -p")
                .into());
        }
        let fits = match *name {
            ICC | MASQUERADE => boolean(value).is_some(),
            MTU => value.parse::<u32>().is_ok_and(|mtu| (68..=65_535).contains(&mtu)),
            HOST_BINDING => value.parse::<std::net::Ipv4Addr>().is_ok(),
            MODE_IPV4 | MODE_IPV6 => GatewayMode::of(value).is_some() && !isolated,
            MACVLAN_MODE => matches!(value.as_str(), "bridge" | "private" | "vepa" | "passthru"),
            // Room for a number of three digits.
            PREFIX => is_interface_name(value) && value.len() <= 12,
            _ => is_interface_name(value),
        };
        if !fits {
            let hint = match *name {
                MODE_IPV4 | MODE_IPV6 if isolated => "\"isolated\" is for --internal networks",
                ICC | MASQUERADE => "true or false",
                MTU => "bytes, from 68 to 65535",
                HOST_BINDING => "an IPv4 address of this machine",
                MODE_IPV4 | MODE_IPV6 => "nat, nat-unprotected, routed, or isolated for --internal networks",
                MACVLAN_MODE => "bridge, private, vepa or passthru",
                PREFIX => "at most 12 letters, to which a number is added",
                _ => "the name of an interface has at most 15 letters",
            };
            return Err(Failure::new(format!("invalid value for {name}: {value:?}")).hint(hint).into());
        }
    }
    Ok(())
}

/// What the kernel takes: `dev_valid_name`, and without what its own `%d` would make of it.
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | ".." | "lo")
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%'))
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(driver: Driver, internal: bool, name: &str, value: &str) -> Result<(), String> {
        check(driver, internal, &[(name.to_owned(), value.to_owned())].into()).map_err(|e| e.to_string())
    }

    #[test]
    fn options_are_checked() {
        for (name, value) in [(INTERFACE, "br0"), (ICC, "false"), (MTU, "1400"), (MODE_IPV6, "nat")] {
            checked(Driver::Bridge, false, name, value).unwrap();
        }
        for (name, value) in
            [(INTERFACE, "a/b"), (INTERFACE, "sixteen-letters-"), (ICC, "maybe"), (MTU, "3"), (MODE_IPV4, "isolated")]
        {
            let expected = format!("invalid value for {name}: {value:?}");
            assert_eq!(checked(Driver::Bridge, false, name, value), Err(expected));
        }
        checked(Driver::Bridge, true, MODE_IPV4, "isolated").unwrap();
        let absent = checked(Driver::Bridge, false, MODE_IPV4, "routed").unwrap_err();
        assert_eq!(absent, "the gateway mode \"routed\" is not supported");
        checked(Driver::Macvlan, false, PARENT, "eth0.10").unwrap();
        let unknown = checked(Driver::Bridge, false, PARENT, "eth0").unwrap_err();
        assert_eq!(unknown, "unsupported option \"parent\" for a bridge network");
    }
}
