//! A follower: takes its leader's entries, acknowledges what is durable, learns what is committed.
//!
//! Thesis 3.5 (log replication), 3.6 (safety). Appending itself is the replica's.

use super::holding::Holding;
use super::log_view::{LogView, last_not_after_term, term_at};
use super::message::NO_LIFE;
use super::parting::Parting;
use super::{AppendDecision, AppendEntries, AppendOutcome, Common, Health, Message, Nonsense, Raft, Tip};
use crate::types::{EntryId, Index, Lineage, NodeId, Term};

/// A leader: a node, and one life of it.
///
/// A leader's vote for itself is durable, so that no node leads one term in two lives. One that does has lost that vote: its data directory
/// was put back to an older copy. Its earlier life is another leader for the others (`histories`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaderLife {
    pub(super) node: NodeId,
    pub(super) life: u64,
}

/// What a node knows of the log of the current term's leader. It is kept while the node asks for pre-votes in that term.
#[derive(Clone, Debug, Default)]
pub(super) struct Following {
    /// The leader that this node believes in.
    leader: Option<NodeId>,
    /// Who leads the current term, as far as this node heard. Unlike `leader` it stays when this node doubts the leader: a term
    /// has one leader, and a node that followed it grants its vote of that term to nobody else.
    leader_of_term: Option<LeaderLife>,
    /// Highest index through which this node's log is known to equal the leader's, in the current term.
    ///
    /// Starts at 0 and never decreases within a term, but for a return to 0 when this node parts from a leader that contradicts what it
    /// said. Every later leader's log contains what is committed (thesis 3.6.3); it
    /// is compared all the same, so that nothing is acknowledged to a leader that lacks it (see `known`).
    /// Invariant: matched_index <= last_index while there is a leader.
    matched_index: Index,
    /// Highest index acknowledged as durable in the current term.
    acked_index: Index,
    /// The append that the replica was told to carry out and has not reported yet.
    appending: Option<Appending>,
    taking: Taking,
    /// The last answer that was no, and nothing was taken since. It is repeated if it may not have left.
    rejected: Option<AppendOutcome>,
    /// Why nothing is taken from the leader in this term any more: its log has another history.
    parted: Option<Parting>,
    /// The leader's commit index as it was last told, in the current term. It may be told before the entries arrive; the part that
    /// this node's log does not match yet counts once it does. A heartbeat replaces what came before it, so a wrong one counts for
    /// one interval only.
    told_commit_index: Index,
    /// The leader was told of the first entries that match in the current term.
    has_told_match: bool,
    /// The leader asked this node to campaign once it has everything through this index, until this tick.
    call: Option<(Index, u64)>,
}

