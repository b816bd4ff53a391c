//! What a leader does for a member that lost durable entries: it makes the group agree on the member's new log, if it got one, and
//! tells how far the log must reach.
//!
//! The other side is in `repair`; which log of a member counts is kept in `members`.

use super::Leading;
use crate::raft::log_view::LogView;
use crate::raft::repair::Question;
use crate::raft::tracker::Progress;
use crate::raft::{Common, Membership, Speaker};
use crate::types::{EntryId, Index, NodeId};

impl Leading {
    /// A peer under repair asks for the end of this leader's log.
    ///
    /// If it asks for a log that takes the place of a lost one, it is told only once the group has agreed on that: so the end lies
    /// behind the entry that says so, and a quorum without the asking node has it.
    pub(in crate::raft) fn on_repair_request(
        &mut self,
        common: &mut Common,
        from: NodeId,
        speaker: Speaker,
        question: Question,
        log: &impl LogView,
    ) {
        let is_agreed = match speaker.is_joining {
            true => self.agrees_on(common, from, speaker.incarnation, question.challenge),
            false => common.counts(from, speaker),
        };
        if !is_agreed {
            return;
        }
        if let Some(progress) = self.progress.get_mut(&from) {
            progress.on_lost(question.last, log, common.now_tick);
        }
        self.rounds.wait_for_repair(from, question.nonce, log.last_id().index);
        self.advance_reads(common);
    }

    /// Whether a member that lost its log may get everything back into this one: the group agreed on it, and that can't be
    /// forgotten any more. If not, this leader makes the group agree.
    ///
    /// The member's earlier log is given up only if the question repeats the challenge, which was sent to the member's own address,
    /// and if that log was not heard from for an election timeout. So nobody takes a member's log away by asking in its name.
    fn agrees_on(&mut self, common: &Common, node: NodeId, incarnation: u64, challenge: u64) -> bool {
        assert!(node != common.config.id, "a node asks others");
        let named = common.membership.named(node).filter(|named| named.incarnation == incarnation);
        if named.is_none() && incarnation != 0 && self.challenges.get(&node) == Some(&challenge) {
            if self.heard_within(node, common.config.election_ticks, common.now_tick) {
                mark!("raft: a log that was heard lately is not given up");
            } else {
                self.naming = Some((node, incarnation));
            }
        }
        named.is_some_and(|named| named.since <= common.commit_index)
    }

    /// The challenge that a member with a new log has to repeat in its next question; 0 = none.
    pub(in crate::raft) fn challenge(&mut self, common: &mut Common, node: NodeId, speaker: Speaker) -> u64 {
        let is_named = common.membership.named(node).is_some_and(|named| named.incarnation == speaker.incarnation);
        if !speaker.is_joining || is_named {
            return 0;
        }
        // Never 0, which means that there is none.
        *self.challenges.entry(node).or_insert_with(|| common.rng.next_u64() | 1)
    }

    /// The entry with a membership that this leader is to append as soon as it can, and has not appended yet.
    ///
    /// There is one at a time: the one before must be committed. And none while a quorum without the asking node is out of reach, since
    /// until the entry is committed the old log may come back and be needed.
    pub(in crate::raft) fn membership_due(&self, common: &Common, log: &impl LogView) -> Option<(EntryId, Membership)> {
        let (node, incarnation) = self.naming?;
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
        Some((id, common.membership.with_named(node, incarnation, id.index)))
    }

    /// Another membership is in force. What an earlier log of a follower had says nothing of the one that is named now.
    pub(in crate::raft) fn begin_anew_with_named(&mut self, common: &Common, before: &Membership, log: &impl LogView) {
        self.naming = None;
        for (&node, progress) in &mut self.progress {
            if before.named(node) != common.membership.named(node) {
                *progress = Progress::new(&common.config, log.last_id().index.prev(), common.now_tick);
                assert!(progress.match_index() == Index::ZERO, "nothing is known of a log that was named now");
                self.health.remove(&node);
            }
        }
    }
}
