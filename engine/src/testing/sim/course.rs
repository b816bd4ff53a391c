//! The course of a run: a phase of faults, a phase without, and what is asked at the end.

use super::host::ShardHost;
use super::plan::between;
use super::world::{Event, World};

/// Time within which a cluster without faults must have answered everything and agree. Unit: us.
const LIVENESS_US: u64 = 120_000_000;

impl World {
    /// The whole run.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for host in 0..self.hosts.len() {
            self.start(host)?;
        }
        for client in 0..self.plan.clients {
            let delay_us = between(&mut self.rng, 0, self.plan.think_us.1);
            self.schedule(delay_us, Event::Ask { client });
        }
        if self.plan.puts_back {
            return self.put_back();
        }
        self.schedule_faults();
        self.run_until(self.plan.chaos_us)?;
        self.calm_down()?;
        self.converge()?;
        self.check_void_writes()?;
        self.report.given_up_count = self.clients.judge()?;
        self.report.judged_count = self.plan.shards.into();
        self.wipe_majority()
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
                let client = self.clients.read_all(self.plan.nodes);
                self.schedule(0, Event::Ask { client });
            }
            if self.now_us > end_us {
                let open = self.clients.open_count();
                let reason = self.disagreement().unwrap_or_else(|| format!("{open} operations are not answered"));
                return Err(format!("liveness: {} s after the last fault {reason}", LIVENESS_US / 1_000_000));
            }
        }
        for host in &self.hosts {
            for (shard, checks) in host.shards.iter().zip(&mut self.checks) {
                checks.check_digest(host.id, shard.replica.as_ref().ok_or("a node is down")?)?;
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
            node.slowness = 1;
            node.disk_is_full = false;
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
