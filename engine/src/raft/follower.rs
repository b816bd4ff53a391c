//! A follower: takes its leader's entries, acknowledges what is durable, learns what is committed.
//!
//! Thesis 3.5 (log replication), 3.6 (safety). Appending itself is the replica's.

use super::log_view::{LogView, last_not_after_term, term_at};
use super::{AppendDecision, AppendEntries, AppendOutcome, Message, Raft, State};
use crate::mutation::{self, Mutation};
use crate::types::{EntryId, Index, NodeId, Term};

/// What a follower knows of the log of the current term's leader.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Highest index through which this node's log is known to equal the leader's, in the current term.
    ///
    /// Starts at commit_index, which every later leader's log contains (thesis 3.6.3), and never decreases within a term.
    /// Invariant: commit_index <= matched_index <= last_index while there is a leader.
    matched_index: Index,
    /// Highest index acknowledged as durable in the current term.
    acked_index: Index,
    /// The append that the replica was told to carry out and has not reported yet.
    appending: Option<Appending>,
}

/// An append on its way into the log.
#[derive(Clone, Copy, Debug)]
struct Appending {
    /// Where the log ends once it is done.
    last: EntryId,
    /// What matches even if it is not done.
    matched_before: Index,
    /// The leader's commit index that came with it.
    commit_index: Index,
}

impl Following {
    /// A new term, in which only what is committed is known to match.
    pub(super) fn starting_at(commit_index: Index) -> Self {
        Self { matched_index: commit_index, acked_index: Index::ZERO, appending: None }
    }
}

impl Raft {
    /// `AppendEntries` arrived with the entries of these ids. Says which of them the caller is to append.
    ///
    /// The caller must have verified the entries' checksums. It may ignore `Append` (for want of space, say) as long as it
    /// carries it out completely or reports `on_appended` after appending a prefix: the leader will send again.
    pub fn step_append(
        &mut self,
        from: NodeId,
        append: &AppendEntries,
        entries: &[EntryId],
        log: &impl LogView,
    ) -> AppendDecision {
        if !self.is_peer(from) || !self.may_follow() || !is_well_formed(append, entries) {
            return AppendDecision::Drop;
        }
        if append.term < self.hard_state.term {
            self.tell_term(from, 0);
            return AppendDecision::Drop;
        }
        self.follow(from, append.term);
        self.following.appending = None;
        if !self.agrees_at(append.prev, log) {
            let upto = log.last_id().index.min(append.prev.index.prev());
            let hint = last_not_after_term(log, self.following.matched_index, upto, append.prev.term);
            self.reject(from, append.prev.index, hint);
            return AppendDecision::Drop;
        }
        let skip = entries.iter().take_while(|entry| self.agrees_at(**entry, log)).count();
        let matched_before = match skip.checked_sub(1).and_then(|at| entries.get(at)) {
            Some(entry) => entry.index,
            None => append.prev.index,
        };
        match entries.last() {
            Some(&last) if skip < entries.len() => {
                assert!(
                    matched_before >= self.commit_index,
                    "the leader of {} rewrites what is committed",
                    append.term
                );
                let commit_index = append.commit_index;
                self.following.appending = Some(Appending { last, matched_before, commit_index });
                AppendDecision::Append { skip }
            }
            _ => {
                self.match_through(matched_before, append.commit_index, log);
                self.acknowledge(log);
                self.check_repair(log);
                AppendDecision::Drop
            }
        }
    }

    /// The log holds this entry of the current leader's log. What is known to match is not looked up again: it may have been
    /// compacted away.
    fn agrees_at(&self, entry: EntryId, log: &impl LogView) -> bool {
        let term = term_at(log, entry.index);
        if mutation::is(Mutation::SkipLogMatching) && entry.index < log.last_id().index {
            return true;
        }
        if entry.index > self.following.matched_index {
            return term == Some(entry.term);
        }
        assert!(
            term.is_none_or(|term| term == entry.term),
            "the leader's entry {entry} was matched before as {term:?}.{}: two leaders in one term",
            entry.index
        );
        true
    }

    /// The replica appended what it was told to, or a prefix of it.
    pub(super) fn take_appended(&mut self, log: &impl LogView) {
        let Some(appending) = self.following.appending.take() else { return };
        let is_complete = log.last_id() == appending.last;
        let matched = if is_complete { appending.last.index } else { appending.matched_before };
        self.match_through(matched, appending.commit_index, log);
        self.acknowledge_news(log);
        self.check_repair(log);
    }

