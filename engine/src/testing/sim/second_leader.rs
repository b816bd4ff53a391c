//! A run of its own kind: a node's disk is put back to before it voted, and it elects a second leader in a term that had one.
//!
//! A leader is elected while the third node is down; then the voter forgets its vote, and elects another leader together with the third
//! node, in the same term. The entries of both have the same terms and indexes. As in `put_back`, what clients are told and what nodes
//! agree on is not judged any more from then on. What is judged is the node that kept the first history. It keeps what it knew to be
//! committed; and if the others have another history it stops, or takes nothing and says so, and does so again after a restart. Nor
//! does any node say that its log equals a leader's which has another history (`check_same_history`).

use super::plan::{between, pick};
use super::put_back::{LOOK_EVERY_US, MEETING_US};
use super::world::{Event, Place, World};
use crate::raft::{AppendOutcome, Message, Nonsense, Tip};
use crate::replica::{Fault, Remark};
use crate::types::{EntryId, Index, Term};

/// Polling interval while a leader is to be elected that must not commit anything. Unit: us.
pub(super) const ELECTED_LOOK_EVERY_US: u64 = 500;

/// Name of the fault: both leaders led one term.
const SECOND_LEADER: &str = "second leader of a term";

impl World {
    /// The run, once all nodes are started. It ends early where chance makes it pointless.
    pub(super) fn elect_twice(&mut self) -> Result<(), String> {
        let Some((first, _)) = self.await_leader(&[0, 1, 2])? else { return Ok(()) };
        self.work_for(100_000, 2_000_000)?;
        let followers: Vec<usize> = (0..3).filter(|host| *host != first).collect();
        let forgets = pick(&mut self.rng, &followers);
        let away = 3 - first - forgets;
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(away, power_is_lost);
        let Some(image) = self.image(forgets) else { return Ok(()) };

        // One of the two votes for the other.
        self.kill(first, false);
        self.start(first)?;
        let is_committed = self.rng.chance(1, 2);
        let Some(term) = self.lead_once(first, forgets, is_committed)? else { return Ok(()) };
        let history = self.history(first);
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(first, power_is_lost);
        self.kill(forgets, false);
        let noted = self.noted(first);
        let Some(known) = history.into_iter().find(|tip| Some(tip.id) == noted) else { return Ok(()) };
        self.trace.note(self.now_us, || format!("the disk of node {} is put back to before it voted", forgets + 1));
        self.hosts[forgets].shards[0].disk = Some(image);
        self.hosts[forgets].shards[0].shown_revision = 0;
        self.checks[0].is_broken = true;

        self.start(forgets)?;
        self.start(away)?;
        let Some((_, second_term)) = self.await_leader(&[forgets, away])? else { return Ok(()) };
        self.work_for(0, 3_000_000)?;
        if term == second_term {
            self.count_fault(SECOND_LEADER);
        }
        self.meet_other_history(first, known)
    }

    /// The first leader of the term takes writes. In some runs the voter dies at once, so that what that leader appends is not committed.
    fn lead_once(&mut self, first: usize, forgets: usize, is_committed: bool) -> Result<Option<Term>, String> {
        if is_committed {
            let Some((_, term)) = self.await_leader(&[first, forgets])? else { return Ok(None) };
            self.work_for(100_000, 3_000_000)?;
            return Ok(Some(term));
        }
        let end_us = self.now_us + MEETING_US;
        while self.leads(first, 0).is_none() {
            if self.now_us > end_us {
                return Ok(None);
            }
            if self.leads(forgets, 0).is_some() {
                self.transfer(Place { host: forgets, shard: 0 }, first)?;
            }
            self.run_until(self.now_us + ELECTED_LOOK_EVERY_US)?;
        }
        let term = self.leads(first, 0);
        self.kill(forgets, false);
        // After the first entry of a term, which all leaders make alike.
        if let Some(client) = self.clients.lure(0, first, first) {
            self.schedule(0, Event::Ask { client });
        }
        self.work_for(50_000, 1_000_000)?;
        Ok(term)
    }

