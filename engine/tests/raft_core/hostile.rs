//! Messages that no honest peer sends, and followers that have no room: nothing trips an assertion, nothing is flooded.

use engine::limits::PENDING_READS_MAX;
use engine::raft::{AppendDecision, AppendEntries, AppendOutcome, HardState, Health, LogView, Message, Role, TERM_MAX};
use engine::types::{EntryId, Index, Lineage, NodeId, Term};

use crate::cluster::{Cluster, Packet, config, node_id};
use crate::paper::{id, led_by_first, sent_by, step, tick_all};
use crate::sim_log::SimLog;

fn heartbeat(term: Term, round: u64) -> Message {
    Message::Heartbeat { term, life: 1, commit_index: Index::ZERO, round }
}

fn append(term: u64, prev: EntryId, entries: &[EntryId]) -> (AppendEntries, Vec<EntryId>) {
    let last = Index::new(prev.index.get() + entries.len() as u64);
    let (term, first) = (Term::new(term), prev.index.next());
    (
        AppendEntries { term, life: 1, prev, prev_lineage: Lineage::START, first, last, commit_index: Index::ZERO },
        entries.to_vec(),
    )
}

fn receive(cluster: &mut Cluster, from: u64, (append, entries): (AppendEntries, Vec<EntryId>)) -> AppendDecision {
    let message = Message::AppendEntries(cluster.nodes[0].log.as_if_shared(append));
    cluster.receive(Packet { from: node_id(from), to: node_id(1), message, entries })
}

fn follower_with(terms: &[u64], term: Term) -> Cluster {
    let log = SimLog::with_terms(terms, HardState { term, vote: None });
    Cluster::with_logs(config(3), vec![log; 3])
}

fn refused(cluster: &Cluster) -> u64 {
    cluster.raft(0).refused_count()
}

#[test]
fn a_second_leader_of_a_term_is_refused_by_followers_and_by_the_leader() {
    let mut cluster = follower_with(&[1, 1], Term::new(1));
    step(&mut cluster, 0, 2, heartbeat(Term::new(2), 1));
    step(&mut cluster, 0, 3, heartbeat(Term::new(2), 1));
    assert_eq!(receive(&mut cluster, 3, append(2, id(1, 2), &[id(2, 3)])), AppendDecision::Drop);
    assert_eq!((refused(&cluster), cluster.raft(0).leader()), (2, Some(node_id(2))));

    let mut cluster = led_by_first();
    let term = cluster.raft(0).term();
    step(&mut cluster, 0, 2, heartbeat(term, 1));
    receive(&mut cluster, 2, append(term.get(), EntryId::ZERO, &[]));
    assert_eq!((refused(&cluster), cluster.raft(0).role()), (2, Role::Leader));
}

#[test]
fn a_leader_that_stepped_down_knows_that_nobody_else_leads_its_term() {
    let mut cluster = led_by_first();
    let term = cluster.raft(0).term();
    cluster.isolate(node_id(1));
    while cluster.raft(0).role() == Role::Leader {
        cluster.tick(0);
    }
    assert_eq!((cluster.raft(0).term(), cluster.raft(0).leader()), (term, None));
    cluster.heal();
    assert_eq!(receive(&mut cluster, 2, append(term.get(), EntryId::ZERO, &[])), AppendDecision::Drop);
    assert_eq!((refused(&cluster), cluster.raft(0).leader()), (1, None));
}

#[test]
fn a_leader_that_contradicts_itself_changes_no_log() {
    let mut cluster = follower_with(&[1, 1, 2], Term::new(2));
    receive(&mut cluster, 2, append(3, id(2, 3), &[]));
    for (at, lie) in [append(3, id(1, 3), &[]), append(3, id(1, 1), &[id(2, 2), id(3, 3)])].into_iter().enumerate() {
        assert_eq!(receive(&mut cluster, 2, lie), AppendDecision::Drop);
        assert_eq!(refused(&cluster), at as u64 + 1);
    }
    assert_eq!(cluster.nodes[0].log.last_id(), id(2, 3));
}

/// A message raises the term by so much at most.
const LEAP: u64 = 1 << 32;

