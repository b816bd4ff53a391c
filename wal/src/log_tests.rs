//! The log without crashes: what is appended, read, superseded, synced, and refused.

use crate::format::{EntryHeader, EntryKind, FRAME_HEADER_BYTES, frame_bytes};
use crate::limits::PAGE_BYTES;
use crate::origin::ORIGIN_FIXED_BYTES;
use crate::test_support::*;
use crate::testing::SimStorage;
use crate::types::{EntryId, Index, Term};
use crate::{AppendError, HardStateRecord, Latch, Log, LogOptions, OpenError, SyncFailure};

fn hard_state(term: u64, vote: u64) -> HardStateRecord {
    HardStateRecord { term: Term::new(term), vote }
}

/// A log without entries whose first segment was begun, so that its origin is durable.
fn begun_log(seed: u64) -> Log<SimStorage> {
    let mut log = new_log(seed);
    log.append_hard_state(hard_state(0, 0)).expect("room");
    sync_all(&mut log);
    log
}

#[test]
fn a_new_log_is_empty_and_asks_for_its_first_segments() {
    let (mut log, report) = Log::open(SimStorage::new(IDENTITY, SEGMENT_BYTES, 1), OPTIONS).expect("an empty log");
    assert_eq!((report.segments_count, report.last), (0, EntryId::ZERO));
    assert_eq!((log.first_index(), log.last_id()), (Index::new(1), EntryId::ZERO));
    assert_eq!(log.term(Index::ZERO), Some(Term::ZERO));
    assert_eq!(log.term(Index::new(1)), None);
    assert_eq!(log.durable_lsn(), log.end_lsn());
    assert_eq!(log.next_sync(), None);
    assert_eq!(append(&mut log, 1, 1, b"early"), Err(AppendError::SegmentNotReady));
    assert!(!log.has_room_for([1]));
    for wanted in 1..=3 {
        assert_eq!(log.needs_segment(), Some(seq(wanted)));
        log.storage_mut().prepare(seq(wanted));
    }
    assert_eq!(log.needs_segment(), None);
    assert!(append(&mut log, 1, 1, b"now").is_ok());
}

#[test]
fn entries_read_back_where_they_lie() {
    let mut log = new_log(1);
    let bytes = b"payload of seventeen";
    let header = EntryHeader::new(id(3, 1), KIND, bytes);
    let end = log.append_entry(&header, bytes).expect("room");
    assert_eq!(end, log.end_lsn());
    let entry = log.entry(Index::new(1)).expect("readable").expect("present");
    assert_eq!((entry.id(), entry.kind(), entry.payload()), (id(3, 1), KIND, &bytes[..]));
    assert_eq!(entry.header(), &header);
    assert_eq!(entry.bytes(), [header.as_bytes(), bytes].concat());
    assert_eq!(entry.verify(), Ok(()));
    assert_eq!(log.entry_bytes(Index::new(1)), entry.bytes().len() as u64);
    assert!(log.entry(Index::new(2)).expect("readable").is_none());
    assert_eq!(log.entry_bytes(Index::new(2)), 0);
}

#[test]
fn nothing_is_durable_before_its_sync_and_a_sync_covers_only_what_came_before_it() {
    let mut log = new_log(1);
    append(&mut log, 1, 1, b"one").expect("room");
    let first = log.next_sync().expect("something to sync");
    assert_eq!(log.next_sync(), None, "one at a time");
    append(&mut log, 1, 2, b"two").expect("room");
    assert_eq!(log.persisted_index(), Index::ZERO);
    log.on_synced(first.id, Ok(()));
    assert_eq!(log.persisted_index(), Index::new(1));
    assert_eq!(log.durable_lsn(), first.upto);
    let second = log.next_sync().expect("the second entry");
    assert_eq!(second.start_offset, first.end_offset);
    log.on_synced(second.id, Ok(()));
    assert_eq!(log.persisted_index(), Index::new(2));
    assert_eq!(log.next_sync(), None);
}

