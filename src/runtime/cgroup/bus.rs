//! D-Bus, as much of it as one method call and its answer need (the D-Bus specification, "Message
//! Protocol" and "Authentication Protocol").
//!
//! No crate: those there are identify the caller by getuid(), which is 0 in a user namespace, where the
//! monitor lives, and the bus then turns it down; and they bring a second copy of what they stand
//! on. Here the caller gives no name, and the bus takes the one that the kernel tells it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// A connection that has been authenticated.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    serial: u32,
    input: Vec<u8>,
    /// The answer to the authentication has been read.
    welcome: bool,
}

/// An incoming message, as far as the callers here look.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) member: String,
    /// Of [`Kind::Error`].
    pub(super) error: String,
    pub(super) reply_to: u32,
    body: Vec<u8>,
    big_endian: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Error,
    Signal,
    #[default]
    Other,
}

/// Longer messages are none that were asked for.
const LONGEST: usize = 1 << 20;

impl Bus {
    /// Connects, and says who we are without waiting for the answer: what is called meanwhile is
    /// read behind it.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        // EXTERNAL without an identity: who we are, the bus asks the kernel.
        socket.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        Ok(Self { socket, serial: 0, input: Vec::new(), welcome: false })
    }

    /// Sends a method call; its serial.
    pub(super) fn call(
        &mut self,
        destination: &str,
        object: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: &Body,
    ) -> io::Result<u32> {
        self.serial += 1;
        let mut message = Body::default();
        let endianness = if cfg!(target_endian = "little") { b'l' } else { b'B' };
        // METHOD_CALL, no flags, version 1.
        message.bytes.extend([endianness, 1, 0, 1]);
        message.u32(u32::try_from(body.bytes.len()).map_err(io::Error::other)?);
        message.u32(self.serial);
        message.array(8, |fields| {
            for (code, kind, value) in
                [(1, "o", object), (2, "s", interface), (3, "s", member), (6, "s", destination), (8, "g", signature)]
            {
                if value.is_empty() {
                    continue;
                }
                fields.align(8);
                fields.bytes.push(code);
                fields.signature(kind);
                if kind == "g" { fields.signature(value) } else { fields.string(value) }
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(&body.bytes);
        self.socket.write_all(&message.bytes)?;
        Ok(self.serial)
    }

    /// The next message, whichever it is.
    pub(super) fn next(&mut self, deadline: Instant) -> io::Result<Message> {
        loop {
            if !self.welcome {
                self.welcome = welcomed(&mut self.input)?;
            }
            if self.welcome
                && let Some(length) = whole(&self.input)?
            {
                let rest = self.input.split_off(length);
                let message = parse(&std::mem::replace(&mut self.input, rest));
                return message.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed message"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut some = [0; 4096];
            match self.socket.read(&mut some) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.input.extend_from_slice(&some[..n]),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Takes the lines of the authentication's answer away; whether all are there: `DATA`, which asks
/// for the identity, and `OK` with the bus's own.
fn welcomed(input: &mut Vec<u8>) -> io::Result<bool> {
    while let Some(end) = input.windows(2).position(|w| w == b"\r\n") {
        let line: Vec<u8> = input.drain(..end + 2).collect();
        if line.starts_with(b"OK") {
            return Ok(true);
        }
        if !line.starts_with(b"DATA") {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the connection was refused"));
        }
    }
    if input.len() > 1024 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no D-Bus answer"));
    }
    Ok(false)
}

/// Values in D-Bus's own form ("Marshaling"), in the machine's byte order.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_ne_bytes());
    }

    pub(super) fn string(&mut self, value: &str) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn signature(&mut self, value: &str) {
        self.bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements are aligned to `element` bytes.
    pub(super) fn array(&mut self, element: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.bytes.len() - 4;
        self.align(element);
        let start = self.bytes.len();
        fill(self);
        let bytes = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[length..length + 4].copy_from_slice(&bytes.to_ne_bytes());
    }

    /// A property, `(sv)`; `value` writes what `kind` says.
    pub(super) fn property(&mut self, name: &str, kind: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.string(name);
        self.signature(kind);
        value(self);
    }
}

/// The length of the first message, once all of it is there.
fn whole(input: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = input.get(..16) else { return Ok(None) };
    let big = head[0] == b'B';
    let body = number(head, 4, big).unwrap_or(0);
    let fields = number(head, 12, big).unwrap_or(0);
    let length = (16 + fields).next_multiple_of(8).saturating_add(body);
    if body > LONGEST || fields > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "oversized message"));
    }
    Ok((input.len() >= length).then_some(length))
}

fn number(bytes: &[u8], at: usize, big: bool) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let value = if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) };
    usize::try_from(value).ok()
}

