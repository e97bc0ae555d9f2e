//! Writing packets for containers into the TUN.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::uio::writev;

use super::checksum::Sum;
use super::icmp::Message;
use super::packet::{HEAD, ICMP, ICMPV6, UDP};
use crate::network::uplink::vnet;
use crate::sys::datagrams::BATCH;

/// Datagrams in one packet: `UDP_MAX_SEGMENTS` of the kernels that have had it the longest.
pub const SEGMENTS: usize = 64;
/// Payload of a packet of several datagrams: 65535 less the longest headers.
pub const LONGEST: usize = 65535 - 40 - HEAD;

/// The MTU that containers have unless they are told otherwise.
pub const MTU: usize = 1500;
/// Any link of IPv6 carries so much: RFC 8200 5.
pub const MTU_MIN: usize = 1280;

const HOPS: u8 = 64;

/// IP's fragment header.
const FRAGMENT: u8 = 44;

/// The longest headers: virtio_net_hdr, IPv6, fragment, UDP.
const HEADERS: usize = vnet::HEADER + 40 + 8 + HEAD;

/// The TUN, the way into the containers' networks.
#[derive(Debug)]
pub struct Inward {
    tun: OwnedFd,
    /// The last identification of a packet that may be cut.
    id: u32,
    /// The kernel takes packets of several datagrams, as it does since 6.2.
    segments: bool,
}

/// Headers under construction.
struct Headers {
    bytes: [u8; HEADERS],
    length: usize,
}

impl Headers {
    fn new(header: vnet::Header) -> Self {
        let mut headers = Self { bytes: [0; HEADERS], length: 0 };
        headers.put(&header.to_bytes());
        headers
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// The header of IP for `length` bytes behind it. Nothing if the two are not of one family.
    fn put_ip(&mut self, from: IpAddr, to: IpAddr, protocol: u8, class: u8, length: usize, id: u32) -> Option<()> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut head = [0; 20];
                head[0] = 0x45;
                head[1] = class;
                head[2..4].copy_from_slice(&u16::try_from(20 + length).ok()?.to_be_bytes());
                head[4..6].copy_from_slice(&id.to_be_bytes()[2..]);
                // It may be cut: the kernel does so where the way to the container is narrower.
                head[8] = HOPS;
                head[9] = protocol;
                head[12..16].copy_from_slice(&from.octets());
                head[16..20].copy_from_slice(&to.octets());
                let mut sum = Sum::default();
                sum.add(&head);
                head[10..12].copy_from_slice(&sum.finish());
                self.put(&head);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut head = [0; 40];
                head[0] = 0x60 | (class >> 4);
                head[1] = class << 4;
                head[4..6].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
                head[6] = protocol;
                head[7] = HOPS;
                head[8..24].copy_from_slice(&from.octets());
                head[24..40].copy_from_slice(&to.octets());
                self.put(&head);
            }
            _ => return None,
        }
        Some(())
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Where a packet for a container seems to come from and goes to.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub class: u8,
    /// What the way carries uncut: only IPv6 asks, where routers do not cut.
    pub mtu: usize,
}

impl Inward {
    pub fn new(tun: OwnedFd) -> Self {
        Self { tun, id: 0, segments: true }
    }

    /// Writes UDP: `pieces` together are one datagram, or with `segment` several of that length each, of
    /// which the last may be shorter. What cannot be written is lost, as datagrams may be.
    pub fn udp(&mut self, way: &Way, segment: usize, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let row = segment > 0 && length > segment;
        let ip = if way.to.is_ipv4() { 20 } else { 40 };
        let too_long = |datagram: usize| way.to.is_ipv6() && usize::from(ip) + HEAD + datagram > way.mtu;
        if row && (!self.segments || too_long(segment)) {
            for datagram in pieces.iter().flat_map(|piece| piece.chunks(segment)) {
                self.udp(way, 0, &[datagram]);
            }
            return;
        }
        if !row && too_long(length) {
            self.udp_in_fragments(way, &pieces.concat());
            return;
        }
        self.id = self.id.wrapping_add(1);
        // Nobody computes the checksum unless the packet leaves the machine: VIRTIO_NET_HDR_F_NEEDS_CSUM.
        let mut headers = Headers::new(vnet::Header {
            flags: vnet::NEEDS_CHECKSUM,
            segment_kind: if row { vnet::SEGMENT_UDP } else { vnet::SEGMENT_NONE },
            headers: ip + 8,
            segment: if row { u16::try_from(segment).unwrap_or_default() } else { 0 },
            checksum_start: ip,
            checksum_offset: 6,
        });
        let total = HEAD + length;
        let Some(()) = headers.put_ip(way.from.ip(), way.to.ip(), UDP, way.class, total, self.id) else { return };
        let Some(head) = udp_head(way, total) else { return };
        headers.put(&head);
        headers.put(&Sum::pseudo(way.from.ip(), way.to.ip(), UDP, total).partial());
        let mut parts = [IoSlice::new(&[]); BATCH + 1];
        parts[0] = IoSlice::new(headers.get());
        for (part, piece) in parts[1..].iter_mut().zip(pieces) {
            *part = IoSlice::new(piece);
        }
        let count = pieces.len().min(BATCH) + 1;
        if writev(&self.tun, &parts[..count]) == Err(Errno::EINVAL) && row {
            self.segments = false;
            self.udp(way, segment, pieces);
        }
    }

