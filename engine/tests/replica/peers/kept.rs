//! A state that is kept beside the log: what is dropped, and what a follower gets that lacks it.

use super::*;

/// A leader whose log has several segments, all of it committed by node 2 and applied; node 3 never answered.
fn leader_of_several_segments() -> Subject {
    let mut subject = fresh(options(60));
    subject.prepare();
    subject.lead();
    for _ in 0..12 {
        subject.put(None, 5000);
        subject.turn();
        subject.acknowledge_all();
        subject.prepare();
    }
    assert!(segments_count(&subject) > 3, "{} segments", segments_count(&subject));
    subject
}

fn segments_count(subject: &Subject) -> usize {
    wal::Storage::segments(subject.host.replica.log().storage()).len()
}

#[test]
fn segments_below_a_kept_state_go_and_whoever_lacks_them_needs_a_state() {
    let mut subject = leader_of_several_segments();
    let as_of = subject.host.replica.state_to_keep().expect("everything is durable and applied");
    assert_eq!(as_of.applied.index, subject.host.replica.view().last_index);
    let (before, first) = (segments_count(&subject), subject.host.replica.log().first_index());
    subject.deliver(Event::KeepState);
    assert_eq!(subject.host.replica.state_being_kept().map(|reading| *reading.as_of()), Some(as_of));
    subject.put(None, 100);
    subject.turn();
    subject.acknowledge_all();
    subject.deliver(Event::StateKept);
    let log = subject.host.replica.log();
    assert!(segments_count(&subject) < before && log.first_index() > first);
    assert!(log.base().index <= as_of.applied.index && log.term(as_of.applied.index).is_some());
    // Once more: there is nothing left to drop.
    let (after, base) = (segments_count(&subject), log.base());
    subject.deliver(Event::KeepState);
    subject.deliver(Event::StateKept);
    assert_eq!((segments_count(&subject), subject.host.replica.log().base()), (after, base));
    // Node 3 turns out to have nothing.
    let term = subject.host.replica.view().term;
    let outcome = AppendOutcome::Rejected { prev_index: base.index, hint: EntryId::ZERO };
    subject.sent();
    subject.hear(3, Message::AppendEntriesResponse { term, life: 1, outcome });
    subject.tick(30);
    let appends = subject
        .sent()
        .into_iter()
        .filter(|(to, sent)| *to == node_id(3) && matches!(sent, Sent::Append(append) if append.first <= base.index));
    assert_eq!(appends.count(), 0, "entries that were dropped are sent");
    assert!(subject.host.replica.fault().is_none());
}

#[test]
fn a_state_that_is_not_durable_here_is_not_kept() {
    let mut subject = leader_of_several_segments();
    subject.disk_hangs = true;
    subject.put(None, 100);
    subject.turn();
    // Nodes 2 and 3 commit it without this node's disk.
    subject.acknowledge_all();
    let view = subject.host.replica.view();
    let outcome =
        AppendOutcome::Accepted { matched_index: view.last_index, persisted_index: view.last_index, lineage: None };
    subject.hear(3, Message::AppendEntriesResponse { term: view.term, life: 1, outcome });
    assert_eq!(subject.host.replica.view().applied_index, view.last_index, "a quorum of others has it");
    assert_eq!(subject.host.replica.state_to_keep(), None);
    subject.deliver(Event::KeepState);
    assert!(subject.host.replica.state_being_kept().is_none());
    subject.disk_goes_on();
    assert!(subject.host.replica.state_to_keep().is_some());
}

#[test]
fn a_read_for_a_follower_that_fails_because_its_entries_were_dropped_stops_nobody() {
    let mut subject = leader_of_several_segments();
    subject.deliver(Event::KeepState);
    subject.deliver(Event::StateKept);
    let loaded = |first| Event::Loaded { first, last: first.next(), result: Err("no such file".to_owned()) };
    subject.deliver(loaded(Index::new(1)));
    assert!(subject.host.replica.fault().is_none(), "{:?}", subject.host.replica.fault());
    let first = subject.host.replica.log().first_index();
    subject.deliver(loaded(first));
    assert!(subject.host.replica.fault().is_some(), "the device failed where the log is");
}
