//! Two logs with different content at one term and index: how a follower notices that, and what it does.
//!
//! Two entries of one term and index are the same entry, and so is everything before them (log matching, thesis 3.5). This rests on a
//! term having one leader. A node that was started from an old copy of its directory may have forgotten a vote. It can then help to
//! elect a second leader in the same term, and the entries of both leaders have the same terms and indexes. So an `AppendEntries`
//! carries the lineage of the entry before its first one: a running checksum over all entries up to that one (`wal::Lineage`). A
//! follower compares lineages wherever it compares terms and indexes. One comparison covers the log from its beginning; it is made
//! anew in each term.
//!
//! A follower whose log and its leader's log differ in this way takes no part in either history:
//!
//! * If it knows that the entry is committed, it stops with a message (`known`).
//! * If not, it does not know which history was acknowledged, and what it would cut may be the only copy. So it takes no more entries of
//!   this leader in this term, acknowledges nothing beyond what agreed, confirms no round, answers no reads with its help, and tells the
//!   leader and people. The next leader is compared anew: a leader that lies about a lineage stops this follower for one term only.
//!
//! The second leader of a term may be the node that led it first, put back to before it campaigned. So whatever a follower hears from a
//! leader, and tells it, names the *life* of the leader: a number drawn at each start of a node. Another life is another leader, and a term
//! has one (`Raft::follow`): the follower takes nothing from it in this term, and names the life that it heard. A leader takes no answer
//! that names another life than its own; it has led the term before, forgot it, and gives the term up (`answers`).
//!
//! A leader whose one life contradicts itself (its memory was put back, too) is parted from like one with another history. What the
//! follower had told it counts for nothing any more, and its answer makes the leader give the term up (`answers`).
//!
//! Not noticed: two histories that hold the entries of one term at different indexes, unless it is the leader's own term.

use super::follower::{Following, LeaderLife};
use super::log_view::{LogView, term_at};
use super::parting::Parting;
use super::{AppendEntries, AppendOutcome, Common, Nonsense, Raft, Tip};
use crate::types::{EntryId, Lineage, NodeId};

/// An entry whose term and index two logs share, while the entry itself or one before it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The entry. What differs first may stand before it.
    pub entry: EntryId,
    /// Its lineage in this node's log.
    pub ours: Lineage,
    /// Its lineage in the other node's log.
    pub theirs: Lineage,
}

/// The entry before the log's first one, with its lineage.
pub(super) fn base_tip(log: &impl LogView) -> Tip {
    let id = log.base();
    Tip { id, lineage: log.lineage(id.index).expect("a log knows the lineage up to its base") }
}

/// Compares an entry of another node's log with the one of the same term and index here. `None` if they agree, or if this log does not
/// hold that entry.
pub(super) fn fork_at(theirs: Tip, log: &impl LogView) -> Option<Fork> {
    let Tip { id, lineage } = theirs;
    let ours = log.lineage(id.index).filter(|ours| *ours != lineage)?;
    let is_shared = term_at(log, id.index) == Some(id.term);
    is_shared.then_some(Fork { entry: id, ours, theirs: lineage })
}

impl Raft {
    /// The same for a node that follows, with the leader's life.
    pub(super) fn leader_life_of_one_history(&self) -> Option<LeaderLife> {
        let following = self.state.following().filter(|following| !following.has_parted());
        following.and_then(Following::leader_life)
    }

    /// The leader, unless its log was found to differ from this node's.
    pub(crate) fn leader_of_one_history(&self) -> Option<NodeId> {
        let has_parted = self.state.following().is_some_and(Following::has_parted);
        self.leader().filter(|_| !has_parted)
    }
}

fn of_fork(fork: Fork) -> Parting {
    assert!(fork.ours != fork.theirs, "{fork:?} is none");
    Parting { why: Nonsense::OtherHistory(fork), own: Tip { id: fork.entry, lineage: fork.ours } }
}

impl Following {
    /// Compares entries of the leader's log with those of the same terms and indexes here. If they belong to another history, remembers
    /// that, tells the leader, and returns `false`; then nothing is taken from this leader in this term any more.
    pub(super) fn shares_history(&mut self, common: &mut Common, theirs: &[Tip], log: &impl LogView) -> bool {
        let last_index = log.last_id().index;
        let parting = self.parted().or_else(|| {
            let mut known = theirs.iter().take_while(|tip| tip.id.index <= last_index);
            known.find_map(|tip| fork_at(*tip, log)).map(of_fork)
        });
        let Some(parting) = parting else { return true };
        mark!("raft: two histories share an entry");
        self.part_from_leader(common, parting);
        false
    }

    /// Whether the leader contradicts what it said before in this life and term. Then this node parts from it, and tells it.
    pub(super) fn is_contradicted(
        &mut self,
        common: &mut Common,
        append: &AppendEntries,
        entries: &[Tip],
        log: &impl LogView,
    ) -> bool {
        let Some(parting) = self.contradiction(append, entries, log) else { return false };
        self.forget_match();
        self.part_from_leader(common, parting);
        true
    }

    fn part_from_leader(&mut self, common: &mut Common, parting: Parting) {
        let Some(leader) = self.leader() else { return };
        self.part(parting);
        assert!(self.has_parted(), "it has parted from {leader}");
        common.refuse(leader, parting.why);
        self.answer(common, AppendOutcome::OtherHistory { entry: parting.own.id, lineage: parting.own.lineage });
    }

    /// Says what is wrong with a message that contradicts what this leader sent before in this term, or that would cut entries of its
    /// own term. Both mean that the term has two leaders.
    fn contradiction(&self, append: &AppendEntries, entries: &[Tip], log: &impl LogView) -> Option<Parting> {
        let matched_index = self.matched_index();
        let prev = append.prev_tip();
        let mut known = std::iter::once(&prev).chain(entries).take_while(|tip| tip.id.index <= matched_index);
        let changed = known.find_map(|tip| {
            let (got, term) = (tip.id, term_at(log, tip.id.index));
            match term.filter(|term| *term != got.term) {
                Some(matched) => Parting::at(got.index, Nonsense::OtherEntry { got, matched }, log),
                None => fork_at(*tip, log).map(of_fork),
            }
        });
        changed.or_else(|| cuts_own_term(append, entries, log))
    }
}

/// Returns `CutsOwnTerm` if the message would cut entries of the leader's own term: a leader never supersedes what it made itself.
fn cuts_own_term(append: &AppendEntries, entries: &[Tip], log: &impl LogView) -> Option<Parting> {
    let cut = log.last_id();
    if cut.term != append.term {
        return None;
    }
    let mut held = entries.iter().take_while(|tip| tip.id.index <= cut.index);
    let is_other = |tip: &&Tip| term_at(log, tip.id.index).is_some_and(|term| term != tip.id.term);
    let first = held.find(is_other)?.id.index;
    Parting::at(first, Nonsense::CutsOwnTerm { cut }, log)
}
