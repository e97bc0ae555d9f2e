//! The table `bridge ctr`: its rules are shown in `mod.rs`.

use super::MemberRules;
use crate::network::nft::batch::{Hook, ifname};
use crate::network::nft::{Base, Batch, Element, Family, Field, Kind, Rule, Set, Table};

pub const TABLE: Table<'static> = Table::new(Family::Bridge, "ctr");

const PORTS: &str = "ports";
const MACS: &str = "macs";
const SOURCES4: &str = "ipv4";
const SOURCES6: &str = "ipv6";

/// `ETH_P_…`.
const ETH_IP: [u8; 2] = [0x08, 0x00];
const ETH_ARP: [u8; 2] = [0x08, 0x06];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];

/// ICMPv6: RFC 4861 and 3810.
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;
const LISTENER_REPORT: u8 = 143;

/// fe80::/10.
const LINK_LOCAL_MASK: [u8; 16] = [0xff, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Puts the whole table, without elements, in place of what is there.
pub fn write(batch: &mut Batch) {
    batch.fresh_table(TABLE, "what containers may send");
    for (name, key, comment) in [
        (PORTS, &[Kind::Ifname][..], "the containers' sides of bridges"),
        (MACS, &[Kind::Ifname, Kind::Ether], ""),
        (SOURCES4, &[Kind::Ifname, Kind::Ether, Kind::Ipv4], ""),
        (SOURCES6, &[Kind::Ifname, Kind::Ether, Kind::Ipv6], ""),
    ] {
        batch.set(TABLE, &Set { name, key, value: &[], comment });
    }
    // Each rule says what it looks into, or `nft` could not read what it has shown (`rules_that_are_saved…`).
    let in_arp = || Rule::new().is(Field::ETHERTYPE, &ETH_ARP);
    let in_ipv6 = || Rule::new().is(Field::ETHERTYPE, &ETH_IPV6);
    let icmp = |kind| in_ipv6().is(Field::PROTOCOL, &[58]).is(Field::ICMPV6_TYPE, &[kind]);
    let nobody = |rule: Rule| rule.is(Field::IPV6_SOURCE, &[0; 16]).accept();
    let sender = [Field::IN, Field::ETHER_SOURCE];
    let arp = [Field::IN, Field::ARP_SENDER_ETHER];
    let chains = [
        (
            "check_arp",
            None,
            vec![
                in_arp().within(&[arp[0], arp[1], Field::ARP_SENDER], SOURCES4).accept(),
                // A question whether anybody has an address; nobody learns from it.
                in_arp().is(Field::ARP_SENDER, &[0; 4]).within(&arp, MACS).accept(),
                Rule::new().drop(),
            ],
        ),
        (
            "check_ipv6",
            None,
            vec![
                icmp(ROUTER_ADVERTISEMENT).drop(),
                icmp(REDIRECT).drop(),
                icmp(NEIGHBOUR_ADVERTISEMENT)
                    .bits_are_not(Field::ND_TARGET, &LINK_LOCAL_MASK, &LINK_LOCAL)
                    .not_within(&[sender[0], sender[1], Field::ND_TARGET], SOURCES6)
                    .drop(),
                in_ipv6().within(&[sender[0], sender[1], Field::IPV6_SOURCE], SOURCES6).accept(),
                in_ipv6().bits_are(Field::IPV6_SOURCE, &LINK_LOCAL_MASK, &LINK_LOCAL).accept(),
                // Whether an address is free is asked without one (RFC 4862).
                nobody(icmp(NEIGHBOUR_SOLICITATION)),
                nobody(icmp(LISTENER_REPORT)),
                Rule::new().drop(),
            ],
        ),
        (
            "from_containers",
            Some(Base::filter(Hook::Prerouting, -200)),
            vec![
                // Nearly every packet is done with this one.
                Rule::new()
                    .is(Field::ETHERTYPE, &ETH_IP)
                    .within(&[sender[0], sender[1], Field::IPV4_SOURCE], SOURCES4)
                    .accept(),
                Rule::new().not_within(&[Field::IN], PORTS).accept(),
                Rule::new().not_within(&sender, MACS).drop(),
                Rule::new().is(Field::ETHERTYPE, &ETH_IPV6).jump("check_ipv6"),
                Rule::new().is(Field::ETHERTYPE, &ETH_ARP).jump("check_arp"),
                Rule::new().is(Field::ETHERTYPE, &ETH_IP).drop(),
            ],
        ),
    ];
    for (name, base, rules) in &chains {
        batch.chain(TABLE, name, *base);
        for rule in rules {
            batch.rule(TABLE, name, rule);
        }
    }
}

/// A container's elements, each with its set.
pub fn elements(member: &MemberRules) -> Vec<(Table<'static>, &'static str, Element)> {
    let port = ifname(&member.port);
    let mut found = vec![(TABLE, PORTS, Element::new(&[&port])), (TABLE, MACS, Element::new(&[&port, &member.mac]))];
    found.extend(member.ipv4.map(|ip| (TABLE, SOURCES4, Element::new(&[&port, &member.mac, &ip.octets()]))));
    found.extend(member.ipv6.map(|ip| (TABLE, SOURCES6, Element::new(&[&port, &member.mac, &ip.octets()]))));
    found
}