#[test]
fn a_sync_under_way_does_not_cover_an_entry_that_supersedes() {
    let mut log = new_log(1);
    append_many(&mut log, 1, 1..=3, 10);
    let sync = log.next_sync().expect("three entries");
    append(&mut log, 2, 2, b"other").expect("room");
    assert_eq!((log.last_id(), log.term(Index::new(3))), (id(2, 2), None));
    log.on_synced(sync.id, Ok(()));
    assert_eq!(log.persisted_index(), Index::new(1), "the entry at 2 is a new one");
    sync_all(&mut log);
    assert_eq!(log.persisted_index(), Index::new(2));
}

#[test]
fn superseding_durable_entries_lowers_what_is_persisted() {
    let mut log = new_log(1);
    append_many(&mut log, 1, 1..=5, 10);
    sync_all(&mut log);
    assert_eq!(log.persisted_index(), Index::new(5));
    append(&mut log, 3, 3, b"other").expect("room");
    assert_eq!(log.persisted_index(), Index::new(2));
    assert_eq!(log.stats().entries_superseded_count, 3);
    sync_all(&mut log);
    assert_eq!(log.persisted_index(), Index::new(3));
}

#[test]
fn across_segments_the_older_one_is_synced_first() {
    let mut log = new_log(1);
    append(&mut log, 1, 1, &[1; 5000]).expect("room");
    let early = log.next_sync().expect("the first entry");
    append(&mut log, 1, 2, &[2; 100]).expect("room behind the first");
    append(&mut log, 1, 3, &[3; 5000]).expect("room in the next segment");
    assert_eq!((place(&log, 2).0, place(&log, 3).0), (seq(1), seq(2)));
    log.on_synced(early.id, Ok(()));
    assert_eq!(log.persisted_index(), Index::new(1));
    let rest = log.next_sync().expect("the rest of the first segment");
    assert_eq!((rest.seq, rest.start_offset), (seq(1), early.end_offset));
    log.on_synced(rest.id, Ok(()));
    assert_eq!(log.persisted_index(), Index::new(2));
    let next = log.next_sync().expect("the second segment");
    assert_eq!((next.seq, next.start_offset), (seq(2), 4096));
    log.on_synced(next.id, Ok(()));
    assert_eq!((log.persisted_index(), log.next_sync()), (Index::new(3), None));
    assert_eq!(log.durable_lsn(), log.end_lsn());
}

#[test]
fn a_batch_is_one_entry_put_together_in_place() {
    let mut log = begun_log(1);
    log.begin_batch(id(1, 1), KIND, 10).expect("room");
    log.batch_push(&[b"ab", b"", b"cde"]).expect("room");
    log.batch_push(&[b"fghij"]).expect("room");
    assert_eq!((log.batch_bytes(), log.batch_id()), (10, Some(id(1, 1))));
    assert_eq!(log.last_id(), EntryId::ZERO, "not an entry yet");
    assert_eq!(log.next_sync(), None, "and not covered by a sync");
    assert_eq!(log.end_lsn(), log.durable_lsn(), "and not behind the log's end");
    assert_eq!(log.finish_batch(), Ok(id(1, 1)));
    let entry = log.entry(Index::new(1)).expect("readable").expect("present");
    assert_eq!((entry.payload(), entry.verify()), (&b"abcdefghij"[..], Ok(())));
    assert_eq!(*entry.header(), EntryHeader::new(id(1, 1), KIND, b"abcdefghij"));
    assert_eq!(log.finish_batch(), Err(AppendError::NoBatch));
    assert_eq!(log.batch_push(&[b"x"]), Err(AppendError::NoBatch));
}

#[test]
fn nothing_else_is_appended_while_a_batch_is_formed() {
    let mut log = new_log(1);
    log.begin_batch(id(1, 1), KIND, 0).expect("room");
    assert_eq!(append(&mut log, 1, 1, b"x"), Err(AppendError::BatchOpen));
    assert_eq!(log.append_hard_state(hard_state(1, 1)), Err(AppendError::BatchOpen));
    assert_eq!(log.append_mark(), Err(AppendError::BatchOpen));
    assert_eq!(log.begin_batch(id(1, 1), KIND, 0), Err(AppendError::BatchOpen));
    log.abandon_batch();
    assert!(log.append_hard_state(hard_state(1, 1)).is_ok());
}

