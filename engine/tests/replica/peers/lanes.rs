//! What a lane to a peer does not take, and what a peer does not take: who is told, and who sends it again.

use engine::call::Origin;
use engine::raft::{self, AppendEntries, AppendOutcome, Message};
use engine::replica::{Event, Fault, Lane, NotTaken};
use engine::types::{EntryId, Index, NodeId, Term};
use net::api::{Executed, Status};
use wal::{EntryHeader, EntryKind};

use super::{SEGMENT_BYTES, Sent, Subject, fresh, log_with, node_id, options, outcomes};

/// Entries that were sent to node 2.
fn appends(sent: Vec<(NodeId, Sent)>) -> Vec<AppendEntries> {
    let append = |(to, sent)| match sent {
        Sent::Append(append) if to == node_id(2) => Some(append),
        _ => None,
    };
    sent.into_iter().filter_map(append).collect()
}

/// The answer to a heartbeat of a follower that has everything through this index.
fn alive(subject: &Subject, matched_index: Index) -> Message {
    let (term, health) = (subject.host.replica.view().term, raft::Health::default());
    Message::HeartbeatResponse {
        term,
        life: 1,
        round: 0,
        matched_index,
        persisted_index: matched_index,
        lineage: None,
        health,
    }
}

/// A leader that sent node 2 one entry, and the message with that entry.
fn leader_with_entry_in_flight(seed: u64) -> (Subject, AppendEntries) {
    let mut subject = fresh(options(seed));
    subject.lead();
    subject.acknowledge_all();
    subject.sent();
    subject.put(None, 10);
    subject.turn();
    let sent = appends(subject.sent());
    assert_eq!(sent.len(), 1);
    (subject, sent[0])
}

#[test]
fn entries_that_did_not_leave_are_sent_again_once_there_is_a_connection_or_room() {
    let mut subject = fresh(options(9));
    subject.lead();
    subject.acknowledge_all();
    subject.sent();
    subject.put(None, 10);
    subject.turn();
    let sent = appends(subject.sent());
    assert_eq!(sent.len(), 1);
    let dropped = |why| Event::AppendDropped { to: node_id(2), prev_index: sent[0].prev.index, why };
    subject.deliver(dropped(NotTaken::NoConnection));
    assert!(appends(subject.sent()).is_empty(), "no busy loop");
    let alive = alive(&subject, sent[0].prev.index);
    subject.hear(2, alive.clone());
    assert_eq!(appends(subject.sent()), sent);
    // A lane that is full is left alone until it says that it has room.
    subject.deliver(dropped(NotTaken::NoCredit));
    for _ in 0..100 {
        subject.hear(2, alive.clone());
        subject.deliver(Event::Tick);
    }
    assert!(appends(subject.sent()).is_empty(), "it has not said so");
    subject.deliver(Event::LaneHasRoom { to: node_id(2), lane: Lane::Bulk });
    assert_eq!(appends(subject.sent()), sent, "without waiting for anybody");
}

#[test]
fn entries_that_have_not_left_yet_do_not_count_as_lost() {
    let mut subject = fresh(options(12));
    subject.lead();
    subject.acknowledge_all();
    subject.put(None, 10);
    subject.turn();
    subject.sent();
    let alive = alive(&subject, Index::new(1));
    let mut sent_again_after = |waits: bool| {
        for ticks in 0..60 {
            if waits {
                subject.deliver(Event::EntriesWait { to: node_id(2) });
            }
            subject.deliver(Event::Tick);
            subject.hear(2, alive.clone());
            if subject.sent().iter().any(|(to, sent)| *to == node_id(2) && matches!(sent, Sent::Append(_))) {
                return Some(ticks);
            }
        }
        None
    };
    assert_eq!(sent_again_after(true), None, "they wait in the lane");
    assert!(sent_again_after(false).is_some(), "they left, and nothing came of them");
}

