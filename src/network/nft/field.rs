//! What of a packet can be looked at.

/// The type of a field, of a set's key, of a map's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An interface's name.
    Ifname,
    Ether,
    Ipv4,
    Ipv6,
    /// A transport protocol's number, `IPPROTO_…`.
    Protocol,
    /// A port, network byte order.
    Port,
    /// Something that is no part of a set's key, of that many bytes.
    Other(u32),
}

impl Kind {
    /// Bytes.
    #[must_use]
    pub const fn width(self) -> u32 {
        match self {
            Self::Ifname | Self::Ipv6 => 16,
            Self::Ether => 6,
            Self::Ipv4 => 4,
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Other(width) => width,
        }
    }

    /// What it takes among others: registers have four bytes.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.width().next_multiple_of(4)
    }

    /// How nft(8) calls the type: its `enum datatypes`. The kernel only keeps the number.
    const fn number(self) -> u32 {
        match self {
            Self::Other(_) => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Ether => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Ifname => 41,
        }
    }

    /// The type and the bytes of a key of these, one after the other.
    pub(super) fn joined(kinds: &[Self]) -> (u32, u32) {
        match kinds {
            [one] => (one.number(), one.width()),
            many => many.iter().fold((0, 0), |(number, width), k| (number << 6 | k.number(), width + k.slot())),
        }
    }
}

/// Where a field is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What the kernel knows of the packet: `NFT_META_…`.
    Meta(u32),
    /// Bytes of the packet from this offset of a header.
    Header(Header, u32),
    /// What connection tracking knows: `NFT_CT_…`.
    Tracked(u32),
    /// The kind of address the destination is: `RTN_…`.
    DestinationKind,
    /// Whether a socket is there for it that answers for foreign addresses (`IP_TRANSPARENT`).
    TransparentSocket,
}

/// `NFT_PAYLOAD_…_HEADER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub source: Source,
    pub kind: Kind,
}

impl Field {
    const fn meta(key: u32, kind: Kind) -> Self {
        Self { source: Source::Meta(key), kind }
    }

    const fn header(header: Header, offset: u32, kind: Kind) -> Self {
        Self { source: Source::Header(header, offset), kind }
    }

    /// `skb->protocol`, `ETH_P_…` in network byte order: what is inside a VLAN tag that was taken off.
    pub const ETHERTYPE: Self = Self::meta(1, Kind::Other(2));
    pub const MARK: Self = Self::meta(3, Kind::Other(4));
    pub const IN: Self = Self::meta(6, Kind::Ifname);
    pub const OUT: Self = Self::meta(7, Kind::Ifname);
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub const FAMILY: Self = Self::meta(15, Kind::Other(1));
    pub const PROTOCOL: Self = Self::meta(16, Kind::Protocol);

    pub const ETHER_SOURCE: Self = Self::header(Header::Link, 6, Kind::Ether);
    /// RFC 826: behind two types, two lengths and the operation.
    pub const ARP_SENDER_ETHER: Self = Self::header(Header::Network, 8, Kind::Ether);
    pub const ARP_SENDER: Self = Self::header(Header::Network, 14, Kind::Ipv4);
    pub const IPV4_SOURCE: Self = Self::header(Header::Network, 12, Kind::Ipv4);
    pub const IPV4_DESTINATION: Self = Self::header(Header::Network, 16, Kind::Ipv4);
    pub const IPV6_SOURCE: Self = Self::header(Header::Network, 8, Kind::Ipv6);
    pub const IPV6_DESTINATION: Self = Self::header(Header::Network, 24, Kind::Ipv6);

    /// The same place in TCP, UDP and SCTP.
    pub const SOURCE_PORT: Self = Self::header(Header::Transport, 0, Kind::Port);
    pub const DESTINATION_PORT: Self = Self::header(Header::Transport, 2, Kind::Port);
    pub const TCP_FLAGS: Self = Self::header(Header::Transport, 13, Kind::Other(1));
    pub const ICMPV6_TYPE: Self = Self::header(Header::Transport, 0, Kind::Other(1));
    /// The address that a neighbour advertisement is about (RFC 4861, 4.4).
    pub const ND_TARGET: Self = Self::header(Header::Transport, 8, Kind::Ipv6);

    /// Bits of `NF_CT_STATE_BIT`, this machine's byte order.
    pub const CT_STATE: Self = Self { source: Source::Tracked(0), kind: Kind::Other(4) };
    /// Bits of `IPS_…`, this machine's byte order.
    pub const CT_STATUS: Self = Self { source: Source::Tracked(2), kind: Kind::Other(4) };
    /// `RTN_…`, this machine's byte order.
    pub const DESTINATION_KIND: Self = Self { source: Source::DestinationKind, kind: Kind::Other(4) };
    pub const TRANSPARENT: Self = Self { source: Source::TransparentSocket, kind: Kind::Other(1) };
}
