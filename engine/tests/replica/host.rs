//! A shipped replica on a simulated disk, and what it asks for.
//!
//! What its disk is to do waits until the test lets it happen; what leaves the node is handed out, messages as the bytes that a
//! server would send. Who hears whom, and when, is up to the test.

use engine::call::{Call, CallKind, Origin, Part, Ticket};
use engine::replica::{Action, Event, ReadingLimits, Remark, Replica, ReplicaOptions};
use engine::state_machine::StateMachine;
use engine::state_machine::batch::Sender;
use engine::types::{EntryId, Index, NodeId, ShardId};
use engine::wire::{self, Incoming};
use engine::{raft, state_machine};
use net::deframer::Deframer;
use wal::testing::SimStorage;
use wal::{Lineage, Log, LogOptions, SegmentIdentity, SegmentSeq, SyncRequest};

pub const SHARD: ShardId = ShardId::new(0);
pub const NODES_COUNT: usize = 3;
pub const TIMEOUT_TICKS: u64 = 40;
const TICK_MS: u64 = 10;
const TIMEOUT_MS: u32 = (TIMEOUT_TICKS * TICK_MS) as u32;
const MESSAGE_BYTES_MAX: usize = 1 << 30;

pub struct Host {
    pub replica: Replica<SimStorage>,
    /// Syncs that were begun.
    pub syncs: Vec<SyncRequest>,
    /// Segments that were asked for.
    pub prepares: Vec<SegmentSeq>,
    /// Entries that are to be read in, first and last.
    pub loads: Vec<(Index, Index)>,
    pub remarks: Vec<Remark>,
}

/// What leaves a replica.
pub enum Effect {
    /// A message to a node.
    Sent { to: NodeId, bytes: Vec<u8> },
    /// A part of the answer to a call, by the caller's number.
    Answered { number: u64, part: Part<Vec<u8>> },
}

/// The node's id; nodes are counted from 0, ids from 1.
pub fn node_id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

/// The node with this id.
pub fn node_of(id: NodeId) -> usize {
    usize::try_from(id.get() - 1).expect("small")
}

fn identity(node: usize) -> SegmentIdentity {
    SegmentIdentity { cluster_id: 1, node_id: node_id(node).get(), shard: 0, shard_count: 1 }
}

/// An empty disk with its first segment, as a server prepares it before a node first runs.
pub fn new_disk(node: usize, segment_bytes: u64, seed: u64) -> SimStorage {
    let mut disk = SimStorage::new(identity(node), segment_bytes, seed);
    disk.prepare(SegmentSeq::FIRST);
    disk
}

/// The log on a node's disk.
pub fn open(node: usize, disk: SimStorage) -> Log<SimStorage> {
    open_at(node, disk, EntryId::ZERO, Lineage::START)
}

/// The log on the disk of a node whose state is at this entry.
pub fn open_at(node: usize, disk: SimStorage, state: EntryId, state_lineage: Lineage) -> Log<SimStorage> {
    let segment_bytes = disk.segment_bytes();
    let options = LogOptions { identity: identity(node), segment_bytes, state, state_lineage };
    Log::open(disk, options).expect("a crash leaves a log that opens").0
}

/// Options of one of three nodes, with room for everything.
pub fn options(node: usize, seed: u64) -> ReplicaOptions {
    ReplicaOptions {
        raft: raft::Config {
            id: node_id(node),
            founders: (0..NODES_COUNT).map(node_id).collect(),
            election_ticks: 10,
            heartbeat_ticks: 2,
            inflight_messages_limit: 4,
            life: 1,
            inflight_bytes_limit: 1 << 20,
            append_bytes_limit: 1 << 20,
            seed: seed ^ (node as u64) << 40,
            preferred_leader: None,
        },
        machine: state_machine::Options::default(),
        answer_bytes_limit: 8 << 20,
        pipeline_batches_limit: 2,
        batch_bytes_target: 1 << 20,
        pending_writes_limit: 4096,
        pending_reads_limit: 4096,
        relayed_limit: 4096,
        quota_bytes: u64::MAX,
        uncommitted_bytes_limit: 1 << 20,
        queued_write_bytes_limit: 1 << 20,
        command: api::command::Limits { request_bytes: 1 << 20, txn_ops: 128, shard_count: 1 },
        apply_bytes_per_turn: 1 << 20,
        apply_keys_per_turn: 4096,
        reading: ReadingLimits::default(),
        slow_disk_ticks: 0,
        note_idle_ticks: 5,
        note_busy_ticks: 12,
        relay_id_floor: 0,
        part_bytes_max: 1 << 20,
        tick_ms: TICK_MS,
        repair: None,
        birth: raft::BirthRecord::default(),
    }
}

