//! Entries of a leader that say which log of a member counts: which of them a follower takes.

use engine::log_store::{KIND_MEMBERS, KIND_NOOP};
use engine::raft::{AppendOutcome, Message};
use engine::types::{EntryId, Index, Term};
use wal::testing::SimStorage;
use wal::{EntryHeader, Log};

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
            log.append_hard_state(wal::HardState { term: id.term, vote: 0 }).expect("room");
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
    subject.hear(2, Message::Heartbeat { term, commit_index, round: 0 });
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
