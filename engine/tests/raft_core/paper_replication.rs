//! Replication and commitment, rule by rule, each where the thesis states it.

use engine::raft::{
    AppendDecision, AppendEntries, AppendOutcome, Config, HardState, Health, LogView, Message, ProgressState, Role,
};
use engine::types::{EntryId, Index, Lineage, Term};

use crate::cluster::{Cluster, Packet, config, node_id};
use crate::hostile::without_lineage;
use crate::paper::{id, led_by_first, receive_all, sent_by, step, tick_all};
use crate::sim_log::SimLog;

/// A cluster of three that all have this durable log, none of which leads.
fn follower_with(terms: &[u64], term: u64) -> Cluster {
    let log = SimLog::with_terms(terms, HardState { term: Term::new(term), vote: None });
    Cluster::with_logs(config(3), vec![log; 3])
}

fn append(term: u64, prev: EntryId, entries: &[EntryId], commit: u64) -> (AppendEntries, Vec<EntryId>) {
    let first = prev.index.next();
    let last = Index::new(prev.index.get() + entries.len() as u64);
    let append = AppendEntries {
        term: Term::new(term),
        life: 1,
        prev,
        prev_lineage: Lineage::START,
        first,
        last,
        commit_index: Index::new(commit),
    };
    (append, entries.to_vec())
}

/// Node 1 gets this from node 2; returns what it decided and carried out.
fn receive(cluster: &mut Cluster, (append, entries): (AppendEntries, Vec<EntryId>)) -> AppendDecision {
    let message = Message::AppendEntries(cluster.nodes[0].log.as_if_shared(append));
    cluster.receive(Packet { from: node_id(2), to: node_id(1), message, entries })
}

fn outcomes(cluster: &mut Cluster) -> Vec<AppendOutcome> {
    let outcome = |message| match message {
        Message::AppendEntriesResponse { outcome, .. } => Some(without_lineage(outcome)),
        _ => None,
    };
    sent_by(cluster, 1).into_iter().filter_map(|(_, message)| outcome(message)).collect()
}

fn accepted(matched: u64, persisted: u64) -> AppendOutcome {
    AppendOutcome::Accepted {
        matched_index: Index::new(matched),
        persisted_index: Index::new(persisted),
        lineage: None,
    }
}

fn rejected(prev: u64, hint: EntryId) -> AppendOutcome {
    AppendOutcome::Rejected { prev_index: Index::new(prev), hint }
}

#[test]
fn section_3_5_entries_are_acknowledged_when_durable_and_one_answer_covers_many() {
    let mut cluster = follower_with(&[], 1);
    receive(&mut cluster, append(1, EntryId::ZERO, &[id(1, 1)], 0));
    // A leader that probes is told at once that the logs agree.
    assert_eq!(outcomes(&mut cluster), [accepted(1, 0)]);
    receive(&mut cluster, append(1, id(1, 1), &[id(1, 2), id(1, 3)], 0));
    assert_eq!(outcomes(&mut cluster), []);
    cluster.sync(0);
    assert_eq!(outcomes(&mut cluster), [accepted(3, 3)]);
}

#[test]
fn section_3_5_a_gap_and_a_conflict_are_rejected_with_a_hint() {
    // (log, prev, hint): the hint is the last entry that may be shared.
    let cases: [(&[u64], EntryId, EntryId); 5] = [
        (&[], id(4, 5), EntryId::ZERO),
        (&[1, 1, 1], id(1, 7), id(1, 3)),
        (&[1, 1, 3, 3, 3], id(2, 4), id(1, 2)),
        (&[1, 2, 2, 2], id(4, 3), id(2, 2)),
        (&[2, 2, 2], id(1, 2), EntryId::ZERO),
    ];
    for (terms, prev, hint) in cases {
        let mut cluster = follower_with(terms, 5);
        let decision = receive(&mut cluster, append(5, prev, &[], 0));
        assert_eq!(decision, AppendDecision::Drop);
        assert_eq!(outcomes(&mut cluster), [rejected(prev.index.get(), hint)], "log {terms:?}, behind {prev}");
    }
}