    /// The node that kept the first history starts, and starts again.
    fn meet_other_history(&mut self, old: usize, known: Tip) -> Result<(), String> {
        for _ in 0..2 {
            self.start(old)?;
            // If its host lost power before the entry was on its disk, all that it has of it is its note.
            let is_held = self.has(old, known);
            let end_us = self.now_us + MEETING_US;
            while self.now_us < end_us && !self.has_met(old) {
                self.run_until(self.now_us + LOOK_EVERY_US)?;
            }
            let is_excluded = self.tip_at(old, known.id.index).is_some_and(|tip| tip != known);
            if is_excluded || (is_held && !self.has(old, known)) {
                return Err(format!("node {} has not {}, which it knew to be committed", old + 1, known.id));
            }
            if self.leads(old, 0).is_some() {
                return Ok(());
            }
            match self.fault_of(old) {
                Some(Fault::Contradiction(_)) => {}
                None if self.hosts[old].shards[0].seen.has_parted => {}
                None if self.is_level(old) => return Ok(()),
                found => {
                    return Err(format!(
                        "node {} knows {} to be committed, and neither follows nor says that there is another history: {found:?}",
                        old + 1,
                        known.id
                    ));
                }
            }
            self.kill(old, false);
        }
        Ok(())
    }

    /// It stopped, said that there is another history, has everything of its leader, or leads.
    fn has_met(&self, old: usize) -> bool {
        let has_parted = self.hosts[old].shards[0].seen.has_parted;
        self.fault_of(old).is_some() || has_parted || self.is_level(old) || self.leads(old, 0).is_some()
    }

    /// Some other node leads, and this one's log holds all that it committed.
    fn is_level(&self, host: usize) -> bool {
        let leader = (0..3).filter(|other| *other != host).find(|other| self.leads(*other, 0).is_some());
        let committed = leader.and_then(|leader| {
            let replica = self.hosts[leader].shards[0].replica.as_ref()?;
            self.tip_at(leader, replica.view().commit_index)
        });
        committed.is_some_and(|committed| self.has(host, committed))
    }

    /// All entries of a node that runs.
    pub(super) fn history(&self, host: usize) -> Vec<Tip> {
        let Some(replica) = &self.hosts[host].shards[0].replica else { return Vec::new() };
        let (first, last) = (replica.log().base().index.get(), replica.log().last_id().index.get());
        (first..=last).filter_map(|index| self.tip_at(host, Index::new(index))).collect()
    }

    pub(super) fn has(&self, host: usize, tip: Tip) -> bool {
        self.tip_at(host, tip.id.index) == Some(tip)
    }

    pub(super) fn tip_at(&self, host: usize, index: Index) -> Option<Tip> {
        let log = self.hosts[host].shards[0].replica.as_ref()?.log();
        Some(Tip { id: EntryId::new(log.term(index)?, index), lineage: log.lineage(index)? })
    }

    pub(super) fn work_for(&mut self, min_us: u64, max_us: u64) -> Result<(), String> {
        let work_us = between(&mut self.rng, min_us, max_us);
        self.run_until(self.now_us + work_us)
    }

    /// Whoever says how much of its log equals that of a leader has the same history up to there.
    pub(super) fn check_same_history(&self, at: Place, to: usize, message: &Message) -> Result<(), String> {
        let (life, matched_index) = match message {
            Message::AppendEntriesResponse {
                life,
                outcome: AppendOutcome::Accepted { matched_index, .. } | AppendOutcome::NoRoom { matched_index, .. },
                ..
            }
            | Message::HeartbeatResponse { life, matched_index, .. } => (*life, *matched_index),
            _ => return Ok(()),
        };
        let lineage = |host: usize| {
            let replica = self.hosts[host].shards[at.shard].replica.as_ref();
            replica.filter(|replica| replica.view().term == message.term())?.log().lineage(matched_index)
        };
        let is_led = self.leads(to, at.shard) == Some(message.term()) && life == self.hosts[to].raft_life(at.shard);
        match (lineage(at.host), lineage(to)) {
            (Some(own), Some(theirs)) if is_led && own != theirs => {
                Err(format!("its log differs from the leader's up to {matched_index}, and it says {message:?}"))
            }
            _ => Ok(()),
        }
    }

    /// What a replica tells people. Nobody has another history unless somebody forgot a vote.
    pub(super) fn note_remark(&mut self, at: Place, remark: &Remark) -> Result<(), String> {
        let Remark::Nonsense { from, error } = remark else { return Ok(()) };
        let speaks_of_two_leaders = matches!(
            error,
            Nonsense::OtherHistory(_)
                | Nonsense::CutsOwnTerm { .. }
                | Nonsense::SecondLife { .. }
                | Nonsense::OtherLifeOfLeader { .. }
        );
        if !speaks_of_two_leaders {
            return Ok(());
        }
        if !self.checks[at.shard].is_broken {
            return Err(format!("node {} shard {} says of node {from}: {error}", at.host + 1, at.shard));
        }
        self.hosts[at.host].shards[at.shard].seen.has_parted = true;
        Ok(())
    }
}
