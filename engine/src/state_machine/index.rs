//! Keys by name and in order. A hash table finds a key; ordered leaves, which only new keys touch, walk a range.
//!
//! An overwrite in a tree follows some five cache misses that depend on each other; in a table it follows two. Nothing that can be
//! observed depends on the hash or its seed. Tables are many and small, since one that grows is copied as a whole. Keys are never
//! removed: there is no compaction yet.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::history::History;
use super::key::Key;
pub(super) use super::order::Bounds;
use super::order::Order;
use super::slots::{Entry, Slots};

use crate::limits::LOOK_AHEAD_KEYS;

/// Tables, chosen by the upper bits of a hash. A power of two.
const TABLES_COUNT: usize = 256;

const _: () =
    assert!(TABLES_COUNT.is_power_of_two() && TABLES_COUNT <= 256, "a table is chosen by eight bits of a hash");

/// Where an entry is, with enough of its hash that a growing table needs not look at it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    hash: u32,
    slot: u32,
}

impl Bucket {
    /// What the table is told: it wants the upper and the lower bits to differ from key to key.
    const fn spread(hash: u32) -> u64 {
        (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// All keys of a shard that were ever written.
#[derive(Debug)]
pub(super) struct Index {
    hasher: FixedState,
    tables: Vec<HashTable<Bucket>>,
    slots: Slots,
    order: Order,
}

impl Index {
    /// An empty index. A seed that nobody knows keeps others from choosing keys that all fall on one place.
    pub fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            tables: (0..TABLES_COUNT).map(|_| HashTable::new()).collect(),
            slots: Slots::default(),
            order: Order::new(),
        }
    }

    /// The table of a key, and its hash within that.
    fn place(&self, key: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        ((hash >> 56) as usize % TABLES_COUNT, hash as u32)
    }

    fn slot(&self, key: &[u8]) -> Option<u32> {
        let (table, hash) = self.place(key);
        let is_it = |bucket: &Bucket| bucket.hash == hash && self.slots.key(bucket.slot) == key;
        self.tables[table].find(Bucket::spread(hash), is_it).map(|bucket| bucket.slot)
    }

    /// Brings what a lookup of each key reads into the processor's caches, and changes nothing.
    ///
    /// One lookup waits for a bucket, then for its entry, then for the versions. Those of many keys do not wait for each other if
    /// nothing else is done between them: the processor has several such reads under way at once.
    pub fn look_ahead(&self, keys: &[&[u8]]) {
        let mut slots = [None; LOOK_AHEAD_KEYS];
        for (slot, key) in slots.iter_mut().zip(keys) {
            let (table, hash) = self.place(key);
            let bucket = self.tables[table].find(Bucket::spread(hash), |bucket: &Bucket| bucket.hash == hash);
            *slot = bucket.map(|bucket| bucket.slot);
        }
        // Nobody wants the sums: they are there so that the reads are.
        let found = || slots.iter().flatten().map(|slot| self.slots.get(*slot));
        std::hint::black_box(found().map(|entry| entry.key.as_bytes().len()).sum::<usize>());
        std::hint::black_box(found().map(|entry| entry.history.last().version).fold(0, u64::wrapping_add));
    }

    /// The history of a key.
    pub fn get(&self, key: &[u8]) -> Option<&History> {
        self.slot(key).map(|slot| &self.slots.get(slot).history)
    }

    /// The history of a key, to be added to.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut History> {
        let slot = self.slot(key)?;
        Some(&mut self.slots.get_mut(slot).history)
    }

    /// Adds a key.
    ///
    /// # Panics
    /// There are 2^32 keys. That the key was there already is the caller's fault.
    pub fn insert(&mut self, key: &[u8], history: History) {
        debug_assert!(self.slot(key).is_none(), "a key is added once");
        let (table, hash) = self.place(key);
        let slot = self.slots.push(Entry { key: Key::from(key), history });
        self.order.insert(slot, &self.slots);
        let again = |bucket: &Bucket| Bucket::spread(bucket.hash);
        self.tables[table].insert_unique(Bucket::spread(hash), Bucket { hash, slot }, again);
    }

