//! The way from 127.0.0.11:53 to the monitor's resolver, inside a container's network namespace.
//!
//! ```text
//! table ip ctr {
//!     chain ask {
//!         type filter hook output priority raw; policy accept;
//!         ip daddr != 127.0.0.11 accept
//!         udp dport 53 udp dport set PORT
//!         tcp dport 53 tcp dport set PORT
//!     }
//!     chain answer {
//!         type filter hook output priority 300; policy accept;
//!         ip saddr != 127.0.0.11 accept
//!         udp sport PORT udp sport set 53
//!         tcp sport PORT tcp sport set 53
//!     }
//! }
//! ```
//!
//! Nothing is remembered about connections, so it costs nothing where nobody asks. Questions are
//! changed before connection tracking and answers after it: where the container tracks connections
//! itself (Docker in a container), both have the same port there.

use std::net::Ipv4Addr;

use crate::network::netlink::{Refused, Socket};
use crate::network::nft::{Base, Batch, Family, Field, Hook, Rule, Table};

/// Where a container's resolv.conf points to: Docker's address.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const TABLE: Table<'static> = Table::new(Family::Ip, "ctr");
const DOMAIN: u16 = 53;

/// Leads what is sent to port 53 of [`RESOLVER`] to `port` of it, over UDP and TCP. `socket`: for
/// netfilter, of the container's network namespace. Calling it again replaces the port.
///
/// # Errors
/// The kernel's refusal: `EOPNOTSUPP`, `ENOENT`: no nf_tables, or not for IPv4.
pub fn dns_redirect(socket: &mut Socket, port: u16) -> Result<(), Refused> {
    let ends = [
        ("ask", -300, Field::IPV4_DESTINATION, Field::DESTINATION_PORT, DOMAIN, port),
        ("answer", 300, Field::IPV4_SOURCE, Field::SOURCE_PORT, port, DOMAIN),
    ];
    Batch::load(socket, |batch| {
        batch.fresh_table(TABLE, "names are asked of ctr");
        for (chain, priority, address, field, from, to) in ends {
            batch.chain(TABLE, chain, Some(Base::filter(Hook::Output, priority)));
            batch.rule(TABLE, chain, &Rule::new().is_not(address, &RESOLVER.octets()).accept());
            for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
                let rule = Rule::new()
                    .is(Field::PROTOCOL, &[u8::try_from(protocol).unwrap_or_default()])
                    .is(field, &from.to_be_bytes())
                    .set_port(field, protocol == libc::IPPROTO_TCP, to);
                batch.rule(TABLE, chain, &rule);
            }
        }
    })
}
