//! Address ranges for networks: Docker's pools, without what is in use already.

use std::net::Ipv6Addr;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{self, Failure};
use crate::network::link::{address, route};
use crate::network::netlink::Socket;
use crate::network::record::Subnet;
use crate::userns;

/// A range, and the length of the prefixes that it is cut into.
type Pool = ([u8; 4], u8, u8);

/// Docker's `default-address-pools`.
const POOLS: [Pool; 5] = [
    ([172, 17, 0, 0], 16, 16),
    ([172, 18, 0, 0], 15, 16),
    ([172, 20, 0, 0], 14, 16),
    ([172, 24, 0, 0], 13, 16),
    ([192, 168, 0, 0], 16, 20),
];

/// For machines whose routes lead all of Docker's pools somewhere (a company's VPN).
const SPARE: Pool = ([10, 88, 0, 0], 13, 20);

/// A subnet for a new network: the first of Docker's pools that no network has and the host routes
/// nowhere. `networks`: the subnets of all networks; `routes`: where the host's routes lead.
///
/// # Errors
/// Docker's sentence, when there is none left.
pub fn choose(networks: &[IpNet], routes: &[IpNet]) -> Result<Ipv4Net> {
    let is_free = |subnet: &Ipv4Net, taken: &[IpNet]| !taken.iter().any(|other| overlap(other, &(*subnet).into()));
    // Bridges of ours have routes too.
    let foreign: Vec<IpNet> = routes.iter().filter(|route| !networks.contains(route)).copied().collect();
    let of = |pools: &[Pool]| {
        let all = pools.iter().flat_map(pieces).collect::<Vec<_>>();
        all.into_iter().filter(|subnet| is_free(subnet, &foreign)).collect::<Vec<_>>()
    };
    let usable = Some(of(&POOLS)).filter(|usable| !usable.is_empty()).unwrap_or_else(|| of(&[SPARE]));
    match usable.into_iter().find(|subnet| is_free(subnet, networks)) {
        Some(subnet) => Ok(subnet),
        None => Err(Failure::new("all predefined address pools have been fully subnetted")
            .hint("remove networks that nobody needs with 'ctr network prune', or give one with --subnet")
            .into()),
    }
}

fn pieces(&(start, length, piece): &Pool) -> impl Iterator<Item = Ipv4Net> {
    let whole = Ipv4Net::new_assert(start.into(), length);
    whole.subnets(piece).into_iter().flatten()
}

/// A /64 for a network with IPv6 and no subnet for it: local and random, so that no two machines
/// have the same (RFC 4193).
///
/// # Errors
/// As `getrandom(2)`.
pub fn unique_local(networks: &[IpNet]) -> Result<Ipv6Net> {
    loop {
        let mut bytes = [0; 16];
        crate::sys::random(&mut bytes[1..8]).context("make an IPv6 subnet")?;
        bytes[0] = 0xfd;
        let subnet = Ipv6Net::new_assert(Ipv6Addr::from(bytes), 64);
        if !networks.iter().any(|other| overlap(other, &subnet.into())) {
            return Ok(subnet);
        }
    }
}

const OVERLAPS: &str = "invalid pool request: Pool overlaps with other one on this address space";

/// Whether a subnet that somebody asks for can be had beside those that networks have, each given
/// with its network's name.
///
/// # Errors
/// Docker's sentence, and whose it is.
pub fn check(subnet: &IpNet, networks: &[(&str, IpNet)]) -> Result<()> {
    match networks.iter().find(|(_, other)| overlap(other, subnet)) {
        None => Ok(()),
        Some((name, other)) => Err(Failure::new(OVERLAPS).hint(format!("the network {name} has {other}")).into()),
    }
}

/// Whether this machine can go without what lies in the subnets that somebody asks for: not where it
/// has an address there itself, or neighbours, whom it would look for among the containers from then
/// on. What lies behind routes is only said: to hide that can be intended. `networks`: the subnets of
/// all networks; `bridge`: the network's interface, whose addresses are no obstacle.
///
/// # Errors
/// Docker's sentence, and over which interface the machine reaches them.
pub fn check_host(subnets: &[Subnet], networks: &[IpNet], bridge: &str) -> Result<()> {
    let mut socket = Socket::route().context("open a netlink socket")?;
    let own = address::all(&mut socket)?;
    for (net, name) in route::used(&mut socket)? {
        let Some(subnet) = subnets.iter().map(|s| s.subnet).find(|subnet| overlap(subnet, &net)) else { continue };
        if name == bridge || networks.contains(&net) {
            continue;
        }
        let is_own = own.iter().any(|(_, address)| address.trunc() == net);
        let over = if name.is_empty() { String::new() } else { format!(" over {name}") };
        if is_own && userns::is_host_root() {
            let hint = format!("this machine reaches {net}{over}: choose another --subnet, or none");
            return Err(Failure::new(OVERLAPS).hint(hint).into());
        }
        error::warn(&format!("this machine reaches {net}{over}: containers on {subnet} will not reach what is there"));
    }
    Ok(())
}

/// Whether the two have an address in common.
#[must_use]
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// What the host's routes and interfaces have in use.
///
/// # Errors
/// The kernel does not say.
pub fn routes() -> Result<Vec<IpNet>> {
    let mut socket = Socket::route().context("open a netlink socket")?;
    Ok(route::used(&mut socket)?.into_iter().map(|(net, _)| net).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(networks: &[&str], routes: &[&str]) -> String {
        choose(&nets(networks), &nets(routes)).unwrap().to_string()
    }

    #[test]
    fn the_first_that_is_free() {
        assert_eq!(chosen(&[], &[]), "172.17.0.0/16");
        assert_eq!(chosen(&["172.17.0.0/16"], &["172.18.5.0/24"]), "172.19.0.0/16");
        assert_eq!(chosen(&[], &["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(chosen(&[], &["172.16.0.0/12", "192.168.0.0/16", "10.88.0.0/24"]), "10.88.16.0/20");
    }

    #[test]
    fn they_come_to_an_end() {
        let mut networks: Vec<IpNet> = Vec::new();
        for _ in 0..31 {
            networks.push(choose(&networks, &[]).unwrap().into());
        }
        assert_eq!(networks[14].to_string(), "172.31.0.0/16");
        assert_eq!(networks[30].to_string(), "192.168.240.0/20");
        for routes in [&[][..], &networks] {
            let end = choose(&networks, routes).unwrap_err().to_string();
            assert_eq!(end, "all predefined address pools have been fully subnetted");
        }
    }

    #[test]
    fn no_two_overlap() {
        let networks = nets(&["10.1.0.0/16", "fd00:1::/64"]);
        let named = [("four", networks[0]), ("six", networks[1])];
        for (wrong, hint) in [
            ("10.1.0.0/16", "the network four has 10.1.0.0/16"),
            ("10.1.2.0/24", "the network four has 10.1.0.0/16"),
            ("10.0.0.0/8", "the network four has 10.1.0.0/16"),
            ("fd00:1::/80", "the network six has fd00:1::/64"),
        ] {
            let refused = check(&wrong.parse().unwrap(), &named).unwrap_err();
            assert_eq!(refused.to_string(), "invalid pool request: Pool overlaps with other one on this address space");
            assert_eq!(crate::error::hint(&refused), Some(hint));
        }
        check(&"10.2.0.0/16".parse().unwrap(), &named).unwrap();
        let own = unique_local(&networks).unwrap();
        assert!(own.addr().octets()[0] == 0xfd && own.prefix_len() == 64);
    }
}