#[test]
fn a_term_far_above_the_own_one_is_refused_whatever_names_it() {
    let term = TERM_MAX;
    let nothing = Index::ZERO;
    let far = [
        Message::RequestPreVote { term, last: id(1, 9) },
        Message::TimeoutNow { term, last_index: nothing },
        heartbeat(term, 1),
        Message::RequestVote { term, last: id(1, 9), transfer: true },
        Message::RequestVoteResponse { term, granted: true },
        Message::PreVoteResponse { term, campaign_term: Term::new(2), granted: false },
        Message::HeartbeatResponse {
            term,
            life: 1,
            round: 0,
            matched_index: nothing,
            persisted_index: nothing,
            lineage: None,
            health: Health::default(),
        },
        Message::RepairResponse { term, life: 1, nonce: 0, last_index: nothing, challenge: 0 },
        Message::AppendEntries(append(term.get(), EntryId::ZERO, &[]).0),
    ];
    let mut cluster = follower_with(&[1], Term::new(1));
    for (at, message) in far.iter().enumerate() {
        step(&mut cluster, 0, 2, message.clone());
        // The third is the first that speaks of a term that somebody has. All others come too soon after it.
        let term = if at < 2 { 1 } else { 1 + LEAP };
        assert_eq!((refused(&cluster), cluster.raft(0).term()), (at as u64 + 1, Term::new(term)));
        assert_eq!((cluster.raft(0).leader(), cluster.raft(0).hard_state().vote), (None, None));
    }
    // A node that was away for long is not refused by its peers, nor refuses them.
    let mut cluster = follower_with(&[1], Term::new(1));
    step(&mut cluster, 0, 2, heartbeat(Term::new(1_000_000_000), 1));
    assert_eq!(cluster.raft(0).term(), Term::new(1_000_000_000));
}

#[test]
fn the_term_makes_one_leap_in_an_election_timeout() {
    let mut cluster = follower_with(&[1], Term::new(1));
    let mut leaps = 0;
    for _ in 0..50 {
        for _ in 0..20 {
            let before = cluster.raft(0).term().get();
            step(&mut cluster, 0, 2, heartbeat(Term::new(before + LEAP), 1));
            leaps += u64::from(cluster.raft(0).term().get() != before);
        }
        cluster.tick(0);
    }
    let timeouts = 50 / u64::from(config(3).election_ticks);
    assert!((timeouts..=timeouts + 1).contains(&leaps), "{leaps} leaps in {timeouts} election timeouts");
}

/// Nodes of which the first was led so many leaps astray.
fn led_astray(leaps: u64) -> Vec<SimLog> {
    let log_in = |term| SimLog::with_terms(&[1], HardState { term: Term::new(term), vote: None });
    vec![log_in(1 + leaps * LEAP), log_in(1), log_in(1)]
}

#[test]
fn nodes_whose_terms_are_many_leaps_apart_meet_again() {
    let mut cluster = Cluster::with_logs(config(3), led_astray(5));
    tick_all(&mut cluster, 2000);
    let leader = cluster.leader().expect("somebody leads");
    let term = cluster.raft(leader).term();
    assert!(term.get() > 5 * LEAP, "the term of the one that was led astray is the latest: {term}");
    for at in 0..3 {
        let raft = cluster.raft(at);
        assert_eq!((raft.term(), raft.leader()), (term, Some(cluster.raft(leader).id())));
    }
}

#[test]
fn a_node_under_repair_that_was_led_astray_is_repaired() {
    let mut cluster = Cluster::with_logs(config(3), led_astray(5));
    cluster.crash(0, usize::MAX);
    cluster.damage(0, 1, false);
    cluster.restart(0);
    assert!(cluster.raft(0).repair_view().is_some() && cluster.raft(0).term().get() > 5 * LEAP);
    tick_all(&mut cluster, 2000);
    assert!(cluster.raft(0).repair_view().is_none(), "{:?}", cluster.raft(0).repair_view());
    assert_eq!(cluster.raft(0).leader(), cluster.leader().map(|leader| cluster.raft(leader).id()));
}

#[test]
fn questions_of_nodes_under_repair_keep_nobody_from_reading() {
    let mut cluster = led_by_first();
    let term = cluster.raft(0).term();
    for nonce in 0..2 * PENDING_READS_MAX as u64 {
        step(&mut cluster, 0, 2, Message::RepairRequest { term, nonce, last: id(0, 0), challenge: 0 });
    }
    assert!(cluster.read(0).is_some(), "one question of each node waits at most");
}

#[test]
fn nobody_is_voted_for_in_term_0() {
    let mut cluster = follower_with(&[], Term::ZERO);
    step(&mut cluster, 0, 2, Message::RequestPreVote { term: Term::ZERO, last: EntryId::ZERO });
    step(&mut cluster, 0, 2, Message::RequestVote { term: Term::ZERO, last: EntryId::ZERO, transfer: true });
    assert_eq!(cluster.raft(0).hard_state(), HardState { term: Term::ZERO, vote: None });
    for (_, message) in sent_by(&mut cluster, 1) {
        let grants = matches!(
            message,
            Message::PreVoteResponse { granted: true, .. } | Message::RequestVoteResponse { granted: true, .. }
        );
        assert!(!grants, "{message:?}");
    }
}

