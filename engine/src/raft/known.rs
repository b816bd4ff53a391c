//! What this node knows to be committed, and what it does about a leader whose log turns out to lack it.
//!
//! Every leader has all that was committed in earlier terms (thesis 3.6.3, leader completeness). That rests on nodes that
//! never forget what they acknowledged. A node whose directory was put back to an older copy, or that was wiped, has
//! forgotten, and with its vote a node can be elected that lacks committed entries. Whoever has these entries must not cut
//! them then: the only copy may be its own. So everything that a leader says of its log is compared with what is known to
//! be committed, in this run of the process or by the note of an earlier one. The first contradiction ends this node's part in the
//! cluster: nothing is answered, acknowledged or voted for any more.
//!
//! A node that forgot its vote may have elected a second leader in one term, whose entries have the very terms and indexes of the
//! committed ones. They are told apart by their lineage (`histories`).

use super::histories::{Fork, fork_at};
use super::log_view::{LogView, last_not_after_term, term_at};
use super::{Common, Raft, Tip};
use crate::types::{EntryId, Index, NodeId, Term};

/// A leader that could not have been elected if no node had forgotten a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The leader.
    pub leader: NodeId,
    /// Its term.
    pub term: Term,
    /// What its log has or lacks.
    pub kind: ContradictionKind,
}

/// What shows that a leader lacks what was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContradictionKind {
    /// It has another entry than the committed one.
    Rewrites {
        /// The committed entry, which this node has or had.
        committed: EntryId,
        /// The entry of the leader's log that excludes it.
        theirs: EntryId,
    },
    /// It has the committed entry in another history: there it has other content, or stands after other entries.
    OtherHistory(Fork),
    /// Its log ends before the committed entry.
    EndsBefore {
        /// The committed entry's index.
        committed: Index,
        /// Where the leader's log ended.
        last: Index,
    },
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { leader, term, kind } = self;
        match kind {
            ContradictionKind::Rewrites { committed, theirs } => write!(
                f,
                "node {leader}, which leads term {term}, has entry {theirs}, but this node knows that entry {committed} was committed"
            ),
            ContradictionKind::OtherHistory(Fork { entry, ours, theirs }) => write!(
                f,
                "node {leader}, which leads term {term}, has entry {entry} in another history, with lineage {theirs}, but this node knows that the one with lineage {ours} was committed"
            ),
            ContradictionKind::EndsBefore { committed, last } => write!(
                f,
                "the log of node {leader}, which leads term {term}, ended at index {last}, but this node knows that entries up to index {committed} were committed"
            ),
        }
    }
}

impl Raft {
    /// Tells a node that just started what it knew to be committed in an earlier run. Call it right after `new`, once for each thing that
    /// says so.
    ///
    /// If the log holds that very entry it is committed, and everything before it. If it does not, the entry was not durable
    /// here when the host crashed, or the log is under repair; a leader brings it back.
    pub fn recall_committed(&mut self, noted: Tip, log: &impl LogView) {
        let is_held = holds(log, noted);
        mark!("raft: the log lacks what was noted as committed" if !is_held);
        // The note may name an older entry than the one that the log begins after. Or a later one, which a failed sync took away, than the
        // entry that a kept state is at.
        if is_held {
            self.common.commit_index = self.common.commit_index.max(noted.id.index);
        }
        if noted.id.index > self.common.noted_committed.id.index {
            self.common.noted_committed = noted;
        }
    }

    /// The highest index that may be noted as committed now (in the note beside the log, see `replica::noted`); 0 = nothing more than
    /// before.
    ///
    /// All of it once the current term is durable. Before that a crash may take this node back to the last durable term, and no
    /// leader that it would follow then may contradict the note. If only the current term lies beyond the durable one, entries of the
    /// durable term are safe to note: the leader of that term made them, and the leaders from the current term on have what is
    /// committed. Entries of other terms the leader of the durable term need not have. So a leader that handed over because its disk
    /// hangs, and cannot make the next term durable, learns what became of its last entries.
    #[must_use]
    pub fn notable_index(&self, log: &impl LogView) -> Index {
        let common = &self.common;
        let (durable_term, term) = (common.durable_hard_state.term, common.hard_state.term);
        if durable_term == term {
            return common.commit_index;
        }
        let base = log.base().index;
        let last = last_not_after_term(log, base, common.commit_index.max(base), durable_term);
        let is_safe = durable_term.next() == term && last.term == durable_term;
        mark!("raft: what the durable term committed is noted before the next term is durable" if is_safe);
        if is_safe { last.index } else { Index::ZERO }
    }
}

