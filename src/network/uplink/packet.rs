//! Packets as they come out of the TUN: whose connection a SYN wants, and the answers that refuse it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which connection: all flows of the TUN's have different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
}

/// A TCP packet, as much of it as matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    pub key: Key,
    pub flags: u8,
    sequence: u32,
    acknowledged: u32,
    /// Sequence numbers that it takes: its payload, SYN and FIN.
    length: u32,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMP6: u8 = 58;

/// Lengths of headers without options.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;

/// What keeps a packet from its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    Network,
    Host,
    Prohibited,
}

impl Tcp {
    /// The TCP packet; `None`: it is something else, a fragment, or cut off.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (source, destination, tcp) = match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet[0] & 15) * 4;
                // Any bit of the fragment's offset, or more of them to follow.
                let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
                if header < IPV4 || *packet.get(9)? != PROTOCOL_TCP || fragment != 0 {
                    return None;
                }
                let address = |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().map(|a| Ipv4Addr::from(*a).into());
                let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                (address(12)?, address(16)?, packet.get(header..length.min(packet.len()))?)
            }
            6 => {
                if *packet.get(6)? != PROTOCOL_TCP {
                    return None;
                }
                let address =
                    |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().map(|a| Ipv6Addr::from(*a).into());
                let length = IPV6 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                (address(8)?, address(24)?, packet.get(IPV6..length.min(packet.len()))?)
            }
            _ => return None,
        };
        let head = tcp.first_chunk::<TCP>()?;
        let two = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let four = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let payload = tcp.len().checked_sub(usize::from(head[12] >> 4) * 4)?;
        let flags = head[13];
        Some(Self {
            key: Key { source, destination, source_port: two(0), destination_port: two(2) },
            flags,
            sequence: four(4),
            acknowledged: four(8),
            length: u32::try_from(payload).ok()? + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0),
        })
    }

    /// Whether it opens a connection.
    pub fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }

    /// The reset that answers it: RFC 9293, 3.5.2. `None`: it is one itself.
    pub fn reset(&self) -> Option<Vec<u8>> {
        if self.flags & RST != 0 {
            return None;
        }
        let (sequence, acknowledged, flags) = match self.flags & ACK {
            0 => (0, self.sequence.wrapping_add(self.length), RST | ACK),
            _ => (self.acknowledged, 0, RST),
        };
        let mut tcp = [0; TCP];
        tcp[..2].copy_from_slice(&self.key.destination_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&self.key.source_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = flags;
        answer(&self.key, PROTOCOL_TCP, &mut tcp, Some(16))
    }

    /// The ICMP message that says why `packet`, which this was parsed from, cannot be delivered, in
    /// the name of its destination: RFC 792, RFC 4443.
    pub fn unreachable(&self, packet: &[u8], why: Unreachable) -> Option<Vec<u8>> {
        let quoted = &packet[..packet.len().min(IPV6 + TCP)];
        let is_v4 = self.key.source.is_ipv4();
        let (kind, code, protocol) = match (is_v4, why) {
            (true, Unreachable::Network) => (3, 0, PROTOCOL_ICMP),
            (true, Unreachable::Host) => (3, 1, PROTOCOL_ICMP),
            (true, Unreachable::Prohibited) => (3, 13, PROTOCOL_ICMP),
            (false, Unreachable::Network) => (1, 0, PROTOCOL_ICMP6),
            (false, Unreachable::Host) => (1, 3, PROTOCOL_ICMP6),
            (false, Unreachable::Prohibited) => (1, 1, PROTOCOL_ICMP6),
        };
        let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
        icmp.extend_from_slice(quoted);
        // The pseudo header counts in ICMPv6 only.
        if is_v4 {
            let sum = checksum(0, &icmp);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            return answer(&self.key, protocol, &mut icmp, None);
        }
        answer(&self.key, protocol, &mut icmp, Some(2))
    }
}

