//! What goes wrong at random: processes, hosts, connections and disks.

use std::collections::BTreeSet;

use super::damage::{DAMAGED_LOG, damage};
use super::plan::{Every, Faults, between, pick, wait_us};
use super::recovery::{Fast, Room};
use super::world::{Event, FAILED_SYNC, FaultStep, Place, World};

type Rate = fn(&Faults) -> Every;
/// Says whether it struck: not everything can be done at every moment.
type Inject = fn(&mut World) -> Result<bool, String>;

/// Every kind of fault: its name, how often it strikes, what it does.
const KINDS: [(&str, Rate, Inject); 22] = [
    ("process killed", |faults| faults.kill, |world| world.kill_some(false)),
    ("power lost", |faults| faults.power_loss, |world| world.kill_some(true)),
    ("everything killed", |faults| faults.kill_all, World::kill_all),
    ("process stopped", |faults| faults.pause, World::pause_some),
    ("partition", |faults| faults.partition, World::partition),
    ("one way blocked", |faults| faults.one_way, World::block_one_way),
    ("connection broken", |faults| faults.reset, World::break_some),
    ("stale message", |faults| faults.stale_message, World::deliver_stale),
    ("slow disk", |faults| faults.slow_disk, World::slow_some),
    (FAILED_SYNC, |faults| faults.sync_failure, World::fail_some_sync),
    (DAMAGED_LOG, |faults| faults.damage, World::damage_some),
    ("full disk", |faults| faults.disk_full, World::fill_some),
    ("disk wiped", |faults| faults.wipe, World::wipe_some),
    ("ambush", |faults| faults.ambush, World::lay_ambush),
    ("orderly stop", |faults| faults.orderly_stop, World::stop_some),
    ("leadership transfer", |faults| faults.transfer, World::transfer_some),
    ("leader's disk", |faults| faults.leader_disk, World::spoil_leaders_disk),
    ("power lost and damaged log", |faults| faults.rot_after_power_loss, World::rot_some_after_power_loss),
    ("no room", |faults| faults.starve, World::starve_some),
    ("client left", |faults| faults.client_leaves, World::leave_some),
    ("client parted from", |faults| faults.client_parted, World::part_from_some),
    ("core hung", |faults| faults.core_hangs, World::hang_some_core),
];

/// A fault of this kind strikes.
#[derive(Debug)]
struct Strike(usize);

impl FaultStep for Strike {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.strike(self.0)
    }
}

impl World {
    pub(super) fn schedule_faults(&mut self) {
        for (number, (_, every, _)) in KINDS.iter().enumerate() {
            if let Some(mean_us) = every(&self.plan.faults) {
                let delay_us = wait_us(&mut self.rng, mean_us);
                self.schedule(delay_us, Event::Fault(Box::new(Strike(number))));
            }
        }
    }

    fn strike(&mut self, kind: usize) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        let (name, every, strike) = KINDS[kind];
        if strike(self)? {
            self.count_fault(name);
        }
        if let Some(mean_us) = every(&self.plan.faults) {
            let delay_us = wait_us(&mut self.rng, mean_us);
            self.schedule(delay_us, Event::Fault(Box::new(Strike(kind))));
        }
        Ok(())
    }

    fn kill_some(&mut self, power_is_lost: bool) -> Result<bool, String> {
        let host = self.random_host();
        let is_up = self.hosts[host].is_up;
        if is_up {
            self.kill(host, power_is_lost);
            self.restart_later(host);
        }
        Ok(is_up)
    }

    fn kill_all(&mut self) -> Result<bool, String> {
        let power_is_lost = self.rng.chance(1, 2);
        let any_is_up = self.hosts.iter().any(|host| host.is_up);
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_up {
                self.kill(host, power_is_lost);
                self.restart_later(host);
            }
        }
        Ok(any_is_up)
    }

    fn pause_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let for_us = between(&mut self.rng, 1_000, 5_000_000);
        let is_up = self.hosts[host].is_up;
        if is_up {
            self.trace.note(self.now_us, || format!("node {} is stopped for {for_us} us", host + 1));
            self.hosts[host].paused_until_us = self.now_us + for_us;
        }
        Ok(is_up)
    }

    fn partition(&mut self) -> Result<bool, String> {
        let side: BTreeSet<usize> = (0..self.hosts.len()).filter(|_| self.rng.chance(1, 2)).collect();
        let crosses = |pair: &(usize, usize)| side.contains(&pair.0) != side.contains(&pair.1);
        let pairs: Vec<_> = self.network.pairs().into_iter().filter(crosses).collect();
        self.trace.note(self.now_us, || format!("nodes {side:?} (from 0) are cut off from the others"));
        let cuts = !pairs.is_empty();
        self.block(pairs);
        Ok(cuts)
    }

    fn block_one_way(&mut self) -> Result<bool, String> {
        let pairs = self.network.pairs();
        let Some(count) = u64::try_from(pairs.len()).ok().filter(|count| *count > 0) else { return Ok(false) };
        let pair = pairs[usize::try_from(self.rng.below(count)).expect("few")];
        self.trace.note(self.now_us, || format!("{} -> {} is blocked", pair.0 + 1, pair.1 + 1));
        self.block(vec![pair]);
        Ok(true)
    }

    fn break_some(&mut self) -> Result<bool, String> {
        let pairs = self.network.pairs();
        let Some(count) = u64::try_from(pairs.len()).ok().filter(|count| *count > 0) else { return Ok(false) };
        let (from, to) = pairs[usize::try_from(self.rng.below(count)).expect("few")];
        let was_up = self.network.link(from, to).is_up;
        self.break_link(from, to);
        Ok(was_up)
    }

    fn deliver_stale(&mut self) -> Result<bool, String> {
        let kept = self.network.take_kept(&mut self.rng);
        let is_there = kept.is_some();
        if let Some(packet) = kept {
            self.schedule(1, Event::Packet(packet));
        }
        Ok(is_there)
    }

    fn slow_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        self.hosts[host].slowness = between(&mut self.rng, 5, 200);
        let for_us = between(&mut self.rng, 100_000, 5_000_000);
        self.schedule(for_us, Event::Fault(Box::new(Fast { host })));
        Ok(true)
    }

    /// Counted where the sync fails: the node may die before.
    fn fail_some_sync(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        self.hosts[host].next_sync_fails = true;
        Ok(false)
    }

    /// Durable bytes of one shard's log rot while its node is down.
    ///
    /// Only where the fault model promises repair: the others are a quorum, none of them lacks what it promised, and the
    /// node's process died without its host losing power (see `docs/durability.md`).
    fn damage_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        self.damage_log(Place { host, shard }, damage);
        // It has counted itself, as those have that come with another fault.
        Ok(false)
    }

    fn rot_some_after_power_loss(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        Ok(self.rot_after_power_loss(Place { host, shard }))
    }

    fn fill_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        self.hosts[host].disk_is_full = true;
        // Long enough in some cases for the log to use up what was prepared, and the reserve for hard states.
        let most_us = pick(&mut self.rng, &[10_000_000, 10_000_000, 60_000_000]);
        let for_us = between(&mut self.rng, 100_000, most_us);
        self.schedule(for_us, Event::Fault(Box::new(Room { host })));
        Ok(true)
    }
}