    /// Notes what matches the leader's log, and as much of the leader's commit index as that covers.
    fn match_through(&mut self, matched: Index, leader_commit_index: Index, log: &impl LogView) {
        self.following.matched_index = self.following.matched_index.max(matched);
        let matched_index = self.following.matched_index;
        assert!(matched_index <= log.last_id().index, "matched {matched_index}, but the log ends at {}", log.last_id());
        let known = if mutation::is(Mutation::CommitUnmatched) { log.last_id().index } else { matched_index };
        self.commit_index = self.commit_index.max(leader_commit_index.min(known));
    }

    /// Acknowledges what is durable if that is more than was acknowledged before. One message covers many appends.
    pub(super) fn acknowledge_news(&mut self, log: &impl LogView) {
        if self.persisted_match(log) > self.following.acked_index {
            self.acknowledge(log);
        }
    }

    fn acknowledge(&mut self, log: &impl LogView) {
        let Some(leader) = self.leader else { return };
        let persisted_index = self.persisted_match(log);
        self.following.acked_index = persisted_index;
        let outcome = AppendOutcome::Accepted { matched_index: self.following.matched_index, persisted_index };
        self.respond(leader, Message::AppendEntriesResponse { term: self.hard_state.term, outcome });
    }

    fn reject(&mut self, to: NodeId, prev_index: Index, hint: EntryId) {
        let outcome = AppendOutcome::Rejected { prev_index, hint };
        self.respond(to, Message::AppendEntriesResponse { term: self.hard_state.term, outcome });
    }

    /// What of the leader's log is durable here.
    pub(super) fn persisted_match(&self, log: &impl LogView) -> Index {
        if mutation::is(Mutation::AcknowledgeBeforeSync) {
            return self.following.matched_index;
        }
        self.following.matched_index.min(log.persisted_index())
    }

    pub(super) fn on_heartbeat(
        &mut self,
        from: NodeId,
        term: Term,
        commit_index: Index,
        round: u64,
        log: &impl LogView,
    ) {
        if !self.may_follow() {
            return;
        }
        if term < self.hard_state.term {
            self.tell_term(from, round);
            return;
        }
        self.follow(from, term);
        self.match_through(Index::ZERO, commit_index, log);
        let matched_index = self.following.matched_index;
        let persisted_index = self.persisted_match(log);
        self.following.acked_index = self.following.acked_index.max(persisted_index);
        // A node under repair may have promised a later term: it confirms nobody.
        let round = if self.is_under_repair() { 0 } else { round };
        self.respond(from, Message::HeartbeatResponse { term, round, matched_index, persisted_index });
        self.check_repair(log);
    }

    /// Answers a message of an earlier term, so that its sender learns that it was deposed.
    ///
    /// The answer is of this node's term, which the sender may be leading by now. So it must repeat nothing that was asked in
    /// the earlier one: a round of that term would pass for one of this term and confirm reads that it knows nothing of.
    fn tell_term(&mut self, from: NodeId, asked_round: u64) {
        let round = if mutation::is(Mutation::OldRoundConfirms) { asked_round } else { 0 };
        let (term, nothing) = (self.hard_state.term, Index::ZERO);
        self.respond(
            from,
            Message::HeartbeatResponse { term, round, matched_index: nothing, persisted_index: nothing },
        );
    }

    /// `from` leads `term`, which is not older than this node's.
    fn follow(&mut self, from: NodeId, term: Term) {
        let is_news = term > self.hard_state.term || self.leader != Some(from);
        if is_news {
            if term == self.hard_state.term {
                assert!(self.leader.is_none(), "{from} leads term {term}, but so does {:?}", self.leader);
            }
            self.become_follower(term, Some(from));
        }
        assert!(matches!(self.state, State::Follower), "a node with another leader is a follower");
        self.heard_leader();
    }
}

/// The ids are those the message announces: contiguous, of terms that do not decrease or exceed the leader's.
fn is_well_formed(append: &AppendEntries, entries: &[EntryId]) -> bool {
    if append.prev.index.get() == u64::MAX || append.last.get() == u64::MAX {
        return false;
    }
    let prev_is_sane = (append.prev.index == Index::ZERO) == (append.prev.term == Term::ZERO);
    let ends_match = append.first == append.prev.index.next()
        && append.last.get().checked_sub(append.prev.index.get()) == Some(entries.len() as u64);
    let mut before = append.prev;
    let is_contiguous = entries.iter().all(|entry| {
        let follows = entry.index == before.index.next() && entry.term >= before.term && entry.term > Term::ZERO;
        before = *entry;
        follows
    });
    prev_is_sane && ends_match && is_contiguous && before.term <= append.term && append.term > Term::ZERO
}
