//! Calls on their way: passed on and answered in parts, asked by a node for itself, and a kind that is neither read nor write.

use api::command::Op;
use api::response::{OpResponse, Response};
use engine::call::{CallKind, Part, Ticket};
use engine::entries_error::EntriesError;
use engine::log_store::{FormError, KIND_COMMANDS};
use engine::replica::{Event, Remark};
use engine::state_machine::batch::{self, Batched, Sender};
use engine::types::Index;
use net::api::{Executed, Status};

use crate::answers::{EXPIRED_TICKS, PART_BYTES_MAX, Trio};
use crate::host::{NODES_COUNT, node_id};
use crate::ops::{op_command, put, request, whole};

#[test]
fn an_answer_that_is_passed_on_comes_in_parts_and_is_the_same() {
    let mut trio = Trio::new(21);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    for key in 0..20 {
        trio.put(leader, format!("key-{key}").as_bytes());
    }
    trio.settle();
    // Reads are answered where they come in, but a command is passed on, whatever it does.
    let all = op_command(&Op::Range(whole(b"\0", b"\0")));
    let [near, far] = [leader, follower].map(|node| trio.ask(node, CallKind::Write, &all));
    trio.settle();
    let expected = trio.answers[&near].clone().expect("the leader answers");
    assert!(!trio.parts.contains_key(&near), "an answer that stays on its node is one part");
    assert_eq!(trio.answers[&far], Ok(expected.clone()));
    let parts = &trio.parts[&far];
    assert_eq!(parts.len(), (expected.len() - 1) / PART_BYTES_MAX);
    assert!(parts.iter().all(|part| part.len() == PART_BYTES_MAX));
    trio.check_all_answered();
}

#[test]
fn a_hash_is_the_same_on_all_nodes_and_another_after_a_write() {
    let mut trio = Trio::new(25);
    let leader = trio.leader().expect("there is one");
    // More than one slice of it.
    for key in 0..400 {
        trio.put(leader, format!("{key:0200}").as_bytes());
        trio.settle();
    }
    let hashes = |trio: &mut Trio| {
        (0..10).for_each(|_| trio.round());
        let tickets: Vec<u64> = (0..NODES_COUNT).map(|node| trio.ask(node, CallKind::Hash, b"")).collect();
        trio.settle();
        tickets.iter().map(|ticket| trio.answers[ticket].clone().expect("a hash")).collect::<Vec<_>>()
    };
    let before = hashes(&mut trio);
    assert_eq!(before[0].len(), 24);
    assert!(before.iter().all(|hash| *hash == before[0]), "{before:?}");
    // What is written while it is taken is not in it.
    let (asked, written) = (trio.ask(leader, CallKind::Hash, b""), trio.put(leader, b"another"));
    trio.settle();
    assert!(trio.answers[&written].is_ok());
    assert_eq!(trio.answers[&asked], Ok(before[0].clone()));
    let after = hashes(&mut trio);
    assert!(after.iter().all(|hash| *hash == after[0] && *hash != before[0]), "{after:?}");
}

#[test]
fn a_hash_that_nobody_waits_for_any_more_holds_no_state() {
    let mut trio = Trio::new(26);
    let leader = trio.leader().expect("there is one");
    // More than a turn of it.
    for key in 0..8 {
        let puts = (0..1000).map(|number| format!("{key}-{number}")).collect::<Vec<_>>();
        puts.iter().for_each(|key| {
            trio.put(leader, key.as_bytes());
        });
        trio.settle();
    }
    let asked = trio.ask(leader, CallKind::Hash, b"");
    trio.deliver(leader, Event::Turn);
    assert!(trio.nodes[leader].replica.machine().readings_count() > 0 && !trio.answers.contains_key(&asked));
    trio.deliver(leader, Event::Left(&[Ticket(asked)]));
    trio.deliver(leader, Event::Turn);
    assert!(trio.nodes[leader].replica.machine().readings_count() == 0);
    trio.check_all_answered();
}

