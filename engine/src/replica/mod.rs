//! One replica of one shard: Raft, the log and the state machine as one plain value.
//!
//! `handle(Event)` takes what happened, `poll_action()` yields what is to be done. After a run of events that arrived
//! together the driver delivers `Event::Turn`: then the batch is closed, committed entries are applied and the next sync is
//! asked for (group commit without timers). Actions must be drained before the next event, since replies and entries are
//! handed out as places in buffers that events change; that is asserted.
//!
//! Its parts are values whose states exclude each other: whether it takes part (`standing`), what a leader appends next
//! (`proposals`), what waits for durability (`durability`), for the device (`device`), for an answer (`pending`, `reads`, `turns`).
//! How they relate is asserted after every event (`invariants`).
//!
//! It does no I/O, knows no clock and no randomness but its seed: the server drives it with real devices, a simulator with
//! simulated ones. What it promises: a write is answered after its entry was made durable by a quorum and applied here; a
//! read that is not serializable is answered from state at least as new as every write answered before the read arrived.

mod apply;
mod asking;
mod birth;
mod clock;
mod device;
mod durability;
pub(crate) mod event;
mod handover;
mod invariants;
mod kept;
mod lost;
mod membership;
mod noted;
mod options;
mod outbox;
mod own;
mod pending;
mod proposals;
mod queue;
mod read_in;
mod reading;
mod reads;
mod requests;
mod room;
mod standing;
mod turns;
mod view;

use std::collections::BTreeSet;
use std::ops::Range;

use asking::LagWatch;
pub use birth::DIRECTORY_GONE;
use device::DeviceWork;
use durability::Promises;
pub use event::{Action, Event, Lane, NotTaken, Outgoing, Remark, Reply};
use handover::HandOver;
use lost::LeaderWatch;
use noted::ShowsFrom;
pub use options::{ReadingLimits, RepairOptions, ReplicaOptions};
use outbox::Outbox;
use own::OwnParts;
pub use own::Proposer;
use pending::Waiting;
use proposals::Proposals;
use read_in::ReadIn;
use standing::Standing;
pub(crate) use view::Leadership;
pub use view::{Fault, RepairProgress, ReplicaStats, ReplicaView, Shortage};

use net::api::Status;
use wal::{AppendError, Log, Noted, Simulated, Storage};

use crate::entries_error::EntriesError;
use crate::limits::EXPIRE_EVERY_TICKS;
use crate::raft::{self, AppendDecision, AppendEntries, Message, Raft, Role, Tip};
use crate::state_machine::{Reading, StateMachine};
use crate::types::{Index, NodeId};
use crate::wire::{self, EncodeError};

/// One replica of one shard. See the module's documentation for the calling order.
#[derive(Debug)]
pub struct Replica<S: Storage> {
    options: ReplicaOptions,
    raft: Raft,
    log: Log<S>,
    machine: StateMachine,
    read_in: ReadIn,
    /// The state that is being kept beside the log.
    being_kept: Option<Reading>,
    now_tick: u64,
    out: Outbox,
    proposals: Proposals,
    waiting: Waiting,
    /// Peers to which all lanes are up; requests are relayed to no other.
    connected: BTreeSet<NodeId>,
    /// `Action::Link` is due: the driver was not told yet to whom it should connect.
    links_are_due: bool,
    promises: Promises,
    device: DeviceWork,
    hand_over: HandOver,
    own: OwnParts,
    leader_watch: LeaderWatch,
    lag_watch: LagWatch,
    /// Whether reads of this node's own state are answered yet.
    shows_from: ShowsFrom,
    standing: Standing,
    stats: ReplicaStats,
}

impl<S: Storage> Replica<S> {
    /// Puts a replica together from its recovered log, which holds all that there is of its state. It starts as a follower that
    /// has applied nothing, and applies what an earlier life noted as committed in its first turns.
    #[must_use]
    pub fn new(options: ReplicaOptions, log: Log<S>) -> Self {
        let machine = StateMachine::new(options.machine);
        Self::with_state(options, log, machine)
    }

