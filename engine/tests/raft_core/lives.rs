//! A leader that was put back to before it campaigned, and leads the very term again: its second life is another leader.

use engine::raft::{AppendDecision, AppendEntries, AppendOutcome, HardState, Health, LogView, Message, ReadId, Role};
use engine::types::{EntryId, Index, Lineage, Term};

use crate::cluster::{Cluster, Packet, config, node_id};
use crate::paper::{id, led_by_first, sent_by, step, tick_all};
use crate::sim_log::SimLog;

const FIRST: u64 = 71;
const SECOND: u64 = 72;

/// Node 1 has these entries of a leader in term 3.
fn follower() -> (Cluster, SimLog) {
    let log = SimLog::with_terms(&[1, 1, 3], HardState { term: Term::new(3), vote: None });
    (Cluster::with_logs(config(3), vec![log.clone(); 3]), log)
}

/// What node 2 sends in this life: entries of this log behind `prev`.
fn append(cluster: &mut Cluster, life: u64, log: &SimLog, prev: u64, last: u64) -> AppendDecision {
    let (prev, last) = (Index::new(prev), Index::new(last));
    let append = AppendEntries {
        term: Term::new(3),
        life,
        prev: log.id_at(prev).unwrap_or(EntryId::ZERO),
        prev_lineage: log.lineage(prev).expect("held"),
        first: prev.next(),
        last,
        commit_index: Index::ZERO,
    };
    let (message, entries) = (Message::AppendEntries(append), log.ids(prev.next(), last));
    cluster.receive(Packet { from: node_id(2), to: node_id(1), message, entries })
}

fn heartbeat(life: u64, round: u64) -> Message {
    Message::Heartbeat { term: Term::new(3), life, commit_index: Index::ZERO, round }
}

/// The answers to node 2: the life, the round and the index that matches.
fn answers(cluster: &mut Cluster) -> Vec<(u64, u64, Index)> {
    let answer = |message| match message {
        Message::HeartbeatResponse { life, round, matched_index, .. } => Some((life, round, matched_index)),
        Message::AppendEntriesResponse { life, outcome: AppendOutcome::Accepted { matched_index, .. }, .. } => {
            Some((life, 0, matched_index))
        }
        _ => None,
    };
    sent_by(cluster, 1).into_iter().filter_map(|(_, message)| answer(message)).collect()
}

#[test]
fn a_second_life_of_a_terms_leader_gets_nothing_and_is_told_of_the_first() {
    let (mut cluster, log) = follower();
    append(&mut cluster, FIRST, &log, 3, 3);
    step(&mut cluster, 0, 2, heartbeat(FIRST, 4));
    let known = Index::new(3);
    assert_eq!(answers(&mut cluster), [(FIRST, 0, known), (FIRST, 4, known)]);

    // Whether its log contradicts the first life's or not.
    let nothing = (FIRST, 0, Index::ZERO);
    step(&mut cluster, 0, 2, heartbeat(SECOND, 1));
    assert_eq!((answers(&mut cluster), cluster.raft(0).refused_count()), (vec![nothing], 1));
    let second = SimLog::with_terms(&[1, 3, 3, 3], HardState { term: Term::new(3), vote: None });
    for (log, prev, last) in [(&log, 3, 3), (&second, 1, 4), (&second, 0, 0)] {
        assert_eq!(append(&mut cluster, SECOND, log, prev, last), AppendDecision::Drop);
        assert_eq!(answers(&mut cluster), [nothing]);
    }
    assert_eq!(cluster.nodes[0].log.last_id(), id(3, 3));

    // What the first life says still counts: it may be the second that somebody invented.
    step(&mut cluster, 0, 2, heartbeat(FIRST, 5));
    assert_eq!(answers(&mut cluster), [(FIRST, 5, known)]);
    // In a later term it is a leader like any other.
    let message = Message::Heartbeat { term: Term::new(4), life: SECOND, commit_index: Index::ZERO, round: 1 };
    step(&mut cluster, 0, 2, message);
    assert_eq!((cluster.raft(0).leader(), cluster.raft(0).term()), (Some(node_id(2)), Term::new(4)));
}

