//! Elections: when to campaign, whom to vote for, and when a campaign is won.
//!
//! Thesis 3.4 (elections), 3.6.1 (who may win), 3.10 (transfer), 4.2.3 (leader lease of followers), 9.6 (pre-vote).

use std::collections::BTreeMap;

use super::follower::Following;
use super::leader::Leading;
use super::log_view::LogView;
use super::{HardState, Message, OfficeStep, Raft, State, TERM_MAX};
use crate::types::{EntryId, Index, NodeId, Term};

/// Answers to a campaign.
#[derive(Debug)]
pub(super) struct Votes {
    /// The candidate's log as it announced it.
    last: EntryId,
    /// The leader asked for the campaign.
    transfer: bool,
    /// Who answered, and whether with a vote.
    answers: BTreeMap<NodeId, bool>,
}

/// When this node campaigns next, and whether it still believes in its leader.
#[derive(Debug, Default)]
pub(super) struct ElectionTimer {
    /// Ticks since the timer was started.
    elapsed_ticks: u32,
    /// Where it ends.
    timeout_ticks: u32,
    /// Until this tick timeouts are short, since the leader's connection broke.
    hurry_until_tick: u64,
    /// The leader's connection broke: its silence is no accident, so others may be voted for at once.
    leader_is_gone: bool,
    /// The last question for a pre-vote that was refused only because this node heard from its leader.
    refused: Option<RefusedPreVote>,
}

/// A question for a pre-vote: who asked what, and when.
#[derive(Clone, Copy, Debug)]
struct RefusedPreVote {
    from: NodeId,
    campaign_term: Term,
    last: EntryId,
    tick: u64,
}

impl Raft {
    /// Sets the first timeout after a start: short on the preferred leader, whose peers may have no leader either.
    pub(super) fn arm_first_timer(&mut self) {
        self.restart_election_timer();
        self.hurry_preferred();
    }

    /// Starts the election timer anew with a random timeout.
    pub(super) fn restart_election_timer(&mut self) {
        let election_ticks = self.config.election_ticks;
        self.timer.elapsed_ticks = 0;
        self.timer.leader_is_gone = false;
        self.timer.refused = None;
        self.timer.timeout_ticks = if self.now_tick < self.timer.hurry_until_tick {
            // Longer than the first hurried timeout, so that whoever campaigned first is not interrupted.
            let hurry_ticks = self.config.hurry_ticks();
            self.rng.in_range(hurry_ticks + 1, 2 * hurry_ticks)
        } else {
            self.rng.in_range(election_ticks, 2 * election_ticks - 1)
        };
    }

    /// The leader's connection broke: campaign in one's turn, and for an election timeout retry fast.
    ///
    /// Whoever is left campaigns in an order that all know, so that nobody has to wait for chance. Others may not have noticed
    /// yet and refuse their pre-votes; they look at the question again once they notice. If the leader is alive after all, its
    /// next heartbeat ends this, and as long as a quorum hears it no term is disturbed.
    pub(super) fn hurry_election(&mut self, log: &impl LogView) {
        self.timer.hurry_until_tick = self.now_tick + u64::from(self.config.election_ticks);
        self.timer.leader_is_gone = true;
        mark!("raft: the leader's connection broke");
        self.timer.elapsed_ticks = 0;
        self.timer.timeout_ticks = self.turn_ticks();
        let refused = self.timer.refused.take();
        let is_recent = |refused: &RefusedPreVote| refused.tick + u64::from(self.config.hurry_ticks()) >= self.now_tick;
        if let Some(RefusedPreVote { from, campaign_term, last, .. }) = refused.filter(is_recent) {
            // As if it came only now. Whoever asked counts a vote that comes late.
            self.on_pre_vote_request(from, campaign_term, last, log);
        }
    }

    /// Ticks until this node's turn to succeed a leader that is gone: greater ids first, as in `goes_before`. Between two turns there
    /// is time for an election on any network that the election timeout fits.
    fn turn_ticks(&self) -> u32 {
        let goes_first = |node: &&NodeId| **node > self.config.id && Some(**node) != self.leader;
        let before = self.membership.voters().iter().filter(goes_first).count();
        let step_ticks = (self.config.hurry_ticks() / 2).max(2);
        u32::try_from(before).map_or(u32::MAX, |before| 1 + step_ticks * before)
    }

    /// Brings the preferred leader's campaign forward while it knows of no leader.
    pub(super) fn hurry_preferred(&mut self) {
        if self.config.preferred_leader == Some(self.config.id) && self.leader.is_none() {
            mark!("raft: the preferred leader campaigns early");
            self.hurry_timeout();
        }
    }

    fn hurry_timeout(&mut self) {
        self.timer.elapsed_ticks = 0;
        self.timer.timeout_ticks = self.rng.in_range(1, self.config.hurry_ticks());
    }

    /// The leader was heard from.
    pub(super) fn heard_leader(&mut self) {
        self.timer.hurry_until_tick = 0;
        self.restart_election_timer();
    }

