//! What this kernel can do, tried out: modules can be missing one by one, and nothing lists them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use nix::errno::Errno;

use super::explained;
use crate::network::netlink::Socket;
use crate::network::nft::{Base, Batch, Family, Field, Hook, Rule, Table};

/// What the kernel has, usable by who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Address translation, masquerading and what they need: connection tracking, `fib`.
    pub nat: bool,
    /// Rules for bridges: that containers cannot use others' addresses.
    pub bridge: bool,
    /// Connections given to transparent listeners: what the uplink is built on.
    pub proxy: bool,
}

/// Tries the features in a namespace without leaving anything behind: all of them in one batch that
/// ends with something impossible. It costs the kernel a few milliseconds, as everything does that
/// takes rules away: for `network doctor` and errors, not for each start.
///
/// # Errors
/// No nf_tables, or no right to use it.
pub fn probe(socket: &mut Socket) -> Result<Features> {
    let mut features = Features { nat: true, bridge: true, proxy: true };
    loop {
        let (batch, ends) = attempt(features);
        let Err(refused) = batch.send(socket) else { return Ok(features) };
        // What a batch begins with is its message 0.
        match ends.iter().position(|end| refused.index < *end) {
            _ if refused.index == 0 || refused.errno == Errno::EPERM => {
                return Err(explained("try the kernel's rules", refused));
            }
            Some(0) if features.nat => features.nat = false,
            Some(1) if features.bridge => features.bridge = false,
            Some(2) if features.proxy => features.proxy = false,
            _ => return Ok(features),
        }
    }
}

/// The batch, and behind which of its messages each feature's end.
fn attempt(features: Features) -> (Batch, [usize; 3]) {
    const NAME: &str = "ctr-probe";
    let mut batch = Batch::new();
    let mut ends = [0; 3];
    if features.nat {
        let table = Table::new(Family::Inet, NAME);
        batch.table(table).chain(table, "nat", Some(Base::nat(Hook::Postrouting, 100)));
        batch.rule(table, "nat", &Rule::new().any_of(Field::CT_STATUS, 32).masquerade());
        batch.chain(table, "fib", Some(Base::filter(Hook::Prerouting, 0)));
        batch.rule(table, "fib", &Rule::new().is(Field::DESTINATION_KIND, &2_u32.to_ne_bytes()).accept());
    }
    ends[0] = batch.len();
    if features.bridge {
        let table = Table::new(Family::Bridge, NAME);
        batch.table(table).chain(table, "bridge", Some(Base::filter(Hook::Prerouting, 0)));
    }
    ends[1] = batch.len();
    if features.proxy {
        let table = Table::new(Family::Inet, "ctr-probe-proxy");
        batch.table(table).chain(table, "proxy", Some(Base::filter(Hook::Prerouting, -150)));
        batch.rule(table, "proxy", &Rule::new().is(Field::TRANSPARENT, &[1]).accept());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        batch.rule(table, "proxy", &Rule::new().is(Field::FAMILY, &[2]).proxy(to).accept());
    }
    ends[2] = batch.len();
    batch.delete_table(Table::new(Family::Inet, "ctr-no-such-table"));
    (batch, ends)
}
