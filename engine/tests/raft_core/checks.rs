//! Raft's guarantees (thesis figure 3.2), checked from outside after every step. Knows logs and claims, not intentions.

use std::collections::HashMap;

use engine::raft::{AppendOutcome, LogView, Message, ReadId};
use engine::types::{EntryId, Index, NodeId, Term};

use crate::cluster::Node;

/// What has been claimed anywhere so far.
#[derive(Debug, Default)]
pub struct Checks {
    /// Who led each term.
    leaders: HashMap<Term, NodeId>,
    /// The entry before each entry: equal ids must have equal histories.
    entry_before: HashMap<EntryId, EntryId>,
    /// Every entry that any node ever took for committed, in order, with the term of the leader that committed it.
    committed: Vec<(EntryId, Term)>,
    /// Whom each node voted for in each term.
    votes: HashMap<(NodeId, Term), NodeId>,
    /// Reads without an answer: where they wait, and what was committed anywhere when they arrived.
    reads: HashMap<ReadId, (NodeId, Index)>,
}

impl Checks {
    /// Highest index that any node ever took for committed.
    pub fn committed_index(&self) -> Index {
        Index::new(self.committed.len() as u64)
    }

    /// Log matching: entries with the same id are the same, and so is everything before them.
    pub fn on_entry(&mut self, before: EntryId, id: EntryId) {
        let known = *self.entry_before.entry(id).or_insert(before);
        assert!(known == before, "log matching: {id} follows {known} in one log and {before} in another");
    }

    /// A promise leaves only when it is durable.
    pub fn on_send(&mut self, node: &Node, to: NodeId, message: &Message) {
        let durable = node.log.durable_hard_state();
        let term_is_durable = durable.term >= message.term();
        match message {
            Message::RequestVoteResponse { term, granted: true } => {
                assert!(term_is_durable, "{} voted in term {term} before that was durable", node.id);
                assert!(durable.term > *term || durable.vote == Some(to), "{} voted before that was durable", node.id);
                self.note_vote(node.id, *term, to);
            }
            Message::RequestVote { term, .. } => {
                let own = durable.term > *term || durable.vote == Some(node.id);
                assert!(term_is_durable && own, "{} campaigns in {term} before its vote is durable", node.id);
                self.note_vote(node.id, *term, node.id);
            }
            Message::AppendEntriesResponse {
                outcome:
                    AppendOutcome::Accepted { persisted_index, .. }
                    | AppendOutcome::NoRoom { persisted_index, .. }
                    | AppendOutcome::Damaged { persisted_index, .. },
                ..
            }
            | Message::HeartbeatResponse { persisted_index, .. } => {
                assert!(term_is_durable, "{} acknowledges in a term that is not durable", node.id);
                assert!(*persisted_index <= node.log.persisted_index(), "{} acknowledges too much", node.id);
            }
            _ => {}
        }
    }

    fn note_vote(&mut self, voter: NodeId, term: Term, candidate: NodeId) {
        let known = *self.votes.entry((voter, term)).or_insert(candidate);
        assert!(known == candidate, "{voter} voted twice in term {term}: for {known} and {candidate}");
    }

    /// A node forgot what it voted for. Its vote for itself is of no use to anyone: it is a candidate no more. All others
    /// count.
    pub fn on_vote_forgotten(&mut self, voter: NodeId) {
        self.votes.retain(|&(node, _), candidate| node != voter || *candidate != voter);
    }

    pub fn on_read(&mut self, node: NodeId, read: ReadId) {
        self.reads.insert(read, (node, self.committed_index()));
    }

    /// Who asked is gone with the node.
    pub fn on_crash(&mut self, node: NodeId) {
        self.reads.retain(|_, (asked, _)| *asked != node);
    }

    /// Linearizable reads: whatever was committed anywhere when the read arrived is visible to it.
    pub fn on_read_ready(&mut self, read: ReadId, index: Index) {
        let (_, floor) = self.reads.remove(&read).expect("the read was asked for, and is answered once");
        assert!(index >= floor, "stale read: confirmed at {index}, {floor} was committed before it arrived");
        assert!(index <= self.committed_index(), "a read at {index} sees what is not committed");
    }

