//! A node whose log lost durable entries: it gets them back from a leader, and until then helps to elect nobody.
//!
//! Such a node made promises that it does not know any more: entries it acknowledged, perhaps a vote. What keeps a cluster
//! safe all the same (the argument is in `docs/durability.md`; after Alagappan et al., "Protocol-Aware Recovery for
//! Consensus-Based Storage", FAST '18, and the recovery of Liskov and Cowling, "Viewstamped Replication Revisited", 2012):
//!
//! 1. It neither votes nor campaigns, and confirms no leader (its answers to heartbeats name round 0).
//! 2. If its hard state may be lost it takes nothing from any leader before *every* other voter told its term: whoever got
//!    the forgotten vote is among them, in that term or a later one. It then joins the highest of these terms, with its vote
//!    in it spent on itself. Not so a node that joins and does not vote: neither its votes nor its acknowledgements ever counted.
//! 3. It is repaired once its log durably equals that of a leader of its own term as far as that log reached when the node
//!    asked, if a quorum of the *others* confirmed the leader after the question. Everything it ever acknowledged that may
//!    have been committed is in there.
//!
//! Each run of such a node draws a number that its questions carry and the answers repeat: answers to an earlier run count for
//! nothing. What a leader does for such a node is in `leader::naming`.

use std::collections::{BTreeMap, BTreeSet};

use super::follower::{Following, LeaderLife};
use super::log_view::LogView;
use super::{Common, Message, Raft, Speaker, State};
use crate::types::{EntryId, Index, NodeId, Term};

/// A follower that is under repair.
#[derive(Clone, Debug)]
pub(super) struct Repairing {
    /// What it knows of its leader's log.
    pub(super) following: Following,
    /// Names this life of the node.
    nonce: u64,
    /// Term and vote are known, or certainly not below what was forgotten.
    hard_state_is_settled: bool,
    /// Who told its term in this life.
    answered: BTreeSet<NodeId>,
    /// The last challenge of each peer, to be repeated in the next question to it. See `Common::challenges`.
    challenges: BTreeMap<NodeId, u64>,
    /// How far the log must reach.
    goal: Option<Goal>,
    /// Ticks since the last question.
    elapsed_ticks: u32,
    /// The goal was reached, and the caller told.
    is_reached: bool,
}

/// The end of a confirmed leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    term: Term,
    /// Who said so. The log is compared with this leader's.
    of: LeaderLife,
    last_index: Index,
}

/// What a node under repair asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Names the life of the node that asks.
    pub(super) nonce: u64,
    /// Last entry that it has.
    pub(super) last: EntryId,
    /// Repeats the challenge of the last answer; 0 = there was none.
    pub(super) challenge: u64,
}

/// The answer to a question, apart from the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Repeats the question's.
    pub(super) nonce: u64,
    /// The end of a confirmed leader's log; 0 = not told.
    pub(super) last_index: Index,
    /// To be repeated in the next question; 0 = nothing.
    pub(super) challenge: u64,
}

/// How far a repair has come, in a form for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairView {
    /// Voters that have not told their term yet, while this node waits for that.
    pub awaited: Vec<NodeId>,
    /// This log takes the place of one that is lost, or its node joins, and no entry in it names it yet.
    pub is_unnamed: bool,
    /// Index that this node's log must reach; `None` until a confirmed leader told it.
    pub goal_index: Option<Index>,
}

impl Raft {
    /// Puts this node under repair. To be called before it takes part in anything: right after a start, or when it turned out to be a
    /// replacement. The repair of a new node begins once the node knows what it is.
    ///
    /// `nonce` is distinct for each life of the node. `hard_state_is_certain` says that the recovered term and vote are the
    /// latest that this node ever had.
    ///
    /// # Panics
    /// If the others are no quorum without this node (see `Membership::can_repair`): nobody could repair it.
    pub fn begin_repair(&mut self, nonce: u64, hard_state_is_certain: bool) {
        let can_repair = self.common.membership.can_repair(self.common.config.id);
        assert!(can_repair, "the others are no quorum without this node: they cannot repair it");
        assert!(self.leader().is_none(), "a repair begins before anything else");
        let repairing = Repairing {
            following: Following::default(),
            nonce,
            hard_state_is_settled: hard_state_is_certain,
            answered: BTreeSet::new(),
            challenges: BTreeMap::new(),
            goal: None,
            // The first question leaves with the first tick.
            elapsed_ticks: self.common.config.heartbeat_ticks,
            is_reached: false,
        };
        match &mut self.state {
            State::New(newcomer) => newcomer.repairing = Some(repairing),
            state => *state = State::Repairing(repairing),
        }
    }

