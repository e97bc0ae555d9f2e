//! What is loaded.

use super::{SUBSYSTEM, Table, head};
use crate::network::netlink::{Message, Refused, Socket, attribute, attributes, flags, text};

/// A chain as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `NFPROTO_…` of its table.
    pub family: u8,
    pub table: String,
    pub name: String,
    /// `enum nf_inet_hooks`; none: it is jumped to.
    pub hook: Option<u32>,
    /// Whether what no rule decided is dropped.
    pub drops: bool,
}

/// A rule as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub chain: String,
    pub handle: u64,
    /// Empty: none.
    pub comment: String,
    /// Its expressions, each with its attributes: `meta`, `cmp`, `immediate`.
    pub steps: Vec<(String, Vec<u8>)>,
}

/// The number of the rules that are loaded, another after each change, whoever makes it.
///
/// # Errors
/// The kernel's refusal.
pub fn generation(socket: &mut Socket) -> Result<u32, Refused> {
    let answer = socket.get(Message::new(SUBSYSTEM | 16, 0, &head(0, 0)))?;
    Ok(answer.get(4..).and_then(|body| attribute(body, 1)).and_then(big).unwrap_or_default())
}

/// The chains of all tables of all families.
///
/// # Errors
/// The kernel's refusal.
pub fn chains(socket: &mut Socket) -> Result<Vec<Chain>, Refused> {
    let mut found = Vec::new();
    socket.dump(Message::new(SUBSYSTEM | 4, flags::DUMP, &head(0, 0)), |_, message| {
        let (Some(family), Some(body)) = (message.first(), message.get(4..)) else { return };
        let hook = attribute(body, 4).and_then(|hook| attribute(hook, 1)).and_then(big);
        let drops = hook.is_some() && attribute(body, 5).and_then(big) == Some(0);
        found.push(Chain { family: *family, table: word(body, 1), name: word(body, 3), hook, drops });
    })?;
    Ok(found)
}

/// The rules of a table, each chain's first to last; none where there is no such table.
///
/// # Errors
/// The kernel's refusal.
pub fn rules(socket: &mut Socket, table: Table<'_>) -> Result<Vec<Listed>, Refused> {
    let mut message = Message::new(SUBSYSTEM | 7, flags::DUMP, &head(table.family as u8, 0));
    message.put_text(1, table.name);
    let mut found = Vec::new();
    socket.dump(message, |_, body| {
        let Some(body) = body.get(4..) else { return };
        let handle = attribute(body, 3).and_then(|h| h.first_chunk()).map(|eight| u64::from_be_bytes(*eight));
        let comment = match attribute(body, 7) {
            Some([0, _, rest @ ..]) => text(rest).to_owned(),
            _ => String::new(),
        };
        let list = attributes(attribute(body, 4).unwrap_or_default());
        let steps = list.map(|(_, step)| (word(step, 1), attribute(step, 2).unwrap_or_default().to_vec())).collect();
        found.extend(handle.map(|handle| Listed { chain: word(body, 2), handle, comment, steps }));
    })?;
    Ok(found)
}

/// linux/netfilter/nf_tables.h.
const NFT_MSG_GETSETELEM: u16 = 0xd;

/// How many elements a set has.
///
/// # Errors
/// The kernel's refusal: `ENOENT`, there is no such table or set.
pub fn elements(socket: &mut Socket, table: Table<'_>, set: &str) -> Result<usize, Refused> {
    let mut message = Message::new(SUBSYSTEM | NFT_MSG_GETSETELEM, flags::DUMP, &head(table.family as u8, 0));
    message.put_text(1, table.name);
    message.put_text(2, set);
    let mut count = 0;
    socket.dump(message, |_, body| {
        let list = body.get(4..).and_then(|body| attribute(body, 3)).unwrap_or_default();
        count += usize::from(!list.is_empty());
    })?;
    Ok(count)
}

fn word(body: &[u8], kind: u16) -> String {
    attribute(body, kind).map(text).unwrap_or_default().to_owned()
}

fn big(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|four| u32::from_be_bytes(*four))
}