/// Gives every message in these bytes away.
pub fn for_each_message(bytes: &[u8], mut take: impl FnMut(Incoming<'_>)) {
    let mut deframer = Deframer::new(MESSAGE_BYTES_MAX);
    deframer.feed(bytes);
    while let Some(frame) = deframer.next_frame().expect("frames are sound") {
        take(wire::decode(&frame).expect("messages decode"));
    }
}

/// Somebody calls.
pub fn call(origin: Origin, kind: CallKind, payload: &[u8]) -> Event<'_> {
    Event::Call { origin, call: Call::borrowed(SHARD, kind, TIMEOUT_MS, payload) }
}

/// The same as the command of a sender.
pub fn call_of(origin: Origin, kind: CallKind, payload: &[u8], sender: Option<Sender>) -> Event<'_> {
    Event::Call { origin, call: Call::borrowed(SHARD, kind, TIMEOUT_MS, payload).sent_by(sender) }
}

impl Host {
    pub fn new(options: ReplicaOptions, log: Log<SimStorage>) -> Self {
        Self::of(Replica::new(options, log))
    }

    /// One that has a state beside its log.
    pub fn with_state(options: ReplicaOptions, log: Log<SimStorage>, machine: StateMachine) -> Self {
        Self::of(Replica::with_state(options, log, machine))
    }

    pub fn of(replica: Replica<SimStorage>) -> Self {
        Self { replica, syncs: vec![], prepares: vec![], loads: vec![], remarks: vec![] }
    }

    /// Gives the replica an event, and does what it asks for.
    #[must_use]
    pub fn handle(&mut self, event: Event<'_>) -> Vec<Effect> {
        let replica = &mut self.replica;
        replica.handle(event);
        let mut effects = Vec::new();
        while let Some(action) = replica.poll_action() {
            match action {
                Action::Send { to, message } => {
                    let mut bytes = Vec::new();
                    replica.encode(&message, SHARD, &mut bytes).expect("the log gives its entries up");
                    effects.push(Effect::Sent { to, bytes });
                }
                Action::Reply { ticket: Ticket(number), reply } | Action::OwnReply { number, reply } => {
                    let part = reply.part.as_ref().map(|range| replica.body(range)).into_owned();
                    effects.push(Effect::Answered { number, part });
                }
                Action::Sync(request) => {
                    replica.storage_mut().begin_sync(&request);
                    self.syncs.push(request);
                }
                Action::PrepareSegment(seq) => self.prepares.push(seq),
                Action::Link(_) => {}
                Action::Tell(remark) => self.remarks.push(remark),
                // Nothing waits for it.
                Action::SyncNote => {}
                Action::RemoveDropped => replica.storage_mut().complete_removal(),
                Action::FinishRepair => panic!("nothing was damaged"),
                Action::Load { first, last } => self.loads.push((first, last)),
                Action::PersistBirth(_) => panic!("no node is new"),
            }
        }
        effects
    }

    /// The oldest sync completes; the event that tells the replica.
    #[must_use]
    pub fn complete_sync(&mut self) -> Option<Event<'static>> {
        let request = (!self.syncs.is_empty()).then(|| self.syncs.remove(0))?;
        self.replica.storage_mut().complete_sync(request.id);
        Some(Event::Synced { id: request.id, result: Ok(()) })
    }

    /// The segment that was asked for last is prepared; the event that tells the replica.
    #[must_use]
    pub fn complete_prepare(&mut self) -> Option<Event<'static>> {
        self.prepares.pop().map(Event::SegmentPrepared)
    }
}
