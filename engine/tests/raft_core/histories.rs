//! Two histories that share the name of an entry, because a term had two leaders: followers tell them apart and take nothing.

use engine::raft::{
    AppendDecision, AppendEntries, AppendOutcome, Contradiction, ContradictionKind, Fork, HardState, LogView, Message,
    Raft, ReadId, ReadIndexError, Role, Tip,
};
use engine::types::{EntryId, Index, Lineage, Term};

use crate::cluster::{Cluster, Packet, config, node_id};
use crate::paper::{id, sent_by, step, tick_all};
use crate::sim_log::{SimLog, tips};

/// A durable log that holds one entry per term, on a node in term 3; the last entry has another content than usual.
fn other_log(terms: &[u64]) -> SimLog {
    let (&last, rest) = terms.split_last().expect("an entry");
    let mut log = SimLog::with_terms(rest, hard_state(3));
    log.append_content(id(last, terms.len() as u64), 7);
    log.sync_to(log.end());
    log
}

fn hard_state(term: u64) -> HardState {
    HardState { term: Term::new(term), vote: None }
}

/// What a leader with this log sends: entries of its log after `prev`.
fn append(leader: &SimLog, term: u64, prev: u64, last: u64) -> (AppendEntries, Vec<EntryId>) {
    let (prev, last) = (Index::new(prev), Index::new(last));
    let prev_id = leader.id_at(prev).unwrap_or(EntryId::ZERO);
    let append = AppendEntries {
        term: Term::new(term),
        life: 1,
        prev: prev_id,
        prev_lineage: leader.lineage(prev).expect("held"),
        first: prev.next(),
        last,
        commit_index: Index::ZERO,
    };
    (append, leader.ids(prev.next(), last))
}

/// Node 1 gets this from node `from`.
fn receive(cluster: &mut Cluster, from: u64, (append, entries): (AppendEntries, Vec<EntryId>)) -> AppendDecision {
    let message = Message::AppendEntries(append);
    cluster.receive(Packet { from: node_id(from), to: node_id(1), message, entries })
}

fn outcomes(cluster: &mut Cluster) -> Vec<AppendOutcome> {
    let outcome = |message| match message {
        Message::AppendEntriesResponse { outcome, .. } => Some(outcome),
        _ => None,
    };
    sent_by(cluster, 1).into_iter().filter_map(|(_, message)| outcome(message)).collect()
}

fn other_history(log: &SimLog, index: u64) -> AppendOutcome {
    let index = Index::new(index);
    AppendOutcome::OtherHistory { entry: log.id_at(index).expect("held"), lineage: log.lineage(index).expect("held") }
}

/// The life, the round and the index that matches in the last answer to a heartbeat.
fn last_answer(cluster: &mut Cluster) -> Option<(u64, u64, Index)> {
    sent_by(cluster, 1).into_iter().rev().find_map(|(_, message)| match message {
        Message::HeartbeatResponse { life, round, matched_index, .. } => Some((life, round, matched_index)),
        _ => None,
    })
}

fn confirmed_round(cluster: &mut Cluster) -> Option<u64> {
    sent_by(cluster, 1).into_iter().rev().find_map(|(_, message)| match message {
        Message::HeartbeatResponse { round, .. } => Some(round),
        _ => None,
    })
}

/// Node 1 has another history than the log that is returned, at entry 2.3.
fn parted() -> (Cluster, SimLog) {
    let leader = SimLog::with_terms(&[1, 1, 2, 3], hard_state(3));
    let cluster = Cluster::with_logs(config(3), vec![other_log(&[1, 1, 2]); 3]);
    (cluster, leader)
}

#[test]
fn a_follower_with_another_history_takes_nothing_and_says_so_until_another_leads() {
    let (mut cluster, leader) = parted();
    let own = cluster.nodes[0].log.clone();
    // Where the follower's log ends, in the entries, and from the beginning once it is known.
    for (prev, last) in [(3, 3), (2, 4), (3, 4), (0, 1), (0, 0)] {
        assert_eq!(receive(&mut cluster, 2, append(&leader, 3, prev, last)), AppendDecision::Drop);
        assert_eq!(outcomes(&mut cluster), [other_history(&own, 3)], "behind entry {prev}");
    }
    assert_eq!(cluster.raft(0).refused_count(), 5);
    step(&mut cluster, 0, 2, Message::Heartbeat { term: Term::new(3), life: 1, commit_index: Index::new(4), round: 9 });
    assert_eq!(confirmed_round(&mut cluster), Some(0));
    cluster.with_raft(0, |raft, log| {
        assert_eq!(raft.read_index(ReadId(1), log), Err(ReadIndexError::NobodyToAsk));
    });
    assert_eq!((cluster.raft(0).commit_index(), cluster.nodes[0].log.last_id()), (Index::ZERO, id(2, 3)));
    // The next leader has this node's history.
    let mut next = own.clone();
    next.append_entry(id(4, 4));
    assert_eq!(receive(&mut cluster, 3, append(&next, 4, 3, 4)), AppendDecision::Append { skip: 0 });
    assert_eq!(cluster.nodes[0].log.lineage(Index::new(4)), next.lineage(Index::new(4)));
}

