//! What is loaded and deleted, together or not at all.

use nix::errno::Errno;

use super::field::Kind;
use super::rule::{self, Rule};
use super::{Family, SUBSYSTEM, Table, head};
use crate::network::netlink::{Message, Refused, Socket, flags};

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

/// How many elements one message has: a list is an attribute, and those end at 64 KiB.
const ELEMENTS: usize = 400;

/// Where a base chain gets its packets from: `enum nf_inet_hooks`, and the bridges' alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What happens to a packet that no rule of a base chain decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Drop = 0,
    Accept = 1,
}

/// What makes a chain one that the kernel calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// `filter` or `nat`.
    pub kind: &'static str,
    pub hook: Hook,
    /// The lower the earlier: nft(8), "standard priority names".
    pub priority: i32,
    pub policy: Policy,
}

impl Base {
    #[must_use]
    pub const fn filter(hook: Hook, priority: i32) -> Self {
        Self { kind: "filter", hook, priority, policy: Policy::Accept }
    }

    /// A connection's first packet only.
    #[must_use]
    pub const fn nat(hook: Hook, priority: i32) -> Self {
        Self { kind: "nat", hook, priority, policy: Policy::Accept }
    }
}

/// A set; with `value`, a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    pub name: &'a str,
    pub key: &'a [Kind],
    /// Empty: no map.
    pub value: &'a [Kind],
    pub comment: &'a str,
}

/// An element of a set or a map: the fields' bytes, of which [`Element::new`] makes a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Element {
    /// `fields`: one after the other, each padded to the width of registers.
    #[must_use]
    pub fn new(fields: &[&[u8]]) -> Self {
        Self { key: joined(fields), value: Vec::new() }
    }

    #[must_use]
    pub fn to(mut self, fields: &[&[u8]]) -> Self {
        self.value = joined(fields);
        self
    }
}

