//! Two histories that share the name of an entry: how a follower tells them apart, and what it does then.
//!
//! Entries of one term and index are the same entry, and so is everything before them (log matching, thesis 3.5). This rests on a
//! term having one leader. A node whose directory was put back to an older copy may have forgotten its vote, and elect a second leader
//! in a term that had one: whose entries have the names of others. So an `AppendEntries` carries the lineage of the entry before its
//! first one, and a follower compares lineages wherever it compares names. In each term every follower is compared in this way from
//! the beginning of its log, since a lineage covers all that stands before an entry.
//!
//! A follower that finds another history in its leader's log takes no part in either:
//!
//! * If it knows the entry to be committed, it stops with a message (`known`).
//! * If not, it can't know which history was acknowledged: what it would cut may be the only copy. It takes no more entries of this
//!   leader in this term, acknowledges nothing beyond what agreed, confirms no round, answers no reads with its help, and tells the
//!   leader and people. The next leader is compared anew. So a lie about a lineage costs no more than the liar's term.
//!
//! What is not noticed: entries of one term that lie in different places in both histories, unless the term is the leader's own.

use super::follower::Following;
use super::log_view::{LogView, term_at};
use super::{AppendEntries, AppendOutcome, Common, Nonsense, Raft, Tip};
use crate::types::{EntryId, Lineage, NodeId};

/// An entry that two histories share by name and not by content, or that stands behind other entries in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The entry. What differs first may stand before it.
    pub entry: EntryId,
    /// Its lineage in this node's log.
    pub ours: Lineage,
    /// Its lineage in the other node's log.
    pub theirs: Lineage,
}

/// What a log begins behind.
pub(super) fn base_tip(log: &impl LogView) -> Tip {
    let id = log.base();
    Tip { id, lineage: log.lineage(id.index).expect("a log knows the lineage up to its base") }
}

/// Compares an entry of another node's log with the one that has the same name here. `None` if they agree, or if there is none.
pub(super) fn fork_at(theirs: Tip, log: &impl LogView) -> Option<Fork> {
    let Tip { id, lineage } = theirs;
    let ours = log.lineage(id.index).filter(|ours| *ours != lineage)?;
    let is_shared = term_at(log, id.index) == Some(id.term);
    is_shared.then_some(Fork { entry: id, ours, theirs: lineage })
}

impl Raft {
    /// The leader whose log this node may rely on, as far as it has been compared.
    pub(crate) fn leader_of_one_history(&self) -> Option<NodeId> {
        let has_parted = self.state.following().is_some_and(Following::has_parted);
        self.leader().filter(|_| !has_parted)
    }
}

impl Following {
    /// Compares entries of the leader's log with those that have the same names here. If they belong to another history, tells the
    /// leader; then nothing is taken from it in this term any more.
    pub(super) fn shares_history(&mut self, common: &mut Common, theirs: &[Tip], log: &impl LogView) -> bool {
        let last_index = log.last_id().index;
        let fork = self.parted().or_else(|| {
            let mut known = theirs.iter().take_while(|tip| tip.id.index <= last_index);
            known.find_map(|tip| fork_at(*tip, log))
        });
        let (Some(fork), Some(leader)) = (fork, self.leader()) else { return true };
        mark!("raft: two histories share an entry");
        self.part(fork);
        common.refuse(leader, Nonsense::OtherHistory(fork));
        self.answer(common, AppendOutcome::OtherHistory { entry: fork.entry, lineage: fork.ours });
        false
    }

    /// What the leader sends now that contradicts what it sent before in this term, or what only the leader of this term can have
    /// made: then there are two leaders in one term.
    pub(super) fn contradiction(
        &self,
        append: &AppendEntries,
        entries: &[Tip],
        log: &impl LogView,
    ) -> Option<Nonsense> {
        let matched_index = self.matched_index();
        let prev = append.prev_tip();
        let mut known = std::iter::once(&prev).chain(entries).take_while(|tip| tip.id.index <= matched_index);
        let changed = known.find_map(|tip| {
            let (got, term) = (tip.id, term_at(log, tip.id.index));
            match term.filter(|term| *term != got.term) {
                Some(matched) => Some(Nonsense::OtherEntry { got, matched }),
                None => fork_at(*tip, log).map(Nonsense::OtherHistory),
            }
        });
        changed.or_else(|| cuts_own_term(append, entries, log))
    }
}

/// Whether entries of the leader's own term would be cut: a leader never supersedes what it made itself.
fn cuts_own_term(append: &AppendEntries, entries: &[Tip], log: &impl LogView) -> Option<Nonsense> {
    let cut = log.last_id();
    if cut.term != append.term {
        return None;
    }
    let mut held = entries.iter().take_while(|tip| tip.id.index <= cut.index);
    let is_other = |tip: &Tip| term_at(log, tip.id.index).is_some_and(|term| term != tip.id.term);
    held.any(is_other).then_some(Nonsense::CutsOwnTerm { cut })
}
