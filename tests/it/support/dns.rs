//! A name server that a test starts in the outside, and a client that asks as a container's programs
//! would, packet by packet (RFC 1035).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Netns;

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;

/// Codes of an answer.
pub const NO_ERROR: u8 = 0;
pub const SERVER_FAILED: u8 = 2;
pub const NO_SUCH_NAME: u8 = 3;
pub const REFUSED: u8 = 5;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: u8,
    /// Addresses and names, sorted.
    pub records: Vec<String>,
}

impl Answer {
    pub fn of(records: &[&str]) -> Self {
        let mut records: Vec<_> = records.iter().map(|&record| record.to_owned()).collect();
        records.sort();
        Self { code: NO_ERROR, records }
    }

    pub fn none(code: u8) -> Self {
        Self { code, records: Vec::new() }
    }
}

/// Asks the resolver of the container whose namespace it is, over UDP.
#[track_caller]
pub fn dig(container: &Netns, name: &str, kind: u16) -> Answer {
    let reply = raw(container, &query(name, kind)).unwrap_or_else(|e| panic!("ask for {name}: {e}"));
    parse(&reply)
}

/// The same over TCP.
#[track_caller]
pub fn dig_tcp(container: &Netns, name: &str, kind: u16) -> Answer {
    let query = query(name, kind);
    let reply = container.inside(|| -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect("127.0.0.11:53")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&framed(&query))?;
        read_framed(&mut stream)
    });
    parse(&reply.unwrap_or_else(|e| panic!("ask for {name} over TCP: {e}")))
}

/// Sends the resolver a packet; what comes back within a while.
pub fn raw(container: &Netns, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    container.inside(|| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect("127.0.0.11:53")?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        socket.send(packet)?;
        let mut buffer = vec![0; 65536];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    })
}

/// A question, with recursion desired.
pub fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(encoded(name));
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

/// The question for the name of an address.
pub fn reverse(address: &str) -> String {
    match address.parse().unwrap() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().flat_map(|byte| [byte >> 4, byte & 15]).rev();
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut packet = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut packet)?;
    Ok(packet)
}

/// A name, and where it ends in the packet.
fn name_at(packet: &[u8], mut at: usize) -> (String, usize) {
    let (mut labels, mut end) = (Vec::new(), None);
    loop {
        let length = usize::from(packet[at]);
        match length {
            0 => return (labels.join("."), end.unwrap_or(at + 1)),
            192.. => {
                end.get_or_insert(at + 2);
                at = (length & 63) << 8 | usize::from(packet[at + 1]);
            }
            _ => {
                labels.push(String::from_utf8_lossy(&packet[at + 1..=at + length]).into_owned());
                at += length + 1;
            }
        }
    }
}

fn number(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

#[track_caller]
fn parse(packet: &[u8]) -> Answer {
    assert!(packet.len() >= 12 && packet[..2] == [0x12, 0x34] && packet[2] & 0x80 != 0, "no answer: {packet:x?}");
    let mut at = 12;
    for _ in 0..number(packet, 4) {
        at = name_at(packet, at).1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..number(packet, 6) {
        at = name_at(packet, at).1;
        let (kind, length) = (number(packet, at), usize::from(number(packet, at + 8)));
        let data = &packet[at + 10..at + 10 + length];
        match kind {
            A => records.push(IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string()),
            AAAA => records.push(IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string()),
            PTR => records.push(name_at(packet, at + 10).0),
            _ => {}
        }
        at += 10 + length;
    }
    records.sort();
    Answer { code: packet[3] & 15, records }
}

/// A name server, over UDP and TCP. It knows a few names and says of others that there are none.
#[derive(Debug, Clone)]
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    #[track_caller]
    pub fn start(at: &Netns, address: impl ToSocketAddrs + Send + Sync + Copy, names: &[(&str, &str)]) -> Self {
        let (datagrams, listener) =
            at.inside(|| (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
        let names: HashMap<String, IpAddr> =
            names.iter().map(|(name, address)| ((*name).to_owned(), address.parse().unwrap())).collect();
        let server = Self { asked: Arc::default() };
        let (first, second) = (server.clone(), server.clone());
        let known = names.clone();
        // Both threads end with this process, or when nobody has asked for longer than a test takes.
        datagrams.set_read_timeout(Some(super::PATIENCE * 2)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok((length, client)) = datagrams.recv_from(&mut buffer) {
                let _ = datagrams.send_to(&first.answer(&buffer[..length], &known), client);
            }
        });
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                while let Ok(packet) = read_framed(&mut stream) {
                    let _ = stream.write_all(&framed(&second.answer(&packet, &names)));
                }
            }
        });
        server
    }

    /// The names that it was asked for, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, packet: &[u8], names: &HashMap<String, IpAddr>) -> Vec<u8> {
        let (name, end) = name_at(packet, 12);
        let name = name.to_ascii_lowercase();
        let kind = number(packet, end);
        let known = names.get(&name);
        let address = known.filter(|address| kind == if address.is_ipv4() { A } else { AAAA });
        self.asked.lock().unwrap().push(name);
        let code = if known.is_some() { NO_ERROR } else { NO_SUCH_NAME };
        let mut reply = packet[..2].to_vec();
        reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
        reply.extend(&packet[12..end + 4]);
        if let Some(address) = address {
            let data = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60, 0]);
            reply.push(u8::try_from(data.len()).unwrap());
            reply.extend(data);
        }
        reply
    }
}