    /// The caller made it durable that this node is repaired: from here on it votes.
    pub fn end_repair(&mut self) {
        let State::Repairing(repairing) = &mut self.state else { panic!("there is no repair to end") };
        assert!(repairing.is_reached, "a repair ended before its goal was reached");
        self.state = State::Follower(std::mem::take(&mut repairing.following));
        self.common.end_joining();
        self.common.restart_election_timer();
    }

    /// How far the repair has come; `None` when this node is not under repair.
    #[must_use]
    pub fn repair_view(&self) -> Option<RepairView> {
        let repairing = self.repairing()?;
        let mut awaited = self.common.other_voters();
        let waits = !repairing.hard_state_is_settled && !self.common.only_learns();
        awaited.retain(|peer| waits && !repairing.answered.contains(peer));
        let named = self.common.membership.named(self.common.config.id);
        let is_named = named.is_some_and(|named| named.incarnation == self.common.incarnation());
        let is_unnamed = self.common.is_joining() && !is_named;
        Some(RepairView { awaited, is_unnamed, goal_index: repairing.goal.map(|goal| goal.last_index) })
    }

    pub(crate) fn is_under_repair(&self) -> bool {
        self.repairing().is_some()
    }

    fn repairing(&self) -> Option<&Repairing> {
        match &self.state {
            State::New(newcomer) => newcomer.repairing.as_ref(),
            State::Repairing(repairing) => Some(repairing),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) | State::Leader(_) => None,
        }
    }

    /// Whether entries and heartbeats of leaders may be taken: not by a new node, nor while this node may have promised a later
    /// term.
    pub(super) fn may_follow(&self) -> bool {
        match &self.state {
            State::New(_) => false,
            State::Repairing(repairing) => repairing.hard_state_is_settled || self.common.only_learns(),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) | State::Leader(_) => true,
        }
    }

    /// True if this node knows every term in which it may have promised something.
    fn knows_own_terms(&self) -> bool {
        match &self.state {
            State::New(_) => false,
            State::Repairing(repairing) => repairing.hard_state_is_settled,
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) | State::Leader(_) => true,
        }
    }

    /// True if this node is under repair and asked the question that names `nonce`.
    pub(super) fn asked_for_repair(&self, nonce: u64) -> bool {
        matches!(&self.state, State::Repairing(repairing) if repairing.nonce == nonce)
    }

    /// A peer under repair asks for this node's term and, if it leads, for the end of its log.
    pub(super) fn on_repair_request(&mut self, from: NodeId, speaker: Speaker, question: Question, log: &impl LogView) {
        // This node gives no challenge while it answers nothing, and serves nobody who could be misled.
        if self.is_under_repair() || self.common.repeats_challenge(from, question.challenge) {
            self.common.note_lost(from);
        }
        if !self.knows_own_terms() {
            mark!("raft: a node that may have forgotten a vote tells no term");
            // It may have forgotten its real term.
            return;
        }
        let challenge = self.common.challenge(from);
        let (term, life, nonce) = (self.common.hard_state.term, self.common.config.life, question.nonce);
        let answer = Message::RepairResponse { term, life, nonce, last_index: Index::ZERO, challenge };
        self.common.respond(from, answer);
        if let State::Leader(leading) = &mut self.state {
            leading.on_repair_request(&mut self.common, from, speaker, question, log);
        }
    }

    /// A peer told its term and, if it leads and was confirmed since, how far its log reached when it was asked.
    pub(super) fn on_repair_response(&mut self, from: LeaderLife, term: Term, answer: Answer, log: &impl LogView) {
        if !self.asked_for_repair(answer.nonce) {
            mark!("raft: an answer to a question of an earlier life is ignored");
            return;
        }
        if term > self.common.hard_state.term {
            self.become_follower(term, None);
        }
        if let State::Repairing(repairing) = &mut self.state {
            repairing.on_response(&mut self.common, from, term, answer);
            repairing.check_goal(&mut self.common, log);
        }
    }

    /// A node under repair may have everything back now.
    pub(super) fn check_repair(&mut self, log: &impl LogView) {
        if let State::Repairing(repairing) = &mut self.state {
            repairing.check_goal(&mut self.common, log);
        }
    }
}

