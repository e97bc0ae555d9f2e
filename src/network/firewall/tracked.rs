//! Connections that the kernel remembers: `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::Ipv4Addr;

use anyhow::Result;
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::netlink::{Message, Socket, attribute, flags};

/// `NFNL_SUBSYS_CTNETLINK`, with `IPCTNL_MSG_CT_GET` and `…_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_TUPLE_ORIG`: who sent to whom, as the first packet said.
const ORIGINAL: u16 = 1;
const CTA_ID: u16 = 12;

/// Forgets the UDP exchanges that were begun with one of these ports of whatever address.
pub fn forget_udp(socket: &mut Socket, ports: &[u16]) -> Result<()> {
    forget(socket, |tuple| {
        // CTA_TUPLE_PROTO with CTA_PROTO_NUM and CTA_PROTO_DST_PORT.
        let Some(protocol) = attribute(tuple, 2) else { return false };
        let port = attribute(protocol, 3).and_then(|p| p.first_chunk()).map(|two| u16::from_be_bytes(*two));
        attribute(protocol, 1) == Some(&[17]) && port.is_some_and(|port| ports.contains(&port))
    })
}

/// Forgets what `from` has begun with `to`, whatever its protocol.
pub fn forget_between(socket: &mut Socket, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
    forget(socket, |tuple| {
        // CTA_TUPLE_IP with CTA_IP_V4_SRC and CTA_IP_V4_DST.
        let Some(addresses) = attribute(tuple, 1) else { return false };
        attribute(addresses, 1) == Some(&from.octets()) && attribute(addresses, 2) == Some(&to.octets())
    })
}

/// Forgets those whose first packet, as `CTA_TUPLE_ORIG` has it, is one that is meant.
fn forget(socket: &mut Socket, is_meant: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut found = Vec::new();
    let listed = socket.dump(Message::new(GET, flags::DUMP, &[0; 4]), |_, message| {
        let (Some(family), Some(body)) = (message.first(), message.get(4..)) else { return };
        let Some(tuple) = attribute(body, ORIGINAL) else { return };
        if is_meant(tuple) {
            let id = attribute(body, CTA_ID).unwrap_or_default().to_vec();
            found.push((*family, tuple.to_vec(), id));
        }
    });
    match listed {
        // Nothing is tracked, or it cannot be asked for: then it ends by itself, in 30 or 120 seconds.
        Err(refused) if refused.errno == Errno::EOPNOTSUPP => return Ok(()),
        listed => listed.map_err(|refused| Failure::new("list connections").source(refused))?,
    }
    for (family, tuple, id) in found {
        let mut message = Message::new(DELETE, 0, &[family, 0, 0, 0]);
        message.put(NESTED | ORIGINAL, &tuple);
        if !id.is_empty() {
            message.put(CTA_ID, &id);
        }
        match socket.request(message) {
            // Gone by itself meanwhile.
            Err(refused) if refused.errno == Errno::ENOENT => {}
            done => done.map_err(|refused| Failure::new("forget a connection").source(refused))?,
        }
    }
    Ok(())
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
