//! Rules of other tables that drop some of what containers send or are sent: `iifname "br-x" drop` in
//! somebody's `forward`. Ours cannot open what they close; they can be named.
//!
//! A rule counts if it drops or rejects, in a chain that forwarded packets come through, and its
//! conditions on interfaces let a bridge of ctr's through, or there are none. What depends on a
//! connection's state is left out (`ct state invalid drop` is everywhere), and so are rules for what
//! comes in for this machine that name no bridge, and the chains of ufw, firewalld and Docker, of which
//! [`foreign`](super::foreign) knows more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Result;

use super::explained;
use crate::network::link::Link;
use crate::network::netlink::{Socket, attribute, number, text};
use crate::network::nft::list::{self, Chain, Listed};
use crate::network::nft::{Family, Hook, Table};

/// A rule that drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    /// As `nft` names it: `inet filter forward`.
    pub chain: String,
    /// What it says, as far as it is understood; `…`: something else.
    pub rule: String,
    pub handle: u64,
}

/// Those of all tables that concern one of the bridges. `outside`: the interface that leads there.
///
/// # Errors
/// What the kernel refuses.
pub fn find(socket: &mut Socket, bridges: &[Link], outside: Option<&str>) -> Result<Vec<Dropping>> {
    let failed = |refused| explained("list the rules of this machine", refused);
    let chains = list::chains(socket).map_err(failed)?;
    let mut tables: BTreeMap<(u8, &str), Vec<&Chain>> = BTreeMap::new();
    for chain in chains.iter().filter(|chain| hook(chain).is_some()) {
        tables.entry((chain.family, &chain.table)).or_default().push(chain);
    }
    let mut found = Vec::new();
    for ((family, name), bases) in tables {
        let families = [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")];
        let Some((family, word)) = families.into_iter().find(|(f, _)| *f as u8 == family) else { continue };
        if matches!(name, "ctr" | "ctr-uplink" | "firewalld") {
            continue;
        }
        let rules = list::rules(socket, Table::new(family, name)).map_err(failed)?;
        let rules: Vec<(&Listed, Told)> = rules.iter().map(|rule| (rule, Told::of(rule))).collect();
        for (hook, base) in bases.into_iter().filter_map(|base| Some((hook(base)?, base))) {
            let reached = reached(&base.name, &rules, |told| told.meets(bridges, outside));
            let its = rules.iter().filter(|(rule, _)| reached.contains(rule.chain.as_str()));
            for (rule, told) in its.filter(|(_, told)| told.concerns(hook, bridges, outside)) {
                let chain = format!("{word} {name} {}", rule.chain);
                found.push(Dropping { chain, rule: told.text.clone(), handle: rule.handle });
            }
        }
    }
    // A chain that both hooks come to is one.
    let mut seen = BTreeSet::new();
    found.retain(|dropping| seen.insert((dropping.chain.clone(), dropping.handle)));
    Ok(found)
}

/// The hooks that matter: what is forwarded, and what is for this machine.
fn hook(chain: &Chain) -> Option<Hook> {
    [Hook::Forward, Hook::Input].into_iter().find(|hook| chain.hook == Some(*hook as u32))
}

/// The chains that a packet can come to from this one, by rules that may be about it.
fn reached<'a>(base: &'a str, rules: &'a [(&Listed, Told)], meets: impl Fn(&Told) -> bool) -> BTreeSet<&'a str> {
    let is_known = |chain: &str| chain.starts_with("ufw-") || chain.starts_with("DOCKER");
    let mut reached = BTreeSet::from([base]);
    let mut open = vec![base];
    while let Some(chain) = open.pop() {
        let jumps = rules.iter().filter(|(rule, told)| rule.chain == chain && meets(told));
        let jumps = jumps.filter_map(|(_, told)| told.jump.as_deref());
        open.extend(jumps.filter(|to| !is_known(to) && reached.insert(to)));
    }
    reached
}

/// A condition on an interface.
#[derive(Debug, PartialEq, Eq)]
struct Interface {
    /// The one that a packet comes by; else the one that it leaves by.
    comes: bool,
    /// Its name; a beginning where it ends so (`br-*`), or its index.
    is: Named,
    equal: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Named {
    Name(String),
    Prefix(String),
    Index(u32),
}

impl Interface {
    fn fits(&self, link: &Link) -> bool {
        let same = match &self.is {
            Named::Name(name) => link.name == *name,
            Named::Prefix(prefix) => link.name.starts_with(prefix.as_str()),
            Named::Index(index) => link.index == *index,
        };
        same == self.equal
    }
}

/// What a rule says.
#[derive(Debug, Default)]
struct Told {
    interfaces: Vec<Interface>,
    text: String,
    drops: bool,
    /// It looks at the connection's state.
    tracked: bool,
    jump: Option<String>,
}

/// What was loaded last, to be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Name {
        comes: bool,
    },
    Index {
        comes: bool,
    },
    Address(&'static str),
    /// IPv4 or IPv6, which the addresses say too.
    Family,
    Other,
}

impl Told {
    fn of(rule: &Listed) -> Self {
        let mut told = Self::default();
        let mut loaded = Loaded::Other;
        let mut mask = None;
        for (name, data) in &rule.steps {
            match name.as_str() {
                "meta" | "payload" => (loaded, mask) = (load(name, data), None),
                "bitwise" => mask = attribute(data, 4).and_then(|mask| attribute(mask, 1)).map(<[u8]>::to_vec),
                "cmp" => told.compare(loaded, mask.as_deref(), data),
                "ct" => {
                    told.tracked = true;
                    told.say("…");
                    loaded = Loaded::Other;
                }
                "immediate" => told.decide(data),
                "reject" => told.drop_by("reject"),
                "target" if attribute(data, 1).map(text) == Some("REJECT") => told.drop_by("reject"),
                "counter" | "log" => {}
                _ => told.say("…"),
            }
        }
        told
    }

    fn say(&mut self, words: &str) {
        if words == "…" && self.text.ends_with('…') {
            return;
        }
        let space = if self.text.is_empty() { "" } else { " " };
        let _ = write!(self.text, "{space}{words}");
    }

    fn drop_by(&mut self, word: &str) {
        self.drops = true;
        self.say(word);
    }

    fn compare(&mut self, loaded: Loaded, mask: Option<&[u8]>, data: &[u8]) {
        let equal = attribute(data, 2).and_then(big) == Some(0);
        let value = attribute(data, 3).and_then(|value| attribute(value, 1)).unwrap_or_default();
        let not = if equal { "" } else { "!= " };
        let named = match loaded {
            Loaded::Name { comes } if value.contains(&0) => Some((comes, Named::Name(text(value).to_owned()))),
            Loaded::Name { comes } => Some((comes, Named::Prefix(text(value).to_owned()))),
            Loaded::Index { comes } => number(value).map(|index| (comes, Named::Index(index))),
            _ => None,
        };
        if let Some((comes, is)) = named {
            let way = if comes { "iif" } else { "oif" };
            let words = match &is {
                Named::Name(name) => format!("{way}name {not}\"{name}\""),
                Named::Prefix(name) => format!("{way}name {not}\"{name}*\""),
                Named::Index(index) => format!("{way} {not}{index}"),
            };
            self.say(&words);
            self.interfaces.push(Interface { comes, is, equal });
            return;
        }
        match loaded {
            Loaded::Family => {}
            Loaded::Address(which) if value.len() <= 4 => {
                // Networks of whole bytes are compared as far as these go.
                let mut address = [0; 4];
                address[..value.len()].copy_from_slice(value);
                let address = std::net::Ipv4Addr::from(address);
                let bits =
                    mask.map_or(8 * value.len(), |mask| mask.iter().map(|byte| byte.count_ones() as usize).sum());
                self.say(&format!("ip {which} {not}{address}{}", prefix(bits)));
            }
            _ => self.say("…"),
        }
    }

    /// A verdict; anything else that is put somewhere is no condition.
    fn decide(&mut self, data: &[u8]) {
        let Some(verdict) = attribute(data, 2).and_then(|data| attribute(data, 2)) else { return };
        match attribute(verdict, 1).and_then(big).map(u32::cast_signed) {
            Some(0) => self.drop_by("drop"),
            // NFT_JUMP, NFT_GOTO.
            Some(-3 | -4) => self.jump = attribute(verdict, 2).map(|chain| text(chain).to_owned()),
            _ => {}
        }
    }

    /// Whether a packet of a container's can be one that it is about: it comes by a bridge, or leaves by one
    /// or to the outside.
    fn meets(&self, bridges: &[Link], outside: Option<&str>) -> bool {
        let (comes, leaves): (Vec<_>, Vec<_>) = self.interfaces.iter().partition(|condition| condition.comes);
        let one = |conditions: &[&Interface]| bridges.iter().any(|link| conditions.iter().all(|c| c.fits(link)));
        let is_outside = |is: &Named| matches!(is, Named::Name(name) if Some(name.as_str()) == outside);
        match (comes.is_empty(), leaves.is_empty()) {
            (true, true) => true,
            (false, true) => one(&comes),
            (true, false) => one(&leaves) || leaves.iter().any(|c| c.equal && is_outside(&c.is)),
            (false, false) => one(&comes) || one(&leaves),
        }
    }

    fn concerns(&self, hook: Hook, bridges: &[Link], outside: Option<&str>) -> bool {
        if !self.drops || self.tracked {
            return false;
        }
        let (comes, leaves): (Vec<_>, Vec<_>) = self.interfaces.iter().partition(|condition| condition.comes);
        let one = |conditions: &[&Interface]| bridges.iter().any(|link| conditions.iter().all(|c| c.fits(link)));
        let names_one = |conditions: &[&Interface]| one(conditions) && conditions.iter().any(|c| c.equal);
        if hook == Hook::Input {
            return names_one(&comes);
        }
        let outwards =
            leaves.iter().any(|c| c.equal && matches!(&c.is, Named::Name(name) if Some(name.as_str()) == outside));
        match (comes.is_empty(), leaves.is_empty()) {
            (true, true) => true,
            (false, true) => one(&comes),
            (true, false) => one(&leaves) || outwards,
            // `iifname "docker0" oifname != "docker0"` is about somebody else's.
            (false, false) => names_one(&comes) || names_one(&leaves),
        }
    }
}

fn prefix(bits: usize) -> String {
    if bits == 32 { String::new() } else { format!("/{bits}") }
}

/// The attributes are those of `enum nft_meta_attributes` and `enum nft_payload_attributes`.
fn load(name: &str, data: &[u8]) -> Loaded {
    let at = |kind| attribute(data, kind).and_then(big);
    match (name, at(2), at(3), at(4)) {
        // NFT_META_IIF and so on.
        ("meta", Some(4), ..) => Loaded::Index { comes: true },
        ("meta", Some(5), ..) => Loaded::Index { comes: false },
        ("meta", Some(6), ..) => Loaded::Name { comes: true },
        ("meta", Some(7), ..) => Loaded::Name { comes: false },
        ("meta", Some(15), ..) => Loaded::Family,
        // NFT_PAYLOAD_NETWORK_HEADER.
        ("payload", Some(1), Some(12), Some(1..=4)) => Loaded::Address("saddr"),
        ("payload", Some(1), Some(16), Some(1..=4)) => Loaded::Address("daddr"),
        _ => Loaded::Other,
    }
}

fn big(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|four| u32::from_be_bytes(*four))
}
