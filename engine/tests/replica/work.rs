//! Bounded work: reads in slices, entries in several turns, and commands that are refused for what they would do.

use std::collections::BTreeSet;

use api::command::{KeyRange, Op, RangeOp, Txn, encode_txn_command};
use api::response::{OpResponse, Response};
use engine::call::{CallKind, Ticket};
use engine::log_store;
use engine::replica::{Event, Fault, ReadingLimits, ReplicaOptions};
use engine::state_machine::batch::{self, BatchHeader};
use engine::types::{EntryId, Index, Term};
use net::api::{Executed, Status};
use wal::EntryHeader;

use crate::answers::{EXPIRED_TICKS, Trio};
use crate::host::{Host, NODES_COUNT, new_disk, open, options};
use crate::ops::{op_command, put, request, whole};

/// A trio whose replicas have options of their own.
fn trio_with(seed: u64, change: fn(&mut ReplicaOptions)) -> (Trio, usize) {
    let trio = Trio::with(seed, change);
    let leader = trio.leader().expect("there is one");
    (trio, leader)
}

/// Puts so many keys, `k000` and on.
fn put_keys(trio: &mut Trio, leader: usize, count: usize) {
    for number in 0..count {
        trio.put(leader, format!("k{number:03}").as_bytes());
    }
    (0..10).for_each(|_| trio.round());
}

fn count_of(body: &[u8]) -> u64 {
    let response = Response::decode(body).expect("an answer decodes");
    match &response.ops[..] {
        [OpResponse::Range { count, .. }] => *count,
        other => panic!("{other:?}"),
    }
}

/// A node that starts again with a log of which nothing is in memory. Its peers are silent.
fn cold_node() -> Host {
    const VALUE_BYTES: usize = 600_000;
    let (mut trio, leader) = trio_with(8, |_| {});
    for _ in 0..5 {
        trio.ask(leader, CallKind::Write, &op_command(&put(b"k", &vec![7; VALUE_BYTES])));
        (0..10).for_each(|_| trio.round());
    }
    let mut disk = trio.nodes.swap_remove(leader).replica.into_storage();
    disk.crash_process();
    disk.set_absent_one_in(1);
    Host::new(options(leader, 9), open(leader, disk))
}

#[test]
fn entries_that_are_not_in_memory_are_read_in_before_they_are_applied() {
    let mut node = cold_node();
    let (mut loads_count, mut last_loaded) = (0, Index::ZERO);
    let committed = node.replica.view().commit_index;
    while last_loaded < committed {
        for event in [Event::Turn, Event::Tick, Event::Turn] {
            assert!(node.handle(event).is_empty());
        }
        let [(first, last)] = std::mem::take(&mut node.loads)[..] else { panic!("entries are asked for once") };
        assert!(first == last_loaded.next() && last <= committed, "{first} to {last}");
        assert_eq!(node.replica.view().applied_index, last_loaded, "nothing is applied before it is there");
        assert!(!node.replica.wants_turn(), "a turn could do nothing");
        let _effects = node.handle(Event::Loaded { first, last, result: Ok(()) });
        assert!(node.replica.wants_turn());
        (loads_count, last_loaded) = (loads_count + 1, last);
    }
    while node.replica.wants_turn() {
        let _effects = node.handle(Event::Turn);
    }
    assert!(loads_count >= 3 && node.loads.is_empty(), "a few entries are read in at a time: {loads_count}");
    assert_eq!(node.replica.view().applied_index, committed);
}

#[test]
fn a_turn_makes_large_answers_to_writes_or_to_reads_and_both_go_on() {
    let (mut trio, leader) = trio_with(11, |_| {});
    trio.ask(leader, CallKind::Write, &op_command(&put(b"k", &vec![7; 600_000])));
    (0..10).for_each(|_| trio.round());
    let get = Op::Range(whole(b"k", b""));
    let mut command = Vec::new();
    encode_txn_command(&Txn { success: vec![get; 3], ..Txn::default() }, &mut command).expect("valid");
    let read = request(&whole(b"k", b""));
    let (mut writes, mut reads) = (BTreeSet::new(), BTreeSet::new());
    let mut answered = (0, 0);
    for _ in 0..60 {
        writes.insert(trio.ask(leader, CallKind::Write, &command));
        reads.insert(trio.ask(leader, CallKind::ReadSerializable, &read));
        trio.deliver(leader, Event::Turn);
        let count =
            |tickets: &BTreeSet<u64>| tickets.iter().filter(|ticket| trio.answers.contains_key(*ticket)).count();
        let now = (count(&writes), count(&reads));
        assert!(now.0 == answered.0 || now.1 == answered.1, "{answered:?}, then {now:?}");
        answered = now;
        for node in (0..NODES_COUNT).filter(|node| *node != leader) {
            trio.deliver(node, Event::Turn);
            trio.finish_sync(node);
        }
        trio.finish_sync(leader);
        while !trio.packets.is_empty() {
            trio.receive(0);
        }
    }
    assert!(answered.0 >= 10 && answered.1 >= 10, "{answered:?}");
}