#[test]
fn of_an_answer_whose_rest_is_lost_nothing_counts() {
    let mut trio = Trio::new(22);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    let number = trio.put(follower, b"key");
    let relayed = trio.packets.len();
    assert!(relayed > 0, "the call is on its way");
    // The leader's answer begins, and its connection breaks.
    let (from, shown) = (node_id(leader), vec![7; 10]);
    let first = 1;
    trio.deliver(follower, Event::RelayReply { from, number: first, part: Part::More(&shown) });
    assert_eq!(trio.parts[&number], [shown]);
    trio.deliver(follower, Event::PeerDisconnected(node_id(leader)));
    assert_eq!(trio.refusal(number), (Status::Unavailable, Executed::Unknown));
    // What comes late is nobody's.
    trio.deliver(follower, Event::RelayReply { from, number: first, part: Part::Last(Ok(b"late")) });
    trio.deliver(follower, Event::PeerConnected(node_id(leader)));
    trio.settle();
}

#[test]
fn an_answer_without_end_is_given_up() {
    let mut trio = Trio::new(23);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    let number = trio.put(follower, b"key");
    let shown = vec![7; 8 << 20];
    for _ in 0..8 {
        let part = Part::More(shown.as_slice());
        trio.deliver(follower, Event::RelayReply { from: node_id(leader), number: 1, part });
        assert!(!trio.answers.contains_key(&number));
    }
    trio.deliver(follower, Event::RelayReply { from: node_id(leader), number: 1, part: Part::More(b"x") });
    assert_eq!(trio.refusal(number), (Status::TooLarge, Executed::Unknown));
    trio.settle();
}

#[test]
fn a_node_asks_for_itself_and_is_told_what_became_of_it() {
    let mut trio = Trio::new(24);
    let leader = trio.leader().expect("there is one");
    let nodes = [leader, (leader + 1) % NODES_COUNT];
    let write = |key| op_command(&put(key, b"v"));
    let own = [(0, b"of-the-leader".as_slice()), (1, b"of-a-follower")];
    let numbers = own.map(|(at, key)| trio.ask_itself(nodes[at], CallKind::Write, &write(key)));
    trio.settle();
    for (number, (_, key)) in numbers.into_iter().zip(own) {
        assert!(trio.answers[&number].is_ok(), "{:?}", trio.answers[&number]);
        let read = trio.read(leader, key);
        trio.settle();
        let response = Response::decode(trio.answers[&read].as_ref().expect("read")).expect("sound");
        assert!(matches!(&response.ops[..], [OpResponse::Range { count: 1, .. }]), "{response:?}");
    }
    // Without a quorum the outcome is told, too.
    trio.isolate(leader);
    let number = trio.ask_itself(leader, CallKind::Write, &write(b"lost"));
    (0..EXPIRED_TICKS).for_each(|_| trio.round());
    assert!(trio.answers[&number].is_err());
}

#[test]
fn a_leader_does_not_log_what_it_could_not_apply() {
    let mut trio = Trio::new(4);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    let write = trio.ask(follower, CallKind::Write, b"no command");
    let read = trio.ask(follower, CallKind::Read, b"no range");
    trio.settle();
    for ticket in [write, read] {
        assert_eq!(trio.refusal(ticket), (Status::Invalid, Executed::No));
    }
    let after = trio.put(follower, b"after");
    trio.settle();
    assert!(trio.answers[&after].is_ok());
}

#[test]
fn a_failed_sync_answers_everything_that_waits_also_what_was_relayed() {
    let mut trio = Trio::new(3);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    trio.faults_are_expected = true;
    trio.hung.extend([0, 1, 2]);
    trio.put(leader, b"k");
    trio.settle();
    let write = trio.put(follower, b"k");
    let read = trio.read(follower, b"k");
    trio.fail_sync(follower);
    assert!(trio.nodes[follower].replica.fault().is_some(), "the sync was to fail");
    assert_eq!(trio.refusal(write), (Status::Unavailable, Executed::Unknown));
    assert_eq!(trio.refusal(read), (Status::Unavailable, Executed::No));
}

