//! Nodes with a new log: what they may do before they know what they are, and how they learn it.

use std::collections::BTreeMap;

use engine::raft::{BirthAnswer, BirthRecord, HardState, Message, Raft, Ready, Role, Speaker, Stage};
use engine::types::{Index, Term};

use crate::cluster::{config, node_id};
use crate::paper::id;
use crate::sim_log::SimLog;

const OWN: u64 = 100;

/// A node that may be new, and its empty log.
struct Node {
    raft: Raft,
    log: SimLog,
}

impl Node {
    fn new(stage: Stage) -> Self {
        Self::among(3, stage)
    }

    fn among(voters: u64, stage: Stage) -> Self {
        let log = SimLog::default();
        let mut raft = Raft::new(config(voters), HardState::default(), &log);
        raft.begin_birth(BirthRecord { incarnation: OWN, stage });
        Self { raft, log }
    }

    fn step(&mut self, from: u64, message: Message) -> Ready {
        self.raft.step(node_id(from), Speaker::default(), message, &self.log);
        self.raft.ready()
    }

    /// What the answer of node `from` makes of this node.
    fn hear(&mut self, from: u64, answer: BirthAnswer) -> Option<Stage> {
        let message = Message::BirthResponse { term: Term::ZERO, asked: OWN, incarnation: from, answer };
        self.step(from, message).birth.map(|record| record.stage)
    }

    fn tick(&mut self) -> Ready {
        self.raft.tick(&self.log);
        self.raft.ready()
    }
}

fn founders() -> Stage {
    Stage::Founded(BTreeMap::from([(node_id(2), 2), (node_id(3), 3)]))
}

#[test]
fn a_new_node_only_asks() {
    let mut node = Node::new(Stage::New);
    let term = Term::new(5);
    for message in [
        Message::RequestPreVote { term, last: id(4, 9) },
        Message::RequestVote { term, last: id(4, 9), transfer: false },
        Message::Heartbeat { term, life: 1, commit_index: Index::new(9), round: 3 },
        Message::RepairRequest { term, nonce: 1, last: id(4, 8), challenge: 0 },
        Message::TimeoutNow { term, last_index: Index::ZERO },
    ] {
        assert_eq!(node.step(2, message), Ready::default());
    }
    for _ in 0..100 {
        let ready = node.tick();
        let asks = |message: &Message| matches!(message, Message::BirthRequest { incarnation: OWN, .. });
        assert!(ready.messages.iter().all(|(_, message)| asks(message)) && ready.hard_state.is_none(), "{ready:?}");
    }
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Follower, Term::ZERO));
}

#[test]
fn only_nodes_that_are_all_new_or_know_each_other_found_a_cluster() {
    use BirthAnswer::{Known, New, Replaced, Stranger};
    let (found, replace) = (Some(founders()), Some(Stage::Replaced));
    for (first, second, expected) in [
        (New, New, found.clone()),
        (New, Known, found.clone()),
        (Known, Known, found.clone()),
        (Replaced, Known, found),
        (Replaced, New, replace.clone()),
        (Replaced, Replaced, replace.clone()),
        (New, Stranger, replace.clone()),
        (Known, Stranger, replace.clone()),
        (Replaced, Stranger, replace),
    ] {
        let mut node = Node::new(Stage::New);
        assert_eq!(node.hear(2, first), None, "{first:?} alone says nothing");
        assert_eq!(node.hear(3, second), expected, "{first:?} and {second:?}");
    }
    assert_eq!(Node::new(Stage::New).hear(2, Stranger), Some(Stage::Replaced), "at once");
}

#[test]
fn an_answer_counts_once_for_the_incarnation_that_asked() {
    let mut node = Node::new(Stage::New);
    let late =
        Message::BirthResponse { term: Term::ZERO, asked: OWN - 1, incarnation: 2, answer: BirthAnswer::Stranger };
    assert_eq!(node.step(2, late).birth, None);
    assert_eq!(node.hear(2, BirthAnswer::New), None);
    assert_eq!(node.hear(2, BirthAnswer::New), None);
    assert_eq!(node.hear(3, BirthAnswer::New), Some(founders()));
    assert_eq!(node.hear(3, BirthAnswer::Stranger), None, "it is decided");
}

#[test]
fn a_node_takes_part_once_its_record_is_durable() {
    let vote = Message::RequestVote { term: Term::new(5), last: id(0, 0), transfer: false };
    for (answer, votes) in [(BirthAnswer::New, true), (BirthAnswer::Stranger, false)] {
        let mut node = Node::new(Stage::New);
        assert!(node.hear(2, answer).or(node.hear(3, answer)).is_some());
        assert_eq!(node.step(2, vote.clone()), Ready::default(), "not yet");
        node.raft.on_birth_persisted(7);
        assert_eq!(node.step(2, vote.clone()).hard_state.is_some(), votes, "{answer:?}");
        assert_eq!(node.raft.repair_view().is_some(), !votes);
    }
}

#[test]
fn a_founder_knows_the_incarnations_it_heard_and_a_replacement_knows_nobody() {
    let answer_among = |voters, stage: Stage, asked| {
        let mut node = Node::among(voters, stage);
        let ready = node.step(2, Message::BirthRequest { term: Term::ZERO, incarnation: asked });
        let [(_, Message::BirthResponse { answer, .. })] = ready.messages.as_slice() else { panic!("{ready:?}") };
        (*answer, node.raft.lost_view().nodes)
    };
    let answer = |stage: Stage, asked| answer_among(3, stage, asked);
    assert_eq!(answer(Stage::New, 2), (BirthAnswer::New, vec![]));
    assert_eq!(answer(founders(), 2), (BirthAnswer::Known, vec![]));
    assert_eq!(answer(founders(), 9), (BirthAnswer::Stranger, vec![]), "its questions will say what it lost");
    assert_eq!(answer(Stage::Founded(BTreeMap::new()), 2), (BirthAnswer::Stranger, vec![]));
    let of_two = answer_among(2, Stage::Founded(BTreeMap::from([(node_id(2), 2)])), 9);
    assert_eq!(of_two, (BirthAnswer::Stranger, vec![node_id(2)]), "nobody can repair it, so that it will ask nothing");
    assert_eq!(answer(Stage::Replaced, 2), (BirthAnswer::Replaced, vec![]));
}

#[test]
fn two_of_three_that_lost_data_are_a_majority() {
    let mut node = Node::new(founders());
    let lost = |challenge| Message::RepairRequest { term: Term::ZERO, nonce: 1, last: id(0, 0), challenge };
    let told = |ready: Ready, node: u64| {
        let answers = ready.messages.into_iter().chain(ready.messages_after_persist);
        let challenge = |(to, message)| match message {
            Message::RepairResponse { challenge, .. } if to == node_id(node) => Some(challenge),
            _ => None,
        };
        answers.filter_map(challenge).next().expect("an answer")
    };
    // Who does not hear at a node's own address cannot make others believe that it lost data.
    let second = told(node.step(2, lost(0)), 2);
    let third = told(node.step(3, lost(second)), 3);
    assert_eq!((told(node.step(2, lost(third)), 2), node.raft.lost_view().nodes), (second, vec![]));
    node.step(2, lost(second));
    assert!(!node.raft.lost_view().is_majority);
    node.step(3, lost(third));
    assert!(node.raft.lost_view().is_majority);
    // They are forgotten when they no longer say so.
    for _ in 0..100 {
        node.tick();
    }
    assert!(node.raft.lost_view().nodes.is_empty());
}
