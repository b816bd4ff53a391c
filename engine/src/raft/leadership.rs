//! How leadership changes hands, step by step, for those who watch: the node's log, its metrics, tests.
//!
//! Raft decides nothing from these steps.

use std::fmt;

use crate::types::{Index, NodeId, Term};

/// Why leadership is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverReason {
    /// Somebody asked for it.
    Asked,
    /// This node is going to stop.
    Stopping,
    /// Another node is to lead this shard, if it can.
    Preferred,
    /// This node's disk is full or slow.
    SickDisk,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverEnd {
    /// A later term began.
    Done,
    /// The successor did not take over in time.
    OutOfTime {
        /// It was told to take over. If not, it could not be sent the whole log.
        was_told: bool,
    },
    /// Another successor was asked for.
    Replaced,
    /// This node stepped down without a successor.
    Deposed,
}

/// A step on the way from one leader to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadershipStep {
    /// This leader takes no more proposals, and sends its successor the rest of its log.
    Begun {
        /// The successor.
        to: NodeId,
        /// Why.
        reason: HandOverReason,
        /// Last entry of this leader's log.
        last_index: Index,
        /// Last entry that the successor is known to have on its disk.
        match_index: Index,
    },
    /// The successor was sent the whole log, and told to take over.
    Told {
        /// The successor.
        to: NodeId,
        /// Last entry of this leader's log.
        last_index: Index,
    },
    /// The hand-over is over.
    Ended {
        /// The successor.
        to: NodeId,
        /// How.
        end: HandOverEnd,
        /// How long it took. Unit: ticks.
        after_ticks: u64,
    },
    /// This node asks for votes.
    Campaigning {
        /// The term that it would lead.
        term: Term,
        /// The leader of the term before asked for it.
        is_asked: bool,
    },
    /// This node was elected.
    Elected {
        /// The term.
        term: Term,
    },
    /// The first entry of this leader's term is committed: clients are served again.
    Opened {
        /// The term.
        term: Term,
    },
}

impl fmt::Display for HandOverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "somebody asked for it",
            Self::Stopping => "this node stops",
            Self::Preferred => "it is the preferred leader",
            Self::SickDisk => "this node's disk is full or slow",
        })
    }
}

impl fmt::Display for HandOverEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "a later term began",
            Self::OutOfTime { was_told: true } => "given up: the successor was told to take over and did not in time",
            Self::OutOfTime { was_told: false } => "given up: the successor could not be sent the whole log in time",
            Self::Replaced => "given up: another successor was asked for",
            Self::Deposed => "given up: this node does not hear a majority any more",
        })
    }
}

impl fmt::Display for LeadershipStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun { to, reason, last_index, match_index } => write!(
                f,
                "handing leadership over to {to}: {reason}; it has {match_index} of {last_index} entries on its disk"
            ),
            Self::Told { to, last_index } => write!(f, "told {to} to take over at entry {last_index}"),
            Self::Ended { to, end, after_ticks } => {
                write!(f, "the hand-over to {to} ended after {after_ticks} ticks: {end}")
            }
            Self::Campaigning { term, is_asked: true } => {
                write!(f, "asking for votes in term {term}, as the leader wishes")
            }
            Self::Campaigning { term, is_asked: false } => write!(f, "asking for votes in term {term}"),
            Self::Elected { term } => write!(f, "elected leader of term {term}"),
            Self::Opened { term } => write!(f, "term {term} is open: its first entry is committed"),
        }
    }
}
