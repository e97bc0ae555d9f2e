//! Rules: conditions that must all hold, and what then happens.

use std::net::{Ipv4Addr, SocketAddr};

use super::field::{Field, Header, Source};
use crate::network::netlink::Message;

/// `NFT_REG_VERDICT`: what is put here decides.
const VERDICT: u32 = 0;
/// `NFT_REG32_00`, the first of sixteen registers of four bytes. Each condition starts here anew.
const FIRST: u32 = 8;

/// The checksum of TCP and UDP, which a changed port changes too.
const TCP_CHECKSUM: u32 = 16;
const UDP_CHECKSUM: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Jump(&'static str),
    Return,
}

/// One step of a rule: `nft_expr_attributes`. Registers are numbers of `enum nft_registers`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Load {
        field: Field,
        to: u32,
    },
    SetMark {
        from: u32,
    },
    /// Changes the packet; `checksum`: where the transport header's checksum is.
    Write {
        field: Field,
        checksum: u32,
        from: u32,
    },
    /// Keeps the bits of `mask`, then turns over those of `flip`.
    Mask {
        register: u32,
        mask: Vec<u8>,
        flip: Vec<u8>,
    },
    Compare {
        register: u32,
        equal: bool,
        value: Vec<u8>,
    },
    /// `to`: what the map says is put there.
    Lookup {
        set: String,
        from: u32,
        to: Option<u32>,
        inverted: bool,
    },
    Immediate {
        to: u32,
        value: Vec<u8>,
    },
    Decide(Verdict),
    DestinationNat {
        family: u32,
        address: u32,
        /// `None`: the port stays as it is.
        port: Option<u32>,
    },
    SourceNat {
        family: u32,
        address: u32,
    },
    Masquerade,
    Count,
    TransparentProxy {
        family: u32,
        address: u32,
        port: u32,
    },
}

/// A rule, with the comment that `nft list` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<Expression>,
    comment: String,
}

