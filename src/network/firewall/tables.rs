//! The table `inet ctr`: its rules are shown in `mod.rs`.

use std::net::Ipv4Addr;

use crate::network::nft::batch::Hook;
use crate::network::nft::{Base, Batch, Family, Field, Kind, Rule, Set, Table};
use crate::network::space::Space;

pub const TABLE: Table<'static> = Table::new(Family::Inet, "ctr");

pub const BRIDGES: &str = "bridges";
pub const SAME_BRIDGE: &str = "same_bridge";
pub const INTERNAL: &str = "internal";
/// Of IPv4 and of IPv6, as all that are two.
pub const MASQUERADE: [&str; 2] = ["masqueraded4", "masqueraded6"];
pub const SOURCES: [&str; 2] = ["sources4", "sources6"];
pub const UNPROTECTED: [&str; 2] = ["unprotected4", "unprotected6"];
pub const ROUTED: [&str; 2] = ["routed4", "routed6"];
pub const TRUSTED: &str = "trusted";
pub const REACHED: [&str; 2] = ["reached4", "reached6"];
pub const LOOPBACK: &str = "loopback";
pub const PORTS4: &str = "ports4";
pub const PORTS6: &str = "ports6";
pub const ANYWHERE4: &str = "anywhere4";
pub const ANYWHERE6: &str = "anywhere6";

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: [u8; 1] = [2];
const IPV6: [u8; 1] = [10];
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)` and `…(IP_CT_RELATED)`.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`.
const ICMP: [[u8; 1]; 2] = [[1], [58]];
/// `IPS_DST_NAT`: its destination was translated.
const TRANSLATED: u32 = 1 << 5;
/// Of a packet's mark, from `forward` to `leaving`: it goes back to the bridge that it came from.
/// There is no name of the interface it came by in `leaving` where bridged packets pass.
const BACK: u32 = 1 << 27;
/// `RTN_LOCAL`: an address of this machine.
const LOCAL: u32 = 2;

const SETS: [Set<'static>; 3] = [
    set(BRIDGES, &[Kind::Ifname], "bridges of all networks"),
    set(SAME_BRIDGE, &[Kind::Ifname, Kind::Ifname], "each bridge twice: in and out"),
    set(INTERNAL, &[Kind::Ifname], "bridges of internal networks"),
];

/// Of this machine's own namespace, to which others have routes.
const ROUTING: [Set<'static>; 7] = [
    set(UNPROTECTED[0], &[Kind::Ifname], "bridges of which all is reached by who has a route"),
    set(UNPROTECTED[1], &[Kind::Ifname], "bridges of which all is reached by who has a route"),
    set(ROUTED[0], &[Kind::Ifname], "bridges of which what is published is reached by who has a route"),
    set(ROUTED[1], &[Kind::Ifname], "bridges of which what is published is reached by who has a route"),
    set(TRUSTED, &[Kind::Ifname, Kind::Ifname], "interfaces by which what is published on a bridge is reached"),
    set(REACHED[0], &[Kind::Ipv4, Kind::Protocol, Kind::Port], "published there"),
    set(REACHED[1], &[Kind::Ipv6, Kind::Protocol, Kind::Port], "published there"),
];

const TRANSLATING: [Set<'static>; 9] = [
    set(MASQUERADE[0], &[Kind::Ifname], "bridges that leave under this machine's address"),
    set(MASQUERADE[1], &[Kind::Ifname], "bridges that leave under this machine's address"),
    Set { name: SOURCES[0], key: &[Kind::Ifname], value: &[Kind::Ipv4], comment: "and under this one" },
    Set { name: SOURCES[1], key: &[Kind::Ifname], value: &[Kind::Ipv6], comment: "and under this one" },
    set(LOOPBACK, &[Kind::Ipv4, Kind::Ipv4], "containers with --host-loopback, and their gateways"),
    Set {
        name: PORTS4,
        key: &[Kind::Ipv4, Kind::Protocol, Kind::Port],
        value: &[Kind::Ipv4, Kind::Port],
        comment: "published for one address",
    },
    Set {
        name: ANYWHERE4,
        key: &[Kind::Protocol, Kind::Port],
        value: &[Kind::Ipv4, Kind::Port],
        comment: "published for all addresses",
    },
    Set {
        name: PORTS6,
        key: &[Kind::Ipv6, Kind::Protocol, Kind::Port],
        value: &[Kind::Ipv6, Kind::Port],
        comment: "published for one address",
    },
    Set {
        name: ANYWHERE6,
        key: &[Kind::Protocol, Kind::Port],
        value: &[Kind::Ipv6, Kind::Port],
        comment: "published for all addresses",
    },
];

