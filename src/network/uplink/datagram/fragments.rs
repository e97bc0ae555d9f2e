//! Putting together what containers sent in fragments.
//!
//! The namespace's kernel does put them together where its rules look for sockets, but it cuts them
//! again as they were before it hands them to the TUN (`frag_max_size`), at least those of IPv4, and
//! without such rules it does neither.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{Fragment, Packet};

/// Datagrams that a source may have under way. They come through one bridge and hardly out of order.
const EACH: usize = 16;
/// And all sources together, each of up to 64 KiB.
const ALL: usize = 128;
/// Pieces that a datagram may be in disorder with.
const HOLES: usize = 32;
/// RFC 8200 4.5 says 60 seconds, Linux 30.
const WAIT: Duration = Duration::from_secs(15);

const LONGEST: usize = 65535;

/// What was put together.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hops: u8,
    pub class: u8,
    pub payload: Vec<u8>,
}

impl Whole {
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            hops: self.hops,
            class: self.class,
            uncut: false,
            fragment: None,
            payload: &self.payload,
            raw: &[],
        }
    }
}

#[derive(Debug, Default)]
pub struct Fragments {
    sources: HashMap<IpAddr, VecDeque<Partial>>,
    count: usize,
}

#[derive(Debug)]
struct Partial {
    destination: IpAddr,
    /// Of the first fragment, where it came; fragments of IPv4 all have it, and it is a part of what
    /// they have in common.
    protocol: u8,
    hops: u8,
    class: u8,
    id: u32,
    since: Instant,
    data: Vec<u8>,
    /// What of `data` has come: begin and end, in order, never touching.
    ranges: Vec<(usize, usize)>,
    /// Known from the last fragment.
    length: Option<usize>,
}

impl Fragments {
    /// Takes a fragment; the datagram, when this was the last that it lacked.
    pub fn add(&mut self, packet: &Packet<'_>, fragment: Fragment, now: Instant) -> Option<Whole> {
        let end = fragment.offset + packet.payload.len();
        // All but the last are multiples of 8: RFC 791, RFC 8200 4.5.
        if end > LONGEST || packet.payload.is_empty() || (fragment.more && !packet.payload.len().is_multiple_of(8)) {
            return None;
        }
        let queue = self.sources.entry(packet.source).or_default();
        let is_v4 = packet.source.is_ipv4();
        let found = queue.iter().position(|p| {
            p.id == fragment.id && p.destination == packet.destination && (!is_v4 || p.protocol == packet.protocol)
        });
        let place = found.unwrap_or_else(|| {
            if queue.len() >= EACH {
                queue.pop_front();
                self.count -= 1;
            }
            queue.push_back(Partial {
                destination: packet.destination,
                protocol: packet.protocol,
                hops: packet.hops,
                class: packet.class,
                id: fragment.id,
                since: now,
                data: Vec::new(),
                ranges: Vec::new(),
                length: None,
            });
            self.count += 1;
            queue.len() - 1
        });
        let partial = &mut queue[place];
        if fragment.offset == 0 {
            (partial.protocol, partial.hops, partial.class) = (packet.protocol, packet.hops, packet.class);
        }
        let taken = partial.take(packet.payload, fragment);
        let whole = partial.is_whole();
        let mut done = None;
        if taken.is_none() || whole {
            // What overlaps is thrown away as a whole: RFC 5722.
            done = queue.remove(place);
            self.count -= 1;
            if queue.is_empty() {
                self.sources.remove(&packet.source);
            }
        }
        if self.count > ALL {
            self.drop_one();
        }
        let done = done.filter(|_| whole && taken.is_some())?;
        Some(Whole {
            source: packet.source,
            destination: done.destination,
            protocol: done.protocol,
            hops: done.hops,
            class: done.class,
            payload: done.data,
        })
    }

    /// Drops the oldest of the source that has most, so that nobody loses by another's flood.
    fn drop_one(&mut self) {
        if let Some(queue) = self.sources.values_mut().max_by_key(|queue| queue.len()) {
            queue.pop_front();
            self.count -= 1;
        }
    }

    /// Drops what has waited too long.
    pub fn expire(&mut self, now: Instant) {
        self.sources.retain(|_, queue| {
            queue.retain(|partial| now.duration_since(partial.since) < WAIT);
            !queue.is_empty()
        });
        self.count = self.sources.values().map(VecDeque::len).sum();
    }

    /// When [`Fragments::expire`] is to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.sources.values().filter_map(|queue| queue.front()).map(|partial| partial.since + WAIT).min()
    }
}