#[test]
fn who_finds_a_lane_full_or_gone_is_told_which() {
    let mut subject = fresh(options(13));
    subject.hear(2, Message::Heartbeat { term: Term::new(1), life: 1, commit_index: Index::ZERO, round: 1 });
    for (why, status) in [(NotTaken::NoCredit, Status::Overloaded), (NotTaken::NoConnection, Status::Unavailable)] {
        subject.sent();
        let write = subject.put(None, 10);
        let number = subject.sent().into_iter().find_map(|(_, sent)| match sent {
            Sent::Request(number) => Some(number),
            _ => None,
        });
        subject.deliver(Event::RelayDropped { number: number.expect("it is passed on"), why });
        assert_eq!(subject.refusal(write), (status, Executed::No));
    }
}

#[test]
fn a_lane_that_broke_is_not_full_any_more() {
    let (mut subject, sent) = leader_with_entry_in_flight(14);
    let prev_index = sent.prev.index;
    subject.deliver(Event::AppendDropped { to: node_id(2), prev_index, why: NotTaken::NoCredit });
    subject.deliver(Event::PeerDisconnected(node_id(2)));
    subject.deliver(Event::PeerConnected(node_id(2)));
    let alive = alive(&subject, prev_index);
    subject.hear(2, alive);
    assert_eq!(appends(subject.sent()), [sent], "nobody says that the old connection has room");
}

#[test]
fn an_entry_that_has_no_bytes_did_not_leave() {
    let (mut subject, sent) = leader_with_entry_in_flight(15);
    let prev_index = sent.prev.index;
    subject.deliver(Event::AppendDropped { to: node_id(2), prev_index, why: NotTaken::NotEncoded });
    let alive = alive(&subject, prev_index);
    subject.hear(2, alive);
    assert_eq!(appends(subject.sent()), [sent]);
}

#[test]
fn entries_that_came_damaged_are_sent_again_soon_and_not_at_once() {
    let (mut subject, sent) = leader_with_entry_in_flight(16);
    let (term, matched_index) = (subject.host.replica.view().term, sent.prev.index);
    let outcome = AppendOutcome::Damaged { matched_index, persisted_index: matched_index, lineage: None };
    let (alive, damaged) = (alive(&subject, matched_index), Message::AppendEntriesResponse { term, life: 1, outcome });
    let mut ticks_until_sent = || {
        for ticks in 0..100 {
            // Both are said again and again.
            subject.hear(2, alive.clone());
            subject.hear(2, damaged.clone());
            for (first, last) in std::mem::take(&mut subject.host.loads) {
                subject.deliver(Event::Loaded { first, last, result: Ok(()) });
            }
            let again = appends(subject.sent());
            if !again.is_empty() {
                assert_eq!(again, [sent]);
                return ticks;
            }
            subject.deliver(Event::Tick);
        }
        panic!("they are never sent again");
    };
    let (first, second) = (ticks_until_sent(), ticks_until_sent());
    assert!(first > 1 && second > 1, "its own copy may be damaged");
    assert!(first < 10 && second < 10, "before they would count as lost: {first}, {second}");
}

