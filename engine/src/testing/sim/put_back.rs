//! A run of its own kind: a node's disk is put back to an earlier image while a third node is down.
//!
//! In some runs the leader stays: then it gives the node back what that lost, and every promise is kept. In the others the leader is
//! down, and the two elect. That breaks what Raft rests on, so that what clients are told is not judged any more from then on, nor
//! what the nodes agree on. What is judged is each node by itself: the old leader, which has entries that were acknowledged, comes
//! back, and keeps every entry that it knew to be committed. If the others lost such an entry it stops and says so, and does so
//! again after every restart.

use wal::Storage;
use wal::testing::SimStorage;

use super::plan::{between, pick};
use super::world::World;
use crate::replica::Fault;
use crate::types::{EntryId, Index, Term};

/// Longest time for an election, and for the old leader to meet the new one. Unit: us.
pub(super) const MEETING_US: u64 = 60_000_000;

/// So many terms in the time of a meeting mean that no leader stays for long: the links are too slow for elections that short, and logs
/// may not be compared to the end.
const TERMS_OF_UNREST: u64 = 60;

/// Polling interval while a meeting waits for its next step. Unit: us.
pub(super) const LOOK_EVERY_US: u64 = 50_000;

/// So many times the disk of one node is put back while its leader stays.
const PUT_BACKS: usize = 3;

/// Name of the fault.
const PUT_BACK: &str = "put back";

/// Name of the fault while the leader stays.
const PUT_BACK_UNDER_LEADER: &str = "put back under its leader";

impl World {
    /// The run, once all nodes are started. It ends early where chance makes it pointless.
    pub(super) fn put_back(&mut self) -> Result<(), String> {
        let Some((leader, _)) = self.await_leader(&[0, 1, 2])? else { return Ok(()) };
        let work_us = between(&mut self.rng, 100_000, 2_000_000);
        self.run_until(self.now_us + work_us)?;
        let followers: Vec<usize> = (0..3).filter(|host| *host != leader).collect();
        let forgets = pick(&mut self.rng, &followers);
        let away = 3 - leader - forgets;
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(away, power_is_lost);
        let Some(image) = self.image(forgets) else { return Ok(()) };
        let work_us = between(&mut self.rng, 300_000, 3_000_000);
        self.run_until(self.now_us + work_us)?;

        if self.rng.chance(3, 5) {
            return self.put_back_under_leader(leader, forgets, away, image);
        }
        let noted_in_life = self.noted(leader);
        let old_term = self.hosts[leader].shards[0].replica.as_ref().map(|replica| replica.view().term);
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(leader, power_is_lost);
        self.kill(forgets, false);
        let known = self.noted(leader);
        if !power_is_lost && known != noted_in_life {
            return Err(format!("{known:?} is noted after the process died, {noted_in_life:?} was before"));
        }
        self.trace.note(self.now_us, || format!("the disk of node {} is put back", forgets + 1));
        self.hosts[forgets].shards[0].disk = Some(image);
        self.hosts[forgets].shards[0].shown_revision = 0;
        self.checks[0].is_broken = true;
        self.start(forgets)?;
        self.start(away)?;
        let Some((_, term)) = self.await_leader(&[forgets, away])? else { return Ok(()) };
        let work_us = between(&mut self.rng, 0, 2_000_000);
        self.run_until(self.now_us + work_us)?;
        // A second leader of the old one's own term has entries of the same names: `second_leader` is about that.
        let Some(known) = known.filter(|_| Some(term) > old_term) else { return Ok(()) };
        self.meet(leader, known)
    }

    /// The leader stays, alone with the node that forgot. It must count that node for nothing that it lost, and give it all of that
    /// back, whatever else happens to the node meanwhile. From then on nothing is lost, so that everything is judged.
    fn put_back_under_leader(
        &mut self,
        leader: usize,
        forgets: usize,
        away: usize,
        image: SimStorage,
    ) -> Result<(), String> {
        let mut image = Some(image);
        for _ in 0..PUT_BACKS {
            let Some(earlier) = image.take().filter(|_| self.leads(leader, 0).is_some()) else { break };
            self.give_back(leader, forgets, earlier)?;
            image = self.image(forgets);
            let work_us = between(&mut self.rng, 100_000, 1_000_000);
            self.run_until(self.now_us + work_us)?;
        }
        self.count_fault(PUT_BACK_UNDER_LEADER);
        self.start(away)?;
        for _ in 0..2 {
            let work_us = between(&mut self.rng, 1_000, 3_000_000);
            self.run_until(self.now_us + work_us)?;
            let (host, power_is_lost) = (self.random_host(), self.rng.chance(1, 2));
            self.kill(host, power_is_lost);
            let work_us = between(&mut self.rng, 1_000, 3_000_000);
            self.run_until(self.now_us + work_us)?;
            self.start(host)?;
        }
        self.conclude()
    }

