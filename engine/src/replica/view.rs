//! What a replica shows of itself: for `status`, metrics, and whoever wants to know why it stopped. Nothing is decided from it.

use std::fmt;

use crate::raft::{self, Role};
use crate::types::{Index, NodeId, Revision, Term};

/// What stopped a replica. It takes no more part; a restart reads the device again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A write or a sync of the log failed; what the device holds is uncertain until it is read again.
    #[error("the log stopped after a failed write or sync: {0}")]
    Log(String),
    /// The log's files are not where the next start will look for them, so what goes into them would be lost.
    #[error("the log is not in its place: {0}")]
    NotInPlace(String),
    /// A leader lacks what this node knows to be committed.
    #[error(
        "{0}: some other node forgot what it had acknowledged, because its data directory was put back to an older copy or \
         was removed; this node keeps its entries, which may be the only ones left, and takes no further part until it is \
         started again. Stop the other nodes before they take more writes. If the newest directory of the node that forgot \
         still exists, put it back and start all nodes; if not, copy all data directories, start this node alone, and read \
         what it has with `quorate get --consistency s`"
    )]
    Contradiction(raft::Contradiction),
    /// Another data directory took the place of this node's.
    #[error(
        "{0}: this directory was replaced while it was away, and what it promised is no longer asked of it. It is of no use to \
         the cluster: move it aside, or remove it, and start this node with an empty one, or with the one that replaced it. \
         Never copy it over the other"
    )]
    Outdated(raft::Outdated),
    /// The data directory is new, the node is not, and nobody can repair it.
    #[error(
        "this node's data directory is empty, but another node took part in this cluster together with an earlier one: what \
         this node acknowledged is gone, and the others are too few to give it back safely ({voters_count} voters). Restore \
         the directory; or copy what the other node still has (`quorate get --consistency s`) into a new cluster"
    )]
    Replaced {
        /// Voters of the cluster.
        voters_count: usize,
    },
    /// An entry of the log could not be read back.
    #[error("entry {index} cannot be read from the log: {reason}")]
    Read {
        /// Which entry.
        index: Index,
        /// What the log said.
        reason: String,
    },
    /// A committed entry could not be applied.
    #[error("committed entry {index} cannot be applied: {reason}")]
    Apply {
        /// Which entry.
        index: Index,
        /// What the state machine said.
        reason: String,
    },
}

/// Counters of one replica since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaStats {
    /// Writes taken into a batch.
    pub writes_proposed: u64,
    /// Writes that had to wait before they were taken into one.
    pub writes_queued: u64,
    /// Batches closed.
    pub batches_closed: u64,
    /// Entries applied.
    pub entries_applied: u64,
    /// Commands applied.
    pub commands_applied: u64,
    /// Turns that applied something.
    pub apply_slices: u64,
    /// Slices of reads.
    pub read_slices: u64,
    /// Linearizable reads that this node answered from its own state while another one led.
    pub reads_at_follower: u64,
    /// Questions that this node asked a leader about such reads. One is for all reads that wait.
    pub read_questions: u64,
    /// `AppendEntries` not taken because no prepared segment had room.
    pub appends_without_room: u64,
    /// `AppendEntries` not taken because an entry failed its checksum.
    pub appends_corrupt: u64,
    /// Messages of peers that made no sense.
    pub messages_refused: u64,
    /// Requests refused as `overloaded`.
    pub refused_overloaded: u64,
    /// Answers to relayed requests that found no room on the connection and were replaced by a refusal.
    pub answers_dropped: u64,
    /// Hand-overs of leadership that this node began as the leader.
    pub hand_overs_begun: u64,
    /// Those after which another node led.
    pub hand_overs_done: u64,
    /// Those that were given up.
    pub hand_overs_given_up: u64,
    /// Elections that this node won.
    pub elections_won: u64,
    /// Syncs of the note beside the log that succeeded.
    pub note_syncs: u64,
    /// Syncs of the note that failed. No promise rests on them.
    pub note_syncs_failed: u64,
}