#[test]
fn section_3_5_appends_are_idempotent_and_a_late_one_cuts_nothing_off() {
    let mut cluster = follower_with(&[1, 1, 1, 1], 1);
    let decision = receive(&mut cluster, append(1, id(1, 1), &[id(1, 2), id(1, 3)], 0));
    assert_eq!(decision, AppendDecision::Drop);
    assert_eq!(outcomes(&mut cluster), [accepted(3, 3)], "no more than the message covers is known to match");
    receive(&mut cluster, append(1, EntryId::ZERO, &[id(1, 1)], 0));
    assert_eq!(outcomes(&mut cluster), [accepted(3, 3)]);
    assert_eq!(cluster.nodes[0].log.last_id(), id(1, 4));
}

#[test]
fn section_3_5_a_conflicting_suffix_is_superseded_from_the_first_difference_on() {
    let mut cluster = follower_with(&[1, 1, 2, 2, 2], 2);
    let decision = receive(&mut cluster, append(3, id(1, 1), &[id(1, 2), id(3, 3)], 0));
    assert_eq!(decision, AppendDecision::Append { skip: 1 });
    assert_eq!(cluster.nodes[0].log.last_id(), id(3, 3));
    cluster.sync(0);
    assert!(outcomes(&mut cluster).contains(&accepted(3, 3)));
}

#[test]
fn section_3_5_a_durable_suffix_of_another_term_is_never_acknowledged() {
    let mut cluster = follower_with(&[1, 1, 2, 2], 2);
    receive(&mut cluster, append(3, id(1, 1), &[], 9));
    cluster.sync(0);
    assert_eq!(outcomes(&mut cluster), [accepted(1, 1)]);
    assert_eq!(cluster.raft(0).commit_index(), Index::new(1), "nor committed, whatever the leader has committed");
    let heartbeat = Message::Heartbeat { term: Term::new(3), life: 1, commit_index: Index::new(4), round: 0 };
    step(&mut cluster, 0, 2, heartbeat);
    assert_eq!(cluster.raft(0).commit_index(), Index::new(1));
    // A later leader's log need not go on where this one's did.
    let mut cluster = follower_with(&[1, 1, 2, 2], 2);
    let heartbeat = Message::Heartbeat { term: Term::new(4), life: 1, commit_index: Index::ZERO, round: 7 };
    receive(&mut cluster, append(3, id(1, 1), &[id(1, 2), id(3, 3)], 1));
    cluster.sync(0);
    sent_by(&mut cluster, 1);
    step(&mut cluster, 0, 3, heartbeat);
    cluster.sync(0);
    // Nothing of it was compared yet, so that nothing is acknowledged, and the leader is not confirmed either: it could be one
    // that lacks what is committed.
    let (term, nothing) = (Term::new(4), Index::ZERO);
    let answer = Message::HeartbeatResponse {
        term,
        life: 1,
        round: 0,
        matched_index: nothing,
        persisted_index: nothing,
        lineage: None,
        health: Health { applied_index: Index::new(1), ..Health::default() },
    };
    assert_eq!(sent_by(&mut cluster, 1), [(node_id(3), answer)]);
}

#[test]
fn section_3_8_nothing_is_promised_in_a_term_that_is_not_durable() {
    let mut cluster = follower_with(&[1], 1);
    receive(&mut cluster, append(2, id(1, 1), &[], 0));
    step(&mut cluster, 0, 2, Message::Heartbeat { term: Term::new(2), life: 1, commit_index: Index::ZERO, round: 1 });
    receive(&mut cluster, append(2, id(2, 9), &[], 0));
    assert_eq!(sent_by(&mut cluster, 1), []);
    cluster.sync(0);
    assert_eq!(sent_by(&mut cluster, 1).len(), 3);
}

