//! Linearizable reads at a follower: it asks its leader for an index, and answers its reads itself once it has applied that
//! (ReadIndex, thesis 6.4).
//!
//! One question is asked for all reads that wait. A read that arrives while a question is under way waits for the next one: the leader
//! may have answered before the read arrived, and acknowledged writes in between. An answer counts only if it comes from the leader that
//! was asked, in its term, and for the question that is under way in this life of the node. The leader's part is in `leader::reads`. The
//! replica waits until the index is applied.

use super::follower::LeaderLife;
use super::{Common, Message, Raft, ReadId, ReadIndexError, State};
use crate::limits::PENDING_READS_MAX;
use crate::types::{Index, NodeId, Term};

/// Reads of a node that does not lead, and what it asked about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    /// Number of the last question. It rises through all terms of a life of the node.
    batch: u64,
    /// The question under way.
    question: Option<ReadQuestion>,
    /// Reads that arrived since it was asked.
    waiting: Vec<ReadId>,
    /// The leader that all these reads are asked of, and its term. Without reads it means nothing.
    of: (Term, Option<LeaderLife>),
}

/// A question that was asked and has no answer.
#[derive(Clone, Debug)]
struct ReadQuestion {
    /// The reads that it is for. No read is added later.
    reads: Vec<ReadId>,
    /// When it was last sent. Unit: ticks of this core.
    sent_tick: u64,
}

impl Asking {
    fn is_empty(&self) -> bool {
        self.question.is_none() && self.waiting.is_empty()
    }

    /// The reads are asked of this node.
    fn asks(&self, node: NodeId) -> bool {
        self.of.1.is_some_and(|leader| leader.node == node)
    }

    fn pending_count(&self) -> usize {
        self.waiting.len() + self.question.as_ref().map_or(0, |question| question.reads.len())
    }

    /// Moves all reads to `out`. What was asked about them has no answer any more.
    fn drain_all(&mut self, out: &mut Vec<ReadId>) {
        out.extend(self.question.take().map(|question| question.reads).unwrap_or_default());
        out.append(&mut self.waiting);
    }
}

impl Common {
    fn send_question(&mut self) {
        let (Some(question), (term, Some(leader))) = (&mut self.asking.question, self.asking.of) else { return };
        question.sent_tick = self.now_tick;
        let (LeaderLife { node, life: leader_life }, life) = (leader, self.config.life);
        let message = Message::ReadIndexRequest { term, leader_life, life, batch: self.asking.batch };
        self.out.messages.push((node, message));
    }

    /// Asks this leader again, if it was asked and has not answered: the question may not have left.
    pub(super) fn repeat_question(&mut self, leader: NodeId) {
        if self.asking.of.0 == self.hard_state.term && self.asking.asks(leader) {
            self.send_question();
        }
    }

    /// Asks again if the answer takes too long: the question may have been lost, or its answer.
    pub(super) fn tick_asking(&mut self) {
        let is_due = |question: &ReadQuestion| self.now_tick >= question.sent_tick + self.config.ask_again_ticks();
        if self.asking.question.as_ref().is_some_and(is_due) {
            mark!("raft: a question about reads is asked again");
            self.send_question();
        }
    }
}

impl Raft {
    /// Asks the leader about the reads that wait, unless a question is under way. Says whether it did. To be called at the end of a turn,
    /// so that reads which arrived together share a question.
    #[must_use = "the question is among the messages to send"]
    pub fn ask_about_reads(&mut self) -> bool {
        let asking = &mut self.common.asking;
        let is_of_now = asking.of.0 == self.common.hard_state.term;
        if asking.question.is_some() || asking.waiting.is_empty() || !is_of_now {
            return false;
        }
        asking.batch += 1;
        asking.question = Some(ReadQuestion { reads: std::mem::take(&mut asking.waiting), sent_tick: 0 });
        self.common.send_question();
        true
    }

    /// Queues a read at a follower.
    pub(super) fn queue_read_for_leader(&mut self, read: ReadId) -> Result<(), ReadIndexError> {
        self.fail_reads_of_lost_leader();
        let State::Follower(following) = &self.state else { return Err(ReadIndexError::NobodyToAsk) };
        let leader = following.leader_life().filter(|_| !following.has_parted()).ok_or(ReadIndexError::NobodyToAsk)?;
        let term = self.common.hard_state.term;
        let asking = &mut self.common.asking;
        let pending_count = asking.pending_count();
        if pending_count >= PENDING_READS_MAX {
            return Err(ReadIndexError::TooManyReads { pending_count, limit: PENDING_READS_MAX });
        }
        mark!("raft: a read waits for the next question" if asking.question.is_some());
        asking.of = (term, Some(leader));
        asking.waiting.push(read);
        Ok(())
    }

    /// A follower asks for its reads the leader of this term, in this life.
    pub(super) fn on_read_index_request(&mut self, from: NodeId, asked: (Term, u64), life: u64, batch: u64) {
        if let State::Leader(leading) = &mut self.state
            && asked == (self.common.hard_state.term, self.common.config.life)
        {
            assert!(self.common.is_peer(from), "members ask");
            leading.on_read_index_request(&mut self.common, from, life, batch);
        }
    }

    /// The leader answered a question.
    pub(super) fn on_read_index_response(&mut self, from: NodeId, term: Term, life: u64, batch: u64, index: Index) {
        self.fail_reads_of_lost_leader();
        let common = &mut self.common;
        let is_asked = common.asking.of.0 == term
            && common.asking.asks(from)
            && life == common.config.life
            && batch == common.asking.batch;
        let known_index = common.known_index();
        let is_compared = self.state.following().is_some_and(|following| following.matched_index() >= known_index);
        if is_asked && !is_compared {
            // What is known here may be of another history than the leader's: nobody has compared the two logs yet. So the answer is
            // dropped. The question is asked again, and its answer counts once the logs were compared.
            return;
        }
        let Some(question) = common.asking.question.take_if(|_| is_asked) else {
            mark!("raft: an answer about reads that nobody waits for is ignored");
            return;
        };
        common.out.reads_ready.extend(question.reads.into_iter().map(|read| (read, index)));
    }

    /// Gives up the reads of a leader that is not the leader of the current term any more, or has another history.
    pub(super) fn fail_reads_of_lost_leader(&mut self) {
        if !self.common.asking.is_empty()
            && self.common.asking.of != (self.common.hard_state.term, self.leader_life_of_one_history())
        {
            mark!("raft: the leader that was asked about reads is lost");
            self.common.asking.drain_all(&mut self.common.out.reads_failed);
        }
    }

    /// Gives up the reads that were asked of a node which cannot be reached any more.
    pub(super) fn fail_reads_of(&mut self, node: NodeId) {
        if self.common.asking.asks(node) {
            self.common.asking.drain_all(&mut self.common.out.reads_failed);
        }
    }
}