/// Who leads, as a replica shows it: the part of [`ReplicaView`] that is looked at after every turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// Current term.
    pub term: Term,
    /// The leader this node knows of; `None` if its log was found to have another history.
    pub leader: Option<NodeId>,
    /// This node leads the shard.
    pub is_leader: bool,
}

/// What this node's own disk or settings lack for more writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The next segment of the log cannot be prepared.
    Segment {
        /// What the system said.
        reason: String,
    },
    /// The state has used up this node's quota.
    Quota {
        /// Size of the state. Unit: bytes.
        state_bytes: u64,
        /// What it may have. Unit: bytes.
        quota_bytes: u64,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { reason } => write!(
                f,
                "the next log segment cannot be prepared, so that writes are refused, at the latest once the present segment is full: {reason}"
            ),
            Self::Quota { state_bytes, quota_bytes } => write!(
                f,
                "writes that add data are refused: the state holds {state_bytes} bytes and the quota is {quota_bytes}; raise \
                 --quota-backend-bytes"
            ),
        }
    }
}

/// What a replica shows of itself, for `status` and metrics.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// This node leads the shard.
    pub is_leader: bool,
    /// Raft's role.
    pub role: Role,
    /// The leader this node knows of.
    pub leader: Option<NodeId>,
    /// Current term.
    pub term: Term,
    /// Last entry in the log.
    pub last_index: Index,
    /// Last entry durable on this node's own disk.
    pub persisted_index: Index,
    /// Last entry known durable on a quorum.
    pub commit_index: Index,
    /// What this node's leader said last that is committed; this node's log may lack some of it. At least `commit_index`.
    pub told_commit_index: Index,
    /// Last entry applied.
    pub applied_index: Index,
    /// Current MVCC revision.
    pub revision: Revision,
    /// Estimated size of the state. Unit: bytes.
    pub state_bytes: u64,
    /// What is missing for more writes.
    pub shortage: Option<Shortage>,
    /// For how long the sync that is under way, or the oldest read of the log, has lasted; 0 if there is none. Unit: ms.
    pub disk_waits_ms: u64,
    /// Writes that wait for a quorum.
    pub pending_writes_count: usize,
    /// Reads that wait for a leader to confirm them, for their index to be applied, or for their turn.
    pub pending_reads_count: usize,
    /// Requests that wait for the leader's answer.
    pub relayed_count: usize,
    /// This node lost durable entries and is getting them back: what was damaged, and what it waits for.
    pub repair: Option<RepairProgress>,
    /// The hand-over of leadership that is under way.
    pub transfer: Option<raft::Transfer>,
    /// This node is new and takes no part yet: what it waits for.
    pub birth: Option<raft::BirthView>,
    /// Nodes that lost data and have not got it back.
    pub lost: raft::LostView,
    /// For how long nothing was heard of the leader; 0 on the leader, and without one. Unit: ms.
    pub leader_silent_ms: u64,
    /// Followers of this leader of which nothing was heard for an election timeout.
    pub silent: Vec<NodeId>,
    /// Followers that need a state before they can be sent entries: this leader's log begins beyond what they have.
    pub needs_state: Vec<NodeId>,
    /// This node has no vote: it gets all entries and counts in no quorum.
    pub is_learner: bool,
}

/// How far a repair has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairProgress {
    /// What was found damaged.
    pub damage: String,
    /// What Raft knows of it.
    pub raft: raft::RepairView,
}

impl fmt::Display for RepairProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raft::RepairView { awaited, is_unnamed, goal_index } = &self.raft;
        match goal_index {
            _ if !awaited.is_empty() => {
                f.write_str("waits to hear the terms of nodes")?;
                awaited.iter().try_for_each(|node| write!(f, " {node}"))?;
            }
            Some(goal) => write!(f, "gets entries back up to index {goal}")?,
            None if *is_unnamed => {
                f.write_str("waits for a leader that takes its new log in, which the other nodes must agree to")?;
            }
            None => f.write_str("waits for a leader that the other nodes confirm")?,
        }
        write!(f, "; its log was damaged: {}", self.damage)
    }
}
