//! Faults with an aim at fast clusters with small logs; the runs that have them are made for them (`Plan::into_tight`).
//!
//! * **No room**: for a leader, for its followers, or its next segment takes too long.
//! * **No room for anybody, and no leader stays**: each dies as soon as its log is full. Every new term takes its piece of what is left
//!   for hard states (the reserve), until a node cannot even write its vote.
//! * **A leader takes writes that nobody else gets**: it is cut off, and meets its successor soon after the election, before it
//!   has given up those writes.
//! * **A successor does not come**: a leader hands over, and is cut off from all others at once. What clients ask it meanwhile waits
//!   for the next leader.

use super::plan::{between, pick};
use super::recovery::{Fast, Room};
use super::world::{Event, FaultStep, Place, World};
use crate::types::Term;

/// How long one lasts. Unit: us.
const STARVED_US: (u64, u64) = (300_000, 3_000_000);

/// Time that a segment takes then. Unit: us.
const SLOW_SEGMENT_US: u64 = 2_000_000;

/// Payload of an entry for which there is no room any more when leaders begin to die. Unit: bytes.
const SMALL_WRITE_BYTES: usize = 100;

/// Clients that wait for more than this still wait when a leader that was cut off is back. Unit: us.
const LONG_TIMEOUT_US: u64 = 100_000;

/// Polling interval while leaders are killed. Unit: us.
const LOOK_EVERY_US: u64 = 2_000;

/// Longest time that a leader is cut off which goes on. Unit: us.
const ISOLATED_US_MAX: u64 = 5_000_000;

/// Longest time from the death of a leader to its next start. Unit: us.
const DOWN_US_MAX: u64 = 5_000;

/// A leader is cut off and goes on.
#[derive(Clone, Copy, Debug)]
struct Isolated {
    at: Place,
    /// The leader's.
    life: u64,
    /// The term that it leads.
    term: Term,
    /// It is back once its successor has committed something, not before.
    waits_for_commit: bool,
    /// When it is back, whatever happened.
    end_us: u64,
}

/// Nobody has room, and each leader dies.
#[derive(Clone, Copy, Debug)]
struct Churn {
    shard: usize,
}

impl FaultStep for Isolated {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.watch_isolated(*self);
        Ok(())
    }
}

impl FaultStep for Churn {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.churn(*self)
    }
}

impl World {
    /// One of these strikes a shard that has a leader.
    pub(super) fn starve_some(&mut self) -> Result<bool, String> {
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        let nodes = 0..self.hosts.len();
        let Some(leader) = nodes.clone().find(|host| self.leads(*host, shard).is_some()) else { return Ok(false) };
        let at = Place { host: leader, shard };
        if self.plan.churns {
            return Ok(self.begin_churn(shard));
        }
        match self.rng.below(12) {
            0 | 1 => self.fill_disks(&[leader]),
            2 => self.fill_disks(&nodes.filter(|host| *host != leader).collect::<Vec<_>>()),
            3 => self.slow_segments(leader),
            // Whoever waits for long learns of its writes' fate, whoever waits for a short time only of the lack of a leader.
            4..12 if self.plan.timeout_us > LONG_TIMEOUT_US => self.isolate_leader(at),
            _ => return self.hand_over_to_nobody(at),
        }
        Ok(true)
    }

    /// Disks are full until the faults end, and no leader stays. `false` if that is so already.
    fn begin_churn(&mut self, shard: usize) -> bool {
        let is_new = !self.hosts.iter().all(|host| host.disk_is_full);
        if is_new {
            self.hosts.iter_mut().for_each(|host| host.disk_is_full = true);
            self.trace.note(self.now_us, || "no node has room, and no leader stays".to_owned());
            self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(Churn { shard })));
        }
        is_new
    }

    /// A leader is asked to hand over, and cut off before its successor shows itself.
    fn hand_over_to_nobody(&mut self, at: Place) -> Result<bool, String> {
        let followers: Vec<usize> = (0..self.hosts.len()).filter(|host| *host != at.host).collect();
        let Some(to) = (!followers.is_empty()).then(|| pick(&mut self.rng, &followers)) else { return Ok(false) };
        let is_begun = self.transfer(at, to)?;
        if is_begun {
            self.isolate_leader(at);
        }
        Ok(is_begun)
    }

    fn fill_disks(&mut self, hosts: &[usize]) {
        let for_us = between(&mut self.rng, STARVED_US.0, STARVED_US.1);
        self.trace.note(self.now_us, || format!("nodes {hosts:?} (from 0) have no room for {for_us} us"));
        for &host in hosts {
            self.hosts[host].disk_is_full = true;
            self.schedule(for_us, Event::Fault(Box::new(Room { host })));
        }
    }

    fn slow_segments(&mut self, host: usize) {
        let for_us = between(&mut self.rng, STARVED_US.0, STARVED_US.1);
        self.trace.note(self.now_us, || format!("segments of node {} take long for {for_us} us", host + 1));
        self.hosts[host].file_work_us_max = SLOW_SEGMENT_US;
        self.schedule(for_us, Event::Fault(Box::new(Fast { host })));
    }

    /// A leader is cut off, and goes on taking writes that nobody else gets.
    fn isolate_leader(&mut self, at: Place) {
        let Some(term) = self.leads(at.host, at.shard) else { return };
        self.trace.note(self.now_us, || format!("node {}, a leader, is cut off and goes on", at.host + 1));
        self.cut_off(at.host);
        let end_us = self.now_us + between(&mut self.rng, 500_000, ISOLATED_US_MAX);
        let waits_for_commit = self.rng.chance(1, 2);
        let isolated = Isolated { at, life: self.hosts[at.host].life, term, waits_for_commit, end_us };
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(isolated)));
    }

    /// Lets it meet its successor at once, or as soon as that has committed something: before it has given up its own writes.
    fn watch_isolated(&mut self, isolated: Isolated) {
        let Isolated { at, life, term, waits_for_commit: waits, end_us } = isolated;
        let is_over = self.is_calm || !self.is_alive(at.host, life) || self.now_us >= end_us;
        let succeeds = |host: usize| self.leads(host, at.shard).filter(|led| *led > term);
        let is_heard =
            |host| succeeds(host).is_some_and(|led| !waits || self.has_committed_in(Place { host, ..at }, led));
        let is_succeeded = (0..self.hosts.len()).any(is_heard);
        if is_over || is_succeeded {
            self.join_all();
            return;
        }
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(isolated)));
    }

    /// Kills whoever leads, once there is no room for what it would write, until the faults end.
    fn churn(&mut self, churn: Churn) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        let leader = (0..self.hosts.len()).find(|host| self.leads(*host, churn.shard).is_some());
        let is_full = |host: &usize| {
            let replica = self.hosts[*host].shards[churn.shard].replica.as_ref();
            replica.is_some_and(|replica| !replica.log().has_room_for([SMALL_WRITE_BYTES]))
        };
        if let Some(host) = leader.filter(is_full) {
            self.count_fault("leader without room killed");
            self.kill(host, false);
            let delay_us = between(&mut self.rng, 1, DOWN_US_MAX);
            let life = self.hosts[host].life;
            self.schedule(delay_us, Event::Start { host, life });
        }
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(churn)));
        Ok(())
    }
}