#[test]
fn another_history_is_found_in_entries_that_the_follower_would_skip_or_cut() {
    // Entry 2.4 stands after an entry of term 2 here, and after one of term 1 there.
    let leader = SimLog::with_terms(&[1, 1, 1, 2, 3], hard_state(3));
    let mut cluster = Cluster::with_logs(config(3), vec![SimLog::with_terms(&[1, 1, 2, 2], hard_state(3)); 3]);
    let own = cluster.nodes[0].log.clone();
    assert_eq!(receive(&mut cluster, 2, append(&leader, 3, 1, 5)), AppendDecision::Drop);
    assert_eq!(outcomes(&mut cluster), [other_history(&own, 4)]);
    assert_eq!(cluster.nodes[0].log.last_id(), own.last_id());
    // Without any entry of the same name it is an ordinary conflict.
    let leader = SimLog::with_terms(&[1, 1, 3], hard_state(3));
    let mut cluster = Cluster::with_logs(config(3), vec![other_log(&[1, 1, 2]); 3]);
    assert_eq!(receive(&mut cluster, 2, append(&leader, 3, 2, 3)), AppendDecision::Append { skip: 0 });
}

#[test]
fn what_is_committed_in_one_history_stops_the_node_in_another() {
    let log = other_log(&[1, 1, 2]);
    let leader = SimLog::with_terms(&[1, 1, 2, 3], hard_state(3));
    let mut raft = Raft::new(config(3), hard_state(3), &log);
    raft.recall_committed(log.last_tip(), &log);
    for (prev, last) in [(3, 3), (2, 4)] {
        let (append, entries) = append(&leader, 3, prev, last);
        let decision = raft.step_append(node_id(2), &append, &tips(append.prev_lineage, &entries), &log);
        assert_eq!(decision, AppendDecision::Drop);
        let lineage = |log: &SimLog| log.lineage(Index::new(3)).expect("held");
        let kind =
            ContradictionKind::OtherHistory(Fork { entry: id(2, 3), ours: lineage(&log), theirs: lineage(&leader) });
        let expected = Contradiction { leader: node_id(2), term: Term::new(3), kind };
        let ready = raft.ready();
        assert_eq!((ready.contradiction, ready.messages), (Some(expected), Vec::new()));
    }
}

#[test]
fn what_was_noted_and_is_not_in_the_log_is_told_apart_too() {
    let leader = SimLog::with_terms(&[1, 1, 2, 3], hard_state(3));
    let lineage = |log: &SimLog| log.lineage(Index::new(3)).expect("held");
    for (noted, agrees) in [(&leader, true), (&other_log(&[1, 1, 2]), false)] {
        // The host lost power before the entry was on its disk.
        let log = SimLog::with_terms(&[1, 1], hard_state(3));
        let mut raft = Raft::new(config(3), hard_state(3), &log);
        raft.recall_committed(Tip { id: id(2, 3), lineage: lineage(noted) }, &log);
        let (append, entries) = append(&leader, 3, 2, 4);
        let decision = raft.step_append(node_id(2), &append, &tips(append.prev_lineage, &entries), &log);
        assert_eq!(decision == AppendDecision::Append { skip: 0 }, agrees);
        assert_eq!(raft.ready().contradiction.is_none(), agrees);
    }
}