#[test]
fn a_leader_whose_own_copy_of_an_entry_is_damaged_finds_that_once_it_came_damaged_twice() {
    for is_own_copy in [true, false] {
        let (mut subject, sent) = leader_with_entry_in_flight(18);
        let (seq, offset) = subject.host.replica.log().place_of(sent.last).expect("held");
        let end = usize::try_from(subject.host.replica.log().entry_bytes(sent.last)).expect("small");
        if is_own_copy {
            subject.host.replica.storage_mut().flip_bit(seq, offset + end - 16, 1);
        }
        let (term, matched_index) = (subject.host.replica.view().term, sent.prev.index);
        let outcome = AppendOutcome::Damaged { matched_index, persisted_index: matched_index, lineage: None };
        let (alive, damaged) =
            (alive(&subject, matched_index), Message::AppendEntriesResponse { term, life: 1, outcome });
        let mut sent_again = Vec::new();
        for _ in 0..100 {
            subject.hear(2, alive.clone());
            subject.hear(2, damaged.clone());
            if !subject.host.loads.is_empty() {
                break;
            }
            sent_again.extend(appends(subject.sent()));
            subject.deliver(Event::Tick);
        }
        assert_eq!(sent_again, [sent], "it is not sent once more before it was looked at");
        assert_eq!(subject.host.loads, [(sent.first, sent.last)]);
        subject.deliver(Event::Loaded { first: sent.first, last: sent.last, result: Ok(()) });
        let fault = subject.host.replica.fault();
        let is_told = matches!(fault, Some(Fault::Read { index, .. }) if *index == sent.last);
        assert_eq!((is_told, fault.is_some()), (is_own_copy, is_own_copy), "{fault:?}");
        assert_eq!(subject.host.replica.view().is_leader, !is_own_copy);
        if !is_own_copy {
            assert_eq!(appends(subject.sent()), [sent], "it was damaged on its way");
        }
    }
}

#[test]
fn entries_of_an_unknown_kind_are_not_called_damaged() {
    let mut log = log_with(&[1, 1], 0, 1 << 20);
    let id = EntryId::new(Term::new(1), Index::new(3));
    log.append_entry(&EntryHeader::new(id, EntryKind::new(99), &[]), &[]).expect("room");
    let mut subject = fresh(options(19));
    subject.append(&log, 1, 2, false);
    subject.sent();
    subject.append(&log, 3, 3, false);
    let refused = AppendOutcome::NoRoom { matched_index: Index::new(2), persisted_index: Index::new(2), lineage: None };
    assert_eq!(outcomes(subject.sent()), [refused]);
}

#[test]
fn a_follower_says_that_entries_came_damaged_until_they_come_whole() {
    let mut subject = fresh(options(17));
    let leader = log_with(&[1; 3], 1000, 1 << 20);
    subject.append(&leader, 1, 1, false);
    subject.sent();
    subject.append(&leader, 2, 3, true);
    let damaged =
        AppendOutcome::Damaged { matched_index: Index::new(1), persisted_index: Index::new(1), lineage: None };
    assert_eq!(outcomes(subject.sent()), [damaged]);
    let heartbeat = Message::Heartbeat { term: Term::new(1), life: 1, commit_index: Index::ZERO, round: 1 };
    subject.hear(2, heartbeat.clone());
    assert_eq!(outcomes(subject.sent()), [damaged], "it may have got lost");
    subject.append(&leader, 2, 3, false);
    let whole = AppendOutcome::Accepted { matched_index: Index::new(3), persisted_index: Index::new(3), lineage: None };
    assert_eq!(outcomes(subject.sent()).last(), Some(&whole));
    subject.hear(2, heartbeat);
    assert_eq!(outcomes(subject.sent()), []);
}

#[test]
fn a_follower_that_could_not_hear_its_leader_says_that_it_missed_entries() {
    let mut subject = fresh(options(18));
    let leader = log_with(&[1; 400], 0, 1 << 20);
    let mut last = 0;
    while !matches!(outcomes(subject.sent()).last(), Some(AppendOutcome::NoRoom { .. })) {
        last += 1;
        subject.append(&leader, last, last, false);
    }
    // A term takes less, but at some time there is no room for the next one either.
    let mut term = 1;
    loop {
        term += 1;
        subject.hear(2, Message::Heartbeat { term: Term::new(term), life: 1, commit_index: Index::ZERO, round: 1 });
        if subject.sent().is_empty() {
            break;
        }
    }
    let mut terms = vec![1; usize::try_from(last - 1).expect("few")];
    terms.push(term);
    let leader = log_with(&terms, 0, 1 << 20);
    subject.append(&leader, last, last, false);
    assert!(subject.sent().is_empty(), "it may say nothing in a term that its disk does not have");
    subject.prepare();
    let got = outcomes(subject.sent());
    assert!(
        matches!(got.as_slice(), [AppendOutcome::NoRoom { .. }, AppendOutcome::Accepted { .. }]),
        "the leader does not know that the entries did not arrive: {got:?}"
    );
    subject.append(&leader, last, last, false);
    let got = outcomes(subject.sent());
    assert!(
        matches!(got.last(), Some(AppendOutcome::Accepted { matched_index, .. }) if matched_index.get() == last),
        "{got:?}"
    );
}

