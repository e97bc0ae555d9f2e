//! What is remembered of each flow, for a time and in bounds: who has more than its share loses its
//! own least used.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How many flows there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one owner.
    pub each: usize,
    pub all: usize,
}

impl Limits {
    /// For a process that may have so many open files, of which flows of datagrams may have an eighth, and
    /// clients of published ports another.
    pub fn of(files: usize) -> Self {
        let all = (files / 8).clamp(16, 16384);
        Self { each: all / 4, all }
    }
}

/// Idle flows are forgotten as connection tracking does: `nf_conntrack_udp_timeout`, and
/// `…_timeout_stream` for one that was answered and went on for more than two seconds.
const UNANSWERED: Duration = Duration::from_secs(30);
const STREAM: Duration = Duration::from_secs(180);
const BECOMES_STREAM: Duration = Duration::from_secs(2);
/// So often at most is looked for what has expired.
const SWEEP: Duration = Duration::from_secs(5);

/// No entry.
const NIL: u32 = u32::MAX;

/// Where an entry is; it says nothing of another that got the place later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub index: u32,
    pub generation: u32,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    owner: IpAddr,
    made: Instant,
    used: Instant,
    answered: bool,
    stream: bool,
    /// Neighbours among its owner's, by when they were used.
    older: u32,
    newer: u32,
}

impl<K, V> Entry<K, V> {
    fn end(&self) -> Instant {
        self.used + if self.stream { STREAM } else { UNANSWERED }
    }
}

#[derive(Debug)]
struct Slot<K, V> {
    generation: u32,
    entry: Option<Entry<K, V>>,
}

#[derive(Debug, Clone, Copy)]
struct Chain {
    oldest: u32,
    newest: u32,
    count: usize,
}

/// Values by their key and by their place, each of an owner.
#[derive(Debug)]
pub struct Table<K, V> {
    places: HashMap<K, u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    owners: HashMap<IpAddr, Chain>,
    limits: Limits,
    sweep: Option<Instant>,
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    pub fn new(limits: Limits) -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            owners: HashMap::new(),
            limits,
            sweep: None,
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn find(&self, key: &K) -> Option<Place> {
        let index = *self.places.get(key)?;
        Some(Place { index, generation: self.slots[index as usize].generation })
    }

    fn entry(&self, place: Place) -> Option<&Entry<K, V>> {
        self.slots.get(place.index as usize).filter(|slot| slot.generation == place.generation)?.entry.as_ref()
    }

    pub fn get(&self, place: Place) -> Option<&V> {
        self.entry(place).map(|entry| &entry.value)
    }

    pub fn key(&self, place: Place) -> Option<K> {
        self.entry(place).map(|entry| entry.key)
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut V> {
        let slot = self.slots.get_mut(place.index as usize)?;
        slot.entry.as_mut().filter(|_| slot.generation == place.generation).map(|entry| &mut entry.value)
    }

    /// Which entry has to go before `owner` gets another one; `None`: there is room.
    pub fn surplus(&self, owner: IpAddr) -> Option<Place> {
        let own = self.owners.get(&owner).filter(|chain| chain.count >= self.limits.each);
        let chain = match own {
            Some(chain) => chain,
            None if self.len() >= self.limits.all => self.owners.values().max_by_key(|chain| chain.count)?,
            None => return None,
        };
        let generation = self.slots[chain.oldest as usize].generation;
        Some(Place { index: chain.oldest, generation })
    }

    /// The entry to lose first where the process has no descriptors left.
    pub fn least(&self) -> Option<Place> {
        let chain = self.owners.values().max_by_key(|chain| chain.count)?;
        Some(Place { index: chain.oldest, generation: self.slots[chain.oldest as usize].generation })
    }

    /// Where the next entry will be.
    pub fn next(&mut self) -> Place {
        if self.free.is_empty() {
            self.free.push(u32::try_from(self.slots.len()).unwrap_or(NIL));
            self.slots.push(Slot { generation: 0, entry: None });
        }
        let index = self.free.last().copied().unwrap_or(NIL);
        Place { index, generation: self.slots[index as usize].generation }
    }

    /// Adds an entry at [`Table::next`], under a key that has none.
    pub fn insert(&mut self, key: K, owner: IpAddr, value: V, now: Instant) -> Place {
        let place = self.next();
        self.free.pop();
        self.slots[place.index as usize].entry = Some(Entry {
            key,
            value,
            owner,
            made: now,
            used: now,
            answered: false,
            stream: false,
            older: NIL,
            newer: NIL,
        });
        self.places.insert(key, place.index);
        self.link(place.index);
        let end = now + UNANSWERED;
        self.sweep = Some(self.sweep.map_or(end, |sweep| sweep.min(end)));
        place
    }

    /// Notes that it was used, `answer`: by the other side.
    pub fn touch(&mut self, place: Place, answer: bool, now: Instant) {
        let Some(entry) = self.slots.get_mut(place.index as usize).and_then(|slot| slot.entry.as_mut()) else { return };
        entry.used = now;
        entry.answered |= answer;
        entry.stream |= entry.answered && now.duration_since(entry.made) >= BECOMES_STREAM;
        if entry.newer != NIL {
            self.unlink(place.index);
            self.link(place.index);
        }
    }

    pub fn remove(&mut self, place: Place) -> Option<(K, V)> {
        self.entry(place)?;
        self.unlink(place.index);
        let slot = &mut self.slots[place.index as usize];
        slot.generation = slot.generation.wrapping_add(1) & 0xff_ffff;
        let entry = slot.entry.take()?;
        self.free.push(place.index);
        self.places.remove(&entry.key);
        Some((entry.key, entry.value))
    }

    /// The entries that `wanted` is true for.
    pub fn select(&self, mut wanted: impl FnMut(&K, &V) -> bool) -> Vec<Place> {
        self.list(|entry| wanted(&entry.key, &entry.value))
    }

    fn list(&self, mut wanted: impl FnMut(&Entry<K, V>) -> bool) -> Vec<Place> {
        let with_index = self.slots.iter().zip(0..);
        with_index
            .filter(|(slot, _)| slot.entry.as_ref().is_some_and(&mut wanted))
            .map(|(slot, index)| Place { index, generation: slot.generation })
            .collect()
    }

    /// When [`Table::expired`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.sweep
    }