/// Whether this node takes entries, and whether its leader knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taking {
    /// It does, as far as is known.
    #[default]
    Yes,
    /// Entries were dropped for want of room, and the leader is told: it sends none until it is told otherwise.
    NoRoom,
    /// There is room again. The leader is told with every heartbeat until it sends entries, because the news may get lost.
    Again,
    /// Entries were dropped because they were damaged. The leader is told with every heartbeat until it has sent them once more.
    Damaged,
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
    /// `AppendEntries` arrived with these entries. Says which of them the caller is to append.
    ///
    /// The caller must have verified the entries' checksums. It carries `Append` out completely, or reports `on_appended` after
    /// appending a prefix: the leader will send the rest again. A caller that sees before that there is no room calls
    /// `admit_append` and `on_no_room` instead.
    #[must_use]
    pub fn step_append(
        &mut self,
        from: NodeId,
        append: &AppendEntries,
        entries: &[Tip],
        log: &impl LogView,
    ) -> AppendDecision {
        if !is_well_formed(append, entries) || !self.admit_append(from, append, log) {
            return AppendDecision::Drop;
        }
        if !entries.iter().all(|theirs| self.common.agrees_with_committed(from, append.term, *theirs, log)) {
            return AppendDecision::Drop;
        }
        let Some(following) = self.state.following_mut() else { return AppendDecision::Drop };
        if following.is_contradicted(&mut self.common, append, entries, log) {
            return AppendDecision::Drop;
        }
        if !following.shares_history(&mut self.common, entries, log) {
            return AppendDecision::Drop;
        }
        let decision = following.take_entries(&mut self.common, append, entries, log);
        if decision == AppendDecision::Drop {
            self.check_repair(log);
            self.follow_call(log);
        }
        decision
    }

    /// Looks at an `AppendEntries` without its entries: sender, term, and whether the logs agree before the first entry.
    ///
    /// `false`: its entries are not wanted, and the leader was answered if it needs an answer. Cheap, so that messages which are
    /// not taken cost no checksums. `step_append` begins with this; to call it before is allowed.
    pub fn admit_append(&mut self, from: NodeId, append: &AppendEntries, log: &impl LogView) -> bool {
        if !self.common.is_peer(from) || !self.may_follow() || !is_sane(append) {
            return false;
        }
        if self.common.refuses_term(from, append.term) {
            self.approach(append.term);
            return false;
        }
        if append.term < self.common.hard_state.term {
            mark!("raft: entries of an earlier term are refused");
            self.tell_term(from);
            return false;
        }
        if !self.follow(LeaderLife { node: from, life: append.life }, append.term) {
            return false;
        }
        if !self.common.agrees_with_committed(from, append.term, append.prev_tip(), log) {
            return false;
        }
        self.state.following_mut().is_some_and(|following| following.admit(&mut self.common, append, log))
    }

    /// What the leader said last that is committed; this node need not have it. Without a leader what is known here.
    #[must_use]
    pub(crate) fn told_commit_index(&self) -> Index {
        let told = self.state.following().map_or(Index::ZERO, |following| following.told_commit_index);
        told.max(self.common.commit_index)
    }

    /// The replica appended what it was told to, or a prefix of it.
    pub(super) fn take_appended(&mut self, log: &impl LogView) {
        if let Some(following) = self.state.following_mut()
            && following.take_appended(&mut self.common, log)
        {
            self.check_repair(log);
            self.follow_call(log);
        }
    }

    /// The log has no room for the entries of an `AppendEntries` that was admitted: they were dropped. Tells the leader.
    ///
    /// What stands before them matches all the same, and is acknowledged: a node without room still counts for what it has.
    pub fn on_no_room(&mut self, append: &AppendEntries, log: &impl LogView) {
        self.on_not_taken(append, Taking::NoRoom, log);
    }

    /// The entries of an `AppendEntries` that was admitted are damaged: they were dropped. Tells the leader, as above.
    pub fn on_damaged(&mut self, append: &AppendEntries, log: &impl LogView) {
        self.on_not_taken(append, Taking::Damaged, log);
    }

    fn on_not_taken(&mut self, append: &AppendEntries, why: Taking, log: &impl LogView) {
        let Some(following) = self.state.following_mut() else { return };
        if !following.is_contradicted(&mut self.common, append, &[], log) {
            following.on_not_taken(&mut self.common, append, why, log);
        }
    }

    /// Entries were dropped unseen, because this node may say nothing before its log has room: the leader is told once it has.
    pub fn on_entries_missed(&mut self, from: NodeId) {
        if let Some(following) = self.state.following_mut()
            && following.leader == Some(from)
        {
            following.taking = Taking::NoRoom;
        }
    }

    /// There may be room for entries again. Tells the leader if it was told otherwise.
    pub fn on_room(&mut self, log: &impl LogView) {
        if let Some(following) = self.state.following_mut() {
            following.on_room(&mut self.common, log);
        }
    }

    pub(super) fn on_heartbeat(
        &mut self,
        leader: LeaderLife,
        term: Term,
        commit_index: Index,
        round: u64,
        log: &impl LogView,
    ) {
        if !self.may_follow() {
            return;
        }
        if term < self.common.hard_state.term {
            self.tell_term(leader.node);
            return;
        }
        if !self.follow(leader, term) {
            return;
        }
        let (health, is_under_repair) = (self.own_health(), self.is_under_repair());
        mark!("raft: a node under repair confirms no round" if is_under_repair);
        // It may have promised a later term.
        let round = if is_under_repair { 0 } else { round };
        if let Some(following) = self.state.following_mut() {
            following.on_heartbeat(&mut self.common, commit_index, round, health, log);
        }
        self.check_repair(log);
    }

    /// Answers a message of an earlier term, so that its sender learns that it was deposed.
    ///
    /// The answer is of this node's term, which the sender may be leading by now. So it must repeat nothing that was asked in
    /// the earlier one: a round of that term would pass for one of this term and confirm reads that it knows nothing of. And it answers
    /// no life of a leader.
    fn tell_term(&mut self, from: NodeId) {
        mark!("raft: a deposed leader is told the term");
        self.answer_nothing(from, NO_LIFE);
    }

    /// Answers that nothing is confirmed, matched or durable.
    fn answer_nothing(&mut self, to: NodeId, life: u64) {
        let (term, matched_index, persisted_index) = (self.common.hard_state.term, Index::ZERO, Index::ZERO);
        let health = self.own_health();
        let lineage = None;
        let answer =
            Message::HeartbeatResponse { term, life, round: 0, matched_index, persisted_index, lineage, health };
        self.common.respond(to, answer);
    }

    /// `leader` says that it leads `term`, which is not older than this node's. `false` if another node or another life of it does: there
    /// is no second leader of a term, so the message is refused.
    fn follow(&mut self, leader: LeaderLife, term: Term) -> bool {
        let own_term = self.common.hard_state.term;
        let leader_of_term = self.state.following().and_then(|following| following.leader_of_term);
        if let Some(known) = leader_of_term.filter(|known| term == own_term && *known != leader) {
            self.refuse_second_leader(known, leader);
            return false;
        }
        if term > own_term || self.leader() != Some(leader.node) {
            if term == self.common.led_term {
                // This node won that term itself, even if it has stepped down since.
                self.common.refuse(leader.node, Nonsense::SecondLeader { term, leader: self.common.config.id });
                return false;
            }
            self.become_follower(term, Some(leader));
        }
        assert!(self.leader() == Some(leader.node), "a node with another leader is a follower");
        self.common.heard_leader();
        true
    }

    /// `second` claims to lead the term that `known` leads. If it is another life of the same node it is told which life this node heard:
    /// then it knows that it forgot, and gives up the term.
    fn refuse_second_leader(&mut self, known: LeaderLife, second: LeaderLife) {
        assert!(known != second, "{known:?} leads the term");
        let term = self.common.hard_state.term;
        if known.node != second.node {
            self.common.refuse(second.node, Nonsense::SecondLeader { term, leader: known.node });
            return;
        }
        mark!("raft: a leader comes back in another life of one term");
        self.common.refuse(second.node, Nonsense::SecondLife { term });
        self.answer_nothing(second.node, known.life);
    }
}