fn text(bytes: &[u8], at: usize, big: bool) -> Option<(String, usize)> {
    let at = at.next_multiple_of(4);
    let end = (at + 4).checked_add(number(bytes, at, big)?)?;
    let text = bytes.get(at + 4..end)?;
    Some((String::from_utf8_lossy(text).into_owned(), end + 1))
}

fn parse(bytes: &[u8]) -> Option<Message> {
    let big = bytes.first() == Some(&b'B');
    let end = 16 + number(bytes, 12, big)?;
    let kind = match bytes.get(1)? {
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let mut message = Message { kind, big_endian: big, ..Message::default() };
    let mut at = 16usize;
    // Header fields: a code, the signature of its one value, the value.
    while at.next_multiple_of(8) < end {
        at = at.next_multiple_of(8);
        let code = *bytes.get(at)?;
        let kind = *bytes.get(at + 2)?;
        at += 4;
        match kind {
            b's' | b'o' => {
                let (value, next) = text(bytes, at, big)?;
                at = next;
                match code {
                    3 => message.member = value,
                    4 => message.error = value,
                    _ => {}
                }
            }
            b'g' => at += usize::from(*bytes.get(at)?) + 2,
            b'u' => {
                if code == 5 {
                    message.reply_to = u32::try_from(number(bytes, at, big)?).ok()?;
                }
                at += 4;
            }
            _ => return None,
        }
    }
    message.body = bytes.get(end.next_multiple_of(8)..)?.to_vec();
    Some(message)
}

impl Message {
    /// The first string of the body: an error's sentence, the path of a job.
    pub(super) fn first_string(&self) -> String {
        text(&self.body, 0, self.big_endian).map_or_else(String::new, |(value, _)| value)
    }

    /// Of a body that is one boolean variant.
    pub(super) fn is_true(&self) -> bool {
        self.body.get(1) == Some(&b'b') && number(&self.body, 4, self.big_endian) == Some(1)
    }

    /// Of a body `uoss…`: the object and the two strings.
    pub(super) fn job_removed(&self) -> Option<(String, String, String)> {
        let (job, at) = text(&self.body, 4, self.big_endian)?;
        let (unit, at) = text(&self.body, at, self.big_endian)?;
        let (result, _) = text(&self.body, at, self.big_endian)?;
        Some((job, unit, result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_read_again() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut bus = Bus { socket: ours, serial: 6, input: Vec::new(), welcome: false };
        let mut body = Body::default();
        body.u32(7);
        body.string("/job/7");
        body.string("x.scope");
        body.string("done");
        assert_eq!(bus.call("d.e", "/o", "i.f", "M", "uoss", &body).unwrap(), 7);
        let mut sent = [0; 512];
        let n = theirs.read(&mut sent).unwrap();
        assert_eq!(whole(&sent[..n]).unwrap(), Some(n));
        assert_eq!(whole(&sent[..n - 1]).unwrap(), None);
        let message = parse(&sent[..n]).unwrap();
        assert_eq!((message.member.as_str(), message.kind), ("M", Kind::Other));
        assert_eq!(message.job_removed().unwrap(), ("/job/7".into(), "x.scope".into(), "done".into()));
    }

    #[test]
    fn the_answer_to_the_greeting_comes_in_pieces() {
        let mut input = b"DATA\r\nOK 123".to_vec();
        assert!(!welcomed(&mut input).unwrap());
        input.extend(b"4\r\nl");
        assert!(welcomed(&mut input).unwrap());
        assert_eq!(input, b"l");
        assert!(welcomed(&mut b"REJECTED EXTERNAL\r\n".to_vec()).is_err());
    }

    #[test]
    fn garbage_is_refused() {
        let huge = [b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert!(whole(&huge).is_err());
        for cut in 0..16 {
            assert!(parse(&huge[..cut]).is_none());
        }
        assert!(parse(&huge).is_none());
    }
}