    /// The same, with a state that is kept beside the log. Panics unless the log holds or follows the entry that the state is at.
    #[must_use]
    pub fn with_state(mut options: ReplicaOptions, log: Log<S>, machine: StateMachine) -> Self {
        options.assert_valid();
        let (base, last, state) = (log.base(), log.last_id(), machine.as_of().applied);
        assert!(state.index >= base.index, "the state is at {state}, and the log begins behind {base}");
        assert!(state.index <= last.index, "the state is at {state}, and the log ends at {last}");
        assert!(
            log.term(state.index) == Some(state.term),
            "the state is at {state}, and the log has another entry there"
        );
        let recovered = log.hard_state();
        let hard_state =
            raft::HardState { term: recovered.term, vote: (recovered.vote != 0).then(|| NodeId::new(recovered.vote)) };
        let mut raft = Raft::new(options.raft.clone(), hard_state, &log);
        let Noted { committed, committed_lineage, .. } = log.noted();
        raft.recall_committed(Tip { id: committed, lineage: committed_lineage }, &log);
        // Whatever a state contains was committed.
        let state_lineage = log.lineage(state.index).expect("the log holds or follows it");
        raft.recall_committed(Tip { id: state, lineage: state_lineage }, &log);
        let fault = membership::recall(&mut raft, &log).err();
        raft.begin_birth(options.birth.clone());
        birth::begin_repair(&mut options, &mut raft);
        let shows_from = ShowsFrom::recall(committed, base, last, options.repair.is_some());
        let waiting = Waiting::starting_at(options.relay_id_floor);
        Self {
            options,
            raft,
            log,
            machine,
            read_in: ReadIn::default(),
            being_kept: None,
            now_tick: 0,
            out: Outbox::default(),
            proposals: Proposals::default(),
            waiting,
            connected: BTreeSet::new(),
            links_are_due: true,
            promises: Promises::default(),
            device: DeviceWork::default(),
            hand_over: HandOver::default(),
            own: OwnParts::default(),
            leader_watch: LeaderWatch::default(),
            lag_watch: LagWatch::default(),
            shows_from,
            standing: fault.map_or_else(Standing::default, Standing::stopped),
            stats: ReplicaStats::default(),
        }
    }

    /// Takes one event. After a fault requests are refused, leaders are noted, and nothing else happens.
    ///
    /// Panics if what the event before asked for was not taken by `poll_action`: this event could change what it points at.
    pub fn handle(&mut self, event: Event<'_, S::Prepared>) {
        self.out.begin_event();
        match event {
            // First, since a hard state may wait for the room.
            Event::SegmentPrepared(prepared) => {
                self.log.storage_mut().install(prepared);
                self.on_segment_prepared();
            }
            event => self.on_event(event),
        }
        self.tell_links();
        self.tell_own();
        self.assert_invariants();
    }

