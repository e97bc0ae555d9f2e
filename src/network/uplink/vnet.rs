//! `struct virtio_net_hdr`, which precedes every packet of a TUN that has `IFF_VNET_HDR`:
//! `linux/virtio_net.h`. By it segments and checksums are left to who can do them last, so that a
//! packet may be as long as 64 KiB whatever the MTU is.

/// Bytes before each packet, read or written.
pub const HEADER: usize = 10;

/// What is known of a packet, numbers in this machine's byte order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Of [`NEEDS_CHECKSUM`] and [`CHECKSUM_VALID`].
    pub flags: u8,
    /// [`SEGMENT_NONE`] and so on.
    pub segment_kind: u8,
    /// Bytes of the packet's headers, as a hint.
    pub headers: u16,
    /// Bytes of payload in each segment, where it is to be cut.
    pub segment: u16,
    /// Where the checksum begins to count, and where it lies from there.
    pub checksum_start: u16,
    pub checksum_offset: u16,
}

/// The transport's checksum covers only the pseudo header: whoever sends the packet on a wire
/// completes it.
pub const NEEDS_CHECKSUM: u8 = 1;
pub const CHECKSUM_VALID: u8 = 2;

pub const SEGMENT_NONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`: datagrams of [`Header::segment`] bytes one after the other.
pub const SEGMENT_UDP: u8 = 5;

impl Header {
    /// The header and the packet behind it; `None`: cut off.
    pub fn split(bytes: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (head, packet) = bytes.split_at_mut_checked(HEADER)?;
        let two = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let header = Self {
            flags: head[0],
            segment_kind: head[1],
            headers: two(2),
            segment: two(4),
            checksum_start: two(6),
            checksum_offset: two(8),
        };
        Some((header, packet))
    }

    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [self.flags, self.segment_kind, 0, 0, 0, 0, 0, 0, 0, 0];
        let numbers = [self.headers, self.segment, self.checksum_start, self.checksum_offset];
        for (to, number) in bytes[2..].chunks_exact_mut(2).zip(numbers) {
            to.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = Header {
            flags: NEEDS_CHECKSUM,
            segment_kind: SEGMENT_UDP,
            headers: 28,
            segment: 1400,
            checksum_start: 20,
            checksum_offset: 6,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend([1, 2, 3]);
        assert_eq!(Header::split(&mut bytes), Some((header, &mut [1, 2, 3][..])));
        assert_eq!(Header::split(&mut [0; 9]), None);
    }
}
