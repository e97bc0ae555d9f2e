//! The networks in use: their bridges, the rules, the uplink.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::fstat;
use nix::unistd::Pid;

use super::Report;
use crate::error::Failure;
use crate::network::link::{self, address};
use crate::network::nft::{Family, Table, list};
use crate::network::record::{self, Driver, Network};
use crate::network::space::Space;
use crate::network::{member, uplink};
use crate::store::Store;

/// What puts back what can be put back.
pub const REPAIR: &str = "ctr network doctor --repair";

/// Ctr's tables, and a chain of each that is never without a rule.
const TABLES: [(Table<'static>, &str); 2] =
    [(Table::new(Family::Inet, "ctr"), "forward"), (Table::new(Family::Bridge, "ctr"), "from_containers")];
const UPLINKS: (Table<'static>, &str) = (Table::new(Family::Inet, "ctr-uplink"), "prerouting");

/// Looks at all networks that a running container is on.
///
/// # Errors
/// The records cannot be read.
pub fn look(report: &mut Report, store: &Store, space: &Space) -> Result<()> {
    let mut used = Vec::new();
    for network in record::list(store)? {
        if network.driver == Driver::Bridge && !member::living(store, &network.id)?.is_empty() {
            used.push(network);
        }
    }
    if used.is_empty() {
        report.ok("networks", "no container is on one at the moment");
        return Ok(());
    }
    for network in &used {
        if let Err(e) = bridge(report, space, network) {
            report.failed(&network.name, &e);
        }
    }
    ways(report, space);
    Ok(())
}

/// What all networks of the space have in common: rules, forwarding, the uplink.
pub fn ways(report: &mut Report, space: &Space) {
    if let Err(e) = rules(report, space) {
        report.failed("rules", &e);
    }
    if space.is_apart() { uplink(report, space) } else { forwarding(report) }
}

/// A network's bridge. `true`: it is as it should be.
///
/// # Errors
/// The kernel does not say.
pub fn bridge(report: &mut Report, space: &Space, network: &Network) -> Result<bool> {
    let about = format!("network {}", network.name);
    let name = network.interface();
    let mut socket = space.route()?;
    let Some(link) = link::find(&mut socket, &name)? else {
        let text = format!("its bridge {name} is gone");
        report.problem(&about, text, REPAIR);
        return Ok(false);
    };
    if !link.up {
        report.problem(&about, format!("its bridge {name} is switched off"), REPAIR);
        return Ok(false);
    }
    let has = address::of(&mut socket, link.index)?;
    let lost: Vec<String> =
        network.bridge_addresses().iter().filter(|net| !has.contains(net)).map(ToString::to_string).collect();
    if !lost.is_empty() {
        let text = format!("its bridge {name} has lost the address {}: nothing leads out of it", lost.join(", "));
        report.problem(&about, text, REPAIR);
        return Ok(false);
    }
    report.ok(&about, format!("its bridge {name} is up"));
    Ok(true)
}

fn is_loaded(space: &Space, (table, chain): (Table<'_>, &str)) -> Result<bool> {
    let rules = list::rules(&mut space.netfilter()?, table);
    Ok(rules.context("list the rules")?.iter().any(|rule| rule.chain == chain))
}

fn rules(report: &mut Report, space: &Space) -> Result<()> {
    for wanted in TABLES {
        if !is_loaded(space, wanted)? {
            let what = match wanted.0.family {
                Family::Bridge => "containers can use each other's addresses",
                _ if space.is_apart() => "networks are not kept apart",
                _ => "published ports and the way outside do not work",
            };
            let text = format!("ctr's own are gone, somebody flushed them: {what}");
            report.problem("rules", text, REPAIR);
            return Ok(());
        }
    }
    if space.is_apart() && uplink_process(space).is_some() && !is_loaded(space, UPLINKS)? {
        report.problem("rules", "those that lead to the uplink are gone: containers reach nothing outside", REPAIR);
        return Ok(());
    }
    report.ok("rules", "they are loaded");
    Ok(())
}

/// Without it the kernel passes no packet from one interface to another.
fn forwarding(report: &mut Report) {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default();
    if read("ipv4/ip_forward").trim() == "0" {
        let text = "net.ipv4.ip_forward is 0: containers reach nothing but this machine";
        report.problem(
            "forwarding",
            text,
            "sysctl -w net.ipv4.ip_forward=1, and look what in /etc/sysctl.d switches it off",
        );
    } else {
        report.ok("forwarding", "the kernel forwards packets");
    }
}

fn uplink(report: &mut Report, space: &Space) {
    match uplink_process(space) {
        Some(pid) => report.ok("uplink", format!("it runs, process {pid}")),
        None => report.problem(
            "uplink",
            "it does not run: containers reach nothing outside",
            "wait a second, then their monitors start it again; if they do not: what it says is in networks/uplink/log \
             of the storage root",
        ),
    }
}

/// The uplink that has a thread in this namespace.
fn uplink_process(space: &Space) -> Option<Pid> {
    let Space::Apart(namespace) = space else { return None };
    let wanted = fstat(namespace.as_fd()).ok()?.st_ino;
    let is_it = |process: &fs::DirEntry| {
        let path = process.path();
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).next() == Some(uplink::NAME.as_bytes())
            && fs::read_dir(path.join("task")).is_ok_and(|threads| {
                threads.flatten().any(|t| fs::metadata(t.path().join("ns/net")).is_ok_and(|meta| meta.ino() == wanted))
            })
    };
    let process = fs::read_dir("/proc").ok()?.flatten().find(is_it)?;
    Some(Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
}

/// Ends an uplink whose rules are gone: they name ports that it alone knows. The monitors start
/// another, which loads its own.
///
/// # Errors
/// It cannot be ended.
pub fn restart_uplink(space: &Space) -> Result<()> {
    let Some(pid) = uplink_process(space) else { return Ok(()) };
    if is_loaded(space, UPLINKS)? {
        return Ok(());
    }
    kill(pid, Signal::SIGTERM).map_err(|e| Failure::new(format!("end the uplink, process {pid}")).source(e).into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::network::doctor::Mark;
    use crate::network::firewall;
    use crate::sys::netns;

    #[test]
    fn flushed_rules_are_noticed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let namespace: OwnedFd = netns::make().unwrap();
        let space = Space::Apart(namespace);
        let looked = || {
            let mut report = Report::default();
            rules(&mut report, &space).unwrap();
            (report.0[0].mark, report.0[0].fix.clone())
        };
        assert_eq!(looked(), (Mark::Problem, REPAIR.to_owned()));
        firewall::load_all(&space, || Ok(firewall::All::default())).unwrap();
        assert_eq!(looked(), (Mark::Ok, String::new()));
        assert_eq!(uplink_process(&space), None);
        firewall::unload_all(&space).unwrap();
        assert_eq!(looked().0, Mark::Problem);
    }
}
