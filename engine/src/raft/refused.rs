//! Messages that no honest peer sends: what is wrong with them, and how many there were.
//!
//! Whoever reaches the peer port, and every bug of another version, can send well-formed messages that make no sense. They are
//! refused: nothing changes and nothing is answered. They never trip an assertion.

use super::Raft;
use crate::types::{EntryId, NodeId, Term};

/// Latest term there is. No campaign goes beyond it, so every term that a node can have is one that its peers can read.
///
/// With one election each millisecond it would be reached after more than a hundred million years.
pub const TERM_MAX: Term = Term::new((1 << 62) - 1);

/// A message of a term that is further above this node's own is refused. Unit: terms.
///
/// A term is made by a node that asks for votes, once per election timeout at most, and only after a majority would vote for it.
/// At ten elections a second a cluster needs 13 years for so many terms: a node that was away for less comes back, and a single
/// message cannot use up the terms that are left.
const TERM_LEAP_MAX: u64 = 1 << 32;

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// Two nodes claim to lead the same term.
    #[error("it claims to lead term {term}, which node {leader} leads")]
    SecondLeader {
        /// The term.
        term: Term,
        /// Who leads it.
        leader: NodeId,
    },
    /// Its term is too far above this node's.
    #[error("it names term {got}, too far above this node's term {own}")]
    FarTerm {
        /// As received.
        got: Term,
        /// This node's.
        own: Term,
    },
    /// The leader of a term sends another entry than it sent before.
    #[error("it sends entry {got} where the same term's leader had sent one of term {matched} before")]
    OtherEntry {
        /// As received.
        got: EntryId,
        /// The term of the entry that matched before.
        matched: Term,
    },
    /// It answers a round of heartbeats that was never begun.
    #[error("it confirms round {got} of heartbeats; the newest is {newest}")]
    FutureRound {
        /// As received.
        got: u64,
        /// The newest of this term.
        newest: u64,
    },
}

/// Messages that were refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: u64,
    last: Option<(NodeId, Nonsense)>,
}

impl Raft {
    /// Messages that made no sense, since this value was made.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.refused.count
    }

    /// The last message that made no sense since this was last asked, and who sent it.
    pub fn take_refused(&mut self) -> Option<(NodeId, Nonsense)> {
        self.refused.last.take()
    }

    pub(super) fn refuse(&mut self, from: NodeId, why: Nonsense) {
        self.refused.count += 1;
        self.refused.last = Some((from, why));
    }

    /// Refuses a message whose term is too far above this node's; says whether it was one.
    pub fn refuses_term(&mut self, from: NodeId, term: Term) -> bool {
        let own = self.hard_state.term;
        let is_far = term.get() > own.get().saturating_add(TERM_LEAP_MAX) || term > TERM_MAX;
        if is_far {
            self.refuse(from, Nonsense::FarTerm { got: term, own });
        }
        is_far
    }
}
