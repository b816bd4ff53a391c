//! Members whose log was replaced: when the group agrees on the new one, and what the old one counts for from then on. Learners.

use engine::raft::{
    AddLearnerError, AppendDecision, AppendEntries, AppendOutcome, BirthAnswer, BirthRecord, Config, HardState, Health,
    Membership, Message, Outdated, Raft, ReadId, Role, Speaker, Stage,
};
use engine::types::{EntryId, Index, Lineage, Term};

use crate::cluster::{config, node_id};
use crate::sim_log::SimLog;

const OWN: u64 = 100;
const OLD: Speaker = Speaker { incarnation: 300, is_joining: false };
const JOINING: Speaker = Speaker { incarnation: 301, is_joining: true };
const RESTORED: Speaker = Speaker { incarnation: 301, is_joining: false };
const SECOND: Speaker = Speaker { incarnation: 200, is_joining: false };

/// Node 1 of three, and its log.
struct Node {
    raft: Raft,
    log: SimLog,
    sent: Vec<(u64, Message)>,
    outdated: Option<Outdated>,
    reads: usize,
    is_repaired: bool,
    born: Option<BirthRecord>,
}

impl Node {
    fn new(stage: Stage) -> Self {
        Self::of(1, stage)
    }

    /// A node of the three, or one more.
    fn of(number: u64, stage: Stage) -> Self {
        let log = SimLog::default();
        let mut raft = Raft::new(Config { id: node_id(number), ..config(3) }, HardState::default(), &log);
        raft.begin_birth(BirthRecord { incarnation: OWN, stage });
        Self { raft, log, sent: Vec::new(), outdated: None, reads: 0, is_repaired: false, born: None }
    }

    /// A leader of term 1 whose first entry is in its own log alone.
    fn leading() -> Self {
        let mut node = Self::new(Stage::Restored);
        while node.raft.role() != Role::PreCandidate {
            node.raft.tick(&node.log);
        }
        let term = Term::new(1);
        node.hear(2, SECOND, Message::PreVoteResponse { term: Term::ZERO, campaign_term: term, granted: true });
        node.hear(2, SECOND, Message::RequestVoteResponse { term, granted: true });
        assert_eq!(node.raft.role(), Role::Leader);
        node
    }

    /// Does what Raft wants done, with a disk that is fast.
    fn settle(&mut self) {
        loop {
            let ready = self.raft.ready();
            self.outdated = self.outdated.or(ready.outdated);
            self.reads += ready.reads_ready.len();
            self.is_repaired |= ready.repaired;
            self.born = ready.birth.or(self.born.take());
            let messages = ready.messages.into_iter().chain(ready.messages_after_persist);
            self.sent.extend(messages.map(|(to, message)| (to.get(), message)));
            let is_done = ready.hard_state.is_none() && ready.append_noop.is_none();
            if let Some(hard_state) = ready.hard_state {
                self.log.append_hard_state(hard_state);
                self.log.sync_to(self.log.end());
                self.raft.on_hard_state_persisted(hard_state, &self.log);
            }
            if let Some(id) = ready.append_noop {
                self.append(id, None);
            }
            if is_done {
                return;
            }
        }
    }

    fn append(&mut self, id: EntryId, membership: Option<Membership>) {
        self.log.append_entry(id);
        let says_so = membership.is_some();
        assert_eq!(self.raft.take_membership(id.index, membership, &self.log), says_so);
        self.raft.on_appended(&self.log);
        self.log.sync_to(self.log.end());
        self.raft.on_persisted(&self.log);
    }

    fn hear(&mut self, from: u64, speaker: Speaker, message: Message) {
        self.raft.step(node_id(from), speaker, message, &self.log);
        self.settle();
    }

    fn hear_acknowledged(&mut self, from: u64, speaker: Speaker, index: u64) {
        let index = Index::new(index);
        let outcome = AppendOutcome::Accepted { matched_index: index, persisted_index: index, lineage: None };
        self.hear(from, speaker, Message::AppendEntriesResponse { term: Term::new(1), life: 1, outcome });
    }

    fn hear_confirmed(&mut self, from: u64, speaker: Speaker, round: u64) {
        let (matched_index, persisted_index, health) = (Index::ZERO, Index::ZERO, Health::default());
        let lineage = None;
        let term = Term::new(1);
        self.hear(
            from,
            speaker,
            Message::HeartbeatResponse { term, life: 1, round, matched_index, persisted_index, lineage, health },
        );
    }

