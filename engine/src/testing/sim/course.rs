//! The course of a run: a phase of faults, a phase without, and what is asked at the end.

use wal::Log;
use wal::testing::SimStorage;

use super::host::{FILE_WORK_US_MAX, Host, ShardHost};
use super::hung_core::HANGS_US_MAX;
use super::plan::{PutBack, between};
use super::world::{Event, World};

/// Time within which a cluster without faults must have answered everything and agree. Unit: us.
const LIVENESS_US: u64 = 120_000_000;

/// Time within which a write is taken while a minority, or one direction, stays broken. Unit: us.
const ENDURED_US: u64 = 30_000_000;

/// Writes that are waited for then, one after the other, in each shard.
const ROUNDS: usize = 3;

impl World {
    /// The whole run.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for host in 0..self.plan.voters {
            self.start(host)?;
        }
        for client in 0..self.plan.clients {
            let delay_us = between(&mut self.rng, 0, self.plan.think_us.1);
            self.schedule(delay_us, Event::Ask { client });
        }
        match self.plan.put_back {
            Some(PutBack::Image) => return self.put_back(),
            Some(PutBack::Replaced) => return self.return_replaced(),
            Some(PutBack::BeforeVote) => return self.elect_twice(),
            Some(PutBack::BeforeCampaign) => return self.lead_again(),
            None => {}
        }
        self.schedule_faults();
        self.schedule_joining();
        self.schedule_keeping();
        self.run_until(self.plan.chaos_us)?;
        self.conclude()?;
        self.wipe_majority()
    }

    /// All faults end; then everything that was promised is asked for.
    pub(super) fn conclude(&mut self) -> Result<(), String> {
        self.calm_down()?;
        if self.plan.endures {
            self.endure()?;
        }
        self.converge()?;
        self.check_void_writes()?;
        self.report.given_up_count = self.clients.judge()?;
        self.report.judged_count = self.plan.shards.into();
        Ok(())
    }

    /// One direction between two nodes, or a minority, stays broken. The rest must go on taking writes.
    fn endure(&mut self) -> Result<(), String> {
        self.outlast_slow_syncs()?;
        let count = self.plan.voters;
        let lost_max = (count - 1) / 2;
        let lacks = |host: &&Host| host.shards.iter().any(|shard| shard.lacks_data() || shard.birth.is_new());
        let lacking_count = self.hosts.iter().filter(|host| host.votes).filter(lacks).count();
        // Whoever lacks data does not serve, and a direction takes away at most one node.
        let Some(free_count) = lost_max.checked_sub(lacking_count).filter(|count| *count > 0) else { return Ok(()) };
        let mut nodes: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            nodes.swap(at, usize::try_from(self.rng.below(at as u64 + 1)).expect("few"));
        }
        let is_one_way = self.rng.chance(1, 2);
        let away = usize::try_from(between(&mut self.rng, 1, free_count as u64)).expect("few");
        let crosses = |pair: &(usize, usize)| match is_one_way {
            true => *pair == (nodes[0], nodes[1]),
            false => nodes[..away].contains(&pair.0) != nodes[..away].contains(&pair.1),
        };
        let pairs: Vec<_> = self.network.pairs().into_iter().filter(crosses).collect();
        self.trace.note(self.now_us, || format!("{pairs:?} (from 0) are blocked for good"));
        self.cut_for_good.clone_from(&pairs);
        for &(from, to) in &pairs {
            self.network.link(from, to).is_blocked = true;
            if self.rng.chance(1, 2) {
                self.break_link(from, to);
            }
        }
        for _ in 0..ROUNDS {
            for shard in 0..usize::try_from(self.plan.shards).expect("few") {
                self.await_write(shard)?;
            }
        }
        self.count_fault(if is_one_way { "one way blocked for good" } else { "minority cut off for good" });
        self.cut_for_good.clear();
        self.unblock(&pairs);
        Ok(())
    }

    /// Waits until what the logs hold now is durable: a sync that began on a sick disk still takes as long as that had.
    fn outlast_slow_syncs(&mut self) -> Result<(), String> {
        let end_us = self.now_us + LIVENESS_US;
        let begun: Vec<_> = self.logs().map(|log| (log.end_lsn(), log.durable_lsn())).collect();
        while self.logs().zip(&begun).any(|(log, (end, durable))| end > durable && log.durable_lsn() == *durable) {
            if self.now_us > end_us {
                return Err("liveness: a sync that began before the faults ended does not end".to_owned());
            }
            self.run_until(self.now_us + 50_000)?;
        }
        Ok(())
    }

    /// The logs of all nodes, which are up.
    fn logs(&self) -> impl Iterator<Item = &Log<SimStorage>> {
        let shards = self.hosts.iter().flat_map(|host| &host.shards);
        shards.filter_map(|shard| shard.replica.as_ref()).map(|replica| replica.log())
    }

    /// Some write that begins from now on is answered within bounded time.
    fn await_write(&mut self, shard: usize) -> Result<(), String> {
        let begin_us = self.now_us;
        while !self.clients.has_written_since(shard, begin_us) {
            if self.now_us > begin_us + ENDURED_US {
                let views: Vec<_> = self.hosts.iter().filter_map(|host| host.shards[shard].replica.as_ref()).collect();
                let views: Vec<_> = views.iter().map(|replica| replica.view()).collect();
                let seconds = ENDURED_US / 1_000_000;
                return Err(format!(
                    "liveness: with {:?} (from 0) blocked for good shard {shard} takes no write in {seconds} s: {views:?}",
                    self.cut_for_good
                ));
            }
            self.run_until(self.now_us + 50_000)?;
        }
        Ok(())
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
                let client = self.clients.read_all(self.hosts.len());
                self.schedule(0, Event::Ask { client });
            }
            if self.now_us > end_us {
                let open = self.clients.open_count();
                let reason = self.disagreement().unwrap_or_else(|| format!("{open} operations are not answered"));
                return Err(format!("liveness: {} s after the last fault {reason}", LIVENESS_US / 1_000_000));
            }
        }
        self.check_all_answered()?;
        for host in &self.hosts {
            for (shard, checks) in host.shards.iter().zip(&mut self.checks) {
                checks.check_digest(host.id, shard.replica.as_ref().ok_or("a node is down")?)?;
            }
        }
        Ok(())
    }

    /// Every request has got its answer, once its time was over at the latest. What was on its way to a core that hung comes once the
    /// core was to go on, even if all faults have ended meanwhile.
    fn check_all_answered(&mut self) -> Result<(), String> {
        self.run_until(self.now_us + 2 * self.plan.timeout_us)?;
        if self.hosts.iter().any(|host| host.front.open_count() > 0) {
            self.run_until(self.now_us + HANGS_US_MAX + 2 * self.plan.timeout_us)?;
        }
        for (number, host) in self.hosts.iter().enumerate() {
            let at_shards = host.shards.iter().map(|shard| shard.waiting.len()).sum::<usize>();
            if at_shards + host.front.open_count() > 0 {
                let front = &host.front;
                return Err(format!(
                    "node {} leaves {at_shards} requests at its shards unanswered: {front:?}",
                    number + 1
                ));
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

    /// Ends every fault: all nodes run, everything is connected, disks work.
    fn calm_down(&mut self) -> Result<(), String> {
        self.is_calm = true;
        self.trace.note(self.now_us, || "faults end".to_owned());
        let pairs = self.network.pairs();
        self.unblock(&pairs);
        for host in 0..self.hosts.len() {
            let node = &mut self.hosts[host];
            node.paused_until_us = 0;
            node.hung = None;
            node.slowness = 1;
            node.disk_is_full = false;
            node.file_work_us_max = FILE_WORK_US_MAX;
            node.next_sync_fails = false;
            let has_stopped =
                |shard: &ShardHost| shard.replica.as_ref().is_none_or(|replica| replica.fault().is_some());
            if node.shards.iter().any(has_stopped) {
                self.kill(host, false);
                self.start(host)?;
            }
        }
        Ok(())
    }
}
