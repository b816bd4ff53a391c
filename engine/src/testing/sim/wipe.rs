//! Nodes that lose everything they had on disk, and start as new ones.
//!
//! * **At random**: any node, as long as no other one lacks what it promised. It must come back by itself.
//! * **With an aim**, in a cluster of three: one follower is down while entries are committed by the leader and the other one.
//!   Then that other one loses its disk, the leader dies, and both followers come back. They have nothing of what was
//!   committed, and are two of three: if the wiped one voted they would elect a leader and forget it all.
//! * **After a run**, in a cluster of three: two nodes lose their disks. That is more than is promised. They must elect nobody,
//!   and say why. The run ends there.

use super::files::Files;
use super::host::{birth_record, new_disk, repair_of_new_log};
use super::plan::{between, pick};
use super::world::{Event, FaultStep, World};
use crate::types::Index;

/// Longest wait for entries to be committed while a follower is down. Unit: us.
const COMMIT_US_MAX: u64 = 3_000_000;

/// Polling interval while it waits for that. Unit: us.
const LOOK_EVERY_US: u64 = 5_000;

/// Longest time for which the leader stays away. Unit: us.
const AWAY_US_MAX: u64 = 8_000_000;

/// Time within which nodes that nobody disturbs must say that a majority lost its data. Unit: us.
const SAY_SO_US: u64 = 60_000_000;

/// One in this many runs of a cluster of three ends with two nodes wiped.
const MAJORITY_ONE_IN: u64 = 3;

/// A follower is down, and the other one is going to lose its disk.
#[derive(Clone, Copy, Debug)]
struct WipePlan {
    shard: usize,
    leader: usize,
    /// The leader's.
    life: u64,
    /// The follower that is down, and its life before.
    away: usize,
    away_life: u64,
    /// The wipe waits for this to be committed.
    commit_index: Index,
    end_us: u64,
}

impl FaultStep for WipePlan {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.go_on_wiping(*self)
    }
}

impl World {
    /// The disk of some node is wiped while it is down. Says whether it was.
    pub(super) fn wipe_some(&mut self) -> Result<bool, String> {
        let host = usize::try_from(self.rng.below(self.hosts.len() as u64)).expect("few");
        let may_wipe = self.may_wipe(host);
        if may_wipe {
            self.take_down(host);
            if self.lose_files(host) {
                self.count_fault("files lost");
                return Ok(false);
            }
            self.wipe(host);
        }
        Ok(may_wipe)
    }

    /// Wipes this node's disk, if others can give back what it loses. Says whether it did.
    pub(super) fn wipe_one(&mut self, host: usize) -> bool {
        let may_wipe = self.may_wipe(host);
        if may_wipe {
            self.take_down(host);
            self.wipe(host);
        }
        may_wipe
    }

    fn take_down(&mut self, host: usize) {
        if self.hosts[host].is_up {
            self.kill(host, false);
            self.restart_later(host);
        }
    }

    /// Others can give back what a node loses.
    pub(super) fn may_wipe(&self, host: usize) -> bool {
        (0..self.hosts[host].shards.len()).all(|shard| self.may_lose(host, shard))
    }

    /// Nobody lacks anything.
    fn nobody_lacks_data(&self) -> bool {
        let lacks = |host: &super::host::Host| host.shards.iter().any(super::host::ShardHost::lacks_data);
        !self.hosts.iter().any(lacks)
    }

    /// A node that is down loses its disk.
    pub(super) fn wipe(&mut self, host: usize) {
        self.trace.note(self.now_us, || format!("node {} loses its disk", host + 1));
        let wipes = self.rng.next_u64() >> 32;
        self.hosts[host].must_refuse = false;
        self.remove_directory(host);
        for (number, shard) in self.hosts[host].shards.iter_mut().enumerate() {
            let number = u32::try_from(number).expect("few");
            shard.disk = Some(new_disk(&self.plan, host, number, wipes));
            shard.kept = None;
            shard.birth = birth_record(&self.plan, host, number, wipes);
            shard.repair = repair_of_new_log(&self.plan, host);
            shard.is_damaged = false;
            shard.is_wiped = true;
            shard.is_outdated = false;
            shard.files = Files::NONE;
        }
    }

