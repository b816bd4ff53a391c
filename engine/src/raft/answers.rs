//! Answers to a leader: which of them are for it, what they are worth, and which of them show that the term has two leaders.
//!
//! A leader makes every entry of its term, its log only grows while it leads, and it begins every round of heartbeats itself. So an
//! honest follower cannot say that it has more of the leader's log than there is, that an entry of the term is another one, or that it
//! answers a round to come. If one does, it heard another leader of the term:
//!
//! * another life of this node, which the answer names (`histories`);
//! * this very life, before the memory and the disk of this node were put back to an earlier image at once, as a snapshot of a virtual
//!   machine does. Nothing in the node shows that. It would count what was told to the log that it forgot;
//! * another node, since a voter forgot its vote.
//!
//! In each case this leader gives the term up, and nothing of the answer counts. The next one's leader is compared with everyone anew.
//! So that the log that was forgotten is told apart from one that has grown as long again, followers say with their match the lineage of
//! their log up to there.

use super::holding::Holding;
use super::leader::Leading;
use super::log_view::{LogView, term_at};
use super::membership_history::Weight;
use super::message::NO_LIFE;
use super::{AppendOutcome, Common, Fork, Health, Nonsense, Raft, Speaker, State};
use crate::types::{EntryId, Lineage, NodeId, Term};

impl Raft {
    pub(super) fn on_append_response(
        &mut self,
        from: NodeId,
        speaker: Speaker,
        (term, life): (Term, u64),
        outcome: AppendOutcome,
        log: &impl LogView,
    ) {
        let Some((leading, common, weight)) = self.answered_leader(from, speaker, term, life) else { return };
        match forgotten_of(outcome, term, log) {
            Some(why) => self.give_up_term(from, why),
            None => leading.on_append_response(common, from, weight, outcome, log),
        }
    }

    pub(super) fn on_heartbeat_response(
        &mut self,
        from: NodeId,
        speaker: Speaker,
        (term, life): (Term, u64),
        (round, health): (u64, Health),
        holding: Holding,
        log: &impl LogView,
    ) {
        let Some((leading, common, weight)) = self.answered_leader(from, speaker, term, life) else { return };
        let newest = leading.newest_round();
        let is_future = round > newest;
        let future = is_future.then_some(Nonsense::FutureRound { got: round, newest });
        match future.or_else(|| forgotten_match(holding, log)) {
            Some(why) => self.give_up_term(from, why),
            None => {
                leading.note_health(common, from, holding.matched_index, health);
                leading.on_heartbeat_response(common, from, weight, round, holding, log);
            }
        }
    }

    /// The leader that a peer's answer is for, and what the answer is worth; `None` if it is worth nothing.
    fn answered_leader(
        &mut self,
        from: NodeId,
        speaker: Speaker,
        term: Term,
        life: u64,
    ) -> Option<(&mut Leading, &mut Common, Weight)> {
        if !self.is_current(term) || !matches!(self.state, State::Leader(_)) {
            return None;
        }
        let weight = self.common.weigh(from, speaker)?;
        if life != self.common.config.life {
            if life != NO_LIFE {
                mark!("raft: a leader that led its term in another life gives it up");
                self.give_up_term(from, Nonsense::OtherLifeOfLeader { term });
            }
            return None;
        }
        let State::Leader(leading) = &mut self.state else { return None };
        Some((leading.as_mut(), &mut self.common, weight))
    }

    /// A member's answer shows that the term has another leader: what was told to that one would count here. A term with two leaders ends
    /// here.
    fn give_up_term(&mut self, from: NodeId, why: Nonsense) {
        assert!(matches!(self.state, State::Leader(_)), "a leader is answered");
        let term = self.common.hard_state.term;
        self.common.refuse(from, why);
        self.become_follower(term, None);
        assert!(self.common.led_term == term, "it leads term {term} no more, and nobody else does");
    }
}

/// What an answer to `AppendEntries` says of a log that the leader of `term` never had, if it says anything of one.
fn forgotten_of(outcome: AppendOutcome, term: Term, log: &impl LogView) -> Option<Nonsense> {
    match outcome {
        AppendOutcome::Accepted { matched_index, persisted_index, lineage }
        | AppendOutcome::NoRoom { matched_index, persisted_index, lineage }
        | AppendOutcome::Damaged { matched_index, persisted_index, lineage } => {
            forgotten_match(Holding { matched_index, persisted_index, lineage }, log)
        }
        AppendOutcome::Rejected { hint, .. } => forgotten_entry(hint, None, term, log),
        AppendOutcome::OtherHistory { entry, lineage } => forgotten_entry(entry, Some(lineage), term, log),
    }
}

/// A follower says that its log equals the leader's up to an index. That is not so if the leader's ends before it, or is another one.
fn forgotten_match(holding: Holding, log: &impl LogView) -> Option<Nonsense> {
    let (got, last) = (holding.matched_index, log.last_id().index);
    if got > last {
        return Some(Nonsense::MatchBeyondEnd { got, last });
    }
    // Nobody looks up what its log does not reach back to. That was committed.
    let (ours, theirs) = (log.lineage(got)?, holding.lineage?);
    let fork = Fork { entry: EntryId::new(term_at(log, got)?, got), ours, theirs };
    (ours != theirs).then_some(Nonsense::OtherMatch(fork))
}

/// A follower has an entry of the leader's own term, with this lineage if it says so. The leader made all of these, and its log holds them,
/// unless it does not reach back to them.
fn forgotten_entry(entry: EntryId, lineage: Option<Lineage>, term: Term, log: &impl LogView) -> Option<Nonsense> {
    if entry.term != term || entry.index < log.base().index {
        return None;
    }
    let is_other = |theirs: Lineage| log.lineage(entry.index) != Some(theirs);
    let is_forgotten = term_at(log, entry.index) != Some(term) || lineage.is_some_and(is_other);
    is_forgotten.then_some(Nonsense::ForgottenEntry { entry })
}
