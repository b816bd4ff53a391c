//! A follower: takes its leader's entries, acknowledges what is durable, learns what is committed.
//!
//! Thesis 3.5 (log replication), 3.6 (safety). Appending itself is the replica's.

use super::log_view::{LogView, last_not_after_term, term_at};
use super::{AppendDecision, AppendEntries, AppendOutcome, Message, Nonsense, Raft, State};
use crate::types::{EntryId, Index, NodeId, Term};

/// What a follower knows of the log of the current term's leader.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Highest index through which this node's log is known to equal the leader's, in the current term.
    ///
    /// Starts at 0 and never decreases within a term. What is committed every later leader's log contains (thesis 3.6.3); it
    /// is compared all the same, so that nothing is acknowledged to a leader that lacks it (see `known`).
    /// Invariant: matched_index <= last_index while there is a leader.
    matched_index: Index,
    /// Who leads the current term, as far as this node heard. Unlike `Raft::leader` it stays when this node doubts the leader: a term
    /// has one leader, and a node that followed it grants its vote of that term to nobody else.
    leader_of_term: Option<NodeId>,
    /// Highest index acknowledged as durable in the current term.
    acked_index: Index,
    /// The append that the replica was told to carry out and has not reported yet.
    appending: Option<Appending>,
    room: Room,
    /// The commit index that the leader told, in the current term. What of it this node's log does not match yet counts once it does:
    /// the news may overtake the entries. A heartbeat takes back what came before it, so that one that lies counts for one interval.
    told_commit_index: Index,
    /// The leader was told of the first entries that match in the current term.
    has_told_match: bool,
    /// The leader asked this node to campaign once it has everything through this index, until this tick.
    call: Option<(Index, u64)>,
}

impl Following {
    /// Nobody is known to lead the current term.
    pub(super) fn has_no_leader(&self) -> bool {
        self.leader_of_term.is_none()
    }

    pub(super) fn note_call(&mut self, last_index: Index, until_tick: u64) {
        self.call = Some((last_index, until_tick));
    }

    /// The leader asked this node to campaign, not long ago, and everything that was to come before is in the log.
    pub(super) fn is_called(&self, now_tick: u64) -> bool {
        self.call.is_some_and(|(last_index, until_tick)| self.matched_index >= last_index && now_tick < until_tick)
    }
}

/// Whether this node's log takes entries, and whether its leader knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Room {
    /// It does, as far as is known.
    #[default]
    Enough,
    /// Entries were dropped for want of room, and the leader was told: it sends none until it is told otherwise.
    Lacking,
    /// There is room again. The leader is told with every heartbeat until it sends something: the news may get lost.
    Regained,
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

impl Raft {
    /// `AppendEntries` arrived with the entries of these ids. Says which of them the caller is to append.
    ///
    /// The caller must have verified the entries' checksums. It carries `Append` out completely, or reports `on_appended` after
    /// appending a prefix: the leader will send again. One that sees before that there is no room calls `admit_append` and
    /// `on_no_room` instead.
    #[must_use]
    pub fn step_append(
        &mut self,
        from: NodeId,
        append: &AppendEntries,
        entries: &[EntryId],
        log: &impl LogView,
    ) -> AppendDecision {
        if !is_well_formed(append, entries) || !self.admit_append(from, append, log) {
            return AppendDecision::Drop;
        }
        if !entries.iter().all(|theirs| self.agrees_with_committed(from, append.term, *theirs, log)) {
            return AppendDecision::Drop;
        }
        if let Some(why) = self.contradiction(append, entries, log) {
            self.refuse(from, why);
            return AppendDecision::Drop;
        }
        if self.following.room == Room::Regained {
            mark!("raft: entries come again after there was no room");
            self.following.room = Room::Enough;
        }
        let skip = entries.iter().take_while(|entry| self.agrees_at(**entry, log)).count();
        let matched_before = match skip.checked_sub(1).and_then(|at| entries.get(at)) {
            Some(entry) => entry.index,
            None => append.prev.index,
        };
        match entries.last() {
            Some(&last) if skip < entries.len() => {
                let commit_index = append.commit_index;
                self.following.appending = Some(Appending { last, matched_before, commit_index });
                AppendDecision::Append { skip }
            }
            _ => {
                self.match_through(matched_before, append.commit_index, log);
                self.acknowledge(log);
                self.check_repair(log);
                self.follow_call(log);
                AppendDecision::Drop
            }
        }
    }

