//! A core of a node hangs, as one does whose store into a mapped page waits for the disk, while the others go on.
//!
//! Nothing happens on it meanwhile. The other cores notice that its shards say nothing, and answer those who wait for them; what it still
//! says afterwards finds nobody. Only nodes with several cores, of which another one is there to say so.

use super::plan::between;
use super::world::{Event, FaultStep, World};
use crate::types::ShardId;

/// Longest time that a core hangs. Unit: us.
pub(super) const HANGS_US_MAX: u64 = 3_000_000;

/// After so long the others notice. Unit: us.
const NOTICED_US: (u64, u64) = (20_000, 1_000_000);

/// The other cores notice that this one hangs, if it still does.
#[derive(Debug)]
struct Silent {
    host: usize,
    life: u64,
    core: usize,
}

impl FaultStep for Silent {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        let Self { host, life, core } = *self;
        let hangs = world.hosts[host].hung.is_some_and(|(hung, until_us)| hung == core && until_us > world.now_us);
        if !hangs || !world.is_alive(host, life) || world.is_calm {
            return Ok(());
        }
        for (other, shard) in world.watched(host, core) {
            for told in world.hosts[host].front.fell_silent(other, shard)? {
                world.tell(told);
            }
        }
        world.count_fault("core silent");
        let (_, until_us) = world.hosts[host].hung.expect("it hangs");
        let late_us = between(&mut world.rng, 1, NOTICED_US.0);
        world.schedule_at(until_us + late_us, Event::Fault(Box::new(Speaks { host, life, core })));
        Ok(())
    }
}

/// They notice that it goes on.
#[derive(Debug)]
struct Speaks {
    host: usize,
    life: u64,
    core: usize,
}

impl FaultStep for Speaks {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        if world.is_alive(self.host, self.life) {
            for (other, shard) in world.watched(self.host, self.core) {
                world.hosts[self.host].front.speaks(other, shard);
            }
        }
        Ok(())
    }
}

impl World {
    /// A core hangs for a while.
    pub(super) fn hang_some_core(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let cores = self.plan.front.cores;
        if !self.hosts[host].is_up || self.hosts[host].hung.is_some() || cores < 2 {
            return Ok(false);
        }
        let core = usize::try_from(self.rng.below(cores as u64)).expect("few");
        let for_us = between(&mut self.rng, 1_000, HANGS_US_MAX);
        self.trace.note(self.now_us, || format!("core {core} of node {} hangs for {for_us} us", host + 1));
        self.hosts[host].hung = Some((core, self.now_us + for_us));
        let noticed_us = between(&mut self.rng, NOTICED_US.0, NOTICED_US.1);
        let life = self.hosts[host].life;
        self.schedule(noticed_us, Event::Fault(Box::new(Silent { host, life, core })));
        self.schedule(for_us, Event::Fault(Box::new(GoesOn { host, life })));
        Ok(true)
    }

    /// The other cores of a node, each with every shard of this one.
    fn watched(&self, host: usize, core: usize) -> Vec<(usize, ShardId)> {
        let front = &self.hosts[host].front;
        let shards = (0..self.hosts[host].shards.len()).filter(|shard| front.owner(*shard) == core);
        let shards: Vec<_> = shards.map(|shard| ShardId::new(u32::try_from(shard).expect("few"))).collect();
        let others = (0..self.plan.front.cores).filter(|other| *other != core);
        others.flat_map(|other| shards.iter().map(move |shard| (other, *shard))).collect()
    }
}

/// It hangs no longer.
#[derive(Debug)]
struct GoesOn {
    host: usize,
    life: u64,
}

impl FaultStep for GoesOn {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        if world.is_alive(self.host, self.life) {
            world.hosts[self.host].hung = None;
        }
        Ok(())
    }
}