    /// Keys of a range with their histories, in order.
    pub fn range<'a>(&'a self, bounds: Bounds<'a>) -> impl Iterator<Item = (&'a [u8], &'a History)> {
        let mut walk = self.order.walk(bounds);
        let pieces = std::iter::from_fn(move || walk.next(&self.slots));
        pieces.flatten().map(|slot| {
            let entry = self.slots.get(*slot);
            (entry.key.as_bytes(), &entry.history)
        })
    }

    /// Goes through the keys of a range in order, with their histories to be added to, until `each` says `false`.
    pub fn for_each_mut(&mut self, bounds: Bounds<'_>, mut each: impl FnMut(&[u8], &mut History) -> bool) {
        let mut walk = self.order.walk(bounds);
        while let Some(piece) = walk.next(&self.slots) {
            for slot in piece {
                let Entry { key, history } = self.slots.get_mut(*slot);
                if !each(key.as_bytes(), history) {
                    return;
                }
            }
        }
    }

    /// Number of keys of a range, but no more than `most`.
    pub fn count(&self, bounds: Bounds<'_>, most: usize) -> usize {
        let mut walk = self.order.walk(bounds);
        let mut count = 0;
        while count < most
            && let Some(piece) = walk.next(&self.slots)
        {
            count += piece.len();
        }
        count.min(most)
    }

    /// The last key in order.
    pub fn last(&self) -> Option<(&[u8], &History)> {
        let entry = self.slots.get(self.order.last()?);
        Some((entry.key.as_bytes(), &entry.history))
    }
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound;

    use super::*;
    use crate::state_machine::history::Version;
    use crate::state_machine::values::ValueRef;
    use crate::types::Revision;

    fn version(number: u64) -> Version {
        let revision = Revision::new(number);
        let value = ValueRef::default();
        Version { mod_revision: revision, create_revision: revision, version: 1, lease: 0, value }
    }

    /// Keys of many lengths, some of them prefixes of others, far more than a chunk or a table holds before it grows.
    #[test]
    fn keys_are_found_and_in_order_whatever_the_seed() {
        let key = |number: u64| {
            let digits = (number.wrapping_mul(0x9e37_79b9) % 100_000).to_string();
            [b"/registry/pods/", digits.as_bytes(), &vec![0; (number % 3) as usize]].concat()
        };
        for seed in [0, 1, u64::MAX] {
            let mut index = Index::new(seed);
            let mut model = BTreeMap::new();
            for number in 1..20_000 {
                let key = key(number);
                match (index.get_mut(&key), model.get_mut(&key)) {
                    (Some(history), Some(last)) => {
                        history.push(version(number));
                        *last = number;
                    }
                    (None, None) => {
                        index.insert(&key, History::new(version(number)));
                        model.insert(key, number);
                    }
                    (found, expected) => panic!("{found:?} for {expected:?}"),
                }
            }
            let last = |history: &History| history.last().mod_revision.get();
            let all = (Bound::Unbounded, Bound::Unbounded);
            let found: Vec<_> = index.range(all).map(|(key, history)| (key.to_vec(), last(history))).collect();
            assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>());
            assert!(model.iter().all(|(key, number)| index.get(key).map(last) == Some(*number)));
            assert!(index.get(b"/registry/pods/").is_none() && index.count(all, 7) == 7);
            let mut visited = Vec::new();
            index.for_each_mut(all, |key, _| {
                visited.push(key.to_vec());
                visited.len() < model.len() / 2
            });
            assert_eq!(visited, model.into_keys().take(visited.len()).collect::<Vec<_>>());
            assert!(visited.len() > 1_000, "it went on for as long as it was told to");
        }
    }
}
