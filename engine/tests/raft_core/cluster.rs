//! Raft cores joined by a simulated network, each with a simulated log; driven step by step.
//!
//! Does with `Ready` what the replica does. Nothing happens by itself: time, delivery, syncs and faults are calls.

use std::collections::{BTreeSet, VecDeque};

use engine::raft::{
    AppendDecision, AppendOutcome, Config, HardState, LogView, Message, Raft, ReadId, Ready, Role, Speaker,
    TransferError,
};
use engine::types::{EntryId, Index, NodeId, Term};

use crate::checks::Checks;
use crate::sim_log::{SimLog, tips};
use crate::trace::{Leadership, Trace, leadership};

pub struct Node {
    pub id: NodeId,
    /// `None` while the node is down.
    pub raft: Option<Raft>,
    pub log: SimLog,
    /// Messages that wait until the log is durable up to a position.
    held: VecDeque<(usize, NodeId, Message)>,
    hard_states: VecDeque<(usize, HardState)>,
    /// Where the log ended when the sync in flight started.
    sync: Option<usize>,
    /// Its disk takes writes but completes no sync.
    pub disk_hangs: bool,
    /// Its log lost durable entries and it has not got them back: whether its hard state is certain.
    pub repair: Option<bool>,
    /// What it lost then; it may have acknowledged all of it.
    pub lost: BTreeSet<EntryId>,
    /// Entries of others that its log has room for; what comes after them is not appended.
    pub log_room: usize,
    /// It applies nothing beyond this.
    pub apply_limit: Index,
    /// It says that its disk does not keep up.
    pub is_slow: bool,
    commit_seen: Index,
    role_seen: Role,
    announced: Leadership,
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
    pub entries: Vec<EntryId>,
}

/// What a run has been through, to see that random runs reach what they should.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub leaders: usize,
    pub commits: usize,
    pub superseded: usize,
    pub lost_in_crash: usize,
    pub rejected: usize,
    pub empty_probes: usize,
    pub transfer_campaigns: usize,
    pub stepped_down: usize,
    pub reads_at_followers: usize,
    pub committed_ahead_of_own_disk: usize,
    pub damaged: usize,
    pub entries_lost: usize,
    pub repaired: usize,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.leaders += other.leaders;
        self.commits += other.commits;
        self.superseded += other.superseded;
        self.lost_in_crash += other.lost_in_crash;
        self.rejected += other.rejected;
        self.empty_probes += other.empty_probes;
        self.transfer_campaigns += other.transfer_campaigns;
        self.stepped_down += other.stepped_down;
        self.reads_at_followers += other.reads_at_followers;
        self.committed_ahead_of_own_disk += other.committed_ahead_of_own_disk;
        self.damaged += other.damaged;
        self.entries_lost += other.entries_lost;
        self.repaired += other.repaired;
    }
}

pub struct Cluster {
    pub seen: Seen,
    pub nodes: Vec<Node>,
    /// Messages on their way, oldest first.
    pub network: VecDeque<Packet>,
    /// Messages that will arrive when nobody expects them any more, if ever.
    late: Vec<Packet>,
    pub checks: Checks,
    pub trace: Trace,
    /// Directions in which everything gets lost.
    blocked: BTreeSet<(NodeId, NodeId)>,
    config: Config,
    next_read: u64,
    /// Numbers of lives that began under repair.
    lives: u64,
    starts: u64,
    pub reads_ready: Vec<(ReadId, Index)>,
    pub reads_failed: Vec<ReadId>,
}

/// Packets on their way beyond which the oldest get lost, as they would from a full queue.
const NETWORK_MAX: usize = 400;

pub fn node_id(number: u64) -> NodeId {
    NodeId::new(number)
}

/// Settings of a cluster of nodes 1 to `voters`; `id` is filled in for each.
pub fn config(voters: u64) -> Config {
    Config {
        id: node_id(1),
        founders: (1..=voters).map(node_id).collect(),
        election_ticks: 10,
        heartbeat_ticks: 2,
        inflight_messages_limit: 4,
        life: 1,
        inflight_bytes_limit: 1000,
        append_bytes_limit: 100,
        seed: 1,
        preferred_leader: None,
    }
}

impl Cluster {
    pub fn new(config: Config) -> Self {
        let logs = config.founders.iter().map(|_| SimLog::default()).collect();
        Self::with_logs(config, logs)
    }