#[test]
fn who_contradicts_itself_in_one_life_is_confirmed_no_more() {
    // Its memory was put back, or somebody speaks in its name who read its life. Which of its words were true nobody knows.
    let leader = SimLog::with_terms(&[1, 1, 3], hard_state(3));
    let mut cluster = Cluster::with_logs(config(3), vec![SimLog::with_terms(&[1, 1, 3], hard_state(3)); 3]);
    let own = cluster.nodes[0].log.clone();
    receive(&mut cluster, 2, append(&leader, 3, 3, 3));
    assert_eq!(outcomes(&mut cluster).len(), 1);
    let heartbeat = Message::Heartbeat { term: Term::new(3), life: 1, commit_index: Index::ZERO, round: 9 };
    step(&mut cluster, 0, 2, heartbeat.clone());
    assert_eq!(confirmed_round(&mut cluster), Some(9));
    let (mut lie, entries) = append(&leader, 3, 3, 3);
    lie.prev_lineage = Lineage::new(5);
    receive(&mut cluster, 2, (lie, entries));
    assert_eq!((outcomes(&mut cluster), cluster.raft(0).refused_count()), (vec![other_history(&own, 3)], 1));
    receive(&mut cluster, 2, append(&leader, 3, 3, 3));
    assert_eq!(outcomes(&mut cluster), [other_history(&own, 3)]);
    step(&mut cluster, 0, 2, heartbeat);
    assert_eq!(last_answer(&mut cluster), Some((1, 0, Index::ZERO)));
    cluster.with_raft(0, |raft, log| {
        assert_eq!(raft.read_index(ReadId(1), log), Err(ReadIndexError::NobodyToAsk));
    });
    // The leader of a later term is compared anew.
    let mut next = own.clone();
    next.append_entry(id(4, 4));
    assert_eq!(receive(&mut cluster, 2, append(&next, 4, 3, 4)), AppendDecision::Append { skip: 0 });
}

#[test]
fn a_leader_that_cuts_off_entries_of_its_own_term_is_the_second_one() {
    let leader = SimLog::with_terms(&[1, 3], hard_state(3));
    let mut cluster = Cluster::with_logs(config(3), vec![SimLog::with_terms(&[1, 1, 3], hard_state(3)); 3]);
    assert_eq!(receive(&mut cluster, 2, append(&leader, 3, 1, 2)), AppendDecision::Drop);
    let own = cluster.nodes[0].log.clone();
    assert_eq!((outcomes(&mut cluster), own.last_id()), (vec![other_history(&own, 2)], id(3, 3)));
    cluster.with_raft(0, |raft, _| {
        assert_eq!(raft.refused_count(), 1);
    });
    // A leader of a later term may do so.
    let leader = SimLog::with_terms(&[1, 4], hard_state(4));
    assert_eq!(receive(&mut cluster, 2, append(&leader, 4, 1, 2)), AppendDecision::Append { skip: 0 });
}

#[test]
fn a_leader_counts_a_follower_with_another_history_for_nothing_and_goes_on_asking() {
    let shared = SimLog::with_terms(&[1, 1, 2], hard_state(3));
    let mut cluster = Cluster::with_logs(config(3), vec![shared.clone(), shared, other_log(&[1, 1, 2])]);
    cluster.elect(0);
    assert_eq!(cluster.raft(0).role(), Role::Leader);
    cluster.propose(0, 3);
    tick_all(&mut cluster, 100);
    let last = cluster.nodes[0].log.last_id();
    assert_eq!(cluster.raft(0).commit_index(), last.index, "a quorum has it");
    let progress = cluster.raft(0).progress().find(|(node, _)| *node == node_id(3)).expect("a follower").1;
    assert_eq!((progress.match_index(), progress.next_index()), (Index::ZERO, Index::new(4)));
    assert_eq!(cluster.nodes[2].log.last_id(), id(2, 3), "nothing was cut");
    let refused = cluster.raft(0).refused_count();
    assert!((2..100).contains(&refused) && cluster.raft(2).refused_count() >= refused, "{refused}");
    assert_eq!(cluster.raft(2).commit_index(), Index::ZERO);
    // A false claim is ignored.
    let lie =
        AppendOutcome::OtherHistory { entry: last, lineage: cluster.nodes[0].log.lineage(last.index).expect("held") };
    let term = cluster.raft(0).term();
    step(&mut cluster, 0, 2, Message::AppendEntriesResponse { term, life: 1, outcome: lie });
    assert_eq!(cluster.raft(0).refused_count(), refused);
    // Somebody exchanges its directory.
    cluster.crash(2, 0);
    cluster.nodes[2].log = cluster.nodes[1].log.clone();
    cluster.restart(2);
    tick_all(&mut cluster, 100);
    assert_eq!(cluster.raft(2).commit_index(), cluster.raft(0).commit_index());
}
