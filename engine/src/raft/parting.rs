//! Why a follower takes nothing more from its leader in a term: its own entry that the leader's log excludes.

use super::Tip;
use super::log_view::{LogView, term_at};
use super::refused::Nonsense;
use crate::types::{EntryId, Index};

/// Why a follower takes nothing more from its leader in this term. What follows from it is in `histories`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    /// What is told to people.
    pub(super) why: Nonsense,
    /// The entry of this node's log that the leader's log excludes.
    pub(super) own: Tip,
}

impl Parting {
    /// The entry of this node's log at `index` is what the leader's log excludes. `None` if the log does not have it any more.
    pub(super) fn at(index: Index, why: Nonsense, log: &impl LogView) -> Option<Self> {
        assert!(index > Index::ZERO, "the first entry has index 1");
        let id = EntryId::new(term_at(log, index)?, index);
        Some(Self { why, own: Tip { id, lineage: log.lineage(index)? } })
    }
}