#[test]
fn a_follower_repeats_what_did_not_leave_once_its_lane_has_room() {
    let mut subject = fresh(options(19));
    let leader = log_with(&[1; 5], 0, SEGMENT_BYTES);
    subject.append(&leader, 1, 2, false);
    subject.append(&leader, 4, 5, false);
    let rejected =
        AppendOutcome::Rejected { prev_index: Index::new(3), hint: EntryId::new(Term::new(1), Index::new(2)) };
    let accepted =
        AppendOutcome::Accepted { matched_index: Index::new(2), persisted_index: Index::new(2), lineage: None };
    assert_eq!(outcomes(subject.sent()).last(), Some(&rejected));
    subject.deliver(Event::LaneHasRoom { to: node_id(3), lane: Lane::Control });
    assert!(subject.sent().is_empty(), "that is not its leader");
    subject.deliver(Event::LaneHasRoom { to: node_id(2), lane: Lane::Control });
    assert_eq!(outcomes(subject.sent()), [accepted, rejected]);
    subject.append(&leader, 3, 5, false);
    subject.sent();
    subject.deliver(Event::LaneHasRoom { to: node_id(2), lane: Lane::Control });
    let accepted =
        AppendOutcome::Accepted { matched_index: Index::new(5), persisted_index: Index::new(5), lineage: None };
    assert_eq!(outcomes(subject.sent()), [accepted], "nothing is rejected any more");
}

#[test]
fn answers_on_a_connection_that_was_replaced_are_not_waited_for() {
    // A leader sends again what may not have been taken.
    let (mut subject, sent) = leader_with_entry_in_flight(20);
    subject.deliver(Event::LaneReplaced { from: node_id(2), lane: Lane::Bulk });
    assert!(appends(subject.sent()).is_empty(), "node 2 sends no entries");
    subject.deliver(Event::LaneReplaced { from: node_id(2), lane: Lane::Control });
    let alive = alive(&subject, sent.prev.index);
    subject.hear(2, alive);
    assert_eq!(appends(subject.sent()), [sent]);
    // A node that passed a write on to it does not learn what became of that.
    let mut subject = fresh(options(21));
    subject.hear(2, Message::Heartbeat { term: Term::new(1), life: 1, commit_index: Index::ZERO, round: 1 });
    let write = subject.put(None, 10);
    for lane in [Lane::Control, Lane::Bulk] {
        subject.deliver(Event::LaneReplaced { from: node_id(2), lane });
    }
    subject.deliver(Event::LaneReplaced { from: node_id(3), lane: Lane::Relay });
    assert!(subject.answers.is_empty());
    subject.deliver(Event::LaneReplaced { from: node_id(2), lane: Lane::Relay });
    assert_eq!(subject.refusal(write), (Status::Unavailable, Executed::Unknown));
}

#[test]
fn an_answer_to_a_node_that_is_gone_is_dropped_without_another() {
    let mut subject = fresh(options(22));
    subject.lead();
    subject.acknowledge_all();
    subject.put(Some(Origin::Peer { node: node_id(3), number: 77 }), 10);
    subject.turn();
    subject.acknowledge_all();
    subject.sent();
    subject.deliver(Event::ReplyDropped { to: node_id(3), number: 77, why: NotTaken::NoConnection });
    assert!(subject.sent().is_empty(), "node 3 knows that its request has no answer");
}
