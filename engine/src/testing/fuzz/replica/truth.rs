//! Whether a node was told, and believed, what an honest member can't be told from a liar by.

use wal::EntryHeader;
use wal::format::ENTRY_HEADER_BYTES;

use super::logs::Logs;
use super::node::{NODES, Node, node_id};
use super::past::{Entry, Start, entries_of};
use crate::log_store;
use crate::raft::{BirthRecord, Membership, Stage};
use crate::types::{EntryId, Index, Lineage};

/// What a node believes, held against what is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// Whatever it took is true or does no harm: a restart must heal everything.
    Clean,
    /// It took lies for the truth.
    LiedTo,
}

/// What is true.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// What was committed before the nonsense began.
    pub(super) committed: &'a [Entry],
    pub(super) start: Start,
    /// Which log each member has.
    pub(super) logs: Logs,
}

impl Facts<'_> {
    /// What a node believes when it is about to end.
    pub(super) fn judge(&self, node: &Node) -> Result<Truth, String> {
        let log = node.replica.log();
        let view = node.replica.view();
        let known = view.commit_index.max(log.noted().committed.index);
        let held = entries_of(&node.replica)?;
        let knows_truth = known.get() <= self.committed.len() as u64;
        let noted = log.noted().committed;
        let at = usize::try_from(noted.index.get()).map_err(|_| "too many entries")?;
        let notes_truth = at == 0 || self.tip_of(at).is_some_and(|tip| tip == (noted, log.noted().committed_lineage));
        held.iter().try_for_each(|entry| check_form(&entry.bytes))?;
        check_names(&held)?;
        let is_clean = self.are_true(&held, node) && knows_truth && notes_truth && self.is_born_right(node.birth());
        Ok(if is_clean { Truth::Clean } else { Truth::LiedTo })
    }

    /// The last of the first `count` entries that were committed, and their lineage.
    fn tip_of(&self, count: usize) -> Option<(EntryId, Lineage)> {
        let held = self.committed.get(..count)?;
        let headers = held.iter().filter_map(|entry| EntryHeader::parse(&entry.bytes).ok());
        let lineage = headers.fold(Lineage::START, |before, header| header.lineage_behind(before));
        Some((held.last()?.id, lineage))
    }

    /// A node's log holds what is committed, and no lie about which log of a member counts that others may get from it: such an entry
    /// was made by a false leader, or for somebody who asked for it in another node's name.
    pub(super) fn are_true(&self, held: &[Entry], node: &Node) -> bool {
        let is_what_was_committed = held.iter().zip(self.committed).all(|(ours, true_one)| ours == true_one);
        is_what_was_committed && !self.lies_about_logs(held, node)
    }

    /// Whether a log that holds these entries tells lies about which log of a member counts, that somebody else may come to believe.
    ///
    /// What names the log that a member has does no harm. Nor does what gives up the log that the node itself speaks for, as long as
    /// it is not committed (which is judged apart): this node campaigns no more, so that nobody gets it from here, and whoever is
    /// elected supersedes it. That need not be the log that counts: a node whose log had been given up may have been told that it
    /// is the one again.
    fn lies_about_logs(&self, held: &[Entry], node: &Node) -> bool {
        let memberships: Vec<Membership> = held.iter().filter_map(|entry| membership_of(&entry.bytes)).collect();
        let is_true = |membership: &Membership| {
            let mut members = (0..NODES).map(node_id);
            members.all(|node| self.logs.of(node).is_some_and(|log| membership.may_count(node, log)))
        };
        let own_log = node.birth().incarnation;
        let gives_own_up = |membership: &Membership| !membership.may_count(node.id, own_log);
        !memberships.iter().all(is_true) && !memberships.last().is_some_and(gives_own_up)
    }

    /// In a cluster that nobody has started yet only the truth about births leaves it one that can be born.
    fn is_born_right(&self, birth: &BirthRecord) -> bool {
        if self.start != Start::Unborn {
            return true;
        }
        match &birth.stage {
            Stage::New => true,
            Stage::Founded(others) => {
                others.iter().all(|(node, incarnation)| self.logs.of(*node) == Some(*incarnation))
            }
            Stage::Replaced | Stage::Restored => false,
        }
    }
}

fn membership_of(entry: &[u8]) -> Option<Membership> {
    let (header, payload) = entry.split_at_checked(ENTRY_HEADER_BYTES)?;
    let kind = EntryHeader::parse(header).ok()?.kind();
    log_store::membership_of(kind, payload).ok().flatten()
}

/// Each entry that says which logs of the members count repeats what the one before it said, but for one name. A node takes no other,
/// whoever sends it.
fn check_names(held: &[Entry]) -> Result<(), String> {
    let mut before = Membership::new((0..NODES).map(node_id).collect());
    for entry in held {
        let Some(next) = membership_of(&entry.bytes) else { continue };
        if !next.repeats_names_of(&before, entry.id.index, Index::ZERO) {
            return Err(format!("entry {} forgets which logs count: {next:?} after {before:?}", entry.id));
        }
        before = next;
    }
    Ok(())
}

/// Whether a state machine can apply this entry.
fn check_form(entry: &[u8]) -> Result<(), String> {
    let (header, payload) = entry.split_at_checked(ENTRY_HEADER_BYTES).ok_or("an entry without a header")?;
    let header = EntryHeader::parse(header).map_err(|error| error.to_string())?;
    log_store::check_form(header.kind(), payload).map(drop).map_err(|error| format!("entry {}: {error}", header.id()))
}
