//! What a network's `--opt` come to. [`check`] refuses values that cannot be when the network is
//! made; what was accepted then is read with a method each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::error::Failure;
use crate::network::record::{Driver, Network};
use crate::userns;

pub(super) const INTERFACE: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
const MTU: &str = "com.docker.network.driver.mtu";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
/// Podman's words.
const PODMANS_MTU: &str = "mtu";
const PODMANS_MODE: &str = "mode";
const ISOLATE: &str = "isolate";

const OF_BRIDGES: [&str; 14] = [
    INTERFACE,
    ICC,
    MASQUERADE,
    HOST_BINDING,
    MODE_IPV4,
    MODE_IPV6,
    TRUSTED,
    INHIBIT_IPV4,
    HOST_IPV4,
    HOST_IPV6,
    MTU,
    PREFIX,
    PODMANS_MTU,
    ISOLATE,
];
const OF_MACVLANS: [&str; 6] = [PARENT, MACVLAN_MODE, MTU, PREFIX, PODMANS_MTU, PODMANS_MODE];

/// Of a container's interface there, not of a network: settings of the kernel's.
pub const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What options of Docker's own begin with: one that is not known is a slip of the pen.
const DOCKERS: &str = "com.docker.network.";

/// The interface of the default network.
pub(super) const DEFAULT_INTERFACE: &str = "ctr0";

/// How a bridge's containers reach what is outside, and are reached from there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Their addresses are hidden behind the host's; published ports alone are reached.
    #[default]
    Nat,
    /// As `Nat`; who has a route to their addresses reaches all of their ports too.
    NatUnprotected,
    /// They leave under their own addresses, by which who has a route to them reaches their published
    /// ports. No port of the host's leads to them.
    Routed,
    /// The host has no address on the bridge (`--internal` only).
    Isolated,
}

impl GatewayMode {
    fn of(text: &str) -> Option<Self> {
        match text {
            "nat" | "" => Some(Self::Nat),
            "nat-unprotected" => Some(Self::NatUnprotected),
            "routed" => Some(Self::Routed),
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
        self.option(MTU).or_else(|| self.option(PODMANS_MTU))?.parse().ok()
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

    pub fn gateway_mode(&self, ipv6: bool) -> GatewayMode {
        self.option(if ipv6 { MODE_IPV6 } else { MODE_IPV4 }).and_then(GatewayMode::of).unwrap_or_default()
    }

    /// Interfaces of the host by whose cables published ports are reached at containers' own addresses.
    pub fn trusted_interfaces(&self) -> impl Iterator<Item = &str> {
        self.option(TRUSTED).into_iter().flat_map(|names| names.split(':')).filter(|name| !name.is_empty())
    }

    /// Whether the bridge is without an address of IPv4: its gateway is another machine.
    pub fn inhibits_ipv4(&self) -> bool {
        self.option(INHIBIT_IPV4).and_then(boolean).unwrap_or(false)
    }

    /// The address of the host's that containers leave under; `None`: the interface's that they leave by.
    pub fn host_address(&self, ipv6: bool) -> Option<IpAddr> {
        self.option(if ipv6 { HOST_IPV6 } else { HOST_IPV4 })?.parse().ok()
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
        self.option(MACVLAN_MODE).or_else(|| self.option(PODMANS_MODE)).unwrap_or("bridge")
    }
}

/// Whether these options can be a network's. As in Docker, one that nobody knows is kept and does
/// nothing ([`ignored`]); not where it looks like one of Docker's.
///
/// # Errors
/// One of Docker's that this driver has not, or one with a value that it cannot have.
pub fn check(driver: Driver, internal: bool, options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let Some(name) = known(driver).iter().find(|known| *known == name) else {
            if name.starts_with(DOCKERS) {
                return Err(Failure::new(format!("unsupported option {name:?} for a {} network", driver.as_str()))
                    .hint(format!("there are {}", known(driver).join(", ")))
                    .into());
            }
            continue;
        };
        let isolated = *value == "isolated" && !internal;
        let fits = match *name {
            ICC | MASQUERADE | INHIBIT_IPV4 => boolean(value).is_some(),
            ISOLATE => value == "strict" || boolean(value).is_some(),
            MTU | PODMANS_MTU => value.parse::<u32>().is_ok_and(|mtu| (68..=65_535).contains(&mtu)),
            HOST_BINDING | HOST_IPV4 => value.parse::<Ipv4Addr>().is_ok(),
            HOST_IPV6 => value.parse::<Ipv6Addr>().is_ok(),
            MODE_IPV4 | MODE_IPV6 => GatewayMode::of(value).is_some() && !isolated,
            MACVLAN_MODE | PODMANS_MODE => matches!(value.as_str(), "bridge" | "private" | "vepa" | "passthru"),
            TRUSTED => value.split(':').all(is_interface_name),
            // Room for a number of three digits.
            PREFIX => is_interface_name(value) && value.len() <= 12,
            _ => is_interface_name(value),
        };
        if !fits {
            let hint = match *name {
                MODE_IPV4 | MODE_IPV6 if isolated => "\"isolated\" is for --internal networks",
                ICC | MASQUERADE | INHIBIT_IPV4 => "true or false",
                ISOLATE => "true, false or strict",
                MTU | PODMANS_MTU => "bytes, from 68 to 65535",
                HOST_BINDING | HOST_IPV4 => "an IPv4 address of this machine",
                HOST_IPV6 => "an IPv6 address of this machine",
                MODE_IPV4 | MODE_IPV6 => "nat, nat-unprotected, routed, or isolated for --internal networks",
                MACVLAN_MODE | PODMANS_MODE => "bridge, private, vepa or passthru",
                TRUSTED => "names of this machine's interfaces with colons between them, as in eth0:eth1",
                PREFIX => "at most 12 letters, to which a number is added",
                _ => "the name of an interface has at most 15 letters",
            };
            return Err(Failure::new(format!("invalid value for {name}: {value:?}")).hint(hint).into());
        }
        if !userns::is_host_root() && needs_root(name, value) {
            return Err(Failure::new(format!("the option {name}={value} needs root"))
                .hint("nothing has a route to an ordinary user's containers: publish what is to be reached with -p")
                .into());
        }
    }
    Ok(())
}

fn known(driver: Driver) -> &'static [&'static str] {
    if driver == Driver::Macvlan { &OF_MACVLANS } else { &OF_BRIDGES }
}

