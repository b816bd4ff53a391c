//! Entries that say who the members are: read from the log at a start, taken from a leader, appended when this node leads.
//!
//! `raft::membership` defines a membership and its rules; `raft::membership_history` says which one is in force.

use wal::{AppendError, EntryHeader, Log, Storage};

use super::proposals::NextEntry;
use super::{Action, Fault, Remark, Replica};
use crate::entries_error::EntriesError;
use crate::log_store::{FormError, KIND_MEMBERS};
use crate::raft::{Membership, Raft};
use crate::types::{EntryId, Index, NodeId};
use crate::wire::WireEntry;

/// Tells Raft what a log that just opened says of the members.
pub(super) fn recall<S: Storage>(raft: &mut Raft, log: &Log<S>) -> Result<(), Fault> {
    let decode = |index: Index, payload: &[u8]| {
        Membership::decode(payload).map_err(|error| Fault::Read { index, reason: error.to_string() })
    };
    if !log.base_members().is_empty() {
        raft.recall_base_membership(decode(log.base().index, log.base_members())?, log);
    }
    for (index, payload) in log.members_entries() {
        let is_changed = raft.take_membership(index, Some(decode(index, payload)?), log);
        assert!(is_changed, "entry {index} says who the members are");
    }
    Ok(())
}

impl<S: Storage> Replica<S> {
    /// Refuses the entries of an `AppendEntries` if one of them holds a membership that may not follow the one before it; returns
    /// them unchanged if not. An entry may add a learner. It may not change who votes, drop a member, or leave out a named log.
    ///
    /// Do not compare with the membership in force now: an entry that this leader is about to supersede may have set it. Entries
    /// that the log already holds are skipped. So is a message in which the first other entry would supersede committed ones
    /// (`membership_as_of` is `None`): Raft appends nothing of it.
    pub(super) fn check_memberships<'a>(
        &self,
        entries: Vec<WireEntry<'a>>,
    ) -> Result<Vec<WireEntry<'a>>, EntriesError> {
        let base = self.log.base().index;
        let is_held = |entry: &&WireEntry<'_>| {
            let EntryId { term, index } = entry.id();
            index <= base || self.log.term(index) == Some(term)
        };
        let mut fresh = entries.iter().skip_while(is_held).peekable();
        let Some(mut before) = fresh.peek().and_then(|first| self.raft.membership_as_of(first.id().index.prev()))
        else {
            return Ok(entries);
        };
        for entry in fresh {
            let (Some(next), index) = (&entry.membership, entry.id().index) else { continue };
            if !next.keeps_roles_of(before, index, base) {
                return Err(EntriesError::Form { index, error: FormError::ChangedRoles });
            }
            if !next.repeats_names_of(before, index, base) {
                return Err(EntriesError::Form { index, error: FormError::ForgottenNames });
            }
            before = next;
        }
        Ok(entries)
    }

    /// Emits `Action::Link` if the set of other members may have changed, and once after the start.
    pub(super) fn tell_links(&mut self) {
        if std::mem::take(&mut self.links_are_due) {
            let others = self.other_members();
            self.out.push(Action::Link(others));
        }
    }

    /// Asks Raft to make a node a learner. A refusal is only told to people: nobody waits for an answer.
    pub(super) fn on_add_learner(&mut self, node: NodeId, incarnation: u64) {
        if let Err(error) = self.raft.add_learner(node, incarnation) {
            self.tell(Remark::NoLearner(error));
        }
    }

    /// Updates Raft's membership after an append. The new entry may hold a membership, or it may have superseded entries that held one.
    pub(super) fn take_membership(&mut self, entry: &WireEntry<'_>) {
        if self.raft.take_membership(entry.id().index, entry.membership.clone(), &self.log) {
            self.links_are_due = true;
        }
    }

    /// Appends the membership entry that Raft planned, after the forming batch. If the segment has no room, a later turn tries again.
    pub(super) fn append_membership(&mut self) {
        if matches!(self.proposals.next, NextEntry::Noop(_)) || self.raft.membership_due(&self.log).is_none() {
            return;
        }
        self.close_batch();
        // A batch that was closed is an entry, so the planned entry has another index now. Closing may also have stopped this replica.
        let due = self.raft.membership_due(&self.log).filter(|_| self.standing.is_running());
        let Some((id, membership)) = due else { return };
        let payload = membership.encode();
        let header = EntryHeader::new(id, KIND_MEMBERS, &payload);
        match self.log.append_entry(&header, &payload) {
            Ok(_) => {
                let is_changed = self.raft.take_membership(id.index, Some(membership), &self.log);
                assert!(is_changed && *self.log.members() == payload, "what was appended is in force");
                self.links_are_due = true;
                self.raft.on_appended(&self.log);
                self.after_raft();
            }
            Err(AppendError::SegmentNotReady) => {}
            Err(error) => self.latch(&error),
        }
    }
}
