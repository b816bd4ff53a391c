//! A running checksum over entries: tells two histories apart that share the term and the index of an entry.
//!
//! It is made of what every node has of an entry, and so it is equal wherever the same entries stand: in logs with other segments,
//! written in other batches, opened again, or without their beginning. (The chain of frame checksums is not: it belongs to one
//! file.) Not for protection from an attacker, who can choose entries whose checksums are equal.

use std::fmt;

use crate::random::SplitMix64;
use crate::types::EntryId;

/// The running checksum of a log up to an entry, that entry included.
///
/// The next one is made of this one and the header of the next entry, which holds the checksum of its payload: no payload is read.
/// A difference is never forgotten: the same entry after two different lineages gives two different lineages. Two different entries
/// after the same lineage give the same lineage only if they agree in term, index, kind and checksum, or by a chance of one in 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lineage(u64);

impl Lineage {
    /// Before the first entry that was ever made.
    pub const START: Self = Self(0);

    /// Wraps a raw number.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The lineage of this entry, which follows on an entry with the lineage `self`. Layout: `docs/format/wal.md`.
    pub(crate) const fn then(self, id: EntryId, kind: u8, checksum: u32) -> Self {
        let content = (kind as u64) << 32 | checksum as u64;
        let sum = self
            .0
            .wrapping_add(id.term.get().wrapping_mul(SplitMix64::GAMMA))
            .wrapping_add(id.index.get().wrapping_mul(SplitMix64::FIRST_FACTOR))
            .wrapping_add(content.wrapping_mul(SplitMix64::SECOND_FACTOR));
        Self(SplitMix64::mix(sum))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::id;

    #[test]
    fn everything_that_makes_an_entry_changes_the_lineage() {
        let before = Lineage::new(7);
        let entry = before.then(id(3, 5), 2, 99);
        assert_eq!(entry, before.then(id(3, 5), 2, 99));
        let others = [
            Lineage::new(8).then(id(3, 5), 2, 99),
            before.then(id(4, 5), 2, 99),
            before.then(id(3, 6), 2, 99),
            before.then(id(5, 3), 2, 99),
            before.then(id(3, 5), 3, 99),
            before.then(id(3, 5), 2, 98),
        ];
        assert!(others.iter().all(|other| *other != entry), "{entry} {others:?}");
    }

    #[test]
    fn two_histories_that_once_differed_never_agree_again() {
        let mut one = Lineage::START.then(id(1, 1), 2, 1);
        let mut other = Lineage::START.then(id(1, 1), 2, 2);
        for index in 2..1000 {
            (one, other) = (one.then(id(2, index), 1, 3), other.then(id(2, index), 1, 3));
            assert_ne!(one, other, "entry {index}");
        }
    }
}