    /// Node 3 asks for a log in the place of its earlier one, which was not heard for long, and repeats what it was told to.
    fn hear_question(&mut self) {
        self.ask(0);
        let challenge = self.told_challenge();
        self.ask(challenge);
    }

    fn ask(&mut self, challenge: u64) {
        let message = Message::RepairRequest { term: Term::ZERO, nonce: 7, last: EntryId::ZERO, challenge };
        self.hear(3, JOINING, message);
    }

    /// What node 3 has to repeat, by the last answer; 0 = nothing.
    fn told_challenge(&self) -> u64 {
        let challenge = self.sent.iter().rev().find_map(|(to, message)| match message {
            Message::RepairResponse { challenge, .. } if *to == 3 => Some(*challenge),
            _ => None,
        });
        challenge.expect("an answer")
    }

    /// Node 3 says nothing for an election timeout; node 2 answers meanwhile.
    fn pass_election_timeout(&mut self) {
        for _ in 0..config(3).election_ticks {
            self.raft.tick(&self.log);
            self.settle();
            self.hear_confirmed(2, SECOND, 0);
        }
        assert_eq!(self.raft.role(), Role::Leader);
    }

    /// The end of the log that node 3 was told, if it was.
    fn told_end(&mut self) -> Option<Index> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter().find_map(|(to, message)| match message {
            Message::RepairResponse { last_index, .. } if to == 3 && last_index > Index::ZERO => Some(last_index),
            _ => None,
        })
    }

    /// The leader appends what it owes its log.
    fn append_membership(&mut self) {
        let (id, membership) = self.raft.membership_due(&self.log).expect("the group has to agree");
        self.append(id, Some(membership));
        self.settle();
    }

    fn commit_index(&self) -> u64 {
        self.raft.commit_index().get()
    }
}

fn naming(incarnation: u64, since: u64) -> Membership {
    Membership::new((1..=3).map(node_id).collect()).with_named(node_id(3), incarnation, Index::new(since))
}

#[test]
fn the_end_of_the_log_is_told_once_the_others_have_the_entry_that_names_the_new_log() {
    let mut node = Node::leading();
    node.hear_acknowledged(2, SECOND, 1);
    node.pass_election_timeout();
    node.hear_question();
    assert_eq!(node.told_end(), None);
    node.append_membership();
    assert_eq!(node.raft.membership_due(&node.log), None, "once");
    // What the replacement has counts for nothing, and confirms nothing.
    node.hear_acknowledged(3, JOINING, 2);
    node.hear_question();
    node.hear_confirmed(3, JOINING, 0);
    assert_eq!((node.commit_index(), node.told_end()), (1, None));
    let progress = node.raft.progress().find(|(node, _)| *node == node_id(3)).expect("a follower").1;
    assert_eq!((progress.received_index(), progress.match_index()), (Index::new(2), Index::ZERO));

    node.hear_acknowledged(2, SECOND, 2);
    assert_eq!(node.commit_index(), 2);
    node.hear_question();
    node.hear_confirmed(3, JOINING, 1);
    assert_eq!(node.told_end(), None, "nobody else has confirmed the leader");
    node.hear_confirmed(2, SECOND, 1);
    assert_eq!(node.told_end(), Some(Index::new(2)));
}

#[test]
fn nobody_takes_a_log_away_by_asking_in_its_nodes_name() {
    let mut node = Node::leading();
    node.hear_acknowledged(2, SECOND, 1);
    node.pass_election_timeout();
    // Whoever asks without an ear at the node's own address can't know what the answer said.
    for guess in [0, 1, 7] {
        node.ask(guess);
        assert_eq!(node.raft.membership_due(&node.log), None);
    }
    // The log is there.
    node.hear_confirmed(3, OLD, 0);
    node.hear_question();
    assert_ne!(node.told_challenge(), 0);
    assert_eq!(node.raft.membership_due(&node.log), None);
    node.pass_election_timeout();
    node.hear_question();
    node.append_membership();
}

#[test]
fn what_an_earlier_log_acknowledged_and_says_counts_no_more() {
    let mut node = Node::leading();
    node.hear_acknowledged(3, OLD, 1);
    assert_eq!(node.commit_index(), 1);
    node.pass_election_timeout();
    node.hear_question();
    node.append_membership();
    node.hear_acknowledged(3, OLD, 2);
    assert_eq!(node.commit_index(), 1);
    node.raft.read_index(ReadId(1), &node.log).expect("it leads");
    node.settle();
    node.hear_confirmed(3, OLD, 1);
    assert_eq!(node.reads, 0);
    assert!(!node.sent.iter().any(|(_, message)| matches!(message, Message::Outdated { .. })), "not certain yet");

    node.hear_acknowledged(2, SECOND, 2);
    node.hear_acknowledged(3, OLD, 2);
    let expected = Message::Outdated { term: Term::new(1), incarnation: 301, since: Index::new(2) };
    assert!(node.sent.contains(&(3, expected)));
    node.hear_confirmed(3, RESTORED, 1);
    assert_eq!(node.reads, 1);
}