#[test]
fn without_a_next_term_nobody_campaigns() {
    let mut cluster = follower_with(&[1], TERM_MAX);
    tick_all(&mut cluster, 100);
    step(&mut cluster, 0, 2, heartbeat(TERM_MAX, 1));
    step(&mut cluster, 0, 2, Message::TimeoutNow { term: TERM_MAX, last_index: Index::ZERO });
    assert_eq!((cluster.raft(0).term(), cluster.raft(0).leader()), (TERM_MAX, Some(node_id(2))));
}

#[test]
fn an_answer_to_a_round_that_was_not_begun_confirms_nothing() {
    let mut cluster = led_by_first();
    let (term, nothing) = (cluster.raft(0).term(), Index::ZERO);
    let answer = Message::HeartbeatResponse {
        term,
        life: 1,
        round: 1 << 40,
        matched_index: nothing,
        persisted_index: nothing,
        lineage: None,
        health: Health::default(),
    };
    step(&mut cluster, 0, 2, answer);
    assert_eq!(refused(&cluster), 1);
}

fn no_room(index: u64) -> AppendOutcome {
    AppendOutcome::NoRoom { matched_index: Index::new(index), persisted_index: Index::new(index), lineage: None }
}

fn accepted(index: u64) -> AppendOutcome {
    AppendOutcome::Accepted { matched_index: Index::new(index), persisted_index: Index::new(index), lineage: None }
}

/// Other tests are about lineages.
pub fn without_lineage(mut outcome: AppendOutcome) -> AppendOutcome {
    if let AppendOutcome::Accepted { lineage, .. }
    | AppendOutcome::NoRoom { lineage, .. }
    | AppendOutcome::Damaged { lineage, .. } = &mut outcome
    {
        *lineage = None;
    }
    outcome
}

fn outcomes(cluster: &mut Cluster) -> Vec<AppendOutcome> {
    let outcome = |(_, message)| match message {
        Message::AppendEntriesResponse { outcome, .. } => Some(without_lineage(outcome)),
        _ => None,
    };
    sent_by(cluster, 1).into_iter().filter_map(outcome).collect()
}

#[test]
fn a_follower_without_room_counts_for_what_it_has_in_a_new_term() {
    let mut cluster = follower_with(&[1], Term::new(2));
    let (message, _) = append(2, id(1, 1), &[id(2, 2)]);
    let message = cluster.nodes[0].log.as_if_shared(message);
    cluster.with_raft(0, |raft, log| {
        assert!(raft.admit_append(node_id(2), &message, log));
        raft.on_no_room(&message, log);
    });
    assert_eq!(outcomes(&mut cluster), [no_room(1)]);
}

#[test]
fn a_follower_without_room_says_so_and_says_when_it_has_some_until_it_is_heard() {
    let mut cluster = follower_with(&[1], Term::new(1));
    let (message, _) = append(1, id(1, 1), &[id(1, 2)]);
    let message = cluster.nodes[0].log.as_if_shared(message);
    let refuse = |cluster: &mut Cluster| {
        cluster.with_raft(0, |raft, log| {
            assert!(raft.admit_append(node_id(2), &message, log));
            raft.on_no_room(&message, log);
        });
    };
    receive(&mut cluster, 2, append(1, id(1, 1), &[]));
    assert_eq!(outcomes(&mut cluster), [accepted(1)]);
    refuse(&mut cluster);
    assert_eq!(outcomes(&mut cluster), [no_room(1)]);
    // A question without entries is answered, but is no reason to send some.
    receive(&mut cluster, 2, append(1, id(1, 1), &[]));
    assert_eq!(outcomes(&mut cluster), [no_room(1)]);
    cluster.with_raft(0, |raft, log| raft.on_room(log));
    assert_eq!(outcomes(&mut cluster), [no_room(1), accepted(1)], "the leader may not know that entries were dropped");
    for _ in 0..2 {
        step(&mut cluster, 0, 2, heartbeat(Term::new(1), 1));
        assert_eq!(outcomes(&mut cluster), [accepted(1)], "the news may have got lost");
    }
    receive(&mut cluster, 2, append(1, id(1, 1), &[id(1, 2)]));
    cluster.sync(0);
    assert_eq!(outcomes(&mut cluster), [accepted(2)]);
    step(&mut cluster, 0, 2, heartbeat(Term::new(1), 1));
    assert_eq!(outcomes(&mut cluster), []);
}

