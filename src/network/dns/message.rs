//! Messages of the DNS (RFC 1035, RFC 6891) as far as a forwarder has to know them: the header, the
//! one question, and where the EDNS record is. All else is carried unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the header.
pub const HEADER: usize = 12;
/// What a client without EDNS takes over UDP, and what every one takes.
pub const SMALL: usize = 512;
/// The most that is taken over UDP, from clients and from servers: the kernel's reassembly of more is
/// a gamble, and TCP is there.
pub const LARGE: usize = 4096;

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const ANY: u16 = 255;
const OPT: u16 = 41;
pub const IN: u16 = 1;

/// Bits of the header's second half-word.
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 15 << 11;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const CHECKING_DISABLED: u16 = 1 << 4;

/// How a question was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NotImp = 4,
    Refused = 5,
    /// RFC 6891; its upper bits stand in the EDNS record.
    BadVers = 16,
}

/// Seconds that an answer about a container is good for: one that started anew has another address.
/// Clients that keep answers (nginx, Envoy, the JVM) then ask at most once a second. Not 0, which
/// some of them take for "ask for every connection".
const TTL: u32 = 1;

/// A question as a client put it.
#[derive(Debug)]
pub struct Query<'a> {
    packet: &'a [u8],
    /// Lower case, without the dot at its end; `None`: it has bytes that no name of a container has.
    pub name: Option<String>,
    pub kind: u16,
    pub class: u16,
    /// Where the question ends.
    end: usize,
    edns: Option<Edns>,
}

#[derive(Debug, Clone, Copy)]
struct Edns {
    /// Where the record's class is, which holds `size`.
    at: usize,
    size: u16,
    version: u8,
}

/// Why a packet is no question.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Nothing is answered: it is too short to say what, or is an answer itself, and two that answer
    /// each other would never stop.
    Silent,
    /// To send back.
    Answer(Vec<u8>),
}

/// What is told of a local name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    /// For PTR.
    Name(String),
}

