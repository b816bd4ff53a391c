//! A shipped replica on a simulated disk, with what it asked its shell for and has not got yet.
//!
//! It carries out nothing by itself: whoever drives it decides when a sync ends, when a message leaves, and when it dies.

use std::collections::{BTreeMap, VecDeque};

use api::command;
use net::deframer::Deframer;
use net::frame::FRAME_HEADER_BYTES;
use wal::testing::SimStorage;
use wal::{Log, LogOptions, SegmentIdentity, SegmentSeq, SyncRequest};

use super::heard::{Heard, Question};
use crate::call::{Part, Refusal};
use crate::raft::{self, BirthRecord, Membership, Message};
use crate::replica::{Action, Event, Outgoing, ReadingLimits, RepairOptions, Replica, ReplicaOptions};
use crate::state_machine;
use crate::types::{EntryId, Index, NodeId, ShardId};
use crate::wire::{self, Incoming};

pub(super) const SHARD: ShardId = ShardId::new(0);

/// Nodes of the cluster, all of them voters. Their ids begin at 1.
pub(super) const NODES: usize = 3;

/// Ticks that a request may take.
pub(super) const TIMEOUT_TICKS: u64 = 40;

/// The same time. Unit: ms.
pub(super) const TIMEOUT_MS: u32 = 400;

/// Length of a tick. Unit: ms.
const TICK_MS: u64 = 10;

const _: () = assert!(TIMEOUT_TICKS * TICK_MS == TIMEOUT_MS as u64);

/// Actions that one event may bring. More would be a flood.
const ACTIONS_MAX: usize = 4096;

/// Small, so that moving on to the next segment is part of many inputs. Unit: bytes.
const SEGMENT_BYTES: u64 = 16 << 10;

/// Largest frame that a node takes. Unit: bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a node has while it is down.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) storage: SimStorage,
    /// The log lost entries and has not got them back; says whether the hard state is certain.
    pub(super) repair: Option<bool>,
    pub(super) birth: BirthRecord,
}

/// A message that left.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) to: NodeId,
    pub(super) message: Outgoing,
    pub(super) bytes: Vec<u8>,
}

/// A node that is up.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    life: u64,
    pub(super) replica: Replica<SimStorage>,
    pub(super) sent: Vec<Sent>,
    /// Answers to its own clients.
    pub(super) answers: Vec<(u64, Result<Vec<u8>, Refusal>)>,
    /// What it heard that may let it answer reads.
    pub(super) heard: Vec<Heard>,
    /// Beginnings of answers, by ticket.
    begun_answers: BTreeMap<u64, Vec<u8>>,
    syncs: VecDeque<SyncRequest>,
    prepares: VecDeque<SegmentSeq>,
    loads: VecDeque<(Index, Index)>,
    note_is_syncing: bool,
    repair_is_ending: bool,
    born: Option<BirthRecord>,
    repair: Option<bool>,
    birth: BirthRecord,
}

pub(super) fn node_id(number: usize) -> NodeId {
    NodeId::new(number as u64 + 1)
}

impl Disk {
    /// The disk of a node that was never started.
    pub(super) fn new(id: NodeId, incarnation: u64) -> Self {
        let mut storage = SimStorage::new(identity(id), SEGMENT_BYTES, id.get());
        storage.prepare(SegmentSeq::FIRST);
        Self { storage, repair: None, birth: BirthRecord::of_new_log(incarnation, false) }
    }

    /// Opens the log on it.
    pub(super) fn open(storage: SimStorage, id: NodeId) -> Result<Log<SimStorage>, String> {
        let options = LogOptions {
            identity: identity(id),
            segment_bytes: SEGMENT_BYTES,
            state: EntryId::ZERO,
            state_lineage: wal::Lineage::START,
        };
        let opened = Log::open(storage, options);
        opened.map(|(log, _)| log).map_err(|error| format!("a log that nobody damaged does not open: {error}"))
    }
}

impl Node {
    /// Starts a node. `life` is another one each time.
    pub(super) fn start(id: NodeId, disk: Disk, life: u64) -> Result<Self, String> {
        let Disk { storage, repair, birth } = disk;
        let log = Disk::open(storage, id)?;
        let replica = Replica::new(options(id, repair, &birth, life), log);
        let mut node = Self {
            id,
            life,
            replica,
            sent: Vec::new(),
            answers: Vec::new(),
            heard: Vec::new(),
            begun_answers: BTreeMap::new(),
            syncs: VecDeque::new(),
            prepares: VecDeque::new(),
            loads: VecDeque::new(),
            note_is_syncing: false,
            repair_is_ending: false,
            born: None,
            repair,
            birth,
        };
        node.handle(Event::Turn)?;
        Ok(node)
    }

    /// The process ends; with `power_is_lost` the host does.
    pub(super) fn stop(self, power_is_lost: bool) -> Disk {
        let mut storage = self.replica.into_storage();
        if power_is_lost {
            storage.crash();
        } else {
            storage.crash_process();
        }
        Disk { storage, repair: self.repair, birth: self.birth }
    }

