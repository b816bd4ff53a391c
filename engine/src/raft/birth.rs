//! Whether a node whose log is empty never promised anything, or lost what it promised.
//!
//! The node itself cannot tell these cases apart. So each log has an *incarnation*, a random number drawn when the log was made, and a node
//! with a new log asks every other voter before it takes part in anything:
//!
//! 1. A new node neither votes, campaigns, follows, answers repair questions nor confirms anybody. It asks, and it answers
//!    such questions with its own incarnation.
//! 2. It becomes a *founder* once **every** other voter has answered, and each of them is new itself, or recorded exactly
//!    this incarnation when it became a founder. What it heard is its founders' record, durable before it takes part.
//! 3. If some founder's record holds another incarnation of it, or none, it is a *replacement*: it goes on as a node under
//!    repair whose hard state is uncertain (see `repair`).
//! 4. A replacement has no founders' record and knows nobody. Its answer neither proves nor disproves anything, so a new node
//!    that hears only such nodes, and new ones, is a replacement, too.
//!
//! `docs/durability.md` says why this is safe. Answers name the incarnation that asked: those to an earlier one count for
//! nothing.

use std::collections::BTreeMap;
use std::fmt;

use super::follower::Following;
use super::repair::Repairing;
use super::{Common, Message, Raft, State};
use crate::types::NodeId;

/// What a node must never forget about the origin of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthRecord {
    /// Drawn at random when the log was made.
    pub incarnation: u64,
    /// How far the node has come since.
    pub stage: Stage,
}

/// How far a node has come since its log was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It takes no part yet.
    New,
    /// It took part from the beginning; with the incarnations of all other voters as it knew them then.
    Founded(BTreeMap<NodeId, u64>),
    /// Its log was made in a cluster that existed already, in the place of one that is lost, or because its node joins. It counts for
    /// nothing yet.
    Replaced,
    /// It was `Replaced`, and has got everything back since.
    Restored,
}

/// Answer to the question whether a node is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BirthAnswer {
    /// The answering node is new itself.
    New,
    /// It is a founder, and its record has the asking incarnation.
    Known,
    /// It is a founder, and its record has another incarnation of the asking node, or none.
    Stranger,
    /// It is a replacement: it can't tell.
    Replaced,
}

/// A node that takes no part yet: it asks every other voter whether the cluster is new.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    /// Who answered this incarnation, with which incarnation of its own.
    answers: BTreeMap<NodeId, (u64, BirthAnswer)>,
    /// What this node is going to be, once that is durable.
    next: Option<Stage>,
    /// Ticks since the last question.
    elapsed_ticks: u32,
    /// Its log was found damaged: it is under repair as soon as it takes part.
    pub(super) repairing: Option<Repairing>,
}

/// What a new node waits for, in a form for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthView {
    /// Voters that have not said yet whether they are new.
    pub awaited: Vec<NodeId>,
}

/// Nodes that lost data and have not got it back, in a form for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostView {
    /// The ids of those that vote, this node's included if it is one of them.
    pub nodes: Vec<NodeId>,
    /// The others are no quorum: nobody can be elected, and nobody can be repaired.
    pub is_majority: bool,
}

impl Default for BirthRecord {
    /// The record of a node that takes part and knows nothing of its origin or that of others.
    fn default() -> Self {
        Self { incarnation: 0, stage: Stage::Restored }
    }
}

impl fmt::Display for BirthView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this node is new and waits to hear whether these nodes are, too:")?;
        list(&self.awaited, f)
    }
}

/// Writes ids behind a colon.
fn list(nodes: &[NodeId], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    nodes.iter().enumerate().try_for_each(|(number, node)| write!(f, "{} {node}", if number > 0 { "," } else { "" }))
}

