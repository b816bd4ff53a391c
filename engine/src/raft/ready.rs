//! What Raft wants done: the outputs of its calls.
//!
//! Plain data that the replica carries out. Each field says what must be durable before it leaves.

use super::{BirthRecord, Contradiction, LeadershipStep, Message, Unfit};
use crate::types::{EntryId, Index, NodeId, Term};

/// What a node must never forget: its term, and whom it voted for in it. Source: thesis 3.4 (persistent state).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term the node has seen.
    pub term: Term,
    /// The candidate that got this node's vote in `term`.
    pub vote: Option<NodeId>,
}

/// What a replica is in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes entries from a leader, or waits for one.
    Follower,
    /// Asks whether a campaign could succeed; its term is unchanged.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Proposes entries and replicates them.
    Leader,
}

/// This node's log was given up: the group agreed on another one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// Who says so: a peer, or this node itself if its own log does.
    pub told_by: NodeId,
    /// The committed entry that names the other log.
    pub since: Index,
}

impl std::fmt::Display for Outdated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { told_by, since } = self;
        write!(f, "node {told_by} knows that entry {since} put another data directory in the place of this one")
    }
}

/// Names a read that waits for `read_index`; opaque to Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// Outputs since they were last drained, to be carried out in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A leader lacks what this node knows to be committed. Stop for good, and carry out nothing else of this `Ready`.
    pub contradiction: Option<Contradiction>,
    /// This node's log was given up. Stop for good, and carry out nothing else of this `Ready`.
    pub outdated: Option<Outdated>,
    /// Append this to the log before anything else, entries included, and report `on_hard_state_persisted` when it is
    /// durable. Entries that come after it in the same log are then never durable without it.
    pub hard_state: Option<HardState>,
    /// Send now. Entries of an `AppendEntries` must be read from the log before it changes.
    pub messages: Vec<(NodeId, Message)>,
    /// Send only once the hard state above, and every one returned before it, is durable. They may leave after `messages` of
    /// later calls: no order is assumed.
    pub messages_after_persist: Vec<(NodeId, Message)>,
    /// Reads that may be answered once this index is applied.
    pub reads_ready: Vec<(ReadId, Index)>,
    /// Reads that will not be confirmed because the leader is no longer the one that they were asked of, or cannot be reached any more.
    /// They may be asked for again.
    pub reads_failed: Vec<ReadId>,
    /// This node just became leader: append a no-op entry with this id, then call `on_appended`. It opens the term, so
    /// nothing may be proposed before it; without room for it now, append it as soon as there is some, unless the role or
    /// the term has changed by then.
    pub append_noop: Option<EntryId>,
    /// Read these entries, first and last, into memory, compare them with their checksums and call `on_loaded`. Followers that wait for
    /// them are sent nothing before.
    pub loads: Vec<(Index, Index)>,
    /// This node, which was under repair, has everything back: make that durable, then call `end_repair`.
    pub repaired: bool,
    /// This new node learned what it is: make that durable, then call `on_birth_persisted`. A replacement is marked as under
    /// repair before.
    pub birth: Option<BirthRecord>,
    /// Steps on the way from one leader to the next, for those who watch.
    pub steps: Vec<LeadershipStep>,
}

/// The call is for the leader only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not take proposals; the leader is {leader:?}")]
pub struct NotLeader {
    /// The leader, as far as known; this node itself while it hands leadership over.
    pub leader: Option<NodeId>,
}

/// Why a read was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// This node does not lead, and knows no leader to ask or is not a follower that may answer reads.
    #[error("this node neither leads nor follows a leader that it could ask")]
    NobodyToAsk,
    /// Too many reads wait already.
    #[error("{pending_count} reads wait for confirmation already, {limit} may; try again later")]
    TooManyReads {
        /// Reads waiting now.
        pending_count: usize,
        /// `PENDING_READS_MAX`.
        limit: usize,
    },
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only a leader has leadership to give.
    #[error("this node does not lead; the leader is {leader:?}")]
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// The receiver cannot lead.
    #[error("node {to} is not a voter of this shard")]
    NotVoter {
        /// The intended receiver.
        to: NodeId,
    },
    /// The receiver could not hold leadership now.
    #[error("node {to} cannot take leadership now: {why}")]
    NotFit {
        /// The intended receiver.
        to: NodeId,
        /// Why it is not fit.
        why: Unfit,
    },
}

/// Why a learner is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddLearnerError {
    /// Only a leader changes who the members are.
    #[error("this node does not lead; the leader is {leader:?}")]
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// Nothing is to be changed, or another part would have to be.
    #[error("node {node} is a member of this shard already")]
    IsMember {
        /// The node.
        node: NodeId,
    },
    /// The entry must say which log of the node counts.
    #[error("no log of node {node} is named")]
    NoLog {
        /// The node.
        node: NodeId,
    },
    /// There is no place for another member.
    #[error("this shard has {count} members, as many as there may be")]
    Full {
        /// Members now.
        count: usize,
    },
}

/// What `step_append` wants done with the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendDecision {
    /// Nothing is to be appended: the message is stale, malformed or rejected, or the log has it all.
    Drop,
    /// Carry out `ready().hard_state`, then append all but the first `skip` entries, in order, superseding what the log holds from
    /// there on, then call `on_appended`.
    Append {
        /// Leading entries that the log holds already.
        skip: usize,
    },
}
