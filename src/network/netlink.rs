//! netlink(7): the sockets, messages and attributes that everything in this folder is asked of the
//! kernel with. One encoder serves links and addresses (rtnetlink(7)), traffic control and
//! nf_tables; the crates that are there cover one of them each, and none nf_tables under a
//! permissive licence.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};

/// Bytes of `struct nlmsghdr`.
const HEAD: usize = 16;

/// Room for what the kernel sends at once: a dump's piece is at most 32 KiB.
const ROOM: usize = 64 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// In an acknowledgement: the request is not repeated in it, and attributes follow.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The kernel's sentence in an acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Wanted with a request: `linux/netlink.h`.
pub mod flags {
    pub const REQUEST: u16 = 1;
    pub const ACK: u16 = 4;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// The kernel's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub errno: Errno,
    /// Its own sentence, where it has one; else empty.
    pub reason: String,
    /// Which of a batch's messages, from 0.
    pub index: usize,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reason.as_str() {
            "" => f.write_str(self.errno.desc()),
            reason => write!(f, "{}: {}", self.errno.desc(), reason.trim_end_matches('.')),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self { errno, reason: String::new(), index: 0 }
    }
}

/// A message under construction: the netlink header, the family's own header, attributes.
#[derive(Debug, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// `kind`: `RTM_NEWLINK` and so on; `flags`: of [`flags`], `REQUEST` is added; `head`: the
    /// family's header (`ifinfomsg`, `nfgenmsg`, …) as bytes.
    #[must_use]
    pub fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | flags::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(head);
        Self(bytes).padded()
    }

    fn padded(mut self) -> Self {
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Appends an attribute.
    ///
    /// # Panics
    /// `value` is longer than an attribute can be, 65531 bytes.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("an attribute is short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    pub fn put_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// In network byte order, as all numbers of nf_tables are.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub fn put_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// With the zero byte that ends it.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.put(kind, &[text.as_bytes(), b"\0"].concat())
    }

    /// Appends an attribute that holds others, marked `NLA_F_NESTED`.
    ///
    /// # Panics
    /// What it holds is longer than an attribute can be.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_behind(kind, &[], fill)
    }

    /// [`Message::nest`] with a header before the attributes inside (`VETH_INFO_PEER`).
    ///
    /// # Panics
    /// As [`Message::nest`].
    pub fn nest_behind(&mut self, kind: u16, head: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        const NLA_F_NESTED: u16 = 1 << 15;
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        self.0.extend_from_slice(head);
        self.pad();
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("an attribute is short");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// With the wish for an acknowledgement.
    #[must_use]
    pub fn acknowledged(mut self) -> Self {
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | flags::ACK;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.0[6], self.0[7]]) & flags::ACK != 0
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.0.len()).expect("a message is short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.0
    }
}

/// The attributes in `bytes`, `(kind, value)` each, without their flags. Stops at what is cut off.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// The first attribute of that kind.
#[must_use]
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A number of this machine's byte order at the start of `bytes`.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

/// A text as far as its zero byte.
#[must_use]
pub fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or_default()
}