    /// The entries that were idle for too long.
    pub fn expired(&mut self, now: Instant) -> Vec<Place> {
        if self.sweep.is_none_or(|sweep| now < sweep) {
            return Vec::new();
        }
        let expired = self.list(|entry| entry.end() <= now);
        let left = self.slots.iter().filter_map(|slot| slot.entry.as_ref()).map(Entry::end).filter(|end| *end > now);
        self.sweep = left.min().map(|end| end.max(now + SWEEP));
        // After a flood its memory is given back.
        self.places.shrink_to(2 * self.places.len());
        expired
    }

    /// Puts an entry at the newest end of its owner's chain.
    fn link(&mut self, index: u32) {
        let Some(entry) = self.slots[index as usize].entry.as_mut() else { return };
        let chain = self.owners.entry(entry.owner).or_insert(Chain { oldest: index, newest: NIL, count: 0 });
        entry.older = chain.newest;
        entry.newer = NIL;
        let before = std::mem::replace(&mut chain.newest, index);
        chain.count += 1;
        if let Some(before) = self.slots.get_mut(before as usize).and_then(|slot| slot.entry.as_mut()) {
            before.newer = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.slots[index as usize].entry.as_ref() else { return };
        let (owner, older, newer) = (entry.owner, entry.older, entry.newer);
        let Some(chain) = self.owners.get_mut(&owner) else { return };
        chain.count -= 1;
        match self.slots.get_mut(older as usize).and_then(|slot| slot.entry.as_mut()) {
            Some(older) => older.newer = newer,
            None => chain.oldest = newer,
        }
        match self.slots.get_mut(newer as usize).and_then(|slot| slot.entry.as_mut()) {
            Some(newer) => newer.older = older,
            None => chain.newest = older,
        }
        if chain.count == 0 {
            self.owners.remove(&owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn add(table: &mut Table<u32, u32>, key: u32, of: u8, now: Instant) -> Vec<u32> {
        let mut gone = Vec::new();
        while let Some(place) = table.surplus(owner(of)) {
            gone.push(table.remove(place).unwrap().0);
        }
        table.insert(key, owner(of), key * 10, now);
        gone
    }

    #[test]
    fn the_least_used_of_who_has_most_goes() {
        let now = Instant::now();
        let mut table = Table::new(Limits { each: 3, all: 5 });
        for key in 0..3 {
            assert!(add(&mut table, key, 1, now).is_empty());
        }
        table.touch(table.find(&0).unwrap(), false, now);
        assert_eq!(add(&mut table, 3, 1, now), [1]);
        assert!(add(&mut table, 10, 2, now).is_empty());
        assert!(add(&mut table, 11, 2, now).is_empty());
        // All are taken: it is not the newcomer's, nor one of the two, but one of the three.
        assert_eq!(add(&mut table, 20, 3, now), [2]);
        assert_eq!(table.get(table.find(&10).unwrap()), Some(&100));
        let old = table.find(&10).unwrap();
        assert_eq!(table.remove(old), Some((10, 100)));
        add(&mut table, 12, 2, now);
        assert_eq!(table.find(&12).unwrap().index, old.index);
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        for key in 100..1000 {
            add(&mut table, key, 1, now);
        }
        assert!(table.find(&20).is_some() && table.find(&12).is_some() && table.len() <= 5);
    }

    #[test]
    fn idle_ones_expire_and_streams_later() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::new(Limits { each: 10, all: 10 });
        assert_eq!(table.deadline(), None);
        let [quiet, answered, stream] = [1, 2, 3].map(|key| table.insert(key, owner(1), key, start));
        table.touch(answered, true, after(1));
        table.touch(stream, true, after(1));
        table.touch(stream, false, after(4));
        assert_eq!(table.deadline(), Some(after(30)));
        assert_eq!(table.expired(after(29)), []);
        assert_eq!(table.expired(after(30)), [quiet]);
        table.remove(quiet);
        assert_eq!(table.deadline(), Some(after(35)));
        assert_eq!(table.expired(after(35)), [answered]);
        table.remove(answered);
        assert_eq!(table.deadline(), Some(after(184)));
        assert_eq!(table.expired(after(184)), [stream]);
        assert_eq!(table.find(&3), Some(stream));
        table.remove(stream);
        assert_eq!((table.deadline(), table.len(), table.owners.len()), (None, 0, 0));
    }
}
