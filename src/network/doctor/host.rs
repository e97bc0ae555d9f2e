//! What containers get from the machine's own network. Looked at from outside of the user's own user
//! namespace, as the uplink's sockets and the monitors' questions leave the machine.

use std::net::SocketAddr;

use anyhow::Result;
use ipnet::IpNet;

use super::{Report, Who, ask};
use crate::network::bridge::is_ours;
use crate::network::dns::host_servers;
use crate::network::link::{self, route};
use crate::network::netlink::Socket;
use crate::network::record::{self, Driver, Network};
use crate::network::{firewall, pool};
use crate::store::Store;

/// What a bridge passes where its network does not say otherwise.
const USUAL_MTU: u32 = 1500;

/// A name that every name server knows whom to ask for.
pub const PROBE: &str = "example.com";

/// The name servers that containers' questions end at.
pub fn servers() -> Vec<SocketAddr> {
    host_servers()
}

pub fn look(report: &mut Report, who: Who) {
    match Socket::route().map_err(anyhow::Error::new).and_then(|mut socket| routes(report, &mut socket, who)) {
        Ok(()) => {}
        Err(e) => report.failed("default route", &e),
    }
    names(report, &servers());
    if who == Who::Root {
        firewalls(report);
    }
}

fn routes(report: &mut Report, socket: &mut Socket, who: Who) -> Result<()> {
    let (v4, v6) = (route::outside(socket, false)?, route::outside(socket, true)?);
    let shown = |outside: &route::Outside| match outside.gateway {
        Some(gateway) => format!("over {} to {gateway}", outside.interface),
        None => format!("over {}", outside.interface),
    };
    match (&v4, &v6) {
        (None, None) => report.warning(
            "default route",
            "this machine has none: containers reach only what the machine itself reaches",
            "if the machine should reach the Internet: ip route add default via GATEWAY",
        ),
        (Some(v4), None) => report.ok("default route", format!("{}, for IPv4 alone", shown(v4))),
        (None, Some(v6)) => report.ok("default route", format!("{}, for IPv6 alone", shown(v6))),
        (Some(v4), Some(v6)) => report.ok("default route", format!("{}; IPv6 {}", shown(v4), shown(v6))),
    }
    // An ordinary user's connections are the uplink's own, with the size that their way has.
    if let (Who::Root, Some(outside)) = (who, v4.or(v6))
        && let Some(link) = link::find(socket, &outside.interface)?
    {
        mtu(report, &link.name, link.mtu);
    }
    Ok(())
}

fn mtu(report: &mut Report, interface: &str, mtu: u32) {
    if mtu >= USUAL_MTU {
        report.ok("MTU", format!("{interface} passes packets of {mtu} bytes"));
        return;
    }
    report.warning(
        "MTU",
        format!(
            "{interface} passes packets of {mtu} bytes at most, networks of ctr's {USUAL_MTU}: where a firewall drops the \
             messages that say so, large transfers stop"
        ),
        format!("make networks with --opt com.docker.network.driver.mtu={mtu}"),
    );
}

/// Whether names can be looked up on this machine at all.
pub fn names(report: &mut Report, servers: &[SocketAddr]) {
    let about = "name servers";
    if servers.is_empty() {
        report.problem(
            about,
            "/etc/resolv.conf names no server: containers can look up each other's names alone",
            "add a line \"nameserver ADDRESS\" to /etc/resolv.conf, or give containers one with --dns",
        );
        return;
    }
    let answers = ask::servers(servers, PROBE);
    let list = |wanted: bool| {
        let fits = servers.iter().zip(&answers).filter(|(_, answer)| answer.is_some() == wanted);
        fits.map(|(server, _)| server.ip().to_string()).collect::<Vec<_>>().join(", ")
    };
    let (good, bad) = (list(true), list(false));
    match (good.as_str(), bad.as_str()) {
        ("", bad) => report.problem(
            about,
            format!("no server of /etc/resolv.conf answers: {bad}"),
            "correct /etc/resolv.conf (a VPN that went down may have left it), or give containers one that answers \
             with --dns",
        ),
        (good, "") => report.ok(about, format!("{good} answer{}", if servers.len() == 1 { "s" } else { "" })),
        (good, bad) => report.warning(
            about,
            format!("{bad} in /etc/resolv.conf does not answer ({good} does): look-ups that begin there take seconds"),
            format!("take {bad} out of /etc/resolv.conf"),
        ),
    }
}

/// Of so many rules that drop something each is named.
const MOST_RULES: usize = 5;

/// Rules of other tables that drop what containers send or are sent. `true`: there are some.
pub fn drops(report: &mut Report) -> bool {
    let found = || -> Result<Vec<firewall::drops::Dropping>> {
        let mut socket = Socket::route()?;
        let mut bridges = link::of_kind(&mut socket, "bridge")?;
        bridges.retain(is_ours);
        if bridges.is_empty() {
            return Ok(Vec::new());
        }
        let outside = route::outside(&mut socket, false)?.map(|outside| outside.interface);
        firewall::drops::find(&mut Socket::netfilter()?, &bridges, outside.as_deref())
    };
    // That there is no nf_tables is said where the kernel is looked at.
    let found = found().unwrap_or_default();
    for dropping in found.iter().take(MOST_RULES) {
        let firewall::drops::Dropping { chain, rule, handle } = dropping;
        report.warning(
            "firewalls",
            format!("a rule of the chain \"{chain}\" drops what is sent by containers or to them: {rule}"),
            format!(
                "see nft -a list chain {chain}, handle {handle}; if they need it, have that firewall accept what \
                 comes from containers' bridges and goes to them before"
            ),
        );
    }
    if let Some(more) = found.len().checked_sub(MOST_RULES).filter(|more| *more > 0) {
        report.warning("firewalls", format!("{more} more rules drop what containers send"), "nft list ruleset");
    }
    !found.is_empty()
}

