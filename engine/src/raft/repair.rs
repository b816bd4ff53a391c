//! A node whose log lost durable entries: it gets them back from a leader, and until then helps to elect nobody.
//!
//! Such a node promised things that it does not know any more: entries it acknowledged, perhaps a vote. What keeps a cluster
//! safe all the same (the argument is in `docs/durability.md`; after Alagappan et al., "Protocol-Aware Recovery for
//! Consensus-Based Storage", FAST '18, and the recovery of Liskov and Cowling, "Viewstamped Replication Revisited", 2012):
//!
//! 1. It neither votes nor campaigns, and confirms no leader (its answers to heartbeats name round 0).
//! 2. If its hard state may be lost it takes nothing from any leader before *every* other voter told its term: whoever got
//!    the forgotten vote is among them, in that term or a later one. It then joins the highest of these terms, with its vote
//!    in it spent on itself.
//! 3. It is repaired once its log durably equals that of a leader of its own term as far as that log reached when the node
//!    asked, if a quorum of the *others* confirmed the leader after the question. Everything it ever acknowledged that may
//!    have been committed is in there.
//!
//! Questions and answers carry a number of this life of the node: answers to an earlier life count for nothing.

use std::collections::BTreeSet;

use super::log_view::LogView;
use super::{Message, Raft, Speaker, State};
use crate::types::{EntryId, Index, NodeId, Term};

/// What a node under repair knows.
#[derive(Debug)]
pub(super) struct Repair {
    /// Names this life of the node.
    nonce: u64,
    /// Term and vote are known, or certainly not below what was forgotten.
    hard_state_is_settled: bool,
    /// Who told its term in this life.
    answered: BTreeSet<NodeId>,
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
    last_index: Index,
}

/// How far a repair has come, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairView {
    /// Voters that have not told their term yet, when that is waited for.
    pub awaited: Vec<NodeId>,
    /// Index that this node's log must reach; `None` until a confirmed leader told it.
    pub goal_index: Option<Index>,
}

impl Raft {
    /// Puts a node under repair that just started, or turned out to be a replacement; before it takes part in anything.
    ///
    /// `nonce` is distinct for each life of the node. `hard_state_is_certain` says that the recovered term and vote are the
    /// latest that this node ever had.
    ///
    /// # Panics
    /// If the others are no quorum without this node (see `Membership::can_repair`): nobody could repair it.
    pub fn begin_repair(&mut self, nonce: u64, hard_state_is_certain: bool) {
        assert!(self.membership.can_repair(), "the others are no quorum without this node: they cannot repair it");
        self.repair = Some(Repair {
            nonce,
            hard_state_is_settled: hard_state_is_certain,
            answered: BTreeSet::new(),
            goal: None,
            // The first question leaves with the first tick.
            elapsed_ticks: self.config.heartbeat_ticks,
            is_reached: false,
        });
    }

    /// The caller made it durable that this node is repaired: from here on it votes.
    pub fn end_repair(&mut self) {
        let repair = self.repair.take();
        assert!(repair.is_some_and(|repair| repair.is_reached), "a repair ended before its goal was reached");
        self.end_joining();
        self.restart_election_timer();
    }

    /// How far the repair has come; `None` when this node is not under repair.
    #[must_use]
    pub fn repair_view(&self) -> Option<RepairView> {
        let repair = self.repair.as_ref()?;
        let awaited = match repair.hard_state_is_settled {
            true => Vec::new(),
            false => self.peers().into_iter().filter(|peer| !repair.answered.contains(peer)).collect(),
        };
        Some(RepairView { awaited, goal_index: repair.goal.map(|goal| goal.last_index) })
    }

    /// The number of this life that answers to this node's questions repeat.
    pub(super) fn repair_nonce(&self) -> Option<u64> {
        self.repair.as_ref().map(|repair| repair.nonce)
    }

    pub(super) fn is_under_repair(&self) -> bool {
        self.repair.is_some()
    }

    /// Whether entries and heartbeats of leaders may be taken: not by a new node, nor while this node may have promised a later
    /// term.
    pub(super) fn may_follow(&self) -> bool {
        !self.is_new() && self.repair.as_ref().is_none_or(|repair| repair.hard_state_is_settled)
    }

