//! What a replica is started with: limits, identity, and whether its log is under repair. Plain data.
//!
//! All of it is set at the start. Only `birth` and `repair` change later, when a new node has learned where its log comes from
//! (`birth.rs`).

use crate::limits::{READ_KEPT_BYTES_LIMIT, READ_KEYS_PER_SLICE, READ_KEYS_PER_TURN};
use crate::{raft, state_machine};
use net::limits::ANSWER_BYTES_MAX;

/// Limits and identity of a replica.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Raft's own settings.
    pub raft: raft::Config,
    /// Settings of the state machine.
    pub machine: state_machine::Options,
    /// Limit of answers to the writes that this node proposes while it leads: an answer with more bytes is not given, only that it is too
    /// large. It leaves in one go, and everything else waits meanwhile. More than any single range takes. Unit: bytes.
    pub answer_bytes_limit: u32,
    /// With this many uncommitted entries of its own, a leader keeps a batch open for more writes. At least 1.
    pub pipeline_batches_limit: usize,
    /// Size from which on a batch is closed whatever the pipeline holds. Unit: bytes.
    pub batch_bytes_target: usize,
    /// Writes without an answer, beyond which new ones are refused as `overloaded`.
    pub pending_writes_limit: usize,
    /// Reads without an answer, beyond which new ones are refused as `overloaded`.
    pub pending_reads_limit: usize,
    /// Requests relayed to the leader without an answer, beyond which new ones are refused as `overloaded`.
    pub relayed_limit: usize,
    /// Size of the state, as the state machine estimates it, from which on writes are refused as `no space`. Unit: bytes.
    pub quota_bytes: u64,
    /// Bytes of a leader's own uncommitted entries, from which on writes wait. Unit: bytes.
    pub uncommitted_bytes_limit: u64,
    /// Bytes of writes that wait for room in the log, beyond which new ones are refused as `overloaded`. Unit: bytes.
    pub queued_write_bytes_limit: u64,
    /// Length of a tick. Unit: ms.
    pub tick_ms: u64,
    /// What a command may hold. Clients' are checked where they come in; what another node passes on is checked here.
    pub command: api::command::Limits,
    /// Bytes of entries applied in one turn before other work gets its chance, in the middle of an entry if need be.
    pub apply_bytes_per_turn: u64,
    /// Keys visited by applying in one turn before other work gets its chance. One command may visit more by itself.
    pub apply_keys_per_turn: u64,
    /// How reads over many keys are cut into slices.
    pub reading: ReadingLimits,
    /// A sync that takes longer shows a sick disk: this node leads no more if others can. 0 = however long. Unit: ticks.
    pub slow_disk_ticks: u64,
    /// Ticks after the last change of the note beside the log until it is synced.
    pub note_idle_ticks: u64,
    /// Ticks between two syncs of a note that goes on changing.
    pub note_busy_ticks: u64,
    /// Numbers for relayed requests start after this; distinct for each life of the node.
    pub relay_id_floor: u64,
    /// Largest part of an answer that goes to another node in one frame. At least 1. Unit: bytes.
    pub part_bytes_max: usize,
    /// The log lost durable entries, and this node has not got them back yet.
    pub repair: Option<RepairOptions>,
    /// Where the log comes from.
    pub birth: raft::BirthRecord,
}

impl ReplicaOptions {
    /// Panics if a replica with these could never do anything.
    pub(super) fn assert_valid(&self) {
        assert!(self.tick_ms >= 1, "a tick takes time");
        assert!(self.pipeline_batches_limit >= 1, "some batch must be on its way");
        assert!(self.batch_bytes_target >= 1, "a batch holds something");
        assert!(self.pending_writes_limit >= 1 && self.pending_reads_limit >= 1, "somebody must be served");
        assert!(self.uncommitted_bytes_limit >= 1, "a leader must be able to append");
        assert!(self.apply_bytes_per_turn >= 1 && self.apply_keys_per_turn >= 1, "a turn must apply something");
        assert!(self.reading.keys_per_turn >= 1 && self.reading.keys_per_slice >= 1, "a turn must read something");
        assert!(self.answer_bytes_limit as usize <= ANSWER_BYTES_MAX, "clients and other nodes take every answer");
        assert!(self.relay_id_floor <= u64::MAX / 2, "numbers for relayed requests must last for a life");
    }
}

/// How reads over many keys are cut into slices. What a read is answered does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingLimits {
    /// Keys visited in one turn by all reads together. At least 1.
    pub keys_per_turn: u64,
    /// Keys visited by one read before it is another's turn. At least 1.
    pub keys_per_slice: u64,
    /// Bytes of answers that are not whole yet, beyond which a read that grows gives up what it has and waits to begin anew.
    pub kept_bytes_limit: usize,
}

impl Default for ReadingLimits {
    fn default() -> Self {
        Self {
            keys_per_turn: READ_KEYS_PER_TURN,
            keys_per_slice: READ_KEYS_PER_SLICE,
            kept_bytes_limit: READ_KEPT_BYTES_LIMIT,
        }
    }
}

/// How a replica starts under repair. See `raft::Raft::begin_repair`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairOptions {
    /// Distinct for each life of the node.
    pub nonce: u64,
    /// The recovered term and vote are the latest that this node ever had.
    pub hard_state_is_certain: bool,
    /// What was found damaged, for people.
    pub damage: String,
}