/// The senders of the commands in a node's log, in their order.
fn senders_in_log(trio: &Trio, node: usize) -> Vec<Sender> {
    let log = trio.nodes[node].replica.log();
    let entries = (1..=log.last_id().index.get()).map(|index| log.entry(Index::new(index)).expect("it is whole"));
    let batches = entries.flatten().filter(|entry| entry.kind() == KIND_COMMANDS);
    let commands = batches.flat_map(|entry| batch::commands_of(entry.payload()).expect("a batch"));
    commands.filter_map(|command: Result<Batched<'_>, _>| command.expect("a command").sender).collect()
}

#[test]
fn a_sender_comes_from_its_call_into_every_log_and_its_answer_into_every_state() {
    let mut trio = Trio::with_sessions(61, &[0, 1, 2]);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    let write = op_command(&put(b"k", b"v"));
    let sender = |number| Sender::new(9, number);
    // At the leader, passed on to it, and after waiting for the next segment.
    let near = trio.ask_of(leader, CallKind::Write, &write, sender(1));
    trio.settle();
    let far = trio.ask_of(follower, CallKind::Write, &write, sender(2));
    trio.settle();
    trio.crawling.insert(leader);
    let large = op_command(&put(b"large", &vec![7; 600_000]));
    let mut late = Vec::new();
    while trio.nodes[leader].replica.stats().writes_queued == 0 {
        late.push(trio.ask_of(leader, CallKind::Write, &large, sender(3 + late.len() as u64)));
        trio.settle();
        assert!(late.len() < 10, "the segments that are there are full at some time");
    }
    trio.crawling.clear();
    (0..5).for_each(|_| trio.round());
    for number in [&[near, far][..], &late].concat() {
        assert!(trio.answers[&number].is_ok(), "{:?}", trio.answers[&number]);
    }
    let digest = trio.nodes[leader].replica.machine().digest();
    for node in 0..NODES_COUNT {
        let expected: Vec<_> = (1..3 + late.len() as u64).filter_map(sender).collect();
        assert_eq!(senders_in_log(&trio, node), expected);
        assert_eq!(trio.nodes[node].replica.machine().digest(), digest, "node {node} made other answers");
    }
}

#[test]
fn a_call_of_a_session_is_refused_where_there_are_none_and_so_is_one_that_does_not_write() {
    let mut trio = Trio::with_sessions(62, &[1]);
    let leader = trio.leader().expect("there is one");
    let (write, sender) = (op_command(&put(b"k", b"v")), Sender::new(9, 1));
    for node in 0..NODES_COUNT {
        let read = trio.ask_of(node, CallKind::Read, &request(&whole(b"k", b"")), sender);
        assert_eq!(trio.refusal(read), (Status::Invalid, Executed::No));
    }
    for node in [0, 2] {
        let number = trio.ask_of(node, CallKind::Write, &write, sender);
        let Err(refusal) = &trio.answers[&number] else { panic!("it is done") };
        assert_eq!((refusal.status, refusal.executed), (Status::Invalid, Executed::No));
        assert!(refusal.message.contains("sessions are not built yet"), "{refusal}");
    }
    // What a node that has sessions passes on, its leader may not be able to do.
    if leader != 1 {
        let number = trio.ask_of(1, CallKind::Write, &write, sender);
        trio.settle();
        assert_eq!(trio.refusal(number), (Status::Invalid, Executed::No));
    }
    assert!((0..NODES_COUNT).all(|node| senders_in_log(&trio, node).is_empty()));
}

#[test]
fn a_follower_without_sessions_takes_no_entry_of_one() {
    // Whoever leads alone has them.
    let leader = Trio::new(63).leader().expect("there is one");
    let mut trio = Trio::with_sessions(63, &[leader]);
    assert_eq!(trio.leader(), Some(leader), "the same seed");
    let write = op_command(&put(b"k", b"v"));
    let number = trio.ask_of(leader, CallKind::Write, &write, Sender::new(9, 1));
    (0..EXPIRED_TICKS).for_each(|_| trio.round());
    assert_eq!(trio.refusal(number), (Status::Timeout, Executed::Unknown));
    for follower in (0..NODES_COUNT).filter(|node| *node != leader) {
        assert!(senders_in_log(&trio, follower).is_empty());
        let is_told = |remark: &Remark| match remark {
            Remark::CorruptAppend { error: EntriesError::Form { error, .. }, .. } => *error == FormError::Sender,
            _ => false,
        };
        let remarks = &trio.nodes[follower].remarks;
        assert!(remarks.iter().any(is_told), "{remarks:?}");
    }
}
