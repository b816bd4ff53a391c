//! What a leader does for a member that lost durable entries, and for a node that joins.
//!
//! A member whose log is only damaged keeps that log. The leader tells it how far the log must reach.
//!
//! A member whose log is gone makes a new one, and the group must agree first that the new log counts from now on. For this the
//! leader *names* the new log: it appends a membership entry that holds the log's incarnation, a random number drawn when the log was
//! made. Once the entry is committed, the leader tells the member how far the new log must reach.
//!
//! A node that joins is like a member whose log is gone. The entry that makes it a learner names its log, and then it gets
//! everything.
//!
//! The member's side is in `repair`. `membership_history` keeps which log of each member counts.

use super::Leading;
use super::reads::Awaiting;
use crate::raft::log_view::LogView;
use crate::raft::repair::Question;
use crate::raft::tracker::Progress;
use crate::raft::{AddLearnerError, Common, Membership, Speaker};
use crate::types::{EntryId, Index, NodeId};

impl Leading {
    /// A peer under repair asks where this leader's log ends: its own log must reach as far.
    ///
    /// The answer leaves when a round of heartbeats has confirmed that this node still leads. A peer with a new log is answered only
    /// once the entry that names that log is committed. So the end that it is told includes this entry, which a quorum without the
    /// peer has made durable.
    pub(in crate::raft) fn on_repair_request(
        &mut self,
        common: &mut Common,
        from: NodeId,
        speaker: Speaker,
        question: Question,
        log: &impl LogView,
    ) {
        let is_agreed = match speaker.is_joining {
            true => self.require_named(common, from, speaker.incarnation, question.challenge),
            false => common.counts(from, speaker),
        };
        if !is_agreed {
            return;
        }
        if let Some(progress) = self.progress.get_mut(&from) {
            progress.on_lost(question.last, log, common.now_tick);
        }
        let Question { nonce, .. } = question;
        self.rounds.wait_for(Awaiting::Repair { node: from, nonce, last_index: log.last_id().index });
        self.advance_reads(common);
    }

    /// Whether a committed entry names the log `incarnation` of a member. If no entry names it yet, plans one (`naming`): naming a
    /// new log gives up the member's earlier log.
    ///
    /// The entry is planned under two conditions. The question must repeat the challenge that was sent to the member's own address,
    /// so that nobody can take a member's log away by asking in its name. And nothing was heard from the earlier log for an election
    /// timeout.
    fn require_named(&mut self, common: &Common, node: NodeId, incarnation: u64, challenge: u64) -> bool {
        assert!(node != common.config.id, "a node asks others");
        let named = common.membership.named(node).filter(|named| named.incarnation == incarnation);
        if named.is_none() && incarnation != 0 && common.repeats_challenge(node, challenge) {
            if self.heard_within(node, common.config.election_ticks, common.now_tick) {
                mark!("raft: a log that was heard lately is not given up");
            } else {
                self.naming = Some((node, incarnation));
            }
        }
        named.is_some_and(|named| named.since <= common.commit_index)
    }

    /// Plans an entry that makes a node a learner.
    pub(in crate::raft) fn add_learner(
        &mut self,
        common: &Common,
        node: NodeId,
        incarnation: u64,
    ) -> Result<(), AddLearnerError> {
        let membership = &common.membership;
        if membership.is_member(node) {
            return Err(AddLearnerError::IsMember { node });
        }
        if incarnation == 0 {
            return Err(AddLearnerError::NoLog { node });
        }
        if !membership.has_place() {
            return Err(AddLearnerError::Full { count: membership.all_members().len() });
        }
        self.joining = Some((node, incarnation));
        Ok(())
    }

    /// The membership entry that this leader should append now: its id and its content. `None` if no log is to be named and nobody
    /// joins, or if the entry has to wait. It waits
    ///
    /// * while no quorum without the asking member is in reach: until the entry is committed, the member's earlier log may come back
    ///   and be needed;
    /// * while the membership entry before it is not committed;
    /// * while leadership is handed over, or this term's first entry is not in the log.
    pub(in crate::raft) fn membership_due(&self, common: &Common, log: &impl LogView) -> Option<(EntryId, Membership)> {
        let (node, incarnation) = self.naming.or(self.joining)?;
        let is_there = |voter| self.heard_within(voter, common.config.answer_ticks(), common.now_tick);
        let can_commit = |voter| voter == common.config.id || (voter != node && is_there(voter));
        if !common.membership.quorum_has(can_commit) || !common.membership_is_committed() {
            return None;
        }
        if self.is_transferring() || log.last_id().index < self.opening_index {
            return None;
        }
        let id = common.next_entry_id(log);
        assert!(node != common.config.id, "a leader names no log of its own");
        assert!(id.index > common.commit_index, "entry {id} is not committed before it is appended");
        let membership = match common.membership.is_member(node) {
            true => common.membership.with_named(node, incarnation, id.index),
            false => common.membership.with_learner(node, incarnation, id.index),
        };
        Some((id, membership))
    }

    /// Another membership came into force. Who is new is a follower from here on. Forgets what is known of every follower whose named
    /// log changed: it was true of an earlier log. Also forgets which log was to be named, and who was to join: a member that still
    /// needs it asks again.
    pub(in crate::raft) fn begin_anew_with_members(
        &mut self,
        common: &Common,
        before: &Membership,
        log: &impl LogView,
    ) {
        self.naming = None;
        self.joining = self.joining.filter(|(node, _)| !common.membership.is_member(*node));
        let membership = &common.membership;
        self.progress.retain(|node, _| membership.is_member(*node));
        for node in common.other_members() {
            let is_anew = !before.is_member(node) || before.named(node) != membership.named(node);
            if is_anew {
                let progress = Progress::new(&common.config, log.last_id().index.prev(), common.now_tick);
                assert!(progress.match_index() == Index::ZERO, "nothing is known of a log that was named now");
                self.progress.insert(node, progress);
                self.health.remove(&node);
            }
        }
        assert!(self.progress.len() == common.other_members().len(), "a leader follows every other member");
    }
}
