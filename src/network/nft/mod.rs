//! nf_tables, as far as ctr needs it: what `nft` does with text, done with types and one netlink
//! packet. `linux/netfilter/nf_tables.h` names the messages, nft(8) explains the words.
//!
//! A [`Batch`] is loaded wholly or not at all, and packets meet the rules of before or of after it.
//! A [`Rule`] is written as a list of conditions and what then happens; fields that are looked at
//! are [`Field`]s, which know their width and their type, so that `nft list ruleset` shows our sets
//! and maps as if `nft` had made them.
//!
//! ```text
//! field   what of a packet can be looked at, and the types of sets' keys
//! rule    conditions and verdicts, and the expressions that they are made of
//! batch   tables, chains, rules, sets, elements: made and deleted
//! list    what is loaded: tables, chains, rules
//! ```

pub mod batch;
pub mod field;
pub mod list;
pub mod rule;

pub use batch::{Base, Batch, Element, Hook, Policy, Set};
pub use field::{Field, Kind};
pub use rule::Rule;

/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's kind.
const SUBSYSTEM: u16 = 10 << 8;

/// What a table's chains see: `NFPROTO_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    Ip = 2,
    Bridge = 7,
    Ip6 = 10,
}

/// A table's name; two families can have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    pub family: Family,
    pub name: &'a str,
}

impl<'a> Table<'a> {
    #[must_use]
    pub const fn new(family: Family, name: &'a str) -> Self {
        Self { family, name }
    }
}

/// `struct nfgenmsg`; `resource`: only the edges of a batch have one, the subsystem.
fn head(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
