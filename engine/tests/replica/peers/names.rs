//! Entries of a leader that say which log of a member counts: which of them a follower takes.

use engine::log_store::{KIND_COMMANDS, KIND_MEMBERS, KIND_NOOP};
use engine::raft::{AppendOutcome, Message};
use engine::state_machine::{self, StateMachine};
use engine::types::{EntryId, Index, Term};
use wal::testing::SimStorage;
use wal::{EntryHeader, Log};

use crate::host::{self, Host};

use super::{SEGMENT_BYTES, Subject, fresh, log_with, options, outcomes};

/// Member, log and the entry that named it first.
type Name = (u64, u64, u64);

/// The payload of an entry that holds these names; there are three voters.
fn naming(names: &[Name]) -> Vec<u8> {
    let row = |id| {
        let (_, log, since) = names.iter().copied().find(|(member, ..)| *member == id).unwrap_or_default();
        [id, 1, log, since]
    };
    let head = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    let rows = (1..=3).flat_map(row).flat_map(u64::to_le_bytes);
    head.into_iter().chain(rows).collect()
}

/// A leader's log: of each entry its term and the names that it holds; without any it is a no-op.
fn log_of(entries: &[(u64, &[Name])]) -> Log<SimStorage> {
    let mut log = log_with(&[], 0, SEGMENT_BYTES);
    for (index, (term, names)) in (1..).zip(entries) {
        let id = EntryId::new(Term::new(*term), Index::new(index));
        let (kind, payload) = if names.is_empty() { (KIND_NOOP, Vec::new()) } else { (KIND_MEMBERS, naming(names)) };
        if log.hard_state().term < id.term {
            log.append_hard_state(wal::HardStateRecord { term: id.term, vote: 0 }).expect("room");
        }
        log.append_entry(&EntryHeader::new(id, kind, &payload), &payload).expect("room");
    }
    log
}

/// A follower that has the first entries of this log, the last of which names a log of node 3.
fn follower(seed: u64) -> Subject {
    let mut subject = fresh(options(seed));
    subject.append(&log_of(&[(1, &[]), (1, &[(3, 301, 2)])]), 1, 2, false);
    assert_eq!(last_index(&subject), 2);
    subject.sent();
    subject
}

fn last_index(subject: &Subject) -> u64 {
    subject.host.replica.view().last_index.get()
}

#[test]
fn an_entry_that_forgets_which_log_of_a_member_counts_is_refused() {
    let named: (u64, &[Name]) = (1, &[(3, 301, 2)]);
    let refused: [&[Name]; 5] = [
        // The name is left out.
        &[(1, 100, 3)],
        // It names the first log of the member again, as of an entry that named another.
        &[(1, 100, 3), (3, 300, 2)],
        // It goes back to before that entry.
        &[(1, 100, 3), (3, 301, 1)],
        // The log that counts already is no news.
        &[(3, 301, 3)],
        // No entry before it named this log.
        &[(1, 100, 3), (2, 201, 1), (3, 301, 2)],
    ];
    for names in refused {
        let log = log_of(&[(1, &[]), named, (1, names)]);
        let mut subject = follower(40);
        subject.append(&log, 3, 3, false);
        assert_eq!(last_index(&subject), 2, "{names:?}");
        // In one message with the entry that it has to be compared with.
        let mut subject = fresh(options(41));
        subject.append(&log, 1, 3, false);
        assert_eq!(last_index(&subject), 0, "{names:?}");
    }
    let taken: [&[Name]; 2] = [&[(1, 100, 3), (3, 301, 2)], &[(3, 302, 3)]];
    for names in taken {
        let mut subject = follower(42);
        subject.append(&log_of(&[(1, &[]), named, (1, names)]), 3, 3, false);
        assert_eq!(last_index(&subject), 3, "{names:?}");
    }
}

#[test]
fn a_leader_repeats_no_name_of_an_entry_that_it_supersedes() {
    let mut subject = follower(43);
    subject.append(&log_of(&[(1, &[]), (2, &[]), (2, &[(1, 101, 3)])]), 2, 3, false);
    assert_eq!(last_index(&subject), 3);
    assert_eq!(subject.host.replica.log().term(Index::new(2)), Some(Term::new(2)));
}

#[test]
fn entries_that_come_again_are_acknowledged_whatever_they_name() {
    let entries: [(u64, &[Name]); 4] =
        [(1, &[]), (1, &[(3, 301, 2)]), (1, &[(2, 201, 3), (3, 301, 2)]), (1, &[(2, 201, 3), (3, 302, 4)])];
    let log = log_of(&entries);
    let mut subject = fresh(options(44));
    subject.append(&log, 1, 3, false);
    // What is committed is never superseded, so that the membership before entry 3 is forgotten once there is a later one.
    let (term, commit_index) = (Term::new(1), Index::new(3));
    subject.hear(2, Message::Heartbeat { term, life: 1, commit_index, round: 0 });
    subject.append(&log, 4, 4, false);
    subject.sent();
    for first in 2..=4 {
        subject.append(&log, first, 4, false);
        let last = outcomes(subject.sent()).pop();
        assert!(
            matches!(last, Some(AppendOutcome::Accepted { matched_index, .. }) if matched_index == Index::new(4)),
            "from entry {first}: {last:?}"
        );
    }
}

