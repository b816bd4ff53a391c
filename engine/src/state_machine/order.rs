//! The keys of a shard in order, as slots in leaves. Only new keys touch it.
//!
//! A leaf holds up to 128 slots and, beside each, four bytes of its key: those after the bytes that all its keys begin with. A search
//! compares these, which lie together, and looks at a key itself only where four bytes do not tell. A tree over the leaves finds the
//! leaf. Keys are never removed: there is no compaction yet.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use super::key::Key;
use super::slots::Slots;

/// Slots of a full leaf.
const LEAF_SLOTS: usize = 128;

/// A range of keys, as an ordered map of the standard library takes it.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Keys that follow each other.
#[derive(Debug)]
struct Leaf {
    len: usize,
    /// What all keys of the leaf begin with. It may be shorter than what they share.
    prefix: Key,
    /// Four bytes after the prefix, filled up with zeros. Ascending; equal ones are in the order of their keys.
    heads: [u32; LEAF_SLOTS],
    slots: [u32; LEAF_SLOTS],
}

/// Four bytes of a key after `skipped` of it, as a number that compares like them.
fn head_of(key: &[u8], skipped: usize) -> u32 {
    let rest = key.get(skipped..).unwrap_or_default();
    match rest.first_chunk::<4>() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            let mut head = [0; 4];
            head[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(head)
        }
    }
}

/// Bytes that two keys begin with alike.
fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

impl Leaf {
    fn new() -> Box<Self> {
        Box::new(Self { len: 0, prefix: Key::from(&[][..]), heads: [0; LEAF_SLOTS], slots: [0; LEAF_SLOTS] })
    }

    fn slots(&self) -> &[u32] {
        &self.slots[..self.len]
    }

    /// Slots whose keys are below `key`, and those that equal it too if `and_equal`.
    fn rank(&self, key: &[u8], and_equal: bool, all: &Slots) -> usize {
        let prefix = self.prefix.as_bytes();
        match key.get(..prefix.len()).unwrap_or(key).cmp(prefix) {
            // A key that ends within the prefix compares less here, too.
            Ordering::Less => return 0,
            Ordering::Greater => return self.len,
            Ordering::Equal => {}
        }
        let head = head_of(key, prefix.len());
        let heads = &self.heads[..self.len];
        let mut at = heads.partition_point(|other| *other < head);
        // Where heads are equal, a zero may be a byte or the end of a key: the keys decide.
        let equal = heads[at..].partition_point(|other| *other == head);
        at += self.slots[at..at + equal].partition_point(|slot| match all.key(*slot).cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => and_equal,
            Ordering::Greater => false,
        });
        at
    }

    /// Makes the prefix what the first and the last key share, and the heads fit it.
    fn set_prefix(&mut self, all: &Slots) {
        let (Some(first), Some(last)) = (self.slots().first(), self.slots().last()) else {
            return;
        };
        let (first, last) = (all.key(*first), all.key(*last));
        self.prefix = Key::from(&first[..shared(first, last)]);
        self.set_heads(all);
    }

    fn set_heads(&mut self, all: &Slots) {
        let skipped = self.prefix.as_bytes().len();
        for (head, slot) in self.heads.iter_mut().zip(&self.slots[..self.len]) {
            *head = head_of(all.key(*slot), skipped);
        }
    }

    /// Adds a slot, for which there is room.
    fn insert(&mut self, slot: u32, all: &Slots) {
        assert!(self.len < LEAF_SLOTS, "a full leaf is split first");
        let key = all.key(slot);
        if self.len == 0 {
            self.prefix = Key::from(key);
        }
        let kept = shared(self.prefix.as_bytes(), key);
        if kept < self.prefix.as_bytes().len() {
            self.prefix = Key::from(&key[..kept]);
            self.set_heads(all);
        }
        let at = self.rank(key, false, all);
        self.heads.copy_within(at..self.len, at + 1);
        self.slots.copy_within(at..self.len, at + 1);
        self.heads[at] = head_of(key, kept);
        self.slots[at] = slot;
        self.len += 1;
    }

    /// Moves the slots from `at` on to a leaf of their own.
    fn split_off(&mut self, at: usize, all: &Slots) -> Box<Self> {
        let mut upper = Self::new();
        upper.len = self.len - at;
        upper.slots[..upper.len].copy_from_slice(&self.slots[at..self.len]);
        self.len = at;
        upper.set_prefix(all);
        self.set_prefix(all);
        upper
    }
}