impl Rule {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most 128 bytes, as nft(8) has it.
    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = text.into();
        self
    }

    fn then(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    fn compared(self, field: Field, equal: bool, value: &[u8]) -> Self {
        self.then(Expression::Load { field, to: FIRST }).then(Expression::Compare {
            register: FIRST,
            equal,
            value: value.to_vec(),
        })
    }

    /// If the field has this value; shorter: begins with it.
    #[must_use]
    pub fn is(self, field: Field, value: &[u8]) -> Self {
        self.compared(field, true, value)
    }

    #[must_use]
    pub fn is_not(self, field: Field, value: &[u8]) -> Self {
        self.compared(field, false, value)
    }

    fn masked(self, field: Field, mask: &[u8], equal: bool, value: &[u8]) -> Self {
        self.then(Expression::Load { field, to: FIRST })
            .then(Expression::Mask { register: FIRST, mask: mask.to_vec(), flip: vec![0; mask.len()] })
            .then(Expression::Compare { register: FIRST, equal, value: value.to_vec() })
    }

    /// If of the field's bits in `mask` exactly those of `value` are set.
    #[must_use]
    pub fn bits_are(self, field: Field, mask: &[u8], value: &[u8]) -> Self {
        self.masked(field, mask, true, value)
    }

    #[must_use]
    pub fn bits_are_not(self, field: Field, mask: &[u8], value: &[u8]) -> Self {
        self.masked(field, mask, false, value)
    }

    /// If any of these bits is set, of a field that is a number of this machine's byte order.
    #[must_use]
    pub fn any_of(self, field: Field, bits: u32) -> Self {
        self.masked(field, &bits.to_ne_bytes(), false, &[0; 4])
    }

    /// Puts the fields one after the other, as sets with several fields have their keys.
    fn joined(self, fields: &[Field]) -> Self {
        let mut to = FIRST;
        fields.iter().fold(self, |rule, field| {
            let rule = rule.then(Expression::Load { field: *field, to });
            to += field.kind.slot() / 4;
            rule
        })
    }

    fn lookup(self, fields: &[Field], set: &str, to: Option<u32>, inverted: bool) -> Self {
        self.joined(fields).then(Expression::Lookup { set: set.to_owned(), from: FIRST, to, inverted })
    }

    /// If the fields together are in the set.
    #[must_use]
    pub fn within(self, fields: &[Field], set: &str) -> Self {
        self.lookup(fields, set, None, false)
    }

    #[must_use]
    pub fn not_within(self, fields: &[Field], set: &str) -> Self {
        self.lookup(fields, set, None, true)
    }

    /// No further rule of this base chain is asked; other tables' chains are.
    #[must_use]
    pub fn accept(self) -> Self {
        self.then(Expression::Decide(Verdict::Accept))
    }

    #[must_use]
    pub fn drop(self) -> Self {
        self.then(Expression::Decide(Verdict::Drop))
    }

    #[must_use]
    pub fn jump(self, chain: &'static str) -> Self {
        self.then(Expression::Decide(Verdict::Jump(chain)))
    }

    /// Back to the chain that jumped here.
    #[must_use]
    pub fn leave(self) -> Self {
        self.then(Expression::Decide(Verdict::Return))
    }

    /// Counts packets and bytes, for `iptables -v`.
    #[must_use]
    pub fn count(self) -> Self {
        self.then(Expression::Count)
    }

    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.then(Expression::Immediate { to: FIRST, value: mark.to_ne_bytes().to_vec() })
            .then(Expression::SetMark { from: FIRST })
    }

    /// Sets the bits of the packet's mark, or clears them.
    #[must_use]
    pub fn mark_bits(self, bits: u32, set: bool) -> Self {
        let flip = if set { bits } else { 0 };
        self.then(Expression::Load { field: Field::MARK, to: FIRST })
            .then(Expression::Mask {
                register: FIRST,
                mask: (!bits).to_ne_bytes().to_vec(),
                flip: flip.to_ne_bytes().to_vec(),
            })
            .then(Expression::SetMark { from: FIRST })
    }

    /// Changes a port of a TCP (`tcp`) or UDP packet.
    #[must_use]
    pub fn set_port(self, field: Field, tcp: bool, port: u16) -> Self {
        let checksum = if tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        self.then(Expression::Immediate { to: FIRST, value: port.to_be_bytes().to_vec() }).then(Expression::Write {
            field,
            checksum,
            from: FIRST,
        })
    }

    /// If the fields are in the map, the connection goes to the address and port found there.
    #[must_use]
    pub fn redirect_by(self, fields: &[Field], map: &str, ipv6: bool) -> Self {
        let (family, port) = if ipv6 { (10, FIRST + 4) } else { (2, FIRST + 1) };
        self.lookup(fields, map, Some(FIRST), false).then(Expression::DestinationNat {
            family,
            address: FIRST,
            port: Some(port),
        })
    }

    /// The connection goes to this address, and the same port there.
    #[must_use]
    pub fn redirect_to(self, address: Ipv4Addr) -> Self {
        self.then(Expression::Immediate { to: FIRST, value: address.octets().to_vec() })
            .then(Expression::DestinationNat { family: 2, address: FIRST, port: None })
    }

    /// If the field is in the map, the connection leaves under the address found there.
    #[must_use]
    pub fn leave_as(self, field: Field, map: &str, ipv6: bool) -> Self {
        let family = if ipv6 { 10 } else { 2 };
        self.lookup(&[field], map, Some(FIRST), false).then(Expression::SourceNat { family, address: FIRST })
    }

    /// The connection leaves under an address of the interface that it leaves by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.then(Expression::Masquerade)
    }

    /// Gives the packet to the listener at `to`, which must have `IP_TRANSPARENT`.
    #[must_use]
    pub fn proxy(self, to: SocketAddr) -> Self {
        let (family, address, registers) = match to {
            SocketAddr::V4(to) => (2, to.ip().octets().to_vec(), 1),
            SocketAddr::V6(to) => (10, to.ip().octets().to_vec(), 4),
        };
        let port = FIRST + registers;
        self.then(Expression::Immediate { to: FIRST, value: address })
            .then(Expression::Immediate { to: port, value: to.port().to_be_bytes().to_vec() })
            .then(Expression::TransparentProxy { family, address: FIRST, port })
    }

    /// `NFTA_RULE_EXPRESSIONS` and `NFTA_RULE_USERDATA`.
    pub(super) fn write(&self, message: &mut Message) {
        message.nest(4, |m| {
            for expression in &self.expressions {
                // NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA.
                m.nest(1, |m| {
                    m.put_text(1, expression.name()).nest(2, |m| expression.write(m));
                });
            }
        });
        if !self.comment.is_empty() {
            message.put(7, &comment(0, &self.comment));
        }
    }
}

