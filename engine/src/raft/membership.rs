//! Who votes, and what a quorum of them agrees on.

use crate::types::{Index, NodeId};

/// The voters of one Raft group.
///
/// Invariant: at least one voter, sorted, without repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    voters: Vec<NodeId>,
}

impl Membership {
    /// The membership of these voters. Panics when there is none or one is named twice.
    #[must_use]
    pub fn new(mut voters: Vec<NodeId>) -> Self {
        assert!(!voters.is_empty(), "a Raft group needs a voter");
        voters.sort_unstable();
        assert!(voters.windows(2).all(|pair| pair[0] != pair[1]), "a voter is named twice: {voters:?}");
        Self { voters }
    }

    /// All voters, in ascending order.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// `id` votes.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.binary_search(&id).is_ok()
    }

    /// Voters that make a quorum: a majority.
    #[must_use]
    pub fn quorum_count(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether the others are a quorum without one node: only then can it be repaired.
    #[must_use]
    pub fn can_repair(&self) -> bool {
        self.voters.len() > self.quorum_count()
    }

    /// A quorum satisfies `holds`.
    pub fn quorum_has(&self, mut holds: impl FnMut(NodeId) -> bool) -> bool {
        self.voters.iter().filter(|&&id| holds(id)).count() >= self.quorum_count()
    }

    /// Highest index that a quorum has reached, where `reached(voter)` is how far each one is.
    pub fn quorum_index(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        let candidates = self.voters.iter().map(|&id| reached(id));
        candidates.filter(|&index| self.quorum_has(|id| reached(id) >= index)).max().unwrap_or(Index::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(count: u64) -> Membership {
        Membership::new((1..=count).map(NodeId::new).collect())
    }

    #[test]
    fn a_quorum_is_a_majority() {
        let quorums: Vec<_> = (1..=7).map(|count| membership(count).quorum_count()).collect();
        assert_eq!(quorums, [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn the_quorum_index_is_what_a_majority_reached() {
        let reached = [0, 7, 3, 9, 3, 5];
        let index =
            |count| membership(count).quorum_index(|id| Index::new(reached[usize::try_from(id.get()).unwrap()]));
        assert_eq!(index(1), Index::new(7));
        assert_eq!(index(2), Index::new(3));
        assert_eq!(index(3), Index::new(7));
        assert_eq!(index(4), Index::new(3));
        assert_eq!(index(5), Index::new(5));
    }
}