#[test]
fn a_forged_heartbeat_of_life_0_binds_no_follower() {
    let (mut cluster, log) = follower();
    step(&mut cluster, 0, 2, heartbeat(0, 1));
    assert_eq!(append(&mut cluster, 0, &log, 3, 3), AppendDecision::Drop);
    assert_eq!((cluster.raft(0).leader(), cluster.raft(0).refused_count()), (None, 1));
    assert_eq!(answers(&mut cluster), []);
    // The leader itself is followed.
    append(&mut cluster, FIRST, &log, 3, 3);
    step(&mut cluster, 0, 2, heartbeat(FIRST, 4));
    let known = Index::new(3);
    assert_eq!(answers(&mut cluster), [(FIRST, 0, known), (FIRST, 4, known)]);
}

#[test]
fn a_follower_that_doubts_the_first_life_believes_the_second_no_more_than_before() {
    let (mut cluster, log) = follower();
    append(&mut cluster, FIRST, &log, 3, 3);
    while cluster.raft(0).leader().is_some() {
        cluster.tick(0);
    }
    assert_eq!((cluster.raft(0).role(), cluster.raft(0).term()), (Role::PreCandidate, Term::new(3)));
    step(&mut cluster, 0, 2, heartbeat(SECOND, 1));
    assert_eq!((cluster.raft(0).leader(), cluster.raft(0).role()), (None, Role::PreCandidate));
    step(&mut cluster, 0, 2, heartbeat(FIRST, 1));
    assert_eq!(cluster.raft(0).leader(), Some(node_id(2)));
}

#[test]
fn an_answer_to_another_life_counts_for_nothing_and_ends_the_term() {
    let health = Health::default();
    let mut cluster = led_by_first();
    cluster.isolate(node_id(1));
    cluster.propose(0, 2);
    cluster.sync(0);
    let (term, last) = (cluster.raft(0).term(), cluster.nodes[0].log.last_id().index);
    let committed = cluster.raft(0).commit_index();
    assert!(committed < last);
    let all = |life| {
        let (matched_index, persisted_index, lineage) = (last, last, None);
        let accepted = AppendOutcome::Accepted { matched_index, persisted_index, lineage };
        [
            Message::HeartbeatResponse { term, life, round: 0, matched_index, persisted_index, lineage, health },
            Message::AppendEntriesResponse { term, life, outcome: accepted },
        ]
    };
    cluster.heal();
    // This answers no leader of the term: its sender told an earlier leader that it is deposed.
    for message in all(0) {
        step(&mut cluster, 0, 2, message);
        assert_eq!((cluster.raft(0).role(), cluster.raft(0).commit_index()), (Role::Leader, committed));
    }
    for message in all(SECOND) {
        step(&mut cluster, 0, 2, message);
        assert_eq!((cluster.raft(0).role(), cluster.raft(0).commit_index()), (Role::Follower, committed));
    }
    // Life 0 is refused where it makes no sense, too.
    assert_eq!((cluster.raft(0).term(), cluster.raft(0).refused_count()), (term, 2));
}

