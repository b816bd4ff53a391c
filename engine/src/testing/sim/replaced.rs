//! A run of its own kind, with three nodes: a node's whole directory is replaced by an empty one, the node is repaired, and then
//! the old directory comes back.
//!
//! The third node is away while the leader and the replacement commit entries, and comes back together with the old directory
//! while the leader is down. The old directory knows nothing of these entries, and its node was a voter: if it were one still, the
//! two would elect a leader and forget them. In some runs the third node's disk is slow while the replacement is repaired, and
//! what was not durable there gets lost: whatever the repair rests on must be durable on a quorum without the replacement.
//!
//! In the end the node with the old directory must stop by itself; a person gives it an empty one, and everything is judged.

use wal::testing::SimStorage;

use super::plan::{between, pick};
use super::put_back::{LOOK_EVERY_US, MEETING_US};
use super::world::World;
use crate::raft::BirthRecord;
use crate::replica::Fault;

/// Longest time for a repair while a disk is slow. Then the disk is well again: a node whose syncs take longer than an election helps
/// to elect nobody, should the leader lose its office. Unit: us.
const SLOW_US: u64 = 60_000_000;

/// Longest time for a repair. Unit: us.
const REPAIR_US: u64 = 240_000_000;

/// Name of the fault.
const REPLACED: &str = "replaced, and put back";

/// A node's directory, moved aside.
struct Directory {
    disk: Option<SimStorage>,
    birth: BirthRecord,
}

impl World {
    /// The run, once all nodes are started. It ends early where chance makes it pointless.
    pub(super) fn return_replaced(&mut self) -> Result<(), String> {
        if self.await_leader(&[0, 1, 2])?.is_none() {
            return Ok(());
        }
        self.work(2_000_000)?;
        let replaced = pick(&mut self.rng, &[0, 1, 2]);
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(replaced, power_is_lost);
        let shard = &self.hosts[replaced].shards[0];
        let old = Directory { disk: shard.disk.clone(), birth: shard.birth.clone() };
        self.wipe(replaced);
        let others: Vec<usize> = (0..3).filter(|host| *host != replaced).collect();
        let Some((leader, _)) = self.await_leader(&others)? else { return Ok(()) };
        let third = 3 - replaced - leader;
        if self.rng.chance(1, 2) {
            self.hosts[third].slowness = pick(&mut self.rng, &[10, 100, 1000]);
        }
        self.start(replaced)?;
        self.await_repair(replaced, third)?;
        let power_is_lost = self.rng.chance(3, 4);
        self.kill(third, power_is_lost);
        self.hosts[third].slowness = 1;
        self.work(3_000_000)?;

        for host in [leader, replaced] {
            let power_is_lost = self.rng.chance(1, 2);
            self.kill(host, power_is_lost);
        }
        self.put_directory_back(replaced, old);
        self.start(replaced)?;
        self.start(third)?;
        self.work(5_000_000)?;
        self.start(leader)?;
        self.await_stop(replaced)?;
        self.kill(replaced, false);
        self.start(replaced)?;
        self.await_stop(replaced)?;
        self.count_fault(REPLACED);

        self.kill(replaced, false);
        self.wipe(replaced);
        self.start(replaced)?;
        self.conclude()
    }

    fn work(&mut self, longest_us: u64) -> Result<(), String> {
        let work_us = between(&mut self.rng, 100_000, longest_us);
        self.run_until(self.now_us + work_us)
    }

    fn await_repair(&mut self, host: usize, third: usize) -> Result<(), String> {
        let (well_us, end_us) = (self.now_us + SLOW_US, self.now_us + REPAIR_US);
        while self.hosts[host].shards[0].lacks_data() {
            if self.now_us > well_us {
                self.hosts[third].slowness = 1;
            }
            if self.now_us > end_us {
                return Err(format!("liveness: node {} got an empty directory and is not repaired", host + 1));
            }
            self.run_until(self.now_us + LOOK_EVERY_US)?;
        }
        Ok(())
    }

    /// The node with the old directory learns what it is. A leader that knows it is up.
    fn await_stop(&mut self, host: usize) -> Result<(), String> {
        let end_us = self.now_us + MEETING_US;
        while !matches!(self.fault_of(host), Some(Fault::Outdated(_))) {
            if self.now_us > end_us {
                let fault = self.fault_of(host);
                return Err(format!("node {} goes on with a directory that was replaced: {fault:?}", host + 1));
            }
            self.run_until(self.now_us + LOOK_EVERY_US)?;
        }
        Ok(())
    }

    fn put_directory_back(&mut self, host: usize, old: Directory) {
        self.trace.note(self.now_us, || format!("the old directory of node {} is put back", host + 1));
        let shard = &mut self.hosts[host].shards[0];
        shard.disk = old.disk;
        shard.birth = old.birth;
        shard.shown_revision = 0;
        shard.is_outdated = true;
    }
}
