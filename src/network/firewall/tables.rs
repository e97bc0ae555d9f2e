//! The table `inet ctr`: its rules are shown in `mod.rs`.

use std::net::Ipv4Addr;

use crate::network::nft::batch::Hook;
use crate::network::nft::{Base, Batch, Family, Field, Kind, Rule, Set, Table};
use crate::network::space::Space;

pub const TABLE: Table<'static> = Table::new(Family::Inet, "ctr");

pub const BRIDGES: &str = "bridges";
pub const SAME_BRIDGE: &str = "same_bridge";
pub const INTERNAL: &str = "internal";
pub const MASQUERADE: &str = "masqueraded";
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

const TRANSLATING: [Set<'static>; 6] = [
    set(MASQUERADE, &[Kind::Ifname], "bridges that leave under this machine's address"),
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
    for set in &SETS {
        batch.set(TABLE, set);
    }
    batch.chain(TABLE, "early", Some(Base::filter(Hook::Prerouting, -300)));
    let loopback = Rule::new().is(Field::FAMILY, &IPV4);
    let loopback = in_loopback(loopback, Field::IPV4_DESTINATION).within(&[Field::IN], BRIDGES).drop();
    batch.rule(TABLE, "early", &loopback);

    batch.chain(TABLE, "forward", Some(Base::filter(Hook::Forward, 0)));
    let translated = matches!(space, Space::Here);
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
        vec![
            Rule::new().any_of(Field::CT_STATUS, TRANSLATED).within(&[Field::OUT], BRIDGES).accept(),
            Rule::new().within(&[Field::OUT], BRIDGES).drop(),
        ]
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
    let leaving = [
        in_loopback(v4(), Field::IPV4_SOURCE).within(&[Field::OUT], BRIDGES).masquerade(),
        Rule::new().bits_are(Field::MARK, &BACK.to_ne_bytes(), &BACK.to_ne_bytes()).mark_bits(BACK, false).masquerade(),
        Rule::new().within(&[Field::IN], MASQUERADE).not_within(&[Field::OUT], BRIDGES).masquerade(),
    ];
    for rule in &leaving {
        batch.rule(TABLE, "leaving", rule);
    }
}

/// 127.0.0.0/8.
fn in_loopback(rule: Rule, field: Field) -> Rule {
    rule.bits_are(field, &[255, 0, 0, 0], &[127, 0, 0, 0])
}
