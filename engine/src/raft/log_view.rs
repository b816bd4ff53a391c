//! The log as Raft reads it: positions, terms, sizes and what is durable. Never written from here.

use crate::types::{EntryId, Index, Lineage, Term};

/// Read access to the replicated log.
///
/// Entries appended but not durable are part of the log; only `persisted_index` speaks of durability. Between two calls into
/// `Raft` the log may change by what Raft asked for (entries after `AppendDecision::Append`, the no-op), by the leader's own
/// batches, and by syncs.
pub trait LogView {
    /// First index held, or the next one in a log without entries. What lies before is part of a state, and committed.
    ///
    /// Invariant: first_index <= last_id().index + 1.
    fn first_index(&self) -> Index;

    /// The entry before the first; its term is known although the log does not hold it.
    fn base(&self) -> EntryId {
        let index = self.first_index().prev();
        EntryId::new(term_at(self, index).unwrap_or(Term::ZERO), index)
    }

    /// The last entry; `base()` for a log without entries.
    fn last_id(&self) -> EntryId;

    /// Term of the entry at `index`, `base()` included; `None` when the log does not hold it. Index 0 is never asked for.
    ///
    /// Invariant: terms do not decrease with the index.
    fn term(&self, index: Index) -> Option<Term>;

    /// Lineage of all entries up to the one at `index`, `base()` included; `None` when the log does not hold it.
    fn lineage(&self, index: Index) -> Option<Lineage>;

    /// Highest index whose entry, and all before it, are durable on this node's own disk as they stand now.
    fn persisted_index(&self) -> Index;

    /// Size of the entry at `index` as it travels. Unit: bytes.
    fn entry_bytes(&self, index: Index) -> u64;

    /// True if a batch is being formed that will be the next entry: the log is about to grow.
    fn is_forming(&self) -> bool;

    /// Whether the entries `first..=last` can be read without waiting for a disk. Entries that are not are asked for in
    /// `Ready::loads` before a message with them is sent.
    fn is_resident(&self, _first: Index, _last: Index) -> bool {
        true
    }
}

/// Term at `index`, where index 0 has term 0.
pub(super) fn term_at(log: &(impl LogView + ?Sized), index: Index) -> Option<Term> {
    if index == Index::ZERO { Some(Term::ZERO) } else { log.term(index) }
}

/// The last entry at or before `upto` whose term is at most `term`, but none before `floor`.
///
/// Both sides use it to skip a whole term of conflicting entries per round trip: entries of a later term than the other
/// side's cannot be shared (thesis 3.5). Terms do not decrease, so a binary search finds it.
pub(super) fn last_not_after_term(log: &impl LogView, floor: Index, upto: Index, term: Term) -> EntryId {
    let (mut low, mut high) = (floor.get(), upto.get().max(floor.get()));
    // Invariant: the answer lies in low..=high; everything above high is of a later term, or past `upto`.
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match term_at(log, Index::new(middle)) {
            Some(found) if found > term => high = middle - 1,
            _ => low = middle,
        }
    }
    let index = Index::new(low);
    EntryId::new(term_at(log, index).unwrap_or(Term::ZERO), index)
}
