//! ICMP: what containers are told of what cannot be delivered, and what may be passed on of what the
//! host was told. RFC 792, RFC 4443.

use nix::errno::Errno;

use crate::sys::datagrams::Trouble;

pub const ECHO_REPLY: u8 = 0;
pub const ECHO_REQUEST: u8 = 8;
pub const V6_PACKET_TOO_BIG: u8 = 2;
pub const V6_ECHO_REQUEST: u8 = 128;
pub const V6_ECHO_REPLY: u8 = 129;

/// Why something is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The rules do not let it.
    Prohibited,
    /// The uplink cannot carry this protocol.
    Protocol,
    Network,
    Host,
    Port,
}

impl Refusal {
    /// What the kernel's refusal to send something means; `None`: nothing that is worth telling.
    pub fn of(errno: Errno) -> Option<Self> {
        match errno {
            Errno::EACCES | Errno::EPERM => Some(Self::Prohibited),
            Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT => Some(Self::Network),
            Errno::EHOSTUNREACH | Errno::EHOSTDOWN => Some(Self::Host),
            Errno::ECONNREFUSED => Some(Self::Port),
            _ => None,
        }
    }

    pub fn message(self, ipv4: bool) -> Message {
        // Type, code, and the word behind the checksum.
        let (kind, code, info) = match (self, ipv4) {
            (Self::Prohibited, true) => (3, 13, 0),
            (Self::Protocol, true) => (3, 2, 0),
            (Self::Network, true) => (3, 0, 0),
            (Self::Host, true) => (3, 1, 0),
            (Self::Port, true) => (3, 3, 0),
            (Self::Prohibited, false) => (1, 1, 0),
            // Parameter problem: the next header, at byte 6, is not known.
            (Self::Protocol, false) => (4, 1, 6),
            (Self::Network, false) => (1, 0, 0),
            (Self::Host, false) => (1, 3, 0),
            (Self::Port, false) => (1, 4, 0),
        };
        Message { kind, code, info }
    }
}

/// The first eight bytes of an ICMP error, but the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub code: u8,
    pub info: u32,
}

impl Message {
    /// What a container is told of an error that came back to a socket of the host's: the same that the
    /// host was told, or what a router with the host's MTU would say.
    pub fn of(trouble: &Trouble, ipv4: bool) -> Option<Self> {
        let Trouble { kind, code, info, .. } = *trouble;
        match trouble.origin {
            libc::SO_EE_ORIGIN_LOCAL if trouble.errno == Errno::EMSGSIZE => Some(Self::too_big(info, ipv4)),
            // Fragmentation needed: RFC 1191 has the MTU in the lower half.
            libc::SO_EE_ORIGIN_ICMP if ipv4 && (kind, code) == (3, 4) => Some(Self::too_big(info, true)),
            // Unreachable, time exceeded, parameter problem.
            libc::SO_EE_ORIGIN_ICMP if ipv4 && matches!(kind, 3 | 11 | 12) => Some(Self { kind, code, info: 0 }),
            libc::SO_EE_ORIGIN_ICMP6 if !ipv4 && kind == V6_PACKET_TOO_BIG => Some(Self::too_big(info, false)),
            libc::SO_EE_ORIGIN_ICMP6 if !ipv4 && matches!(kind, 1 | 3 | 4) => Some(Self { kind, code, info: 0 }),
            _ => None,
        }
    }

    /// What is longer than `mtu` bytes, headers included, cannot go on uncut.
    fn too_big(mtu: u32, ipv4: bool) -> Self {
        let (kind, code) = if ipv4 { (3, 4) } else { (V6_PACKET_TOO_BIG, 0) };
        Self { kind, code, info: if ipv4 { mtu & 0xffff } else { mtu } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(origin: u8, kind: u8, code: u8, info: u32) -> Trouble {
        Trouble { errno: Errno::EMSGSIZE, origin, kind, code, info, offender: None, destination: None, length: 0 }
    }

    #[test]
    fn the_container_is_told_what_the_host_was_told() {
        let told = |origin, kind, code, info, ipv4| {
            Message::of(&trouble(origin, kind, code, info), ipv4).map(|m| (m.kind, m.code, m.info))
        };
        assert_eq!(told(libc::SO_EE_ORIGIN_ICMP, 3, 3, 7, true), Some((3, 3, 0)));
        assert_eq!(told(libc::SO_EE_ORIGIN_ICMP, 11, 0, 0, true), Some((11, 0, 0)));
        assert_eq!(told(libc::SO_EE_ORIGIN_ICMP, 3, 4, 1400, true), Some((3, 4, 1400)));
        assert_eq!(told(libc::SO_EE_ORIGIN_LOCAL, 0, 0, 1400, true), Some((3, 4, 1400)));
        assert_eq!(told(libc::SO_EE_ORIGIN_LOCAL, 0, 0, 1400, false), Some((2, 0, 1400)));
        assert_eq!(told(libc::SO_EE_ORIGIN_ICMP6, 1, 4, 0, false), Some((1, 4, 0)));
        // A redirect, one of the other family, a time stamp.
        assert_eq!(told(libc::SO_EE_ORIGIN_ICMP, 5, 0, 0, true), None);
        assert_eq!(told(libc::SO_EE_ORIGIN_ICMP6, 1, 4, 0, true), None);
        assert_eq!(told(libc::SO_EE_ORIGIN_TIMESTAMPING, 0, 0, 0, true), None);
    }
}