/// What is about the way between the containers' addresses and other machines. An ordinary user's
/// containers have none: what leaves them leaves from a socket of the uplink's.
fn needs_root(name: &str, value: &str) -> bool {
    match name {
        MODE_IPV4 | MODE_IPV6 => {
            matches!(GatewayMode::of(value), Some(GatewayMode::Routed | GatewayMode::NatUnprotected))
        }
        TRUSTED | HOST_IPV4 | HOST_IPV6 => true,
        _ => false,
    }
}

/// What is to be said of options that are kept and do nothing: a sentence each.
#[must_use]
pub fn ignored(driver: Driver, options: &BTreeMap<String, String>) -> Vec<String> {
    let unknown = options.keys().filter(|name| !known(driver).contains(&name.as_str()));
    let mut said: Vec<String> = unknown
        .map(|name| format!("the option {name:?} is ignored: a {} network has none of that name", driver.as_str()))
        .collect();
    if driver == Driver::Bridge && options.get(ISOLATE).is_some_and(|value| boolean(value) == Some(false)) {
        said.push("the option \"isolate=false\" is ignored: networks are always apart from each other".into());
    }
    said
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
        for (name, value) in
            [(MODE_IPV4, "routed"), (MODE_IPV6, "nat-unprotected"), (TRUSTED, "eth0:eth1"), (HOST_IPV4, "192.0.2.1")]
        {
            let needs_root = Err(format!("the option {name}={value} needs root"));
            let expected = if userns::is_host_root() { Ok(()) } else { needs_root };
            assert_eq!(checked(Driver::Bridge, false, name, value), expected);
        }
        for (name, value) in [(TRUSTED, "eth0::eth1"), (HOST_IPV4, "::1"), (INHIBIT_IPV4, "no"), (ISOLATE, "maybe")] {
            assert!(checked(Driver::Bridge, false, name, value).is_err(), "{name}={value}");
        }
        checked(Driver::Macvlan, false, PARENT, "eth0.10").unwrap();
        let unknown = checked(Driver::Bridge, false, "com.docker.network.bridge.nam", "x").unwrap_err();
        assert_eq!(unknown, "unsupported option \"com.docker.network.bridge.nam\" for a bridge network");
    }

    #[test]
    fn what_nobody_knows_is_said_to_be_ignored() {
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let none = options(&[(MTU, "1400"), ("mtu", "1400"), ("isolate", "true")]);
        check(Driver::Bridge, false, &none).unwrap();
        assert!(ignored(Driver::Bridge, &none).is_empty());
        let some = options(&[("foo", "bar"), ("isolate", "false")]);
        check(Driver::Bridge, false, &some).unwrap();
        assert_eq!(
            ignored(Driver::Bridge, &some),
            [
                "the option \"foo\" is ignored: a bridge network has none of that name",
                "the option \"isolate=false\" is ignored: networks are always apart from each other",
            ]
        );
    }
}