#[test]
fn a_leader_hands_over_when_its_log_waits_too_long_for_a_segment() {
    const SLOW_DISK_TICKS: u64 = 20;
    let (mut trio, leader) = trio_with(10, |options| options.slow_disk_ticks = SLOW_DISK_TICKS);
    trio.crawling.insert(leader);
    let large = op_command(&put(b"k", &vec![7; 600_000]));
    let mut tickets = Vec::new();
    while trio.nodes[leader].replica.stats().writes_queued == 0 {
        tickets.push(trio.ask(leader, CallKind::Write, &large));
        trio.settle();
        assert!(tickets.len() < 10, "the segments that are there are full at some time");
    }
    (0..SLOW_DISK_TICKS / 2).for_each(|_| trio.round());
    assert!(trio.nodes[leader].replica.view().is_leader, "segments may take some time");
    (0..SLOW_DISK_TICKS).for_each(|_| trio.round());
    let next = trio.leader().expect("there is one");
    assert_ne!(next, leader);
    let ticket = trio.ask(next, CallKind::Write, &large);
    (0..5).for_each(|_| trio.round());
    assert!(trio.answers[&ticket].is_ok());
}

#[test]
fn a_leader_hands_over_when_its_disk_does_not_give_what_it_is_to_apply() {
    const SLOW_DISK_TICKS: u64 = 20;
    let (mut trio, leader) = trio_with(12, |options| options.slow_disk_ticks = SLOW_DISK_TICKS);
    let ticket = trio.put(leader, b"k");
    trio.deliver(leader, Event::Turn);
    // The entry is on its way to the others, and has left memory before it is applied.
    trio.nodes[leader].replica.storage_mut().set_absent_one_in(1);
    (0..SLOW_DISK_TICKS / 2).for_each(|_| trio.round());
    let node = &trio.nodes[leader];
    assert!(!node.loads.is_empty() && node.replica.view().applied_index < node.replica.view().commit_index);
    assert!(node.replica.view().is_leader && !trio.answers.contains_key(&ticket), "reads may take some time");
    (0..SLOW_DISK_TICKS).for_each(|_| trio.round());
    let next = trio.leader().expect("there is one");
    assert_ne!(next, leader);
    let ticket = trio.put(next, b"k");
    (0..5).for_each(|_| trio.round());
    assert!(trio.answers[&ticket].is_ok());
}