    fn on_event(&mut self, event: Event<'_, S::Prepared>) {
        // It may be what stops this replica.
        self.write_hard_state();
        match self.standing {
            Standing::Stopped { .. } | Standing::Ended => return self.on_event_too_late(&event),
            Standing::WithoutRoom(_) if is_for_raft(&event) => {
                if let Event::Append { from, .. } = event {
                    self.raft.on_entries_missed(from);
                }
                return;
            }
            Standing::WithoutRoom(_) | Standing::TakesPart => {}
        }
        match event {
            Event::Tick => self.on_tick(),
            Event::Turn => self.on_turn(),
            Event::Call { origin, call } => self.on_call(origin, call),
            Event::Message { from, speaker, message } => {
                self.note_own_health();
                self.raft.step(from, speaker, message, &self.log);
                self.after_raft();
            }
            Event::Append { from, speaker, append, entries } => {
                self.raft.tell_outdated(from, speaker);
                self.on_append(from, &append, entries);
            }
            Event::Left(tickets) => self.on_left(tickets),
            Event::RelayReply { from, number, part } => self.on_relay_reply(from, number, part),
            Event::RelayDropped { number, why } => self.on_relay_dropped(number, why),
            Event::ReplyDropped { to, number, why } => self.on_reply_dropped(to, number, why),
            Event::AppendDropped { to, prev_index, why } => {
                self.raft.on_append_unsent(to, prev_index, why == NotTaken::NoCredit);
            }
            Event::LaneHasRoom { to, lane } => self.on_lane_has_room(to, lane),
            Event::EntriesWait { to } => self.raft.on_entries_wait(to),
            Event::LaneReplaced { from, lane } => self.on_lane_replaced(from, lane),
            Event::PeerConnected(node) => {
                self.connected.insert(node);
                self.raft.on_peer_connected(node);
                self.after_raft();
            }
            Event::PeerDisconnected(node) => self.on_peer_disconnected(node),
            Event::Synced { id, result } => self.on_synced(id, result),
            Event::NoteSynced(result) => self.on_note_synced(&result),
            Event::SegmentPrepared(_) => unreachable!("it was taken before"),
            Event::SegmentUnavailable(reason) => self.device.segment.on_unavailable(reason),
            Event::KeepState => self.on_keep_state(),
            Event::StateKept => self.on_state_kept(),
            Event::RepairFinished => {
                self.raft.end_repair();
                self.show_from_repaired();
            }
            Event::LogNotInPlace(reason) => self.stop_with(Fault::NotInPlace(reason)),
            Event::Loaded { first, last, result } => self.on_loaded(first, last, result),
            Event::BirthPersisted => self.on_birth_persisted(),
            Event::Transfer { to } => self.on_transfer(to),
            Event::AddLearner { node, incarnation } => self.on_add_learner(node, incarnation),
            Event::HandOver => self.on_hand_over(),
            Event::Close => self.hand_over.close(),
            Event::Settle => self.sync_note(),
            Event::Stop => self.end(),
        }
    }

