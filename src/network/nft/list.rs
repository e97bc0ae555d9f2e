//! What is loaded.

use super::{Family, SUBSYSTEM, Table, head};
use crate::network::netlink::{Message, Refused, Socket, attribute, flags, text};

/// A base chain as it is listed, or one that is jumped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub table: String,
    pub name: String,
    /// None: it is jumped to.
    pub hook: Option<u32>,
    /// Whether what no rule decided is dropped.
    pub drops: bool,
}

/// A rule of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub handle: u64,
    /// Empty: none.
    pub comment: String,
}

fn request(kind: u16, family: u8) -> Message {
    Message::new(SUBSYSTEM | kind, flags::DUMP, &head(family, 0))
}

/// The tables of every family, as number of `NFPROTO_…` and name.
///
/// # Errors
/// The kernel's refusal.
pub fn tables(socket: &mut Socket) -> Result<Vec<(u8, String)>, Refused> {
    let mut found = Vec::new();
    socket.dump(request(1, 0), |_, body| {
        if let (Some(family), Some(name)) = (body.first(), body.get(4..).and_then(|b| attribute(b, 1))) {
            found.push((*family, text(name).to_owned()));
        }
    })?;
    Ok(found)
}

/// The chains of a family's tables.
///
/// # Errors
/// The kernel's refusal.
pub fn chains(socket: &mut Socket, family: Family) -> Result<Vec<Chain>, Refused> {
    let mut found = Vec::new();
    socket.dump(request(4, family as u8), |_, body| {
        let Some(body) = body.get(4..) else { return };
        let word = |kind| attribute(body, kind).map(text).unwrap_or_default().to_owned();
        let hook = attribute(body, 4).and_then(|hook| attribute(hook, 1)).and_then(big);
        let drops = hook.is_some() && attribute(body, 5).and_then(big) == Some(0);
        found.push(Chain { table: word(1), name: word(3), hook, drops });
    })?;
    Ok(found)
}

/// The rules of a chain, first to last.
///
/// # Errors
/// The kernel's refusal.
pub fn rules(socket: &mut Socket, table: Table<'_>, chain: &str) -> Result<Vec<Listed>, Refused> {
    let mut message = request(7, table.family as u8);
    message.put_text(1, table.name).put_text(2, chain);
    let mut found = Vec::new();
    socket.dump(message, |_, body| {
        let Some(body) = body.get(4..) else { return };
        let handle = attribute(body, 3).and_then(|h| h.first_chunk()).map(|eight| u64::from_be_bytes(*eight));
        let comment = match attribute(body, 7) {
            Some([0, _, rest @ ..]) => text(rest).to_owned(),
            _ => String::new(),
        };
        found.extend(handle.map(|handle| Listed { handle, comment }));
    })?;
    Ok(found)
}

fn big(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|four| u32::from_be_bytes(*four))
}