impl Following {
    /// The leader that this node believes in.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Nobody is known to lead the current term.
    pub(super) fn has_no_leader(&self) -> bool {
        self.leader_of_term.is_none()
    }

    /// Highest index through which this node's log is known to equal the leader's, in the current term.
    pub(super) fn matched_index(&self) -> Index {
        self.matched_index
    }

    /// Who leads the current term, while this node believes in it.
    pub(super) fn leader_life(&self) -> Option<LeaderLife> {
        self.leader_of_term.filter(|_| self.leader.is_some())
    }

    /// Why nothing is taken from the leader in this term any more.
    pub(super) fn parted(&self) -> Option<Parting> {
        self.parted
    }

    /// The leader's log was found to have another history, in this term.
    pub(super) fn has_parted(&self) -> bool {
        self.parted.is_some()
    }

    /// The leader's log has another history: nothing more is taken from it in this term. The first reason stays.
    pub(super) fn part(&mut self, parting: Parting) {
        self.parted.get_or_insert(parting);
    }

    /// What this node told its leader counts for nothing any more: nothing says which of the leader's words were true.
    pub(super) fn forget_match(&mut self) {
        self.matched_index = Index::ZERO;
    }

    /// From here on this node believes in this leader of the current term, or in none.
    pub(super) fn set_leader(&mut self, leader: Option<LeaderLife>) {
        let is_second = leader.is_some() && self.leader_of_term.is_some() && leader != self.leader_of_term;
        assert!(!is_second, "a term has one leader");
        self.leader = leader.map(|leader| leader.node);
        self.leader_of_term = self.leader_of_term.or(leader);
    }

    /// The leader was heard from not long ago, and its connection did not break since.
    pub(super) fn hears_leader(&self, common: &Common) -> bool {
        let timer = &common.timer;
        self.leader.is_some() && !timer.leader_is_gone && timer.elapsed_ticks < common.config.election_ticks
    }

    /// The leader asks this node to campaign once it has everything through `last_index`.
    pub(super) fn note_call(&mut self, last_index: Index, until_tick: u64) {
        self.call = Some((last_index, until_tick));
    }

    /// The leader asked this node to campaign not long ago, and everything that was to come before is in the log.
    pub(super) fn is_called(&self, now_tick: u64) -> bool {
        self.call.is_some_and(|(last_index, until_tick)| self.matched_index >= last_index && now_tick < until_tick)
    }