/// Userdata as libnftnl writes it: kind, length, text with its zero byte.
pub(super) fn comment(kind: u8, text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(128)];
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[kind, length], text, b"\0"].concat()
}

/// `NFTA_DATA_VERDICT`.
fn decide(message: &mut Message, verdict: Verdict) {
    message.nest(2, |m| {
        let code = match verdict {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Return => -5_i32,
        };
        m.put(1, &code.to_be_bytes());
        if let Verdict::Jump(chain) = verdict {
            m.put_text(2, chain);
        }
    });
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Load { field, .. } => match field.source {
                Source::Meta(_) => "meta",
                Source::Header(..) => "payload",
                Source::Tracked(_) => "ct",
                Source::DestinationKind => "fib",
                Source::TransparentSocket => "socket",
            },
            Self::SetMark { .. } => "meta",
            Self::Write { .. } => "payload",
            Self::Mask { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } | Self::Decide(_) => "immediate",
            Self::SourceNat { .. } | Self::DestinationNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Count => "counter",
            Self::TransparentProxy { .. } => "tproxy",
        }
    }

    /// The attributes' numbers are those of `enum nft_NAME_attributes`.
    fn write(&self, m: &mut Message) {
        match self {
            Self::Load { field, to } => load(m, *field, *to),
            Self::SetMark { from } => {
                m.put_be32(2, 3).put_be32(3, *from);
            }
            Self::Write { field, checksum, from } => {
                let Source::Header(header, offset) = field.source else { return };
                // NFT_PAYLOAD_CSUM_INET: the sum of 16 bit words that TCP and UDP have.
                m.put_be32(5, *from).put_be32(2, header as u32).put_be32(3, offset).put_be32(4, field.kind.width());
                m.put_be32(6, 1).put_be32(7, *checksum);
            }
            Self::Mask { register, mask, flip } => {
                let length = u32::try_from(mask.len()).unwrap_or_default();
                m.put_be32(1, *register).put_be32(2, *register).put_be32(3, length);
                m.nest(4, |m| value(m, mask)).nest(5, |m| value(m, flip));
            }
            Self::Compare { register, equal, value: wanted } => {
                m.put_be32(1, *register).put_be32(2, u32::from(!equal)).nest(3, |m| value(m, wanted));
            }
            Self::Lookup { set, from, to, inverted } => {
                m.put_text(1, set).put_be32(2, *from);
                if let Some(to) = to {
                    m.put_be32(3, *to);
                }
                if *inverted {
                    m.put_be32(5, 1);
                }
            }
            Self::Immediate { to, value: bytes } => {
                m.put_be32(1, *to).nest(2, |m| value(m, bytes));
            }
            Self::Decide(verdict) => {
                m.put_be32(1, VERDICT).nest(2, |m| decide(m, *verdict));
            }
            Self::DestinationNat { family, address, port } => {
                // NFT_NAT_DNAT; without a flag the port may be changed to no other than this.
                m.put_be32(1, 1).put_be32(2, *family).put_be32(3, *address);
                if let Some(port) = port {
                    m.put_be32(5, *port);
                }
            }
            Self::SourceNat { family, address } => {
                m.put_be32(1, 0).put_be32(2, *family).put_be32(3, *address);
            }
            Self::Masquerade | Self::Count => {}
            Self::TransparentProxy { family, address, port } => {
                m.put_be32(1, *family).put_be32(2, *address).put_be32(3, *port);
            }
        }
    }
}

fn load(m: &mut Message, field: Field, to: u32) {
    match field.source {
        Source::Header(header, offset) => payload(m, header, offset, field.kind.width(), to),
        Source::Meta(key) | Source::Tracked(key) => m.put_be32(1, to).put_be32(2, key),
        // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
        Source::DestinationKind => m.put_be32(1, to).put_be32(2, 3).put_be32(3, 2),
        // NFT_SOCKET_TRANSPARENT.
        Source::TransparentSocket => m.put_be32(1, 0).put_be32(2, to),
    };
}

fn payload(m: &mut Message, header: Header, offset: u32, width: u32, to: u32) -> &mut Message {
    m.put_be32(1, to).put_be32(2, header as u32).put_be32(3, offset).put_be32(4, width)
}

/// `NFTA_DATA_VALUE`.
pub(super) fn value(m: &mut Message, bytes: &[u8]) {
    m.put(1, bytes);
}
