//! What a node knows to be committed from an earlier life, against leaders and candidates that lack it.

use engine::raft::{
    AppendEntries, Contradiction, ContradictionKind, HardState, Health, LogView, Message, Raft, Ready, Speaker, Tip,
};
use engine::types::{EntryId, Index, Lineage, Term};

use crate::cluster::{config, node_id};
use crate::paper::id;
use crate::sim_log::{SimLog, tips};

/// Node 1 of three in term 2, which noted this entry as committed and has this log.
fn knowing(terms: &[u64], noted: EntryId) -> (Raft, SimLog) {
    let hard_state = HardState { term: Term::new(2), vote: None };
    let log = SimLog::with_terms(terms, hard_state);
    let mut raft = Raft::new(config(3), hard_state, &log);
    // An entry that the log lacks stands right after it.
    let end = log.lineage(log.last_id().index).expect("held");
    let lineage = log.lineage(noted.index).unwrap_or_else(|| tips(end, &[noted])[0].lineage);
    raft.recall_committed(Tip { id: noted, lineage }, &log);
    (raft, log)
}

fn append(term: u64, prev: EntryId, entries: &[EntryId]) -> AppendEntries {
    let last = Index::new(prev.index.get() + entries.len() as u64);
    AppendEntries {
        term: Term::new(term),
        life: 1,
        prev,
        prev_lineage: Lineage::START,
        first: prev.index.next(),
        last,
        commit_index: Index::ZERO,
    }
}

/// What comes of an append of node 2.
fn after(raft: &mut Raft, log: &SimLog, term: u64, prev: EntryId, entries: &[EntryId]) -> Ready {
    // What it says of the entries is not the point here.
    let append = log.as_if_shared(append(term, prev, entries));
    let _ = raft.step_append(node_id(2), &append, &tips(append.prev_lineage, entries), log);
    raft.ready()
}

fn rewrites(term: u64, committed: EntryId, theirs: EntryId) -> Option<Contradiction> {
    let kind = ContradictionKind::Rewrites { committed, theirs };
    Some(Contradiction { leader: node_id(2), term: Term::new(term), kind })
}

#[test]
fn what_was_noted_is_committed_from_the_start_if_the_log_holds_it() {
    assert_eq!(knowing(&[1, 1, 2], id(1, 2)).0.commit_index(), Index::new(2));
    assert_eq!(knowing(&[1, 1, 2], id(2, 2)).0.commit_index(), Index::ZERO, "another entry says nothing");
    assert_eq!(knowing(&[1, 1], id(1, 3)).0.commit_index(), Index::ZERO);
}

#[test]
fn a_leader_is_confirmed_only_once_its_log_was_seen_to_have_what_was_noted() {
    // The host crashed before the noted entry was on its disk.
    let (mut raft, log) = knowing(&[1, 1], id(1, 3));
    let heartbeat = Message::Heartbeat { term: Term::new(2), life: 1, commit_index: Index::ZERO, round: 3 };
    raft.step(node_id(2), Speaker::default(), heartbeat, &log);
    let confirmed = raft.ready().messages.into_iter().find_map(|(_, message)| match message {
        Message::HeartbeatResponse { round, .. } => Some(round),
        _ => None,
    });
    assert_eq!(confirmed, Some(0));
}

#[test]
fn before_a_term_is_durable_only_entries_of_the_term_before_it_are_noted_as_committed() {
    // Terms of the log, the leader's term, what of its entries may be noted before that term is durable. Term 2 is.
    let cases: [(&[u64], u64, u64); 5] = [
        (&[1, 1, 2, 2], 2, 4),
        (&[1, 1, 2, 2], 3, 4),
        // A leader of term 3 need not have them: a crash would take this node back to where it would follow that one.
        (&[1, 1, 2, 2], 4, 0),
        // The leader of term 2 need not have them.
        (&[1, 1], 3, 0),
        (&[], 3, 0),
    ];
    for (terms, term, notable) in cases {
        let (mut raft, log) = knowing(terms, EntryId::ZERO);
        let last = log.last_id();
        after(&mut raft, &log, term, last, &[]);
        let heartbeat = Message::Heartbeat { term: Term::new(term), life: 1, commit_index: last.index, round: 1 };
        raft.step(node_id(2), Speaker::default(), heartbeat, &log);
        let hard_state = raft.hard_state();
        assert_eq!(raft.commit_index(), last.index);
        assert_eq!(raft.notable_index(&log), Index::new(notable), "{terms:?}, leader of term {term}");
        if hard_state.term > Term::new(2) {
            raft.on_hard_state_persisted(hard_state, &log);
        }
        assert_eq!(raft.notable_index(&log), last.index, "{terms:?}, leader of term {term}");
    }
    // What comes after the entries of the term before is of the term that is not durable.
    let (mut raft, mut log) = knowing(&[2, 2], EntryId::ZERO);
    after(&mut raft, &log, 3, id(2, 2), &[id(3, 3)]);
    log.append_entry(id(3, 3));
    raft.on_appended(&log);
    raft.step(
        node_id(2),
        Speaker::default(),
        Message::Heartbeat { term: Term::new(3), life: 1, commit_index: Index::new(3), round: 1 },
        &log,
    );
    assert_eq!((raft.commit_index(), raft.notable_index(&log)), (Index::new(3), Index::new(2)));
}

