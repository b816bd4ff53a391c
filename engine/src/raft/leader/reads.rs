//! Linearizable reads without a log entry: the leader proves that it still leads (ReadIndex, thesis 6.4).
//!
//! All reads that wait share one round of heartbeats. A round confirms only reads that arrived before it started: its
//! answers prove leadership at a time after their arrival. At most one round is in flight; regular heartbeats repeat it.

use super::Leading;
use crate::limits::PENDING_READS_MAX;
use crate::raft::{Common, Message, ReadId, ReadIndexError};
use crate::types::{Index, NodeId};

/// The rounds of heartbeats of one leader's term, and the reads that wait for them.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadRounds {
    /// Newest round started; strictly increases. 0 = none yet.
    round: u64,
    /// Reads that the newest round will confirm; empty once it has, and before the first round.
    in_round: Vec<Awaiting>,
    /// commit_index when the newest round started, hence not before any of its reads arrived.
    round_commit_index: Index,
    /// Reads that arrived since it started.
    waiting: Vec<Awaiting>,
}

/// What waits for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaiting {
    /// A read.
    Read(ReadId),
    /// A follower's question for its own reads.
    Follower {
        /// Who asked.
        node: NodeId,
        /// Which life of that node asked.
        life: u64,
        /// Its number for the question.
        batch: u64,
    },
    /// The question of a node under repair, which must know that this leader was not deposed.
    Repair {
        /// Who asked.
        node: NodeId,
        /// Which run of that node asked.
        nonce: u64,
        /// Where this leader's log ended when it asked.
        last_index: Index,
    },
}

impl Awaiting {
    /// True if the same life of the same node asked for the same. Where a log ends is not compared: the answer to the first question
    /// will do.
    fn repeats(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Repair { node, nonce, .. }, Self::Repair { node: asking, nonce: asked, .. }) => {
                (node, nonce) == (asking, asked)
            }
            (Self::Follower { .. }, Self::Follower { .. }) => self == known,
            _ => false,
        }
    }

    /// True if it is a question of the same kind from the same node.
    fn replaces(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Repair { node, .. }, Self::Repair { node: asking, .. })
            | (Self::Follower { node, .. }, Self::Follower { node: asking, .. }) => node == asking,
            _ => false,
        }
    }
}

impl ReadRounds {
    /// Newest round started.
    pub(super) fn newest(&self) -> u64 {
        self.round
    }

    /// Moves all reads, confirmed or not, to `out`.
    pub(super) fn drain_all(&mut self, out: &mut Vec<ReadId>) {
        // Other nodes ask again.
        out.extend(self.in_round.drain(..).chain(self.waiting.drain(..)).filter_map(|awaiting| match awaiting {
            Awaiting::Read(read) => Some(read),
            Awaiting::Follower { .. } | Awaiting::Repair { .. } => None,
        }));
    }

    /// Queues the question of another node. One that repeats an earlier one is left out; a new one replaces one of its kind that waits,
    /// for which nobody waits any more. So of each node and kind one question is in a round and one waits.
    pub(super) fn wait_for(&mut self, question: Awaiting) {
        if self.in_round.iter().chain(&self.waiting).any(|known| question.repeats(known)) {
            mark!("raft: a node under repair repeats its question" if matches!(question, Awaiting::Repair { .. }));
            mark!("raft: a follower repeats its question about reads" if matches!(question, Awaiting::Follower { .. }));
            return;
        }
        self.waiting.retain(|known| !question.replaces(known));
        self.waiting.push(question);
    }

    fn pending_count(&self) -> usize {
        self.in_round.len() + self.waiting.len()
    }

    fn start(&mut self, commit_index: Index) {
        assert!(self.in_round.is_empty(), "one round at a time");
        self.round += 1;
        self.round_commit_index = commit_index;
        std::mem::swap(&mut self.in_round, &mut self.waiting);
    }
}

impl Leading {
    /// Queues a read. It is an error if too many wait.
    pub(in crate::raft) fn read_index(&mut self, common: &mut Common, read: ReadId) -> Result<(), ReadIndexError> {
        let pending_count = self.rounds.pending_count();
        if pending_count >= PENDING_READS_MAX {
            return Err(ReadIndexError::TooManyReads { pending_count, limit: PENDING_READS_MAX });
        }
        self.rounds.waiting.push(Awaiting::Read(read));
        self.advance_reads(common);
        Ok(())
    }

    /// A follower asks up to where its reads must see. It is answered as a read here is.
    pub(in crate::raft) fn on_read_index_request(&mut self, common: &mut Common, node: NodeId, life: u64, batch: u64) {
        self.rounds.wait_for(Awaiting::Follower { node, life, batch });
        self.advance_reads(common);
    }

    /// Completes the round in flight if a quorum answered it, and starts the next if reads wait for one.
    pub(super) fn advance_reads(&mut self, common: &mut Common) {
        while self.complete_round(common) && self.start_round(common) {}
    }

    /// True when no round is in flight any more.
    fn complete_round(&mut self, common: &mut Common) -> bool {
        let own = common.config.id;
        let (rounds, progress) = (&mut self.rounds, &self.progress);
        if rounds.in_round.is_empty() {
            return true;
        }
        let is_confirmed = common.membership.quorum_has(|node| {
            node == own || progress.get(&node).is_some_and(|progress| progress.confirmed_round() >= rounds.round)
        });
        if is_confirmed {
            let (term, index) = (common.hard_state.term, rounds.round_commit_index);
            for awaiting in rounds.in_round.drain(..) {
                match awaiting {
                    Awaiting::Read(read) => common.out.reads_ready.push((read, index)),
                    // A leader's term is durable: it was elected in it.
                    Awaiting::Follower { node, life, batch } => {
                        let message = Message::ReadIndexResponse { term, life, batch, index };
                        common.out.messages.push((node, message));
                    }
                    Awaiting::Repair { node, nonce, last_index } => {
                        let life = common.config.life;
                        let message = Message::RepairResponse { term, life, nonce, last_index, challenge: 0 };
                        common.out.messages.push((node, message));
                    }
                }
            }
        }
        is_confirmed
    }

    fn start_round(&mut self, common: &mut Common) -> bool {
        let knows_commit_index = common.commit_index >= self.opening_index;
        let is_awaited = !self.rounds.waiting.is_empty();
        mark!("raft: reads wait for the first entry of the term" if is_awaited && !knows_commit_index);
        if !is_awaited || !knows_commit_index {
            return false;
        }
        self.rounds.start(common.commit_index);
        self.broadcast_heartbeat(common);
        true
    }
}
