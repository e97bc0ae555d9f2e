//! What the kernel and the user's ids allow: tried out in a network namespace that is then given up.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::getegid;

use super::{Report, Who};
use crate::network::firewall;
use crate::network::link::{self, bridge, veth};
use crate::network::netlink::Socket;
use crate::sys::netns;
use crate::userns;

const TUN: &str = "/dev/net/tun";

/// Settings of the machine that are in the way of an ordinary user, or of IPv6.
pub fn settings(report: &mut Report, who: Who) {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/{name}")).ok();
    ipv6(report, Path::new("/proc/net/if_inet6").exists(), read("ipv6/conf/all/disable_ipv6").as_deref());
    if who == Who::User {
        ping(report, &read("ipv4/ping_group_range").unwrap_or_default(), getegid().as_raw());
        low_ports(report, &read("ipv4/ip_unprivileged_port_start").unwrap_or_default());
        tun(report, Path::new(TUN));
    }
}

fn ipv6(report: &mut Report, has: bool, disabled: Option<&str>) {
    let about = "IPv6";
    if !has {
        let text = "this kernel has none: networks with IPv6 subnets cannot be used";
        report.warning(about, text, "start the machine without ipv6.disable=1");
    } else if disabled.is_some_and(|value| value.trim() == "1") {
        let text = "it is switched off on this machine: containers reach nothing outside over it";
        report.warning(about, text, "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0");
    } else {
        report.ok(about, "the kernel has it");
    }
}

/// `ping_group_range`: who may have sockets that send echo requests; icmp(7).
fn ping(report: &mut Report, range: &str, group: u32) {
    let bounds: Vec<u32> = range.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    match bounds[..] {
        [first, last] if (first..=last).contains(&group) => report.ok("ping", "containers can ping the outside"),
        _ => report.warning(
            "ping",
            format!(
                "containers cannot ping the outside: net.ipv4.ping_group_range is \"{}\", your group {group}",
                range.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            ),
            "sudo sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"",
        ),
    }
}

fn low_ports(report: &mut Report, start: &str) {
    match start.trim().parse::<u16>().unwrap_or(1024) {
        0..=1 => report.ok("ports", "you can publish all ports"),
        start => report.ok(
            "ports",
            format!(
                "you can publish ports from {start} on; for lower ones: sudo sysctl -w \
                 net.ipv4.ip_unprivileged_port_start=80"
            ),
        ),
    }
}

/// The device by which containers' packets come to the uplink.
fn tun(report: &mut Report, path: &Path) {
    let about = "uplink";
    let shown = path.display();
    match File::options().read(true).write(true).open(path) {
        Ok(_) => report.ok(about, format!("{shown} can be used")),
        Err(e) => {
            let fix = match (e.kind(), e.raw_os_error()) {
                (ErrorKind::NotFound, _) => {
                    format!("sudo modprobe tun; in a container: give it the device (--device {shown})")
                }
                (_, Some(libc::ENODEV | libc::ENXIO)) => "sudo modprobe tun".to_owned(),
                (ErrorKind::PermissionDenied, _) => format!("sudo chmod 666 {shown}, as udev has it"),
                _ => String::new(),
            };
            let text = format!("containers do not reach the outside: open {shown}: {}", nix_message(&e));
            report.problem(about, text, fix);
        }
    }
}

fn nix_message(e: &std::io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), |n| nix::errno::Errno::from_raw(n).desc().to_owned())
}

/// What needs privileges: an ordinary user's are those in the own user namespace.
pub fn look(report: &mut Report, who: Who) {
    if who == Who::User {
        if userns::has_ranges() {
            report.ok("ids", "you have subordinate ids");
        } else {
            report.warning(
                "ids",
                "you have no subordinate ids: programs in containers cannot change their user, as name and web servers do",
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
            );
        }
    }
    let tried = netns::make().context("make a network namespace").and_then(|namespace| {
        netns::inside(namespace.as_fd(), || attempt(report, who)).context("enter a network namespace")?
    });
    if let Err(e) = tried {
        report.failed("kernel", &e);
    }
}