    /// Whether the log holds the entry before those of an `AppendEntries`. Tells the leader if not.
    fn admit(&mut self, common: &mut Common, append: &AppendEntries, log: &impl LogView) -> bool {
        self.appending = None;
        // What matched before in this term and does not any more contradicts what the leader said: that is looked at later.
        let is_matched = append.prev.index <= self.matched_index && !self.has_parted();
        if !is_matched && !self.shares_history(common, &[append.prev_tip()], log) {
            return false;
        }
        let agrees = self.agrees_at(append.prev, log);
        if !agrees {
            mark!("raft: logs do not agree");
            let upto = log.last_id().index.min(append.prev.index.prev());
            let hint = last_not_after_term(log, self.agreed_floor(common), upto, append.prev.term);
            let outcome = AppendOutcome::Rejected { prev_index: append.prev.index, hint };
            self.rejected = Some(outcome);
            self.answer(common, outcome);
        }
        agrees
    }

    /// Takes the entries of an `AppendEntries` that was admitted and contradicts nothing.
    #[must_use]
    fn take_entries(
        &mut self,
        common: &mut Common,
        append: &AppendEntries,
        entries: &[Tip],
        log: &impl LogView,
    ) -> AppendDecision {
        mark!("raft: entries come again after there was no room" if self.taking == Taking::Again);
        self.rejected = None;
        if self.taking != Taking::NoRoom {
            self.taking = Taking::Yes;
        }
        let skip = entries.iter().take_while(|entry| self.agrees_at(entry.id, log)).count();
        let matched_before = match skip.checked_sub(1).and_then(|at| entries.get(at)) {
            Some(entry) => entry.id.index,
            None => append.prev.index,
        };
        match entries.last() {
            Some(&last) if skip < entries.len() => {
                self.appending = Some(Appending { last: last.id, matched_before, commit_index: append.commit_index });
                AppendDecision::Append { skip }
            }
            _ => {
                self.match_through(common, matched_before, append.commit_index, log);
                self.acknowledge(common, log);
                AppendDecision::Drop
            }
        }
    }

    /// The leader looks for the last common entry at this index and above: what matched and what is committed is common.
    fn agreed_floor(&self, common: &Common) -> Index {
        let matched_index = self.matched_index;
        matched_index.max(common.commit_index)
    }

    /// The log holds this entry of the current leader's log. What is known to match is not looked up again: it may have been
    /// compacted away.
    fn agrees_at(&self, entry: EntryId, log: &impl LogView) -> bool {
        let term = term_at(log, entry.index);
        // What lies before the log was committed, so that every leader has the very entries that this node had.
        let is_before_log = entry.index < log.base().index;
        is_before_log || entry.index <= self.matched_index || term == Some(entry.term)
    }

    /// The replica appended what it was told to, or a prefix of it. False if it was told nothing.
    fn take_appended(&mut self, common: &mut Common, log: &impl LogView) -> bool {
        let Some(appending) = self.appending.take() else { return false };
        self.taking = Taking::Yes;
        let is_complete = log.last_id() == appending.last;
        let matched = if is_complete { appending.last.index } else { appending.matched_before };
        self.match_through(common, matched, appending.commit_index, log);
        if is_complete && !self.has_told_match {
            // Before it is durable: a leader that only probes sends the next entries once it knows that these fit.
            self.acknowledge(common, log);
        } else {
            self.acknowledge_news(common, log);
        }
        true
    }

    /// Notes what matches the leader's log, and as much of the leader's commit index as that covers.
    fn match_through(&mut self, common: &mut Common, matched: Index, leader_commit_index: Index, log: &impl LogView) {
        self.matched_index = self.matched_index.max(matched);
        self.told_commit_index = self.told_commit_index.max(leader_commit_index);
        let matched_index = self.matched_index;
        assert!(matched_index <= log.last_id().index, "matched {matched_index}, but the log ends at {}", log.last_id());
        common.commit_index = common.commit_index.max(self.told_commit_index.min(matched_index));
    }

    /// Acknowledges what is durable if that is more than was acknowledged before. One message covers many appends.
    pub(super) fn acknowledge_news(&mut self, common: &mut Common, log: &impl LogView) {
        if self.persisted_match(log) > self.acked_index {
            self.acknowledge(common, log);
        }
    }

    /// Repeats what the leader was told last, if it was told anything in this term: it may not have left.
    pub(super) fn acknowledge_again(&mut self, common: &mut Common, log: &impl LogView) {
        mark!("raft: a follower repeats what it told its leader");
        if self.taking == Taking::Again {
            self.tell_room(common, log);
        } else if self.has_told_match {
            self.acknowledge(common, log);
        }
        if let Some(rejected) = self.rejected {
            self.answer(common, rejected);
        }
    }