    pub(super) fn tick_election(&mut self, log: &impl LogView) {
        if self.tick_apart(log) {
            return;
        }
        // A slow disk must not make a candidate pile up terms that it cannot even persist.
        if matches!(self.state, State::Candidate(_)) && !self.hard_state_is_durable() {
            mark!("raft: a candidate waits for its own vote to be durable");
            return;
        }
        self.timer.elapsed_ticks += 1;
        if self.timer.elapsed_ticks >= self.timer.timeout_ticks && self.may_campaign(log) {
            self.ask_for_pre_votes(log);
        }
    }

    /// This node hears from a live leader, or is one: it helps nobody to depose it. Source: thesis 4.2.3.
    pub(super) fn hears_leader(&self) -> bool {
        match self.state {
            State::Leader(_) => true,
            State::Follower => {
                self.leader.is_some()
                    && !self.timer.leader_is_gone
                    && self.timer.elapsed_ticks < self.config.election_ticks
            }
            State::PreCandidate(_) | State::Candidate(_) => false,
        }
    }

    /// This node could be a leader: its log has what it knows to be committed, and counts itself.
    fn may_campaign(&self, log: &impl LogView) -> bool {
        !self.lacks_committed(log) && !self.is_given_up()
    }

    fn ask_for_pre_votes(&mut self, log: &impl LogView) {
        self.leader = None;
        self.restart_election_timer();
        if !self.has_next_term() {
            return;
        }
        let votes = Votes::new(self.config.id, log.last_id());
        self.state = State::PreCandidate(votes);
        for to in self.peers() {
            self.ask_for_vote(to);
        }
        self.count_pre_votes(log);
    }

    /// There is a term to campaign in. Without one this cluster elects nobody any more; nothing is lost.
    fn has_next_term(&self) -> bool {
        self.hard_state.term < TERM_MAX
    }

    fn campaign(&mut self, transfer: bool, log: &impl LogView) {
        if !self.has_next_term() {
            return;
        }
        self.note_step(OfficeStep::Campaigning { term: self.hard_state.term.next(), is_asked: transfer });
        self.leader = None;
        self.restart_election_timer();
        self.hard_state = HardState { term: self.hard_state.term.next(), vote: Some(self.config.id) };
        self.following = Following::default();
        // The own vote is not among them before it is durable.
        self.state = State::Candidate(Votes { last: log.last_id(), transfer, answers: BTreeMap::new() });
        for to in self.peers() {
            self.ask_for_vote(to);
        }
    }

    /// A connection came up during a campaign: the question may have got lost with the last one.
    pub(super) fn ask_again(&mut self, node: NodeId) {
        let unanswered = match &self.state {
            State::PreCandidate(votes) => !votes.answers.contains_key(&node),
            // While the vote is not durable the first question has not left either.
            State::Candidate(votes) => self.hard_state_is_durable() && !votes.answers.contains_key(&node),
            State::Follower | State::Leader(_) => false,
        };
        if unanswered {
            mark!("raft: a question for votes is repeated on a new connection");
            self.ask_for_vote(node);
        }
    }

    fn ask_for_vote(&mut self, to: NodeId) {
        let term = self.hard_state.term;
        match &self.state {
            State::PreCandidate(votes) => {
                let message = Message::RequestPreVote { term: term.next(), last: votes.last };
                self.out.messages.push((to, message));
            }
            State::Candidate(votes) => {
                let message = Message::RequestVote { term, last: votes.last, transfer: votes.transfer };
                self.respond(to, message);
            }
            State::Follower | State::Leader(_) => {}
        }
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.membership.voters().iter().copied().filter(|&node| node != self.config.id).collect()
    }

    pub(super) fn on_pre_vote_request(&mut self, from: NodeId, campaign_term: Term, last: EntryId, log: &impl LogView) {
        let could_vote = campaign_term > self.hard_state.term
            || (campaign_term == self.hard_state.term && self.vote_is_free_for(from));
        let may_win = last >= log.last_id() && self.may_have_committed(last);
        let granted = campaign_term > Term::ZERO
            && !self.hears_leader()
            && could_vote
            && may_win
            && !self.goes_before(from, last);
        let term = self.hard_state.term;
        self.respond(from, Message::PreVoteResponse { term, campaign_term, granted });
        if !could_vote || granted {
            return;
        }
        if self.hears_leader() {
            self.timer.refused = Some(RefusedPreVote { from, campaign_term, last, tick: self.now_tick });
        } else if last < log.last_id() {
            self.campaign_instead(log);
        }
    }

    /// Whoever asks for votes lacks entries that this node has: it cannot win, and this node may. So it does not wait for its turn.
    fn campaign_instead(&mut self, log: &impl LogView) {
        let takes_part = !self.is_new() && !self.is_under_repair();
        if matches!(self.state, State::Follower) && takes_part && self.may_campaign(log) {
            self.ask_for_pre_votes(log);
        }
    }