/// All slots, in the order of their keys.
#[derive(Debug)]
pub(super) struct Order {
    /// By a key that is no greater than any of the leaf and greater than all of the leaf before. The first leaf's is empty.
    leaves: BTreeMap<Key, Box<Leaf>>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { leaves: BTreeMap::from([(Key::from(&[][..]), Leaf::new())]) }
    }

    /// Adds the slot of a key that is not there yet.
    pub(super) fn insert(&mut self, slot: u32, all: &Slots) {
        let key = all.key(slot);
        let is_last = self.leaves.last_key_value().is_some_and(|(begin, _)| begin.as_bytes() <= key);
        let mut up_to = self.leaves.range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        let (_, leaf) = up_to.next_back().expect("the first leaf begins below every key");
        if leaf.len < LEAF_SLOTS {
            leaf.insert(slot, all);
            return;
        }
        let at = leaf.rank(key, false, all);
        // A key after all others leaves the leaf full and begins a new one, so that keys which are written in order fill their leaves.
        // Anywhere else that would leave nearly empty leaves.
        let keeps_all = at == LEAF_SLOTS && is_last;
        let mut upper = leaf.split_off(if keeps_all { LEAF_SLOTS } else { LEAF_SLOTS / 2 }, all);
        let goes_up = at > leaf.len || upper.len == 0;
        if goes_up {
            upper.insert(slot, all);
        } else {
            leaf.insert(slot, all);
        }
        let first = Key::from(all.key(upper.slots[0]));
        let replaced = self.leaves.insert(first, upper);
        assert!(replaced.is_none(), "a key is in one leaf");
    }

    /// The slots of a range, piece by piece.
    pub(super) fn walk<'a>(&'a self, (first, last): Bounds<'a>) -> Walk<'a> {
        let from = match first {
            Bound::Unbounded => &[],
            Bound::Included(key) | Bound::Excluded(key) => key,
        };
        // The leaf that a key may lie in is the last one that begins at it or below.
        let mut up_to = self.leaves.range::<[u8], _>((Bound::Unbounded, Bound::Included(from)));
        let (begin, _) = up_to.next_back().expect("the first leaf begins below every key");
        let leaves = self.leaves.range::<[u8], _>((Bound::Included(begin.as_bytes()), Bound::Unbounded));
        Walk { leaves, first, last, has_ended: false }
    }

    /// The slot of the last key.
    pub(super) fn last(&self) -> Option<u32> {
        let (_, leaf) = self.leaves.last_key_value()?;
        leaf.slots().last().copied()
    }
}

/// Goes through the leaves of a range.
pub(super) struct Walk<'a> {
    leaves: btree_map::Range<'a, Key, Box<Leaf>>,
    first: Bound<&'a [u8]>,
    last: Bound<&'a [u8]>,
    has_ended: bool,
}

impl<'a> Walk<'a> {
    /// The next slots of the range, in order; `None` at its end. A piece may be empty.
    pub(super) fn next(&mut self, all: &Slots) -> Option<&'a [u32]> {
        if self.has_ended {
            return None;
        }
        let (_, leaf) = self.leaves.next()?;
        let start = match std::mem::replace(&mut self.first, Bound::Unbounded) {
            Bound::Unbounded => 0,
            Bound::Included(key) => leaf.rank(key, false, all),
            Bound::Excluded(key) => leaf.rank(key, true, all),
        };
        let end = match self.last {
            Bound::Unbounded => leaf.len,
            Bound::Included(key) => leaf.rank(key, true, all),
            Bound::Excluded(key) => leaf.rank(key, false, all),
        };
        self.has_ended = end < leaf.len;
        Some(leaf.slots().get(start..end).unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
