//! What a monitor and its clients say to each other: one message a packet of a SOCK_SEQPACKET
//! socket, its first byte the kind.
//!
//! Bytes flow by credit, in both directions: of each stream no more than [`WINDOW`] bytes are under
//! way that the receiver has not yet passed on and said so ([`Message::Taken`]). So whatever stands
//! still (a stopped reader, a container that does not read), everything else, sizes, signals, the
//! other streams, goes on over the same socket.

use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::monitor::Streams;
use crate::sys::seqpacket;

/// Spoken by this binary. A monitor lives as long as its container, so a client of a later version
/// may meet it.
pub const VERSION: u8 = 1;

/// Most bytes of a stream in one message.
pub const CHUNK: usize = 64 * 1024;

/// Bytes of a stream that may be under way. A sender with any credit left may send one chunk.
pub const WINDOW: i64 = 192 * 1024;

/// Room for the longest message.
pub const PACKET: usize = CHUNK + HEAD;

/// Longest beginning of a message before its body.
const HEAD: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Input,
    Output,
    Error,
}

impl Stream {
    fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Input, Self::Output, Self::Error].into_iter().find(|s| s.code() == code)
    }
}

/// Why a container or a further process was not started: all that `error::Failure` knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub message: String,
    pub hint: Option<String>,
    pub exit: Option<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// First word of the process that starts a monitor: the streams it is joined to, and the size
    /// of its terminal as rows and columns, 0 where it has none. Standard output goes into a pipe, page
    /// by page, where its descriptor comes along.
    Begin {
        streams: Option<Streams>,
        size: (u16, u16),
    },
    /// First word of a client that comes later.
    Attach {
        version: u8,
        streams: Streams,
    },
    /// First word of a client that wants a further process: `container::exec::Request` as JSON;
    /// three descriptors come with it unless it has a terminal or is detached.
    Exec {
        version: u8,
        request: &'a [u8],
    },
    /// The process runs. For one with a terminal of its own, the terminal's master comes with it; for
    /// the container's own process, where its standard input is a pipe, that pipe.
    Started {
        pid: i32,
    },
    /// [`Failed`] as JSON.
    Failed(&'a [u8]),
    /// Bytes of a stream, from or to the container.
    Bytes {
        stream: Stream,
        bytes: &'a [u8],
    },
    /// So many bytes of the stream have been passed on.
    Taken {
        stream: Stream,
        count: u32,
    },
    /// Standard input has ended. From the monitor: the container reads no more of it.
    InputEnd,
    Resize {
        rows: u16,
        columns: u16,
    },
    /// To the container's process.
    Signal {
        number: i32,
    },
    /// The client leaves and the process with the terminal stays.
    Detach,
    /// For the eyes of the user.
    Notice(&'a str),
    /// The last word.
    Exit {
        code: u8,
    },
    /// First word of a client that wants the container's network changed:
    /// `container::network::Request` as JSON.
    Change {
        version: u8,
        request: &'a [u8],
    },
    /// It was changed; or: these were the log's files of now.
    Done,
    /// First word of a client that reads the log as it grows. The answer: a [`Message::LogFile`] for
    /// each file, the oldest first, `Done`, and then one for each file that is begun; the end of the
    /// connection is the log's. The client says [`Message::Taken`] for each (of standard output, 1).
    Follow {
        version: u8,
    },
    /// A descriptor comes with it.
    LogFile {
        compressed: bool,
    },
}

impl<'a> Message<'a> {
    fn head(&self) -> ([u8; HEAD], usize) {
        let mut head = [0u8; HEAD];
        let length = {
            let mut put = |parts: &[&[u8]]| {
                let mut at = 0;
                for part in parts {
                    head[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                at
            };
            match self {
                Self::Begin { streams, size } => {
                    let streams = streams.map_or(u8::MAX, Streams::code);
                    put(&[&[0, streams], &size.0.to_le_bytes(), &size.1.to_le_bytes()])
                }
                Self::Attach { version, streams } => put(&[&[1, *version, streams.code()]]),
                Self::Exec { version, .. } => put(&[&[2, *version]]),
                Self::Started { pid } => put(&[&[3], &pid.to_le_bytes()]),
                Self::Failed(_) => put(&[&[4]]),
                Self::Bytes { stream, .. } => put(&[&[5, stream.code()]]),
                Self::Taken { stream, count } => put(&[&[6, stream.code()], &count.to_le_bytes()]),
                Self::InputEnd => put(&[&[7]]),
                Self::Resize { rows, columns } => put(&[&[8], &rows.to_le_bytes(), &columns.to_le_bytes()]),
                Self::Signal { number } => put(&[&[9], &number.to_le_bytes()]),
                Self::Detach => put(&[&[10]]),
                Self::Notice(_) => put(&[&[11]]),
                Self::Exit { code } => put(&[&[12, *code]]),
                Self::Change { version, .. } => put(&[&[13, *version]]),
                Self::Done => put(&[&[14]]),
                Self::Follow { version } => put(&[&[20, *version]]),
                Self::LogFile { compressed } => put(&[&[21, u8::from(*compressed)]]),
            }
        };
        (head, length)
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Exec { request: bytes, .. }
            | Self::Change { request: bytes, .. }
            | Self::Failed(bytes)
            | Self::Bytes { bytes, .. } => bytes,
            Self::Notice(text) => text.as_bytes(),
            _ => &[],
        }
    }

    /// The message in a packet; `None`: not one that this version knows.
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = packet.split_first()?;
        Some(match kind {
            0 => {
                let [code, size @ ..] = *rest.first_chunk::<5>()?;
                let streams = if code == u8::MAX { None } else { Some(Streams::from_code(code)) };
                Self::Begin { streams, size: two(size) }
            }
            1 => Self::Attach { version: *rest.first()?, streams: Streams::from_code(*rest.get(1)?) },
            2 => Self::Exec { version: *rest.first()?, request: &rest[1..] },
            3 => Self::Started { pid: i32::from_le_bytes(*rest.first_chunk()?) },
            4 => Self::Failed(rest),
            5 => Self::Bytes { stream: Stream::from_code(*rest.first()?)?, bytes: &rest[1..] },
            6 => {
                let (&stream, count) = rest.split_first()?;
                Self::Taken { stream: Stream::from_code(stream)?, count: u32::from_le_bytes(*count.first_chunk()?) }
            }
            7 => Self::InputEnd,
            8 => {
                let (rows, columns) = two(*rest.first_chunk()?);
                Self::Resize { rows, columns }
            }
            9 => Self::Signal { number: i32::from_le_bytes(*rest.first_chunk()?) },
            10 => Self::Detach,
            11 => Self::Notice(std::str::from_utf8(rest).ok()?),
            12 => Self::Exit { code: *rest.first()? },
            13 => Self::Change { version: *rest.first()?, request: &rest[1..] },
            14 => Self::Done,
            20 => Self::Follow { version: *rest.first()? },
            21 => Self::LogFile { compressed: *rest.first()? != 0 },
            _ => return None,
        })
    }

    /// Sends it, waiting for room.
    ///
    /// # Errors
    /// As [`seqpacket::send`].
    pub fn send(&self, socket: BorrowedFd<'_>) -> nix::Result<()> {
        self.send_with(socket, &[], true)
    }

    /// Sends it with descriptors; without `wait`, `EAGAIN` when there is no room.
    ///
    /// # Errors
    /// As [`seqpacket::send`].
    pub fn send_with(&self, socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>], wait: bool) -> nix::Result<()> {
        let (head, length) = self.head();
        seqpacket::send(socket, &[&head[..length], self.body()], fds, wait)
    }

    /// The whole packet, to be sent later.
    #[must_use]
    pub fn to_packet(&self) -> Vec<u8> {
        let (head, length) = self.head();
        [&head[..length], self.body()].concat()
    }
}