    /// This node asks for pre-votes itself, just as well and in the same moment. Were both granted, both would campaign and
    /// split the votes; so the greater id goes first. Only for a tick: it may not get the votes that the other would.
    fn goes_before(&self, rival: NodeId, last: EntryId) -> bool {
        match &self.state {
            State::PreCandidate(votes) => self.timer.elapsed_ticks <= 1 && votes.last == last && self.config.id > rival,
            State::Follower | State::Candidate(_) | State::Leader(_) => false,
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
        if !granted && term > self.hard_state.term {
            mark!("raft: a pre-vote is refused from a later term");
            self.become_follower(term, None);
            return;
        }
        let asked_now = campaign_term == self.hard_state.term.next();
        if let State::PreCandidate(votes) = &mut self.state
            && asked_now
        {
            votes.note(from, granted);
            self.count_pre_votes(log);
        }
    }

    fn count_pre_votes(&mut self, log: &impl LogView) {
        let State::PreCandidate(votes) = &self.state else { return };
        if self.membership.quorum_has(|node| votes.granted(node)) {
            self.campaign(false, log);
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
        if term > self.hard_state.term {
            if !transfer && self.hears_leader() {
                mark!("raft: a campaign is ignored while a leader is heard");
                return;
            }
            self.become_follower(term, None);
        }
        let may_win = last >= log.last_id() && self.may_have_committed(last);
        // In term 0 nobody campaigns.
        let is_of_now = term == self.hard_state.term && term > Term::ZERO;
        let granted = is_of_now && self.vote_is_free_for(from) && may_win;
        if granted {
            self.state = State::Follower;
            self.hard_state.vote = Some(from);
            self.restart_election_timer();
        }
        self.respond(from, Message::RequestVoteResponse { term: self.hard_state.term, granted });
    }

    /// The vote of the current term may go to `candidate`.
    fn vote_is_free_for(&self, candidate: NodeId) -> bool {
        match self.hard_state.vote {
            Some(voted_for) => voted_for == candidate,
            None => self.following.has_no_leader(),
        }
    }

    pub(super) fn on_vote_response(&mut self, from: NodeId, granted: bool, log: &impl LogView) {
        if let State::Candidate(votes) = &mut self.state {
            votes.note(from, granted);
            self.count_votes(log);
        }
    }

    /// The hard state just became durable: a candidate's own vote counts from now on.
    pub(super) fn count_own_vote(&mut self, log: &impl LogView) {
        if let State::Candidate(votes) = &mut self.state {
            assert!(self.hard_state.vote == Some(self.config.id), "a candidate votes for itself");
            votes.answers.insert(self.config.id, true);
            self.count_votes(log);
        }
    }

    fn count_votes(&mut self, log: &impl LogView) {
        let State::Candidate(votes) = &self.state else { return };
        if votes.granted(self.config.id) && self.membership.quorum_has(|node| votes.granted(node)) {
            self.become_leader(log);
        }
    }

    fn become_leader(&mut self, log: &impl LogView) {
        assert!(self.hard_state_is_durable(), "a leader's vote for itself is durable");
        assert!(self.hard_state.vote == Some(self.config.id), "a leader voted for itself");
        assert!(log.last_id().term < self.hard_state.term, "entries of a term before its leader was elected");
        let leading = Leading::new(&self.config, self.peers(), log.last_id().index, self.now_tick);
        self.state = State::Leader(Box::new(leading));
        self.leader = Some(self.config.id);
        self.led_term = self.hard_state.term;
        self.timer.hurry_until_tick = 0;
        self.out.append_noop = Some(self.next_entry_id(log));
        self.note_step(OfficeStep::Elected { term: self.hard_state.term });
        self.broadcast_heartbeat();
    }

    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term, last_index: Index, log: &impl LogView) {
        let is_from_leader = term == self.hard_state.term && self.leader == Some(from);
        if is_from_leader && matches!(self.state, State::Follower) {
            // The leader repeats it for as long as it means it.
            let until_tick = self.now_tick + 2 * u64::from(self.config.heartbeat_ticks);
            self.following.note_call(last_index, until_tick);
            self.follow_call(log);
        }
    }

    /// Campaigns if the leader asked for it and what it sent before is in the log.
    pub(super) fn follow_call(&mut self, log: &impl LogView) {
        let is_follower = matches!(self.state, State::Follower);
        if is_follower && self.following.is_called(self.now_tick) && self.may_campaign(log) {
            self.campaign(true, log);
        }
    }
}

impl Votes {
    fn new(own: NodeId, last: EntryId) -> Self {
        Self { last, transfer: false, answers: BTreeMap::from([(own, true)]) }
    }

    /// A vote once given stays given: a refusal that arrives later answered something else.
    fn note(&mut self, from: NodeId, granted: bool) {
        *self.answers.entry(from).or_insert(false) |= granted;
    }

    fn granted(&self, node: NodeId) -> bool {
        self.answers.get(&node).copied().unwrap_or(false)
    }
}