    /// Looks at an `AppendEntries` without its entries: sender, term, and whether the logs agree before the first entry.
    ///
    /// `false`: its entries are of no interest, and whatever there is to answer was answered. Cheap, so that messages which are
    /// not taken cost no checksums. `step_append` begins with this; to call it before is allowed.
    pub fn admit_append(&mut self, from: NodeId, append: &AppendEntries, log: &impl LogView) -> bool {
        if !self.is_peer(from) || !self.may_follow() || !is_sane(append) {
            return false;
        }
        if self.refuses_term(from, append.term) {
            self.approach(append.term);
            return false;
        }
        if append.term < self.hard_state.term {
            mark!("raft: entries of an earlier term are refused");
            self.tell_term(from);
            return false;
        }
        if !self.follow(from, append.term) {
            return false;
        }
        if !self.agrees_with_committed(from, append.term, append.prev, log) {
            return false;
        }
        self.following.appending = None;
        if !self.agrees_at(append.prev, log) {
            let upto = log.last_id().index.min(append.prev.index.prev());
            let hint = last_not_after_term(log, self.agreed_floor(), upto, append.prev.term);
            self.reject(from, append.prev.index, hint);
            return false;
        }
        true
    }

    /// What the leader sends now that contradicts what it sent before: then there are two leaders in one term.
    fn contradiction(&self, append: &AppendEntries, entries: &[EntryId], log: &impl LogView) -> Option<Nonsense> {
        let matched_index = self.following.matched_index;
        let known = std::iter::once(&append.prev).chain(entries).take_while(|entry| entry.index <= matched_index);
        known.map(|&got| (got, term_at(log, got.index))).find_map(|(got, term)| {
            let matched = term.filter(|term| *term != got.term)?;
            Some(Nonsense::OtherEntry { got, matched })
        })
    }

    /// Where the leader is to look for the last common entry at the earliest: what matched, and what is committed.
    fn agreed_floor(&self) -> Index {
        let matched_index = self.following.matched_index;
        matched_index.max(self.commit_index)
    }

    /// The log holds this entry of the current leader's log. What is known to match is not looked up again: it may have been
    /// compacted away.
    fn agrees_at(&self, entry: EntryId, log: &impl LogView) -> bool {
        let term = term_at(log, entry.index);
        // What lies before the log was committed, so that every leader has the very entries that this node had.
        let is_before_log = entry.index < log.base().index;
        is_before_log || entry.index <= self.following.matched_index || term == Some(entry.term)
    }

    /// The replica appended what it was told to, or a prefix of it.
    pub(super) fn take_appended(&mut self, log: &impl LogView) {
        let Some(appending) = self.following.appending.take() else { return };
        self.following.room = Room::Enough;
        let is_complete = log.last_id() == appending.last;
        let matched = if is_complete { appending.last.index } else { appending.matched_before };
        self.match_through(matched, appending.commit_index, log);
        if is_complete && !self.following.has_told_match {
            // Before it is durable: a leader that only probes sends the next entries once it knows that these fit.
            self.acknowledge(log);
        } else {
            self.acknowledge_news(log);
        }
        self.check_repair(log);
        self.follow_call(log);
    }

    /// Notes what matches the leader's log, and as much of the leader's commit index as that covers.
    fn match_through(&mut self, matched: Index, leader_commit_index: Index, log: &impl LogView) {
        self.following.matched_index = self.following.matched_index.max(matched);
        self.following.told_commit_index = self.following.told_commit_index.max(leader_commit_index);
        let matched_index = self.following.matched_index;
        assert!(matched_index <= log.last_id().index, "matched {matched_index}, but the log ends at {}", log.last_id());
        self.commit_index = self.commit_index.max(self.following.told_commit_index.min(matched_index));
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
        self.following.has_told_match = true;
        let matched_index = self.following.matched_index;
        let outcome = match self.following.room {
            Room::Lacking => AppendOutcome::NoRoom { matched_index, persisted_index },
            Room::Enough | Room::Regained => AppendOutcome::Accepted { matched_index, persisted_index },
        };
        self.respond(leader, Message::AppendEntriesResponse { term: self.hard_state.term, outcome });
    }

    /// The log has no room for the entries of an `AppendEntries` that was admitted: they were dropped. Tells the leader.
    ///
    /// What stands before them matches all the same, and is acknowledged: a node without room still counts for what it has.
    pub fn on_no_room(&mut self, from: NodeId, append: &AppendEntries, log: &impl LogView) {
        if let Some(why) = self.contradiction(append, &[], log) {
            self.refuse(from, why);
            return;
        }
        self.match_through(append.prev.index, append.commit_index, log);
        self.following.room = Room::Lacking;
        mark!("raft: a follower has no room");
        self.acknowledge(log);
    }