impl fmt::Display for LostView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nodes that lost data:")?;
        list(&self.nodes, f)?;
        if self.is_majority {
            f.write_str(
                "; the others are no majority, so that nobody can be elected: acknowledged writes may be gone. Stop these \
                 nodes, and restore the data directories of all that you can before you start them again; or give up what only they \
                 had, and copy what the others have into a new cluster (`quorate get --consistency s`)",
            )?;
        }
        Ok(())
    }
}

impl BirthRecord {
    /// The record of a log that is being made: new, unless the node has nobody to ask, since it alone founds the cluster. A node that joins
    /// a cluster of one has somebody to ask.
    #[must_use]
    pub fn of_new_log(incarnation: u64, founds_alone: bool) -> Self {
        let stage = if founds_alone { Stage::Founded(BTreeMap::new()) } else { Stage::New };
        Self { incarnation, stage }
    }

    /// The node takes no part yet, and never did with this log.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.stage == Stage::New
    }
}

impl Raft {
    /// Says where the log comes from; called right after `new`, before `begin_repair`.
    pub fn begin_birth(&mut self, record: BirthRecord) {
        if record.is_new() {
            // The first question leaves with the first tick.
            let elapsed_ticks = self.common.config.heartbeat_ticks;
            self.state = State::New(Newcomer { answers: BTreeMap::new(), next: None, elapsed_ticks, repairing: None });
        }
        self.common.birth = record;
    }

    /// The stage that `Ready::birth` returned is durable: this node takes part from here on, as a founder or under repair.
    /// `nonce` is as for `begin_repair`.
    pub fn on_birth_persisted(&mut self, nonce: u64) {
        let State::New(newcomer) = &mut self.state else { panic!("a node is born once") };
        let Some(stage) = newcomer.next.take() else { panic!("no stage was to be made durable") };
        let repairing = newcomer.repairing.take();
        self.state = repairing.map_or_else(|| State::Follower(Following::default()), State::Repairing);
        self.common.birth.stage = stage;
        if self.common.is_joining() {
            self.begin_repair(nonce, false);
        } else {
            self.common.arm_first_timer();
        }
    }

    /// What this new node waits for; `None` when it is not new.
    #[must_use]
    pub fn birth_view(&self) -> Option<BirthView> {
        let State::New(newcomer) = &self.state else { return None };
        let mut awaited = self.common.other_voters();
        awaited.retain(|peer| !newcomer.answers.contains_key(peer));
        Some(BirthView { awaited })
    }

    /// Which voters lost data, as far as this node knows.
    #[must_use]
    pub fn lost_view(&self) -> LostView {
        let mut nodes: Vec<NodeId> = self.common.lost.keys().copied().collect();
        if self.is_under_repair() && self.common.is_voter() {
            nodes.push(self.common.config.id);
            nodes.sort_unstable();
        }
        let is_majority = !nodes.is_empty() && !self.common.membership.quorum_has(|node| !nodes.contains(&node));
        LostView { nodes, is_majority }
    }

    /// This node's log is new, and it takes no part yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.state, State::New(_))
    }

    /// Whether this node looks at a message. A new node looks only at those that tell whether nodes are new.
    pub(super) fn may_hear(&self, message: &Message) -> bool {
        let is_about_birth = matches!(message, Message::BirthRequest { .. } | Message::BirthResponse { .. });
        !self.is_new() || is_about_birth
    }
}

impl Common {
    /// Drawn when this node's log was made.
    pub(super) fn incarnation(&self) -> u64 {
        self.birth.incarnation
    }

    /// True if this node's log replaces a lost one and does not hold yet what that one promised. Its messages count for nothing.
    pub(super) fn is_joining(&self) -> bool {
        self.birth.stage == Stage::Replaced
    }

    /// Everything is back: the log counts from here on.
    pub(super) fn end_joining(&mut self) {
        if self.is_joining() {
            self.birth.stage = Stage::Restored;
        }
    }

