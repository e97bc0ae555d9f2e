//! What a container tells its neighbours about its addresses, and what it believes of what they tell.

use std::fs;
use std::io;

use anyhow::{Context, Result};

use crate::network::link::address::AF_INET;
use crate::network::link::{self, Power};
use crate::network::netlink::{Message, Socket};

// linux/if_link.h, linux/ip.h.
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;

/// Settles how interfaces that are made from now on in the network namespace of this thread treat IPv6
/// neighbours: a router's advertisement is not believed, for on a bridge it would be another container
/// that makes itself everybody's gateway (CVE-2020-13401); and [`announce`] announces IPv6 addresses.
///
/// # Errors
/// `/proc/sys` cannot be written. A kernel without IPv6 has nothing to settle.
pub fn settle_ipv6() -> Result<()> {
    for (name, value) in [("accept_ra", "0"), ("ndisc_notify", "1")] {
        let path = format!("/proc/sys/net/ipv6/conf/default/{name}");
        match fs::write(&path, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.with_context(|| format!("write \"{path}\""))?,
        }
    }
    Ok(())
}

/// Tells the neighbours of an interface that is up which Ethernet address its addresses have. Not
/// needed where that goes with the address anyway ([`link::mac_of`]); with one of the user's choosing, who
/// knew an earlier owner of the address would send to that one for up to a minute. IPv6 addresses are
/// announced where [`settle_ipv6`] was done before the interface was made.
///
/// # Errors
/// There is no such interface.
pub fn announce(container: &mut Socket, interface: &str) -> Result<()> {
    let there = link::find(container, interface)?.with_context(|| format!("no interface \"{interface}\""))?;
    let Some(mac) = there.mac else { return Ok(()) };
    let message = || Message::new(libc::RTM_NEWLINK, 0, &link::head(there.index, Power::Same));
    let mut wish = message();
    wish.nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(AF_INET.into(), |inet| {
            inet.nest(IFLA_INET_CONF, |options| {
                options.put_u32(IPV4_DEVCONF_ARP_NOTIFY, 1);
            });
        });
    });
    // Given an Ethernet address, even the one it has, an interface makes it known: ip-sysctl, "arp_notify".
    let mut occasion = message();
    occasion.put(libc::IFLA_ADDRESS, &mac);
    for message in [wish, occasion] {
        container.request(message).map_err(|refused| {
            link::failed(format!("announce the addresses of the interface \"{interface}\""), refused)
        })?;
    }
    Ok(())
}
