//! Which membership is in force, and which log of each member counts.
//!
//! A membership is what an entry of the log says of the members. It is in force from the moment when the entry is appended, until the
//! next one is appended or the entry is truncated (thesis 4.1). The replica appends these entries.
//!
//! A member that lost its log makes a new one. An entry then *names* the new log: it says that this log counts from now on. So the
//! earlier log is *given up*: a node that has the entry counts nothing that the earlier log says. `docs/durability.md` says why that
//! suffices.

use super::log_view::LogView;
use super::{Common, Membership, Message, Nonsense, Outdated, Raft, Speaker, State};
use crate::types::{Index, NodeId};

/// The memberships in the log that may still be needed, by the index of their entries.
#[derive(Clone, Debug)]
pub(super) struct MembershipHistory {
    /// The membership in force before the first entry of `later`.
    base: Membership,
    /// Index and content of each membership entry, in ascending order. Each is in force until the next.
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

    /// The membership that was in force at `index`.
    fn as_of(&self, index: Index) -> &Membership {
        let at = self.later.partition_point(|(entry, _)| *entry <= index);
        at.checked_sub(1).and_then(|at| self.later.get(at)).map_or(&self.base, |(_, membership)| membership)
    }

    /// Forgets the memberships of the entries from `index` on. True if there were any.
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

    /// Forgets all committed memberships but the last: no truncation can bring the others back.
    fn settle(&mut self, commit_index: Index) {
        let at = self.later.partition_point(|(entry, _)| *entry <= commit_index);
        if at > 1 {
            self.later.drain(..at - 1);
        }
        assert!(self.later.is_sorted_by_key(|(entry, _)| *entry), "memberships stand in the order of their entries");
    }
}

/// How much a follower's answers count for its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// They count.
    Full,
    /// The follower's log is named, but does not hold yet what the earlier log promised. Its answers tell the leader what to send, and
    /// count toward no quorum.
    Hint,
}

impl Common {
    /// An entry was appended, in place of all entries from its index on. `membership` is what it says of the members, if it does. If
    /// another membership is in force now, returns the one before.
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

    /// Whether the entry that holds the membership in force is committed. True if no entry holds it.
    pub(super) fn membership_is_committed(&self) -> bool {
        self.history.last_index() <= self.commit_index
    }

    /// Whether the votes of this speaker count. `from` is the node, `speaker` says for which of its logs it speaks.
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

    /// Whether an entry of this node's log, committed or not, says that another log of this node counts. False while this log is new
    /// and under repair.
    pub(super) fn is_given_up(&self) -> bool {
        !self.is_joining() && !self.membership.may_count(self.config.id, self.incarnation())
    }

    /// Reports that this node's log is outdated if a committed entry of this very log names another log of this node.
    ///
    /// Not to be called on a node under repair: the entry that names its log may be among those that it lost.
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
    /// Sets the membership as of the log's base. To be called right after `new`.
    ///
    /// `membership` is what the log says of the members before its first entry. In a log that was salvaged after the state of its owner
    /// it may be newer than that: logs that were named later are left out here, since the entries that named them follow.
    pub(crate) fn recall_base_membership(&mut self, membership: Membership, log: &impl LogView) {
        let common = &mut self.common;
        assert!(common.history.last_index() == Index::ZERO, "nothing was recalled yet");
        common.history = MembershipHistory::new(membership.known_at(log.base().index));
        common.membership = common.history.current().clone();
    }

    /// An entry was appended, in place of all entries from its index on. True if another membership is in force now.
    ///
    /// `membership` is what the entry says of the members, if it does. An entry that says nothing of them and superseded nothing may be
    /// left out. To be called before `on_appended`; also for the entries of a log that was just opened, in ascending order, before
    /// anything else happens.
    #[must_use]
    pub fn take_membership(&mut self, index: Index, membership: Option<Membership>, log: &impl LogView) -> bool {
        assert!(index > Index::ZERO && index <= log.last_id().index, "entry {index} is in the log");
        let before = self.common.take_membership(index, membership);
        if let (Some(before), State::Leader(leading)) = (&before, &mut self.state) {
            leading.begin_anew_with_members(&self.common, before, log);
        }
        before.is_some()
    }

    /// The membership that was in force at `index`; `None` if that is no longer known, below what is committed.
    pub(crate) fn membership_as_of(&self, index: Index) -> Option<&Membership> {
        let membership = (index >= self.common.commit_index).then(|| self.common.history.as_of(index))?;
        assert!(!membership.voters().is_empty(), "somebody votes at {index}");
        Some(membership)
    }

    /// The log that this node's messages speak for.
    #[must_use]
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker { incarnation: self.common.incarnation(), is_joining: self.common.is_joining() }
    }

    /// Tells a peer that the group gave up the log for which it speaks, if a committed entry says so.
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

    /// A peer says that the group gave up this node's log: the committed entry `since` named the log `incarnation` instead.
    ///
    /// This is old news if an entry of this log named it at `since` or later, and no news if `incarnation` is this very log's. It does
    /// not matter while this log is new and under repair, since the log does not count yet.
    ///
    /// A node that believes the peer takes no part until it is started again. So it does not believe a peer where it knows better
    /// (`knows_better`).
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

    /// Whether this node need not believe a peer that says that entry `since` gave up this node's log. There are two reasons:
    ///
    /// * This log holds entry `since` and it is committed. If the entry gave this log up, this node would have stopped by itself. Only
    ///   under repair it would not, since a later entry that names this very log may be lost: then what it holds may say the same as the
    ///   peer.
    /// * This node leads, or hears a leader other than the peer. A leader has every entry that was committed before its term, and a
    ///   follower speaks to its leader all the time and is told by it. So one member that believes a lie stops nobody in a group that
    ///   is well.
    ///
    /// If the peer was right, this node runs a while longer. That does no harm: whoever has the entry counts nothing that this log says.
    fn knows_better(&self, from: NodeId, since: Index, log: &impl LogView) -> bool {
        let common = &self.common;
        let is_held = since > log.base().index && since <= common.commit_index;
        let named_since = common.membership.named(common.config.id).map_or(Index::ZERO, |named| named.since);
        let says_so = self.is_under_repair() && common.is_given_up() && named_since >= since;
        let is_told_by_leader = self.leader() == Some(from);
        (is_held && !says_so) || (self.hears_leader() && !is_told_by_leader)
    }
}