    /// The disk as it would be found if the process ended now.
    pub(super) fn copy_disk(&self) -> Disk {
        let mut storage = self.replica.log().storage().clone();
        storage.crash_process();
        Disk { storage, repair: self.repair, birth: self.birth.clone() }
    }

    pub(super) fn birth(&self) -> &BirthRecord {
        &self.birth
    }

    /// Gives the replica an event and takes what it asks for.
    pub(super) fn handle(&mut self, event: Event<'_>) -> Result<(), String> {
        self.replica.handle(event);
        let mut count = 0;
        while let Some(action) = self.replica.poll_action() {
            count += 1;
            if count > ACTIONS_MAX {
                return Err(format!("one event brings more than {ACTIONS_MAX} actions"));
            }
            self.take(action)?;
        }
        Ok(())
    }

    fn take(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Send { to, message } => {
                let mut bytes = Vec::new();
                let encoded = self.replica.encode(&message, SHARD, &mut bytes);
                encoded.map_err(|error| format!("a message has no bytes: {error}"))?;
                self.sent.push(Sent { to, message, bytes });
            }
            Action::Reply { ticket, reply } => {
                let part = reply.part.as_ref().map(|range| self.replica.body(range)).into_owned();
                // Several parts are one answer.
                match part {
                    Part::More(bytes) => self.begun_answers.entry(ticket.0).or_default().extend(bytes),
                    Part::Last(result) => {
                        let begun = self.begun_answers.remove(&ticket.0).unwrap_or_default();
                        self.answers.push((ticket.0, result.map(|bytes| [begun, bytes].concat())));
                    }
                }
            }
            Action::OwnReply { number, .. } => return Err(format!("nobody here asked for {number}")),
            Action::Sync(request) => {
                self.replica.storage_mut().begin_sync(&request);
                self.syncs.push_back(request);
            }
            Action::SyncNote => {
                self.replica.storage_mut().begin_note_sync();
                self.note_is_syncing = true;
            }
            Action::PrepareSegment(seq) => self.prepares.push_back(seq),
            Action::Load { first, last } => self.loads.push_back((first, last)),
            Action::FinishRepair => self.repair_is_ending = true,
            Action::PersistBirth(record) => self.born = Some(record),
            Action::RemoveDropped => return Err("nobody here keeps a state beside the log".to_owned()),
            Action::Link(_) | Action::Tell(_) => {}
        }
        Ok(())
    }

    /// Frames arrive. Says whether the connection goes on: bytes that do not follow the format end it.
    pub(super) fn hear(&mut self, from: NodeId, bytes: &[u8]) -> Result<bool, String> {
        let mut deframer = Deframer::new(FRAME_BYTES_MAX);
        deframer.feed(bytes);
        let mut left_bytes = bytes.len();
        loop {
            let Ok(frame) = deframer.next_frame() else { return Ok(false) };
            let Some(frame) = frame else { return Ok(left_bytes == 0) };
            left_bytes -= FRAME_HEADER_BYTES + frame.meta.len() + frame.rest.len();
            let Ok(incoming) = wire::decode(&frame) else { return Ok(false) };
            self.heard.extend(self.what_confirms(from, &incoming));
            self.handle(incoming.into_event(from))?;
        }
    }

    /// Who the members are, by the node's own log. An entry may have added one that nobody ever started.
    fn members(&self) -> Membership {
        let founders = || Membership::new((0..NODES).map(node_id).collect());
        Membership::decode(self.replica.log().members()).unwrap_or_else(|_| founders())
    }

    /// Whether this is another member.
    pub(super) fn has_peer(&self, id: NodeId) -> bool {
        id != self.id && ((0..NODES).map(node_id).any(|founder| founder == id) || self.members().is_member(id))
    }

    fn what_confirms(&self, from: NodeId, incoming: &Incoming<'_>) -> Option<Heard> {
        match incoming {
            _ if !self.has_peer(from) => None,
            Incoming::Message(speaker, Message::HeartbeatResponse { term, life, round, .. }) if !speaker.is_joining => {
                let counts = *life == self.life && self.members().may_count(from, speaker.incarnation);
                counts.then_some(Heard::Round(*term, *round))
            }
            Incoming::Message(_, Message::ReadIndexResponse { term, life, batch, index }) => {
                let question = Question { to: from, term: *term, life: *life, batch: *batch };
                Some(Heard::ReadIndex(question, *index))
            }
            Incoming::RelayReply { part: Part::Last(Ok(_)), .. } => Some(Heard::AnswerOfLeader),
            _ => None,
        }
    }

    /// The oldest sync ends.
    pub(super) fn end_sync(&mut self, succeeds: bool) -> Result<(), String> {
        let Some(request) = self.syncs.pop_front() else { return Ok(()) };
        let storage = self.replica.storage_mut();
        let result = if succeeds {
            storage.complete_sync(request.id);
            Ok(())
        } else {
            Err(storage.fail_sync(request.id))
        };
        self.handle(Event::Synced { id: request.id, result })
    }

    /// Some of what was stored reaches the device by itself.
    pub(super) fn write_back(&mut self) {
        self.replica.storage_mut().write_back();
    }

    pub(super) fn end_note_sync(&mut self, succeeds: bool) -> Result<(), String> {
        if !std::mem::take(&mut self.note_is_syncing) {
            return Ok(());
        }
        let storage = self.replica.storage_mut();
        let result = if succeeds {
            storage.complete_note_sync();
            Ok(())
        } else {
            Err(storage.fail_note_sync())
        };
        self.handle(Event::NoteSynced(result))
    }

    /// The segment that was asked for is there, or has no room.
    pub(super) fn end_prepare(&mut self, succeeds: bool) -> Result<(), String> {
        if !succeeds {
            let is_awaited = !self.prepares.is_empty();
            return if is_awaited { self.handle(Event::SegmentUnavailable("simulated".to_owned())) } else { Ok(()) };
        }
        let Some(seq) = self.prepares.pop_front() else { return Ok(()) };
        self.handle(Event::SegmentPrepared(seq))
    }

    /// Everything else that was asked for is done.
    pub(super) fn end_rest(&mut self) -> Result<(), String> {
        while let Some((first, last)) = self.loads.pop_front() {
            self.handle(Event::Loaded { first, last, result: Ok(()) })?;
        }
        if let Some(record) = self.born.take() {
            if record.stage == raft::Stage::Replaced {
                self.repair = Some(false);
            }
            self.birth = record;
            self.handle(Event::BirthPersisted)?;
        }
        if std::mem::take(&mut self.repair_is_ending) {
            self.repair = None;
            if self.birth.stage == raft::Stage::Replaced {
                self.birth.stage = raft::Stage::Restored;
            }
            self.handle(Event::RepairFinished)?;
        }
        Ok(())
    }

    /// The first half of what was asked to be written down about the birth or the repair: a node that is a replacement marks its log
    /// before it says so in its record, and the end of its repair stands in the record before the mark goes. Says whether there
    /// was anything to write; the second half never comes.
    pub(super) fn write_half(&mut self) -> bool {
        let born = self.born.take();
        if born.as_ref().is_some_and(|record| record.stage == raft::Stage::Replaced) {
            self.repair = Some(false);
        }
        let is_repaired = std::mem::take(&mut self.repair_is_ending);
        if is_repaired && self.birth.stage == raft::Stage::Replaced {
            self.birth.stage = raft::Stage::Restored;
        }
        born.is_some() || is_repaired
    }

    /// Everything that was asked for is done, and so is all that follows from it.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        const ROUNDS_MAX: usize = 1000;
        for _ in 0..ROUNDS_MAX {
            self.handle(Event::Turn)?;
            let is_busy = !self.syncs.is_empty() || !self.prepares.is_empty() || self.note_is_syncing;
            self.end_sync(true)?;
            self.end_note_sync(true)?;
            self.end_prepare(true)?;
            self.end_rest()?;
            if !is_busy && !self.replica.wants_turn() {
                return Ok(());
            }
        }
        Err("a replica that gets everything goes on asking".to_owned())
    }
}

