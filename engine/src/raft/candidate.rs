//! Campaigns: a node that asks whether it could win (pre-vote, thesis 9.6), and one that asks for votes (thesis 3.4).
//!
//! When a campaign begins and what its end leads to is decided in `election`.

use std::collections::BTreeMap;

use super::follower::Following;
use super::log_view::LogView;
use super::{Common, Message};
use crate::types::{EntryId, NodeId};

/// Asks whether a campaign could succeed. Its term is unchanged, so it remains a follower of that term without a leader.
#[derive(Debug)]
pub(super) struct PreCandidate {
    /// What it knows of the log of its term's leader, in case that leader is heard again.
    pub(super) following: Following,
    votes: Votes,
}

/// Asks for votes in a new term.
#[derive(Debug)]
pub(super) struct Candidate {
    votes: Votes,
    /// The leader asked for the campaign.
    transfer: bool,
}

/// Answers to a campaign.
#[derive(Debug)]
struct Votes {
    /// The last entry of the candidate's log, as it announced it.
    last: EntryId,
    /// Who answered, and whether with a vote.
    answers: BTreeMap<NodeId, bool>,
}

impl PreCandidate {
    /// Asks every peer. The own vote counts at once, since nothing is promised.
    pub(super) fn begin(common: &mut Common, following: Following, log: &impl LogView) -> Self {
        assert!(following.leader().is_none(), "a node that has a leader does not campaign");
        let votes = Votes { last: log.last_id(), answers: BTreeMap::from([(common.config.id, true)]) };
        let begun = Self { following, votes };
        for to in common.peers() {
            begun.ask(common, to);
        }
        begun
    }

    fn ask(&self, common: &mut Common, to: NodeId) {
        let message = Message::RequestPreVote { term: common.hard_state.term.next(), last: self.votes.last };
        common.out.messages.push((to, message));
    }

    /// A connection came up: the question may have got lost with the last one.
    pub(super) fn ask_again(&self, common: &mut Common, node: NodeId) {
        if !self.votes.has_answered(node) {
            mark!("raft: a question for votes is repeated on a new connection");
            self.ask(common, node);
        }
    }

    /// A peer answered. True if a quorum would vote for this node.
    pub(super) fn on_response(&mut self, common: &Common, from: NodeId, granted: bool) -> bool {
        self.votes.note(from, granted);
        self.has_quorum(common)
    }

    /// A quorum would vote for this node.
    pub(super) fn has_quorum(&self, common: &Common) -> bool {
        common.membership.quorum_has(|node| self.votes.granted(node))
    }

    /// This node and a rival with the same log ask for pre-votes in the same moment. If both were granted, both would campaign and
    /// split the votes, so the greater id goes first. Only for a tick: it may not get the votes that the other one would.
    pub(super) fn goes_before(&self, common: &Common, rival: NodeId, last: EntryId) -> bool {
        common.timer.elapsed_ticks <= 1 && self.votes.last == last && common.config.id > rival
    }
}

impl Candidate {
    /// Asks every peer, once this node's own vote is durable. That vote is not counted before.
    pub(super) fn begin(common: &mut Common, transfer: bool, log: &impl LogView) -> Self {
        assert!(common.hard_state.vote == Some(common.config.id), "a candidate votes for itself");
        let begun = Self { votes: Votes { last: log.last_id(), answers: BTreeMap::new() }, transfer };
        for to in common.peers() {
            begun.ask(common, to);
        }
        begun
    }

    fn ask(&self, common: &mut Common, to: NodeId) {
        let (term, last, transfer) = (common.hard_state.term, self.votes.last, self.transfer);
        common.respond(to, Message::RequestVote { term, last, transfer });
    }

    /// A connection came up: the question may have got lost with the last one.
    pub(super) fn ask_again(&self, common: &mut Common, node: NodeId) {
        // While the vote is not durable the first question has not left either.
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
    /// A vote once given stays given: a refusal that arrives later answered something else.
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
