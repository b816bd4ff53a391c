//! What a node may hear that lets it answer linearizable reads.

use crate::types::{Index, NodeId, Term};

/// The leader was asked about reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) to: NodeId,
    pub(super) term: Term,
    pub(super) life: u64,
    /// Rises from question to question.
    pub(super) batch: u64,
}

/// What may tell a node that a read can be answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard {
    /// A member whose log counts answered a round of heartbeats.
    Round(Term, u64),
    /// A member answered a question about reads with the index from which on they may be answered.
    ReadIndex(Question, Index),
    /// A member answered a request that was passed on to it.
    AnswerOfLeader,
}