    /// A follower goes down, and what is committed from now on is on the two others.
    pub(super) fn begin_wiping(&mut self, leader: usize, shard: usize) -> Result<bool, String> {
        let followers: Vec<usize> = (0..self.hosts.len()).filter(|host| *host != leader).collect();
        let away = pick(&mut self.rng, &followers);
        if !self.nobody_lacks_data() {
            return Ok(false);
        }
        self.kill(away, false);
        let commit_index = self.commit_index(leader, shard).unwrap_or(Index::ZERO);
        let plan = WipePlan {
            shard,
            leader,
            life: self.hosts[leader].life,
            away,
            away_life: self.hosts[away].life,
            commit_index: commit_index.plus(between(&mut self.rng, 1, 5)),
            end_us: self.now_us + COMMIT_US_MAX,
        };
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(plan)));
        Ok(true)
    }

    /// Waits until something was committed without the follower that is down; then the other one is wiped.
    fn go_on_wiping(&mut self, plan: WipePlan) -> Result<(), String> {
        let WipePlan { shard, leader, life, away, away_life, commit_index, end_us } = plan;
        let is_on = !self.is_calm && self.is_alive(leader, life) && !self.hosts[away].is_up;
        let is_committed = self.commit_index(leader, shard).is_some_and(|index| index >= commit_index);
        if is_on && !is_committed && self.now_us < end_us {
            self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(plan)));
            return Ok(());
        }
        let wiped = 3 - leader - away;
        if is_on && is_committed && self.nobody_lacks_data() {
            self.kill(wiped, false);
            self.wipe(wiped);
            self.kill(leader, false);
            self.start(wiped)?;
            let leader_life = self.hosts[leader].life;
            let delay_us = between(&mut self.rng, 10_000, AWAY_US_MAX);
            self.schedule(delay_us, Event::Start { host: leader, life: leader_life });
        }
        if !self.is_calm && self.hosts[away].life == away_life {
            self.start(away)?;
        }
        Ok(())
    }

    fn commit_index(&self, host: usize, shard: usize) -> Option<Index> {
        Some(self.hosts[host].shards[shard].replica.as_ref()?.view().commit_index)
    }

    /// Two of three nodes lose their disks after all else is done: nobody may be elected, and everyone says why.
    ///
    /// The third node is away at first in some runs: the two alone look like the beginning of a cluster.
    pub(super) fn wipe_majority(&mut self) -> Result<(), String> {
        if !self.are_three_voters() || self.plan.faults.wipe.is_none() || !self.rng.chance(1, MAJORITY_ONE_IN) {
            return Ok(());
        }
        let kept = usize::try_from(self.rng.below(3)).expect("few");
        let wiped: Vec<usize> = (0..3).filter(|host| *host != kept).collect();
        for host in &wiped {
            self.kill(*host, false);
            self.wipe(*host);
        }
        if self.rng.chance(1, 2) {
            self.kill(kept, false);
        }
        for host in &wiped {
            self.start(*host)?;
        }
        let alone_us = between(&mut self.rng, 1, 5_000_000);
        self.run_until(self.now_us + alone_us)?;
        self.start(kept)?;
        self.run_until(self.now_us + SAY_SO_US)?;
        for host in 0..3 {
            for shard in 0..self.hosts[host].shards.len() {
                self.check_says_so(host, shard, kept)?;
            }
        }
        self.count_fault("two of three wiped");
        Ok(())
    }

    fn check_says_so(&self, host: usize, shard: usize, kept: usize) -> Result<(), String> {
        let replica = self.hosts[host].shards[shard].replica.as_ref().ok_or("a node is down")?;
        let view = replica.view();
        let may_lead = view.is_leader || view.leader.is_some() || (host != kept && view.repair.is_none());
        if may_lead || !view.lost.is_majority {
            return Err(format!("two of three lost their disks, and node {} does not say so: {view:?}", host + 1));
        }
        Ok(())
    }
}