    /// A cluster of nodes that restart with these logs.
    pub fn with_logs(config: Config, logs: Vec<SimLog>) -> Self {
        let mut cluster = Self {
            seen: Seen::default(),
            nodes: Vec::new(),
            network: VecDeque::new(),
            late: Vec::new(),
            checks: Checks::default(),
            trace: Trace::default(),
            blocked: BTreeSet::new(),
            config,
            next_read: 0,
            lives: 0,
            starts: 0,
            reads_ready: Vec::new(),
            reads_failed: Vec::new(),
        };
        for (at, log) in logs.into_iter().enumerate() {
            let mut before = EntryId::ZERO;
            for id in log.ids(Index::new(1), log.last_id().index) {
                cluster.checks.on_entry(before, id);
                before = id;
            }
            cluster.nodes.push(Node {
                id: cluster.config.founders[at],
                raft: None,
                log,
                held: VecDeque::new(),
                hard_states: VecDeque::new(),
                sync: None,
                disk_hangs: false,
                repair: None,
                lost: BTreeSet::new(),
                log_room: usize::MAX,
                apply_limit: Index::new(u64::MAX),
                is_slow: false,
                commit_seen: Index::ZERO,
                role_seen: Role::Follower,
                announced: (Role::Follower, Term::ZERO, None),
            });
            cluster.restart(at);
        }
        cluster
    }

    pub fn raft(&self, at: usize) -> &Raft {
        self.nodes[at].raft.as_ref().expect("the node is up")
    }

