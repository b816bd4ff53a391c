//! One shard on its owner core: drives the replica with real disks, connections and time.
//!
//! Every event goes through `deliver`, which hands it to the replica and does at once what the replica asks for. A turn task
//! runs after everything that was ready has been delivered, so that writes which arrived together share a batch and a sync.
//! Nothing here blocks: syncs are asynchronous, segments are prepared on helper threads. It decides nothing; the replica does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use wal::place::PlaceError;
use wal::{SegmentIdentity, SegmentSeq, SyncRequest};

use super::classes::{Class, Classes, give_way};
use super::device::ShardDevice;
use super::helpers::Helpers;
use super::incoming::{NewestConnections, OpenedConnection};
use super::limits::{METRICS_EVERY_TICKS, PREPARE_RETRY_MS, SETTLE_MS_MAX, SETTLE_STEP_MS, TIMED_BATCHES_MAX};
use super::links::{self, PeerLinks};
use super::metrics::ShardMetrics;
use super::names::Names;
use super::notices::Notices;
use super::notify::Notify;
use super::replies::Replies;
use super::roster::Roster;
use super::run_queue::{RunQueue, ThreadTimes};
use super::said::{Complaint, Said};
use super::status::StatusBoard;
use super::work::Work;
use super::{Device, birth_file};
use crate::raft::BirthRecord;
use crate::replica::{Action, Event, Lane, NotTaken, Outgoing, Replica, ReplicaView};
use crate::types::{Index, NodeId, ShardId, Term};
use api::status::SHARD_STOPPED;

/// Starts all lanes to a member, if it is known where that is.
pub(super) type Linker<D> = Box<dyn Fn(&Rc<Shard<D>>, NodeId) -> Option<PeerLinks>>;

/// What a shard is opened with.
#[derive(Debug)]
pub struct ShardParts<D: ShardDevice = Device> {
    /// Which shard.
    pub id: ShardId,
    /// Its replica, recovered.
    pub replica: Replica<D>,
    /// Where its log lies.
    pub wal_dir: PathBuf,
    /// Whose log it is.
    pub identity: SegmentIdentity,
    /// Size of a segment. Unit: bytes.
    pub segment_bytes: u64,
    /// Its figures.
    pub metrics: ShardMetrics,
    /// Length of a tick. Unit: ms.
    pub tick_ms: u64,
    /// What the members are called.
    pub names: Names,
}

/// A shard on its owner core.
pub struct Shard<D: ShardDevice = Device> {
    id: ShardId,
    replica: RefCell<Replica<D>>,
    wal_dir: PathBuf,
    identity: SegmentIdentity,
    segment_bytes: u64,
    metrics: ShardMetrics,
    tick_ms: u64,
    wake: Notify,
    links: RefCell<BTreeMap<NodeId, PeerLinks>>,
    linker: RefCell<Option<Linker<D>>>,
    roster: Roster,
    /// Lanes that took no more messages and have not had room since.
    full_lanes: RefCell<BTreeSet<(NodeId, Lane)>>,
    replies: RefCell<Option<Weak<dyn Replies>>>,
    /// When batches were handed to Raft, to measure how long they take to commit.
    timed_batches: RefCell<VecDeque<(Index, Instant)>>,
    /// Complaints about peers.
    said: Said,
    /// Connections that peers opened.
    incoming: RefCell<NewestConnections>,
    board: StatusBoard,
    /// Term and leader as the board last got them.
    posted: Cell<(Term, Option<NodeId>)>,
    helpers: Helpers,
    classes: Classes,
    stopping: Cell<bool>,
    /// How many looks at the log's place in a row told nothing.
    blind_looks: Cell<u32>,
    fault_reported: Cell<bool>,
    /// The last leader that this node knew.
    last_leader: Cell<Option<NodeId>>,
    /// When a sync of the log succeeded last; at first the start.
    synced_at: Cell<Instant>,
    notices: Notices,
}