/// Other firewalls, which drop what ours lets pass.
fn firewalls(report: &mut Report) {
    let about = "firewalls";
    let dropped = drops(report);
    let found = Socket::netfilter().map_err(anyhow::Error::new).and_then(|mut s| firewall::foreign::active(&mut s));
    match found {
        // Said where the kernel is looked at.
        Err(_) => {}
        Ok(None) if dropped => {}
        Ok(None) => report.ok(about, "no other one drops what is forwarded"),
        Ok(Some(foreign)) => {
            let mut known = Vec::new();
            known.extend(foreign.ufw.then_some("ufw"));
            known.extend(foreign.firewalld.then_some("firewalld"));
            if foreign.guards_input() {
                let name = known.join(" and ");
                report.ok(
                    about,
                    format!("{name} decides who reaches published ports, by its rules for connections to this machine"),
                );
            }
            match foreign.advice("ctr0") {
                Some(advice) => {
                    let (text, fix) = advice.split_once(": ").unwrap_or((&advice, ""));
                    report.warning(about, text, fix);
                }
                None if !foreign.guards_input() => {
                    report.ok(about, "another one forwards nothing by default; ctr's networks are let through");
                }
                None => {}
            }
        }
    }
}

/// Subnets of networks that this machine's routes lead elsewhere: what is there, containers cannot
/// reach.
///
/// # Errors
/// The records cannot be read.
pub fn overlaps(report: &mut Report, store: &Store) -> Result<()> {
    let networks = record::list(store)?;
    let used = Socket::route().map_err(anyhow::Error::new).and_then(|mut socket| route::used(&mut socket));
    match used {
        Err(e) => report.failed("subnets", &e),
        Ok(used) => overlapping(report, &networks, &used),
    }
    Ok(())
}

fn overlapping(report: &mut Report, networks: &[Network], used: &[(IpNet, String)]) {
    let mut clean = true;
    for network in networks.iter().filter(|network| network.driver == Driver::Bridge) {
        let own = network.interface();
        for subnet in &network.subnets {
            let other = used.iter().find(|(net, name)| *name != own && pool::overlap(net, &subnet.subnet));
            let Some((net, name)) = other else { continue };
            clean = false;
            let over = if name.is_empty() { String::new() } else { format!(" over {name}") };
            report.problem(
                "subnets",
                format!(
                    "the network {} has {}, and this machine reaches {net}{over}: its containers cannot reach what is there",
                    network.name, subnet.subnet
                ),
                if network.is_predefined() {
                    "use a network of your own: ctr network create --subnet SUBNET NAME".to_owned()
                } else {
                    format!("ctr network rm {0} && ctr network create --subnet SUBNET {0}", network.name)
                },
            );
        }
    }
    if clean && !networks.is_empty() {
        report.ok("subnets", "no network has addresses that this machine reaches elsewhere");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::doctor::Mark;

    #[test]
    fn small_packets_are_said() {
        let mut report = Report::default();
        mtu(&mut report, "eth0", 1500);
        mtu(&mut report, "wg0", 1420);
        assert_eq!([report.0[0].mark, report.0[1].mark], [Mark::Ok, Mark::Warning]);
        assert_eq!(report.0[1].fix, "make networks with --opt com.docker.network.driver.mtu=1420");
    }

    #[test]
    fn servers_are_asked() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut report = Report::default();
        names(&mut report, &[]);
        names(&mut report, &[silent.local_addr().unwrap()]);
        let texts: Vec<_> = report.0.iter().map(|finding| (finding.mark, finding.text.as_str())).collect();
        let nobody = "no server of /etc/resolv.conf answers: 127.0.0.1";
        let none = "/etc/resolv.conf names no server: containers can look up each other's names alone";
        assert_eq!(texts, [(Mark::Problem, none), (Mark::Problem, nobody)]);
    }

    #[test]
    fn a_vpn_over_a_subnet_is_found() {
        let store = tempfile::tempdir().unwrap();
        let store = Store::at(store.path().join("root"), store.path().join("run"));
        let network = record::create(
            &store,
            record::New {
                subnets: vec![record::Subnet::of("10.80.0.0/24".parse().unwrap())],
                ..record::New::named("office")
            },
        )
        .unwrap();
        let used = |name: &str| vec![("10.80.0.0/16".parse().unwrap(), name.to_owned())];
        let mut report = Report::default();
        overlapping(&mut report, std::slice::from_ref(&network), &used(&network.interface()));
        assert_eq!(report.worst(), Mark::Ok);
        overlapping(&mut report, &[network], &used("tun0"));
        let text = "the network office has 10.80.0.0/24, and this machine reaches 10.80.0.0/16 over tun0: its containers \
                    cannot reach what is there";
        assert_eq!((report.0[1].mark, report.0[1].text.as_str()), (Mark::Problem, text));
        assert_eq!(report.0[1].fix, "ctr network rm office && ctr network create --subnet SUBNET office");
    }
}
