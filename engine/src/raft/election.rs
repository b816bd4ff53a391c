//! Elections: when to campaign, whom to vote for, and what becomes of a campaign.
//!
//! Thesis 3.4 (elections), 3.6.1 (who may win), 3.10 (transfer), 4.2.3 (leader lease of followers), 9.6 (pre-vote).

use super::candidate::{Candidate, PreCandidate};
use super::follower::Following;
use super::leader::Leading;
use super::log_view::LogView;
use super::timer::RefusedPreVote;
use super::{Common, HardState, LeadershipStep, Message, Raft, State, TERM_MAX};
use crate::types::{EntryId, Index, NodeId, Term};

impl Common {
    /// Whether this node could lead: it votes, its log holds what it knows to be committed, and the group has not given that log up.
    fn may_campaign(&self, log: &impl LogView) -> bool {
        self.is_voter() && !self.lacks_committed(log) && !self.is_given_up()
    }

    /// Whether there is a later term to campaign in. After the last term nobody is elected any more, but no data is lost.
    fn has_next_term(&self) -> bool {
        self.hard_state.term < TERM_MAX
    }
}

impl Raft {
    /// A tick passed on a follower, a pre-candidate or a candidate. It asks for pre-votes if its election timer ended and it could
    /// lead.
    pub(super) fn tick_election(&mut self, log: &impl LogView) {
        // A candidate whose disk is slow must not begin term after term without making any of them durable.
        if matches!(self.state, State::Candidate(_)) && !self.common.hard_state_is_durable() {
            mark!("raft: a candidate waits for its own vote to be durable");
            return;
        }
        if !self.common.tick_election_timer() {
            return;
        }
        if self.common.may_campaign(log) {
            self.ask_for_pre_votes(log);
        } else {
            self.let_go_of_leader();
        }
    }

    /// The election timer ended on a node that cannot lead: it follows nobody from here on, so that who asks it is sent to no leader that
    /// is gone. It follows again whoever it hears.
    pub(super) fn let_go_of_leader(&mut self) {
        mark!("raft: a node that cannot lead lets go of its leader" if self.leader().is_some());
        if let Some(following) = self.state.following_mut() {
            following.set_leader(None);
        }
        self.common.restart_election_timer();
    }

    /// This node's connection to its leader broke. Makes the election timer short. If a pre-vote was refused a short time ago because
    /// the leader was heard, answers that request again.
    pub(super) fn hurry_election(&mut self, leader: NodeId, log: &impl LogView) {
        let refused = self.common.hurry_election(leader);
        if let Some(RefusedPreVote { from, campaign_term, last, .. }) = refused {
            // The node that asked counts a vote even after a refusal.
            self.on_pre_vote_request(from, campaign_term, last, log);
        }
    }

    /// Whether this node leads, or heard from its leader within an election timeout, over a connection that did not break since. Such a
    /// node helps nobody to depose the leader. Source: thesis 4.2.3.
    pub(super) fn hears_leader(&self) -> bool {
        let hears = |following: &Following| following.hears_leader(&self.common);
        matches!(self.state, State::Leader(_)) || self.state.following().is_some_and(hears)
    }

    /// Stops following the leader, if there is one, and asks the peers for pre-votes.
    fn ask_for_pre_votes(&mut self, log: &impl LogView) {
        if let Some(following) = self.state.following_mut() {
            following.set_leader(None);
        }
        self.common.restart_election_timer();
        if !self.common.has_next_term() {
            return;
        }
        let following = self.state.take_following();
        let asking = PreCandidate::begin(&mut self.common, following, log);
        let has_quorum = asking.has_quorum(&self.common);
        self.state = State::PreCandidate(asking);
        // A single voter has nobody to ask.
        if has_quorum {
            self.campaign(false, log);
        }
    }

    /// Asks for votes in the next term. `transfer` says that the leader asked for this campaign.
    fn campaign(&mut self, transfer: bool, log: &impl LogView) {
        if !self.common.has_next_term() {
            return;
        }
        let common = &mut self.common;
        let term = common.hard_state.term.next();
        common.out.steps.push(LeadershipStep::Campaigning { term, is_asked: transfer });
        common.restart_election_timer();
        common.hard_state = HardState { term, vote: Some(common.config.id) };
        self.state = State::Candidate(Candidate::begin(common, transfer, log));
    }

    /// This candidate was elected.
    pub(super) fn become_leader(&mut self, log: &impl LogView) {
        self.state = State::Leader(Box::new(Leading::begin(&mut self.common, log)));
    }

