//! The membership according to the log: which one is in force, what it was before, and what that means for a member whose log was
//! given up.
//!
//! A membership takes effect when its entry is appended, and goes when that is cut (thesis 4.1). A member that lost its log and
//! got another one is *named*: an entry says which of its logs counts from there on. From then on whoever has that entry counts
//! nothing that an earlier log of the member says. `docs/durability.md` says why that suffices. The entries themselves are
//! appended by the replica.

use super::log_view::LogView;
use super::{Common, Membership, Message, Nonsense, Outdated, Raft, Speaker, State};
use crate::types::{Index, NodeId};

/// Memberships by index.
#[derive(Debug)]
pub(super) struct MembershipHistory {
    /// In force before the first of `later`.
    base: Membership,
    /// In force from an entry on: the entry's index and what it says, in ascending order.
    later: Vec<(Index, Membership)>,
}

impl MembershipHistory {
    pub(super) const fn new(base: Membership) -> Self {
        Self { base, later: Vec::new() }
    }

    fn current(&self) -> &Membership {
        self.later.last().map_or(&self.base, |(_, membership)| membership)
    }

    /// Index of the entry that holds the membership in force; zero if no entry does.
    fn last_index(&self) -> Index {
        self.later.last().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// The membership in force at an index.
    fn as_of(&self, index: Index) -> &Membership {
        let at = self.later.partition_point(|(entry, _)| *entry <= index);
        at.checked_sub(1).and_then(|at| self.later.get(at)).map_or(&self.base, |(_, membership)| membership)
    }

    /// Forgets the memberships from `index` on; says whether there were any.
    fn cut_from(&mut self, index: Index) -> bool {
        let is_cut = self.last_index() >= index;
        self.later.retain(|(entry, _)| *entry < index);
        assert!(self.last_index() < index, "the membership of entry {} is cut at {index}", self.last_index());
        is_cut
    }

    fn push(&mut self, index: Index, membership: Membership) {
        assert!(index > self.last_index(), "entry {index} comes after {}", self.last_index());
        assert!(!membership.voters().is_empty(), "somebody votes");
        self.later.push((index, membership));
    }

    /// Forgets what was in force before an index that is committed.
    fn settle(&mut self, commit_index: Index) {
        let at = self.later.partition_point(|(entry, _)| *entry <= commit_index);
        if at > 1 {
            self.later.drain(..at - 1);
        }
        assert!(self.later.is_sorted_by_key(|(entry, _)| *entry), "memberships stand in the order of their entries");
    }
}

/// What a leader makes of a follower's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// They count.
    Full,
    /// The log that the group agreed on does not hold yet what the one before promised: they say what to send, and count for
    /// nothing.
    Hint,
}

impl Common {
    /// An entry was appended, and superseded what was there from its index on. Returns the membership before if another one is in
    /// force now.
    fn take_membership(&mut self, index: Index, membership: Option<Membership>) -> Option<Membership> {
        let is_cut = self.history.cut_from(index);
        if !is_cut && membership.is_none() {
            return None;
        }
        if let Some(membership) = membership {
            self.history.settle(self.commit_index);
            self.history.push(index, membership);
        }
        Some(std::mem::replace(&mut self.membership, self.history.current().clone()))
    }

    /// The entry that holds the membership in force is committed, if an entry holds it.
    pub(super) fn membership_is_committed(&self) -> bool {
        self.history.last_index() <= self.commit_index
    }

    /// Whether the votes of this speaker count.
    pub(super) fn counts(&self, from: NodeId, speaker: Speaker) -> bool {
        self.weigh(from, speaker) == Some(Weight::Full)
    }

    /// What the speaker's answers are worth; `None` if they are worth nothing.
    pub(super) fn weigh(&self, from: NodeId, speaker: Speaker) -> Option<Weight> {
        let is_named = self.membership.named(from).is_some_and(|named| named.incarnation == speaker.incarnation);
        if speaker.is_joining {
            is_named.then_some(Weight::Hint)
        } else {
            self.membership.may_count(from, speaker.incarnation).then_some(Weight::Full)
        }
    }

    /// This node's own log says that another one counts in its place; the entry need not be committed.
    pub(super) fn is_given_up(&self) -> bool {
        !self.is_joining() && !self.membership.may_count(self.config.id, self.incarnation())
    }