/// Terms of the log, what comes before the leader's entries, these, the committed entry, and the leader's that excludes it.
type Refused<'a> = (&'a [u64], EntryId, &'a [EntryId], EntryId, EntryId);

#[test]
fn a_leader_with_another_entry_in_place_of_a_committed_one_is_refused_and_gets_no_answer() {
    let noted = id(1, 3);
    let cases: [Refused<'_>; 5] = [
        (&[1, 1, 1], id(1, 2), &[id(3, 3)], id(1, 3), id(3, 3)),
        (&[1, 1, 1], id(3, 2), &[], id(1, 2), id(3, 2)),
        (&[1, 1, 1, 2], id(1, 1), &[id(3, 2)], id(1, 2), id(3, 2)),
        // The log lost the entry; what the leader has excludes it all the same.
        (&[1, 1], id(1, 1), &[id(3, 2)], noted, id(3, 2)),
        (&[1, 1], id(1, 2), &[id(3, 3)], noted, id(3, 3)),
    ];
    for (terms, prev, entries, committed, theirs) in cases {
        let (mut raft, log) = knowing(terms, noted);
        let ready = after(&mut raft, &log, 3, prev, entries);
        assert_eq!(ready.contradiction, rewrites(3, committed, theirs), "log {terms:?}, behind {prev}: {entries:?}");
        assert_eq!((ready.messages, ready.messages_after_persist), (vec![], vec![]));
    }
}

#[test]
fn a_leader_that_has_what_is_committed_is_followed() {
    for (terms, prev, entries) in [
        (&[1, 1, 1][..], id(1, 3), vec![id(3, 4)]),
        (&[1, 1, 1, 2], id(1, 3), vec![id(3, 4)]),
        (&[1, 1], id(1, 2), vec![id(1, 3), id(3, 4)]),
        (&[1, 1], id(1, 9), vec![]),
    ] {
        let (mut raft, log) = knowing(terms, id(1, 3));
        let ready = after(&mut raft, &log, 3, prev, &entries);
        assert_eq!(ready.contradiction, None, "log {terms:?}, behind {prev}: {entries:?}");
    }
}

#[test]
fn a_leader_of_an_earlier_term_is_only_told_the_term() {
    let (mut raft, log) = knowing(&[1, 1, 1], id(1, 3));
    let ready = after(&mut raft, &log, 1, id(1, 1), &[]);
    assert_eq!((ready.contradiction, ready.messages.len()), (None, 1));
}

#[test]
fn nothing_is_confirmed_or_acknowledged_before_the_logs_were_compared() {
    let (mut raft, log) = knowing(&[1, 1, 1], id(1, 3));
    let heartbeat = Message::Heartbeat { term: Term::new(2), life: 1, commit_index: Index::ZERO, round: 9 };
    let answer = |round, index, lineage| {
        let (term, index) = (Term::new(2), Index::new(index));
        let answer = Message::HeartbeatResponse {
            term,
            life: 1,
            round,
            matched_index: index,
            persisted_index: index,
            lineage,
            health: Health::default(),
        };
        vec![(node_id(2), answer)]
    };
    raft.step(node_id(2), Speaker::default(), heartbeat.clone(), &log);
    assert_eq!(raft.ready().messages, answer(0, 0, None));
    after(&mut raft, &log, 2, id(1, 3), &[]);
    raft.step(node_id(2), Speaker::default(), heartbeat, &log);
    assert_eq!(raft.ready().messages, answer(9, 3, log.lineage(Index::new(3))));
}

#[test]
fn a_candidate_whose_log_is_too_short_gets_no_vote_whatever_its_term() {
    let (mut raft, log) = knowing(&[1, 1, 1], id(1, 3));
    for (last, expected) in [(id(2, 2), false), (id(2, 3), true)] {
        raft.step(node_id(2), Speaker::default(), Message::RequestPreVote { term: Term::new(5), last }, &log);
        raft.step(
            node_id(2),
            Speaker::default(),
            Message::RequestVote { term: Term::new(5), last, transfer: false },
            &log,
        );
        let ready = raft.ready();
        let granted = |message: &Message| match message {
            Message::PreVoteResponse { granted, .. } | Message::RequestVoteResponse { granted, .. } => Some(*granted),
            _ => None,
        };
        let all =
            ready.messages.iter().chain(&ready.messages_after_persist).filter_map(|(_, message)| granted(message));
        assert_eq!(all.collect::<Vec<_>>(), [expected; 2], "{last}");
    }
}

#[test]
fn a_node_whose_log_lost_what_it_knows_to_be_committed_does_not_campaign() {
    let (mut raft, log) = knowing(&[1, 1], id(1, 3));
    for _ in 0..100 {
        raft.tick(&log);
    }
    assert_eq!(raft.ready(), Ready::default());
    let (mut raft, log) = knowing(&[1, 1, 1], id(1, 3));
    for _ in 0..100 {
        raft.tick(&log);
    }
    assert!(!raft.ready().messages.is_empty());
}
