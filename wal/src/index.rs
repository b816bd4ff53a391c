//! Where each entry lies: the current one at every index, in memory, O(1).
//!
//! It holds positions, terms and running checksums, no bytes, and is rebuilt from the log when that opens.

use std::collections::VecDeque;

use crate::format::{ENTRY_HEADER_BYTES, EntryKind, frame_bytes};
use crate::lineage::Lineage;
use crate::types::{EntryId, Index, Lsn, Term};

/// One entry: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) term: Term,
    /// Where its frame begins.
    pub(crate) lsn: Lsn,
    /// Length of its payload. Unit: bytes.
    pub(crate) payload_len: u32,
    pub(crate) kind: EntryKind,
    /// Lineage of all entries up to this one.
    pub(crate) lineage: Lineage,
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// Where its frame ends: the entry is durable once the log is durable up to here.
    pub(crate) fn end(&self) -> Lsn {
        self.lsn.plus(frame_bytes(self.payload_len as usize) as u64)
    }

    /// Size of header and payload, as they go over the wire. Unit: bytes.
    pub(crate) fn entry_bytes(&self) -> u64 {
        ENTRY_HEADER_BYTES as u64 + u64::from(self.payload_len)
    }
}

/// The current entries.
///
/// Invariant: positions grow with the index, because an entry that supersedes others comes after them in the log and
/// takes everything from its index on with it.
#[derive(Debug)]
pub(crate) struct EntryIndex {
    /// The entry before the first. It is part of the state that is kept elsewhere, and `EntryId::ZERO` if there is none.
    base: EntryId,
    base_lineage: Lineage,
    slots: VecDeque<Slot>,
    /// Entries whose frames end at or below the durable position; they are the first of `slots`.
    persisted_count: usize,
}

impl EntryIndex {
    pub(crate) fn new(base: EntryId, base_lineage: Lineage) -> Self {
        Self { base, base_lineage, slots: VecDeque::new(), persisted_count: 0 }
    }

    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn first_index(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last_id(&self) -> EntryId {
        match self.slots.back() {
            Some(slot) => EntryId::new(slot.term, self.base.index.plus(self.slots.len() as u64)),
            None => self.base,
        }
    }

    /// Lineage of all entries up to the last one, or up to the base if there is none.
    pub(crate) fn last_lineage(&self) -> Lineage {
        self.slots.back().map_or(self.base_lineage, |slot| slot.lineage)
    }

    /// Lineage of all entries up to the one at `index`, which may be the base.
    pub(crate) fn lineage(&self, index: Index) -> Option<Lineage> {
        if index == self.base.index {
            return Some(self.base_lineage);
        }
        self.get(index).map(|slot| slot.lineage)
    }

    pub(crate) fn persisted_index(&self) -> Index {
        self.base.index.plus(self.persisted_count as u64)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|slot| slot.term)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Slot> {
        self.slots.get(self.position(index)?)
    }

    /// Puts an entry at `index`, superseding what is there and beyond. Returns how many entries were superseded.
    ///
    /// Panics if the index leaves a gap or the position is not beyond all others: the caller has checked.
    pub(crate) fn put(&mut self, index: Index, slot: Slot) -> usize {
        let position = self.position(index).expect("an entry lies beyond the base");
        assert!(position <= self.slots.len(), "entry {index} would leave a gap");
        let superseded = self.slots.len() - position;
        assert!(self.slots.back().is_none_or(|last| last.end() <= slot.lsn), "entries lie in order");
        mark!("log: a durable entry is superseded" if position < self.persisted_count);
        self.slots.truncate(position);
        self.persisted_count = self.persisted_count.min(position);
        self.slots.push_back(slot);
        superseded
    }

    /// Counts the entries that are durable now that everything below `durable` is.
    pub(crate) fn advance_persisted(&mut self, durable: Lsn) {
        while self.slots.get(self.persisted_count).is_some_and(|slot| slot.end() <= durable) {
            self.persisted_count += 1;
        }
    }

    /// Forgets the entries up to `base`, which is one of them or the present base.
    ///
    /// Panics if it is not durable, or another entry stands there.
    pub(crate) fn drop_to(&mut self, base: EntryId) {
        assert_eq!(self.term(base.index), Some(base.term), "the new base {base} is an entry of this log");
        self.base_lineage = self.lineage(base.index).expect("the new base is an entry of this log");
        let dropped = usize::try_from(base.index.get() - self.base.index.get()).expect("entries in memory");
        assert!(dropped <= self.persisted_count, "entries up to {base} are not all durable");
        self.slots.drain(..dropped);
        self.persisted_count -= dropped;
        self.base = base;
    }

    fn position(&self, index: Index) -> Option<usize> {
        usize::try_from(index.get().checked_sub(self.base.index.get())?.checked_sub(1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(term: u64, lsn: u64) -> Slot {
        let lineage = Lineage::new(lsn + 1);
        Slot { term: Term::new(term), lsn: Lsn::new(lsn), payload_len: 8, kind: EntryKind::new(2), lineage }
    }

    #[test]
    fn superseding_takes_the_suffix_and_its_durability_away() {
        let mut index = EntryIndex::new(EntryId::ZERO, Lineage::START);
        for i in 0..3 {
            assert_eq!(index.put(Index::new(i + 1), slot(1, 100 * i)), 0);
        }
        index.advance_persisted(Lsn::new(300));
        assert_eq!(index.persisted_index(), Index::new(3));
        assert_eq!(index.put(Index::new(2), slot(2, 300)), 2);
        assert_eq!(index.last_id(), EntryId::new(Term::new(2), Index::new(2)));
        assert_eq!(index.persisted_index(), Index::new(1));
        index.advance_persisted(Lsn::new(300));
        assert_eq!(index.persisted_index(), Index::new(1), "what was durable before does not cover the new entry");
        index.advance_persisted(Lsn::new(356));
        assert_eq!(index.persisted_index(), Index::new(2));
    }

    #[test]
    fn dropping_a_prefix_moves_the_base_and_nothing_else() {
        let mut index = EntryIndex::new(EntryId::new(Term::new(1), Index::new(7)), Lineage::new(9));
        for i in 0..4 {
            index.put(Index::new(8 + i), slot(2, 100 * i));
        }
        index.advance_persisted(Lsn::new(300));
        let base = EntryId::new(Term::new(2), Index::new(9));
        index.drop_to(base);
        assert_eq!((index.base(), index.first_index(), index.len()), (base, Index::new(10), 2));
        assert_eq!((index.persisted_index(), index.last_id().index), (Index::new(10), Index::new(11)));
        assert_eq!(index.get(Index::new(9)), None);
        assert_eq!(index.lineage(Index::new(9)), Some(Lineage::new(101)), "that of the entry which is the base now");
        assert_eq!(index.get(Index::new(10)), Some(&slot(2, 200)));
        index.drop_to(base);
        assert_eq!(index.base(), base);
    }

    #[test]
    fn the_position_before_the_first_entry_has_a_term() {
        let base = EntryId::new(Term::new(4), Index::new(10));
        let index = EntryIndex::new(base, Lineage::new(9));
        assert_eq!(index.term(Index::new(10)), Some(Term::new(4)));
        assert_eq!((index.lineage(Index::new(10)), index.last_lineage()), (Some(Lineage::new(9)), Lineage::new(9)));
        assert_eq!(index.term(Index::new(9)), None);
        assert_eq!(index.term(Index::new(11)), None);
        assert_eq!(index.first_index(), Index::new(11));
        assert_eq!(index.last_id(), base);
    }
}
