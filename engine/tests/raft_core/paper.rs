//! Elections, leases, transfers and reads, rule by rule, each where the thesis states it.

use engine::limits::PENDING_READS_MAX;
use engine::raft::{HardState, LogView, Message, Raft, ReadId, ReadIndexError, Role, Speaker, TransferError, Unfit};
use engine::types::{EntryId, Index, NodeId, Term};

use crate::cluster::{Cluster, Packet, config, node_id};
use crate::sim_log::SimLog;

/// Three nodes of which node 1 leads in term 1, everything settled.
pub fn led_by_first() -> Cluster {
    let mut cluster = Cluster::new(config(3));
    cluster.elect(0);
    tick_all(&mut cluster, 2);
    assert!(cluster.is_leader(0));
    cluster
}

/// Time passes everywhere, with everything delivered and synced in between.
pub fn tick_all(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        (0..cluster.nodes.len()).for_each(|at| cluster.tick(at));
        cluster.settle();
    }
}

/// Steps a message into a node as if `from` had sent it.
pub fn step(cluster: &mut Cluster, at: usize, from: u64, message: Message) {
    cluster.with_raft(at, |raft, log| raft.step(node_id(from), Speaker::default(), message, log));
}

/// What node `from` sent and nobody received yet; it is taken off the network.
pub fn sent_by(cluster: &mut Cluster, from: u64) -> Vec<(NodeId, Message)> {
    let (sent, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut cluster.network).into_iter().partition(|packet| packet.from == node_id(from));
    cluster.network = rest.into();
    sent.into_iter().map(|packet| (packet.to, packet.message)).collect()
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term::new(term), Index::new(index))
}

fn request_vote(term: u64, last: EntryId) -> Message {
    Message::RequestVote { term: Term::new(term), last, transfer: false }
}

fn vote(term: u64, granted: bool) -> Message {
    Message::RequestVoteResponse { term: Term::new(term), granted }
}

fn heartbeat(term: u64) -> Message {
    Message::Heartbeat { term: Term::new(term), life: 1, commit_index: Index::ZERO, round: 0 }
}

#[test]
fn section_3_3_a_node_starts_as_follower_with_its_recovered_hard_state() {
    let hard_state = HardState { term: Term::new(7), vote: Some(node_id(3)) };
    let raft = Raft::new(config(3), hard_state, &SimLog::with_terms(&[2, 5], hard_state));
    assert_eq!((raft.role(), raft.hard_state(), raft.leader()), (Role::Follower, hard_state, None));
    assert_eq!(raft.commit_index(), Index::ZERO);
}

#[test]
fn section_3_4_election_timeouts_are_spread_over_one_to_two_election_ticks() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut cluster = Cluster::new(engine::raft::Config { seed, ..config(3) });
        let mut ticks = 0;
        while cluster.raft(0).role() == Role::Follower {
            cluster.tick(0);
            ticks += 1;
        }
        assert!((10..20).contains(&ticks), "{ticks} ticks");
        seen.insert(ticks);
    }
    assert!(seen.len() >= 8, "only {seen:?} of 10..20");
}

#[test]
fn section_3_4_a_vote_is_given_once_per_term_and_only_when_durable() {
    let mut cluster = Cluster::new(config(3));
    step(&mut cluster, 0, 2, request_vote(1, EntryId::ZERO));
    step(&mut cluster, 0, 3, request_vote(1, EntryId::ZERO));
    assert_eq!(sent_by(&mut cluster, 1), [], "nothing leaves before the vote is durable");
    cluster.sync(0);
    assert_eq!(sent_by(&mut cluster, 1), [(node_id(2), vote(1, true)), (node_id(3), vote(1, false))]);
    cluster.crash(0, 0);
    cluster.restart(0);
    step(&mut cluster, 0, 3, request_vote(1, EntryId::ZERO));
    step(&mut cluster, 0, 2, request_vote(1, EntryId::ZERO));
    assert_eq!(sent_by(&mut cluster, 1), [(node_id(3), vote(1, false)), (node_id(2), vote(1, true))]);
}

#[test]
fn section_3_6_1_a_vote_is_refused_to_a_log_that_is_less_up_to_date() {
    let cases = [(id(2, 3), true), (id(2, 4), true), (id(3, 1), true), (id(2, 2), false), (id(1, 9), false)];
    for (last, granted) in cases {
        let log = SimLog::with_terms(&[1, 1, 2], HardState { term: Term::new(3), vote: None });
        let mut cluster = Cluster::with_logs(config(3), vec![log, SimLog::default(), SimLog::default()]);
        step(&mut cluster, 0, 2, request_vote(4, last));
        cluster.sync(0);
        assert_eq!(sent_by(&mut cluster, 1), [(node_id(2), vote(4, granted))], "for a log that ends at {last}");
    }
}

