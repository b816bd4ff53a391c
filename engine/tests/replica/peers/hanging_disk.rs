//! A leader whose disk hangs is deposed: what becomes of the writes that are under way at it.

use engine::log_store;
use engine::raft::Message;
use engine::types::{EntryId, Index, Term};
use net::api::{Executed, Status};
use wal::testing::SimStorage;
use wal::{EntryHeader, Log};

use super::{SEGMENT_BYTES, Subject, fresh, log_with, options, outcomes};

/// A leader of term 1 whose disk hangs and that has a write under way, deposed by node 2 in this term.
fn deposed_while_its_disk_hangs(seed: u64, term: u64) -> (Subject, u64) {
    let mut subject = fresh(options(seed));
    subject.lead();
    subject.acknowledge_all();
    subject.disk_hangs = true;
    let ticket = subject.put(None, 10);
    subject.turn();
    let view = subject.host.replica.view();
    assert_eq!((view.term, view.last_index, view.persisted_index), (Term::new(1), Index::new(2), Index::new(1)));
    let last = EntryId::new(view.term, view.last_index);
    subject.hear(2, Message::RequestVote { term: Term::new(term), last, transfer: true });
    assert!(!subject.host.replica.view().is_leader);
    subject.sent();
    (subject, ticket)
}

/// The log of the next leader: the first entries of this node's, and the no-op of its term.
fn next_leader(subject: &Subject, shared: u64, term: u64) -> Log<SimStorage> {
    let mut log = log_with(&[], 0, SEGMENT_BYTES);
    log.append_hard_state(wal::HardStateRecord { term: Term::new(term), vote: 0 }).expect("room");
    for index in (1..=shared).map(Index::new) {
        let entry = subject.host.replica.log().entry(index).expect("readable").expect("held");
        log.append_entry(entry.header(), entry.payload()).expect("room");
    }
    let id = EntryId::new(Term::new(term), Index::new(shared + 1));
    log.append_entry(&EntryHeader::new(id, log_store::KIND_NOOP, &[]), &[]).expect("room");
    log
}

#[test]
fn a_write_under_way_when_a_leader_with_a_hanging_disk_hands_over_is_answered_once_the_next_leader_commits_it() {
    let (mut subject, ticket) = deposed_while_its_disk_hangs(10, 2);
    let leader = next_leader(&subject, 2, 2);
    subject.append(&leader, 3, 3, false);
    assert!(!subject.answers.contains_key(&ticket), "nobody knows yet");
    subject.hear(2, Message::Heartbeat { term: Term::new(2), life: 1, commit_index: Index::new(3), round: 1 });
    assert!(subject.answers.get(&ticket).is_some_and(Result::is_ok), "{:?}", subject.answers);
    // It promises nothing of the term that is not on its disk, and notes nothing of that term's entries.
    assert!(outcomes(subject.sent()).is_empty());
    let noted = subject.host.replica.log().noted().committed;
    assert_eq!(
        (noted, subject.host.replica.view().commit_index),
        (EntryId::new(Term::new(1), Index::new(2)), Index::new(3))
    );
    subject.disk_goes_on();
    assert_eq!(subject.host.replica.view().applied_index, Index::new(3));
    assert!(!outcomes(subject.sent()).is_empty());
}

#[test]
fn a_write_whose_fate_a_deposed_leader_does_not_learn_is_unknown_after_an_election_timeout() {
    // The next leader is two terms ahead, has another entry in the write's place, or commits nothing.
    for (term, shared, commit_index) in [(3, 2, 3), (2, 1, 2), (2, 2, 0)] {
        let (mut subject, ticket) = deposed_while_its_disk_hangs(11, term);
        let (leader, last) = (next_leader(&subject, shared, term), shared + 1);
        subject.append(&leader, last, last, false);
        let heartbeat =
            Message::Heartbeat { term: Term::new(term), life: 1, commit_index: Index::new(commit_index), round: 1 };
        for _ in 0..25 {
            subject.hear(2, heartbeat.clone());
            subject.tick(1);
        }
        assert_eq!(subject.refusal(ticket), (Status::Unavailable, Executed::Unknown), "term {term}, {shared}");
        // Nobody gets a second answer.
        subject
            .hear(2, Message::Heartbeat { term: Term::new(term), life: 1, commit_index: Index::new(last), round: 2 });
        subject.disk_goes_on();
        assert_eq!(subject.host.replica.view().applied_index, Index::new(last));
        assert_eq!(subject.host.replica.view().pending_writes_count, 0);
    }
}
