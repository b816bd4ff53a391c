//! Orderly stops, requested transfers and leaders with sick disks; and what is asked of all of them after a run.
//!
//! A node that stopped in order has what its notes said, whatever happens to its host then.
//!
//! A write that clients were told took no effect is not in the log: of each write the log has no more copies than were sent
//! without such an answer. What is asked of hand-overs on the way stands in `checks`.

use std::collections::BTreeMap;

use wal::Storage;

use super::host::ShardHost;
use super::plan::{between, pick};
use super::recovery::{Fast, Room};
use super::world::{Event, FaultStep, Place, World};
use crate::log_store::KIND_COMMANDS;
use crate::replica::{self, Replica};
use crate::state_machine::batch;
use crate::types::{EntryId, Index};

/// Longest time until a node that stops takes no more requests. Unit: us.
const SERVE_US_MAX: u64 = 1_500_000;

/// Longest time for which it then answers what it has taken. Unit: us.
const ANSWER_US_MAX: u64 = 1_000_000;

/// Pause between two looks at whether a node that stops has settled. Unit: us.
const SETTLE_STEP_US: u64 = 10_000;

/// Longest time for which it waits for that. Unit: us.
const SETTLE_US_MAX: u64 = 1_000_000;

/// Longest time that a leader's disk is sick. Unit: us.
const SICK_US_MAX: u64 = 8_000_000;

/// An orderly stop goes on: requests are refused from here on.
#[derive(Debug)]
struct Close {
    host: usize,
    life: u64,
}

impl FaultStep for Close {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.close_node(self.host, self.life)
    }
}

/// An orderly stop waits for the notes beside the logs, and then ends.
#[derive(Debug)]
struct Settle {
    host: usize,
    life: u64,
    /// The process waits no longer. Unit: us.
    until_us: u64,
}

impl FaultStep for Settle {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.settle(*self)
    }
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
            self.hand_over(at, replica::Event::HandOver)?;
            self.hosts[host].shards[shard].note_told_to_stop();
            self.deliver(at, replica::Event::Turn)?;
        }
        let delay_us = between(&mut self.rng, 1_000, SERVE_US_MAX);
        self.schedule(delay_us, Event::Fault(Box::new(Close { host, life })));
        Ok(true)
    }

    /// It takes no more requests.
    fn close_node(&mut self, host: usize, life: u64) -> Result<(), String> {
        if self.hosts[host].life != life || !self.hosts[host].is_up {
            return Ok(());
        }
        for shard in 0..self.hosts[host].shards.len() {
            self.hand_over(Place { host, shard }, replica::Event::Close)?;
        }
        let delay_us = between(&mut self.rng, 1_000, ANSWER_US_MAX);
        let until_us = self.now_us + delay_us + SETTLE_US_MAX;
        self.schedule(delay_us, Event::Fault(Box::new(Settle { host, life, until_us })));
        Ok(())
    }

    /// Its notes are made durable, for a bounded time.
    fn settle(&mut self, step: Settle) -> Result<(), String> {
        let Settle { host, life, until_us } = step;
        if self.hosts[host].life != life || !self.hosts[host].is_up {
            return Ok(());
        }
        for shard in 0..self.hosts[host].shards.len() {
            self.hand_over(Place { host, shard }, replica::Event::Settle)?;
        }
        let mut replicas = self.hosts[host].shards.iter().filter_map(|shard| shard.replica.as_ref());
        if self.now_us >= until_us || replicas.all(Replica::is_settled) {
            return self.end_stop(host);
        }
        self.schedule(SETTLE_STEP_US, Event::Fault(Box::new(step)));
        Ok(())
    }

    /// It refuses what it has not answered, and ends. A host may lose power right after that: what was noted is durable.
    fn end_stop(&mut self, host: usize) -> Result<(), String> {
        let settled: Vec<Option<EntryId>> = self.hosts[host].shards.iter().map(settled_note).collect();
        for shard in 0..self.hosts[host].shards.len() {
            self.hand_over(Place { host, shard }, replica::Event::Stop)?;
            let left = &self.hosts[host].shards[shard].waiting;
            if !left.is_empty() {
                return Err(format!(
                    "node {} stops in order and leaves operations {left:?} without an answer",
                    host + 1
                ));
            }
        }
        self.say_goodbye_to_all(host);
        let power_is_lost = !self.is_calm && self.plan.faults.power_loss.is_some() && self.rng.chance(1, 2);
        self.kill(host, power_is_lost);
        for (shard, settled) in settled.into_iter().enumerate() {
            let noted = self.hosts[host].shards[shard].disk.as_ref().map(|disk| disk.noted().committed);
            if let Some(settled) = settled
                && noted.is_none_or(|noted| noted.index < settled.index)
            {
                return Err(format!(
                    "node {} stopped in order with a note of {settled} and has one of {noted:?} now, power lost: {power_is_lost}",
                    host + 1
                ));
            }
        }
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
        let end: Box<dyn FaultStep> = if self.rng.chance(1, 2) {
            self.hosts[host].disk_is_full = true;
            Box::new(Room { host })
        } else {
            self.hosts[host].slowness = pick(&mut self.rng, &[50, 300, 2_000]);
            Box::new(Fast { host })
        };
        self.trace.note(self.now_us, || format!("the disk of node {}, a leader, is sick", host + 1));
        let for_us = between(&mut self.rng, 100_000, SICK_US_MAX);
        self.schedule(for_us, Event::Fault(end));
        Ok(true)
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

/// What a replica noted as committed and has made durable, as far as it says so.
fn settled_note(shard: &ShardHost) -> Option<EntryId> {
    let replica = shard.replica.as_ref()?;
    let is_durable = replica.is_settled() && replica.fault().is_none() && replica.stats().note_syncs_failed == 0;
    is_durable.then(|| replica.log().noted().committed)
}