#[test]
fn section_3_4_a_candidates_own_vote_counts_only_when_durable() {
    let mut cluster = Cluster::new(config(3));
    while cluster.raft(0).role() == Role::Follower {
        cluster.tick(0);
    }
    let granted = Message::PreVoteResponse { term: Term::ZERO, campaign_term: Term::new(1), granted: true };
    step(&mut cluster, 0, 2, granted);
    assert_eq!(cluster.raft(0).role(), Role::Candidate);
    let asked: Vec<_> = sent_by(&mut cluster, 1);
    assert!(asked.iter().all(|(_, message)| matches!(message, Message::RequestPreVote { .. })), "{asked:?}");
    // Votes that cannot be there yet, to see what holds it back.
    step(&mut cluster, 0, 2, vote(1, true));
    step(&mut cluster, 0, 3, vote(1, true));
    assert_eq!(cluster.raft(0).role(), Role::Candidate);
    cluster.sync(0);
    assert_eq!(cluster.raft(0).role(), Role::Leader);
}

#[test]
fn section_3_4_a_single_voter_leads_and_commits_after_its_own_syncs_only() {
    let mut cluster = Cluster::new(config(1));
    (0..20).for_each(|_| cluster.tick(0));
    assert_eq!(cluster.raft(0).role(), Role::Candidate);
    cluster.sync(0);
    assert_eq!((cluster.raft(0).role(), cluster.raft(0).commit_index()), (Role::Leader, Index::ZERO));
    cluster.sync(0);
    assert_eq!(cluster.raft(0).commit_index(), Index::new(1));
}

#[test]
fn section_3_4_a_candidate_yields_to_a_leader_of_its_term_and_to_any_later_term() {
    for (term, leader) in [(1, 3), (5, 2)] {
        let mut cluster = Cluster::new(config(3));
        while cluster.raft(0).role() == Role::Follower {
            cluster.tick(0);
        }
        let granted = Message::PreVoteResponse { term: Term::ZERO, campaign_term: Term::new(1), granted: true };
        step(&mut cluster, 0, 2, granted);
        cluster.sync(0);
        step(&mut cluster, 0, leader, heartbeat(term));
        let raft = cluster.raft(0);
        assert_eq!((raft.role(), raft.term(), raft.leader()), (Role::Follower, Term::new(term), Some(node_id(leader))));
    }
}

#[test]
fn section_9_6_a_pre_vote_changes_nothing_at_the_voter() {
    let mut cluster = Cluster::new(config(3));
    let before = cluster.raft(0).hard_state();
    let asked = Message::RequestPreVote { term: Term::new(9), last: EntryId::ZERO };
    step(&mut cluster, 0, 2, asked.clone());
    step(&mut cluster, 0, 3, asked);
    let answers = sent_by(&mut cluster, 1);
    let granted = |message: &Message| matches!(message, Message::PreVoteResponse { granted: true, .. });
    assert!(answers.len() == 2 && answers.iter().all(|(_, message)| granted(message)), "{answers:?}");
    assert_eq!(cluster.raft(0).hard_state(), before);
}

#[test]
fn section_4_2_3_a_node_that_hears_its_leader_ignores_candidates_unless_the_leader_sent_them() {
    let mut cluster = led_by_first();
    let last = cluster.nodes[1].log.last_id();
    step(&mut cluster, 1, 3, request_vote(9, last));
    assert_eq!(sent_by(&mut cluster, 2), []);
    assert_eq!(cluster.raft(1).term(), Term::new(1));
    step(&mut cluster, 1, 3, Message::RequestVote { term: Term::new(9), last, transfer: true });
    cluster.sync(1);
    assert_eq!(sent_by(&mut cluster, 2), [(node_id(3), vote(9, true))]);
}

#[test]
fn section_4_2_3_a_follower_votes_again_once_its_leader_was_silent_for_an_election_timeout() {
    let mut cluster = led_by_first();
    let asked = Message::RequestPreVote { term: Term::new(2), last: cluster.nodes[1].log.last_id() };
    let mut granted_at = None;
    for ticks in 1..=10 {
        cluster.tick(1);
        step(&mut cluster, 1, 3, asked.clone());
        let answers = sent_by(&mut cluster, 2);
        if answers.iter().any(|(_, message)| matches!(message, Message::PreVoteResponse { granted: true, .. })) {
            granted_at = Some(ticks);
            break;
        }
    }
    assert_eq!(granted_at, Some(10));
}