#[test]
fn the_vote_of_an_earlier_log_counts_until_the_entry_is_cut() {
    for is_cut in [false, true] {
        let mut node = Node::new(Stage::Restored);
        let term = Term::new(1);
        node.append(EntryId::new(Term::ZERO.next(), Index::new(1)), Some(naming(301, 1)));
        if is_cut {
            assert!(node.raft.take_membership(Index::new(1), None, &node.log));
        }
        while node.raft.role() != Role::PreCandidate {
            node.raft.tick(&node.log);
            node.settle();
        }
        node.hear(3, OLD, Message::PreVoteResponse { term: Term::ZERO, campaign_term: term, granted: true });
        assert_eq!(node.raft.role() == Role::Candidate, is_cut);
    }
}

#[test]
fn a_node_stops_when_a_committed_entry_names_another_log_of_it() {
    let told = |incarnation, since| Message::Outdated { term: Term::new(1), incarnation, since: Index::new(since) };
    let outdated = |stage, message| {
        let mut node = Node::new(stage);
        let own = Membership::new((1..=3).map(node_id).collect()).with_named(node_id(1), OWN, Index::new(5));
        node.log = SimLog::with_terms(&[0; 5], HardState::default());
        assert!(node.raft.take_membership(Index::new(5), Some(own), &node.log));
        node.hear(2, SECOND, message);
        node.outdated
    };
    let expected = Some(Outdated { told_by: node_id(2), since: Index::new(9) });
    assert_eq!(outdated(Stage::Restored, told(101, 9)), expected);
    assert_eq!(outdated(Stage::Restored, told(101, 4)), None, "the group agreed on this log later");
    assert_eq!(outdated(Stage::Restored, told(OWN, 9)), None);
    assert_eq!(outdated(Stage::Replaced, told(101, 9)), None, "the group has yet to agree on this one");
}

#[test]
fn a_node_that_knows_better_does_not_believe_one_peer_that_its_log_was_given_up() {
    let told = |since| Message::Outdated { term: Term::new(1), incarnation: 101, since: Index::new(since) };
    let refused = |node: &Node| (node.outdated, node.raft.refused_count());
    // It has what is committed, and that says nothing of the kind.
    let mut node = Node::leading();
    node.hear_acknowledged(2, SECOND, 1);
    assert_eq!(node.commit_index(), 1);
    node.hear(2, SECOND, told(1));
    assert_eq!(refused(&node), (None, 1));
    // It leads, so that it has every entry that was committed before.
    node.hear(2, SECOND, told(9));
    assert_eq!((refused(&node), node.raft.role()), ((None, 2), Role::Leader));

    // It hears a leader, which would say so itself.
    let mut node = Node::new(Stage::Restored);
    let heartbeat = Message::Heartbeat { term: Term::new(1), life: 1, commit_index: Index::ZERO, round: 0 };
    node.hear(2, SECOND, heartbeat);
    node.hear(3, OLD, told(9));
    assert_eq!(refused(&node), (None, 1));
    node.hear(2, SECOND, told(9));
    assert_eq!(refused(&node), (Some(Outdated { told_by: node_id(2), since: Index::new(9) }), 1));

    // No log has number 0, and nobody is named by entry 0.
    for (incarnation, since) in [(0, 9), (101, 0)] {
        let mut node = Node::new(Stage::Restored);
        let message = Message::Outdated { term: Term::new(1), incarnation, since: Index::new(since) };
        node.hear(2, SECOND, message);
        assert_eq!(refused(&node), (None, 1));
    }
}