/// Whether a log holds this very entry and the same entries before it.
fn holds(log: &impl LogView, tip: Tip) -> bool {
    let index = tip.id.index;
    log.term(index) == Some(tip.id.term) && log.lineage(index) == Some(tip.lineage)
}

impl Common {
    /// The highest index known to be committed, whether the log holds it or not.
    pub(super) fn known_index(&self) -> Index {
        self.commit_index.max(self.noted_committed.id.index)
    }

    /// Whether a log that ends at `last` can have everything that this node knows to be committed. One that is shorter can't,
    /// whatever its term.
    pub(super) fn may_have_committed(&self, last: EntryId) -> bool {
        last.index >= self.known_index()
    }

    /// Whether this node's log lacks an entry that it knows to be committed: it could not be a leader.
    pub(super) fn lacks_committed(&self, log: &impl LogView) -> bool {
        let noted = self.noted_committed;
        noted.id.index > self.commit_index && !holds(log, noted)
    }

    /// Compares an entry of the log of `leader`, which leads a term not older than this node's, with what is known to be committed.
    /// `false` if both cannot be true: then this node takes no further part.
    pub(super) fn agrees_with_committed(
        &mut self,
        leader: NodeId,
        term: Term,
        theirs: Tip,
        log: &impl LogView,
    ) -> bool {
        let noted = self.noted_committed;
        let own_fork = fork_at(theirs, log).filter(|fork| fork.entry.index <= self.commit_index);
        // The log may lack the noted entry.
        let is_noted_otherwise = theirs.id == noted.id && theirs.lineage != noted.lineage;
        let noted_fork = Fork { entry: noted.id, ours: noted.lineage, theirs: theirs.lineage };
        if let Some(fork) = own_fork.or(is_noted_otherwise.then_some(noted_fork)) {
            mark!("raft: a leader has what is committed in another history");
            self.contradict(leader, term, ContradictionKind::OtherHistory(fork));
            return false;
        }
        let (theirs, noted) = (theirs.id, noted.id);
        // Terms never fall along a log, so that an entry of another place may exclude the noted one, too.
        let excludes_noted = match theirs.index.cmp(&noted.index) {
            std::cmp::Ordering::Less => theirs.term > noted.term,
            std::cmp::Ordering::Equal => theirs.term != noted.term,
            std::cmp::Ordering::Greater => theirs.term < noted.term,
        };
        let own = term_at(log, theirs.index).map(|term| EntryId::new(term, theirs.index)).filter(|own| *own != theirs);
        let kind = match own {
            Some(own) if own.index <= self.commit_index => ContradictionKind::Rewrites { committed: own, theirs },
            _ if excludes_noted => ContradictionKind::Rewrites { committed: noted, theirs },
            _ => return true,
        };
        mark!("raft: a leader excludes what is committed");
        self.contradict(leader, term, kind);
        false
    }

    /// A leader said where its log ended. A quorum has confirmed since this node started that it leads.
    pub(super) fn check_end_of_leader(&mut self, leader: NodeId, term: Term, last: Index) {
        // What was committed since this node started may be news to the leader's answer.
        let committed = self.noted_committed.id.index;
        if term >= self.hard_state.term && last < committed {
            self.contradict(leader, term, ContradictionKind::EndsBefore { committed, last });
        }
    }

    /// This node takes no further part. The first reason stays.
    fn contradict(&mut self, leader: NodeId, term: Term, kind: ContradictionKind) {
        self.out.contradiction.get_or_insert(Contradiction { leader, term, kind });
    }
}