impl<'a> Query<'a> {
    /// Reads the question in `packet`. Every length is checked against the packet, and the work is
    /// linear in it: names are not followed through pointers.
    ///
    /// # Errors
    /// What to do instead.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let flags = half(packet, 2).filter(|_| packet.len() >= HEADER).ok_or(Malformed::Silent)?;
        if flags & RESPONSE != 0 {
            return Err(Malformed::Silent);
        }
        if flags & OPCODE != 0 {
            return Err(Malformed::Answer(header(packet, Rcode::NotImp)));
        }
        Self::question(packet).ok_or_else(|| Malformed::Answer(header(packet, Rcode::FormErr)))
    }

    fn question(packet: &'a [u8]) -> Option<Self> {
        if half(packet, 4)? != 1 {
            return None;
        }
        let (name, after) = plain_name(packet, HEADER)?;
        let end = after + 4;
        let (kind, class) = (half(packet, after)?, half(packet, after + 2)?);
        let count = |at| half(packet, at).map(usize::from);
        let (before, additional) = (count(6)? + count(8)?, count(10)?);
        let mut at = end;
        let mut edns = None;
        // Each takes 11 bytes at least, so the packet's end ends this, whatever the numbers say.
        for index in 0..before + additional {
            let owner = at;
            at = skip_name(packet, at)?;
            let length = usize::from(half(packet, at + 8)?);
            if half(packet, at)? == OPT && index >= before {
                // Only one, and of the root: RFC 6891, 6.1.1.
                if edns.is_some() || packet[owner] != 0 {
                    return None;
                }
                edns = Some(Edns { at: at + 2, size: half(packet, at + 2)?, version: *packet.get(at + 5)? });
            }
            at += 10 + length;
            packet.get(..at)?;
        }
        (at == packet.len()).then_some(Self { packet, name, kind, class, end, edns })
    }

    /// The client's number of it.
    pub fn id(&self) -> u16 {
        half(self.packet, 0).unwrap_or_default()
    }

    /// Bytes of an answer over UDP that its client takes.
    pub fn limit(&self) -> usize {
        self.edns.map_or(SMALL, |edns| usize::from(edns.size).clamp(SMALL, LARGE))
    }

    /// The EDNS version is one that nobody knows yet: to answer with [`Rcode::BadVers`].
    pub fn is_of_the_future(&self) -> bool {
        self.edns.is_some_and(|edns| edns.version > 0)
    }

    /// Header, with the counters of answers at 0, and question.
    fn head(&self, rcode: Rcode, flags: u16) -> Vec<u8> {
        let mut reply = header(self.packet, rcode);
        raise(&mut reply, flags);
        set(&mut reply, 4, 1);
        reply.extend_from_slice(&self.packet[HEADER..self.end]);
        reply
    }

    fn put_edns(&self, reply: &mut Vec<u8>, rcode: Rcode) {
        if self.edns.is_none() {
            return;
        }
        // The root's name, then type, room, the return code's upper bits, version, flags, no options.
        reply.push(0);
        for number in [OPT, u16::try_from(LARGE).unwrap_or(u16::MAX), (rcode as u16 >> 4) << 8, 0, 0] {
            reply.extend_from_slice(&number.to_be_bytes());
        }
        set(reply, 10, 1);
    }

    /// An answer without records.
    pub fn refuse(&self, rcode: Rcode) -> Vec<u8> {
        let mut reply = self.head(rcode, 0);
        self.put_edns(&mut reply, rcode);
        reply
    }

    /// "It does not fit; ask again over TCP."
    pub fn truncated(&self) -> Vec<u8> {
        let mut reply = self.head(Rcode::NoError, TRUNCATED);
        self.put_edns(&mut reply, Rcode::NoError);
        reply
    }

    /// The answer about a local name: as many of `records` as fit into `limit` bytes, marked as cut
    /// off where that is not all. None: the name is there, and nothing of that kind.
    pub fn answer(&self, records: &[Data], limit: usize) -> Vec<u8> {
        let mut reply = self.head(Rcode::NoError, AUTHORITATIVE);
        let room = limit.saturating_sub(if self.edns.is_some() { 11 } else { 0 });
        let mut written = 0;
        for record in records {
            let data = match record {
                Data::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
                Data::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
                Data::Name(name) => match encode(name) {
                    Some(bytes) => (PTR, bytes),
                    None => continue,
                },
            };
            let (kind, data) = data;
            if reply.len() + 12 + data.len() > room {
                raise(&mut reply, TRUNCATED);
                break;
            }
            // The owner: a pointer to the question.
            reply.extend_from_slice(&[0xc0, 12]);
            for number in [kind, IN] {
                reply.extend_from_slice(&number.to_be_bytes());
            }
            reply.extend_from_slice(&TTL.to_be_bytes());
            reply.extend_from_slice(&u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
            reply.extend_from_slice(&data);
            written += 1;
        }
        set(&mut reply, 6, written);
        self.put_edns(&mut reply, Rcode::NoError);
        reply
    }

    /// The same for a server: under another number, and offering it no more room than there is here.
    pub fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut packet = self.packet.to_vec();
        set(&mut packet, 0, id);
        if let Some(edns) = self.edns {
            set(&mut packet, edns.at, u16::try_from(self.limit()).unwrap_or(edns.size));
        }
        packet
    }
}

/// What a server's answer to a question is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not an answer to this question: somebody else's, or forged.
    Alien,
    /// It says that it cannot: another may.
    Helpless,
    Good,
}

/// Checks `reply` against the question that was sent as `asked`.
pub fn verdict(asked: &[u8], reply: &[u8]) -> Verdict {
    let (Some(flags), Some(questions)) = (half(reply, 2), half(reply, 4)) else { return Verdict::Alien };
    if reply.len() < HEADER || half(asked, 0) != half(reply, 0) || flags & RESPONSE == 0 || flags & OPCODE != 0 {
        return Verdict::Alien;
    }
    let rcode = flags & 15;
    // A server that understood nothing may not repeat what it did not understand.
    if questions == 0 && rcode == Rcode::FormErr as u16 {
        return Verdict::Good;
    }
    let Some(end) = skip_name(asked, HEADER) else { return Verdict::Alien };
    let question = |packet: &[u8]| packet.get(HEADER..end + 4).map(<[u8]>::to_ascii_lowercase);
    if questions != 1 || question(asked) != question(reply) {
        return Verdict::Alien;
    }
    let helpless = [Rcode::ServFail, Rcode::NotImp, Rcode::Refused].map(|r| r as u16);
    if helpless.contains(&rcode) { Verdict::Helpless } else { Verdict::Good }
}