#[test]
fn section_6_2_a_leader_without_a_quorum_steps_down_and_fails_its_reads() {
    let mut cluster = led_by_first();
    cluster.isolate(node_id(1));
    let read = cluster.read(0).expect("it leads");
    (0..9).for_each(|_| cluster.tick(0));
    assert_eq!(cluster.raft(0).role(), Role::Leader);
    (0..1).for_each(|_| cluster.tick(0));
    assert_eq!((cluster.raft(0).role(), cluster.raft(0).leader()), (Role::Follower, None));
    assert_eq!(cluster.reads_failed, [read]);
    assert!(cluster.raft(0).may_propose().is_err());
}

#[test]
fn section_6_2_one_follower_of_two_is_quorum_enough() {
    let mut cluster = led_by_first();
    cluster.isolate(node_id(3));
    tick_all(&mut cluster, 50);
    assert!(cluster.is_leader(0));
    assert_eq!(cluster.raft(0).term(), Term::new(1));
}

#[test]
fn a_broken_connection_to_a_live_leader_disturbs_no_term() {
    let mut cluster = led_by_first();
    for _ in 0..20 {
        cluster.disconnect(0, 1);
        tick_all(&mut cluster, 3);
        cluster.connect(0, 1);
        tick_all(&mut cluster, 1);
    }
    assert!(cluster.is_leader(0));
    assert_eq!(cluster.raft(0).term(), Term::new(1));
}

#[test]
fn a_dead_leader_is_replaced_well_within_the_election_timeout() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(engine::raft::Config { seed, election_ticks: 40, ..config(3) });
        cluster.elect(0);
        tick_all(&mut cluster, 4);
        cluster.crash(0, 0);
        cluster.disconnect(1, 0);
        cluster.disconnect(2, 0);
        let mut ticks = 0;
        while cluster.leader().is_none() {
            tick_all(&mut cluster, 1);
            ticks += 1;
        }
        assert!(ticks < 30, "seed {seed}: {ticks} ticks");
    }
}

/// The first in turn lacks entries, so it cannot win: the other does not wait for its own turn.
#[test]
fn whoever_has_more_campaigns_as_soon_as_it_is_asked() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(engine::raft::Config { seed, election_ticks: 40, ..config(3) });
        cluster.elect(0);
        tick_all(&mut cluster, 4);
        cluster.block(node_id(1), node_id(3));
        cluster.propose(0, 1);
        cluster.settle();
        cluster.crash(0, 0);
        cluster.disconnect(1, 0);
        cluster.disconnect(2, 0);
        tick_all(&mut cluster, 2);
        assert_eq!(cluster.leader(), Some(1), "seed {seed}");
    }
}

/// Both lose their leader, one of them a moment later: what it refused in between is not lost.
#[test]
fn a_pre_vote_refused_for_a_leader_is_given_once_that_is_gone() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(engine::raft::Config { seed, election_ticks: 40, ..config(3) });
        cluster.elect(0);
        tick_all(&mut cluster, 4);
        cluster.crash(0, 0);
        cluster.disconnect(2, 0);
        tick_all(&mut cluster, 2);
        assert_eq!(cluster.leader(), None, "the other still hears the leader");
        cluster.disconnect(1, 0);
        cluster.settle();
        assert_eq!(cluster.leader(), Some(2), "seed {seed}");
    }
}

#[test]
fn a_candidate_whose_disk_hangs_does_not_pile_up_terms() {
    let mut cluster = Cluster::new(config(1));
    (0..500).for_each(|_| cluster.tick(0));
    assert_eq!(cluster.raft(0).term(), Term::new(1));
}

#[test]
fn section_3_10_leadership_goes_to_a_follower_that_has_everything() {
    let mut cluster = led_by_first();
    cluster.nodes[1].disk_hangs = true;
    cluster.propose(0, 1);
    cluster.settle();
    cluster.transfer(0, node_id(2));
    assert_eq!(cluster.raft(0).may_propose().expect_err("it hands over").leader, Some(node_id(1)));
    cluster.settle();
    assert_eq!(cluster.raft(1).role(), Role::Candidate, "it has everything");
    assert_eq!(cluster.leader(), Some(0), "neither its last entry nor its vote is durable, so it asks nobody");
    cluster.heal();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.raft(0).leader(), Some(node_id(2)));
}

