//! A node that joins: it starts with an empty log while faults strike, leaders are asked to make it a learner, and it must get
//! everything. It counts in no quorum, which the checks hold the voters to.

use super::plan::between;
use super::world::{Event, FaultStep, Place, World};
use crate::replica;

/// Time between two looks at who is a member. Unit: us.
const LOOK_EVERY_US: u64 = 100_000;

/// Name of the fault.
const JOINED: &str = "learner added";

/// In every shard the node becomes a learner. It is asked for time and again, because leaders that are deposed forget it.
#[derive(Debug, Default)]
struct Join {
    /// Shards in which it is one.
    added: Vec<usize>,
}

impl FaultStep for Join {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.go_on_joining(*self)
    }
}

impl World {
    /// The place of the node that joins, if one does.
    pub(super) fn learner(&self) -> Option<usize> {
        self.hosts.iter().position(|host| !host.votes)
    }

    /// A node is going to join, if that is part of the run.
    pub(super) fn schedule_joining(&mut self) {
        if self.learner().is_some() {
            let delay_us = between(&mut self.rng, 0, self.plan.chaos_us);
            self.schedule(delay_us, Event::Fault(Box::new(Join::default())));
        }
    }

    fn go_on_joining(&mut self, mut join: Join) -> Result<(), String> {
        let Some(learner) = self.learner() else { return Ok(()) };
        if self.hosts[learner].life == 0 {
            self.start(learner)?;
        }
        let node = self.hosts[learner].id;
        for shard in 0..self.hosts[learner].shards.len() {
            let incarnation = self.hosts[learner].shards[shard].birth.incarnation;
            for host in 0..self.hosts.len() {
                let at = Place { host, shard };
                let Some(replica) = self.hosts[host].shards[shard].replica.as_ref() else { continue };
                if self.leads(host, shard).is_none() {
                    continue;
                }
                if !replica.membership().is_member(node) {
                    self.deliver(at, replica::Event::AddLearner { node, incarnation })?;
                } else if !join.added.contains(&shard) {
                    join.added.push(shard);
                    self.count_fault(JOINED);
                }
            }
        }
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(join)));
        Ok(())
    }
}