#[test]
fn a_node_whose_own_log_names_another_one_campaigns_no_more_and_stops_once_that_is_committed() {
    let mut node = Node::new(Stage::Founded([(node_id(2), 2), (node_id(3), 3)].into()));
    let term = Term::new(1);
    let other = Membership::new((1..=3).map(node_id).collect()).with_named(node_id(1), 101, Index::new(1));
    node.hear(2, SECOND, Message::Heartbeat { term, life: 1, commit_index: Index::ZERO, round: 0 });
    let id = EntryId::new(term, Index::new(1));
    let append = |commit_index: u64, prev: EntryId, last: u64| AppendEntries {
        term,
        life: 1,
        prev,
        prev_lineage: Lineage::START,
        first: prev.index.next(),
        last: Index::new(last),
        commit_index: Index::new(commit_index),
    };
    let entries = crate::sim_log::tips(Lineage::START, &[id]);
    let decision = node.raft.step_append(node_id(2), &append(0, EntryId::ZERO, 1), &entries, &node.log);
    assert_eq!(decision, AppendDecision::Append { skip: 0 });
    node.settle();
    node.append(id, Some(other));
    for _ in 0..100 {
        node.raft.tick(&node.log);
        node.settle();
        // Nor when somebody asks who lacks entries that this node has.
        node.hear(3, OLD, Message::RequestPreVote { term: term.next(), last: EntryId::ZERO });
        assert_eq!((node.raft.role(), node.outdated), (Role::Follower, None));
    }
    let append = node.log.as_if_shared(append(1, id, 1));
    node.hear(2, SECOND, Message::AppendEntries(append));
    assert_eq!(node.outdated, Some(Outdated { told_by: node_id(1), since: Index::new(1) }));
}

#[test]
fn a_learner_gets_everything_and_counts_in_no_quorum() {
    let mut node = Node::leading();
    node.hear_acknowledged(2, SECOND, 1);
    let learner = Speaker { incarnation: 400, is_joining: false };
    assert_eq!(node.raft.add_learner(node_id(2), 200), Err(AddLearnerError::IsMember { node: node_id(2) }));
    assert_eq!(node.raft.add_learner(node_id(4), 0), Err(AddLearnerError::NoLog { node: node_id(4) }));
    assert_eq!(node.raft.add_learner(node_id(4), 400), Ok(()));
    node.append_membership();
    assert!(!node.raft.membership().is_voter(node_id(4)));
    assert!(node.sent.iter().any(|(to, message)| *to == 4 && matches!(message, Message::AppendEntries(_))));
    assert_eq!(node.raft.membership_due(&node.log), None, "once");

    node.hear_acknowledged(4, learner, 2);
    let progress = node.raft.progress().find(|(node, _)| *node == node_id(4)).expect("a follower").1;
    assert_eq!((progress.match_index(), node.commit_index()), (Index::new(2), 1));
    node.raft.read_index(ReadId(1), &node.log).expect("it leads");
    node.settle();
    node.hear_confirmed(4, learner, 1);
    assert_eq!(node.reads, 0);
    for _ in 0..config(3).election_ticks + 2 {
        node.raft.tick(&node.log);
        node.settle();
        node.hear_confirmed(4, learner, 0);
    }
    assert_eq!(node.raft.role(), Role::Follower, "only a learner was heard");
}

#[test]
fn a_learner_elects_nobody() {
    let log = SimLog::default();
    let mut raft = Raft::new(Config { id: node_id(4), ..config(3) }, HardState::default(), &log);
    for _ in 0..100 {
        raft.tick(&log);
        raft.on_peer_connected(node_id(2));
        let ready = raft.ready();
        assert_eq!((raft.role(), ready.hard_state), (Role::Follower, None));
        assert!(ready.messages.is_empty() && ready.messages_after_persist.is_empty());
    }

    let mut node = Node::new(Stage::Restored);
    let voters = Membership::new((1..=3).map(node_id).collect());
    let id = EntryId::new(Term::ZERO.next(), Index::new(1));
    node.append(id, Some(voters.with_learner(node_id(4), 400, id.index)));
    let learner = Speaker { incarnation: 400, is_joining: false };
    while node.raft.role() != Role::PreCandidate {
        node.raft.tick(&node.log);
    }
    let term = Term::new(1);
    node.hear(4, learner, Message::PreVoteResponse { term: Term::ZERO, campaign_term: term, granted: true });
    node.raft.on_peer_connected(node_id(4));
    node.settle();
    assert_eq!(node.raft.role(), Role::PreCandidate);
    let asked: Vec<u64> = node.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, [2, 3]);
}