    /// There may be room for entries again. Tells the leader if it was told otherwise.
    pub fn on_room(&mut self, log: &impl LogView) {
        if self.following.room == Room::Lacking {
            self.following.room = Room::Regained;
            mark!("raft: a follower has room again");
            self.acknowledge(log);
        }
    }

    fn reject(&mut self, to: NodeId, prev_index: Index, hint: EntryId) {
        mark!("raft: logs do not agree");
        let outcome = AppendOutcome::Rejected { prev_index, hint };
        self.respond(to, Message::AppendEntriesResponse { term: self.hard_state.term, outcome });
    }

    /// What of the leader's log is durable here.
    pub(super) fn persisted_match(&self, log: &impl LogView) -> Index {
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
            self.tell_term(from);
            return;
        }
        if !self.follow(from, term) {
            return;
        }
        self.following.told_commit_index = commit_index;
        self.match_through(Index::ZERO, commit_index, log);
        let matched_index = self.following.matched_index;
        let persisted_index = self.persisted_match(log);
        self.following.acked_index = self.following.acked_index.max(persisted_index);
        // A node under repair may have promised a later term: it confirms nobody. Nor does anybody confirm a leader whose log
        // was not yet seen to have what is committed.
        mark!("raft: a node under repair confirms no round" if self.is_under_repair());
        let round = if self.is_under_repair() || matched_index < self.known_index() { 0 } else { round };
        let health = self.own_health();
        self.respond(from, Message::HeartbeatResponse { term, round, matched_index, persisted_index, health });
        if self.following.room == Room::Regained {
            self.acknowledge(log);
        }
        self.check_repair(log);
    }

    /// Answers a message of an earlier term, so that its sender learns that it was deposed.
    ///
    /// The answer is of this node's term, which the sender may be leading by now. So it must repeat nothing that was asked in
    /// the earlier one: a round of that term would pass for one of this term and confirm reads that it knows nothing of.
    fn tell_term(&mut self, from: NodeId) {
        mark!("raft: a deposed leader is told the term");
        let (term, matched_index, persisted_index) = (self.hard_state.term, Index::ZERO, Index::ZERO);
        let health = self.own_health();
        self.respond(from, Message::HeartbeatResponse { term, round: 0, matched_index, persisted_index, health });
    }

    /// `from` says that it leads `term`, which is not older than this node's. `false` if another node does: there is no second
    /// leader of a term, so the message is refused.
    fn follow(&mut self, from: NodeId, term: Term) -> bool {
        let is_news = term > self.hard_state.term || self.leader != Some(from);
        if is_news {
            if term == self.led_term {
                // This node won that term itself, even if it has stepped down since.
                self.refuse(from, Nonsense::SecondLeader { term, leader: self.config.id });
                return false;
            }
            if term == self.hard_state.term
                && let Some(leader) = self.following.leader_of_term.filter(|leader| *leader != from)
            {
                self.refuse(from, Nonsense::SecondLeader { term, leader });
                return false;
            }
            self.become_follower(term, Some(from));
            self.following.leader_of_term = Some(from);
        }
        assert!(matches!(self.state, State::Follower), "a node with another leader is a follower");
        self.heard_leader();
        true
    }
}

/// The message can be one of a leader, whatever its entries are.
fn is_sane(append: &AppendEntries) -> bool {
    let prev_is_sane = (append.prev.index == Index::ZERO) == (append.prev.term == Term::ZERO);
    append.prev.index.get() != u64::MAX
        && append.last.get() != u64::MAX
        && prev_is_sane
        && append.first == append.prev.index.next()
        && append.prev.term <= append.term
        && append.term > Term::ZERO
}

/// The ids are those the message announces: contiguous, of terms that do not decrease or exceed the leader's.
fn is_well_formed(append: &AppendEntries, entries: &[EntryId]) -> bool {
    if !is_sane(append) {
        return false;
    }
    let ends_match = append.last.get().checked_sub(append.prev.index.get()) == Some(entries.len() as u64);
    let mut before = append.prev;
    let is_contiguous = entries.iter().all(|entry| {
        let follows = entry.index == before.index.next() && entry.term >= before.term && entry.term > Term::ZERO;
        before = *entry;
        follows
    });
    ends_match && is_contiguous && before.term <= append.term
}