/// Entries that name logs, many of them, with so much between them that the log has several segments; and the state at the last one.
fn log_in_segments(entries: &[(u64, &[Name])]) -> (Log<SimStorage>, StateMachine) {
    let mut log = log_with(&[], 0, SEGMENT_BYTES);
    let mut machine = StateMachine::new(state_machine::Options::default());
    log.append_hard_state(wal::HardStateRecord { term: Term::new(1), vote: 0 }).expect("room");
    for (index, (term, names)) in (1..).zip(entries) {
        while let Some(seq) = log.needs_segment() {
            log.storage_mut().prepare(seq);
        }
        let id = EntryId::new(Term::new(*term), Index::new(index));
        let is_members = !names.is_empty();
        let payload = if is_members { naming(names) } else { super::batch_of(5000) };
        let kind = if is_members { KIND_MEMBERS } else { KIND_COMMANDS };
        log.append_entry(&EntryHeader::new(id, kind, &payload), &payload).expect("room");
        // What the entries put is of no interest.
        machine.apply_noop(id).expect("in order");
    }
    while let Some(request) = log.next_sync() {
        log.storage_mut().sync(&request);
        log.on_synced(request.id, Ok(()));
    }
    (log, machine)
}

/// The log of an owner who is at this entry of it, opened again.
fn open_at(log: Log<SimStorage>, state: EntryId) -> Log<SimStorage> {
    let lineage = log.lineage(state.index).expect("held");
    host::open_at(0, log.into_storage(), state, lineage)
}

/// The log and what its owner is at, without whole segments at its start, opened again.
fn without_prefix(mut log: Log<SimStorage>, state: EntryId) -> Log<SimStorage> {
    log.drop_before(state.index).expect("a segment is dropped");
    log.storage_mut().complete_removal();
    open_at(log, state)
}

#[test]
fn a_name_that_stands_before_the_log_counts_again_when_the_entry_that_replaced_it_is_cut() {
    let nothing: (u64, &[Name]) = (1, &[]);
    let mut entries = vec![nothing, (1, &[(3, 301, 2)])];
    entries.extend([nothing; 8]);
    let (log, machine) = log_in_segments(&entries);
    // Entries 11 and 12 follow, which are not committed: 11 names another log of node 3.
    let state = machine.as_of().applied;
    let mut log = without_prefix(log, state);
    assert!(log.base().index > Index::new(2), "the entry that named the first log is gone");
    let later: [(u64, &[Name]); 2] = [(1, &[(3, 302, 11)]), (1, &[(2, 201, 12), (3, 302, 11)])];
    for (index, (term, names)) in (11..).zip(later) {
        let payload = naming(names);
        let id = EntryId::new(Term::new(term), Index::new(index));
        log.append_entry(&EntryHeader::new(id, KIND_MEMBERS, &payload), &payload).expect("room");
    }
    let log = open_at(log, state);
    let mut subject = Subject::of(Host::with_state(options(45), log, machine));
    // Another leader supersedes both, and its entry repeats what stands before the log.
    let (leader, _) = log_in_segments(&[&entries[..], &[(2, &[(2, 202, 11), (3, 301, 2)])]].concat());
    subject.append(&leader, 11, 11, false);
    let log = subject.host.replica.log();
    assert_eq!((log.last_id().index, log.term(Index::new(11))), (Index::new(11), Some(Term::new(2))));
    assert_eq!(log.members(), naming(&[(2, 202, 11), (3, 301, 2)]));
}

#[test]
fn the_members_in_an_origin_are_those_of_the_entries_before_it_also_after_a_restart() {
    let nothing: (u64, &[Name]) = (1, &[]);
    let named: &[Name] = &[(3, 301, 2)];
    let (log, _) = log_in_segments(&[nothing, (1, named)]);
    let log = host::open(0, log.into_storage());
    let mut subject = Subject::new(options(46), log);
    let mut entries = vec![nothing, (1, named)];
    entries.extend([nothing; 8]);
    let (leader, machine) = log_in_segments(&entries);
    for index in 3..=10 {
        subject.append(&leader, index, index, false);
        subject.prepare();
    }
    assert_eq!(last_index(&subject), 10);
    let mut storage = subject.host.replica.into_storage();
    storage.settle();
    let state = machine.as_of().applied;
    let log = without_prefix(host::open(0, storage), state);
    assert!(log.base().index > Index::new(2), "the entry that named the log is gone");
    assert_eq!(log.base_members(), naming(named));
}
