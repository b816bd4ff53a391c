//! Orderly stops, requested transfers and leaders with sick disks; and what is asked of hand-overs.
//!
//! * Nobody is told to take over who said of itself that it could not.
//! * A write that clients were told took no effect is not in the log: of each write the log has no more copies than were sent
//!   without such an answer.
//!
//! That nothing is appended behind a `TimeoutNow` is among the other checks of replicas.

use std::collections::BTreeMap;

use super::faults::Undo;
use super::plan::{between, pick};
use super::world::{Event, Place, World};
use crate::log_store::KIND_COMMANDS;
use crate::raft::{Health, Message};
use crate::replica::{self, Outgoing};
use crate::state_machine::batch;
use crate::types::{Index, NodeId, Term};
use crate::wire::Incoming;

/// Longest time until a node that stops takes no more requests. Unit: us.
const SERVE_US_MAX: u64 = 1_500_000;

/// Longest time for which it then answers what it has taken. Unit: us.
const ANSWER_US_MAX: u64 = 1_000_000;

/// Longest time that a leader's disk is sick. Unit: us.
const SICK_US_MAX: u64 = 8_000_000;

/// What followers told the leaders of each shard: leader (from 0), shard, term, follower.
#[derive(Debug, Default)]
pub(super) struct HandOverChecks {
    reports: BTreeMap<(usize, usize, Term, NodeId), Health>,
}

impl World {
    /// A node begins to stop.
    pub(super) fn stop_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        if !self.hosts[host].is_up {
            return Ok(false);
        }
        let life = self.hosts[host].life;
        self.trace.note(self.now_us, || format!("node {} is to stop in order", host + 1));
        for shard in 0..self.hosts[host].shards.len() {
            let at = Place { host, shard };
            if let Some(replica) = self.hosts[host].shards[shard].replica.as_mut() {
                replica.hand_over();
            }
            self.carry_out(at)?;
            self.deliver(at, replica::Event::Turn)?;
        }
        let delay_us = between(&mut self.rng, 1_000, SERVE_US_MAX);
        self.schedule(delay_us, Event::Undo(Undo::Close { host, life }));
        Ok(true)
    }

    /// It takes no more requests.
    pub(super) fn close_node(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life || !self.hosts[host].is_up {
            return;
        }
        self.hosts[host]
            .shards
            .iter_mut()
            .filter_map(|shard| shard.replica.as_mut())
            .for_each(|replica| replica.close());
        let delay_us = between(&mut self.rng, 1_000, ANSWER_US_MAX);
        self.schedule(delay_us, Event::Undo(Undo::End { host, life }));
    }

    /// It refuses what it has not answered, and ends.
    pub(super) fn end_stop(&mut self, host: usize, life: u64) -> Result<(), String> {
        if self.hosts[host].life != life || !self.hosts[host].is_up {
            return Ok(());
        }
        for shard in 0..self.hosts[host].shards.len() {
            if let Some(replica) = self.hosts[host].shards[shard].replica.as_mut() {
                replica.refuse_all();
            }
            self.carry_out(Place { host, shard })?;
            let left = &self.hosts[host].shards[shard].waiting;
            if !left.is_empty() {
                return Err(format!(
                    "node {} stops in order and leaves operations {left:?} without an answer",
                    host + 1
                ));
            }
        }
        self.kill(host, false);
        if self.is_calm {
            return self.start(host);
        }
        self.restart_later(host);
        Ok(())
    }

    /// Some leader is asked to hand over to some node.
    pub(super) fn transfer_some(&mut self) -> Result<bool, String> {
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        let to = self.random_host();
        let Some(host) = (0..self.hosts.len()).find(|host| self.leads(*host, shard).is_some()) else {
            return Ok(false);
        };
        self.transfer(Place { host, shard }, to)
    }

    /// The disk of a leader gets full or very slow.
    pub(super) fn spoil_leaders_disk(&mut self) -> Result<bool, String> {
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        let Some(host) = (0..self.hosts.len()).find(|host| self.leads(*host, shard).is_some()) else {
            return Ok(false);
        };
        let undo = if self.rng.chance(1, 2) {
            self.hosts[host].disk_is_full = true;
            Undo::Room { host }
        } else {
            self.hosts[host].slowness = pick(&mut self.rng, &[50, 300, 2_000]);
            Undo::Fast { host }
        };
        self.trace.note(self.now_us, || format!("the disk of node {}, a leader, is sick", host + 1));
        let for_us = between(&mut self.rng, 100_000, SICK_US_MAX);
        self.schedule(for_us, Event::Undo(undo));
        Ok(true)
    }

    /// A follower tells its leader how it is.
    pub(super) fn note_report(&mut self, at: Place, from: NodeId, incoming: &Incoming<'_>) {
        if let Incoming::Message(Message::HeartbeatResponse { term, health, .. }) = incoming
            && self.leads(at.host, at.shard) == Some(*term)
        {
            self.hand_overs.reports.insert((at.host, at.shard, *term, from), *health);
        }
    }

    /// Whoever is told to take over said last that it could.
    pub(super) fn check_successor(&self, at: Place, to: usize, message: &Outgoing) -> Result<(), String> {
        let Outgoing::Raft(Message::TimeoutNow { term, .. }) = message else { return Ok(()) };
        let report = self.hand_overs.reports.get(&(at.host, at.shard, *term, self.hosts[to].id));
        match report {
            Some(Health { may_lead: true, has_room: true, disk_keeps_up: true, .. }) => Ok(()),
            report => Err(format!("node {} tells {} to take over, which said {report:?}", at.host + 1, to + 1)),
        }
    }

    /// No write is in the log more often than it was sent without being told that it took no effect.
    pub(super) fn check_void_writes(&self) -> Result<(), String> {
        for shard in 0..self.hosts[0].shards.len() {
            let replica = self.hosts[0].shards[shard].replica.as_ref().ok_or("a node is down")?;
            let mut limits: BTreeMap<Vec<u8>, u64> = self.clients.writes_with_limits(shard).collect();
            for index in (replica.log().first_index().get()..=replica.view().applied_index.get()).map(Index::new) {
                let entry = replica.log().entry(index).map_err(|error| error.to_string())?.ok_or("an entry is gone")?;
                if entry.kind() != KIND_COMMANDS {
                    continue;
                }
                let commands = batch::commands_of(entry.payload()).map_err(|error| error.to_string())?;
                for batched in commands {
                    let command = batched.map_err(|error| error.to_string())?.command;
                    match limits.get_mut(command) {
                        Some(0) => {
                            return Err(format!(
                                "a write in entry {index} of shard {shard} was said to take no effect"
                            ));
                        }
                        Some(left) => *left -= 1,
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }
}