    pub fn on_read_failed(&mut self, read: ReadId) {
        assert!(self.reads.remove(&read).is_some(), "the read was asked for, and fails once");
    }

    /// Election safety, and leader completeness: a leader has everything that was committed in earlier terms.
    ///
    /// Not what was committed in later ones: a candidate may learn that it won when the others have moved on already.
    pub fn on_leader(&mut self, node: &Node, term: Term) {
        let known = *self.leaders.entry(term).or_insert(node.id);
        assert!(known == node.id, "election safety: {known} and {} lead term {term}", node.id);
        if let Some(&(last, _)) = self.committed.iter().rev().find(|(_, committed_in)| *committed_in < term) {
            assert!(
                node.log.id_at(last.index) == Some(last),
                "leader completeness: {} leads term {term} without {last}",
                node.id
            );
        }
    }

    /// State machine safety: what one node takes for committed is durable on a quorum, and the same for all.
    pub fn on_commit(&mut self, nodes: &[Node], at: usize, from: Index, to: Index) {
        let node = &nodes[at];
        let term = node.raft.as_ref().expect("the node is up").term();
        assert!(to <= node.log.last_id().index, "{} committed what it does not hold", node.id);
        for index in from.get() + 1..=to.get() {
            let id = node.log.id_at(Index::new(index)).expect("the log holds it");
            match self.committed.get(usize::try_from(index).expect("small") - 1) {
                Some(&(known, _)) => assert!(known == id, "{} committed {id}, but {known} is", node.id),
                None => {
                    // An acknowledgement may arrive after its sender lost the entry: it keeps the promise by not voting.
                    let holds = |node: &&Node| node.log.is_durable(id) || node.lost.contains(&id);
                    let durable = nodes.iter().filter(holds).count();
                    assert!(durable > nodes.len() / 2, "{} committed {id}, durable on {durable} nodes", node.id);
                    self.committed.push((id, term));
                }
            }
        }
        if let Some(id) = node.log.id_at(to) {
            assert_cannot_be_lost(nodes, id);
        }
    }

    /// A leader never overestimates a follower of its own term.
    pub fn on_leader_state(&self, nodes: &[Node], at: usize) {
        let Some(raft) = &nodes[at].raft else { return };
        for (follower, progress) in raft.progress() {
            let Some(node) = nodes.iter().find(|node| node.id == follower) else { continue };
            let is_comparable = node.raft.as_ref().is_some_and(|other| other.term() == raft.term());
            if is_comparable
                && node.repair.is_none()
                && let Some(id) = nodes[at].log.id_at(progress.match_index())
            {
                assert!(node.log.is_durable(id), "{} counts {id} on {follower}, which lacks it", nodes[at].id);
            }
        }
    }

    /// Nothing committed was lost: all of it is durable on a quorum.
    pub fn at_end(&self, nodes: &[Node]) {
        assert!(self.reads.is_empty(), "reads were never answered: {:?}", self.reads);
        for &(id, _) in &self.committed {
            let durable = nodes.iter().filter(|node| node.log.is_durable(id)).count();
            assert!(durable > nodes.len() / 2, "committed {id} is durable on {durable} nodes only");
        }
    }
}

/// Nobody who lacks a committed entry can be elected: a quorum has logs that are more up to date than his. Finds entries
/// committed too early (thesis figure 3.7) although their loss would take further faults.
fn assert_cannot_be_lost(nodes: &[Node], id: EntryId) {
    let may_vote = |node: &&Node| node.repair.is_none();
    for node in nodes.iter().filter(may_vote).filter(|node| node.log.id_at(id.index) != Some(id)) {
        let last = node.log.last_id();
        let voters = nodes.iter().filter(may_vote).filter(|voter| last >= voter.log.last_id()).count();
        assert!(voters <= nodes.len() / 2, "{id} is committed, but {}, which lacks it, can be elected", node.id);
    }
}