/// A netlink socket of the network namespace that it was made in.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// For links, addresses, routes, rules and traffic control.
    ///
    /// # Errors
    /// As socket(2).
    pub fn route() -> nix::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// For nf_tables.
    ///
    /// # Errors
    /// As socket(2); `EPROTONOSUPPORT` where the kernel has no netfilter.
    pub fn netfilter() -> nix::Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    /// For what the kernel tells of links and addresses as they change: [`Socket::news`]. Anybody may
    /// listen. `groups`: `RTMGRP_…` of rtnetlink(7).
    ///
    /// # Errors
    /// As socket(2).
    pub fn listening(groups: i32) -> nix::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Hands out all that has been told, the kind and the body of each, and does not wait.
    ///
    /// # Errors
    /// `ENOBUFS`: there was more than found room, and some of it is lost.
    pub fn news(&mut self, mut each: impl FnMut(u16, &[u8])) -> nix::Result<()> {
        loop {
            match self.receive_with(MsgFlags::MSG_DONTWAIT, |kind, _, _, body| each(kind, body)) {
                Err(Errno::EAGAIN) => return Ok(()),
                received => received?,
            }
        }
    }

    fn open(protocol: SockProtocol) -> nix::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            // Since 4.12 and 4.20.
            crate::sys::sockets::set_netlink_option(fd.as_fd(), option)?;
        }
        // A batch's acknowledgements must all find room: socket(7).
        let _ =
            setsockopt(&fd, sockopt::RcvBufForce, &(4 << 20)).or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &(1 << 20)));
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Does what one message says, and waits until it is done.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn request(&mut self, message: Message) -> Result<(), Refused> {
        self.batch(&mut [message.acknowledged()])
    }

    /// Sends the messages as one packet, and waits for the acknowledgement of each that wants one.
    /// What the kernel makes of them together is the family's matter: nf_tables does all between
    /// `NFNL_MSG_BATCH_BEGIN` and `…_END` or nothing, rtnetlink one after the other, past those that
    /// it refuses.
    ///
    /// # Errors
    /// The first refusal.
    pub fn batch(&mut self, messages: &mut [Message]) -> Result<(), Refused> {
        let first = self.sequence.wrapping_add(1);
        let mut packet = Vec::with_capacity(messages.iter().map(|m| m.0.len()).sum());
        let mut waiting = 0;
        for message in messages.iter_mut() {
            self.sequence = self.sequence.wrapping_add(1);
            waiting += usize::from(message.wants_ack());
            packet.extend_from_slice(message.finish(self.sequence));
        }
        self.send(&packet)?;
        let mut refused: Option<Refused> = None;
        while waiting > 0 {
            self.receive(|kind, sequence, flags, body| {
                let index = sequence.wrapping_sub(first) as usize;
                if kind != NLMSG_ERROR || index >= messages.len() {
                    return;
                }
                let failure = acknowledgement(flags, body);
                // A message without a wish for an acknowledgement is answered when it fails.
                waiting -= usize::from(waiting > 0 && messages[index].wants_ack());
                if let Some((errno, reason)) = failure {
                    refused.get_or_insert(Refused { errno, reason, index });
                }
            })?;
            // nf_tables gives up a batch whose beginning or end it refuses, and answers nothing else.
            if refused.as_ref().is_some_and(|r| !messages[r.index].wants_ack()) {
                break;
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Asks for a list: `each` is given the kind and the body of every answer, family header first.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn dump(&mut self, mut message: Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), Refused> {
        self.sequence = self.sequence.wrapping_add(1);
        let wanted = self.sequence;
        let packet = message.finish(wanted).to_vec();
        self.send(&packet)?;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(|kind, sequence, flags, body| {
                if sequence != wanted || outcome.is_some() {
                    return;
                }
                match kind {
                    NLMSG_DONE => outcome = Some(Ok(())),
                    NLMSG_ERROR => {
                        outcome = Some(match acknowledgement(flags, body) {
                            Some((errno, reason)) => Err(Refused { errno, reason, index: 0 }),
                            None => Ok(()),
                        });
                    }
                    kind => each(kind, body),
                }
            })?;
        }
        outcome.unwrap_or(Ok(()))
    }

    /// Asks for one thing, with a message that has no `DUMP`: its kind and body, family header first.
    ///
    /// # Errors
    /// The kernel's refusal, `ENODEV` or `ENOENT` where there is no such thing.
    pub fn get(&mut self, message: Message) -> Result<Vec<u8>, Refused> {
        let mut found = None;
        // The answer comes before the acknowledgement, which ends the waiting.
        self.dump(message.acknowledged(), |_, body| {
            found.get_or_insert_with(|| body.to_vec());
        })?;
        found.ok_or(Refused::from(Errno::ENOENT))
    }

    fn send(&mut self, packet: &[u8]) -> nix::Result<()> {
        let mut grown = false;
        loop {
            match sendto(self.fd.as_raw_fd(), packet, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                // One packet must fit: thousands of published ports are one batch.
                Err(Errno::EMSGSIZE) if !grown => {
                    grown = true;
                    let room = packet.len() + 4096;
                    setsockopt(&self.fd, sockopt::SndBufForce, &room)
                        .or_else(|_| setsockopt(&self.fd, sockopt::SndBuf, &room))?;
                }
                sent => return sent.map(drop),
            }
        }
    }

    /// Receives one packet and hands out its messages: kind, sequence, flags, body.
    fn receive(&mut self, each: impl FnMut(u16, u32, u16, &[u8])) -> nix::Result<()> {
        self.receive_with(MsgFlags::empty(), each)
    }

    fn receive_with(&mut self, how: MsgFlags, mut each: impl FnMut(u16, u32, u16, &[u8])) -> nix::Result<()> {
        self.buffer.resize(ROOM, 0);
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, how) {
                Err(Errno::EINTR) => {}
                received => break received?,
            }
        };
        let mut rest = &self.buffer[..length];
        while let Some(head) = rest.first_chunk::<HEAD>() {
            let [a, b, c, d, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *head;
            let length = u32::from_ne_bytes([a, b, c, d]) as usize;
            let Some(body) = rest.get(HEAD..length) else { break };
            each(
                u16::from_ne_bytes([k0, k1]),
                u32::from_ne_bytes([s0, s1, s2, s3]),
                u16::from_ne_bytes([f0, f1]),
                body,
            );
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What an acknowledgement says: `None`: done.
fn acknowledgement(flags: u16, body: &[u8]) -> Option<(Errno, String)> {
    let code = body.first_chunk().map_or(-libc::EPROTO, |four| i32::from_ne_bytes(*four));
    if code == 0 {
        return None;
    }
    let mut reason = "";
    if flags & NLM_F_ACK_TLVS != 0 {
        let request = body.get(4..).and_then(number).unwrap_or_default() as usize;
        let skipped = if flags & NLM_F_CAPPED != 0 { HEAD } else { request.max(HEAD) };
        let rest = body.get(4 + skipped.next_multiple_of(4)..).unwrap_or_default();
        reason = attribute(rest, NLMSGERR_ATTR_MSG).map(text).unwrap_or_default();
    }
    Some((Errno::from_raw(-code), reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back() {
        let mut message = Message::new(16, 0, &[0; 16]);
        message.put_text(3, "eth0").nest(18, |m| {
            m.put_u8(1, 7).put_be32(2, 0x0102_0304);
        });
        let bytes = message.finish(5)[HEAD + 16..].to_vec();
        assert_eq!(attribute(&bytes, 3).map(text), Some("eth0"));
        let nested = attribute(&bytes, 18).unwrap();
        assert_eq!(attributes(nested).collect::<Vec<_>>(), [(1, &[7][..]), (2, &[1, 2, 3, 4][..])]);
        for length in 0..bytes.len() {
            let _ = attributes(&bytes[..length]).count();
        }
    }

    #[test]
    fn the_kernel_answers() {
        let mut socket = Socket::route().unwrap();
        let mut names = Vec::new();
        // RTM_GETLINK, `struct ifinfomsg`, IFLA_IFNAME.
        socket
            .dump(Message::new(18, flags::DUMP, &[0; 16]), |_, body| {
                names.extend(attribute(&body[16..], 3).map(|name| text(name).to_owned()));
            })
            .unwrap();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        let mut missing = Message::new(18, 0, &[0; 16]);
        missing.put_text(3, "no-such-link");
        assert_eq!(socket.get(missing).unwrap_err().errno, Errno::ENODEV);
    }
}