#[test]
fn entries_that_are_read_in_damaged_are_neither_applied_nor_sent() {
    let mut node = cold_node();
    let _effects = node.handle(Event::Turn);
    let (first, last) = node.loads.remove(0);
    let (seq, offset) = node.replica.log().place_of(last).expect("held");
    node.replica.storage_mut().flip_bit(seq, offset + 1000, 1);
    let _effects = node.handle(Event::Loaded { first, last, result: Ok(()) });
    match node.replica.fault() {
        Some(Fault::Read { index, reason }) => {
            assert!(*index == last && reason.contains("checksum"), "{index}: {reason}");
            assert!(reason.ends_with("start this node again to repair its log"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let _effects = node.handle(Event::Turn);
    assert_eq!(node.replica.view().applied_index, Index::ZERO, "what is whole before it need not be applied either");
}

#[test]
fn a_node_whose_log_nobody_can_repair_does_not_promise_a_repair() {
    let mut options = options(0, 9);
    options.raft.founders.truncate(2);
    let mut log = open(0, new_disk(0, 1 << 20, 1));
    log.append_hard_state(wal::HardStateRecord { term: Term::new(1), vote: 0 }).expect("room");
    let id = EntryId::new(Term::new(1), Index::new(1));
    let mut payload = Vec::new();
    batch::encode(BatchHeader::default(), [op_command(&put(b"k", &[7; 1000])).as_slice()], &mut payload);
    log.append_entry(&EntryHeader::new(id, log_store::KIND_COMMANDS, &payload), &payload).expect("room");
    let (seq, offset) = log.place_of(id.index).expect("held");
    log.storage_mut().flip_bit(seq, offset + 500, 1);
    let mut node = Host::new(options, log);
    let _effects = node.handle(Event::Loaded { first: id.index, last: id.index, result: Ok(()) });
    let fault = node.replica.fault().expect("it stops").to_string();
    assert!(fault.contains("too few to repair"), "{fault}");
}

#[test]
fn a_node_whose_disk_does_not_give_its_entries_stops_before_it_looks_at_them() {
    let mut node = cold_node();
    let _effects = node.handle(Event::Turn);
    let (first, last) = node.loads.remove(0);
    let _effects = node.handle(Event::Loaded { first, last, result: Err("simulated".to_owned()) });
    assert!(matches!(node.replica.fault(), Some(Fault::Read { .. })));
    assert_eq!(node.replica.view().applied_index, Index::ZERO);
}

#[test]
fn reads_of_a_client_that_left_are_given_up_and_its_writes_are_not() {
    let (mut trio, leader) = trio_with(9, |options| {
        options.reading = ReadingLimits { keys_per_turn: 20, keys_per_slice: 5, kept_bytes_limit: 1 << 20 };
    });
    put_keys(&mut trio, leader, 300);
    let all = request(&whole(b"k", b"z"));
    let begun = trio.ask(leader, CallKind::ReadSerializable, &all);
    let stays = trio.ask(leader, CallKind::ReadSerializable, &all);
    trio.deliver(leader, Event::Turn);
    let (unconfirmed, write) = (trio.read(leader, b"k000"), trio.put(leader, b"late"));
    let slices = trio.nodes[leader].replica.stats().read_slices;
    trio.deliver(leader, Event::Left(&[begun, unconfirmed, write].map(Ticket)));
    for ticket in [begun, unconfirmed] {
        assert_eq!(trio.refusal(ticket), (Status::Unavailable, Executed::No));
    }
    assert_eq!(trio.nodes[leader].replica.view().pending_reads_count, 1);
    (0..10).for_each(|_| trio.round());
    assert!(trio.answers[&write].is_ok() && trio.answers[&stays].is_ok());
    let slices = trio.nodes[leader].replica.stats().read_slices - slices;
    assert!(slices <= 300 / 5 + 1, "{slices} slices, as one of them needs");
    // To say so again, or of what was answered, changes nothing.
    trio.deliver(leader, Event::Left(&[begun, stays].map(Ticket)));
}

#[test]
fn a_small_read_does_not_wait_for_large_ones_and_all_see_one_revision() {
    let (mut trio, leader) = trio_with(8, |options| {
        options.reading = ReadingLimits { keys_per_turn: 20, keys_per_slice: 5, kept_bytes_limit: 1 << 20 };
    });
    put_keys(&mut trio, leader, 300);
    let all = request(&whole(b"k", b"z"));
    let large: Vec<u64> = (0..10).map(|_| trio.ask(leader, CallKind::ReadSerializable, &all)).collect();
    trio.deliver(leader, Event::Turn);
    let small = trio.read(leader, b"k000");
    let late = trio.put(leader, b"late");
    trio.settle();
    assert!(trio.answers[&small].is_ok() && trio.answers[&late].is_ok(), "they pass the large ones by");
    assert!(large.iter().any(|ticket| !trio.answers.contains_key(ticket)), "some of the large ones still go on");
    assert!(trio.nodes[leader].replica.wants_turn());
    let mut turns = 0;
    while trio.nodes[leader].replica.wants_turn() {
        trio.deliver(leader, Event::Turn);
        turns += 1;
    }
    assert!(turns < 300, "{turns} turns");
    // What was put after they began is not in them; the last ones began later.
    let counts: Vec<u64> =
        large.iter().map(|ticket| count_of(trio.answers[ticket].as_ref().expect("answered"))).collect();
    assert!(counts[0] == 300 && counts.iter().all(|count| [300, 301].contains(count)), "{counts:?}");
    assert_eq!(trio.leader_view().pending_reads_count, 0);
}

#[test]
fn reads_without_room_for_their_answers_begin_anew_and_end() {
    let (mut trio, leader) = trio_with(9, |options| {
        options.reading = ReadingLimits { keys_per_turn: 50, keys_per_slice: 7, kept_bytes_limit: 2_000 };
    });
    put_keys(&mut trio, leader, 100);
    let all = request(&whole(b"k", b"z"));
    let tickets: Vec<u64> = (0..20).map(|_| trio.ask(leader, CallKind::ReadSerializable, &all)).collect();
    let mut turns = 0;
    while trio.nodes[leader].replica.wants_turn() {
        trio.deliver(leader, Event::Turn);
        turns += 1;
        assert!(turns < 1_000, "they end");
    }
    assert!(tickets.iter().all(|ticket| count_of(trio.answers[ticket].as_ref().expect("answered")) == 100));
}

#[test]
fn a_read_that_was_begun_ends_with_its_time_with_a_fault_and_with_a_stop() {
    let slow: fn(&mut ReplicaOptions) = |options| {
        options.reading = ReadingLimits { keys_per_turn: 1, keys_per_slice: 1, kept_bytes_limit: 1 << 20 };
    };
    let all = request(&whole(b"k", b"z"));
    for how in 0..3 {
        let (mut trio, leader) = trio_with(10 + how, slow);
        put_keys(&mut trio, leader, 300);
        let tickets = [CallKind::Read, CallKind::ReadSerializable].map(|kind| trio.ask(leader, kind, &all));
        trio.settle();
        let (status, executed) = match how {
            0 => {
                (0..EXPIRED_TICKS).for_each(|_| trio.deliver(leader, Event::Tick));
                (Status::Timeout, Executed::No)
            }
            1 => {
                trio.faults_are_expected = true;
                trio.hung.insert(leader);
                trio.put(leader, b"k");
                trio.settle();
                trio.fail_sync(leader);
                (Status::Unavailable, Executed::No)
            }
            _ => {
                trio.deliver(leader, Event::Stop);
                (Status::ShuttingDown, Executed::No)
            }
        };
        assert!(tickets.iter().all(|ticket| trio.refusal(*ticket) == (status, executed)), "way {how}");
        assert_eq!(trio.nodes[leader].replica.view().pending_reads_count, 0);
        if how != 1 {
            trio.check_all_answered();
        }
    }
}

#[test]
fn one_large_entry_is_applied_in_several_turns_and_its_writes_are_answered() {
    let (mut trio, leader) = trio_with(14, |options| options.apply_keys_per_turn = 3);
    // All in one batch: they arrive in one turn.
    let mut tickets = Vec::new();
    for number in 0..20 {
        tickets.push(trio.put(leader, format!("k{number:03}").as_bytes()));
    }
    let mut most = 0;
    let mut before = trio.answers.len();
    for _ in 0..200 {
        for node in 0..NODES_COUNT {
            trio.deliver(node, Event::Turn);
            most = most.max(trio.answers.len() - before);
            before = trio.answers.len();
            trio.finish_sync(node);
        }
        if !trio.packets.is_empty() {
            trio.receive(0);
        }
    }
    assert!(tickets.iter().all(|ticket| trio.answers[ticket].is_ok()));
    assert!((1..=3).contains(&most), "{most} writes answered in one turn");
    (0..5).for_each(|_| trio.round());
    let digests =
        trio.nodes.iter().map(|node| (node.replica.machine().applied_index(), node.replica.machine().digest()));
    let digests: BTreeSet<_> = digests.collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[test]
fn a_full_state_takes_deletes_and_reads_but_nothing_that_adds() {
    let (mut trio, leader) = trio_with(15, |options| options.quota_bytes = 1_000);
    put_keys(&mut trio, leader, 10);
    let put = put(b"new", b"v");
    let delete = |key| Op::Delete { range: KeyRange { key, range_end: b"" }, prev_kv: false };
    let txn = |success: Vec<Op<'_>>, failure: Vec<Op<'_>>| {
        let mut command = Vec::new();
        encode_txn_command(&Txn { success, failure, ..Txn::default() }, &mut command).expect("valid");
        command
    };
    let refused = [op_command(&put), txn(vec![put, delete(b"k000")], vec![]), txn(vec![delete(b"k000")], vec![put])];
    let taken = [
        op_command(&delete(b"k001")),
        op_command(&Op::Range(whole(b"k", b"z"))),
        txn(vec![Op::Range(whole(b"k", b"z")), delete(b"k002")], vec![]),
    ];
    for node in [leader, (leader + 1) % NODES_COUNT] {
        for command in &refused {
            let ticket = trio.ask(node, CallKind::Write, command);
            trio.settle();
            assert_eq!(trio.refusal(ticket), (Status::NoSpace, Executed::No));
        }
        for command in &taken {
            let ticket = trio.ask(node, CallKind::Write, command);
            trio.settle();
            assert!(trio.answers[&ticket].is_ok(), "{:?}", trio.answers[&ticket]);
        }
    }
}

#[test]
fn what_a_command_is_refused_for_is_told_and_nothing_of_it_is_done() {
    let (mut trio, leader) = trio_with(16, |options| options.machine.command_keys_limit = 5);
    put_keys(&mut trio, leader, 10);
    let before = trio.leader_view().revision;
    let future = Op::Range(RangeOp { revision: 99, ..whole(b"k", b"z") });
    let put = put(b"new", b"v");
    let mut command = Vec::new();
    encode_txn_command(&Txn { success: vec![put, future], ..Txn::default() }, &mut command).expect("valid");
    let all = op_command(&Op::Delete { range: KeyRange { key: b"k", range_end: b"z" }, prev_kv: false });
    for (command, status) in [(command, Status::FutureRevision), (all, Status::TooLarge)] {
        let ticket = trio.ask((leader + 1) % NODES_COUNT, CallKind::Write, &command);
        trio.settle();
        assert_eq!(trio.refusal(ticket), (status, Executed::No));
    }
    (0..5).for_each(|_| trio.round());
    assert!(trio.nodes.iter().all(|node| node.replica.view().revision == before));
}