impl Partial {
    /// `None`: it cannot belong to the others.
    fn take(&mut self, piece: &[u8], fragment: Fragment) -> Option<()> {
        let (begin, end) = (fragment.offset, fragment.offset + piece.len());
        let last = self.ranges.last().map_or(0, |range| range.1);
        if !fragment.more {
            if self.length.is_some_and(|length| length != end) || last > end {
                return None;
            }
            self.length = Some(end);
        } else if self.length.is_some_and(|length| end > length) {
            return None;
        }
        // Where it belongs: behind all that begin before it.
        let place = self.ranges.partition_point(|range| range.0 < begin);
        let before = place.checked_sub(1).map(|p| self.ranges[p].1).unwrap_or_default();
        let after = self.ranges.get(place).map(|range| range.0);
        if before > begin || after.is_some_and(|after| after < end) {
            return None;
        }
        match (place > 0 && before == begin, after == Some(end)) {
            (true, true) => {
                self.ranges[place - 1].1 = self.ranges[place].1;
                self.ranges.remove(place);
            }
            (true, false) => self.ranges[place - 1].1 = end,
            (false, true) => self.ranges[place].0 = begin,
            (false, false) => self.ranges.insert(place, (begin, end)),
        }
        if self.ranges.len() > HOLES {
            return None;
        }
        if self.data.len() == begin {
            self.data.extend_from_slice(piece);
        } else {
            self.data.resize(self.data.len().max(end), 0);
            self.data[begin..end].copy_from_slice(piece);
        }
        Some(())
    }

    fn is_whole(&self) -> bool {
        self.length.is_some_and(|length| self.ranges == [(0, length)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(fragments: &mut Fragments, source: u8, id: u32, offset: usize, more: bool, payload: &[u8]) -> Option<Whole> {
        let packet = Packet {
            source: IpAddr::from([10, 0, 0, source]),
            destination: IpAddr::from([192, 0, 2, 1]),
            protocol: 17,
            hops: 63,
            class: 0,
            uncut: false,
            fragment: None,
            payload,
            raw: &[],
        };
        fragments.add(&packet, Fragment { id, offset, more }, Instant::now())
    }

    #[test]
    fn in_any_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut fragments = Fragments::default();
            let mut whole = None;
            for which in order {
                assert_eq!(whole, None);
                let pieces: [(usize, bool, &[u8]); 3] =
                    [(0, true, &[1; 16]), (16, true, &[2; 8]), (24, false, &[3; 3])];
                let (offset, more, payload) = pieces[which];
                whole = add(&mut fragments, 2, 9, offset, more, payload);
            }
            let expected = [&[1; 16][..], &[2; 8], &[3; 3]].concat();
            assert_eq!(whole.unwrap().payload, expected, "{order:?}");
            assert_eq!((fragments.count, fragments.deadline()), (0, None));
        }
    }

    #[test]
    fn what_overlaps_or_contradicts_is_dropped_whole() {
        let wrong: [[(usize, bool, usize); 2]; 5] = [
            [(0, true, 16), (8, true, 16)],
            [(0, true, 16), (0, true, 16)],
            [(16, false, 8), (24, true, 8)],
            [(16, false, 8), (32, false, 8)],
            [(64, true, 8), (8, false, 8)],
        ];
        for pieces in wrong {
            let mut fragments = Fragments::default();
            for (offset, more, length) in pieces {
                assert_eq!(add(&mut fragments, 2, 9, offset, more, &vec![0; length]), None);
            }
            assert_eq!(fragments.count, 0, "{pieces:?}");
        }
        let mut fragments = Fragments::default();
        for (offset, more, length) in [(65528, false, 8), (0, true, 7), (0, true, 0), (8, false, 0)] {
            assert_eq!(add(&mut fragments, 2, 9, offset, more, &vec![0; length]), None);
        }
        assert_eq!(fragments.count, 0);
    }

    #[test]
    fn a_flood_costs_only_who_sends_it() {
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, 2, 1, 0, true, &[1; 8]), None);
        for id in 0..100 {
            for source in 3..30 {
                assert_eq!(add(&mut fragments, source, id, 8, true, &[1; 8]), None);
            }
        }
        assert!(fragments.count <= ALL);
        assert_eq!(add(&mut fragments, 2, 1, 8, false, &[2]).unwrap().payload.len(), 9);
        for hole in 0..100 {
            assert_eq!(add(&mut fragments, 2, 2, 16 * hole, true, &[1; 8]), None);
        }
        fragments.expire(Instant::now() + WAIT);
        assert_eq!((fragments.count, fragments.sources.len()), (0, 0));
    }
}
