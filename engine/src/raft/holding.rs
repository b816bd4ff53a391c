//! What a follower says that its log has of its leader's.

use super::log_view::LogView;
use crate::types::{Index, Lineage};

/// The fields are those of `AppendOutcome::Accepted`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) matched_index: Index,
    pub(super) persisted_index: Index,
    pub(super) lineage: Option<Lineage>,
}

impl Holding {
    /// What a follower's log, which equals the leader's up to `matched_index`, says of itself.
    pub(super) fn of(matched_index: Index, persisted_index: Index, log: &impl LogView) -> Self {
        assert!(persisted_index <= matched_index, "durable through {persisted_index}, equal up to {matched_index}");
        let lineage = log.lineage(matched_index).filter(|lineage| *lineage != Lineage::START);
        Self { matched_index, persisted_index, lineage }
    }
}