#[test]
fn section_3_10_a_transfer_that_takes_too_long_is_given_up() {
    let mut cluster = led_by_first();
    cluster.isolate(node_id(2));
    cluster.propose(0, 1);
    cluster.transfer(0, node_id(2));
    tick_all(&mut cluster, 9);
    assert!(cluster.raft(0).may_propose().is_err());
    tick_all(&mut cluster, 1);
    assert!(cluster.raft(0).may_propose().is_ok());
}

#[test]
fn section_3_10_transfers_to_strangers_or_by_followers_are_refused() {
    let mut cluster = led_by_first();
    let mut results = Vec::new();
    cluster.with_raft(0, |raft, log| results.push(raft.transfer_leader(node_id(9), log)));
    cluster.with_raft(1, |raft, log| results.push(raft.transfer_leader(node_id(3), log)));
    cluster.with_raft(0, |raft, log| results.push(raft.transfer_leader(node_id(1), log)));
    let not_voter = TransferError::NotVoter { to: node_id(9) };
    assert_eq!(results, [Err(not_voter), Err(TransferError::NotLeader { leader: Some(node_id(1)) }), Ok(())]);
    assert!(cluster.raft(0).may_propose().is_ok());
}

#[test]
fn a_leader_that_stops_hands_over_to_the_follower_that_is_furthest() {
    let mut cluster = led_by_first();
    cluster.nodes[1].disk_hangs = true;
    cluster.propose(0, 3);
    cluster.settle();
    let mut chosen = None;
    cluster.with_raft(0, |raft, log| chosen = raft.hand_over_leadership(log).expect("it leads"));
    assert_eq!(chosen, Some(node_id(3)));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(2));
}

#[test]
fn the_preferred_node_leads_first_and_gets_leadership_back_but_not_at_once() {
    let preferred_leader = Some(node_id(2));
    let mut cluster = Cluster::new(engine::raft::Config { preferred_leader, ..config(3) });
    tick_all(&mut cluster, 4);
    assert_eq!(cluster.leader(), Some(1), "its first timeout is short");
    let mut waits = Vec::new();
    for _ in 0..3 {
        cluster.transfer(1, node_id(1));
        cluster.settle();
        assert_eq!(cluster.leader(), Some(0));
        let mut ticks = 0;
        while cluster.leader() != Some(1) {
            tick_all(&mut cluster, 1);
            ticks += 1;
        }
        waits.push(ticks);
    }
    assert!(waits[0] >= 20 && waits[1] >= 2 * 20 && waits[2] >= 4 * 20, "longer each time: {waits:?}");
}

#[test]
fn a_preferred_node_that_is_away_is_not_waited_for() {
    let preferred_leader = Some(node_id(2));
    let mut cluster = Cluster::new(engine::raft::Config { preferred_leader, ..config(3) });
    cluster.crash(1, 0);
    cluster.elect(0);
    tick_all(&mut cluster, 200);
    assert!(cluster.is_leader(0) && cluster.raft(0).may_propose().is_ok());
}

#[test]
fn section_6_4_an_answer_to_a_heartbeat_of_an_earlier_term_confirms_no_read() {
    let mut cluster = led_by_first();
    cluster.read(0);
    let of_term_1 = cluster.network.iter().find(|packet| packet.to == node_id(2)).cloned().expect("round 1");
    cluster.settle();
    // Node 1 leads again, in a later term, when its old heartbeat reaches node 2 once more.
    cluster.transfer(0, node_id(2));
    cluster.settle();
    cluster.transfer(1, node_id(1));
    cluster.settle();
    tick_all(&mut cluster, 2);
    assert_eq!((cluster.leader(), cluster.raft(0).term()), (Some(0), Term::new(3)));
    cluster.receive(of_term_1);
    cluster.settle();
    cluster.reads_ready.clear();
    cluster.isolate(node_id(1));
    cluster.read(0);
    assert_eq!(cluster.reads_ready, [], "nobody answered the first round of term 3");
}

#[test]
fn section_3_4_a_late_refusal_does_not_take_a_vote_back() {
    let mut cluster = Cluster::new(config(5));
    while cluster.raft(0).role() == Role::Follower {
        cluster.tick(0);
    }
    let granted = Message::PreVoteResponse { term: Term::ZERO, campaign_term: Term::new(1), granted: true };
    step(&mut cluster, 0, 2, granted.clone());
    step(&mut cluster, 0, 3, granted);
    cluster.sync(0);
    step(&mut cluster, 0, 2, vote(1, true));
    step(&mut cluster, 0, 2, vote(1, false));
    step(&mut cluster, 0, 3, vote(1, true));
    assert_eq!(cluster.raft(0).role(), Role::Leader);
}