/// As the kernel has fields in its registers: each starts at a multiple of four. A single field is
/// as long as it is.
fn joined(fields: &[&[u8]]) -> Vec<u8> {
    if let [one] = fields {
        return one.to_vec();
    }
    let mut bytes = Vec::with_capacity(40);
    for field in fields {
        bytes.extend_from_slice(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// An interface's name as the kernel compares it. Longer than 15 bytes: cut off, as no interface has
/// such a name.
#[must_use]
pub fn ifname(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

#[derive(Debug)]
pub struct Batch {
    messages: Vec<Message>,
    sets: u32,
    /// Whether the tables that it makes take the place of others.
    replacing: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        // Family: none. The subsystem is the resource's number.
        Self {
            messages: vec![Message::new(NFNL_MSG_BATCH_BEGIN, 0, &head(0, SUBSYSTEM >> 8))],
            sets: 0,
            replacing: false,
        }
    }

    /// Refused with `ERESTART` if anything was loaded since this generation of all rules
    /// ([`super::list::generation`]).
    pub fn since(&mut self, generation: u32) -> &mut Self {
        // NFNL_BATCH_GENID
        self.messages[0].put_be32(1, generation);
        self
    }

    fn push(&mut self, kind: u16, flags: u16, family: Family, fill: impl FnOnce(&mut Message)) {
        let mut message = Message::new(SUBSYSTEM | kind, flags, &head(family as u8, 0));
        fill(&mut message);
        self.messages.push(message);
    }

    /// Makes the table; one that is there stays as it is.
    pub fn table(&mut self, table: Table<'_>) -> &mut Self {
        self.any_table(flags::CREATE, table, "")
    }

    fn any_table(&mut self, flags: u16, table: Table<'_>, comment: &str) -> &mut Self {
        self.push(0, flags, table.family, |m| {
            m.put_text(1, table.name);
            if !comment.is_empty() {
                m.put(6, &rule::comment(0, comment));
            }
        });
        self
    }

    /// Deletes the table with all that is in it; `ENOENT`: there is none.
    pub fn delete_table(&mut self, table: Table<'_>) -> &mut Self {
        self.push(2, 0, table.family, |m| {
            m.put_text(1, table.name);
        });
        self
    }

    /// An empty table of this name: see [`Batch::load`].
    pub fn fresh_table(&mut self, table: Table<'_>, comment: &str) -> &mut Self {
        let mut flags = flags::CREATE | flags::EXCL;
        if self.replacing {
            // NFT_MSG_DESTROYTABLE came with Linux 6.3.
            self.any_table(flags::CREATE, table, "").delete_table(table);
            flags = flags::CREATE;
        }
        self.any_table(flags, table, comment)
    }

    /// `base`: none: a chain that is jumped to, which must be there before the jump.
    pub fn chain(&mut self, table: Table<'_>, name: &str, base: Option<Base>) -> &mut Self {
        self.push(3, flags::CREATE, table.family, |m| {
            m.put_text(1, table.name).put_text(3, name);
            if let Some(base) = base {
                m.nest(4, |m| {
                    m.put_be32(1, base.hook as u32).put(2, &base.priority.to_be_bytes());
                });
                m.put_be32(5, base.policy as u32).put_text(7, base.kind);
            }
        });
        self
    }

    /// Appends a rule.
    pub fn rule(&mut self, table: Table<'_>, chain: &str, rule: &Rule) -> &mut Self {
        self.any_rule(flags::CREATE | flags::APPEND, table, chain, rule)
    }

    /// Puts a rule before all others of the chain.
    pub fn rule_first(&mut self, table: Table<'_>, chain: &str, rule: &Rule) -> &mut Self {
        self.any_rule(flags::CREATE, table, chain, rule)
    }

    fn any_rule(&mut self, flags: u16, table: Table<'_>, chain: &str, rule: &Rule) -> &mut Self {
        self.push(6, flags, table.family, |m| {
            m.put_text(1, table.name).put_text(2, chain);
            rule.write(m);
        });
        self
    }

    /// `handle`: as [`super::list`] found it; the kernel gives none a second time.
    pub fn delete_rule(&mut self, table: Table<'_>, chain: &str, handle: u64) -> &mut Self {
        self.push(8, 0, table.family, |m| {
            m.put_text(1, table.name).put_text(2, chain).put_be64(3, handle);
        });
        self
    }

    pub fn set(&mut self, table: Table<'_>, set: &Set<'_>) -> &mut Self {
        self.sets += 1;
        let id = self.sets;
        self.push(9, flags::CREATE, table.family, |m| {
            let (kind, width) = Kind::joined(set.key);
            m.put_text(1, table.name).put_text(2, set.name).put_be32(4, kind).put_be32(5, width).put_be32(10, id);
            if !set.value.is_empty() {
                // NFT_SET_MAP
                let (kind, width) = Kind::joined(set.value);
                m.put_be32(3, 8).put_be32(6, kind).put_be32(7, width);
            }
            // For nft(8) only, as libnftnl writes it: names are strings, not numbers.
            let mut userdata = Vec::new();
            if set.key == [Kind::Ifname] {
                userdata.extend_from_slice(&[0, 4]);
                userdata.extend_from_slice(&1_u32.to_ne_bytes());
            }
            if !set.comment.is_empty() {
                userdata.extend(rule::comment(7, set.comment));
            }
            if !userdata.is_empty() {
                m.put(13, &userdata);
            }
        });
        self
    }

    /// Adds elements; those that are there already are no error, but a map's with another value.
    pub fn add(&mut self, table: Table<'_>, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(12, flags::CREATE, table, set, elements)
    }

    /// Deletes elements; `ENOENT`: one is not there.
    pub fn delete(&mut self, table: Table<'_>, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(14, 0, table, set, elements)
    }

    /// Deletes those of the elements that are there; `EINVAL`: this kernel is older than Linux 6.3.
    pub fn destroy(&mut self, table: Table<'_>, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(30, 0, table, set, elements)
    }

    fn elements(&mut self, kind: u16, flags: u16, table: Table<'_>, set: &str, elements: &[Element]) -> &mut Self {
        for some in elements.chunks(ELEMENTS) {
            self.push(kind, flags, table.family, |m| {
                m.put_text(1, table.name).put_text(2, set).nest(3, |m| {
                    for element in some {
                        // NFTA_LIST_ELEM: NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA.
                        m.nest(1, |m| {
                            m.nest(1, |m| rule::value(m, &element.key));
                            if !element.value.is_empty() {
                                m.nest(2, |m| rule::value(m, &element.value));
                            }
                        });
                    }
                });
            });
        }
        self
    }

    /// How many messages there are, the first of which only begins the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// Loads what `fill` writes; its [`Batch::fresh_table`]s are made, or take the place of those that
    /// are there. The first is tried first: when something was deleted, the closing of a socket for
    /// netfilter waits until the kernel has let go of it, 8 to 16 ms.
    ///
    /// # Errors
    /// As [`Batch::send`].
    pub fn load(socket: &mut Socket, fill: impl Fn(&mut Self)) -> Result<(), Refused> {
        let mut batch = Self::new();
        fill(&mut batch);
        match batch.send(socket) {
            Err(refused) if refused.errno == Errno::EEXIST => {
                let mut batch = Self { replacing: true, ..Self::new() };
                fill(&mut batch);
                batch.send(socket)
            }
            done => done,
        }
    }

    /// Loads it all, atomically. An empty batch is none.
    ///
    /// # Errors
    /// The first refusal; then nothing of it was done.
    pub fn send(mut self, socket: &mut Socket) -> Result<(), Refused> {
        if self.is_empty() {
            return Ok(());
        }
        // Messages that fail are answered anyway; one answer is needed that says all is done.
        if let Some(last) = self.messages.pop() {
            self.messages.push(last.acknowledged());
        }
        self.messages.push(Message::new(NFNL_MSG_BATCH_END, 0, &head(0, SUBSYSTEM >> 8)));
        socket.batch(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_start_at_registers() {
        assert_eq!(joined(&[&[6], &[0, 80]]), [6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(joined(&[&[1, 2, 3, 4, 5, 6]]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(&ifname("eth0")[..5], b"eth0\0");
        assert_eq!(ifname("a-name-that-is-too-long")[15], 0);
    }
}