#[test]
fn section_3_5_malformed_appends_are_dropped() {
    let mut cluster = follower_with(&[1, 1], 1);
    let (good, entries) = append(3, id(1, 2), &[id(2, 3), id(3, 4)], 0);
    let index = Index::new;
    let malformed = [
        (AppendEntries { first: index(4), ..good }, entries.clone()),
        (AppendEntries { last: index(5), ..good }, entries.clone()),
        (AppendEntries { last: index(u64::MAX), ..good }, entries.clone()),
        (AppendEntries { prev: id(1, u64::MAX), ..good }, entries.clone()),
        (AppendEntries { prev: id(0, 2), ..good }, entries.clone()),
        (AppendEntries { term: Term::new(2), life: 1, ..good }, entries.clone()),
        (good, vec![id(2, 3)]),
        (good, vec![id(2, 3), id(3, 5)]),
        (good, vec![id(3, 3), id(2, 4)]),
        (good, vec![id(0, 3), id(3, 4)]),
    ];
    for message in malformed {
        assert_eq!(receive(&mut cluster, message.clone()), AppendDecision::Drop, "{message:?}");
    }
    assert_eq!((sent_by(&mut cluster, 1).len(), cluster.raft(0).term()), (0, Term::new(1)));
    assert_eq!(receive(&mut cluster, (good, entries)), AppendDecision::Append { skip: 0 });
}

#[test]
fn an_append_that_found_room_for_a_part_only_matches_no_further_than_before_it() {
    let mut cluster = follower_with(&[1], 1);
    cluster.nodes[0].log_room = 1;
    receive(&mut cluster, append(1, id(1, 1), &[id(1, 2), id(1, 3)], 3));
    cluster.sync(0);
    assert_eq!(outcomes(&mut cluster), [accepted(1, 1)]);
    assert_eq!(cluster.raft(0).commit_index(), Index::new(1));
}

#[test]
fn section_3_6_2_an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    // Figure 3.7: entry 2.2 reaches a quorum in term 4, while a node with 3.2 could still be elected.
    let log = |terms: &[u64]| SimLog::with_terms(terms, HardState { term: Term::new(3), vote: None });
    let logs = vec![log(&[1, 2]), log(&[1, 2]), log(&[1]), log(&[1]), log(&[1, 3])];
    let mut cluster = Cluster::with_logs(Config { append_bytes_limit: 1, ..config(5) }, logs);
    cluster.isolate(node_id(5));
    while cluster.raft(0).role() != Role::Leader {
        cluster.tick(0);
        cluster.sync(0);
        (0..cluster.network.len()).for_each(|_| cluster.deliver(0));
        (1..4).for_each(|at| {
            cluster.sync(at);
        });
    }
    // Node 3 gets entry 2 but not yet the no-op of term 4 after it.
    cluster.nodes[2].log_room = 1;
    cluster.nodes[3].log_room = 0;
    cluster.nodes[1].log_room = 0;
    cluster.settle();
    let has_old = cluster.nodes.iter().filter(|node| node.log.is_durable(id(2, 2))).count();
    assert_eq!((has_old, cluster.raft(0).commit_index()), (3, Index::ZERO));
    cluster.nodes.iter_mut().for_each(|node| node.log_room = usize::MAX);
    tick_all(&mut cluster, 20);
    assert_eq!(cluster.raft(0).commit_index(), cluster.nodes[0].log.last_id().index);
}

#[test]
fn section_10_2_1_followers_commit_before_the_leaders_disk_and_never_the_leader_alone() {
    let mut cluster = led_by_first();
    cluster.nodes[0].disk_hangs = true;
    cluster.propose(0, 1);
    cluster.settle();
    assert_eq!(cluster.raft(0).commit_index(), Index::new(2));
    assert_eq!(cluster.nodes[0].log.persisted_index(), Index::new(1));
    cluster.heal();
    cluster.isolate(node_id(1));
    cluster.propose(0, 1);
    cluster.settle();
    assert_eq!(cluster.nodes[0].log.persisted_index(), Index::new(3));
    assert_eq!(cluster.raft(0).commit_index(), Index::new(2));
}