    /// A peer whose log is new asks whether this node knows an earlier log of it.
    pub(super) fn on_birth_request(&mut self, from: NodeId, asked: u64) {
        let answer = match &self.birth.stage {
            Stage::New => BirthAnswer::New,
            Stage::Replaced | Stage::Restored => BirthAnswer::Replaced,
            Stage::Founded(founders) if founders.get(&from) == Some(&asked) => BirthAnswer::Known,
            Stage::Founded(_) => BirthAnswer::Stranger,
        };
        mark!("raft: a founder meets a new node in the place of another" if answer == BirthAnswer::Stranger);
        // A node that can be repaired says so with its questions, which repeat what only the node at its address hears. Another stops.
        if answer == BirthAnswer::Stranger && !self.membership.can_repair(from) {
            self.note_lost(from);
        }
        let (term, incarnation) = (self.hard_state.term, self.birth.incarnation);
        // What it says is durable already, so it need not wait for anything.
        self.out.messages.push((from, Message::BirthResponse { term, asked, incarnation, answer }));
    }

    /// A peer lost data and says so. What a learner lost is needed for nothing.
    pub(super) fn note_lost(&mut self, node: NodeId) {
        if self.membership.is_voter(node) {
            self.lost.insert(node, self.now_tick);
        }
    }

    /// Forgets the peers that no longer say that they lost data.
    pub(super) fn tick_lost(&mut self) {
        if !self.lost.is_empty() {
            let patience_ticks = 4 * u64::from(self.config.election_ticks);
            let now_tick = self.now_tick;
            self.lost.retain(|_, said_tick| *said_tick + patience_ticks > now_tick);
        }
    }
}

impl Newcomer {
    /// Asks everyone, time and again: answers get lost, and change.
    pub(super) fn tick(&mut self, common: &mut Common) {
        self.elapsed_ticks += 1;
        if self.elapsed_ticks >= common.config.heartbeat_ticks {
            self.elapsed_ticks = 0;
            for to in common.other_voters() {
                self.ask(common, to);
            }
        }
    }

    /// Asks one peer whether it is new or knows this node.
    pub(super) fn ask(&self, common: &mut Common, to: NodeId) {
        let (term, incarnation) = (common.hard_state.term, common.birth.incarnation);
        common.out.messages.push((to, Message::BirthRequest { term, incarnation }));
    }

    /// A peer said whether it is new or knows this node.
    pub(super) fn on_response(
        &mut self,
        common: &mut Common,
        from: NodeId,
        asked: u64,
        incarnation: u64,
        answer: BirthAnswer,
    ) {
        if asked != common.birth.incarnation || self.next.is_some() {
            return;
        }
        self.answers.insert(from, (incarnation, answer));
        self.next = self.judge(common);
        if let Some(stage) = self.next.clone() {
            common.out.birth = Some(BirthRecord { incarnation: common.birth.incarnation, stage });
        }
    }

    /// What this new node is, if the answers so far say so.
    fn judge(&self, common: &Common) -> Option<Stage> {
        let answers = &self.answers;
        let has = |wanted| answers.values().any(|(_, answer)| *answer == wanted);
        if has(BirthAnswer::Stranger) {
            mark!("raft: a new node turns out to be a replacement");
            return Some(Stage::Replaced);
        }
        if !common.is_voter() {
            // Who is none of the founders can only join a group that exists, and does so like a replacement. One node that took part
            // shows that it exists: a voter that is down keeps nobody from joining.
            let exists = has(BirthAnswer::Known) || has(BirthAnswer::Replaced);
            return exists.then_some(Stage::Replaced);
        }
        let has_answered = |node| node == common.config.id || answers.contains_key(&node);
        let is_complete = common.membership.all_voters().into_iter().all(has_answered);
        if !is_complete {
            return None;
        }
        if has(BirthAnswer::Replaced) && !has(BirthAnswer::Known) {
            return Some(Stage::Replaced);
        }
        Some(Stage::Founded(answers.iter().map(|(node, (incarnation, _))| (*node, *incarnation)).collect()))
    }
}
