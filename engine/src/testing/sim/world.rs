//! Simulated time: what happens when, and what each event does to nodes, connections and clients.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use net::deframer::Deframer;
use wal::testing::SimRng;
use wal::{SegmentSeq, SyncRequest};

use super::beats::Beats;
use super::checks::{self, ShardChecks};
use super::clients::{Answer, Clients};
use super::faults::{FAILED_SYNC, Undo};
use super::handover::HandOverChecks;
use super::host::Host;
use super::network::{Network, Packet};
use super::plan::{Plan, between};
use super::trace::Trace;
use super::verdict::{Failure, Report};
use crate::raft::{BirthRecord, Message};
use crate::replica::{self, Action, Outgoing};
use crate::types::{Index, NodeId, ShardId};
use crate::wire::{self, Lane};

/// Largest frame that a node takes. Unit: bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// One of so many votes is forgotten soon after, where damage is among the faults.
const DAMAGE_VOTER_ONE_IN: u64 = 8;

/// Longest pause before a replica's turn. Unit: us.
const TURN_US_MAX: u64 = 100;

/// Time that preparing a segment takes at most. Unit: us.
const PREPARE_US_MAX: u64 = 50_000;

/// Pause before a node without room tries to prepare a segment again. Unit: us.
const PREPARE_RETRY_US: u64 = 500_000;

/// Time within which a cluster without faults must have answered everything and agree. Unit: us.
const LIVENESS_US: u64 = 120_000_000;

/// Events of a run, beyond which it counts as one that does not end.
const EVENTS_MAX: u64 = 40_000_000;

/// A shard on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: usize,
    pub(super) shard: usize,
}

/// Something that happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    Tick {
        host: usize,
        life: u64,
    },
    Turn {
        at: Place,
        life: u64,
    },
    Packet(Packet),
    /// A node learns that its connection to a peer is up or broken.
    Notice {
        host: usize,
        life: u64,
        peer: usize,
        up: bool,
    },
    /// A node tries to connect.
    Connect {
        from: usize,
        to: usize,
        incarnation: u64,
    },
    SyncEnd {
        at: Place,
        life: u64,
        request: SyncRequest,
        fails: bool,
    },
    NoteSyncEnd {
        at: Place,
        life: u64,
    },
    SegmentEnd {
        at: Place,
        life: u64,
        seq: SegmentSeq,
    },
    RepairEnd {
        at: Place,
        life: u64,
    },
    LoadEnd {
        at: Place,
        life: u64,
        first: Index,
        last: Index,
    },
    BirthEnd {
        at: Place,
        life: u64,
        record: BirthRecord,
    },
    /// A client begins its next operation.
    Ask {
        client: usize,
    },
    /// A client's request arrives at a node.
    Arrive {
        op: u64,
        at: Place,
    },
    /// A node's answer arrives at the client.
    Answer {
        op: u64,
        answer: Answer,
    },
    /// A client waits no longer.
    GiveUp {
        op: u64,
    },
    /// A fault of this kind strikes.
    Strike(usize),
    Undo(Undo),
}