    /// A peer asks whether this node would vote for it in `campaign_term`.
    ///
    /// If this node could vote in that term but refuses, the reason decides what follows. While it hears a leader, it keeps the request:
    /// if the leader's connection breaks, it answers again. If it hears no leader and the peer's log is behind its own, it asks for
    /// pre-votes itself.
    pub(super) fn on_pre_vote_request(&mut self, from: NodeId, campaign_term: Term, last: EntryId, log: &impl LogView) {
        let term = self.common.hard_state.term;
        let could_vote = campaign_term > term || (campaign_term == term && self.vote_is_free_for(from));
        let may_win = last >= log.last_id() && self.common.may_have_committed(last);
        let goes_before = match &self.state {
            State::PreCandidate(asking) => asking.goes_before(&self.common, from, last),
            _ => false,
        };
        let granted = campaign_term > Term::ZERO && !self.hears_leader() && could_vote && may_win && !goes_before;
        self.common.respond(from, Message::PreVoteResponse { term, campaign_term, granted });
        if !could_vote || granted {
            return;
        }
        if self.hears_leader() {
            let tick = self.common.now_tick;
            self.common.timer.refused = Some(RefusedPreVote { from, campaign_term, last, tick });
        } else if last < log.last_id() {
            self.campaign_instead(log);
        }
    }

    /// A peer that lacks entries of this node's log asked for a pre-vote. This node has the better chance, so a follower asks for
    /// pre-votes now and does not wait for its election timer.
    fn campaign_instead(&mut self, log: &impl LogView) {
        if matches!(self.state, State::Follower(_)) && !self.common.is_leaving && self.common.may_campaign(log) {
            self.ask_for_pre_votes(log);
        }
    }

    /// A peer answered the question for a pre-vote. Campaigns if a quorum would vote for this node.
    pub(super) fn on_pre_vote_response(
        &mut self,
        from: NodeId,
        term: Term,
        campaign_term: Term,
        granted: bool,
        log: &impl LogView,
    ) {
        if !granted && term > self.common.hard_state.term {
            mark!("raft: a pre-vote is refused from a later term");
            self.become_follower(term, None);
            return;
        }
        let asked_now = campaign_term == self.common.hard_state.term.next();
        if let State::PreCandidate(asking) = &mut self.state
            && asked_now
            && asking.on_response(&self.common, from, granted)
        {
            self.campaign(false, log);
        }
    }

    /// A peer answered the question for its vote in the current term. If this node is elected, it becomes the leader.
    pub(super) fn on_vote_response(&mut self, from: NodeId, granted: bool, log: &impl LogView) {
        if let State::Candidate(candidate) = &mut self.state
            && candidate.on_response(&self.common, from, granted)
        {
            self.become_leader(log);
        }
    }

    /// A peer asks for this node's vote. While this node hears a leader, it ignores campaigns in later terms, except for those that a
    /// leader asked for (`transfer`).
    pub(super) fn on_vote_request(
        &mut self,
        from: NodeId,
        term: Term,
        last: EntryId,
        transfer: bool,
        log: &impl LogView,
    ) {
        if term > self.common.hard_state.term {
            if !transfer && self.hears_leader() {
                mark!("raft: a campaign is ignored while a leader is heard");
                return;
            }
            self.become_follower(term, None);
        }
        let may_win = last >= log.last_id() && self.common.may_have_committed(last);
        // In term 0 nobody campaigns.
        let is_of_now = term == self.common.hard_state.term && term > Term::ZERO;
        let granted = is_of_now && self.vote_is_free_for(from) && may_win;
        if granted {
            self.state.stop_asking();
            self.common.hard_state.vote = Some(from);
            self.common.restart_election_timer();
        }
        self.common.respond(from, Message::RequestVoteResponse { term: self.common.hard_state.term, granted });
    }

    /// Whether this node may vote for `candidate` in the current term: it has voted for it already, or has voted for nobody and knows
    /// no leader of this term.
    fn vote_is_free_for(&self, candidate: NodeId) -> bool {
        match self.common.hard_state.vote {
            Some(voted_for) => voted_for == candidate,
            None => self.state.following().is_none_or(Following::has_no_leader),
        }
    }

    /// The hard state is durable. On a candidate it holds the candidate's vote for itself, which counts from now on.
    pub(super) fn count_own_vote(&mut self, log: &impl LogView) {
        if let State::Candidate(candidate) = &mut self.state
            && candidate.on_own_vote_durable(&self.common)
        {
            self.become_leader(log);
        }
    }

    /// The leader asks this node to take over once its log reaches `last_index`. Campaigns now if it does already.
    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term, last_index: Index, log: &impl LogView) {
        if let State::Follower(following) = &mut self.state
            && term == self.common.hard_state.term
            && following.leader() == Some(from)
        {
            // The leader repeats the message with each heartbeat for as long as the transfer goes on.
            let until_tick = self.common.now_tick + 2 * u64::from(self.common.config.heartbeat_ticks);
            following.note_call(last_index, until_tick);
            self.follow_call(log);
        }
    }

    /// Campaigns if the leader asked for it and the log holds everything that the leader named.
    pub(super) fn follow_call(&mut self, log: &impl LogView) {
        if let State::Follower(following) = &self.state
            && following.is_called(self.common.now_tick)
            && !self.common.is_leaving
            && self.common.may_campaign(log)
        {
            self.campaign(true, log);
        }
    }
}