/// In a namespace of its own, which goes with all that is made in it.
fn attempt(report: &mut Report, who: Who) -> Result<()> {
    let mut socket = Socket::route().context("open a netlink socket")?;
    let mut lacks = Vec::new();
    lacks.extend(interfaces(&mut socket).err());
    let rules = Socket::netfilter().map_err(|e| anyhow::Error::new(e).context("this kernel has no nf_tables"));
    match rules.and_then(|mut socket| firewall::probe(&mut socket)) {
        Err(e) => lacks.push(e),
        Ok(features) => {
            let missing = |what: &str, modules: &str| {
                crate::error::Failure::new(what).hint(format!("sudo modprobe -a {modules}")).into()
            };
            if !features.nat && who == Who::Root {
                lacks.push(missing(
                    "this kernel cannot translate addresses",
                    "nft_chain_nat nft_masq nft_fib_inet nft_ct",
                ));
            }
            if !features.proxy && who == Who::User {
                lacks.push(missing("this kernel cannot lead connections to the uplink", "nft_tproxy nft_socket"));
            }
            if !features.bridge {
                let text = "this kernel has no rules for bridges: containers can use each other's addresses";
                report.warning("kernel", text, "sudo modprobe nf_tables; the option is CONFIG_NF_TABLES_BRIDGE");
            }
        }
    }
    if lacks.is_empty() {
        report.ok("kernel", "it has bridges, pairs of interfaces and the rules that networks need");
    }
    for lack in &lacks {
        report.failed("kernel", lack);
    }
    Ok(())
}

fn interfaces(socket: &mut Socket) -> Result<()> {
    const NAME: &str = "probe";
    let addresses = ["192.0.2.1/30".parse().context("an address")?];
    let wanted = bridge::Bridge { name: NAME, mac: None, mtu: None, addresses: &addresses, alias: None };
    let index = bridge::ensure(socket, &wanted)?.index;
    let own = File::open("/proc/thread-self/ns/net").context("open the network namespace")?;
    veth::create(
        socket,
        &veth::Veth {
            port: "probe0",
            bridge: index,
            isolated: false,
            hairpin: false,
            interface: "probe1",
            netns: own.as_fd(),
            mac: None,
            mtu: None,
        },
    )?;
    link::index(socket, "probe1").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::doctor::Mark;

    fn one(look: impl FnOnce(&mut Report)) -> (Mark, String, String) {
        let mut report = Report::default();
        look(&mut report);
        assert_eq!(report.0.len(), 1);
        let finding = report.0.remove(0);
        (finding.mark, finding.text, finding.fix)
    }

    #[test]
    fn who_may_ping() {
        assert_eq!(one(|report| ping(report, "0\t2147483647\n", 1000)).0, Mark::Ok);
        let (mark, text, _) = one(|report| ping(report, "1\t0\n", 1000));
        assert_eq!(mark, Mark::Warning);
        assert!(text.ends_with("net.ipv4.ping_group_range is \"1 0\", your group 1000"), "{text}");
        assert_eq!(one(|report| ping(report, "", 1000)).0, Mark::Warning);
    }

    #[test]
    fn low_ports_are_said() {
        assert_eq!(one(|report| low_ports(report, "0\n")).1, "you can publish all ports");
        assert!(one(|report| low_ports(report, "1024\n")).1.starts_with("you can publish ports from 1024 on"));
    }

    #[test]
    fn ipv6_that_is_off() {
        assert_eq!(one(|report| ipv6(report, true, Some("0\n"))).0, Mark::Ok);
        assert!(one(|report| ipv6(report, true, Some("1\n"))).2.ends_with("disable_ipv6=0"));
        assert!(one(|report| ipv6(report, false, None)).1.starts_with("this kernel has none"));
    }

    #[test]
    fn a_device_that_cannot_be_opened() {
        let (mark, text, fix) = one(|report| tun(report, Path::new("/no/such/tun")));
        assert_eq!(mark, Mark::Problem);
        assert!(text.ends_with("open /no/such/tun: No such file or directory"), "{text}");
        assert!(fix.starts_with("sudo modprobe tun"), "{fix}");
        assert_eq!(one(|report| tun(report, Path::new("/dev/null"))).0, Mark::Ok);
    }
}