/// A packet back to the source of `key`, with its checksums; `at`: where in the payload lies one that
/// counts the pseudo header.
fn answer(key: &Key, protocol: u8, payload: &mut [u8], at: Option<usize>) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).ok()?;
    let (mut packet, pseudo) = match (key.destination, key.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = length.checked_add(20)?.to_be_bytes();
            // Do not fragment, 64 hops.
            let mut head = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
            head.extend_from_slice(&from.octets());
            head.extend_from_slice(&to.octets());
            let sum = checksum(0, &head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            let pseudo = add(0, &head[12..]);
            (head, pseudo)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let bytes = length.to_be_bytes();
            let mut head = vec![0x60, 0, 0, 0, bytes[0], bytes[1], protocol, 64];
            head.extend_from_slice(&from.octets());
            head.extend_from_slice(&to.octets());
            let pseudo = add(0, &head[8..]);
            (head, pseudo)
        }
        _ => return None,
    };
    if let Some(at) = at {
        let sum = checksum(pseudo + u32::from(protocol) + u32::from(length), payload);
        payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    Some(packet)
}

/// Adds 16-bit words up: RFC 1071. Packets are short enough not to overflow.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .fold(sum, |sum, pair| sum + (u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default())))
}

fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let mut sum = add(sum, bytes);
    while let Some(carry) = Some(sum >> 16).filter(|carry| *carry != 0) {
        sum = (sum & 0xffff) + carry;
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(v6: bool) -> Key {
        let (source, destination) = if v6 { ("fd00::2", "2001:db8::1") } else { ("172.17.0.2", "192.0.2.1") };
        Key {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: 40000,
            destination_port: 80,
        }
    }

    /// A SYN, or what `flags` say, from the source of `key`.
    fn packet(key: Key, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0; TCP];
        tcp[..2].copy_from_slice(&key.source_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&key.destination_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        tcp[8..12].copy_from_slice(&77u32.to_be_bytes());
        (tcp[12], tcp[13]) = (5 << 4, flags);
        tcp.extend_from_slice(payload);
        let turned = Key { source: key.destination, destination: key.source, ..key };
        answer(&turned, PROTOCOL_TCP, &mut tcp, Some(16)).unwrap()
    }

    /// Whether the checksums of a packet are right: over all, they add up to nothing.
    fn is_sound(packet: &[u8]) -> bool {
        let (head, protocol, pseudo) = match packet[0] >> 4 {
            4 => (IPV4, packet[9], &packet[12..20]),
            _ => (IPV6, packet[6], &packet[8..40]),
        };
        let length = u32::try_from(packet.len() - head).unwrap();
        let pseudo = if protocol == PROTOCOL_ICMP { 0 } else { add(0, pseudo) + u32::from(protocol) + length };
        (head == IPV6 || checksum(0, &packet[..IPV4]) == 0) && checksum(pseudo, &packet[head..]) == 0
    }

    #[test]
    fn a_syn_is_refused_by_a_reset_that_acknowledges_it() {
        for v6 in [false, true] {
            let syn = packet(key(v6), SYN, &[]);
            assert!(is_sound(&syn));
            let tcp = Tcp::parse(&syn).unwrap();
            assert!(tcp.is_syn() && tcp.key == key(v6));
            let reset = tcp.reset().unwrap();
            assert!(is_sound(&reset), "{reset:?}");
            let reset = Tcp::parse(&reset).unwrap();
            assert_eq!((reset.flags, reset.sequence, reset.acknowledged), (RST | ACK, 0, 0));
            assert_eq!((reset.key.source, reset.key.source_port), (key(v6).destination, 80));
            assert_eq!(reset.reset(), None);
        }
    }

    #[test]
    fn what_belongs_to_no_flow_is_reset_where_it_is() {
        let tcp = Tcp::parse(&packet(key(false), ACK, b"data")).unwrap();
        let reset = Tcp::parse(&tcp.reset().unwrap()).unwrap();
        assert_eq!((reset.flags, reset.sequence), (RST, 77));
    }

    #[test]
    fn unreachable_quotes_the_packet() {
        for v6 in [false, true] {
            let syn = packet(key(v6), SYN, &[]);
            for why in [Unreachable::Network, Unreachable::Host, Unreachable::Prohibited] {
                let message = Tcp::parse(&syn).unwrap().unreachable(&syn, why).unwrap();
                assert!(is_sound(&message), "{message:?}");
                assert!(message.ends_with(&syn));
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_no_packet() {
        for v6 in [false, true] {
            let whole = packet(key(v6), SYN, &[]);
            for length in 0..whole.len() {
                assert_eq!(Tcp::parse(&whole[..length]), None, "{length}");
            }
        }
        let mut fragment = packet(key(false), SYN, &[]);
        fragment[6] = 0x20;
        assert_eq!(Tcp::parse(&fragment), None);
    }
}
