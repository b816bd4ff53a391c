//! A run of its own kind: a leader's disk is put back to before it campaigned, and it leads the very term again.
//!
//! The follower of its first life lives, cut off for a while, and has that life's entries. The second life is elected with the third
//! node's vote; in some runs the third node dies then, so that the second life can commit with the help of that follower alone. What the
//! follower told the first life must not count for the second: whatever the second life commits is on another disk, too, with the same
//! history. As in `second_leader`, what clients are told is not judged.

use super::plan::{between, pick};
use super::put_back::MEETING_US;
use super::second_leader::ELECTED_LOOK_EVERY_US;
use super::world::{Event, World};
use crate::raft::Tip;
use crate::types::Term;

/// How long the follower of the first life and the second life are watched together. Unit: us.
const TOGETHER_US: u64 = 3_000_000;

/// Name of the fault: a follower of the first life met the second one, which led the same term.
const SECOND_LIFE: &str = "second life of a term's leader";

/// The three nodes of such a run.
#[derive(Clone, Debug)]
struct Lives {
    /// Leads the term twice.
    again: usize,
    /// Followed the first life.
    keeps: usize,
    /// Elected the second life.
    away: usize,
    /// The term.
    term: Term,
}

impl World {
    /// The run, once all nodes are started. It ends early where chance makes it pointless.
    pub(super) fn lead_again(&mut self) -> Result<(), String> {
        let Some((first, old_term)) = self.await_leader(&[0, 1, 2])? else { return Ok(()) };
        self.work_for(100_000, 1_000_000)?;
        let followers: Vec<usize> = (0..3).filter(|host| *host != first).collect();
        let away = pick(&mut self.rng, &followers);
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(away, power_is_lost);
        self.work_for(1_000, 500_000)?;
        let two = [first, 3 - first - away];
        let (Some(one_image), Some(other_image)) = (self.image(two[0]), self.image(two[1])) else { return Ok(()) };

        // The leader is lost, and one of the two leads the next term.
        self.kill(first, false);
        self.start(first)?;
        let Some((again, term)) = self.await_leader(&two)?.filter(|(_, term)| *term == old_term.next()) else {
            return Ok(());
        };
        let (keeps, image) = if again == two[0] { (two[1], one_image) } else { (two[0], other_image) };
        // A few entries: the second life soon has as many.
        self.work_for(5_000, 200_000)?;
        if self.leads(again, 0) != Some(term) {
            return Ok(());
        }
        self.cut_off(keeps);
        let power_is_lost = self.rng.chance(1, 2);
        self.kill(again, power_is_lost);
        self.trace.note(self.now_us, || format!("the disk of node {} is put back to before it campaigned", again + 1));
        self.hosts[again].shards[0].disk = Some(image);
        self.hosts[again].shards[0].shown_revision = 0;
        self.checks[0].is_broken = true;

        // It asks for votes before the third node is there.
        self.start(again)?;
        self.work_for(500_000, 2_000_000)?;
        self.start(away)?;
        self.meet_second_life(&Lives { again, keeps, away, term })
    }

    /// The second life is elected, and meets the follower of the first.
    fn meet_second_life(&mut self, lives: &Lives) -> Result<(), String> {
        let Lives { again, keeps, away, term } = *lives;
        assert!(again != keeps && keeps != away && away != again, "three nodes: {lives:?}");
        let end_us = self.now_us + MEETING_US;
        while self.leads(again, 0) != Some(term) {
            let is_late = [again, away].iter().any(|host| self.leads(*host, 0).is_some());
            if is_late || self.now_us > end_us {
                return Ok(());
            }
            self.run_until(self.now_us + ELECTED_LOOK_EVERY_US)?;
        }
        let elsewhere = self.reach_first_life(lives)?;
        self.join_all();
        if self.leads(again, 0) == Some(term) && self.hosts[keeps].is_up {
            self.count_fault(SECOND_LIFE);
        }
        let end_us = self.now_us + TOGETHER_US;
        while self.now_us < end_us {
            self.check_second_life(lives, &elsewhere)?;
            let look_us = between(&mut self.rng, 100, ELECTED_LOOK_EVERY_US);
            self.run_until(self.now_us + look_us)?;
        }
        Ok(())
    }

    /// The second life works until its log is as long as the first one's: before that what a follower of the first tells is too much. In
    /// most runs the third node dies shortly before. Returns what that one had then.
    fn reach_first_life(&mut self, lives: &Lives) -> Result<Vec<Tip>, String> {
        let Lives { again, keeps, away, term } = *lives;
        let last_index = self.last_index(keeps);
        let alone_from = if self.rng.chance(4, 5) { self.rng.below(4) } else { u64::MAX };
        let mut elsewhere = Vec::new();
        let end_us = self.now_us + TOGETHER_US;
        while self.leads(again, 0) == Some(term) && self.last_index(again) < last_index && self.now_us < end_us {
            if self.hosts[away].is_up && self.last_index(again).saturating_add(alone_from) >= last_index {
                elsewhere = self.history(away);
                self.kill(away, false);
            }
            if let Some(client) = self.clients.lure(0, again, again) {
                self.schedule(0, Event::Ask { client });
            }
            self.run_until(self.now_us + ELECTED_LOOK_EVERY_US)?;
        }
        Ok(elsewhere)
    }

    fn last_index(&self, host: usize) -> u64 {
        let replica = self.hosts[host].shards[0].replica.as_ref();
        replica.map_or(0, |replica| replica.log().last_id().index.get())
    }

    /// What the second life committed in its term is in another log, too.
    fn check_second_life(&self, lives: &Lives, elsewhere: &[Tip]) -> Result<(), String> {
        let Lives { again, keeps, away, term } = *lives;
        let Some(replica) = &self.hosts[again].shards[0].replica else { return Ok(()) };
        if self.leads(again, 0) != Some(term) {
            return Ok(());
        }
        let committed = self.tip_at(again, replica.view().commit_index).filter(|tip| tip.id.term == term);
        let Some(tip) = committed else { return Ok(()) };
        if self.has(keeps, tip) || self.has(away, tip) || elsewhere.contains(&tip) {
            return Ok(());
        }
        Err(format!("node {} committed {} in its second life of {term}, and no other disk has it", again + 1, tip.id))
    }
}
