//! Reading IP packets that a container sent: nothing in them is believed.

use std::net::IpAddr;

use super::checksum::Sum;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// Of IPv6: RFC 8200 4.1.
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Bytes of UDP's header, and of ICMP's echo.
pub const HEAD: usize = 8;

/// An IP packet, both versions alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'p> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Of the transport: behind IPv6's extension headers, unless this is a fragment.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub hops: u8,
    /// Type of service, or traffic class.
    pub class: u8,
    /// It must not be cut on its way: `DF`, and IPv6 where the sender did not cut it itself.
    pub uncut: bool,
    pub fragment: Option<Fragment>,
    pub payload: &'p [u8],
    /// Headers too, as it was received: what an ICMP error quotes.
    pub raw: &'p [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    /// Bytes before it, a multiple of 8.
    pub offset: usize,
    /// It is not the last.
    pub more: bool,
}

impl<'p> Packet<'p> {
    /// `None`: no packet of IP, cut off, or with a routing header, which would let a container name
    /// its destination twice.
    pub fn parse(bytes: &'p [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &'p [u8]) -> Option<Self> {
        let head: &[u8; 20] = bytes.first_chunk()?;
        let begin = usize::from(head[0] & 15) * 4;
        let end = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if begin < head.len() || end > bytes.len() {
            return None;
        }
        let cut = u16::from_be_bytes([head[6], head[7]]);
        let (offset, more) = (usize::from(cut & 0x1fff) * 8, cut & 0x2000 != 0);
        let id = u32::from(u16::from_be_bytes([head[4], head[5]]));
        Some(Self {
            source: four(head, 12),
            destination: four(head, 16),
            protocol: head[9],
            hops: head[8],
            class: head[1],
            uncut: cut & 0x4000 != 0,
            fragment: (more || offset > 0).then_some(Fragment { id, offset, more }),
            payload: bytes.get(begin..end)?,
            raw: &bytes[..end],
        })
    }

    fn v6(bytes: &'p [u8]) -> Option<Self> {
        let head: &[u8; 40] = bytes.first_chunk()?;
        let end = head.len() + usize::from(u16::from_be_bytes([head[4], head[5]]));
        let rest = bytes.get(head.len()..end)?;
        let (protocol, rest) = skip_extensions(head[6], rest)?;
        let mut packet = Self {
            source: sixteen(head, 8),
            destination: sixteen(head, 24),
            protocol,
            hops: head[7],
            class: (head[0] << 4) | (head[1] >> 4),
            uncut: true,
            fragment: None,
            payload: rest,
            raw: &bytes[..end],
        };
        if protocol == FRAGMENT {
            let [next, _, c0, c1, i0, i1, i2, i3] = *rest.first_chunk()?;
            let cut = u16::from_be_bytes([c0, c1]);
            let (offset, more) = (usize::from(cut & !7), cut & 1 != 0);
            packet.payload = &rest[8..];
            packet.protocol = next;
            packet.uncut = false;
            if more || offset > 0 {
                packet.fragment = Some(Fragment { id: u32::from_be_bytes([i0, i1, i2, i3]), offset, more });
            } else {
                // A fragment that is all of the packet: RFC 6946.
                (packet.protocol, packet.payload) = skip_extensions(next, packet.payload)?;
            }
        }
        Some(packet)
    }

    /// Whether the checksum of UDP or ICMP is right. The sender's mistakes must not be mended by
    /// sending on what it sent with a checksum of our own.
    pub fn is_sound(&self) -> bool {
        let mut sum = match self.protocol {
            // None was made: IPv4 only.
            UDP if self.source.is_ipv4() && self.payload.get(6..8) == Some(&[0, 0]) => return true,
            ICMP => Sum::default(),
            protocol => Sum::pseudo(self.source, self.destination, protocol, self.payload.len()),
        };
        sum.add(self.payload);
        sum.is_right()
    }
}