#[test]
fn section_10_2_1_the_window_bounds_messages_and_bytes_and_messages_are_cut() {
    let sizes = |cluster: &Cluster, message: &Message| match message {
        Message::AppendEntries(append) => {
            (append.first.get()..=append.last.get()).map(|at| cluster.nodes[0].log.entry_bytes(Index::new(at))).sum()
        }
        _ => 0u64,
    };
    for (messages, bytes) in [(3, 1000), (100, 45), (1, 1)] {
        let settings = Config { inflight_messages_limit: messages, inflight_bytes_limit: bytes, ..config(3) };
        let mut cluster = Cluster::new(Config { append_bytes_limit: 25, ..settings });
        cluster.elect(0);
        tick_all(&mut cluster, 2);
        cluster.propose(0, 40);
        let to_second = sent_by(&mut cluster, 1).into_iter().filter(|(to, _)| *to == node_id(2));
        let sent: Vec<u64> = to_second.map(|(_, message)| sizes(&cluster, &message)).collect();
        assert!(!sent.is_empty() && sent.len() <= messages, "{sent:?}");
        assert!(sent.iter().all(|&size| size <= 25), "{sent:?}");
        assert!(sent.len() == 1 || sent.iter().sum::<u64>() <= bytes, "{sent:?}");
    }
}

#[test]
fn a_window_of_many_messages_opens_with_the_answers_and_is_not_sent_at_once() {
    let mut cluster = Cluster::new(Config { append_bytes_limit: 25, inflight_bytes_limit: 100_000, ..config(3) });
    cluster.elect(0);
    tick_all(&mut cluster, 2);
    cluster.isolate(node_id(2));
    cluster.propose(0, 200);
    tick_all(&mut cluster, 2);
    cluster.heal();
    let last = cluster.nodes[0].log.last_id();
    let is_append = |packet: &Packet| packet.to == node_id(2) && matches!(packet.message, Message::AppendEntries(_));
    let under_way = |cluster: &Cluster| cluster.network.iter().filter(|packet| is_append(packet)).count();
    let (mut at_once, mut most) = (0, 0);
    while cluster.nodes[1].log.last_id() != last {
        (0..3).for_each(|at| cluster.tick(at));
        while !cluster.network.is_empty() {
            let before = under_way(&cluster) - usize::from(is_append(&cluster.network[0]));
            cluster.deliver(0);
            at_once = at_once.max(under_way(&cluster) - before);
            most = most.max(under_way(&cluster));
            (0..3).for_each(|at| {
                cluster.sync(at);
            });
        }
    }
    // Copying a message takes time in which nothing else happens.
    assert!(at_once <= 3 && most > at_once, "{at_once} messages at once, {most} under way");
}

#[test]
fn a_broken_connection_is_probed_anew_as_soon_as_the_follower_answers() {
    let mut cluster = led_by_first();
    cluster.propose(0, 2);
    cluster.disconnect(0, 1);
    let state = |cluster: &Cluster| {
        let found = cluster.raft(0).progress().find(|(node, _)| *node == node_id(2));
        found.map(|(_, progress)| (progress.state(), progress.next_index().get(), progress.inflights().count()))
    };
    assert_eq!(state(&cluster), Some((ProgressState::Probe, 2, 0)));
    cluster.propose(0, 1);
    assert!(cluster.network.iter().all(|packet| packet.to != node_id(2)), "nobody is there to receive it");
    cluster.connect(0, 1);
    cluster.settle();
    assert_eq!(state(&cluster), Some((ProgressState::Replicate, 5, 0)));
    assert_eq!(cluster.nodes[1].log.last_id(), id(1, 4), "within the round trips, without a tick");
}

#[test]
fn a_lost_acknowledgement_is_made_up_for_by_the_next_heartbeat() {
    let mut cluster = led_by_first();
    cluster.propose(0, 1);
    cluster.deliver_all();
    (1..3).for_each(|at| {
        cluster.sync(at);
    });
    cluster.network.clear();
    assert_eq!(cluster.raft(0).commit_index(), Index::new(1));
    (0..2).for_each(|_| cluster.tick(0));
    cluster.deliver_all();
    assert_eq!(cluster.raft(0).commit_index(), Index::new(2));
}

