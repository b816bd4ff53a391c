//! Elections: when to campaign, whom to vote for, and what becomes of a campaign.
//!
//! Thesis 3.4 (elections), 3.6.1 (who may win), 3.10 (transfer), 4.2.3 (leader lease of followers), 9.6 (pre-vote).

use super::candidate::{Candidate, PreCandidate};
use super::follower::Following;
use super::leader::Leading;
use super::log_view::LogView;
use super::timer::RefusedPreVote;
use super::{Common, HardState, Message, OfficeStep, Raft, State, TERM_MAX};
use crate::types::{EntryId, Index, NodeId, Term};

impl Common {
    /// This node could be a leader: its log holds what it knows to be committed, and the group has not given that log up.
    fn may_campaign(&self, log: &impl LogView) -> bool {
        !self.lacks_committed(log) && !self.is_given_up()
    }

    /// There is a term to campaign in. Without one this cluster elects nobody any more; nothing is lost.
    fn has_next_term(&self) -> bool {
        self.hard_state.term < TERM_MAX
    }
}

impl Raft {
    /// Ticks a node that takes part and does not lead.
    pub(super) fn tick_election(&mut self, log: &impl LogView) {
        // A slow disk must not make a candidate pile up terms that it cannot even persist.
        if matches!(self.state, State::Candidate(_)) && !self.common.hard_state_is_durable() {
            mark!("raft: a candidate waits for its own vote to be durable");
            return;
        }
        if self.common.tick_election_timer() && self.common.may_campaign(log) {
            self.ask_for_pre_votes(log);
        }
    }

    /// This node's connection to its leader broke.
    pub(super) fn hurry_election(&mut self, leader: NodeId, log: &impl LogView) {
        let refused = self.common.hurry_election(leader);
        if let Some(RefusedPreVote { from, campaign_term, last, .. }) = refused {
            // As if it came only now. The node that asked counts a vote that comes late.
            self.on_pre_vote_request(from, campaign_term, last, log);
        }
    }

    /// This node hears from a live leader, or is one: it helps nobody to depose it. Source: thesis 4.2.3.
    pub(super) fn hears_leader(&self) -> bool {
        let hears = |following: &Following| following.hears_leader(&self.common);
        matches!(self.state, State::Leader(_)) || self.state.following().is_some_and(hears)
    }

    /// Gives up on the leader and asks whether a campaign could succeed.
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
        if has_quorum {
            self.campaign(false, log);
        }
    }

    /// Asks for votes in the next term. `transfer`: the leader wants it.
    fn campaign(&mut self, transfer: bool, log: &impl LogView) {
        if !self.common.has_next_term() {
            return;
        }
        let common = &mut self.common;
        let term = common.hard_state.term.next();
        common.out.steps.push(OfficeStep::Campaigning { term, is_asked: transfer });
        common.restart_election_timer();
        common.hard_state = HardState { term, vote: Some(common.config.id) };
        self.state = State::Candidate(Candidate::begin(common, transfer, log));
    }

    /// A candidate was elected.
    pub(super) fn become_leader(&mut self, log: &impl LogView) {
        self.state = State::Leader(Box::new(Leading::begin(&mut self.common, log)));
    }

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

    /// The node that asks for votes lacks entries that this node has. It cannot win and this node may, so this node does not wait for
    /// its turn.
    fn campaign_instead(&mut self, log: &impl LogView) {
        if matches!(self.state, State::Follower(_)) && !self.common.is_leaving && self.common.may_campaign(log) {
            self.ask_for_pre_votes(log);
        }
    }

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

    pub(super) fn on_vote_response(&mut self, from: NodeId, granted: bool, log: &impl LogView) {
        if let State::Candidate(candidate) = &mut self.state
            && candidate.on_response(&self.common, from, granted)
        {
            self.become_leader(log);
        }
    }

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

    /// The vote of the current term may go to `candidate`.
    fn vote_is_free_for(&self, candidate: NodeId) -> bool {
        match self.common.hard_state.vote {
            Some(voted_for) => voted_for == candidate,
            None => self.state.following().is_none_or(Following::has_no_leader),
        }
    }

    /// A candidate's own vote may be durable now.
    pub(super) fn count_own_vote(&mut self, log: &impl LogView) {
        if let State::Candidate(candidate) = &mut self.state
            && candidate.on_own_vote_durable(&self.common)
        {
            self.become_leader(log);
        }
    }

    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term, last_index: Index, log: &impl LogView) {
        if let State::Follower(following) = &mut self.state
            && term == self.common.hard_state.term
            && following.leader() == Some(from)
        {
            // The leader repeats it for as long as it means it.
            let until_tick = self.common.now_tick + 2 * u64::from(self.common.config.heartbeat_ticks);
            following.note_call(last_index, until_tick);
            self.follow_call(log);
        }
    }

    /// Campaigns if the leader asked for it and everything that it sent before is in the log.
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