#[test]
fn a_node_that_cannot_lead_lets_go_of_a_leader_that_is_silent_and_follows_again_whom_it_hears() {
    let heartbeat = || Message::Heartbeat { term: Term::new(1), life: 1, commit_index: Index::ZERO, round: 0 };
    let mut repairing = Node::new(Stage::Restored);
    repairing.raft.begin_repair(7, true);
    let mut given_up = Node::new(Stage::Restored);
    let other = Membership::new((1..=3).map(node_id).collect()).with_named(node_id(1), 101, Index::new(1));
    given_up.append(EntryId::new(Term::ZERO.next(), Index::new(1)), Some(other));
    for mut node in [Node::of(4, Stage::Restored), repairing, given_up] {
        for _ in 0..3 {
            node.hear(2, SECOND, heartbeat());
            for _ in 0..config(3).election_ticks - 1 {
                node.raft.tick(&node.log);
                assert_eq!(node.raft.leader(), Some(node_id(2)));
            }
            (0..config(3).election_ticks + 1).for_each(|_| node.raft.tick(&node.log));
            assert_eq!((node.raft.leader(), node.raft.role()), (None, Role::Follower));
        }
    }
}

#[test]
fn a_log_that_was_given_up_and_then_damaged_stops_when_it_is_told_what_it_holds() {
    let told = |incarnation, since| Message::Outdated { term: Term::new(1), incarnation, since: Index::new(since) };
    let outdated = |message, hears_another: bool| {
        let mut node = Node::new(Stage::Restored);
        let other = Membership::new((1..=3).map(node_id).collect()).with_named(node_id(1), 101, Index::new(1));
        node.log = SimLog::with_terms(&[0; 2], HardState::default());
        assert!(node.raft.take_membership(Index::new(1), Some(other), &node.log));
        node.raft.begin_repair(7, true);
        node.raft.recall_committed(node.log.last_tip(), &node.log);
        if hears_another {
            node.hear(3, OLD, Message::Heartbeat { term: Term::new(1), life: 1, commit_index: Index::ZERO, round: 0 });
        }
        node.settle();
        assert_eq!(
            (node.commit_index(), node.outdated),
            (2, None),
            "a later entry that it lost may have named it again"
        );
        node.hear(2, SECOND, message);
        node.outdated
    };
    let expected = Some(Outdated { told_by: node_id(2), since: Index::new(1) });
    assert_eq!(outdated(told(101, 1), false), expected);
    assert_eq!(outdated(told(102, 2), false), None, "what it holds denies that");
    assert_eq!(outdated(told(101, 1), true), None, "the leader would say so itself");
}

#[test]
fn a_node_joins_while_a_voter_is_down() {
    // Who took part answers, of whom one says that the cluster exists. Node 3 is silent all the time.
    let mut node = Node::of(4, Stage::New);
    let answer = |answer| Message::BirthResponse { term: Term::ZERO, asked: OWN, incarnation: 200, answer };
    node.hear(2, SECOND, answer(BirthAnswer::New));
    assert_eq!(node.born, None, "it may found nothing, and nobody knows of a cluster yet");
    node.hear(2, SECOND, answer(BirthAnswer::Replaced));
    assert_eq!(node.born, Some(BirthRecord { incarnation: OWN, stage: Stage::Replaced }));
    node.raft.on_birth_persisted(7);

    let term = Term::new(1);
    node.hear(2, SECOND, Message::RepairResponse { term, life: 1, nonce: 7, last_index: Index::ZERO, challenge: 0 });
    let id = EntryId::new(term, Index::new(1));
    let (prev, first, last) = (EntryId::ZERO, id.index, id.index);
    let append =
        AppendEntries { term, life: 1, prev, prev_lineage: Lineage::START, first, last, commit_index: Index::ZERO };
    let entries = crate::sim_log::tips(Lineage::START, &[id]);
    let decision = node.raft.step_append(node_id(2), &append, &entries, &node.log);
    assert_eq!(decision, AppendDecision::Append { skip: 0 });
    node.settle();
    node.append(id, Some(Membership::new((1..=3).map(node_id).collect()).with_learner(node_id(4), OWN, id.index)));
    node.settle();
    assert!(!node.is_repaired, "it does not know yet how far the log must reach");
    assert_eq!(node.raft.repair_view().expect("under repair").awaited, []);
    node.hear(2, SECOND, Message::RepairResponse { term, life: 1, nonce: 7, last_index: id.index, challenge: 0 });
    assert!(node.is_repaired);
    node.raft.end_repair();

    // A voter that comes back with an empty directory waits for everybody: it may have promised something.
    let mut voter = Node::of(1, Stage::Replaced);
    voter.raft.begin_repair(7, false);
    voter.hear(2, SECOND, Message::RepairResponse { term, life: 1, nonce: 7, last_index: Index::ZERO, challenge: 0 });
    assert_eq!(voter.raft.step_append(node_id(2), &append, &entries, &voter.log), AppendDecision::Drop);
    assert_eq!(voter.raft.repair_view().expect("under repair").awaited, [node_id(3)]);
}