    /// IPv6 is cut by the sender only, and for the container we are it.
    fn udp_in_fragments(&mut self, way: &Way, payload: &[u8]) {
        let total = HEAD + payload.len();
        let Some(head) = udp_head(way, total) else { return };
        let mut sum = Sum::pseudo(way.from.ip(), way.to.ip(), UDP, total);
        sum.add(&head);
        sum.add(payload);
        let mut datagram = Vec::with_capacity(total);
        datagram.extend_from_slice(&head);
        datagram.extend_from_slice(&sum.finish_udp());
        datagram.extend_from_slice(payload);
        self.id = self.id.wrapping_add(1);
        let room = (MTU_MIN - 40 - 8) & !7;
        for (piece, offset) in datagram.chunks(room).zip((0..).step_by(room)) {
            let more = u16::from(offset + piece.len() < total);
            let mut headers = Headers::new(vnet::Header::default());
            let put = headers.put_ip(way.from.ip(), way.to.ip(), FRAGMENT, way.class, 8 + piece.len(), self.id);
            let (Some(()), Ok(offset)) = (put, u16::try_from(offset)) else { return };
            headers.put(&[UDP, 0]);
            headers.put(&(offset | more).to_be_bytes());
            headers.put(&self.id.to_be_bytes());
            self.write(&headers, piece);
        }
    }

    /// Writes an ICMP message that is complete but for its checksum.
    pub fn icmp(&mut self, way: &Way, message: &mut [u8]) {
        let ipv4 = way.to.is_ipv4();
        let protocol = if ipv4 { ICMP } else { ICMPV6 };
        let (from, to) = (way.from.ip(), way.to.ip());
        let Some(place) = message.get_mut(2..4) else { return };
        place.fill(0);
        let mut sum = if ipv4 { Sum::default() } else { Sum::pseudo(from, to, protocol, message.len()) };
        sum.add(message);
        message[2..4].copy_from_slice(&sum.finish());
        self.id = self.id.wrapping_add(1);
        let mut headers = Headers::new(vnet::Header::default());
        if headers.put_ip(from, to, protocol, way.class, message.len(), self.id).is_some() {
            self.write(&headers, message);
        }
    }

    /// Tells the sender of a packet, of which `quoted` is the beginning, IP header first, that `from`
    /// did not get or pass it.
    pub fn error(&mut self, from: IpAddr, to: IpAddr, error: Message, quoted: &[u8]) {
        // As much as fits: RFC 1812 4.3.2.3, RFC 4443 3.1.
        let room = if to.is_ipv4() { 576 - 20 - 8 } else { MTU_MIN - 40 - 8 };
        let mut message = vec![error.kind, error.code, 0, 0];
        message.extend_from_slice(&error.info.to_be_bytes());
        message.extend_from_slice(&quoted[..quoted.len().min(room)]);
        let way = Way { from: SocketAddr::new(from, 0), to: SocketAddr::new(to, 0), class: 0, mtu: MTU };
        self.icmp(&way, &mut message);
    }

    fn write(&self, headers: &Headers, payload: &[u8]) {
        // A TUN is always ready; it refuses when it is down or no memory is there.
        let _ = writev(&self.tun, &[IoSlice::new(headers.get()), IoSlice::new(payload)]);
    }
}

/// UDP's header but the checksum.
fn udp_head(way: &Way, total: usize) -> Option<[u8; 6]> {
    let [s0, s1] = way.from.port().to_be_bytes();
    let [d0, d1] = way.to.port().to_be_bytes();
    let [l0, l1] = u16::try_from(total).ok()?.to_be_bytes();
    Some([s0, s1, d0, d1, l0, l1])
}

/// The headers of a packet that a container sent, made anew to be quoted to it: IP's, and `transport`.
pub fn quote(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8], payload: usize) -> Vec<u8> {
    let mut headers = Headers { bytes: [0; HEADERS], length: 0 };
    let _ = headers.put_ip(source, destination, protocol, 0, transport.len() + payload, 0);
    [headers.get(), transport].concat()
}
