//! What may reach what: rules of ctr's own, in tables of ctr's own, beside everybody else's.
//!
//! The rules themselves never change. What differs from network to network and from container to
//! container is in sets and maps, so that a container, or a thousand published ports, cost one batch of
//! elements, and a packet costs the same with one container or with a thousand. This is the
//! whole, as `nft list ruleset` shows it, sets left out:
//!
//! ```text
//! table inet ctr {
//!     set bridges     { type ifname }                the bridges of all networks
//!     set same_bridge { type ifname . ifname }       each of them twice
//!     set internal    { type ifname }                those of internal networks
//!     set unprotected4 { type ifname }               those of gateway mode nat-unprotected
//!     set routed4     { type ifname }                those of gateway mode routed
//!     set trusted     { type ifname . ifname }       interfaces whose packets may go to a bridge's published ports
//!     set reached4    { type ipv4_addr . inet_proto . inet_service }   those ports, as containers have them
//!     set masqueraded4 { type ifname }               those whose addresses nobody outside may see
//!     map sources4    { type ifname : ipv4_addr }    what is seen in place of them, if not any address of ours
//!     set unprotected6, routed6, reached6, masqueraded6, map sources6   alike
//!     set loopback    { type ipv4_addr . ipv4_addr } containers with --host-loopback, and their gateways
//!     map ports4      { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!     map anywhere4   { type inet_proto . inet_service : ipv4_addr . inet_service }
//!     map ports6, map anywhere6                      alike
//!
//!     chain early {
//!         type filter hook prerouting priority raw; policy accept;
//!         ip daddr 127.0.0.0/8 iifname @bridges drop
//!     }
//!     chain forward {
//!         type filter hook forward priority filter; policy accept;
//!         ct state established,related accept
//!         ct status dnat iifname . oifname @same_bridge meta mark set meta mark | 0x08000000 accept
//!         iifname . oifname @same_bridge accept
//!         iifname @internal drop
//!         oifname @internal drop
//!         ct status dnat oifname @bridges accept
//!         meta nfproto ipv4 iifname != @bridges oifname @unprotected4 accept
//!         oifname @routed4 meta l4proto icmp accept
//!         oifname @routed4 ip daddr . meta l4proto . th dport @reached4 accept
//!         iifname . oifname @trusted ip daddr . meta l4proto . th dport @reached4 accept
//!         meta nfproto ipv6 iifname != @bridges oifname @unprotected6 accept
//!         oifname @routed6 meta l4proto ipv6-icmp accept
//!         oifname @routed6 ip6 daddr . meta l4proto . th dport @reached6 accept
//!         iifname . oifname @trusted ip6 daddr . meta l4proto . th dport @reached6 accept
//!         oifname @bridges drop
//!     }
//!     chain published {
//!         dnat ip to ip daddr . meta l4proto . th dport map @ports4
//!         meta nfproto ipv4 dnat ip to meta l4proto . th dport map @anywhere4
//!         ip6 daddr ::1 return
//!         dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
//!         meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @anywhere6
//!     }
//!     chain arriving {
//!         type nat hook prerouting priority dstnat; policy accept;
//!         ip daddr 127.0.0.0/8 return
//!         fib daddr type local jump published
//!         ip saddr . ip daddr @loopback iifname @bridges dnat ip to 127.0.0.1
//!     }
//!     chain own {
//!         type nat hook output priority -100; policy accept;
//!         fib daddr type local jump published
//!     }
//!     chain leaving {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr 127.0.0.0/8 oifname @bridges masquerade
//!         meta mark & 0x08000000 == 0x08000000 meta mark set meta mark & 0xf7ffffff masquerade
//!         meta nfproto ipv4 oifname != @bridges snat ip to iifname map @sources4
//!         meta nfproto ipv4 iifname @masqueraded4 oifname != @bridges masquerade
//!         meta nfproto ipv6 oifname != @bridges snat ip6 to iifname map @sources6
//!         meta nfproto ipv6 iifname @masqueraded6 oifname != @bridges masquerade
//!     }
//! }
//! table bridge ctr {
//!     set ports { type ifname }                                  the containers' sides of bridges
//!     set macs  { type ifname . ether_addr }
//!     set ipv4  { type ifname . ether_addr . ipv4_addr }
//!     set ipv6  { type ifname . ether_addr . ipv6_addr }
//!
//!     chain check_arp {
//!         iifname . arp saddr ether . arp saddr ip @ipv4 accept
//!         arp saddr ip 0.0.0.0 iifname . arp saddr ether @macs accept
//!         drop
//!     }
//!     chain check_ipv6 {
//!         icmpv6 type nd-router-advert drop
//!         icmpv6 type nd-redirect drop
//!         icmpv6 type nd-neighbor-advert icmpv6 taddr & ffc0:: != fe80:: iifname . ether saddr . icmpv6 taddr != @ipv6 drop
//!         iifname . ether saddr . ip6 saddr @ipv6 accept
//!         ip6 saddr fe80::/10 accept
//!         icmpv6 type nd-neighbor-solicit ip6 saddr :: accept
//!         icmpv6 type mld2-listener-report ip6 saddr :: accept
//!         drop
//!     }
//!     chain from_containers {
//!         type filter hook prerouting priority filter; policy accept;
//!         iifname . ether saddr . ip saddr @ipv4 accept
//!         iifname != @ports accept
//!         iifname . ether saddr != @macs drop
//!         meta protocol ip6 jump check_ipv6
//!         meta protocol arp jump check_arp
//!         meta protocol ip drop
//!     }
//! }
//! ```
//!
//! - A container reaches its neighbours on the bridge and the outside. Other bridges, and containers
//!   from outside, are reached through published ports only, unless the network's gateway mode lets
//!   who has a route to containers' own addresses in. `same_bridge` is for machines where
//!   bridged packets pass here too (`bridge-nf-call-iptables`).
//! - Clients on this machine's loopback addresses are led to containers too: `route_localnet` of the
//!   bridge, which [`load_network`] sets after `early` is there to keep containers from ours
//!   (CVE-2020-8558). They and containers that reach themselves, or a neighbour, through this
//!   machine's address (bit 27 of the mark) come from the bridge's own, or the answers would not come back the same way.
//! - A container with `--host-loopback` meets this machine's 127.0.0.1 at its gateway, published ports
//!   aside. `spoofing` sees to it that no other one has its address.
//! - A port that is published on a loopback address is this machine's alone: what comes for it by a
//!   cable, from a machine beside this one, is not translated, and so thrown away by the kernel.
//! - A container cannot speak for another: MAC, IPv4, ARP, IPv6 and neighbour advertisements are
//!   compared with what it was given, and it is no router (CVE-2020-10749).
//! - In the namespace of an ordinary user's containers ([`Space::Apart`]) no address is translated, and
//!   `forward` does without connection tracking, which would cost each packet:
//!
//! ```text
//!     chain forward {
//!         type filter hook forward priority filter; policy accept;
//!         iifname . oifname @same_bridge accept
//!         iifname @internal drop
//!         oifname @internal drop
//!         iifname @bridges oifname @bridges drop
//!     }
//! ```
//!
//! (An older `nft` has no word for `icmpv6 taddr`: it shows an offset, and does not read that again.) An `accept` here is no accept in other tables. What other firewalls make of ctr's traffic is
//! [`foreign`]'s matter.
//!
//! Nothing here is remembered: an administrator who flushes all rules takes ctr's with them. Whatever
//! is then changed finds no table ([`is_missing`]), and the caller loads everything from its records
//! ([`load_all`]). That is also how it is loaded for the first time.
//!
//! ```text
//! load      networks, members, published ports: loaded, changed, taken away
//! tables    the rules above
//! spoofing  those of the bridges' table
//! tracked   connections that the kernel remembers and must forget
//! probe     what this kernel can do of it
//! foreign   ufw, firewalld, Docker
//! drops     rules of others that drop what containers send
//! dns       the way to the resolver, inside a container's namespace
//! uplink    the way to the uplink, inside an ordinary user's
//! ```