fn two(bytes: [u8; 4]) -> (u16, u16) {
    let [a, b, c, d] = bytes;
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

impl Streams {
    fn code(self) -> u8 {
        u8::from(self.stdin) | u8::from(self.stdout) << 1 | u8::from(self.stderr) << 2
    }

    fn from_code(code: u8) -> Self {
        Self { stdin: code & 1 != 0, stdout: code & 2 != 0, stderr: code & 4 != 0 }
    }
}

/// Receives the next message, waiting for it, and hands it to `then`. `None`: the peer is gone.
///
/// # Errors
/// As [`seqpacket::receive`]; `EBADMSG` for what is no message.
pub fn receive<T>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    then: impl FnOnce(Message<'_>, Vec<OwnedFd>) -> T,
) -> nix::Result<Option<T>> {
    let (length, fds) = seqpacket::receive(socket, buffer, true)?;
    if length == 0 {
        return Ok(None);
    }
    let message = Message::parse(&buffer[..length]).ok_or(nix::errno::Errno::EBADMSG)?;
    Ok(Some(then(message, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };

    fn samples() -> Vec<Message<'static>> {
        vec![
            Message::Begin { streams: None, size: (0, 0) },
            Message::Begin { streams: Some(ALL), size: (24, 300) },
            Message::Attach { version: VERSION, streams: Streams { stderr: false, ..ALL } },
            Message::Exec { version: VERSION, request: b"{}" },
            Message::Started { pid: 70_000 },
            Message::Failed(b"{\"message\":\"x\"}"),
            Message::Bytes { stream: Stream::Error, bytes: b"out\0put" },
            Message::Taken { stream: Stream::Output, count: 1 << 17 },
            Message::InputEnd,
            Message::Resize { rows: 25, columns: 1000 },
            Message::Signal { number: 64 },
            Message::Detach,
            Message::Notice("gr\u{fc}n"),
            Message::Exit { code: 255 },
            Message::Change { version: VERSION, request: b"{}" },
            Message::Done,
            Message::Follow { version: VERSION },
            Message::LogFile { compressed: true },
        ]
    }

    #[test]
    fn every_message_survives_the_socket() {
        let (a, b) = seqpacket::pair().expect("socket pair");
        for message in samples() {
            message.send(a.as_fd()).expect("send");
            let mut buffer = vec![0; PACKET];
            let same = receive(b.as_fd(), &mut buffer, |received, _| received == message).expect("receive");
            assert_eq!(same, Some(true), "{message:?}");
        }
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut [0; 16], |_, _| ()), Ok(None));
    }

    #[test]
    fn a_cut_off_message_is_refused_and_never_panics() {
        for message in samples() {
            let packet = message.to_packet();
            for length in 0..packet.len() {
                let _ = Message::parse(&packet[..length]);
            }
            assert_eq!(Message::parse(&packet), Some(message));
        }
        assert_eq!(Message::parse(&[200, 1, 2]), None);
        assert_eq!(Message::parse(&[5, 9, 2]), None);
        assert_eq!(Message::parse(&[]), None);
    }

    #[test]
    fn the_longest_message_fits_a_packet_and_descriptors_arrive() {
        let (a, b) = seqpacket::pair().expect("socket pair");
        let bytes = vec![7u8; CHUNK];
        let message = Message::Bytes { stream: Stream::Output, bytes: &bytes };
        message.send_with(a.as_fd(), &[a.as_fd(), b.as_fd()], true).expect("send");
        let mut buffer = vec![0; PACKET];
        let got = receive(b.as_fd(), &mut buffer, |received, fds| (received == message, fds.len())).expect("receive");
        assert_eq!(got, Some((true, 2)));
    }
}