    /// Notices that a committed entry of the own log names another one in its place.
    pub(super) fn check_given_up(&mut self) {
        if !self.is_given_up() {
            return;
        }
        let own = self.config.id;
        let committed = self.history.as_of(self.commit_index);
        if let Some(named) = committed.named(own).filter(|named| named.incarnation != self.incarnation()) {
            self.out.outdated.get_or_insert(Outdated { told_by: own, since: named.since });
        }
    }
}

impl Raft {
    /// What the log says of the members as of its base, which may be what it says later; right after `new`.
    pub(crate) fn recall_base_membership(&mut self, membership: Membership, log: &impl LogView) {
        let common = &mut self.common;
        assert!(common.history.last_index() == Index::ZERO, "nothing was recalled yet");
        common.history = MembershipHistory::new(membership.known_at(log.base().index));
        common.membership = common.history.current().clone();
    }

    /// An entry was appended, and superseded what was there from its index on. Says whether another membership is in force now. To be
    /// called before `on_appended`; also for the entries of a log that just opened, in ascending order, right after `new`.
    ///
    /// `membership` is what the entry says of the members, if it does; others may be left out at the log's end.
    #[must_use]
    pub fn take_membership(&mut self, index: Index, membership: Option<Membership>, log: &impl LogView) -> bool {
        assert!(index > Index::ZERO && index <= log.last_id().index, "entry {index} is in the log");
        let before = self.common.take_membership(index, membership);
        if let (Some(before), State::Leader(leading)) = (&before, &mut self.state) {
            leading.begin_anew_with_named(&self.common, before, log);
        }
        before.is_some()
    }

    /// The log that this node's messages speak for.
    #[must_use]
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker { incarnation: self.common.incarnation(), is_joining: self.common.is_joining() }
    }

    /// Tells a node that speaks for a log that the group gave up.
    pub(crate) fn tell_outdated(&mut self, from: NodeId, speaker: Speaker) {
        if speaker.is_joining || self.is_new() || !self.common.is_peer(from) {
            return;
        }
        let common = &mut self.common;
        let Some(named) = common.membership.named(from) else { return };
        if named.incarnation != speaker.incarnation && named.since <= common.commit_index {
            let (term, incarnation, since) = (common.hard_state.term, named.incarnation, named.since);
            common.out.messages.push((from, Message::Outdated { term, incarnation, since }));
        }
    }

    /// A peer says that another log of this node counts in its place, named by a committed entry.
    ///
    /// A later entry may have named this one: then this log has that entry, unless it does not count yet anyway.
    ///
    /// Whoever believes it takes no part until it is started again. So it is not believed from one peer where this node can know
    /// better (`knows_better`).
    pub(super) fn on_told_outdated(&mut self, from: NodeId, incarnation: u64, since: Index, log: &impl LogView) {
        let common = &self.common;
        let own_since = match common.membership.named(common.config.id) {
            Some(named) if named.incarnation == common.incarnation() => named.since,
            _ => Index::ZERO,
        };
        let is_of_own_log = incarnation == common.incarnation();
        if common.is_joining() || is_of_own_log || (since > Index::ZERO && since <= own_since) {
            return;
        }
        if incarnation == 0 || since == Index::ZERO || self.knows_better(from, since, log) {
            self.common.refuse(from, Nonsense::NotGivenUp { since });
            return;
        }
        self.common.out.outdated.get_or_insert(Outdated { told_by: from, since });
    }

    /// Whether what a peer says of entry `since`, that it gave this node's log up, is no reason to stop.
    ///
    /// What is committed here is committed everywhere: the entry would stand in this log, and this node would have stopped by itself.
    /// A node that leads has every entry that was committed before its term. And a node that hears a leader is told by
    /// that one, to which it speaks all the time: so one member that believes a lie stops nobody in a group that is well.
    /// Nothing rests on when an old log stops: what it says counts for nothing with whoever has the entry.
    fn knows_better(&self, from: NodeId, since: Index, log: &impl LogView) -> bool {
        let is_held = since > log.base().index && since <= self.common.commit_index;
        let is_told_by_leader = self.leader() == Some(from);
        is_held || (self.hears_leader() && !is_told_by_leader)
    }
}