impl<D: ShardDevice> Shard<D> {
    /// Puts the shard together; `start` begins its work.
    #[must_use]
    pub fn new(
        parts: ShardParts<D>,
        board: &StatusBoard,
        roster: &Roster,
        helpers: &Helpers,
        classes: Classes,
    ) -> Rc<Self> {
        Rc::new(Self {
            id: parts.id,
            replica: RefCell::new(parts.replica),
            wal_dir: parts.wal_dir,
            identity: parts.identity,
            segment_bytes: parts.segment_bytes,
            metrics: parts.metrics,
            tick_ms: parts.tick_ms,
            wake: Notify::default(),
            links: RefCell::new(BTreeMap::new()),
            linker: RefCell::default(),
            roster: roster.clone(),
            full_lanes: RefCell::default(),
            replies: RefCell::default(),
            timed_batches: RefCell::new(VecDeque::new()),
            said: Said::default(),
            incoming: RefCell::default(),
            board: board.clone(),
            posted: Cell::new((Term::ZERO, None)),
            helpers: helpers.clone(),
            classes,
            stopping: Cell::new(false),
            blind_looks: Cell::default(),
            fault_reported: Cell::new(false),
            last_leader: Cell::new(None),
            synced_at: Cell::new(Instant::now()),
            notices: Notices::new(parts.id, parts.names, parts.tick_ms),
        })
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Connects the shard to the gateway that takes its answers, and starts its tasks. `linker` connects it to the peers that its replica
    /// names.
    pub fn start(self: &Rc<Self>, replies: Weak<dyn Replies>, linker: Linker<D>) {
        *self.replies.borrow_mut() = Some(replies);
        *self.linker.borrow_mut() = Some(linker);
        let shard = Rc::clone(self);
        self.classes.spawn_here(Class::Commit, async move { shard.run_turns().await });
        let shard = Rc::clone(self);
        self.classes.spawn(Class::Control, async move { shard.run_ticks().await });
        let shard = Rc::clone(self);
        self.classes.spawn(Class::Background, async move { shard.watch_place().await });
        self.wake.notify();
    }

    /// What the replica shows of itself.
    pub fn view(&self) -> ReplicaView {
        self.replica.borrow().view()
    }

    /// Why this shard stopped, if it did.
    pub fn fault(&self) -> Option<String> {
        self.replica.borrow().fault().map(ToString::to_string)
    }

    /// Hands an event to the replica, does what it asks for, and makes sure that a turn follows.
    pub fn deliver(self: &Rc<Self>, event: Event<'_, D::Prepared>) {
        self.replica.borrow_mut().handle(event);
        self.act();
        self.wake.notify();
    }

    /// An incoming connection of a peer opened.
    pub fn incoming_opened(self: &Rc<Self>, node: NodeId, lane: Lane) -> OpenedConnection {
        let opened = self.incoming.borrow_mut().opened(node, lane);
        if opened.is_another {
            self.deliver(Event::LaneReplaced { from: node, lane });
        }
        self.link_up(node);
        opened
    }

    /// An incoming connection of a peer ended: its process may be gone, unless it has opened another one since.
    pub fn incoming_closed(self: &Rc<Self>, node: NodeId, lane: Lane, number: u64) {
        let is_newest = self.incoming.borrow_mut().closed(node, lane, number);
        if is_newest {
            self.link_lost(node, &"it closed its connection to this node");
        }
    }

    /// A lane to a peer or from it came up. The peer is connected once all of them are up, in both directions: what is relayed to a peer
    /// that cannot answer would wait in vain.
    pub(super) fn link_up(self: &Rc<Self>, node: NodeId) {
        let all_up = self.links.borrow().get(&node).is_some_and(PeerLinks::are_up);
        if all_up && self.incoming.borrow().are_open(node) {
            self.notices.connected(node);
            self.deliver(Event::PeerConnected(node));
        }
    }

    /// Any connection with a peer broke. The others may be up: what is lost with one is lost with all.
    pub(super) fn link_lost(self: &Rc<Self>, node: NodeId, reason: &dyn fmt::Display) {
        self.notices.disconnected(node, reason);
        self.deliver(Event::PeerDisconnected(node));
        self.link_up(node);
    }

    /// A connection to a peer could not be made.
    pub(super) fn link_failed(&self, node: NodeId, reason: &dyn fmt::Display) {
        self.notices.unreachable(node, reason);
    }

    /// Whether a complaint about a peer is to be said now; see `Said`.
    pub(super) fn may_say(&self, complaint: Complaint) -> Option<u64> {
        self.said.may_say(complaint)
    }

    /// A peer sent what is no sound frame, or one of another shard.
    pub(super) fn count_damaged_frame(&self) {
        self.metrics.peer_frame_damaged();
    }

    /// Whether everybody who asked this shard was answered.
    pub fn owes_no_answer(&self) -> bool {
        self.replica.borrow().owes_no_answer()
    }

    /// Refuses every new request from here on.
    pub fn close(self: &Rc<Self>) {
        self.deliver(Event::Close);
    }

    /// Gives leadership away, if this node has it.
    pub fn hand_over(self: &Rc<Self>) {
        self.deliver(Event::HandOver);
    }

    /// Makes the note beside the log durable, which says how far the log is durable and what is committed.
    ///
    /// For a stop that is in no hurry. A disk that does not answer is not waited for long.
    async fn settle(self: &Rc<Self>) {
        let mut waited_ms = 0;
        while waited_ms < SETTLE_MS_MAX {
            self.deliver(Event::Settle);
            if self.replica.borrow().is_settled() {
                return;
            }
            glommio::timer::sleep(Duration::from_millis(SETTLE_STEP_MS)).await;
            waited_ms += SETTLE_STEP_MS;
        }
    }

    /// Settles and stops shards, all at the same time: a disk that does not answer is waited for once, however many they are.
    pub(super) async fn settle_and_stop(shards: &[Rc<Self>]) {
        let begin = |shard: &Rc<Self>| {
            let shard = Rc::clone(shard);
            glommio::spawn_local(async move {
                shard.settle().await;
                shard.stop();
            })
        };
        let begun: Vec<_> = shards.iter().map(begin).collect();
        for task in begun {
            task.await;
        }
    }

    /// Refuses everything that waits and starts nothing more.
    pub fn stop(self: &Rc<Self>) {
        self.stopping.set(true);
        self.deliver(Event::Stop);
        for links in self.links.borrow().values() {
            links.close();
        }
    }

    async fn run_turns(self: Rc<Self>) {
        while !self.stopping.get() {
            self.wake.wait().await;
            self.turn();
            while self.replica.borrow().wants_turn() && !self.stopping.get() {
                give_way().await;
                self.turn();
            }
        }
    }

    /// Ends a turn, and measures what it did.
    fn turn(self: &Rc<Self>) {
        let started = Instant::now();
        let (before, after) = {
            let mut replica = self.replica.borrow_mut();
            let before = *replica.stats();
            replica.handle(Event::Turn);
            (before, *replica.stats())
        };
        let applied = after.entries_applied > before.entries_applied;
        match (after.apply_slices > before.apply_slices, after.read_slices > before.read_slices) {
            (true, true) => self.classes.slices().turned_out(Work::ApplyAndRead),
            (true, false) => self.classes.slices().turned_out(Work::Apply),
            (false, true) => self.classes.slices().turned_out(Work::Read),
            (false, false) => {}
        }
        if applied {
            // Before `act` answers anything: whoever has an answer finds what it rests on in `status`.
            self.post();
        }
        self.act();
        if applied {
            self.metrics.applied(started.elapsed());
        }
        self.time_batches(started, after.batches_closed > before.batches_closed);
        self.post_new_leader();
    }

    /// Posts a change of leader at once: clients are sent to it.
    fn post_new_leader(&self) {
        let leadership = self.replica.borrow().leadership();
        if self.posted.get() != (leadership.term, leadership.leader) {
            self.post();
        }
    }

    fn post(&self) {
        let view = self.view();
        self.posted.set((view.term, view.leader));
        if view.leader.is_some() && self.last_leader.replace(view.leader.or(self.last_leader.get())) != view.leader {
            self.metrics.standing.leader_changed();
        }
        self.board.post(self.id, view, self.fault());
    }

    /// Notes a batch that was closed, and observes those that were committed.
    fn time_batches(&self, now: Instant, closed: bool) {
        let (is_leader, (last_index, commit_index)) = {
            let replica = self.replica.borrow();
            (replica.leadership().is_leader, replica.last_and_commit_index())
        };
        let mut timed = self.timed_batches.borrow_mut();
        if closed && timed.len() < TIMED_BATCHES_MAX {
            timed.push_back((last_index, now));
        }
        if !is_leader {
            timed.clear();
        }
        while let Some((_, started)) = timed.pop_front_if(|(index, _)| *index <= commit_index) {
            self.metrics.committed(now.duration_since(started));
        }
    }

    async fn run_ticks(self: Rc<Self>) {
        let tick_length = Duration::from_millis(self.tick_ms);
        let mut tick: u64 = 0;
        let (mut due, mut last) = (Instant::now(), None);
        let run_queue = RunQueue::of_this_thread();
        while !self.stopping.get() {
            // One tick at a time, however late: a node that was stopped must not count the time as its peers' silence.
            due = (due + tick_length).max(Instant::now());
            glommio::timer::sleep(due.saturating_duration_since(Instant::now())).await;
            self.classes.slices().turned_out(Work::Tick);
            let now = Instant::now();
            // The first sleep of an executor is long and says nothing.
            let times = run_queue.times();
            if let Some((last, times_then)) = last.replace((now, times)) {
                self.note_tick(now.duration_since(last), times.since(times_then));
            }
            self.tell_lanes();
            self.deliver(Event::Tick);
            self.notices.look_at(&self.view());
            self.post();
            tick += 1;
            if tick.is_multiple_of(METRICS_EVERY_TICKS) {
                let replica = self.replica.borrow();
                let log_stats = replica.log().stats();
                let view = replica.view();
                self.metrics.update(&view, replica.stats(), &log_stats);
                let since_sync = now.saturating_duration_since(self.synced_at.get());
                self.metrics.standing.update(&view, replica.fault().is_some(), since_sync);
                self.metrics.standing.connected(self.links.borrow().len(), self.notices.connected_count());
            }
        }
    }

    /// Measures the time between two ticks, and says what became of it if it was long.
    fn note_tick(&self, gap: Duration, thread: ThreadTimes) {
        let longest_slice = self.classes.slices().take_longest_lately();
        self.metrics.ticked(gap, thread.waited);
        self.notices.stood_still(gap, thread);
        if gap.saturating_sub(thread.waited) >= 2 * Duration::from_millis(self.tick_ms) {
            let ThreadTimes { ran, waited } = thread;
            tracing::debug!(shard = self.id.get(), ?gap, ?waited, ?ran, ?longest_slice, "a tick came late");
        }
    }

    /// Does everything the replica asks for.
    ///
    /// Tasks are started once the replica is free again: a new task runs at once, inside the call that spawns it, and may
    /// come back here before that returns.
    fn act(self: &Rc<Self>) {
        let (mut dropped, mut tasks) = (Vec::new(), Vec::new());
        {
            let mut replica = self.replica.borrow_mut();
            while let Some(action) = replica.poll_action() {
                match action {
                    Action::Send { to, message } => {
                        if let Err(why) = self.send(&replica, to, &message) {
                            if why == NotTaken::NoCredit {
                                self.full_lanes.borrow_mut().insert((to, Lane::of(&message)));
                            }
                            if why == NotTaken::NoConnection && matches!(message, Outgoing::RelayReply { .. }) {
                                // The peer's own connection may have outlived this node's: its end is all that the peer can be told.
                                self.incoming.borrow_mut().close_lane(to, Lane::Relay);
                            }
                            dropped.extend(Event::of_unsent(to, &message, why));
                        }
                    }
                    Action::Reply { ticket, reply } => {
                        if let Some(replies) = self.replies.borrow().as_ref().and_then(Weak::upgrade) {
                            let part = reply.part.as_ref().map(|range| replica.body(range));
                            replies.reply(self.id, ticket, part, reply.relayed);
                        }
                    }
                    Action::Sync(_)
                    | Action::SyncNote
                    | Action::RemoveDropped
                    | Action::PrepareSegment(_)
                    | Action::FinishRepair
                    | Action::PersistBirth(_)
                    | Action::Link(_)
                    | Action::Load { .. } => {
                        tasks.push(action);
                    }
                    // Nothing in this shell asks for itself yet, so nothing waits.
                    Action::OwnReply { number, reply } => {
                        tracing::debug!(shard = self.id.get(), number, ?reply, "an answer to this node itself");
                    }
                    Action::Tell(remark) => self.notices.tell(&remark),
                }
            }
            if let Some(fault) = replica.fault()
                && !self.fault_reported.replace(true)
            {
                tracing::error!(shard = self.id.get(), %fault, "{SHARD_STOPPED}");
            }
        }
        for event in dropped {
            self.replica.borrow_mut().handle(event);
            self.act();
        }
        for task in tasks {
            match task {
                Action::Sync(request) => self.start_sync(request),
                Action::SyncNote => self.start_note_sync(),
                Action::RemoveDropped => self.start_removing_dropped(),
                Action::PrepareSegment(seq) => self.start_preparing(seq),
                Action::FinishRepair => self.start_finishing_repair(),
                Action::Load { first, last } => self.start_loading(first, last),
                Action::PersistBirth(record) => self.start_persisting_birth(record),
                Action::Link(members) => self.link(members),
                Action::Send { .. } | Action::Reply { .. } | Action::OwnReply { .. } | Action::Tell(_) => {
                    unreachable!("these were done above")
                }
            }
        }
    }

    /// Opens the links to new members, and closes those to nodes that are none any more.
    fn link(self: &Rc<Self>, members: BTreeSet<NodeId>) {
        let gone: Vec<_> = self.links.borrow_mut().extract_if(.., |node, _| !members.contains(node)).collect();
        let is_linked = |node: &&NodeId| self.links.borrow().contains_key(node);
        let new: Vec<NodeId> = members.iter().filter(|node| !is_linked(node)).copied().collect();
        self.roster.set(self.id, members);
        for (node, links) in gone {
            links.close();
            self.incoming.borrow_mut().close(node);
            self.deliver(Event::PeerDisconnected(node));
        }
        for node in new {
            let links = self.linker.borrow().as_ref().and_then(|linker| linker(self, node));
            if let Some(links) = links {
                self.links.borrow_mut().insert(node, links);
            }
        }
    }

    /// Tells the replica which lanes that were full have room again, and which peers' entries have not left this node yet. Of a lane that
    /// is down the replica was told already.
    fn tell_lanes(self: &Rc<Self>) {
        let mut events = Vec::new();
        {
            let links = self.links.borrow();
            self.full_lanes.borrow_mut().retain(|&(to, lane)| {
                let queued_bytes = links.get(&to).and_then(|links| links.queued_bytes(lane));
                let is_full = queued_bytes.is_some_and(|bytes| bytes > links::room_again_bytes(lane));
                if queued_bytes.is_some() && !is_full {
                    events.push(Event::LaneHasRoom { to, lane });
                }
                is_full
            });
            let waiting = links.iter().filter(|(_, links)| links.queued_bytes(Lane::Bulk) > Some(0));
            events.extend(waiting.map(|(&to, _)| Event::EntriesWait { to }));
        }
        for event in events {
            self.deliver(event);
        }
    }

    /// Queues a message towards a peer.
    fn send(&self, replica: &Replica<D>, to: NodeId, message: &Outgoing) -> Result<(), NotTaken> {
        let links = self.links.borrow();
        let Some(links) = links.get(&to) else { return Err(NotTaken::NoConnection) };
        let mut encoded = Ok(());
        links.send(message, |out| encoded = replica.encode(message, self.id, out))?;
        encoded.map_err(|error| {
            if let Some(left_out) = self.said.may_say(Complaint::NotEncoded) {
                tracing::error!(shard = self.id.get(), %to, %error, left_out, "a message could not be encoded");
            }
            NotTaken::NotEncoded
        })
    }

    fn start_sync(self: &Rc<Self>, request: SyncRequest) {
        let shard = Rc::clone(self);
        self.classes.spawn_here(Class::Commit, async move {
            let started = Instant::now();
            let syncing = shard.replica.borrow().log().storage().sync(request.seq);
            let result = syncing.await;
            shard.metrics.synced(started.elapsed());
            if result.is_ok() {
                shard.synced_at.set(Instant::now());
            }
            shard.deliver(Event::Synced { id: request.id, result });
        });
    }

    /// Syncs the note beside the log. Nothing waits for it, and a failure is told and changes nothing else.
    fn start_note_sync(self: &Rc<Self>) {
        let shard = Rc::clone(self);
        self.classes.spawn_here(Class::Commit, async move {
            let syncing = shard.replica.borrow().log().storage().sync_note();
            let result = syncing.await;
            let failure = result.as_ref().err().map(|error| &error.reason as &dyn fmt::Display);
            shard.notices.disk.note_synced(failure);
            shard.deliver(Event::NoteSynced(result));
        });
    }

    /// Reads entries of the log into memory on a helper thread.
    fn start_loading(self: &Rc<Self>, first: Index, last: Index) {
        let reading = {
            let replica = self.replica.borrow();
            let log = replica.log();
            log.storage().reading_in(log.parts_of(first, last))
        };
        let shard = Rc::clone(self);
        self.classes.spawn(Class::Background, async move {
            let result = match reading {
                Ok(reading) => shard.helpers.run(reading).await,
                Err(error) => Err(error),
            };
            let result = match result {
                Err(error) if is_shortage(&error) => {
                    // The core reads them itself, and waits for the device.
                    if let Some(left_out) = shard.said.may_say(Complaint::Reading) {
                        tracing::warn!(shard = shard.id.get(), %error, left_out, "old entries are read without a helper");
                    }
                    Ok(())
                }
                result => result.map_err(|error| error.to_string()),
            };
            shard.deliver(Event::Loaded { first, last, result });
        });
    }

    /// Removes the files of segments that the log dropped, on a helper thread. What is left after an error goes at the next start.
    fn start_removing_dropped(self: &Rc<Self>) {
        let shard = Rc::clone(self);
        let Some(removing) = self.replica.borrow_mut().device_to_remove_from().removing_dropped() else { return };
        self.classes.spawn(Class::Background, async move {
            if let Err(error) = shard.helpers.run(removing).await
                && let Some(left_out) = shard.said.may_say(Complaint::Files)
            {
                tracing::warn!(shard = shard.id.get(), %error, left_out, "dropped segments cannot be removed; the next start removes them");
            }
        });
    }

    fn start_finishing_repair(self: &Rc<Self>) {
        let shard = Rc::clone(self);
        self.classes.spawn(Class::Background, async move { shard.finish_repair().await });
    }

    /// Removes the damaged log.
    async fn finish_repair(self: Rc<Self>) {
        if self.change_beside("the end of a repair cannot be made durable", birth_file::finish_repair).await {
            tracing::warn!(shard = self.id.get(), "the log is repaired");
            self.deliver(Event::RepairFinished);
        }
    }

    fn start_persisting_birth(self: &Rc<Self>, record: BirthRecord) {
        let shard = Rc::clone(self);
        self.classes.spawn(Class::Background, async move { shard.persist_birth(record).await });
    }

    /// Writes down what a new node turned out to be.
    async fn persist_birth(self: Rc<Self>, record: BirthRecord) {
        let persist = move |dir: &Path| birth_file::persist(dir, &record);
        if self.change_beside("the record of the log's origin cannot be written", persist).await {
            self.deliver(Event::BirthPersisted);
        }
    }

    /// Changes files in the log's directory and beside it on a helper thread, until that succeeds or the shard stops. Says whether it
    /// succeeded. A change may be made again that was made before.
    ///
    /// Only where the log is: another directory in its place belongs to another log, of which nothing is known.
    async fn change_beside(
        self: &Rc<Self>,
        failure: &'static str,
        change: impl Fn(&Path) -> io::Result<()> + Clone + Send + 'static,
    ) -> bool {
        while !self.stopping.get() {
            let (dir, change) = (self.wal_dir.clone(), change.clone());
            let place = self.replica.borrow().log().storage().place();
            let change = move || {
                place.check()?;
                let changed = change(&dir);
                place.check().map(|()| changed)
            };
            let error = match self.helpers.run(change).await {
                Ok(Ok(())) => return true,
                Err(PlaceError::NotInPlace(error)) => {
                    self.deliver(Event::LogNotInPlace(error.to_string()));
                    return false;
                }
                Err(unknown) => unknown.to_string(),
                Ok(Err(error)) => error.to_string(),
            };
            if let Some(left_out) = self.said.may_say(Complaint::Files) {
                tracing::warn!(shard = self.id.get(), %error, left_out, "{failure}; trying again");
            }
            glommio::timer::sleep(Duration::from_millis(PREPARE_RETRY_MS)).await;
        }
        false
    }

    fn start_preparing(self: &Rc<Self>, seq: SegmentSeq) {
        let shard = Rc::clone(self);
        self.classes.spawn(Class::Background, async move { shard.prepare(seq).await });
    }

    /// Prepares a segment on a helper thread, until it succeeds or the shard stops.
    async fn prepare(self: Rc<Self>, seq: SegmentSeq) {
        while !self.stopping.get() {
            let (place, preparing) = {
                let replica = self.replica.borrow();
                let device = replica.log().storage();
                (device.place(), device.preparing(seq, self.identity, self.segment_bytes))
            };
            let prepare = move || {
                // Where the log is not, no segment of it belongs either.
                place.check()?;
                let prepared = preparing();
                match place.check() {
                    Err(PlaceError::NotInPlace(error)) => Err(error.into()),
                    // It was in its place before, and the segment is there now: whoever watches the place looks again.
                    Ok(()) | Err(PlaceError::Unknown { .. }) => Ok(prepared),
                }
            };
            let error = match self.helpers.run(prepare).await {
                Err(PlaceError::NotInPlace(error)) => return self.deliver(Event::LogNotInPlace(error.to_string())),
                Ok(Ok(prepared)) => return self.deliver(Event::SegmentPrepared(prepared)),
                Err(unknown) => unknown.to_string(),
                Ok(Err(error)) => error.to_string(),
            };
            self.deliver(Event::SegmentUnavailable(error));
            glommio::timer::sleep(Duration::from_millis(PREPARE_RETRY_MS)).await;
        }
    }
}

/// The device is well, but the system has no descriptor or memory to read it with.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

#[path = "shard_place.rs"]
mod place;
#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
