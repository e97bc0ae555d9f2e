//! The journald driver: a datagram for each line, in the journal's native protocol, with the fields
//! that Docker's driver has (moby, `daemon/logger/journald`; systemd's Native Journal Protocol).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::Result;

use super::lines::Line;
use super::{Names, options};
use crate::container::config::ContainerConfig;
use crate::error::Failure;
use crate::monitor::protocol::Stream;
use crate::store::Id;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long the container may wait for a journal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// The fields that are the same in every entry, as they are sent.
    fields: Vec<u8>,
    ordinal: u64,
    /// For each stream: which piece of a long line comes next, and the name that its pieces share.
    pieces: [Option<(u32, Id)>; 2],
    packet: Vec<u8>,
    /// So many entries could not be sent since the last one that was.
    lost: u64,
    problem: Option<String>,
    told: bool,
}

impl Journal {
    /// # Errors
    /// There is no journald here.
    pub(super) fn open(config: &ContainerConfig, of: &Names<'_>) -> Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET).map_err(|e| {
            Failure::new("failed to initialize logging driver: journald is not enabled on this host")
                .source(e)
                .hint("use the log driver json-file or local")
        })?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let tag = options::tag(config, of, "{{.ID}}")?;
        let id = config.id.as_str();
        let epoch = Id::random()?.to_string();
        let mut fields = Vec::new();
        for (name, value) in [
            ("CONTAINER_ID", &id[..12]),
            ("CONTAINER_ID_FULL", id),
            ("CONTAINER_NAME", of.name),
            ("CONTAINER_TAG", &tag),
            ("IMAGE_NAME", &config.config.image),
            ("SYSLOG_IDENTIFIER", &tag),
            ("CONTAINER_LOG_EPOCH", &epoch),
        ] {
            field(&mut fields, name, value.as_bytes());
        }
        for (name, value) in named(options::attributes(config)) {
            field(&mut fields, &name, value.as_bytes());
        }
        let (pieces, packet) = ([const { None }; 2], Vec::new());
        Ok(Self { socket, fields, ordinal: 0, pieces, packet, lost: 0, problem: None, told: false })
    }

    pub(super) fn send(&mut self, line: Line<'_>, stream: Stream, time: &str) {
        if self.lost > 0 {
            let text = format!("[ctr: {} lines of log are missing here]", self.lost);
            self.build(&text.into_bytes(), Stream::Error, time);
            if self.deliver().is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        let slot = usize::from(stream == Stream::Error);
        let piece = match (self.pieces[slot].take(), line.ended) {
            (None, true) => None,
            (None, false) => Id::random().ok().map(|id| (1, id)),
            (Some((n, id)), _) => Some((n + 1, id)),
        };
        self.build(line.text, stream, time);
        if let Some((n, id)) = piece {
            field(&mut self.packet, "CONTAINER_PARTIAL_ID", id.as_str().as_bytes());
            field(&mut self.packet, "CONTAINER_PARTIAL_ORDINAL", n.to_string().as_bytes());
            field(&mut self.packet, "CONTAINER_PARTIAL_LAST", if line.ended { b"true" } else { b"false" });
            if !line.ended {
                field(&mut self.packet, "CONTAINER_PARTIAL_MESSAGE", b"true");
                self.pieces[slot] = Some((n, id));
            }
        }
        if let Err(e) = self.deliver() {
            self.lost += 1;
            if !self.told {
                self.told = true;
                self.problem = Some(format!("output is not logged: send to the journal: {e}"));
            }
        }
    }

    pub(super) fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    pub(super) fn rest(&mut self) {
        self.packet = Vec::new();
    }

    fn build(&mut self, text: &[u8], stream: Stream, time: &str) {
        self.ordinal += 1;
        self.packet.clear();
        field(&mut self.packet, "MESSAGE", text);
        field(&mut self.packet, "PRIORITY", if stream == Stream::Error { b"3" } else { b"6" });
        field(&mut self.packet, "SYSLOG_TIMESTAMP", time.as_bytes());
        field(&mut self.packet, "CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes());
        self.packet.extend_from_slice(&self.fields);
    }

    fn deliver(&mut self) -> io::Result<()> {
        // Having waited in vain once, the next one is only tried.
        if self.lost > 0 {
            self.socket.set_nonblocking(true)?;
        }
        let mut sent = self.socket.send(&self.packet);
        if sent.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::NotConnected | ErrorKind::ConnectionRefused)) {
            // It was restarted, and listens on another socket of the same name.
            sent = self.socket.connect(SOCKET).and_then(|()| self.socket.send(&self.packet));
        }
        self.socket.set_nonblocking(false)?;
        sent.map(drop)
    }
}

/// A field as it is sent: with its length, so that its value may hold anything.
fn field(packet: &mut Vec<u8>, name: &str, value: &[u8]) {
    packet.extend_from_slice(name.as_bytes());
    packet.push(b'\n');
    packet.extend_from_slice(&(value.len() as u64).to_le_bytes());
    packet.extend_from_slice(value);
    packet.push(b'\n');
}

/// Labels and variables under names that the journal allows: capital letters, digits, and underscores
/// that do not come first.
fn named(attributes: BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let names = attributes.into_iter().map(move |(name, value)| {
        let name: String = name.chars().map(allowed).collect();
        (name.trim_start_matches('_').to_owned(), value)
    });
    names.filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_carry_any_bytes() {
        let mut packet = Vec::new();
        field(&mut packet, "MESSAGE", b"a\nb\xff");
        assert_eq!(packet, b"MESSAGE\n\x04\0\0\0\0\0\0\0a\nb\xff\n");
        let names = [("com.example/x", "1"), ("_y", "2"), ("__", "3")];
        let names = names.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let found: Vec<_> = named(names).collect();
        assert_eq!(found, [("Y".to_owned(), "2".to_owned()), ("COM_EXAMPLE_X".to_owned(), "1".to_owned())]);
    }
}