    pub fn at(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|other| other.id == node).expect("a node of the cluster")
    }

    /// The node that leads the highest term, if any does.
    pub fn leader(&self) -> Option<usize> {
        let leaders = (0..self.nodes.len()).filter(|&at| self.is_leader(at));
        leaders.max_by_key(|&at| self.raft(at).term())
    }

    pub fn is_leader(&self, at: usize) -> bool {
        self.nodes[at].raft.as_ref().is_some_and(|raft| raft.role() == Role::Leader)
    }

    pub fn tick(&mut self, at: usize) {
        self.with_raft(at, |raft, log| {
            raft.tick(log);
            let _has_asked = raft.ask_about_reads();
        });
    }

    /// Starts a sync, or completes the one in flight.
    pub fn sync_step(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.disk_hangs {
            return;
        }
        match node.sync.take() {
            None if node.log.durable_end() < node.log.end() && node.raft.is_some() => node.sync = Some(node.log.end()),
            None => {}
            Some(end) => self.complete_sync(at, end),
        }
    }

    /// Makes everything durable. True if there was anything to sync.
    pub fn sync(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let is_needed = node.raft.is_some() && !node.disk_hangs && node.log.durable_end() < node.log.end();
        if is_needed {
            node.sync = None;
            self.complete_sync(at, self.nodes[at].log.end());
        }
        is_needed
    }

    fn complete_sync(&mut self, at: usize, end: usize) {
        self.nodes[at].log.sync_to(end);
        while let Some((_, hard_state)) = self.nodes[at].hard_states.pop_front_if(|&mut (needed, _)| needed <= end) {
            self.with_raft(at, |raft, log| raft.on_hard_state_persisted(hard_state, log));
        }
        self.with_raft(at, |raft, log| raft.on_persisted(log));
        while let Some((_, to, message)) = self.nodes[at].held.pop_front_if(|(needed, _, _)| *needed <= end) {
            self.send(at, to, message);
        }
    }

    /// The node loses its process, and of its log everything after `keep_frames` of what was not durable.
    pub fn crash(&mut self, at: usize, keep_frames: usize) {
        let node = &mut self.nodes[at];
        if node.raft.take().is_none() {
            return;
        }
        let unsynced = node.log.end() - node.log.durable_end();
        let end = node.log.durable_end() + keep_frames % (unsynced + 1);
        self.seen.lost_in_crash += usize::from(end < node.log.end());
        node.log.crash_keeping(end);
        self.checks.on_crash(node.id);
        node.held.clear();
        node.hard_states.clear();
        node.sync = None;
        node.commit_seen = Index::ZERO;
        node.role_seen = Role::Follower;
        self.trace.line(format!("{} crashes; its log ends at {}", node.id.get(), node.log.last_id()));
    }

    /// While the node is down its log is damaged where it was durable; of its frames `keep` are left. At most one node at a
    /// time: two that forget what they promised are more than three nodes can bear.
    pub fn damage(&mut self, at: usize, keep: usize, hard_state_is_certain: bool) {
        let can_repair = self.nodes.len() > self.nodes.len() / 2 + 1;
        let node = &mut self.nodes[at];
        let end = keep % (node.log.durable_end() + 1);
        if node.raft.is_some() || !can_repair || end == node.log.durable_end() {
            return;
        }
        if self.nodes.iter().any(|node| node.repair.is_some()) {
            return;
        }
        let node = &mut self.nodes[at];
        let before: BTreeSet<EntryId> = node.log.durable_ids().collect();
        node.log.damage_keeping(end, hard_state_is_certain);
        node.lost = &before - &node.log.durable_ids().collect();
        node.repair = Some(hard_state_is_certain);
        if !hard_state_is_certain {
            self.checks.on_vote_forgotten(node.id);
        }
        self.seen.damaged += 1;
        self.trace.line(format!("{} finds its log damaged behind {}", node.id.get(), node.log.last_id()));
    }

    pub fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.raft.is_none() {
            self.starts += 1;
            let config = Config { id: node.id, life: self.starts, ..self.config.clone() };
            let mut raft = Raft::new(config, node.log.durable_hard_state(), &node.log);
            node.announced = leadership(&raft);
            if let Some(hard_state_is_certain) = node.repair {
                self.lives += 1;
                raft.begin_repair(self.lives, hard_state_is_certain);
            }
            node.raft = Some(raft);
        }
    }

    /// Memory and disk of a node as they are now.
    pub fn image(&self, at: usize) -> (Raft, SimLog) {
        (self.raft(at).clone(), self.nodes[at].log.clone())
    }

    /// Memory and disk of a node become what they were, in one life; its connections break.
    pub fn put_back(&mut self, at: usize, (raft, log): (Raft, SimLog)) {
        self.network.retain(|packet| packet.from != self.nodes[at].id && packet.to != self.nodes[at].id);
        let node = &mut self.nodes[at];
        (node.commit_seen, node.role_seen) = (raft.commit_index(), raft.role());
        (node.raft, node.log, node.sync) = (Some(raft), log, None);
        node.held.clear();
        node.hard_states.clear();
    }

    /// Appends and announces `count` entries if the node takes proposals. False if it does not.
    pub fn propose(&mut self, at: usize, count: usize) -> bool {
        let Some(raft) = &self.nodes[at].raft else { return false };
        if raft.may_propose().is_err() {
            return false;
        }
        for _ in 0..count {
            let id = self.raft(at).next_entry_id(&self.nodes[at].log);
            self.append(at, id);
            self.with_raft(at, |raft, log| raft.on_appended(log));
        }
        true
    }

    /// Asks for a linearizable read at a leader, or at a follower that has one.
    pub fn read(&mut self, at: usize) -> Option<ReadId> {
        let raft = self.nodes[at].raft.as_ref()?;
        let is_follower = raft.role() == Role::Follower && raft.leader().is_some() && raft.repair_view().is_none();
        if !is_follower && raft.role() != Role::Leader {
            return None;
        }
        self.next_read += 1;
        let read = ReadId(self.next_read);
        self.checks.on_read(self.nodes[at].id, read);
        self.seen.reads_at_followers += usize::from(is_follower);
        self.with_raft(at, |raft, log| {
            raft.read_index(read, log).expect("whoever leads or has a leader takes reads");
            let _has_asked = raft.ask_about_reads();
        });
        Some(read)
    }

    pub fn transfer(&mut self, at: usize, to: NodeId) {
        if self.is_leader(at) {
            self.with_raft(at, |raft, log| match raft.transfer_leader(to, log) {
                Ok(()) | Err(TransferError::NotFit { .. }) => {}
                Err(error) => panic!("it leads, and the receiver is a voter: {error}"),
            });
        }
    }

    /// The connection between two nodes breaks: what is on its way is lost, and those of the two that run notice.
    pub fn disconnect(&mut self, one: usize, other: usize) {
        let (one_id, other_id) = (self.nodes[one].id, self.nodes[other].id);
        self.network.retain(|packet| {
            (packet.from, packet.to) != (one_id, other_id) && (packet.from, packet.to) != (other_id, one_id)
        });
        self.with_raft(one, |raft, log| raft.on_peer_disconnected(other_id, log));
        self.with_raft(other, |raft, log| raft.on_peer_disconnected(one_id, log));
    }

    pub fn connect(&mut self, one: usize, other: usize) {
        let (one_id, other_id) = (self.nodes[one].id, self.nodes[other].id);
        self.with_raft(one, |raft, _| raft.on_peer_connected(other_id));
        self.with_raft(other, |raft, _| raft.on_peer_connected(one_id));
    }

    /// From now on everything from one node to the other gets lost.
    pub fn block(&mut self, from: NodeId, to: NodeId) {
        self.blocked.insert((from, to));
    }

    pub fn isolate(&mut self, node: NodeId) {
        for other in self.nodes.iter().map(|node| node.id) {
            self.blocked.insert((node, other));
            self.blocked.insert((other, node));
        }
    }

    /// Links and disks work again.
    pub fn heal(&mut self) {
        self.blocked.clear();
        for node in &mut self.nodes {
            node.disk_hangs = false;
            node.log_room = usize::MAX;
        }
    }

    /// Delivers the packet at this place of the queue.
    pub fn deliver(&mut self, at: usize) {
        if let Some(packet) = self.network.remove(at) {
            self.receive(packet);
        }
    }

    /// Keeps a copy of a message, which `deliver_late` may deliver at any time, again and again.
    pub fn copy_to_late(&mut self, at: usize) {
        if let Some(packet) = self.network.get(at).cloned() {
            self.late.push(packet);
        }
    }

    /// Delivers a message that was sent long ago.
    pub fn deliver_late(&mut self, at: usize) {
        if let Some(packet) = self.late.get(at % self.late.len().max(1)).cloned() {
            self.receive(packet);
        }
    }

    /// Delivers everything, answers included, oldest first. True if there was anything.
    pub fn deliver_all(&mut self) -> bool {
        let had_any = !self.network.is_empty();
        while !self.network.is_empty() {
            self.deliver(0);
        }
        had_any
    }

    /// Delivers and syncs until nothing happens any more without time passing.
    pub fn settle(&mut self) {
        loop {
            let delivered = self.deliver_all();
            // Each of them syncs, not only the first that can.
            let synced = (0..self.nodes.len()).filter(|at| self.sync(*at)).count() > 0;
            if !delivered && !synced {
                return;
            }
        }
    }

    /// Makes the node campaign, and lets everything settle.
    pub fn elect(&mut self, at: usize) {
        while self.raft(at).role() == Role::Follower {
            self.tick(at);
        }
        self.settle();
    }

    /// The packet arrives. Returns what was decided about entries, and done.
    pub fn receive(&mut self, packet: Packet) -> AppendDecision {
        let at = self.at(packet.to);
        if self.nodes[at].raft.is_none() || self.blocked.contains(&(packet.from, packet.to)) {
            return AppendDecision::Drop;
        }
        self.trace.packet("recv", &packet);
        let Packet { from, message, entries, .. } = packet;
        let mut decision = AppendDecision::Drop;
        match message {
            Message::AppendEntries(append) => {
                let tips = tips(append.prev_lineage, &entries);
                self.with_raft(at, |raft, log| decision = raft.step_append(from, &append, &tips, log));
            }
            message => self.with_raft(at, |raft, log| raft.step(from, Speaker::default(), message, log)),
        }
        if let AppendDecision::Append { skip } = decision {
            let room = self.nodes[at].log_room.min(entries.len() - skip);
            for &id in &entries[skip..skip + room] {
                self.append(at, id);
            }
            self.nodes[at].log_room -= room;
            self.with_raft(at, |raft, log| raft.on_appended(log));
        }
        decision
    }

    fn append(&mut self, at: usize, id: EntryId) {
        let log = &mut self.nodes[at].log;
        self.seen.superseded += usize::from(id.index <= log.last_id().index);
        let before = log.id_at(id.index.prev()).unwrap_or(EntryId::ZERO);
        log.append_entry(id);
        self.checks.on_entry(before, id);
    }

    /// Calls into a node's Raft and carries out what it wants done. Nothing happens while the node is down.
    pub fn with_raft(&mut self, at: usize, call: impl FnOnce(&mut Raft, &SimLog)) {
        let node = &mut self.nodes[at];
        let Some(raft) = &mut node.raft else { return };
        let applied_index = raft.commit_index().min(node.apply_limit);
        raft.note_health(applied_index, node.log_room > 0, !node.is_slow);
        call(raft, &node.log);
        let ready = raft.ready();
        self.check(at);
        self.carry_out(at, ready);
    }

    fn carry_out(&mut self, at: usize, ready: Ready) {
        assert_eq!(ready.contradiction, None, "nobody forgets anything here");
        let node = &mut self.nodes[at];
        if let Some(raft) = &node.raft {
            node.announced = self.trace.became(node.id, node.announced, raft);
        }
        if let Some(hard_state) = ready.hard_state {
            node.log.append_hard_state(hard_state);
            node.hard_states.push_back((node.log.end(), hard_state));
        }
        for (to, message) in ready.messages {
            self.send(at, to, message);
        }
        let needed = self.nodes[at].log.end();
        for (to, message) in ready.messages_after_persist {
            assert!(self.nodes[at].log.durable_end() < needed, "nothing to wait for");
            self.nodes[at].held.push_back((needed, to, message));
        }
        for (read, index) in ready.reads_ready {
            self.checks.on_read_ready(read, index);
            self.trace.line(format!("{} may answer read {} at {index}", self.nodes[at].id.get(), read.0));
            self.reads_ready.push((read, index));
        }
        for read in ready.reads_failed {
            self.checks.on_read_failed(read);
            self.trace.line(format!("{} fails read {}", self.nodes[at].id.get(), read.0));
            self.reads_failed.push(read);
        }
        if ready.repaired {
            let node = &mut self.nodes[at];
            self.seen.repaired += 1;
            self.seen.entries_lost += node.lost.len();
            node.repair = None;
            node.lost.clear();
            self.trace.line(format!("{} is repaired", node.id.get()));
            self.with_raft(at, |raft, _| raft.end_repair());
        }
        if let Some(id) = ready.append_noop {
            self.append(at, id);
            self.with_raft(at, |raft, log| raft.on_appended(log));
        }
    }

    fn send(&mut self, at: usize, to: NodeId, message: Message) {
        let node = &self.nodes[at];
        self.checks.on_send(node, to, &message);
        let entries = match &message {
            Message::AppendEntries(append) => node.log.ids(append.first, append.last),
            _ => Vec::new(),
        };
        match &message {
            Message::AppendEntriesResponse { outcome: AppendOutcome::Rejected { .. }, .. } => self.seen.rejected += 1,
            Message::RequestVote { transfer: true, .. } => self.seen.transfer_campaigns += 1,
            Message::AppendEntries(append) if append.entries_count() == 0 => self.seen.empty_probes += 1,
            _ => {}
        }
        let packet = Packet { from: node.id, to, message, entries };
        self.trace.packet("send", &packet);
        if self.network.len() == NETWORK_MAX {
            self.network.pop_front();
        }
        self.network.push_back(packet);
    }

    fn check(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(raft) = &node.raft else { return };
        let (role, commit_index, term) = (raft.role(), raft.commit_index(), raft.term());
        let commit_before = std::mem::replace(&mut node.commit_seen, commit_index);
        let role_before = std::mem::replace(&mut node.role_seen, role);
        assert!(commit_index >= commit_before, "{} took back what it had committed", node.id);
        if role == Role::Leader && role_before != Role::Leader {
            self.seen.leaders += 1;
            self.checks.on_leader(&self.nodes[at], term);
        }
        self.seen.stepped_down += usize::from(role_before == Role::Leader && role != Role::Leader);
        if commit_index > commit_before {
            let own_disk = self.nodes[at].log.persisted_index();
            self.seen.commits += 1;
            self.seen.committed_ahead_of_own_disk += usize::from(role == Role::Leader && commit_index > own_disk);
            self.trace.line(format!("{} commits {commit_index}", self.nodes[at].id.get()));
            self.checks.on_commit(&self.nodes, at, commit_before, commit_index);
        }
        if role == Role::Leader {
            self.checks.on_leader_state(&self.nodes, at);
        }
    }
}