    /// The next thing to do, in order; `None` when nothing is left.
    #[must_use = "a replica waits for what it asked for, and others wait for what it says"]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop()
    }

    /// Bytes of a reply that an action named; valid until the next event.
    #[must_use]
    pub fn body(&self, range: &Range<usize>) -> &[u8] {
        self.out.body(range)
    }

    /// Appends the frame of a message that an action named to `out`; entries are read from the log.
    pub fn encode(
        &self,
        message: &Outgoing,
        shard: crate::types::ShardId,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match message {
            Outgoing::Raft(Message::AppendEntries(append)) => {
                wire::encode_append(append, self.raft.speaker(), &self.log, shard, out)
            }
            Outgoing::Raft(message) => {
                wire::encode_message(message, self.raft.speaker(), shard, out);
                Ok(())
            }
            Outgoing::RelayCall { number, call } => {
                wire::encode_relay_call(*number, call, out);
                Ok(())
            }
            Outgoing::RelayReply { number, reply } => {
                let part = reply.part.as_ref().map(|range| self.body(range));
                wire::encode_relay_reply(*number, part, self.options.part_bytes_max, out);
                Ok(())
            }
        }
    }

    /// True if more work is waiting than one turn takes: deliver another `Event::Turn` soon.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        let applied = self.machine.applied_index();
        let can_apply = applied < self.may_apply() && !self.read_in.is_waiting();
        let has_work = can_apply || self.waiting.reads.has_ready(applied) || self.proposals.queue.is_ready();
        self.standing.is_running() && has_work
    }

    /// What stopped this replica, if anything did.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.standing.fault()
    }

    /// What this replica shows of itself.
    #[must_use]
    pub fn view(&self) -> ReplicaView {
        let is_running = self.standing.is_running();
        let Leadership { term, leader, is_leader } = self.leadership();
        ReplicaView {
            is_leader,
            role: if is_running { self.raft.role() } else { Role::Follower },
            leader,
            term,
            last_index: self.log.last_id().index,
            persisted_index: self.log.persisted_index(),
            commit_index: self.raft.commit_index(),
            told_commit_index: self.raft.told_commit_index(),
            applied_index: self.machine.applied_index(),
            revision: self.machine.revision(),
            state_bytes: self.machine.state_bytes(),
            shortage: self.shortage(),
            disk_waits_ms: self.device.watch.waits_ticks(self.now_tick).saturating_mul(self.options.tick_ms),
            pending_writes_count: self.waiting.writes.len() + self.proposals.len(),
            pending_reads_count: self.waiting.reads.len(),
            relayed_count: self.waiting.relays.len(),
            repair: self.raft.repair_view().map(|raft| {
                let damage = self.options.repair.as_ref().map_or_else(String::new, |repair| repair.damage.clone());
                RepairProgress { damage, raft }
            }),
            transfer: self.raft.transfer().filter(|_| is_running),
            birth: self.raft.birth_view(),
            lost: self.raft.lost_view(),
            leader_silent_ms: self.raft.leader_silent_ticks().saturating_mul(self.options.tick_ms),
            silent: self.raft.silent_followers().collect(),
            needs_state: self.raft.needs_state().collect(),
            is_learner: !self.raft.membership().is_voter(self.options.raft.id),
        }
    }

    /// What this node lacks for more writes, whoever leads.
    fn shortage(&self) -> Option<Shortage> {
        if let Some(reason) = self.device.segment.shortage() {
            return Some(Shortage::Segment { reason: reason.to_owned() });
        }
        let (state_bytes, quota_bytes) = (self.machine.state_bytes(), self.options.quota_bytes);
        (state_bytes >= quota_bytes).then_some(Shortage::Quota { state_bytes, quota_bytes })
    }

    /// Last entry in the log, and last one known durable on a quorum.
    #[must_use]
    pub fn last_and_commit_index(&self) -> (Index, Index) {
        (self.log.last_id().index, self.raft.commit_index())
    }

    /// Counters since this replica was opened.
    #[must_use]
    pub fn stats(&self) -> &ReplicaStats {
        &self.stats
    }

    /// What this node knows of a follower, while it leads.
    #[must_use]
    pub fn progress_of(&self, node: NodeId) -> Option<&raft::Progress> {
        self.raft.progress().find_map(|(follower, progress)| (follower == node).then_some(progress))
    }

    /// Who the members are, according to the log.
    #[must_use]
    pub(crate) fn membership(&self) -> &raft::Membership {
        self.raft.membership()
    }

    /// All members but this node.
    #[must_use]
    pub(crate) fn other_members(&self) -> BTreeSet<NodeId> {
        self.membership().all_members().into_iter().filter(|node| *node != self.options.raft.id).collect()
    }

    /// The log, for reading.
    #[must_use]
    pub fn log(&self) -> &Log<S> {
        &self.log
    }

    /// Gives the storage back; the replica is gone, as after a crash.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.log.into_storage()
    }

    /// The log's storage, for whoever simulates its device.
    pub fn storage_mut(&mut self) -> &mut S
    where
        S: Simulated,
    {
        self.log.storage_mut()
    }

    /// The state machine, for reading.
    #[must_use]
    pub fn machine(&self) -> &StateMachine {
        &self.machine
    }

    fn on_tick(&mut self) {
        self.now_tick += 1;
        if self.standing.takes_part() {
            self.note_own_health();
            self.raft.tick(&self.log);
            self.after_raft();
            self.propose_own();
        }
        if self.now_tick.is_multiple_of(EXPIRE_EVERY_TICKS) {
            self.expire_requests();
            self.answer_lost_requests();
            self.pass_on_late_reads();
        }
        self.tick_note();
    }

    /// Ends a turn: closes the batch, applies, releases what became durable, asks for a segment and for a sync.
    fn on_turn(&mut self) {
        self.append_noop();
        self.append_membership();
        self.serve_queue();
        self.proceed_with_hand_over();
        self.close_batch_if_due();
        self.note_committed();
        self.apply_committed();
        self.proposals.clock.see(self.machine.time(), self.now_tick, self.options.tick_ms);
        self.ask_about_reads();
        self.serve_reads();
        self.end_dropped_readings();
        if let Some(seq) = self.device.segment.ask(|| self.log.needs_segment()) {
            self.out.push(Action::PrepareSegment(seq));
        }
        if let Some(request) = self.log.next_sync() {
            self.device.watch.on_sync_started(self.now_tick);
            self.out.push(Action::Sync(request));
        }
    }

    fn on_append(&mut self, from: NodeId, append: &AppendEntries, entries: &[u8]) {
        if !self.admit_append(from, append, entries) {
            self.after_raft();
            return;
        }
        let parsed = wire::parse_entries(append, entries).and_then(|parsed| self.check_senders(parsed));
        let checked = parsed.and_then(|parsed| self.check_memberships(parsed));
        let parsed = match checked {
            Ok(parsed) => parsed,
            Err(error) => {
                self.stats.appends_corrupt += 1;
                // What this version does not know stays unknown however often it comes, and the leader's copy of it is whole.
                match error {
                    EntriesError::Form { .. } => self.raft.on_no_room(append, &self.log),
                    _ => self.raft.on_damaged(append, &self.log),
                }
                self.tell(Remark::CorruptAppend { from, error });
                self.after_raft();
                return;
            }
        };
        let tips: Vec<Tip> = parsed.iter().map(wire::WireEntry::tip).collect();
        match self.raft.step_append(from, append, &tips, &self.log) {
            AppendDecision::Drop => {}
            AppendDecision::Append { skip } => {
                // A new term's hard state goes into the log before the entries of its leader.
                self.after_raft();
                if !self.standing.is_running() {
                    return;
                }
                let mut has_room = true;
                for entry in &parsed[skip..] {
                    match self.log.append_entry(&entry.header, entry.payload) {
                        Ok(_) => self.take_membership(entry),
                        // `admit_append` found room for all of them and a hard state, so no run gets here. What is in counts, the
                        // rest would come again.
                        Err(AppendError::SegmentNotReady | AppendError::TooLarge { .. }) => {
                            self.device.segment.on_missed(self.now_tick);
                            self.stats.appends_without_room += 1;
                            has_room = false;
                            break;
                        }
                        Err(error) => {
                            self.latch(&error);
                            break;
                        }
                    }
                }
                self.raft.on_appended(&self.log);
                if !has_room {
                    self.raft.on_no_room(append, &self.log);
                }
            }
        }
        self.after_raft();
    }

    /// Entries were read in, for a follower or to be applied. If the device cannot read them, this replica stops: to touch them would end
    /// the process. It also stops if the device returns other bytes than were stored: the next start repairs the log.
    fn on_loaded(&mut self, first: Index, last: Index, result: Result<(), String>) {
        self.device.watch.on_read_ended(first, last);
        let sound = match result {
            Ok(()) => self.verify(first, last),
            // They were read for a follower, and all of them were dropped meanwhile, with their files.
            Err(_) if last <= self.log.base().index => Ok(()),
            Err(reason) => {
                mark!("replica: a read of old entries failed");
                Err(Fault::Read { index: first, reason })
            }
        };
        if let Err(fault) = sound {
            self.stop_with(fault);
            return;
        }
        self.read_in.on_loaded(first, last);
        self.raft.on_loaded(first, last, &self.log);
        self.after_raft();
    }

    /// There is room again.
    fn on_segment_prepared(&mut self) {
        self.write_hard_state();
        if !self.standing.is_running() {
            return;
        }
        self.device.segment.on_prepared();
        self.raft.on_room(&self.log);
        self.after_raft();
    }

    /// Sends what the lane did not take before. Clients whose calls the relay lane did not take were refused, and ask again themselves.
    fn on_lane_has_room(&mut self, to: NodeId, lane: Lane) {
        match lane {
            Lane::Control => self.raft.on_control_room(to, &self.log),
            Lane::Bulk => self.raft.on_entries_room(to, &self.log),
            Lane::Relay => {}
        }
        self.after_raft();
    }

    fn on_peer_disconnected(&mut self, node: NodeId) {
        self.connected.remove(&node);
        self.raft.on_peer_disconnected(node, &self.log);
        self.give_up_relays_to(node);
        self.after_raft();
    }

    /// What a peer said last on the old connection of a lane may be lost. Of entries it knows that itself, since its connection broke.
    fn on_lane_replaced(&mut self, from: NodeId, lane: Lane) {
        match lane {
            Lane::Control => self.raft.on_answers_lost(from),
            Lane::Bulk => {}
            Lane::Relay => self.give_up_relays_to(from),
        }
        self.after_raft();
    }

    fn give_up_relays_to(&mut self, node: NodeId) {
        for relayed in self.waiting.relays.take_all_to(node) {
            let message = "the connection to the leader broke before it answered";
            self.refuse_relayed(&relayed, Status::Unavailable, message);
        }
    }

    /// Does what Raft asks for after it was given something, until it asks for nothing more.
    fn after_raft(&mut self) {
        if !self.standing.is_running() {
            return;
        }
        if self.raft.role() != Role::Leader {
            self.abandon_batch();
            self.refuse_queue(
                Status::Unavailable,
                "this node lost its leadership before it proposed the write; try again",
            );
        }
        self.stats.messages_refused = self.raft.refused_count();
        if let Some((from, error)) = self.raft.take_refused() {
            self.tell(Remark::Nonsense { from, error });
        }
        let mut ready = self.raft.ready();
        ready.steps.drain(..).for_each(|step| self.note_leadership_step(step));
        if let Some(contradiction) = ready.contradiction {
            self.stop_with(Fault::Contradiction(contradiction));
            return;
        }
        if let Some(outdated) = ready.outdated {
            self.stop_with(Fault::Outdated(outdated));
            return;
        }
        if let Some(hard_state) = ready.hard_state {
            // A new term or vote ends any leadership that the forming batch belongs to.
            self.abandon_batch();
            self.append_hard_state(hard_state);
            if !self.standing.is_running() {
                return;
            }
        }
        let is_written = self.standing.takes_part();
        for (to, message) in ready.messages.into_iter().filter(|_| is_written) {
            self.send(to, message);
        }
        for (to, message) in ready.messages_after_persist.into_iter().filter(|_| is_written) {
            self.send_once_durable(to, message);
        }
        for (id, index) in ready.reads_ready {
            self.waiting.reads.confirm(id.0, index);
        }
        self.take_back_reads_after_parting();
        for id in ready.reads_failed {
            self.on_read_failed(id.0);
        }
        ready.loads.into_iter().for_each(|(first, last)| self.ask_to_read(first, last));
        if ready.repaired {
            self.out.push(Action::FinishRepair);
        }
        if let Some(record) = ready.birth {
            self.persist_birth(record);
        }
        if let Some(id) = ready.append_noop {
            self.open_term(id);
        }
    }

    fn tell(&mut self, remark: Remark) {
        self.out.push(Action::Tell(remark));
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Action::Send { to, message: Outgoing::Raft(message) });
    }
}

/// True if Raft decides on this event.
const fn is_for_raft<P>(event: &Event<'_, P>) -> bool {
    matches!(event, Event::Message { .. } | Event::Append { .. })
}