#[test]
fn an_abandoned_batch_leaves_nothing_behind() {
    let mut log = begun_log(1);
    log.begin_batch(id(1, 1), KIND, 0).expect("room");
    log.batch_push(&[&[7; 3000]]).expect("room");
    log.abandon_batch();
    let (segment, offset) = log.writing_end();
    assert!(log.storage().live_is_zero_from(segment, offset));
    log.abandon_batch();
    assert_eq!(log.stats().batches_abandoned_count, 1);
    append(&mut log, 1, 1, b"short").expect("room");
    sync_all(&mut log);
    let (log, report) = reopen(log.into_storage()).expect("sound");
    assert_eq!((log.last_id(), report.tail), (id(1, 1), crate::Tail::Clean));
}

#[test]
fn a_batch_that_is_full_says_so_and_keeps_what_it_has() {
    let mut log = new_log(1);
    log.begin_batch(id(1, 1), KIND, 10).expect("room");
    log.batch_push(&[&[1; 6900]]).expect("room");
    assert_eq!(log.batch_push(&[&[2; 100], &[3; 100]]), Err(AppendError::BatchFull));
    assert_eq!(log.batch_bytes(), 6900);
    assert!(matches!(log.batch_push(&[&[2; 9000]]), Err(AppendError::TooLarge { payload_bytes: 9000, .. })));
    log.finish_batch().expect("a batch");
    log.begin_batch(id(1, 2), KIND, 2000).expect("the next segment");
    log.batch_push(&[&[2; 100], &[3; 100]]).expect("room");
    log.finish_batch().expect("a batch");
    assert_eq!(place(&log, 2).0, seq(2));
    sync_all(&mut log);
    assert_eq!(log.persisted_index(), Index::new(2));
}

#[test]
fn an_entry_may_fill_a_segment_and_not_exceed_it() {
    let mut log = new_log(1);
    let limit = log.payload_limit_bytes();
    assert_eq!(
        append(&mut log, 1, 1, &vec![1; limit + 1]),
        Err(AppendError::TooLarge { payload_bytes: limit + 1, limit_bytes: limit })
    );
    assert!(log.has_room_for([limit + 1]), "waiting for a segment would not help");
    append(&mut log, 1, 1, &vec![1; limit]).expect("just fits");
    append(&mut log, 1, 2, &vec![2; limit]).expect("the next segment");
    assert_eq!((place(&log, 1).0, place(&log, 2).0), (seq(1), seq(2)));
}

#[test]
fn without_a_next_segment_entries_wait_and_hard_states_do_not() {
    let mut log = new_log(1);
    let limit = log.payload_limit_bytes();
    for index in 1..=6 {
        // Two that fill a segment: the longest entry leaves what the members might have taken.
        let bytes = if index % 2 == 1 { limit - 64 } else { 900 };
        assert!(log.has_room_for([bytes]));
        append(&mut log, 1, index, &vec![1; bytes]).expect("three segments are ready");
    }
    assert!(!log.has_room_for([100]));
    assert_eq!(append(&mut log, 1, 7, &[1; 100]), Err(AppendError::SegmentNotReady));
    assert_eq!(log.begin_batch(id(1, 7), KIND, 100), Err(AppendError::SegmentNotReady));
    for term in 1..=64 {
        log.append_hard_state(hard_state(term, 1)).expect("the reserve");
    }
    let mut term = 65;
    while log.append_hard_state(hard_state(term, 1)).is_ok() {
        term += 1;
    }
    assert_eq!(log.append_hard_state(hard_state(term, 1)), Err(AppendError::SegmentNotReady));
    sync_all(&mut log);
    log.storage_mut().prepare(seq(4));
    log.append_hard_state(hard_state(term, 1)).expect("the new segment");
    sync_all(&mut log);
    let (log, _) = reopen(log.into_storage()).expect("sound");
    assert_eq!((log.hard_state(), log.last_id()), (hard_state(term, 1), id(1, 6)));
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let mut log = new_log(1);
    append_many(&mut log, 2, 1..=2, 8);
    for (term, index) in [(2, 4), (2, 0), (1, 3), (1, 2)] {
        let refused = append(&mut log, term, index, b"x");
        assert_eq!(refused, Err(AppendError::OutOfSequence { got: id(term, index), last: id(2, 2) }));
    }
    assert_eq!(
        log.begin_batch(id(2, 2), KIND, 0),
        Err(AppendError::OutOfSequence { got: id(2, 2), last: id(2, 2) }),
        "a leader never supersedes its own entries"
    );
    let reserved = EntryHeader::local(EntryKind::HARD_STATE, Term::new(2), &[0; 8]);
    assert_eq!(log.append_entry(&reserved, &[0; 8]), Err(AppendError::ReservedKind { kind: EntryKind::HARD_STATE }));
    assert_eq!(log.last_id(), id(2, 2));
}