impl Common {
    /// True if this node's log is new and does not count yet, and by the log this node has no vote. Then nothing that it ever said counts,
    /// and it need not know in which terms it said it. Asked again at the end of its repair, when it knows all entries about the members.
    fn only_learns(&self) -> bool {
        self.is_joining() && !self.is_voter()
    }

    /// The random number that a peer which lost data must repeat in its next question.
    fn challenge(&mut self, node: NodeId) -> u64 {
        // The lowest bit is set because 0 would mean that there is nothing to repeat.
        *self.challenges.entry(node).or_insert_with(|| self.rng.next_u64() | 1)
    }

    /// Whether the peer repeats what was sent to its own address.
    pub(super) fn repeats_challenge(&self, node: NodeId, challenge: u64) -> bool {
        self.challenges.get(&node) == Some(&challenge)
    }
}

impl Repairing {
    /// Asks everyone, time and again until the goal is reached: answers get lost, and leaders change.
    pub(super) fn tick(&mut self, common: &mut Common, log: &impl LogView) {
        self.elapsed_ticks += 1;
        if self.is_reached || self.elapsed_ticks < common.config.heartbeat_ticks {
            return;
        }
        self.elapsed_ticks = 0;
        let (term, nonce, last) = (common.hard_state.term, self.nonce, log.last_id());
        for to in common.other_voters() {
            let challenge = self.challenges.get(&to).copied().unwrap_or_default();
            common.out.messages.push((to, Message::RepairRequest { term, nonce, last, challenge }));
        }
    }

    /// More of the log became durable.
    pub(super) fn on_persisted(&mut self, common: &mut Common, log: &impl LogView) {
        self.following.acknowledge_news(common, log);
        self.check_goal(common, log);
    }

    fn on_response(&mut self, common: &mut Common, of: LeaderLife, term: Term, answer: Answer) {
        let (from, Answer { last_index, challenge, .. }) = (of.node, answer);
        self.answered.insert(from);
        if challenge != 0 && self.challenges.insert(from, challenge) != Some(challenge) {
            // There is no reason to wait: the question that repeats it leaves with the next tick.
            self.elapsed_ticks = common.config.heartbeat_ticks;
        }
        if last_index > Index::ZERO {
            let is_of_followed = |goal: Goal| self.following.leader_life() == Some(goal.of);
            if self.goal.is_none_or(|goal| goal.term < term || (goal.term == term && !is_of_followed(goal))) {
                self.goal = Some(Goal { term, of, last_index });
            }
            common.check_end_of_leader(from, term, last_index);
        }
        self.settle_hard_state(common);
    }

    /// Once everyone told its term the forgotten one is known not to be later. Whatever vote this node gave in it is spent.
    fn settle_hard_state(&mut self, common: &mut Common) {
        if self.hard_state_is_settled || !common.other_voters().iter().all(|peer| self.answered.contains(peer)) {
            return;
        }
        self.hard_state_is_settled = true;
        mark!("raft: all others told a node under repair their terms");
        common.hard_state.vote = common.hard_state.vote.or(Some(common.config.id));
    }

    /// Whether the log reaches as far as it must, durably, in the goal's own term.
    fn check_goal(&mut self, common: &mut Common, log: &impl LogView) {
        let term = common.hard_state.term;
        let Some(goal) = self.goal else { return };
        if goal.term < term {
            // Its leader was deposed, so that its log proves nothing any more; the next question finds another.
            mark!("raft: the leader that a repair follows was deposed");
            self.goal = None;
        } else if goal.term == term
            && self.following.leader_life() == Some(goal.of)
            && (self.hard_state_is_settled || common.only_learns())
            && !self.is_reached
            && common.hard_state_is_durable()
            && self.following.persisted_match(log) >= goal.last_index
        {
            self.is_reached = true;
            common.out.repaired = true;
        }
    }
}