#[test]
fn what_a_leader_never_did_in_its_term_ends_the_term() {
    let (term, entry, persisted_index) = (Term::new(1), id(1, 90), Index::ZERO);
    let outcomes = |matched: u64, lineage| {
        let matched_index = Index::new(matched);
        [
            AppendOutcome::Accepted { matched_index, persisted_index, lineage },
            AppendOutcome::NoRoom { matched_index, persisted_index, lineage },
            AppendOutcome::Damaged { matched_index, persisted_index, lineage },
        ]
    };
    let other = Lineage::new(5);
    let elsewhere = [
        AppendOutcome::OtherHistory { entry, lineage: other },
        AppendOutcome::OtherHistory { entry: id(1, 2), lineage: other },
        AppendOutcome::Rejected { prev_index: entry.index.next(), hint: entry },
    ];
    let answer = |outcome| Message::AppendEntriesResponse { term, life: 1, outcome };
    let outcomes = outcomes(90, None).into_iter().chain(outcomes(2, Some(other))).chain(elsewhere);
    let health = Health::default();
    let beats = [(90, None, 0), (2, Some(other), 0), (0, None, 1 << 40)].map(|(matched, lineage, round)| {
        let matched_index = Index::new(matched);
        Message::HeartbeatResponse { term, life: 1, round, matched_index, persisted_index, lineage, health }
    });
    for message in outcomes.map(answer).chain(beats) {
        let mut cluster = led_by_first();
        cluster.propose(0, 2);
        cluster.settle();
        sent_by(&mut cluster, 1);
        let (committed, refused) = (cluster.raft(0).commit_index(), cluster.raft(0).refused_count());
        step(&mut cluster, 0, 2, message.clone());
        let raft = cluster.raft(0);
        assert_eq!((raft.role(), raft.term(), raft.commit_index()), (Role::Follower, term, committed), "{message:?}");
        assert_eq!((raft.refused_count(), raft.leader()), (refused + 1, None), "{message:?}");
        // Nobody else leads the term that it led.
        step(&mut cluster, 0, 3, Message::Heartbeat { term, life: 3, commit_index: Index::ZERO, round: 1 });
        assert_eq!(cluster.raft(0).leader(), None);
    }
}

#[test]
fn the_truth_ends_no_term() {
    let mut cluster = led_by_first();
    cluster.propose(0, 2);
    cluster.settle();
    let (term, matched_index) = (Term::new(1), Index::new(3));
    let (persisted_index, lineage) = (matched_index, cluster.nodes[0].log.lineage(matched_index));
    let answer = |outcome| Message::AppendEntriesResponse { term, life: 1, outcome };
    let own = cluster.nodes[0].log.lineage(Index::new(2)).expect("held");
    for outcome in [
        AppendOutcome::Accepted { matched_index, persisted_index, lineage },
        AppendOutcome::Accepted { matched_index, persisted_index, lineage: None },
        // An answer that is late, and one that says nothing.
        AppendOutcome::Rejected { prev_index: matched_index, hint: id(1, 2) },
        AppendOutcome::OtherHistory { entry: id(1, 2), lineage: own },
    ] {
        step(&mut cluster, 0, 2, answer(outcome));
        assert_eq!(cluster.raft(0).role(), Role::Leader, "{outcome:?}");
    }
}

/// Node 1 led and node 2 followed, with so many entries, when the memory and the disk of node 1 were put back. Since then it made so many
/// others. A read waits there.
fn put_back_leader(forgotten: usize, made: usize) -> (Cluster, ReadId) {
    let mut cluster = led_by_first();
    let image = cluster.image(0);
    cluster.isolate(node_id(3));
    cluster.propose(0, forgotten);
    cluster.settle();
    let committed = cluster.raft(0).commit_index();
    assert_eq!(committed, cluster.nodes[1].log.last_id().index);
    cluster.put_back(0, image);
    for _ in 0..made {
        let next = cluster.raft(0).next_entry_id(&cluster.nodes[0].log);
        cluster.nodes[0].log.append_content(next, 7);
        cluster.with_raft(0, |raft, log| raft.on_appended(log));
    }
    cluster.sync(0);
    let read = cluster.read(0).expect("it leads");
    (cluster, read)
}