    /// Asks everyone, time and again until the goal is reached: answers get lost, and leaders change.
    pub(super) fn tick_repair(&mut self, log: &impl LogView) {
        let Some(repair) = &mut self.repair else { return };
        repair.elapsed_ticks += 1;
        if repair.is_reached || repair.elapsed_ticks < self.config.heartbeat_ticks {
            return;
        }
        repair.elapsed_ticks = 0;
        let question = Message::RepairRequest { term: self.hard_state.term, nonce: repair.nonce, last: log.last_id() };
        for to in self.peers() {
            self.out.messages.push((to, question.clone()));
        }
    }

    /// A peer under repair asks for this node's term and, if it leads, for the end of its log.
    ///
    /// If it asks for a log that takes the place of a lost one, the end of the log is told only once the group has agreed on that:
    /// so the end lies behind the entry that says so, and a quorum without the asking node has it.
    pub(super) fn on_repair_request(
        &mut self,
        from: NodeId,
        speaker: Speaker,
        nonce: u64,
        last: EntryId,
        log: &impl LogView,
    ) {
        self.note_lost(from);
        if !self.may_follow() {
            mark!("raft: a node that may have forgotten a vote tells no term");
            // What this node takes for its term proves nothing.
            return;
        }
        let answer = Message::RepairResponse { term: self.hard_state.term, nonce, last_index: Index::ZERO };
        self.respond(from, answer);
        let is_agreed =
            if speaker.is_joining { self.agrees_on(from, speaker.incarnation) } else { self.counts(from, speaker) };
        if let State::Leader(leading) = &mut self.state
            && is_agreed
        {
            if let Some(progress) = leading.progress.get_mut(&from) {
                progress.on_lost(last, log, self.now_tick);
            }
            leading.reads.wait_for_repair(from, nonce, log.last_id().index);
            self.advance_reads();
        }
    }

    /// A peer told its term and, if it leads and was confirmed since, how far its log reached when it was asked.
    pub(super) fn on_repair_response(
        &mut self,
        from: NodeId,
        term: Term,
        nonce: u64,
        last_index: Index,
        log: &impl LogView,
    ) {
        if self.repair_nonce() != Some(nonce) {
            mark!("raft: an answer to a question of an earlier life is ignored");
            return;
        }
        if term > self.hard_state.term {
            self.become_follower(term, None);
        }
        if let Some(repair) = &mut self.repair {
            repair.answered.insert(from);
            if last_index > Index::ZERO && repair.goal.is_none_or(|goal| goal.term < term) {
                repair.goal = Some(Goal { term, last_index });
            }
        }
        if last_index > Index::ZERO {
            self.check_end_of_leader(from, term, last_index);
        }
        self.settle_hard_state();
        self.check_repair(log);
    }

    /// Once everyone told its term the forgotten one is known not to be later. Whatever vote this node gave in it is spent.
    fn settle_hard_state(&mut self) {
        let peers = self.peers();
        let Some(repair) = &mut self.repair else { return };
        if repair.hard_state_is_settled || !peers.iter().all(|peer| repair.answered.contains(peer)) {
            return;
        }
        repair.hard_state_is_settled = true;
        mark!("raft: all others told a node under repair their terms");
        self.hard_state.vote = self.hard_state.vote.or(Some(self.config.id));
    }

    /// Whether the log reaches as far as it must, durably, in the goal's own term.
    pub(super) fn check_repair(&mut self, log: &impl LogView) {
        let term = self.hard_state.term;
        let is_durable = self.hard_state_is_durable();
        let matched = self.persisted_match(log);
        let has_leader = self.leader.is_some();
        let Some(repair) = &mut self.repair else { return };
        let Some(goal) = repair.goal else { return };
        if goal.term < term {
            // Its leader was deposed, so that its log proves nothing any more; the next question finds another.
            mark!("raft: the leader that a repair follows was deposed");
            repair.goal = None;
        } else if goal.term == term
            && has_leader
            && repair.hard_state_is_settled
            && !repair.is_reached
            && is_durable
            && matched >= goal.last_index
        {
            repair.is_reached = true;
            self.out.repaired = true;
        }
    }
}
