//! The checksum of IP, ICMP and UDP: RFC 1071.

use std::net::IpAddr;

/// A one's complement sum under way, in this machine's byte order: which order the bytes are added
/// in does not matter as long as they are written back in the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The pseudo header of UDP and ICMPv6: RFC 768, RFC 8200 8.1. `length`: of header and payload.
    pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Self {
        let mut sum = Self::default();
        for address in [source, destination] {
            match address {
                IpAddr::V4(v4) => sum.add(&v4.octets()),
                IpAddr::V6(v6) => sum.add(&v6.octets()),
            }
        }
        sum.add(&[0, protocol]);
        // Above 65535 for nothing that is sent: the low half is all.
        sum.add(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        sum
    }

    /// Adds bytes. An odd number of them only as the last.
    pub fn add(&mut self, bytes: &[u8]) {
        let (fours, rest) = bytes.as_chunks::<4>();
        // Each adds less than 2^32, and a packet has at most 2^14 of them.
        self.0 += fours.iter().map(|four| u64::from(u32::from_ne_bytes(*four))).sum::<u64>();
        for pair in rest.chunks(2) {
            self.0 += u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]));
        }
    }

    fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap_or(u16::MAX)
    }

    /// As it is written where the checksum is still to be completed: `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
    pub fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// As it is written into a header.
    pub fn finish(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// As UDP has it, where 0 means that there is none.
    pub fn finish_udp(self) -> [u8; 2] {
        match self.finish() {
            [0, 0] => [0xff, 0xff],
            sum => sum,
        }
    }

    /// Whether all, the checksum included, adds up as it must.
    pub fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_the_rfc() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
        assert_eq!(sum.finish(), [0x22, 0x0d]);
        sum.add(&sum.finish());
        assert!(sum.is_right());
    }

    #[test]
    fn pieces_and_odd_ends() {
        let bytes: Vec<u8> = (0..=254).collect();
        let mut whole = Sum::default();
        whole.add(&bytes);
        let mut pieces = Sum::default();
        for piece in bytes.chunks(34) {
            pieces.add(piece);
        }
        assert_eq!(whole.finish(), pieces.finish());
        let slow = bytes
            .chunks(2)
            .fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
        let slow = (slow & 0xffff) + (slow >> 16);
        assert_eq!(whole.partial(), u16::try_from((slow & 0xffff) + (slow >> 16)).unwrap().to_be_bytes());
    }
}
