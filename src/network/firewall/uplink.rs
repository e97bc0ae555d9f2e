//! The way of a container's connections to the uplink, inside an ordinary user's network namespace.
//!
//! ```text
//! table inet ctr-uplink {
//!     chain prerouting {
//!         type filter hook prerouting priority mangle; policy accept;
//!         tcp flags & (syn | ack) != syn socket transparent 1 meta mark set 1 accept
//!         iifname != TUN accept
//!         meta nfproto ipv4 tcp flags & (syn | ack) == syn meta mark set 1 tproxy ip to 127.0.0.1:PORT4 accept
//!         meta nfproto ipv6 tcp flags & (syn | ack) == syn meta mark set 1 tproxy ip6 to [::1]:PORT6 accept
//!     }
//! }
//! ```
//!
//! What is marked is delivered here by the uplink's routing rule (`fwmark 1` looks up a table that
//! has `local default dev lo`). A SYN must not look for a transparent socket: the reuse of a port in
//! TIME_WAIT would find the old one and wait for it. Nothing but a SYN may go to the listener: it
//! would swallow the RST that the uplink itself writes. The listeners are on loopback addresses,
//! which nothing outside of this namespace can reach.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use nix::errno::Errno;

use super::explained;
use crate::error::Failure;
use crate::network::nft::batch::ifname;
use crate::network::nft::{Base, Batch, Family, Field, Hook, Rule, Table};
use crate::network::space::Space;

const TABLE: Table<'static> = Table::new(Family::Inet, "ctr-uplink");

/// What the uplink's routing rule looks for.
pub const MARK: u32 = 1;

const SYN: u8 = 0x02;
const SYN_OR_ACK: u8 = 0x12;

/// Leads the SYNs that the uplink writes into the interface `tun` to its listeners at
/// 127.0.0.1:`port4` and \[::1\]:`port6` (none: no IPv6), which must have `IP_TRANSPARENT`, and the
/// further packets of accepted connections to their sockets. Replaces what an uplink before it had.
///
/// # Errors
/// The kernel's refusal, with what it lacks.
pub fn uplink_rules(space: &Space, tun: &str, port4: u16, port6: Option<u16>) -> Result<()> {
    let listeners = [
        (libc::NFPROTO_IPV4, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port4)))),
        (libc::NFPROTO_IPV6, port6.map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, port)))),
    ];
    Batch::load(&mut space.netfilter()?, |batch| write(batch, tun, &listeners)).map_err(|refused| {
        let lacking = matches!(refused.errno, Errno::ENOENT | Errno::EOPNOTSUPP) && refused.index > 0;
        if !lacking {
            return explained("load the rules for connections to the outside", refused);
        }
        Failure::new("load the rules for connections to the outside")
            .source(refused)
            .hint("the kernel needs nft_tproxy and nft_socket: run \"modprobe -a nft_tproxy nft_socket\" as root")
            .into()
    })
}

fn write(batch: &mut Batch, tun: &str, listeners: &[(i32, Option<SocketAddr>)]) {
    const CHAIN: &str = "prerouting";
    let tcp = [u8::try_from(libc::IPPROTO_TCP).unwrap_or_default()];
    batch.fresh_table(TABLE, "connections of containers to the outside");
    batch.chain(TABLE, CHAIN, Some(Base::filter(Hook::Prerouting, -150)));
    let known = Rule::new()
        .is(Field::PROTOCOL, &tcp)
        .bits_are_not(Field::TCP_FLAGS, &[SYN_OR_ACK], &[SYN])
        .is(Field::TRANSPARENT, &[1])
        .mark(MARK)
        .accept();
    batch.rule(TABLE, CHAIN, &known);
    batch.rule(TABLE, CHAIN, &Rule::new().is_not(Field::IN, &ifname(tun)).accept());
    for (family, listener) in listeners {
        let Some(listener) = listener else { continue };
        let new = Rule::new()
            .is(Field::FAMILY, &[u8::try_from(*family).unwrap_or_default()])
            .is(Field::PROTOCOL, &tcp)
            .bits_are(Field::TCP_FLAGS, &[SYN_OR_ACK], &[SYN])
            .mark(MARK)
            .proxy(*listener)
            .accept();
        batch.rule(TABLE, CHAIN, &new);
    }
}
