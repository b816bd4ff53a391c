//! The election timer: when a node without a live leader campaigns.
//!
//! Timeouts are random. They are short where everybody can know that there is no leader: right after a start on the preferred
//! leader, and on whoever sees the leader's connection break.

use super::Common;
use crate::types::{EntryId, NodeId, Term};

/// When this node campaigns next, and whether it still believes in its leader.
#[derive(Clone, Debug, Default)]
pub(super) struct ElectionTimer {
    /// Ticks since the timer was started.
    pub(super) elapsed_ticks: u32,
    /// Ticks after which it ends.
    timeout_ticks: u32,
    /// Timeouts are short until this tick, since the leader's connection broke.
    pub(super) hurry_until_tick: u64,
    /// The leader's connection broke. Its silence is no accident, so this node may vote for others at once.
    pub(super) leader_is_gone: bool,
    /// The last pre-vote that was refused only because this node heard from its leader.
    pub(super) refused: Option<RefusedPreVote>,
}

/// A request for a pre-vote, and when it was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedPreVote {
    pub(super) from: NodeId,
    pub(super) campaign_term: Term,
    pub(super) last: EntryId,
    pub(super) tick: u64,
}

impl Common {
    /// Starts the timer of a node that has no leader yet. Short on the preferred leader, whose peers may have none either.
    pub(super) fn arm_first_timer(&mut self) {
        self.restart_election_timer();
        self.hurry_preferred();
    }

    /// Starts the election timer anew with a random timeout.
    pub(super) fn restart_election_timer(&mut self) {
        let election_ticks = self.config.election_ticks;
        let leaving_ticks = self.leaving_ticks();
        self.timer.elapsed_ticks = 0;
        self.timer.leader_is_gone = false;
        self.timer.refused = None;
        self.timer.timeout_ticks = if self.now_tick < self.timer.hurry_until_tick {
            // Longer than the first hurried timeout, so that the node that campaigned first is not interrupted.
            let hurry_ticks = self.config.hurry_ticks();
            leaving_ticks + self.rng.in_range(hurry_ticks + 1, 2 * hurry_ticks)
        } else {
            leaving_ticks + self.rng.in_range(election_ticks, 2 * election_ticks - 1)
        };
    }

    /// The leader's connection broke: campaign when it is this node's turn, and retry fast for an election timeout.
    ///
    /// The nodes that are left campaign in an order that all know, not at random times. Returns the pre-vote that was
    /// refused not long ago because the leader was heard: it can be granted now.
    ///
    /// If the leader is alive after all, its next heartbeat ends this, and as long as a quorum hears it no term is disturbed.
    pub(super) fn hurry_election(&mut self, leader: NodeId) -> Option<RefusedPreVote> {
        self.timer.hurry_until_tick = self.now_tick + u64::from(self.config.election_ticks);
        self.timer.leader_is_gone = true;
        mark!("raft: the leader's connection broke");
        self.timer.elapsed_ticks = 0;
        self.timer.timeout_ticks = self.leaving_ticks() + self.turn_ticks(leader);
        let refused = self.timer.refused.take();
        refused.filter(|refused| refused.tick + u64::from(self.config.hurry_ticks()) >= self.now_tick)
    }

    /// A node that is going to stop lets all others go first.
    fn leaving_ticks(&self) -> u32 {
        if self.is_leaving { 2 * self.config.election_ticks } else { 0 }
    }

    /// Ticks until this node's turn to succeed a leader that is gone. Greater ids go first, as in `PreCandidate::goes_before`. Between
    /// two turns there is time for an election on any network that the election timeout fits.
    fn turn_ticks(&self, gone_leader: NodeId) -> u32 {
        let goes_first = |node: &&NodeId| **node > self.config.id && **node != gone_leader;
        let before = self.membership.all_voters().iter().filter(goes_first).count();
        let step_ticks = (self.config.hurry_ticks() / 2).max(2);
        u32::try_from(before).map_or(u32::MAX, |before| 1 + step_ticks * before)
    }

    /// Makes the timeout short if this node, which knows of no leader, is the preferred one.
    pub(super) fn hurry_preferred(&mut self) {
        if self.config.preferred_leader == Some(self.config.id) && !self.is_leaving {
            mark!("raft: the preferred leader campaigns early");
            self.timer.elapsed_ticks = 0;
            self.timer.timeout_ticks = self.rng.in_range(1, self.config.hurry_ticks());
        }
    }

    /// The leader was heard from.
    pub(super) fn heard_leader(&mut self) {
        self.timer.hurry_until_tick = 0;
        self.restart_election_timer();
    }

    /// A tick passed without word from a leader. True if the timeout has ended.
    pub(super) fn tick_election_timer(&mut self) -> bool {
        self.timer.elapsed_ticks += 1;
        self.timer.elapsed_ticks >= self.timer.timeout_ticks
    }
}