pub mod dns;
pub mod drops;
pub mod foreign;
mod load;
pub mod probe;
mod spoofing;
mod tables;
mod tracked;
pub mod uplink;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

pub use self::dns::dns_redirect;
pub use self::foreign::Foreign;
pub use self::load::{
    All, add_member, load_all, load_network, publish, remove_member, rest, serves, unload_all, unload_network,
    unload_unused, unpublish,
};
pub use self::probe::{Features, probe};
pub use self::uplink::{MARK, uplink_rules};
use crate::error::Failure;
use crate::network::Published;
use crate::network::netlink::Refused;
use crate::network::settings::GatewayMode;
#[allow(unused_imports, reason = "for the page above")]
use crate::network::space::Space;

/// What the rules have to know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRules {
    /// The bridge's name.
    pub bridge: String,
    pub internal: bool,
    /// Of IPv4 and of IPv6.
    pub ways: [Way; 2],
    /// Interfaces by which its published ports are reached at containers' own addresses.
    pub trusted: Vec<String>,
}

/// How a network's addresses of one family and what is outside come together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    pub mode: GatewayMode,
    /// Its containers leave under this machine's address
    /// (`com.docker.network.bridge.enable_ip_masquerade`).
    pub masquerade: bool,
    /// Under this one; `None`: that of the interface which they leave by.
    pub source: Option<IpAddr>,
}

/// What the rules have to know of a container's connection to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRules {
    /// Its side of the bridge.
    pub port: String,
    /// The interface's in the container.
    pub mac: [u8; 6],
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// The gateway at which it meets this machine's 127.0.0.1.
    pub loopback: Option<Ipv4Addr>,
}

/// A port of this machine's, and the container's address and port that it leads to. Without one of
/// this machine's ([`Published::is_routed`]): who has a route to the container's may come to it.
pub type Publication = (Published, SocketAddr);

/// Whether the reason is that ctr's tables are not there: never loaded, or flushed by somebody.
/// [`load_all`] helps.
#[must_use]
pub fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<Refused>()).any(|refused| refused.errno == Errno::ENOENT)
}

/// The refusal of a batch, with what can be done.
fn explained(what: &str, refused: Refused) -> anyhow::Error {
    // The edge of a batch is refused with this where nothing in the kernel takes it.
    if refused.index == 0 && matches!(refused.errno, Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) {
        return no_nf_tables().source(refused).into();
    }
    Failure::new(what).source(refused).into()
}

fn no_nf_tables() -> Failure {
    Failure::new("this kernel has no nf_tables").hint(
        "run \"modprobe nf_tables\" as root, or use a kernel with CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and \
         CONFIG_NF_TABLES_BRIDGE; \"--network host\" and \"--network none\" work without",
    )
}

#[cfg(test)]
mod tests;
