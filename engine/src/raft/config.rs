//! Settings of one Raft replica. Checked once, when `Raft` is made.

use super::message::NO_LIFE;
use crate::types::NodeId;

/// Settings of one Raft replica; the same on all nodes except for `id`, `life` and `seed`. Who the members are stands in the log.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node. One that is none of `founders` gets its part by an entry of the log.
    pub id: NodeId,
    /// The voters that the group began with; in any order, without repetition. They are the members until an entry of the log says
    /// who is (`membership_history`).
    pub founders: Vec<NodeId>,
    /// Silence after which a follower may campaign and a leader without a quorum steps down. Actual timeouts are drawn from
    /// `election_ticks..2 * election_ticks`. Unit: ticks; must exceed `heartbeat_ticks`.
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats; at least 1.
    pub heartbeat_ticks: u32,
    /// `AppendEntries` sent to a follower and not acknowledged as durable; at least 1.
    pub inflight_messages_limit: usize,
    /// Bytes of entries in them; a single larger entry travels alone. Unit: bytes.
    pub inflight_bytes_limit: u64,
    /// Bytes of entries in one `AppendEntries`; a single larger entry travels alone. Unit: bytes.
    pub append_bytes_limit: u64,
    /// Names this life of the node: no other life of it has the same number. Never 0.
    pub life: u64,
    /// Seed of everything random; mixed with `id`, so that nodes may share it.
    pub seed: u64,
    /// The node that should lead when it can: its first election timeout is short, and others hand over to it.
    pub preferred_leader: Option<NodeId>,
}

impl Config {
    /// Panics on settings that cannot work. They come from code that has checked the user's settings already.
    pub(super) fn assert_valid(&self) {
        assert!(self.life != NO_LIFE, "a life's number must not be 0");
        assert!(self.heartbeat_ticks >= 1, "heartbeat_ticks must be at least 1");
        assert!(self.election_ticks > self.heartbeat_ticks, "election_ticks must exceed heartbeat_ticks");
        assert!(self.inflight_messages_limit >= 1, "inflight_messages_limit must be at least 1");
        assert!(self.inflight_bytes_limit >= 1, "inflight_bytes_limit must be at least 1");
        assert!(self.append_bytes_limit >= 1, "append_bytes_limit must be at least 1");
    }

    /// Upper end of a hurried election timeout (1 to this), after the leader's connection broke. Unit: ticks.
    pub(super) fn hurry_ticks(&self) -> u32 {
        (self.election_ticks / 4).max(3)
    }

    /// Silence about a probe after which it is repeated. Unit: ticks.
    pub(super) fn stall_ticks(&self) -> u64 {
        u64::from(self.heartbeat_ticks) * 3
    }

    /// Silence about entries on their way to a follower after which they count as lost and are sent again. A lane that takes none says
    /// so, and so does a connection that breaks; this is for what gets lost without a word. Unit: ticks.
    pub(super) fn loss_ticks(&self) -> u64 {
        u64::from(self.election_ticks).max(self.stall_ticks())
    }

    /// Time after which a question about reads that has no answer is asked again. Unit: ticks.
    pub(super) fn ask_again_ticks(&self) -> u64 {
        u64::from(self.answer_ticks())
    }

    /// Time within which a follower that can be reached has answered a heartbeat. Unit: ticks.
    pub(crate) fn answer_ticks(&self) -> u32 {
        2 * self.heartbeat_ticks + 1
    }

    /// Time that a successor has to take over if the leader chose it itself. Unit: ticks.
    pub(super) fn try_ticks(&self) -> u32 {
        (self.election_ticks / 2).max(self.answer_ticks())
    }
}