struct Scheduled {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// A cluster, its clients, and everything that is going to happen.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: SimRng,
    pub(super) now_us: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled_count: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) checks: Vec<ShardChecks>,
    pub(super) hand_overs: HandOverChecks,
    pub(super) beats: Beats,
    /// Faults strike no more.
    pub(super) is_calm: bool,
    pub(super) trace: Trace,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(plan: Plan, trace: Trace) -> Self {
        let mut rng = SimRng::new(plan.seed ^ 0x5EED);
        let hosts = (0..plan.nodes)
            .map(|number| {
                let skew = plan.tick_us * plan.clock_skew_permille / 1000;
                let tick_us = between(&mut rng, plan.tick_us - skew, plan.tick_us + skew);
                Host::new(&plan, number, tick_us)
            })
            .collect();
        Self {
            network: Network::new(&plan),
            clients: Clients::new(&plan),
            checks: (0..plan.shards).map(|_| ShardChecks::default()).collect(),
            hand_overs: HandOverChecks::default(),
            beats: Beats::default(),
            report: Report { seed: plan.seed, ..Report::default() },
            plan,
            rng,
            now_us: 0,
            queue: BinaryHeap::new(),
            scheduled_count: 0,
            hosts,
            is_calm: false,
            trace,
        }
    }

    /// The whole run.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for host in 0..self.hosts.len() {
            self.start(host)?;
        }
        for client in 0..self.plan.clients {
            let delay_us = between(&mut self.rng, 0, self.plan.think_us.1);
            self.schedule(delay_us, Event::Ask { client });
        }
        if self.plan.puts_back {
            return self.put_back();
        }
        self.schedule_faults();
        self.run_until(self.plan.chaos_us)?;
        self.calm_down()?;
        self.converge()?;
        self.check_void_writes()?;
        self.report.given_up_count = self.clients.judge()?;
        self.report.judged_count = self.plan.shards.into();
        self.wipe_majority()
    }

    /// Without faults everything is answered and all nodes agree, within bounded time.
    fn converge(&mut self) -> Result<(), String> {
        const STEP_US: u64 = 200_000;
        let end_us = self.now_us + LIVENESS_US;
        self.clients.finish();
        let mut is_reading = false;
        loop {
            self.run_until(self.now_us + STEP_US)?;
            if self.clients.are_idle() && self.disagreement().is_none() {
                if is_reading {
                    break;
                }
                // Everything once more, from every node.
                is_reading = true;
                let client = self.clients.read_all(self.plan.nodes);
                self.schedule(0, Event::Ask { client });
            }
            if self.now_us > end_us {
                let open = self.clients.open_count();
                let reason = self.disagreement().unwrap_or_else(|| format!("{open} operations are not answered"));
                return Err(format!("liveness: {} s after the last fault {reason}", LIVENESS_US / 1_000_000));
            }
        }
        for host in &self.hosts {
            for (shard, checks) in host.shards.iter().zip(&mut self.checks) {
                checks.check_digest(host.id, shard.replica.as_ref().ok_or("a node is down")?)?;
            }
        }
        Ok(())
    }

    /// Why the nodes do not agree yet.
    fn disagreement(&self) -> Option<String> {
        for (number, host) in self.hosts.iter().enumerate() {
            for (shard, here) in host.shards.iter().enumerate() {
                let Some(replica) = &here.replica else { return Some(format!("node {} is down", number + 1)) };
                if let Some(fault) = replica.fault() {
                    return Some(format!("node {} shard {shard} has stopped: {fault}", number + 1));
                }
                let view = replica.view();
                let last = self.hosts.iter().filter_map(|host| host.shards[shard].replica.as_ref());
                let last = last.map(|replica| replica.log().last_id()).max()?;
                let is_level = replica.log().last_id() == last
                    && view.applied_index == last.index
                    && view.persisted_index == last.index;
                if !is_level || view.leader.is_none() || view.repair.is_some() {
                    return Some(format!("node {} shard {shard} is not level: {view:?}, last is {last}", number + 1));
                }
            }
        }
        None
    }

    pub(super) fn run_until(&mut self, end_us: u64) -> Result<(), String> {
        while let Some(Reverse(next)) = self.queue.peek()
            && next.at_us <= end_us
        {
            let Some(Reverse(Scheduled { at_us, event, .. })) = self.queue.pop() else { break };
            self.now_us = at_us;
            self.report.events_count += 1;
            if self.report.events_count > EVENTS_MAX {
                return Err(format!("{EVENTS_MAX} events and no end"));
            }
            self.happen(event)?;
        }
        self.now_us = end_us;
        Ok(())
    }

    pub(super) fn schedule(&mut self, delay_us: u64, event: Event) {
        self.schedule_at(self.now_us + delay_us, event);
    }

    pub(super) fn schedule_at(&mut self, at_us: u64, event: Event) {
        self.scheduled_count += 1;
        self.queue.push(Reverse(Scheduled { at_us, number: self.scheduled_count, event }));
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        // A stopped process does nothing until it goes on; what is for it waits.
        if let Some(host) = event.process()
            && self.hosts[host].paused_until_us > self.now_us
        {
            let at_us = self.hosts[host].paused_until_us;
            self.schedule_at(at_us, event);
            return Ok(());
        }
        match event {
            Event::Tick { host, life } => self.tick(host, life),
            Event::Turn { at, life } => self.turn(at, life),
            Event::Packet(packet) => self.receive(packet),
            Event::Notice { host, life, peer, up } => self.notice(host, life, peer, up),
            Event::Connect { from, to, incarnation } => {
                self.connect(from, to, incarnation);
                Ok(())
            }
            Event::SyncEnd { at, life, request, fails } => self.end_sync(at, life, request, fails),
            Event::NoteSyncEnd { at, life } => self.end_note_sync(at, life),
            Event::SegmentEnd { at, life, seq } => self.end_prepare(at, life, seq),
            Event::RepairEnd { at, life } => self.end_repair(at, life),
            Event::LoadEnd { at, life, first, last } => self.end_load(at, life, first, last),
            Event::BirthEnd { at, life, record } => self.end_birth(at, life, record),
            Event::Ask { client } => {
                self.ask(client);
                Ok(())
            }
            Event::Arrive { op, at } => self.arrive(op, at),
            Event::Answer { op, answer } => {
                self.answer(op, answer);
                Ok(())
            }
            Event::GiveUp { op } => {
                self.give_up(op);
                Ok(())
            }
            Event::Strike(kind) => self.strike(kind),
            Event::Undo(undo) => self.undo(undo),
        }
    }

    pub(super) fn is_alive(&self, host: usize, life: u64) -> bool {
        self.hosts[host].is_up && self.hosts[host].life == life
    }

    fn tick(&mut self, host: usize, life: u64) -> Result<(), String> {
        if !self.is_alive(host, life) {
            return Ok(());
        }
        self.schedule(self.hosts[host].tick_us, Event::Tick { host, life });
        for shard in 0..self.hosts[host].shards.len() {
            self.deliver(Place { host, shard }, replica::Event::Tick)?;
        }
        Ok(())
    }

    fn turn(&mut self, at: Place, life: u64) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        self.hosts[at.host].shards[at.shard].turn_is_due = false;
        self.hand_over(at, replica::Event::Turn)?;
        let wants_turn = self.hosts[at.host].shards[at.shard].replica.as_ref().is_some_and(|r| r.wants_turn());
        if wants_turn {
            self.ask_for_turn(at);
        }
        Ok(())
    }

    fn ask_for_turn(&mut self, at: Place) {
        let host = &mut self.hosts[at.host];
        let life = host.life;
        if !std::mem::replace(&mut host.shards[at.shard].turn_is_due, true) {
            let delay_us = between(&mut self.rng, 0, TURN_US_MAX);
            self.schedule(delay_us, Event::Turn { at, life });
        }
    }

    /// Gives a replica an event, and makes sure that a turn follows.
    pub(super) fn deliver(&mut self, at: Place, event: replica::Event<'_>) -> Result<(), String> {
        self.hand_over(at, event)?;
        self.ask_for_turn(at);
        Ok(())
    }

    fn hand_over(&mut self, at: Place, event: replica::Event<'_>) -> Result<(), String> {
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() else { return Ok(()) };
        replica.handle(event);
        self.carry_out(at)?;
        self.checks[at.shard].observe(&mut self.hosts, at.host, at.shard)
    }

    /// Does what a replica asks for.
    pub(super) fn carry_out(&mut self, at: Place) -> Result<(), String> {
        let mut dropped = Vec::new();
        while let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut()
            && let Some(action) = replica.poll_action()
        {
            match action {
                Action::Send { to, message } => {
                    let to = usize::try_from(to.get() - 1).map_err(|_| "a stranger")?;
                    if !self.send(at, to, &message)?
                        && let Some(event) = replica::Event::of_unsent(NodeId::new(to as u64 + 1), &message)
                    {
                        dropped.push(event);
                    }
                }
                Action::Reply { ticket, reply } => {
                    let result = reply.result.map(|range| replica.body(&range).to_vec());
                    self.hosts[at.host].shards[at.shard].check_shown(
                        self.clients.kind(ticket.0),
                        &result,
                        reply.relayed,
                    )?;
                    self.reply(at, ticket.0, result)?;
                }
                Action::Sync(request) => self.begin_sync(at, request),
                Action::SyncNote => self.begin_note_sync(at),
                Action::PrepareSegment(seq) => {
                    let life = self.hosts[at.host].life;
                    let delay_us = between(&mut self.rng, 1, PREPARE_US_MAX);
                    self.schedule(delay_us, Event::SegmentEnd { at, life, seq });
                }
                Action::Load { first, last } => {
                    let life = self.hosts[at.host].life;
                    let delay_us = between(&mut self.rng, 1, PREPARE_US_MAX);
                    self.schedule(delay_us, Event::LoadEnd { at, life, first, last });
                }
                Action::FinishRepair => {
                    let life = self.hosts[at.host].life;
                    let delay_us = between(&mut self.rng, 1, PREPARE_US_MAX);
                    self.schedule(delay_us, Event::RepairEnd { at, life });
                }
                Action::PersistBirth(record) => {
                    let life = self.hosts[at.host].life;
                    let delay_us = between(&mut self.rng, 1, PREPARE_US_MAX);
                    self.schedule(delay_us, Event::BirthEnd { at, life, record });
                }
            }
        }
        for event in dropped {
            let unsent = match event {
                replica::Event::AppendDropped { to, prev_index } => Some((to, prev_index)),
                _ => None,
            };
            self.hand_over(at, event)?;
            if let (Some(unsent), Some(replica)) = (unsent, &self.hosts[at.host].shards[at.shard].replica) {
                checks::check_unsent(replica, unsent)?;
            }
        }
        Ok(())
    }

    /// Sends a message; `false` if there is no connection, or no room on it.
    fn send(&mut self, at: Place, to: usize, message: &Outgoing) -> Result<bool, String> {
        let lane = Lane::of(message);
        let link = self.network.link(at.host, to);
        if !link.is_up {
            return Ok(false);
        }
        let incarnation = link.incarnation;
        let mut bytes = Vec::new();
        let replica = self.hosts[at.host].shards[at.shard].replica.as_ref().ok_or("a message of a dead node")?;
        let shard = ShardId::new(u32::try_from(at.shard).map_err(|_| "too many shards")?);
        replica.encode(message, shard, &mut bytes).map_err(|error| format!("a message has no bytes: {error}"))?;
        if !link.takes(message, bytes.len(), self.plan.lane_bytes_limit) {
            self.count_fault("full lane");
            return Ok(false);
        }
        let may_repeat = matches!(message, Outgoing::Raft(_));
        let is_vote = matches!(message, Outgoing::Raft(Message::RequestVoteResponse { granted: true, .. }));
        if is_vote && self.plan.faults.damage.is_some() && self.rng.chance(1, DAMAGE_VOTER_ONE_IN) {
            let life = self.hosts[at.host].life;
            let delay_us = between(&mut self.rng, 1, 30_000);
            self.schedule(delay_us, Event::Undo(Undo::DamageVoter { at, life }));
        }
        self.check_successor(at, to, message)?;
        self.trace.detail(self.now_us, || format!("{} -> {} shard {} {message:?}", at.host + 1, to + 1, at.shard));
        let to_life = self.hosts[to].life;
        let shard = at.shard;
        let packet =
            Packet { from: at.host, to, shard, lane, incarnation, to_life, may_repeat, is_counted: true, bytes };
        self.beats.of(at.host, to, at.shard).note(&packet, message);
        self.dispatch(packet);
        Ok(true)
    }

    /// Puts a packet on its way, or holds it back.
    pub(super) fn dispatch(&mut self, packet: Packet) {
        let (from, to) = (packet.from, packet.to);
        if self.plan.faults.stale_message.is_some() && !self.is_calm {
            self.network.keep_some(&mut self.rng, &packet);
        }
        if self.network.link(from, to).is_blocked {
            if !self.network.link(from, to).hold(packet) {
                self.break_link(from, to);
            }
            return;
        }
        let (low, high) = self.plan.delay_us;
        let mut delay_us = between(&mut self.rng, low, high);
        if self.rng.chance(1, self.plan.spike_one_in) {
            delay_us *= 10;
        }
        if self.is_calm {
            // No cluster elects a leader for good whose messages take longer than elections.
            delay_us = delay_us.min(self.plan.steady_us());
        }
        let at_us = self.network.link(from, to).arrival_us(packet.lane, self.now_us, delay_us);
        self.schedule_at(at_us, Event::Packet(packet));
    }

    fn receive(&mut self, packet: Packet) -> Result<(), String> {
        let Packet { from, to, shard, incarnation, to_life, .. } = packet;
        self.network.link(from, to).arrived(&packet);
        if !self.is_alive(to, to_life) {
            return Ok(());
        }
        // Bytes of a connection that is gone: lost, or read late.
        if self.network.link(from, to).incarnation != incarnation && self.rng.chance(1, 2) {
            return Ok(());
        }
        let mut bytes = packet.bytes;
        if self.plan.faults.corrupt_frame.is_some() && !self.is_calm && self.rng.chance(1, 500) {
            self.count_fault("corrupt frame");
            let at = usize::try_from(self.rng.below(bytes.len() as u64)).map_err(|_| "a long frame")?;
            bytes[at] ^= 1 << self.rng.below(8);
        }
        let mut deframer = Deframer::new(FRAME_BYTES_MAX);
        deframer.feed(&bytes);
        let from_id = self.hosts[from].id;
        loop {
            let Ok(frame) = deframer.next_frame() else {
                // As the server does: bytes that make no sense end the connection.
                self.break_link(from, to);
                return Ok(());
            };
            let Some(frame) = frame else { return Ok(()) };
            let Ok(incoming) = wire::decode(&frame) else {
                self.break_link(from, to);
                return Ok(());
            };
            self.note_report(Place { host: to, shard }, from_id, &incoming);
            self.deliver(Place { host: to, shard }, incoming.into_event(from_id))?;
        }
    }

    fn begin_sync(&mut self, at: Place, request: SyncRequest) {
        let host = &mut self.hosts[at.host];
        let life = host.life;
        let fails = std::mem::take(&mut host.next_sync_fails);
        let slowness = host.slowness;
        if let Some(replica) = host.shards[at.shard].replica.as_mut() {
            replica.storage_mut().begin_sync(&request);
        }
        let (low, high) = self.plan.sync_us;
        let mut delay_us = between(&mut self.rng, low, high) * slowness;
        if self.is_calm {
            delay_us = delay_us.min(self.plan.steady_us());
        }
        self.schedule(delay_us, Event::SyncEnd { at, life, request, fails });
    }

    fn end_sync(&mut self, at: Place, life: u64, request: SyncRequest, fails: bool) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() else { return Ok(()) };
        let id = request.id;
        let result = if fails {
            Err(replica.storage_mut().fail_sync(id))
        } else {
            replica.storage_mut().complete_sync(id);
            Ok(())
        };
        if self.rng.chance(1, 4)
            && let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut()
        {
            replica.storage_mut().write_back();
        }
        self.deliver(at, replica::Event::Synced { id, result })?;
        if fails {
            self.count_fault(FAILED_SYNC);
            // Whoever runs the node sees that it stopped, and restarts it.
            self.restart_later(at.host);
        }
        Ok(())
    }

    fn end_prepare(&mut self, at: Place, life: u64, seq: SegmentSeq) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        if self.hosts[at.host].disk_is_full {
            self.schedule(PREPARE_RETRY_US, Event::SegmentEnd { at, life, seq });
            return self.deliver(at, replica::Event::SegmentUnavailable("simulated full disk".to_owned()));
        }
        if let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() {
            replica.storage_mut().prepare(seq);
        }
        self.deliver(at, replica::Event::SegmentPrepared)
    }

    fn end_load(&mut self, at: Place, life: u64, first: Index, last: Index) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        self.deliver(at, replica::Event::Loaded { first, last, result: Ok(()) })
    }

    fn end_repair(&mut self, at: Place, life: u64) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let shard = &mut self.hosts[at.host].shards[at.shard];
        shard.repair = None;
        shard.is_wiped = false;
        shard.seen.promised.clear();
        self.report.repairs_count += 1;
        self.trace.note(self.now_us, || format!("node {} shard {} is repaired", at.host + 1, at.shard));
        self.deliver(at, replica::Event::RepairFinished)
    }

    pub(super) fn count_fault(&mut self, name: &'static str) {
        *self.report.faults.entry(name).or_default() += 1;
    }

    /// The figures of a run that went well.
    pub(super) fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.simulated_us = self.now_us;
        report.leaders_count = self.checks.iter().map(|checks| checks.leaders_count() as u64).sum();
        report.committed_count = self.checks.iter().map(|checks| checks.committed_count() as u64).sum();
        report
    }

    /// What is known of a run that did not.
    pub(super) fn failure(&self, what: String) -> Failure {
        Failure {
            seed: self.plan.seed,
            at_us: self.now_us,
            what,
            plan: format!("{:?}", self.plan),
            trace: self.trace.lines(),
        }
    }
}

impl Event {
    /// The process that this happens to.
    fn process(&self) -> Option<usize> {
        match self {
            Self::Tick { host, .. } | Self::Notice { host, .. } => Some(*host),
            Self::Turn { at, .. } | Self::Arrive { at, .. } => Some(at.host),
            Self::SyncEnd { at, .. } | Self::NoteSyncEnd { at, .. } => Some(at.host),
            Self::SegmentEnd { at, .. } | Self::RepairEnd { at, .. } | Self::LoadEnd { at, .. } => Some(at.host),
            Self::BirthEnd { at, .. } => Some(at.host),
            Self::Packet(packet) => Some(packet.to),
            Self::Connect { from, .. } => Some(*from),
            Self::Ask { .. } | Self::Answer { .. } | Self::GiveUp { .. } | Self::Strike(_) | Self::Undo(_) => None,
        }
    }
}