/// The ports and the payload of UDP; `None`: cut off, or a port is 0.
pub fn udp(payload: &[u8]) -> Option<(u16, u16, &[u8])> {
    let [s0, s1, d0, d1, l0, l1, ..] = *payload.first_chunk::<HEAD>()?;
    let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let data = payload.get(HEAD..length)?;
    (source != 0 && destination != 0).then_some((source, destination, data))
}

/// Passes over IPv6's extension headers up to a transport or a fragment's header.
pub fn skip_extensions(mut protocol: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    // Each is there at most once, destination options twice: RFC 8200 4.1.
    for _ in 0..8 {
        let unit = match protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => 8,
            AUTHENTICATION => 4,
            43 => return None,
            _ => return Some((protocol, rest)),
        };
        let [next, length] = *rest.first_chunk()?;
        let length = if unit == 8 { (usize::from(length) + 1) * 8 } else { (usize::from(length) + 2) * 4 };
        rest = rest.get(length..)?;
        protocol = next;
    }
    None
}

fn four(head: &[u8; 20], at: usize) -> IpAddr {
    IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn sixteen(head: &[u8; 40], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&head[at..at + 16]);
    IpAddr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(flags: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 63, protocol, 0, 0, 10, 0, 0, 2, 192, 0, 2, 1];
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(payload);
        let length = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x6a, 0xb0, 0, 0, 0, 0, next, 63];
        bytes[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend("fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        bytes.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn ipv4_is_read() {
        let mut bytes = v4(0x4000, UDP, &[1, 2, 3]);
        bytes.push(9); // behind the end
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.source, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!((packet.payload, packet.uncut, packet.hops), (&[1, 2, 3][..], true, 63));
        let bytes = v4(0x2003, UDP, &[0; 8]);
        let fragment = Packet::parse(&bytes).unwrap().fragment;
        assert_eq!(fragment, Some(Fragment { id: 0x1234, offset: 24, more: true }));
        let options = {
            let mut b = v4(0, UDP, &[0; 8]);
            b[0] = 0x46;
            b
        };
        assert_eq!(Packet::parse(&options).unwrap().payload.len(), 4);
        for (at, value) in [(0, 0x44), (0, 0x4f), (3, 255), (3, 19), (0, 0x55)] {
            let mut bytes = v4(0, UDP, &[0; 8]);
            bytes[at] = value;
            assert_eq!(Packet::parse(&bytes), None, "{at} {value}");
        }
    }

    #[test]
    fn ipv6_is_read_behind_its_extensions() {
        let bytes = v6(DESTINATION_OPTIONS, &[UDP, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.protocol, packet.payload, packet.class), (UDP, &[1, 2, 3][..], 0xab));
        let bytes = v6(FRAGMENT, &[UDP, 0, 0, 0x19, 1, 2, 3, 4, 5]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.fragment, Some(Fragment { id: 0x0102_0304, offset: 24, more: true }));
        assert_eq!(packet.payload, [5]);
        // Routing, and extensions without an end.
        assert_eq!(Packet::parse(&v6(43, &[UDP, 0, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(Packet::parse(&v6(0, &[0; 80])), None);
        assert_eq!(Packet::parse(&v6(0, &[UDP, 200, 0, 0, 0, 0, 0, 0])), None);
    }

    #[test]
    fn ports_are_read_and_lengths_are_not_believed() {
        assert_eq!(udp(&[0, 1, 0, 2, 0, 9, 0, 0, 7, 8]), Some((1, 2, &[7][..])));
        assert_eq!(udp(&[0, 1, 0, 2, 0, 11, 0, 0, 7, 8]), None);
        assert_eq!(udp(&[0, 1, 0, 2, 0, 7, 0, 0]), None);
        assert_eq!(udp(&[0, 0, 0, 2, 0, 8, 0, 0]), None);
        assert_eq!(udp(&[0, 1, 0, 2]), None);
    }
}