fn identity(id: NodeId) -> SegmentIdentity {
    SegmentIdentity { cluster_id: 1, node_id: id.get(), shard: 0, shard_count: 1 }
}

/// What a command may hold.
const COMMAND_LIMITS: command::Limits = command::Limits { request_bytes: 1 << 20, txn_ops: 128, shard_count: 1 };

fn options(id: NodeId, repair: Option<bool>, birth: &BirthRecord, life: u64) -> ReplicaOptions {
    let repair = repair.map(|hard_state_is_certain| RepairOptions {
        nonce: life,
        hard_state_is_certain,
        damage: "simulated".to_owned(),
    });
    ReplicaOptions {
        raft: raft::Config {
            id,
            founders: (0..NODES).map(node_id).collect(),
            election_ticks: 10,
            heartbeat_ticks: 2,
            inflight_messages_limit: 4,
            inflight_bytes_limit: 4 << 10,
            append_bytes_limit: 1 << 10,
            life,
            seed: life,
            preferred_leader: None,
        },
        machine: state_machine::Options::default(),
        answer_bytes_limit: 8 << 20,
        pipeline_batches_limit: 2,
        batch_bytes_target: 2 << 10,
        pending_writes_limit: 64,
        pending_reads_limit: 64,
        relayed_limit: 64,
        quota_bytes: u64::MAX,
        uncommitted_bytes_limit: 8 << 10,
        queued_write_bytes_limit: 16 << 10,
        command: COMMAND_LIMITS,
        apply_bytes_per_turn: 1 << 10,
        apply_keys_per_turn: 3,
        reading: ReadingLimits { keys_per_turn: 4, keys_per_slice: 2, kept_bytes_limit: 1 << 10 },
        slow_disk_ticks: 20,
        note_idle_ticks: 5,
        note_busy_ticks: 12,
        part_bytes_max: 64,
        relay_id_floor: life << 32,
        tick_ms: TICK_MS,
        repair,
        birth: birth.clone(),
    }
}
