//! What one node may do by itself, whatever it was told: checked after everything that happens to it.
//!
//! Its term and what it knows to be committed never fall; committed entries never change; what it promises is on its disk
//! before the promise leaves; it votes once in a term; it answers each client once, and no read without a reason; nothing raises
//! its term by more than one leap. Knows nothing of what was true in what the node heard.

use std::collections::{BTreeMap, BTreeSet};

use wal::HardStateRecord;

use super::node::{Disk, Node, Sent};
use super::past::Entry;
use super::reads::Confirmations;
use crate::call::CallKind;
use crate::raft::{AppendOutcome, Message, TERM_MAX};
use crate::replica::{Fault, Outgoing, ReplicaView};
use crate::types::{EntryId, Index, NodeId, Term};

/// A message raises the term by so much at most, and a campaign that follows from it by one.
const TERM_LEAP_MAX: u64 = (1 << 32) + 1;

/// What is known of the node.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whom it voted for, in all its lives.
    votes: BTreeMap<Term, NodeId>,
    /// The latest term that it named to anybody.
    named_term: Term,
    /// Requests of its own clients that it owes an answer.
    unanswered: BTreeSet<u64>,
    reads: Confirmations,
    term: Term,
    commit_index: Index,
    /// Entries that it knew to be committed in this life.
    committed: Vec<Entry>,
    /// What the device certainly holds, as far as that was needed.
    proven: (HardStateRecord, Vec<EntryId>),
    /// It had stopped before the last event.
    had_fault: bool,
    /// It was told to end.
    has_ended: bool,
}

/// What a message promises of the sender's disk.
struct Claim {
    term: Term,
    vote: Option<NodeId>,
    persisted_index: Index,
}

impl Claim {
    fn of(message: &Message, own: NodeId, to: NodeId) -> Option<Self> {
        let (mut vote, mut persisted) = (None, Index::ZERO);
        match message {
            // Questions promise nothing. Answers about birth, and the word that a log was given up, do not speak of terms: whoever
            // hears them takes no term from them.
            Message::RequestPreVote { .. }
            | Message::ReadIndexRequest { .. }
            | Message::RepairRequest { .. }
            | Message::BirthRequest { .. }
            | Message::BirthResponse { .. }
            | Message::Outdated { .. } => return None,
            Message::RequestVote { .. } => vote = Some(own),
            Message::RequestVoteResponse { granted: true, .. } => vote = Some(to),
            Message::AppendEntriesResponse {
                outcome:
                    AppendOutcome::Accepted { persisted_index, .. }
                    | AppendOutcome::NoRoom { persisted_index, .. }
                    | AppendOutcome::Damaged { persisted_index, .. },
                ..
            }
            | Message::HeartbeatResponse { persisted_index, .. } => persisted = *persisted_index,
            _ => {}
        }
        Some(Self { term: message.term(), vote, persisted_index: persisted })
    }
}

impl Watch {
    /// A client of the node asks for something.
    pub(super) fn expect_answer(&mut self, ticket: u64, kind: CallKind) {
        self.unanswered.insert(ticket);
        if kind == CallKind::Read {
            self.reads.on_asked(ticket);
        }
    }

    /// Requests without an answer.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The node was told to end: from here on it says nothing.
    pub(super) fn on_end(&mut self, node: &Node) {
        self.has_ended = node.replica.fault().is_none();
    }