#[test]
fn section_6_4_pending_reads_are_bounded() {
    let mut cluster = led_by_first();
    cluster.isolate(node_id(1));
    let mut refused = None;
    // Asked past the harness, which would take each of them for a read to be checked.
    let log = cluster.nodes[0].log.clone();
    let raft = cluster.nodes[0].raft.as_mut().expect("it is up");
    for number in 0..=PENDING_READS_MAX as u64 {
        refused = raft.read_index(ReadId(1_000_000 + number), &log).err();
    }
    let limit = PENDING_READS_MAX;
    assert_eq!(refused, Some(ReadIndexError::TooManyReads { pending_count: limit, limit }));
    let raft = cluster.nodes[1].raft.as_mut().expect("it is up");
    for number in 0..=PENDING_READS_MAX as u64 {
        refused = raft.read_index(ReadId(2_000_000 + number), &log).err();
    }
    assert_eq!(refused, Some(ReadIndexError::TooManyReads { pending_count: limit, limit }));
    let mut stranger = Cluster::new(config(3));
    let (log, raft) = (stranger.nodes[0].log.clone(), stranger.nodes[0].raft.as_mut().expect("it is up"));
    assert_eq!(raft.read_index(ReadId(1), &log), Err(ReadIndexError::NobodyToAsk));
}

#[test]
fn messages_of_strangers_and_of_oneself_are_ignored() {
    let mut cluster = led_by_first();
    for from in [1, 9] {
        step(&mut cluster, 0, from, heartbeat(50));
        step(&mut cluster, 0, from, request_vote(50, id(50, 50)));
        step(&mut cluster, 0, from, vote(50, false));
    }
    assert!(cluster.is_leader(0) && cluster.network.is_empty());
}

#[test]
fn a_deposed_leader_learns_from_the_answer_to_its_heartbeat() {
    let mut cluster = led_by_first();
    cluster.isolate(node_id(1));
    while cluster.leader() != Some(1) && cluster.leader() != Some(2) {
        (1..3).for_each(|at| cluster.tick(at));
        cluster.settle();
    }
    cluster.heal();
    assert_eq!(cluster.raft(0).role(), Role::Leader);
    (0..2).for_each(|_| cluster.tick(0));
    cluster.settle();
    assert_eq!((cluster.raft(0).role(), cluster.raft(0).term()), (Role::Follower, cluster.raft(1).term()));
}

