//! Nodes start and die.

use super::{Event, Place, World};
use crate::raft::Role;
use crate::replica;
use crate::testing::sim::clients::Answer;
use crate::testing::sim::host::ShardHost;
use crate::testing::sim::plan::between;
use crate::types::Term;

impl World {
    pub(in crate::testing::sim) fn start(&mut self, host: usize) -> Result<(), String> {
        if self.hosts[host].is_up {
            return Ok(());
        }
        self.start_process(host)?;
        let life = self.hosts[host].life;
        self.trace.note(self.now_us, || format!("node {} starts, life {life}", host + 1));
        self.schedule(self.hosts[host].tick_us, Event::Tick { host, life });
        for shard in 0..self.hosts[host].shards.len() {
            self.check_start(host, shard).map_err(|what| format!("node {} shard {shard}: {what}", host + 1))?;
            self.deliver(Place { host, shard }, replica::Event::Turn)?;
        }
        for to in self.others(host) {
            let incarnation = self.network.link(host, to).incarnation;
            let delay_us = between(&mut self.rng, 100, 20_000);
            self.schedule(delay_us, Event::Connect { from: host, to, incarnation });
        }
        Ok(())
    }

    pub(in crate::testing::sim) fn kill(&mut self, host: usize, power_is_lost: bool) {
        if !self.hosts[host].is_up {
            return;
        }
        self.trace.note(self.now_us, || format!("node {} dies, power lost: {power_is_lost}", host + 1));
        for attempt in self.hosts[host].stop(power_is_lost) {
            // Some clients see the connection break, others wait until they have waited enough.
            if self.rng.chance(1, 2) {
                let delay_us = between(&mut self.rng, 10, 50_000);
                self.schedule(delay_us, Event::Answer { attempt, answer: Answer::Broken { was_sent: true } });
            }
        }
        for other in self.others(host) {
            self.drop_link(host, other, power_is_lost);
            self.drop_link(other, host, power_is_lost);
        }
    }

    /// A node starts with everything that its disk held for good.
    fn check_start(&mut self, host: usize, shard: usize) -> Result<(), String> {
        let here = &mut self.hosts[host].shards[shard];
        here.check_claims()?;
        if !here.lacks_data() {
            if !self.checks[shard].is_broken {
                here.on_disk.check_start(&here.seen.promised, here.seen.promised_vote)?;
            }
            here.seen.promised.clear();
        }
        Ok(())
    }

    /// Whether a node may lose what it has durably, for the others to give it back: they are a quorum with what they promised, and
    /// of those that lack something only nodes with an uncertain hard state wait for all others. Nobody needs what a learner has.
    pub(in crate::testing::sim) fn may_lose(&self, host: usize, shard: usize) -> bool {
        if !self.hosts[host].votes {
            return true;
        }
        let voters = || self.others(host).map(|other| &self.hosts[other]).filter(|other| other.votes);
        let others = || voters().map(|other| &other.shards[shard]);
        let lacking_count = others().filter(|other| other.lacks_data()).count();
        let can_tell = |other: &ShardHost| !other.lacks_data() || other.is_certain_under_repair();
        let own = &self.hosts[host].shards[shard];
        let may = !own.lacks_data() || own.is_certain_under_repair();
        may && lacking_count < (self.plan.voters - 1) / 2 && others().all(can_tell)
    }

    /// A node that was killed in that life starts; one that stopped by itself and is still there is killed first.
    pub(super) fn start_again(&mut self, host: usize, life: u64) -> Result<(), String> {
        if self.hosts[host].life == life {
            self.kill(host, false);
            self.start(host)?;
        }
        Ok(())
    }

    pub(in crate::testing::sim) fn restart_later(&mut self, host: usize) {
        let life = self.hosts[host].life;
        let delay_us = between(&mut self.rng, 10_000, 5_000_000);
        self.schedule(delay_us, Event::Start { host, life });
    }

    pub(super) fn others(&self, host: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.hosts.len()).filter(move |other| *other != host)
    }

    pub(in crate::testing::sim) fn is_alive(&self, host: usize, life: u64) -> bool {
        self.hosts[host].is_up && self.hosts[host].life == life
    }

    pub(in crate::testing::sim) fn random_host(&mut self) -> usize {
        usize::try_from(self.rng.below(self.hosts.len() as u64)).expect("few")
    }

    /// All nodes are voters, and three.
    pub(in crate::testing::sim) fn are_three_voters(&self) -> bool {
        self.plan.voters == 3 && self.hosts.len() == 3
    }

    /// The term that a node leads a shard in.
    pub(in crate::testing::sim) fn leads(&self, host: usize, shard: usize) -> Option<Term> {
        let view = self.hosts[host].shards[shard].replica.as_ref()?.view();
        (view.role == Role::Leader).then_some(view.term)
    }
}