    /// After a message. A node that believes that its log was given up has no reason of its own to know better: it neither leads nor
    /// has the committed entry that is said to have done it. Under repair it may have that entry, if by its own log another one counts:
    /// it would stop by itself, if an entry that it lost could not name it again.
    pub(super) fn check_outdated(&self, node: &Node, before: &ReplicaView) -> Result<(), String> {
        match node.replica.fault() {
            Some(Fault::Outdated(outdated)) if !self.had_fault && outdated.told_by != node.id => {
                let named = node.replica.membership().named(node.id);
                let counts_another = named.is_some_and(|named| {
                    named.incarnation != node.birth().incarnation && named.since >= outdated.since
                });
                let says_so = before.repair.is_some() && counts_another;
                if before.is_leader || (before.commit_index >= outdated.since && !says_so) {
                    return Err(format!("{outdated}: believed by a node that knows better: {before:?}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The node was started. `before` is what its log held durably when its last life ended, if it had one.
    pub(super) fn on_start(&mut self, node: &Node, before: &[EntryId]) -> Result<(), String> {
        let log = node.replica.log();
        let hard_state = log.hard_state();
        let lost = before.iter().find(|id| log.term(id.index) != Some(id.term));
        if let Some(id) = lost {
            return Err(format!("entry {id} was durable before the restart and is gone"));
        }
        if hard_state.term < self.named_term {
            return Err(format!("it named term {} and starts in term {}", self.named_term, hard_state.term));
        }
        if let Some(vote) = self.votes.get(&hard_state.term)
            && vote.get() != hard_state.vote
        {
            return Err(format!("it voted for {vote} in term {} and starts with {hard_state:?}", hard_state.term));
        }
        let (votes, named_term) = (std::mem::take(&mut self.votes), self.named_term);
        *self = Self { votes, named_term, term: hard_state.term, ..Self::default() };
        Ok(())
    }

    /// Looks at the node after something happened to it. Takes what it sent and answered.
    pub(super) fn observe(&mut self, node: &mut Node) -> Result<Vec<Sent>, String> {
        node.heard.drain(..).for_each(|heard| self.reads.on_heard(heard));
        for (ticket, answer) in node.answers.drain(..) {
            self.reads.on_answered(ticket, answer.is_ok(), node.replica.view().applied_index)?;
            if !self.unanswered.remove(&ticket) {
                return Err(format!("request {ticket} is answered although nobody waits for an answer"));
            }
        }
        self.check_positions(node)?;
        let sent = std::mem::take(&mut node.sent);
        for Sent { to, message, .. } in &sent {
            if let Outgoing::Raft(message) = message {
                self.reads.on_sent(*to, message);
                self.check_message(node, *to, message).map_err(|what| format!("{what}: {message:?} to {to}"))?;
            }
        }
        self.had_fault = node.replica.fault().is_some();
        Ok(sent)
    }

    fn check_positions(&mut self, node: &Node) -> Result<(), String> {
        let (log, view) = (node.replica.log(), node.replica.view());
        let last = log.last_id();
        // A replica that stopped shows the term of others.
        if node.replica.fault().is_none() {
            if view.term < self.term || view.term > TERM_MAX || last.term > view.term {
                return Err(format!("term {} after {}, and the log ends at {last}", view.term, self.term));
            }
            if view.term.get() - self.term.get() > TERM_LEAP_MAX {
                return Err(format!("the term goes from {} to {} at once", self.term, view.term));
            }
            self.term = view.term;
        }
        if view.commit_index < self.commit_index || view.commit_index > last.index {
            return Err(format!("committed {} after {}, the log ends at {last}", view.commit_index, self.commit_index));
        }
        if view.applied_index > view.commit_index || log.persisted_index() > last.index {
            let persisted_index = log.persisted_index();
            return Err(format!("persisted {persisted_index}, the log ends at {last}: {view:?}"));
        }
        if let Some(Fault::Read { .. }) = node.replica.fault() {
            return Err(format!("nothing is wrong with the disk: {:?}", node.replica.fault()));
        }
        self.commit_index = view.commit_index;
        for number in self.committed.len() as u64 + 1..=view.commit_index.get() {
            let entry = log.entry(Index::new(number)).map_err(|error| error.to_string())?;
            let entry = entry.ok_or_else(|| format!("entry {number} is committed and not there"))?;
            entry.verify().map_err(|error| format!("committed entry {number}: {error}"))?;
            self.committed.push(Entry { id: entry.id(), bytes: entry.bytes().to_vec() });
        }
        let changed = self.committed.iter().find(|entry| log.term(entry.id.index) != Some(entry.id.term));
        changed.map_or(Ok(()), |entry| Err(format!("the committed entry {} was replaced", entry.id)))
    }

    /// The bytes of what is committed are what they were.
    pub(super) fn check_committed_bytes(&self, node: &Node) -> Result<(), String> {
        for known in &self.committed {
            let entry = node.replica.log().entry(known.id.index).map_err(|error| error.to_string())?;
            if entry.is_none_or(|entry| entry.bytes() != known.bytes) {
                return Err(format!("the committed entry {} has other bytes", known.id));
            }
        }
        Ok(())
    }

    fn check_message(&mut self, node: &Node, to: NodeId, message: &Message) -> Result<(), String> {
        if self.had_fault || self.has_ended {
            return Err("a replica that stopped goes on".to_owned());
        }
        if !node.has_peer(to) {
            return Err("no member is spoken to".to_owned());
        }
        let Some(claim) = Claim::of(message, node.id, to) else { return Ok(()) };
        self.named_term = self.named_term.max(claim.term);
        if let Some(vote) = claim.vote {
            let known = *self.votes.entry(claim.term).or_insert(vote);
            if known != vote {
                return Err(format!("a second vote in term {}, {known} had the first", claim.term));
            }
        }
        if self.is_proven(node, &claim) {
            return Ok(());
        }
        let mut storage = node.replica.log().storage().clone();
        storage.crash_losing_everything();
        let log = Disk::open(storage, node.id)?;
        let ids = (1..=log.last_id().index.get()).map(Index::new);
        let ids = ids.filter_map(|index| log.term(index).map(|term| EntryId::new(term, index))).collect();
        self.proven = (log.hard_state(), ids);
        if self.is_proven(node, &claim) {
            return Ok(());
        }
        Err(format!("promised before it was durable; the device holds {:?}", self.proven))
    }

    /// The device holds what is claimed. What was acknowledged in an earlier term was durable then, and may have been replaced.
    fn is_proven(&self, node: &Node, claim: &Claim) -> bool {
        let (hard_state, ids) = &self.proven;
        let has_term = hard_state.term >= claim.term;
        let has_vote = claim.vote.is_none_or(|vote| hard_state.term > claim.term || hard_state.vote == vote.get());
        let log = node.replica.log();
        let is_held = |number: u64| {
            let index = Index::new(number);
            let at = usize::try_from(number - 1).ok();
            at.and_then(|at| ids.get(at)).is_some_and(|id| log.term(index) == Some(id.term))
        };
        let is_of_now = claim.term == self.term;
        let has_entries = !is_of_now || (1..=claim.persisted_index.get()).all(is_held);
        has_term && has_vote && has_entries
    }
}