const fn set(name: &'static str, key: &'static [Kind], comment: &'static str) -> Set<'static> {
    Set { name, key, value: &[], comment }
}

/// Puts the whole table, without elements, in place of what is there.
pub fn write(batch: &mut Batch, space: &Space) {
    batch.fresh_table(TABLE, "networks of ctr");
    let translated = matches!(space, Space::Here);
    for set in SETS.iter().chain(if translated { &ROUTING[..] } else { &[] }) {
        batch.set(TABLE, set);
    }
    batch.chain(TABLE, "early", Some(Base::filter(Hook::Prerouting, -300)));
    let loopback = Rule::new().is(Field::FAMILY, &IPV4);
    let loopback = in_loopback(loopback, Field::IPV4_DESTINATION).within(&[Field::IN], BRIDGES).drop();
    batch.rule(TABLE, "early", &loopback);

    batch.chain(TABLE, "forward", Some(Base::filter(Hook::Forward, 0)));
    if translated {
        batch.rule(TABLE, "forward", &Rule::new().any_of(Field::CT_STATE, ESTABLISHED_OR_RELATED).accept());
    }
    if translated {
        let back = Rule::new().any_of(Field::CT_STATUS, TRANSLATED);
        let back = back.within(&[Field::IN, Field::OUT], SAME_BRIDGE).mark_bits(BACK, true).accept();
        batch.rule(TABLE, "forward", &back);
    }
    let isolation = [
        Rule::new().within(&[Field::IN, Field::OUT], SAME_BRIDGE).accept(),
        Rule::new().within(&[Field::IN], INTERNAL).drop(),
        Rule::new().within(&[Field::OUT], INTERNAL).drop(),
    ];
    let between = if translated {
        let published = Rule::new().any_of(Field::CT_STATUS, TRANSLATED).within(&[Field::OUT], BRIDGES).accept();
        let mut between = vec![published];
        between.extend(by_route());
        between.push(Rule::new().within(&[Field::OUT], BRIDGES).drop());
        between
    } else {
        // From the outside come only packets that the uplink wrote.
        vec![Rule::new().within(&[Field::IN], BRIDGES).within(&[Field::OUT], BRIDGES).drop()]
    };
    for rule in isolation.iter().chain(&between) {
        batch.rule(TABLE, "forward", rule);
    }
    if translated {
        write_translation(batch);
    }
}

/// What comes for containers' own addresses.
fn by_route() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (n, address) in [Field::IPV4_DESTINATION, Field::IPV6_DESTINATION].into_iter().enumerate() {
        let family = Rule::new().is(Field::FAMILY, &[IPV4, IPV6][n]);
        let published =
            |rule: Rule| rule.within(&[address, Field::PROTOCOL, Field::DESTINATION_PORT], REACHED[n]).accept();
        rules.extend([
            family.clone().not_within(&[Field::IN], BRIDGES).within(&[Field::OUT], UNPROTECTED[n]).accept(),
            Rule::new().within(&[Field::OUT], ROUTED[n]).is(Field::PROTOCOL, &ICMP[n]).accept(),
            published(family.clone().within(&[Field::OUT], ROUTED[n])),
            published(family.within(&[Field::IN, Field::OUT], TRUSTED)),
        ]);
    }
    rules
}

fn write_translation(batch: &mut Batch) {
    for set in &TRANSLATING {
        batch.set(TABLE, set);
    }
    batch.chain(TABLE, "published", None);
    let v4 = || Rule::new().is(Field::FAMILY, &IPV4);
    let v6 = || Rule::new().is(Field::FAMILY, &IPV6);
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let port = [Field::PROTOCOL, Field::DESTINATION_PORT];
    let published = [
        v4().redirect_by(&[Field::IPV4_DESTINATION, port[0], port[1]], PORTS4, false),
        v4().redirect_by(&port, ANYWHERE4, false),
        // Nothing from ::1 leaves the loopback interface: there is no route_localnet for IPv6.
        v6().is(Field::IPV6_DESTINATION, &loopback).leave(),
        v6().redirect_by(&[Field::IPV6_DESTINATION, port[0], port[1]], PORTS6, true),
        v6().redirect_by(&port, ANYWHERE6, true),
    ];
    for rule in &published {
        batch.rule(TABLE, "published", rule);
    }
    for (chain, hook) in [("arriving", Hook::Prerouting), ("own", Hook::Output)] {
        batch.chain(TABLE, chain, Some(Base::nat(hook, -100)));
        if hook == Hook::Prerouting {
            // Translated here, it would go past the kernel's check for addresses that no cable can bring.
            batch.rule(TABLE, chain, &in_loopback(v4(), Field::IPV4_DESTINATION).leave());
        }
        let here = Rule::new().is(Field::DESTINATION_KIND, &LOCAL.to_ne_bytes()).jump("published");
        batch.rule(TABLE, chain, &here);
        if hook == Hook::Prerouting {
            // After the published ports, which stay where they are. Nobody beside this machine is meant,
            // whatever addresses he has.
            let loopback = v4().within(&[Field::IPV4_SOURCE, Field::IPV4_DESTINATION], LOOPBACK);
            let loopback = loopback.within(&[Field::IN], BRIDGES).redirect_to(Ipv4Addr::LOCALHOST);
            batch.rule(TABLE, chain, &loopback);
        }
    }
    batch.chain(TABLE, "leaving", Some(Base::nat(Hook::Postrouting, 100)));
    let mut leaving = vec![
        in_loopback(v4(), Field::IPV4_SOURCE).within(&[Field::OUT], BRIDGES).masquerade(),
        Rule::new().bits_are(Field::MARK, &BACK.to_ne_bytes(), &BACK.to_ne_bytes()).mark_bits(BACK, false).masquerade(),
    ];
    for (n, family) in [v4(), v6()].into_iter().enumerate() {
        leaving.extend([
            family.clone().not_within(&[Field::OUT], BRIDGES).leave_as(Field::IN, SOURCES[n], n == 1),
            family.within(&[Field::IN], MASQUERADE[n]).not_within(&[Field::OUT], BRIDGES).masquerade(),
        ]);
    }
    for rule in &leaving {
        batch.rule(TABLE, "leaving", rule);
    }
}

/// 127.0.0.0/8.
fn in_loopback(rule: Rule, field: Field) -> Rule {
    rule.bits_are(field, &[255, 0, 0, 0], &[127, 0, 0, 0])
}
