//! The two states of a node that wants to lead: it asks first whether it could win (pre-vote, thesis 9.6), then for votes (thesis 3.4).
//!
//! This file sends the questions and counts the answers. `election` decides when a campaign begins and what follows from its result.

use std::collections::BTreeMap;

use super::follower::Following;
use super::log_view::LogView;
use super::{Common, Message};
use crate::types::{EntryId, NodeId};

/// A node that asks its peers whether they would vote for it. It stays in its term, as a follower without a leader.
#[derive(Clone, Debug)]
pub(super) struct PreCandidate {
    /// What it knows of the log of its term's leader. It is needed again if that leader is heard after all.
    pub(super) following: Following,
    votes: Votes,
}

/// A node that asks for votes in a new term.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    votes: Votes,
    /// The leader of the term before asked for this campaign, to hand leadership over.
    transfer: bool,
}

/// Answers to a campaign.
#[derive(Clone, Debug)]
struct Votes {
    /// The last entry of this node's log, as the questions state it.
    last: EntryId,
    /// The nodes that answered; true if they gave their vote.
    answers: BTreeMap<NodeId, bool>,
}

impl PreCandidate {
    /// Asks every other voter. This node's own vote counts at once: a pre-vote promises nothing, so it need not be durable.
    pub(super) fn begin(common: &mut Common, following: Following, log: &impl LogView) -> Self {
        assert!(following.leader().is_none(), "a node that has a leader does not campaign");
        let votes = Votes { last: log.last_id(), answers: BTreeMap::from([(common.config.id, true)]) };
        let begun = Self { following, votes };
        for to in common.other_voters() {
            begun.ask(common, to);
        }
        begun
    }

    fn ask(&self, common: &mut Common, to: NodeId) {
        let message = Message::RequestPreVote { term: common.hard_state.term.next(), last: self.votes.last };
        common.out.messages.push((to, message));
    }

    /// A connection to `node` came up. Asks it again if it has not answered: the question may have been lost with the connection
    /// before.
    pub(super) fn ask_again(&self, common: &mut Common, node: NodeId) {
        if !self.votes.has_answered(node) {
            mark!("raft: a question for pre-votes is repeated on a new connection");
            self.ask(common, node);
        }
    }

    /// A peer answered. True if a quorum would vote for this node.
    pub(super) fn on_response(&mut self, common: &Common, from: NodeId, granted: bool) -> bool {
        self.votes.note(from, granted);
        self.has_quorum(common)
    }

    /// True if a quorum would vote for this node.
    pub(super) fn has_quorum(&self, common: &Common) -> bool {
        common.membership.quorum_has(|node| self.votes.granted(node))
    }

    /// Whether this node goes first when it and a rival ask for pre-votes in the same moment and their logs end alike: the greater id
    /// does. If each granted the other's pre-vote, both would campaign and split the votes.
    ///
    /// It goes first for one tick only, since the rival may get votes that this node does not get.
    pub(super) fn goes_before(&self, common: &Common, rival: NodeId, last: EntryId) -> bool {
        common.timer.elapsed_ticks <= 1 && self.votes.last == last && common.config.id > rival
    }
}

impl Candidate {
    /// Asks every other voter. The questions leave once this node's own vote is durable; that vote is not counted before.
    pub(super) fn begin(common: &mut Common, transfer: bool, log: &impl LogView) -> Self {
        assert!(common.hard_state.vote == Some(common.config.id), "a candidate votes for itself");
        let begun = Self { votes: Votes { last: log.last_id(), answers: BTreeMap::new() }, transfer };
        for to in common.other_voters() {
            begun.ask(common, to);
        }
        begun
    }

    fn ask(&self, common: &mut Common, to: NodeId) {
        let (term, last, transfer) = (common.hard_state.term, self.votes.last, self.transfer);
        common.respond(to, Message::RequestVote { term, last, transfer });
    }

    /// A connection to `node` came up. Asks it again if it has not answered.
    pub(super) fn ask_again(&self, common: &mut Common, node: NodeId) {
        // The first question has not left before this node's own vote is durable: then there is nothing to repeat.
        if common.hard_state_is_durable() && !self.votes.has_answered(node) {
            mark!("raft: a question for votes is repeated on a new connection");
            self.ask(common, node);
        }
    }

    /// A peer answered. True if this node is elected.
    pub(super) fn on_response(&mut self, common: &Common, from: NodeId, granted: bool) -> bool {
        self.votes.note(from, granted);
        self.is_elected(common)
    }

    /// The hard state is durable, so this node's own vote counts from now on. True if this node is elected.
    pub(super) fn on_own_vote_durable(&mut self, common: &Common) -> bool {
        assert!(common.hard_state.vote == Some(common.config.id), "a candidate votes for itself");
        self.votes.note(common.config.id, true);
        self.is_elected(common)
    }

    fn is_elected(&self, common: &Common) -> bool {
        self.votes.granted(common.config.id) && common.membership.quorum_has(|node| self.votes.granted(node))
    }
}

impl Votes {
    /// Notes an answer. A vote that was given stays given: messages overtake each other, so a refusal that arrives after it may have
    /// been sent before it.
    fn note(&mut self, from: NodeId, granted: bool) {
        *self.answers.entry(from).or_insert(false) |= granted;
    }

    fn granted(&self, node: NodeId) -> bool {
        self.answers.get(&node).copied().unwrap_or(false)
    }

    fn has_answered(&self, node: NodeId) -> bool {
        self.answers.contains_key(&node)
    }
}