    /// Tells the leader what matches its log and what of that is durable.
    fn acknowledge(&mut self, common: &mut Common, log: &impl LogView) {
        if self.leader.is_none() {
            return;
        }
        let Holding { matched_index, persisted_index, lineage } = self.holding(log);
        self.acked_index = persisted_index;
        self.has_told_match = true;
        let outcome = match self.taking {
            Taking::NoRoom => AppendOutcome::NoRoom { matched_index, persisted_index, lineage },
            Taking::Damaged => AppendOutcome::Damaged { matched_index, persisted_index, lineage },
            Taking::Yes | Taking::Again => AppendOutcome::Accepted { matched_index, persisted_index, lineage },
        };
        self.answer(common, outcome);
    }

    /// Answers an `AppendEntries` of the leader.
    pub(super) fn answer(&self, common: &mut Common, outcome: AppendOutcome) {
        if let Some(LeaderLife { node, life }) = self.leader_life() {
            common.respond(node, Message::AppendEntriesResponse { term: common.hard_state.term, life, outcome });
        }
    }

    fn on_not_taken(&mut self, common: &mut Common, append: &AppendEntries, why: Taking, log: &impl LogView) {
        self.match_through(common, append.prev.index, append.commit_index, log);
        self.taking = why;
        mark!("raft: a follower has no room" if why == Taking::NoRoom);
        mark!("raft: a follower got damaged entries" if why == Taking::Damaged);
        self.acknowledge(common, log);
    }

    fn on_room(&mut self, common: &mut Common, log: &impl LogView) {
        if self.taking == Taking::NoRoom {
            mark!("raft: a follower has room again");
            self.tell_room(common, log);
        }
    }

    /// Tells the leader that there was no room and is some again. It may not have heard that there was none, and then does not know that
    /// entries were dropped.
    fn tell_room(&mut self, common: &mut Common, log: &impl LogView) {
        for taking in [Taking::NoRoom, Taking::Again] {
            self.taking = taking;
            self.acknowledge(common, log);
        }
    }

    /// What this node's log has of the leader's.
    fn holding(&self, log: &impl LogView) -> Holding {
        Holding::of(self.matched_index, self.persisted_match(log), log)
    }

    /// The part of the leader's log that is durable here.
    pub(super) fn persisted_match(&self, log: &impl LogView) -> Index {
        self.matched_index.min(log.persisted_index())
    }

    fn on_heartbeat(
        &mut self,
        common: &mut Common,
        commit_index: Index,
        round: u64,
        health: Health,
        log: &impl LogView,
    ) {
        let Some(LeaderLife { node, life }) = self.leader_life() else { return };
        self.told_commit_index = commit_index;
        self.match_through(common, Index::ZERO, commit_index, log);
        let Holding { matched_index, persisted_index, lineage } = self.holding(log);
        self.acked_index = self.acked_index.max(persisted_index);
        // Nobody confirms a leader whose log was not yet seen to have what is committed, or was seen to have another history.
        let is_compared = matched_index >= common.known_index() && !self.has_parted();
        let round = if is_compared { round } else { 0 };
        let term = common.hard_state.term;
        let answer = Message::HeartbeatResponse { term, life, round, matched_index, persisted_index, lineage, health };
        common.respond(node, answer);
        if matches!(self.taking, Taking::Again | Taking::Damaged) {
            self.acknowledge(common, log);
        }
    }
}

/// The message can be one of a leader, whatever its entries are.
fn is_sane(append: &AppendEntries) -> bool {
    let is_start = append.prev.index == Index::ZERO;
    let prev_is_sane =
        is_start == (append.prev.term == Term::ZERO) && (!is_start || append.prev_lineage == Lineage::START);
    append.prev.index.get() != u64::MAX
        && append.last.get() != u64::MAX
        && prev_is_sane
        && append.first == append.prev.index.next()
        && append.prev.term <= append.term
        && append.term > Term::ZERO
        && append.life != NO_LIFE
}

/// The ids are those the message announces: contiguous, of terms that do not decrease or exceed the leader's.
fn is_well_formed(append: &AppendEntries, entries: &[Tip]) -> bool {
    if !is_sane(append) {
        return false;
    }
    let ends_match = append.last.get().checked_sub(append.prev.index.get()) == Some(entries.len() as u64);
    let mut before = append.prev;
    let is_contiguous = entries.iter().map(|tip| tip.id).all(|entry| {
        let follows = entry.index == before.index.next() && entry.term >= before.term && entry.term > Term::ZERO;
        before = entry;
        follows
    });
    ends_match && is_contiguous && before.term <= append.term
}