    /// Puts a disk back, and waits until the node has everything again that its leader had then.
    fn give_back(&mut self, leader: usize, forgets: usize, image: SimStorage) -> Result<(), String> {
        let Some(replica) = &self.hosts[leader].shards[0].replica else { return Ok(()) };
        let last = replica.log().last_id();
        self.trace.note(self.now_us, || format!("the disk of node {} is put back, its leader stays", forgets + 1));
        self.kill(forgets, false);
        let shard = &mut self.hosts[forgets].shards[0];
        shard.disk = Some(image);
        shard.shown_revision = 0;
        // It keeps what it had promised, and is not what it was before it has that back.
        shard.is_wiped = true;
        self.start(forgets)?;
        let end_us = self.now_us + MEETING_US;
        while !self.hosts[forgets].shards[0].on_disk.holds(last) {
            if self.now_us > end_us {
                return Err(format!("liveness: node {} was put back and does not get {last} again", forgets + 1));
            }
            let work_us = between(&mut self.rng, 1_000, 200_000);
            self.run_until(self.now_us + work_us)?;
            if self.rng.chance(1, 8) {
                let power_is_lost = self.rng.chance(1, 2);
                self.kill(forgets, power_is_lost);
                self.start(forgets)?;
            }
        }
        let shard = &mut self.hosts[forgets].shards[0];
        shard.is_wiped = false;
        shard.seen.promised.clear();
        Ok(())
    }

    /// The old leader starts, and starts again. Each time it keeps what it knew, and stops if the others lost that.
    fn meet(&mut self, old: usize, known: EntryId) -> Result<(), String> {
        let others: Vec<usize> = (0..3).filter(|host| *host != old).collect();
        let had_it = {
            let Some((leader, _)) = self.await_leader(&others)? else { return Ok(()) };
            self.holds(leader, known)
        };
        let keeps = self.hosts[old].shards[0].disk.as_ref().map(SimStorage::noted).map(|noted| noted.committed);
        if keeps != Some(known) {
            return Err(format!("{keeps:?} is noted at the end, {known} was before"));
        }
        if !had_it {
            self.count_fault(PUT_BACK);
        }
        for _ in 0..2 {
            self.start(old)?;
            let is_held = self.holds(old, known);
            let term_before = self.term_of(old);
            let end_us = self.now_us + MEETING_US;
            while self.now_us < end_us && self.fault_of(old).is_none() && !(had_it && self.holds(old, known)) {
                self.run_until(self.now_us + LOOK_EVERY_US)?;
            }
            if is_held && !self.holds(old, known) {
                return Err(format!("node {} cut {known}, which it knew to be committed", old + 1));
            }
            match self.fault_of(old) {
                Some(Fault::Contradiction(_)) if !had_it => {}
                None if had_it => return Ok(()),
                None if self.term_of(old) > term_before + TERMS_OF_UNREST => return Ok(()),
                found => {
                    let expected = if had_it { "no reason to stop" } else { "the others to lack it" };
                    return Err(format!(
                        "node {} knows {known} to be committed and has {expected}: {found:?}",
                        old + 1
                    ));
                }
            }
            self.kill(old, false);
        }
        Ok(())
    }

    /// Waits for one of these nodes to lead and to have committed something in its term.
    pub(super) fn await_leader(&mut self, among: &[usize]) -> Result<Option<(usize, Term)>, String> {
        let end_us = self.now_us + MEETING_US;
        while self.now_us < end_us {
            let found = among.iter().find_map(|host| {
                let term = self.leads(*host, 0)?;
                let replica = self.hosts[*host].shards[0].replica.as_ref()?;
                (replica.log().term(replica.view().commit_index) == Some(term)).then_some((*host, term))
            });
            if found.is_some() {
                return Ok(found);
            }
            self.run_until(self.now_us + LOOK_EVERY_US)?;
        }
        Ok(None)
    }

    /// What a copy of a node's disk, made while it runs, would hold.
    pub(super) fn image(&mut self, host: usize) -> Option<SimStorage> {
        let mut image = self.hosts[host].shards[0].replica.as_ref()?.log().storage().clone();
        if self.rng.chance(1, 2) {
            image.crash();
        } else {
            image.crash_process();
        }
        Some(image)
    }

    /// What a node noted as committed.
    pub(super) fn noted(&self, host: usize) -> Option<EntryId> {
        let shard = &self.hosts[host].shards[0];
        let running = shard.replica.as_ref().map(|replica| replica.log().noted());
        let noted = running.or_else(|| shard.disk.as_ref().map(SimStorage::noted))?.committed;
        (noted.index > Index::ZERO).then_some(noted)
    }

    fn holds(&self, host: usize, id: EntryId) -> bool {
        let replica = self.hosts[host].shards[0].replica.as_ref();
        replica.is_some_and(|replica| replica.log().term(id.index) == Some(id.term))
    }

    fn term_of(&self, host: usize) -> u64 {
        self.hosts[host].shards[0].replica.as_ref().map_or(0, |replica| replica.view().term.get())
    }

    pub(super) fn fault_of(&self, host: usize) -> Option<&Fault> {
        self.hosts[host].shards[0].replica.as_ref()?.fault()
    }
}
