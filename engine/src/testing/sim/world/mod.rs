//! Simulated time: what happens when, and what each event does to nodes, connections and clients.
//!
//! The world is state and steps. It knows nothing of the faults that strike it, of their aims, or of the course of a run: those
//! act on it from outside, and what they are going to do stands in its queue as values ([`FaultStep`]).

mod desks;
mod disks;
mod event;
mod links;
mod nodes;
mod requests;

pub(super) use disks::FAILED_SYNC;
pub(super) use event::{Event, FaultStep, Place};

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wal::testing::SimRng;

use super::beats::Beats;
use super::checks::{self, HandOverChecks, ShardChecks};
use super::clients::Clients;
use super::front::Waiter;
use super::host::Host;
use super::network::Network;
use super::plan::{Plan, between};
use super::trace::Trace;
use super::verdict::{Failure, Report};
use crate::raft::Stage;
use crate::replica::{self, Action};
use crate::types::NodeId;

/// Longest pause before a replica's turn. Unit: us.
const TURN_US_MAX: u64 = 100;

/// Events of a run, beyond which it counts as one that does not end.
const EVENTS_MAX: u64 = 40_000_000;

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
    /// For what happens between clients and shards.
    front_rng: SimRng,
    pub(super) now_us: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled_count: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) checks: Vec<ShardChecks>,
    pub(super) hand_overs: HandOverChecks,
    pub(super) beats: Beats,
    /// Directions that stay blocked, whatever opens others.
    pub(super) cut_for_good: Vec<(usize, usize)>,
    /// Faults strike no more.
    pub(super) is_calm: bool,
    pub(super) trace: Trace,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(plan: Plan, trace: Trace) -> Self {
        let mut rng = SimRng::new(plan.seed ^ 0x5EED);
        let hosts = (0..plan.nodes())
            .map(|number| {
                let skew = plan.tick_us * plan.clock_skew_permille / 1000;
                let tick_us = between(&mut rng, plan.tick_us - skew, plan.tick_us + skew);
                Host::new(&plan, number, tick_us)
            })
            .collect();
        Self {
            network: Network::new(&plan),
            clients: Clients::new(&plan),
            checks: (0..plan.shards).map(|_| ShardChecks::new(plan.origin)).collect(),
            hand_overs: HandOverChecks::default(),
            beats: Beats::default(),
            cut_for_good: Vec::new(),
            report: Report { seed: plan.seed, ..Report::default() },
            front_rng: SimRng::new(plan.seed ^ 0xF207),
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
        if let Some(at_us) = self.hangs_until(&event) {
            self.schedule_at(at_us, event);
            return Ok(());
        }
        match event {
            Event::Tick { host, life } => self.tick(host, life),
            Event::Turn { at, life } => self.turn(at, life),
            Event::Packet(packet) => self.receive(packet),
            Event::Replaced { host, life, peer } => self.replaced(host, life, peer),
            Event::LaneHasRoom { at, life, to, lane } => self.has_room(at, life, to, lane),
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
            Event::BirthMarkEnd { at, life, record } => {
                self.end_birth_mark(at, life, record);
                Ok(())
            }
            Event::BirthEnd { at, life, record } => self.end_birth(at, life, record),
            Event::Ask { client } => {
                self.ask(client);
                Ok(())
            }
            Event::Arrive { attempt, at } => self.arrive(attempt, at),
            Event::Between { host, life, from, to } => self.arrive_between(host, life, from, to),
            Event::Unwanted { host, life, core } => self.tell_unwanted(host, life, core),
            Event::Answer { attempt, answer } => {
                self.answer(attempt, answer);
                Ok(())
            }
            Event::GiveUp { op } => {
                self.give_up(op);
                Ok(())
            }
            Event::Start { host, life } => self.start_again(host, life),
            Event::Unblock(pairs) => {
                self.unblock(&pairs);
                Ok(())
            }
            Event::Break { from, to, incarnation } => {
                if self.network.link(from, to).incarnation == incarnation {
                    self.break_link(from, to);
                }
                Ok(())
            }
            Event::DamageVoter { at, life } => {
                self.damage_voter(at, life);
                Ok(())
            }
            Event::Fault(step) => step.go_on(self),
        }
    }

    /// When the core goes on that this happens on, if it hangs.
    fn hangs_until(&self, event: &Event) -> Option<u64> {
        let host = event.process()?;
        let (hung, until_us) = self.hosts[host].hung.filter(|(_, until_us)| *until_us > self.now_us)?;
        let front = &self.hosts[host].front;
        let core = match event {
            Event::Between { to, .. } => *to,
            Event::Unwanted { core, .. } => *core,
            Event::Arrive { attempt, .. } => {
                let client = self.clients.client_of(attempt.op);
                front.conn_of(client)?.0
            }
            other => front.owner(other.shard()?),
        };
        (core == hung).then_some(until_us)
    }

    fn tick(&mut self, host: usize, life: u64) -> Result<(), String> {
        if !self.is_alive(host, life) {
            return Ok(());
        }
        self.schedule(self.hosts[host].tick_us, Event::Tick { host, life });
        self.tell_entries_that_wait(host)?;
        let hung = self.hosts[host].hung.map(|(core, _)| core);
        for shard in 0..self.hosts[host].shards.len() {
            if hung == Some(self.hosts[host].front.owner(shard)) {
                continue;
            }
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

    /// Gives a replica an event, and nothing more.
    pub(super) fn hand_over(&mut self, at: Place, event: replica::Event<'_>) -> Result<(), String> {
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() else { return Ok(()) };
        replica.handle(event);
        self.carry_out(at)?;
        let shard = &self.hosts[at.host].shards[at.shard];
        let would_show = shard.check_would_show().and_then(|()| shard.check_noted());
        would_show.map_err(|what| format!("node {} shard {}: {what}", at.host + 1, at.shard))?;
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
                    if let Err(why) = self.send(at, to, &message)? {
                        dropped.extend(replica::Event::of_unsent(NodeId::new(to as u64 + 1), &message, why));
                    }
                }
                Action::Reply { ticket, reply } => {
                    let part = reply.part.as_ref().map(|range| replica.body(range)).into_owned();
                    self.reply_part(at, Waiter::Desk(ticket), part, reply.relayed)?;
                }
                Action::OwnReply { number, reply } => {
                    let part = reply.part.as_ref().map(|range| replica.body(range)).into_owned();
                    self.reply_part(at, Waiter::Own(number), part, reply.relayed)?;
                }
                Action::Sync(request) => self.begin_sync(at, request),
                Action::SyncNote => self.begin_note_sync(at),
                Action::PrepareSegment(seq) => {
                    self.begin_file_work(at, |life| Event::SegmentEnd { at, life, seq });
                }
                Action::Load { first, last } => {
                    self.begin_file_work(at, |life| Event::LoadEnd { at, life, first, last });
                }
                Action::FinishRepair => {
                    self.begin_file_work(at, |life| Event::RepairEnd { at, life });
                }
                Action::PersistBirth(record) if record.stage == Stage::Replaced => {
                    self.begin_file_work(at, |life| Event::BirthMarkEnd { at, life, record });
                }
                Action::PersistBirth(record) => {
                    self.begin_file_work(at, |life| Event::BirthEnd { at, life, record });
                }
                Action::RemoveDropped => self.begin_removal(at),
                Action::Link(nodes) => self.link(at, nodes),
                Action::Tell(remark) => self.note_remark(at, &remark)?,
            }
        }
        for event in dropped {
            let unsent = match event {
                replica::Event::AppendDropped { to, prev_index, .. } => Some((to, prev_index)),
                _ => None,
            };
            self.hand_over(at, event)?;
            if let (Some(unsent), Some(replica)) = (unsent, &self.hosts[at.host].shards[at.shard].replica) {
                checks::check_unsent(replica, unsent)?;
            }
        }
        Ok(())
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