#[test]
#[should_panic(expected = "takes back")]
fn a_vote_is_never_taken_back() {
    let mut log = new_log(1);
    log.append_hard_state(hard_state(5, 1)).expect("room");
    log.append_hard_state(hard_state(5, 2)).expect("panics before that");
}

#[test]
fn a_failed_sync_latches_for_ever() {
    let mut log = new_log(1);
    append(&mut log, 1, 1, b"one").expect("room");
    sync_all(&mut log);
    append(&mut log, 1, 2, b"two").expect("room");
    let sync = log.next_sync().expect("the second entry");
    log.on_synced(sync.id, Err(SyncFailure::new("no such luck")));
    let latch = log.latched().expect("latched").clone();
    assert!(matches!(&latch, Latch::SyncFailed { segment, .. } if *segment == seq(1)));
    assert!(latch.to_string().contains("no such luck"), "{latch}");
    assert_eq!(append(&mut log, 1, 3, b"three"), Err(AppendError::Latched(latch.clone())));
    assert_eq!(log.append_hard_state(hard_state(1, 1)), Err(AppendError::Latched(latch.clone())));
    assert_eq!(log.append_mark(), Err(AppendError::Latched(latch.clone())));
    assert_eq!(log.begin_batch(id(1, 3), KIND, 0), Err(AppendError::Latched(latch)));
    assert_eq!(log.next_sync(), None);
    assert_eq!(log.persisted_index(), Index::new(1), "what was durable stays durable");
    assert_eq!(log.last_id(), id(1, 2), "and what is there can be read");
}

#[test]
fn a_segment_of_another_log_is_not_written_to() {
    let other = crate::SegmentIdentity { node_id: 23, ..IDENTITY };
    let (mut log, _) = Log::open(SimStorage::new(other, SEGMENT_BYTES, 1), OPTIONS).expect("an empty log");
    log.storage_mut().prepare(seq(1));
    let refused = append(&mut log, 1, 1, b"x").expect_err("prepared for another node");
    assert!(matches!(refused, AppendError::Latched(Latch::ForeignSegment { .. })), "{refused}");
    assert!(log.latched().is_some());
}

#[test]
fn has_room_for_agrees_with_appending() {
    for bytes in [0, 1, 100, 3000, 7000] {
        let mut log = new_log(bytes as u64);
        let mut index = 0;
        while log.has_room_for([bytes, bytes]) {
            log.append_hard_state(hard_state(index + 1, 1)).expect("counted in");
            for _ in 0..2 {
                index += 1;
                append(&mut log, index, index, &vec![1; bytes]).expect("counted in");
            }
        }
        assert!(index > 0);
    }
}

#[test]
fn impossible_segment_sizes_are_refused() {
    let storage = SimStorage::new(IDENTITY, SEGMENT_BYTES, 1);
    let options = LogOptions { segment_bytes: 12345, ..OPTIONS };
    assert_eq!(Log::open(storage, options).err(), Some(OpenError::SegmentBytes { got: 12345 }));
}

#[test]
fn stats_count_what_happened() {
    let mut log = new_log(1);
    append(&mut log, 1, 1, &[1; 8]).expect("room");
    log.append_hard_state(hard_state(1, 1)).expect("room");
    sync_all(&mut log);
    log.append_mark().expect("room");
    let stats = log.stats();
    assert_eq!((stats.entries_count, stats.hard_states_count, stats.marks_count), (1, 1, 2));
    assert_eq!((stats.syncs_started_count, stats.syncs_completed_count), (1, 1));
    let origin = frame_bytes(ORIGIN_FIXED_BYTES) as u64;
    let frames_bytes = (PAGE_BYTES + FRAME_HEADER_BYTES) as u64 - origin;
    assert_eq!(stats.frames_bytes, frames_bytes, "the mark begins the next page");
    assert_eq!(stats.synced_bytes, origin + 2 * frame_bytes(8) as u64);
}
