//! Orderly stops, requested transfers and leaders with sick disks; and what is asked of all of them after a run.
//!
//! A write that clients were told took no effect is not in the log: of each write the log has no more copies than were sent
//! without such an answer. What is asked of hand-overs on the way stands in `checks`.

use std::collections::BTreeMap;

use super::plan::{between, pick};
use super::recovery::{Fast, Room};
use super::world::{Event, FaultStep, Place, World};
use crate::log_store::KIND_COMMANDS;
use crate::replica;
use crate::state_machine::batch;
use crate::types::Index;

/// Longest time until a node that stops takes no more requests. Unit: us.
const SERVE_US_MAX: u64 = 1_500_000;

/// Longest time for which it then answers what it has taken. Unit: us.
const ANSWER_US_MAX: u64 = 1_000_000;

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

/// An orderly stop ends.
#[derive(Debug)]
struct End {
    host: usize,
    life: u64,
}

impl FaultStep for End {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.end_stop(self.host, self.life)
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
        self.schedule(delay_us, Event::Fault(Box::new(End { host, life })));
        Ok(())
    }

    /// It refuses what it has not answered, and ends.
    fn end_stop(&mut self, host: usize, life: u64) -> Result<(), String> {
        if self.hosts[host].life != life || !self.hosts[host].is_up {
            return Ok(());
        }
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