/// Gives a message another number.
pub fn renumber(packet: &mut [u8], id: u16) {
    set(packet, 0, id);
}

/// A header that answers the one of `packet`: all counters 0.
fn header(packet: &[u8], rcode: Rcode) -> Vec<u8> {
    let asked = half(packet, 2).unwrap_or_default();
    let flags = RESPONSE | RECURSION_AVAILABLE | asked & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
    let mut reply = Vec::with_capacity(128);
    reply.extend_from_slice(&packet[..2]);
    reply.extend_from_slice(&(flags | rcode as u16 & 15).to_be_bytes());
    reply.extend_from_slice(&[0; 8]);
    reply
}

fn half(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

fn set(packet: &mut [u8], at: usize, value: u16) {
    if let Some(two) = packet.get_mut(at..at + 2) {
        two.copy_from_slice(&value.to_be_bytes());
    }
}

/// Sets bits of a header's flags.
fn raise(packet: &mut [u8], flags: u16) {
    let before = half(packet, 2).unwrap_or_default();
    set(packet, 2, before | flags);
}

/// A name without pointers as text (see [`Query::name`]), and where it ends.
fn plain_name(packet: &[u8], start: usize) -> Option<(Option<String>, usize)> {
    let mut at = start;
    let mut text = Some(String::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        // 255 bytes with all lengths: RFC 1035, 2.3.4. Above 63 it is a pointer, or nothing that is known.
        if length > 63 || at + 1 + length - start > 254 {
            return None;
        }
        let label = packet.get(at + 1..at + 1 + length)?;
        text = text.filter(|_| label.iter().all(|b| b.is_ascii_graphic() && *b != b'.'));
        if let Some(text) = &mut text {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        }
        at += 1 + length;
    }
    Some((text, at + 1))
}

/// Where a name ends that may have a pointer as its last part.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return packet.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// `None`: it cannot be a name in the DNS.
fn encode(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

/// The address that a reverse look-up asks for: `4.3.2.1.in-addr.arpa`, and 32 digits before
/// `ip6.arpa` (RFC 1035, 3.5; RFC 3596, 2.5).
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = digits.rsplit('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0u128;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        if digit.len() != 1 || count == 32 {
            return None;
        }
        bits = bits << 4 | u128::from(u8::from_str_radix(digit, 16).ok()?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A question with EDNS where `edns` is its size.
    pub fn ask(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut packet = Vec::new();
        for number in [id, RECURSION_DESIRED, 1, 0, 0, u16::from(edns.is_some())] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        packet.extend(encode(name).expect("a name"));
        for number in [kind, IN] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        if let Some(size) = edns {
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&size.to_be_bytes());
            packet.extend_from_slice(&[0; 6]);
        }
        packet
    }

    /// Return code, whether it is cut off, and the data of the answers.
    pub fn told(reply: &[u8]) -> (u16, bool, Vec<Vec<u8>>) {
        let flags = half(reply, 2).expect("a header");
        assert_ne!(flags & RESPONSE, 0);
        let mut at = if half(reply, 4) == Some(1) { skip_name(reply, HEADER).expect("a question") + 4 } else { HEADER };
        let mut found = Vec::new();
        for _ in 0..half(reply, 6).expect("a header") {
            at = skip_name(reply, at).expect("a name");
            let length = usize::from(half(reply, at + 8).expect("a length"));
            found.push(reply[at + 10..at + 10 + length].to_vec());
            at += 10 + length;
        }
        (flags & 15, flags & TRUNCATED != 0, found)
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let packet = ask(7, "Web.Front", A, Some(1232));
        let query = Query::parse(&packet).unwrap();
        assert_eq!((query.name.as_deref(), query.kind, query.class), (Some("web.front"), A, IN));
        assert_eq!((query.id(), query.limit(), query.is_of_the_future()), (7, 1232, false));
        let reply = query.answer(&[Data::Address([10, 0, 0, 1].into())], query.limit());
        assert_eq!(told(&reply), (0, false, vec![vec![10, 0, 0, 1]]));
        // As it was asked, and with an EDNS record of its own.
        assert_eq!(&reply[HEADER..HEADER + 11], b"\x03Web\x05Front\0");
        assert_eq!((half(&reply, 10), reply.len()), (Some(1), packet.len() + 16));
        assert_eq!(told(&query.refuse(Rcode::Refused)), (5, false, vec![]));
        assert_eq!(told(&query.truncated()), (0, true, vec![]));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let packet = ask(7, "web", A, None);
        let query = Query::parse(&packet).unwrap();
        let many: Vec<Data> = (0..100).map(|n| Data::Address([10, 0, 0, n].into())).collect();
        let reply = query.answer(&many, query.limit());
        let (_, cut, records) = told(&reply);
        assert!(cut && reply.len() <= SMALL && records.len() == 30, "{}", records.len());
        let (_, cut, records) = told(&query.answer(&many, usize::from(u16::MAX)));
        assert!(!cut && records.len() == 100);
    }

    #[test]
    fn a_server_is_offered_the_room_that_there_is() {
        let packet = ask(7, "web", A, Some(u16::MAX));
        let sent = Query::parse(&packet).unwrap().forwarded(0x1234);
        let query = Query::parse(&sent).unwrap();
        assert_eq!((query.id(), query.edns.unwrap().size), (0x1234, 4096));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let asked = ask(7, "web.example", A, None);
        let reply = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut reply = asked.clone();
            reply[2] |= 0x80;
            change(&mut reply);
            verdict(&asked, &reply)
        };
        assert_eq!(reply(&|_| {}), Verdict::Good);
        assert_eq!(reply(&|r| r[3] |= 3), Verdict::Good);
        assert_eq!(reply(&|r| r[13].make_ascii_uppercase()), Verdict::Good);
        assert_eq!(reply(&|r| r[3] |= 2), Verdict::Helpless);
        for wrong in [&|r: &mut Vec<u8>| r[0] = 9, &|r: &mut Vec<u8>| r[2] = 1, &|r: &mut Vec<u8>| r[13] = b'x']
            as [&dyn Fn(&mut Vec<u8>); 3]
        {
            assert_eq!(reply(wrong), Verdict::Alien);
        }
        assert_eq!(reply(&|r| r.truncate(20)), Verdict::Alien);
        assert_eq!(verdict(&asked, &[]), Verdict::Alien);
    }

    #[test]
    fn addresses_backwards() {
        assert_eq!(reversed("4.3.2.10.in-addr.arpa"), Some([10, 2, 3, 4].into()));
        let name = format!("1{}.0.0.d.f.ip6.arpa", ".0".repeat(27));
        assert_eq!(reversed(&name), Some("fd00::1".parse().unwrap()));
        for wrong in ["3.2.10.in-addr.arpa", "1.4.3.2.10.in-addr.arpa", "x.3.2.10.in-addr.arpa", "0.ip6.arpa", "web"] {
            assert_eq!(reversed(wrong), None);
        }
    }

    #[test]
    fn nothing_that_is_sent_makes_it_stumble() {
        let whole = ask(7, "web.example.org", A, Some(1232));
        assert_eq!(Query::parse(&whole[..HEADER - 1]).unwrap_err(), Malformed::Silent);
        for length in HEADER..whole.len() {
            assert!(matches!(Query::parse(&whole[..length]), Err(Malformed::Answer(_))), "{length}");
        }
        // A pointer to itself, and to what follows.
        for pointer in [[0xc0, 12], [0xc0, 14]] {
            let mut packet = whole.clone();
            packet[12..14].copy_from_slice(&pointer);
            assert!(matches!(Query::parse(&packet), Err(Malformed::Answer(_))));
        }
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(seed >> 8).unwrap()
        };
        for round in 0..200_000 {
            let mut packet = if round % 2 == 0 { whole.clone() } else { (0..random() % 80).map(|_| 0).collect() };
            for _ in 0..random() % 8 {
                if !packet.is_empty() {
                    let at = random() % packet.len();
                    packet[at] = u8::try_from(random() & 255).unwrap();
                }
            }
            packet.truncate(random() % (whole.len() * 2));
            let _ = verdict(&whole, &packet);
            let _ = verdict(&packet, &whole);
            if let Ok(query) = Query::parse(&packet) {
                let _ =
                    (query.answer(&[Data::Name("a.b".into())], query.limit()), query.forwarded(1), query.truncated());
            }
        }
    }
}