#[test]
fn stale_rejections_and_impossible_acknowledgements_change_nothing() {
    let mut cluster = led_by_first();
    cluster.propose(0, 3);
    cluster.settle();
    let term = Term::new(1);
    // A match beyond the leader's log is another matter: see `lives`.
    let beyond = [accepted(2, 4)];
    let stale = [rejected(1, EntryId::ZERO), rejected(4, id(1, 1)), rejected(70, id(1, 2))];
    for outcome in beyond.into_iter().chain(stale) {
        step(&mut cluster, 0, 2, Message::AppendEntriesResponse { term, life: 1, outcome });
        assert_eq!(sent_by(&mut cluster, 1), [], "{outcome:?}");
    }
    let commit_index = cluster.raft(0).commit_index();
    assert_eq!(commit_index, Index::new(4));
    let states: Vec<_> = cluster.raft(0).progress().map(|(_, progress)| progress.state()).collect();
    assert_eq!(states, [ProgressState::Replicate; 2]);
}

#[test]
fn several_rejections_of_one_pipeline_cause_one_probe() {
    let mut cluster = led_by_first();
    cluster.propose(0, 4);
    // The first of four messages to node 2 gets lost; the other three leave a gap each.
    let lost = cluster.network.iter().position(|packet| packet.to == node_id(2)).expect("it was sent");
    cluster.network.remove(lost);
    cluster.network.retain(|packet| packet.to == node_id(2));
    (0..3).for_each(|_| cluster.deliver(0));
    assert_eq!(cluster.network.len(), 3);
    (0..3).for_each(|_| cluster.deliver(0));
    let sent = sent_by(&mut cluster, 1);
    assert_eq!(sent.len(), 1, "{sent:?}");
}

#[test]
fn entries_that_arrived_but_wait_for_a_disk_are_not_sent_again() {
    let mut cluster = led_by_first();
    cluster.nodes[1].disk_hangs = true;
    cluster.propose(0, 2);
    cluster.settle();
    for _ in 0..60 {
        (0..3).for_each(|at| cluster.tick(at));
        let appends = cluster.network.iter().filter(|packet| matches!(packet.message, Message::AppendEntries(_)));
        assert_eq!(appends.count(), 0);
        cluster.settle();
    }
    cluster.heal();
    tick_all(&mut cluster, 2);
    assert_eq!(cluster.raft(1).commit_index(), Index::new(3));
}

#[test]
fn an_old_leader_whose_disk_hangs_learns_what_its_successor_commits_whatever_overtakes_what() {
    let mut cluster = led_by_first();
    cluster.nodes[0].disk_hangs = true;
    cluster.propose(0, 3);
    cluster.transfer(0, node_id(2));
    let is_overtaken = |packet: &Packet| packet.to == node_id(1) && matches!(packet.message, Message::AppendEntries(_));
    let mut overtaken = Vec::new();
    // Several heartbeats overtake the entries.
    for _ in 0..8 {
        loop {
            let (late, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut cluster.network).into_iter().partition(&is_overtaken);
            overtaken.extend(late);
            cluster.network = rest.into();
            let is_over = cluster.network.is_empty();
            cluster.deliver(0);
            let has_synced = (0..3).filter(|at| cluster.sync(*at)).count() > 0;
            if is_over && !has_synced {
                break;
            }
        }
        (0..3).for_each(|at| cluster.tick(at));
    }
    assert_eq!(cluster.leader(), Some(1));
    let committed = cluster.raft(1).commit_index();
    assert!(cluster.raft(0).commit_index() < committed, "it has not seen the entries");
    receive_all(&mut cluster, overtaken);
    tick_all(&mut cluster, 2);
    // It promised nothing of its new term, so that its successor does not know what it has.
    assert_eq!(cluster.raft(0).commit_index(), committed);
}