/// Entries that the leader sent to a node and nobody received.
fn entries_sent_to(cluster: &mut Cluster, to: NodeId) -> u64 {
    let entries = |(receiver, message)| match message {
        Message::AppendEntries(append) if receiver == to => Some(append.entries_count()),
        _ => None,
    };
    sent_by(cluster, 1).into_iter().filter_map(entries).sum()
}

#[test]
fn a_leader_sends_nothing_to_a_follower_without_room_and_everything_once_there_is_some() {
    let mut cluster = led_by_first();
    let term = cluster.raft(0).term();
    let matched = cluster.nodes[0].log.last_id().index.get();
    assert!(cluster.propose(0, 1));
    assert_eq!(entries_sent_to(&mut cluster, node_id(2)), 1);
    let answer = |outcome| Message::AppendEntriesResponse { term, life: 1, outcome };
    step(&mut cluster, 0, 2, answer(no_room(matched)));
    let (matched_index, persisted_index) = (Index::new(matched), Index::new(matched));
    for _ in 0..10 {
        assert!(cluster.propose(0, 1));
        cluster.tick(0);
        let alive = Message::HeartbeatResponse {
            term,
            life: 1,
            round: 0,
            matched_index,
            persisted_index,
            lineage: None,
            health: Health::default(),
        };
        step(&mut cluster, 0, 2, alive);
        assert_eq!(entries_sent_to(&mut cluster, node_id(2)), 0);
        let alive = Message::HeartbeatResponse {
            term,
            life: 1,
            round: 0,
            matched_index,
            persisted_index,
            lineage: None,
            health: Health::default(),
        };
        step(&mut cluster, 0, 3, alive);
    }
    step(&mut cluster, 0, 2, answer(accepted(matched)));
    assert!(entries_sent_to(&mut cluster, node_id(2)) > 0);
}

#[test]
fn a_node_that_doubts_its_leader_follows_no_other_in_its_term() {
    let mut cluster = follower_with(&[1, 1], Term::new(1));
    let term = Term::new(2);
    let told = Message::Heartbeat { term, life: 1, commit_index: Index::new(50), round: 1 };
    step(&mut cluster, 0, 2, told);
    while cluster.raft(0).role() == Role::Follower {
        cluster.tick(0);
    }
    assert_eq!((cluster.raft(0).role(), cluster.raft(0).term()), (Role::PreCandidate, term));
    let before = (refused(&cluster), cluster.raft(0).commit_index());
    step(&mut cluster, 0, 3, heartbeat(term, 1));
    assert_eq!(receive(&mut cluster, 3, append(2, id(1, 2), &[id(2, 3)])), AppendDecision::Drop);
    assert_eq!((refused(&cluster), cluster.raft(0).commit_index()), (before.0 + 2, before.1));
    // The leader of the term is followed again.
    step(&mut cluster, 0, 2, heartbeat(term, 2));
    assert_eq!(cluster.raft(0).leader(), Some(node_id(2)));
}

#[test]
fn a_commit_index_that_lies_counts_until_the_next_heartbeat() {
    let mut cluster = follower_with(&[1, 1], Term::new(1));
    let term = Term::new(2);
    step(&mut cluster, 0, 2, Message::Heartbeat { term, life: 1, commit_index: Index::new(1 << 60), round: 1 });
    step(&mut cluster, 0, 2, heartbeat(term, 2));
    assert!(matches!(receive(&mut cluster, 2, append(2, id(1, 2), &[id(2, 3)])), AppendDecision::Append { .. }));
    assert!(cluster.raft(0).commit_index() < Index::new(3));
}

#[test]
fn a_follower_that_lacks_what_it_acknowledged_is_sent_it_again() {
    let mut cluster = led_by_first();
    assert!(cluster.propose(0, 3));
    cluster.settle();
    let (term, peer) = (cluster.raft(0).term(), node_id(2));
    let had = cluster.raft(0).commit_index();
    cluster.disconnect(0, 1);
    cluster.connect(0, 1);
    sent_by(&mut cluster, 1);
    let before = refused(&cluster);
    let rejected = AppendOutcome::Rejected { prev_index: had, hint: EntryId::ZERO };
    step(&mut cluster, 0, 2, Message::AppendEntriesResponse { term, life: 1, outcome: rejected });
    let sent = sent_by(&mut cluster, 1);
    let is_first =
        |message: &Message| matches!(message, Message::AppendEntries(append) if append.prev == EntryId::ZERO);
    assert!(sent.iter().any(|(to, message)| *to == peer && is_first(message)), "{sent:?}");
    assert_eq!(refused(&cluster), before + 1, "it is said");
}