#[test]
fn a_successor_is_told_only_when_the_open_batch_is_closed() {
    let mut cluster = led_by_first();
    cluster.nodes[0].log.is_forming = true;
    cluster.transfer(0, node_id(2));
    cluster.settle();
    tick_all(&mut cluster, 2);
    assert_eq!(cluster.leader(), Some(0), "the log is about to grow");
    assert!(cluster.raft(0).may_propose().is_err());
    cluster.nodes[0].log.is_forming = false;
    cluster.with_raft(0, |raft, log| raft.proceed_with_transfer(log));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn leadership_goes_to_no_node_that_could_not_hold_it() {
    type Ail = fn(&mut Cluster);
    let ailments: [(Unfit, Ail); 5] = [
        (Unfit::NoRoom, |cluster| cluster.nodes[1].log_room = 0),
        (Unfit::SlowDisk, |cluster| cluster.nodes[1].is_slow = true),
        (Unfit::Replaying, |cluster| cluster.nodes[1].apply_limit = Index::new(1)),
        (Unfit::Silent, |cluster| cluster.isolate(node_id(2))),
        (Unfit::MayNotLead, |cluster| {
            cluster.crash(1, 0);
            cluster.damage(1, 0, true);
            cluster.restart(1);
            // It is not repaired before the others have confirmed the leader, which the test does not let happen.
            cluster.block(node_id(1), node_id(3));
        }),
    ];
    for (expected, ail) in ailments {
        let mut cluster = led_by_first();
        for _ in 0..8 {
            cluster.propose(0, 1);
            cluster.settle();
        }
        ail(&mut cluster);
        tick_all(&mut cluster, 6);
        let mut result = Ok(());
        cluster.with_raft(0, |raft, log| result = raft.transfer_leader(node_id(2), log));
        assert_eq!(result, Err(TransferError::NotFit { to: node_id(2), why: expected }));
        assert!(cluster.raft(0).may_propose().is_ok());
    }
}

pub fn receive_all(cluster: &mut Cluster, packets: Vec<Packet>) {
    for packet in packets {
        cluster.receive(packet);
    }
}

/// A leader that sent its last entry to node 2, and told it to take over; the second overtook the first. The entry is returned.
fn called_too_early() -> (Cluster, Vec<Packet>) {
    let mut cluster = led_by_first();
    cluster.propose(0, 1);
    cluster.transfer(0, node_id(2));
    let (calls, entries): (Vec<_>, Vec<_>) = std::mem::take(&mut cluster.network)
        .into_iter()
        .filter(|packet| packet.to == node_id(2))
        .partition(|packet| matches!(packet.message, Message::TimeoutNow { .. }));
    assert_eq!(calls.len(), 1, "it is told although nothing is durable there yet");
    receive_all(&mut cluster, calls);
    assert_eq!(cluster.raft(1).role(), Role::Follower, "it lacks the last entry");
    (cluster, entries)
}

#[test]
fn a_successor_that_is_told_too_early_campaigns_once_it_has_the_whole_log() {
    let (mut cluster, entries) = called_too_early();
    receive_all(&mut cluster, entries);
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
    // One sync makes the entry and the vote durable; before it nobody is asked.
    assert!(!sent_by(&mut cluster, 2).iter().any(|(_, message)| matches!(message, Message::RequestVote { .. })));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn a_call_to_take_over_is_forgotten_unless_the_leader_repeats_it() {
    let (mut cluster, entries) = called_too_early();
    (0..4).for_each(|_| cluster.tick(1));
    receive_all(&mut cluster, entries);
    assert_eq!((cluster.raft(1).role(), cluster.raft(1).term()), (Role::Follower, Term::new(1)));
}

#[test]
fn a_follower_learns_of_a_commit_that_overtook_the_entry() {
    let mut cluster = led_by_first();
    cluster.propose(0, 1);
    let entries: Vec<_> = cluster.network.iter().filter(|packet| packet.to == node_id(2)).cloned().collect();
    cluster.block(node_id(1), node_id(2));
    cluster.settle();
    cluster.heal();
    let last_index = cluster.raft(0).commit_index();
    step(&mut cluster, 1, 1, Message::Heartbeat { term: Term::new(1), life: 1, commit_index: last_index, round: 0 });
    assert!(cluster.raft(1).commit_index() < last_index, "the entry is not there yet");
    // They were sent before the third node had them, and say nothing of the commit.
    receive_all(&mut cluster, entries);
    assert_eq!(cluster.raft(1).commit_index(), last_index);
}

#[test]
fn a_leader_that_leaves_tries_one_follower_after_the_other() {
    let mut cluster = led_by_first();
    let mut first = None;
    cluster.with_raft(0, |raft, log| first = raft.hand_over_leadership(log).expect("it leads"));
    // The one that was chosen never hears of it.
    cluster.network.retain(|packet| !matches!(packet.message, Message::TimeoutNow { .. }));
    let first = first.expect("both are fit");
    let other = node_id(5 - first.get());
    for _ in 0..20 {
        (0..3).for_each(|at| cluster.tick(at));
        cluster.network.retain(|packet| packet.to != first || !matches!(packet.message, Message::TimeoutNow { .. }));
        cluster.settle();
    }
    assert_eq!(cluster.leader().map(|at| cluster.nodes[at].id), Some(other));
}

#[test]
fn an_old_leader_learns_at_once_what_its_successor_commits() {
    let mut cluster = led_by_first();
    cluster.propose(0, 3);
    cluster.transfer(0, node_id(2));
    // Not a tick passes, so no heartbeat is due.
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
    let committed: Vec<Index> = (0..3).map(|at| cluster.raft(at).commit_index()).collect();
    assert_eq!(committed, [cluster.nodes[1].log.last_id().index; 3]);
}

#[test]
fn after_a_leaders_death_the_others_campaign_in_turn() {
    for (deaf, successor) in [(None, 2), (Some(2), 1)] {
        let mut cluster = led_by_first();
        cluster.crash(0, 0);
        for at in [1, 2] {
            cluster.disconnect(at, 0);
        }
        // The first in turn may be gone, too.
        if let Some(deaf) = deaf {
            cluster.crash(deaf, 0);
            cluster.restart(deaf);
        }
        tick_all(&mut cluster, 4);
        assert_eq!(cluster.leader(), Some(successor));
    }
}