#[test]
fn a_leader_that_was_put_back_in_one_life_counts_nothing_that_was_told_to_the_log_it_forgot() {
    for (forgotten, made) in [(1, 0), (3, 0), (3, 2), (3, 3), (3, 5), (1, 4)] {
        let (mut cluster, read) = put_back_leader(forgotten, made);
        let committed = cluster.raft(0).commit_index();
        for _ in 0..4 {
            // Its entries are late, so that its follower does not see that it contradicts itself.
            cluster.network.retain(|packet| !matches!(packet.message, Message::AppendEntries(_)));
            cluster.deliver_all();
            cluster.tick(0);
        }
        let (raft, what) = (cluster.raft(0), format!("{forgotten} forgotten, {made} made"));
        assert_eq!((raft.role(), raft.commit_index(), raft.refused_count()), (Role::Follower, committed, 1), "{what}");
        assert_eq!((&cluster.reads_ready, &cluster.reads_failed), (&Vec::new(), &vec![read]), "{what}");
    }
}

#[test]
fn a_follower_with_another_history_keeps_no_leader_in_office() {
    // It parts over an entry of an earlier term: that is no reason to give the term up at once.
    let log = SimLog::with_terms(&[1, 1], HardState { term: Term::new(1), vote: None });
    let mut cluster = Cluster::with_logs(config(3), vec![log; 3]);
    cluster.elect(0);
    tick_all(&mut cluster, 2);
    cluster.isolate(node_id(3));
    let (term, life) = (cluster.raft(0).term(), 1);
    let outcome = AppendOutcome::OtherHistory { entry: id(1, 2), lineage: Lineage::new(5) };
    for tick in 0..40 {
        cluster.tick(0);
        sent_by(&mut cluster, 1);
        step(&mut cluster, 0, 2, Message::AppendEntriesResponse { term, life, outcome });
        let (matched_index, persisted_index, health) = (Index::ZERO, Index::ZERO, Health::default());
        let lineage = None;
        let message =
            Message::HeartbeatResponse { term, life, round: 0, matched_index, persisted_index, lineage, health };
        step(&mut cluster, 0, 2, message);
        assert!(tick > 0 || cluster.is_leader(0), "it may come back with another directory");
    }
    assert!(!cluster.is_leader(0));
}

#[test]
fn a_question_about_reads_is_for_one_life_of_the_leader() {
    let mut cluster = led_by_first();
    let term = cluster.raft(0).term();
    let mut is_answered = |leader_life| {
        sent_by(&mut cluster, 1);
        step(&mut cluster, 0, 2, Message::ReadIndexRequest { term, leader_life, life: 9, batch: leader_life });
        let rounds = sent_by(&mut cluster, 1);
        rounds.iter().any(|(_, message)| matches!(message, Message::Heartbeat { round, .. } if *round > 0))
    };
    assert!(!is_answered(SECOND) && is_answered(1));

    let (mut cluster, log) = follower();
    append(&mut cluster, FIRST, &log, 3, 3);
    cluster.with_raft(0, |raft, log| {
        raft.read_index(ReadId(1), log).expect("it has a leader");
        assert!(raft.ask_about_reads());
    });
    let asked = sent_by(&mut cluster, 1).into_iter().find_map(|(to, message)| match message {
        Message::ReadIndexRequest { leader_life, .. } => Some((to, leader_life)),
        _ => None,
    });
    assert_eq!(asked, Some((node_id(2), FIRST)));
}

#[test]
fn the_end_of_another_lifes_log_ends_no_repair() {
    let (mut cluster, log) = follower();
    cluster.crash(0, 0);
    cluster.damage(0, cluster.nodes[0].log.durable_end() - 1, true);
    cluster.restart(0);
    append(&mut cluster, FIRST, &log, 2, 3);
    let (nonce, last_index, challenge) = (1, Index::new(3), 0);
    let told = |life| Message::RepairResponse { term: Term::new(3), life, nonce, last_index, challenge };
    step(&mut cluster, 0, 2, told(SECOND));
    cluster.sync(0);
    assert!(cluster.raft(0).repair_view().is_some());
    step(&mut cluster, 0, 2, told(FIRST));
    assert!(cluster.raft(0).repair_view().is_none());
}
