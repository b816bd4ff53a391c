//! Segments that were prepared and never used rot or get lost: they are made anew, and no other segment ever is.

use crate::format::EntryKind;
use crate::test_support::*;
use crate::testing::SimStorage;
use crate::walk::{SegmentImage, Step, Walk};
use crate::{Log, Storage, Tail};

/// What can happen to a whole segment.
const LOSSES: [fn(&mut SimStorage, u64); 5] = [
    |storage, segment| storage.flip_bit(seq(segment), 20, 1),
    |storage, segment| storage.zero_page(seq(segment), 0),
    |storage, segment| storage.truncate(seq(segment), 9000),
    |storage, segment| storage.truncate(seq(segment), 0),
    |storage, segment| storage.remove(seq(segment)),
];

/// A durable log that ends in segment 2, with segments 3 and 4 ready; the device holds all of it.
fn ending_in_two() -> Log<SimStorage> {
    let mut log = new_log(5);
    append_many(&mut log, 3, 1..=10, 1500);
    sync_all(&mut log);
    prepare_all(&mut log);
    assert_eq!((log.writing_end().0, log.storage().segments().len()), (seq(2), 4));
    log
}

/// The same with one more entry, so large that it begins segment 3 although segment 2 has room.
fn going_on_in_three() -> Log<SimStorage> {
    let mut log = ending_in_two();
    append_many(&mut log, 3, 11..=11, 7000);
    sync_all(&mut log);
    assert_eq!(place(&log, 11).0, seq(3));
    log
}

fn after_death(log: Log<SimStorage>) -> SimStorage {
    let mut storage = log.into_storage();
    assert!(storage.crash_process(), "everything reached the device");
    storage
}

#[test]
fn a_segment_that_was_never_used_is_made_anew() {
    for (number, lose) in LOSSES.iter().enumerate() {
        for segment in 3..=4 {
            let mut storage = after_death(ending_in_two());
            lose(&mut storage, segment);
            let (mut log, report) = reopen(storage).unwrap_or_else(|error| panic!("loss {number}: {error}"));
            let is_lost_last = segment == 4 && number == 4;
            assert_eq!((report.last, report.tail), (id(3, 10), Tail::Clean));
            assert_eq!(report.unused_from, (!is_lost_last).then_some(seq(segment)), "loss {number}");
            assert_eq!(log.needs_segment(), Some(seq(segment)));
            append_many(&mut log, 3, 11..=30, 1500);
            sync_all(&mut log);
            let (log, _) = reopen(after_death(log)).expect("sound");
            assert_eq!(log.last_id(), id(3, 30));
        }
    }
}

#[test]
fn a_segment_that_was_used_is_never_made_anew_whatever_the_note_says() {
    let older = after_death(ending_in_two());
    for (number, lose) in LOSSES.iter().enumerate() {
        let intact = after_death(going_on_in_three());
        // As the process left it; from before segment 3 was used; gone.
        for note in ["exact", "older", "gone"] {
            let mut storage = intact.clone();
            match note {
                "exact" => {}
                "older" => storage.copy_note_of(&older),
                _ => storage.truncate_note(0),
            }
            lose(&mut storage, 3);
            let opened = reopen(storage).map(|(log, _)| log.last_id());
            assert!(opened.is_err(), "loss {number}, note {note}: {opened:?}");
        }
    }
}

#[test]
fn without_a_note_or_with_remains_nothing_is_certain() {
    let mut storage = after_death(ending_in_two());
    storage.truncate_note(0);
    storage.remove(seq(3));
    assert!(reopen(storage).is_err(), "no note");
    let mut storage = after_death(ending_in_two());
    storage.flip_bit(seq(3), 20, 1);
    storage.overwrite(seq(3), 12_000, b"something");
    assert!(reopen(storage).is_err(), "something stands in the damaged segment");
    let mut storage = after_death(ending_in_two());
    storage.flip_bit(seq(3), 20, 1);
    storage.overwrite(seq(4), 12_000, b"something");
    assert!(reopen(storage).is_err(), "something stands in the segment behind it");
    let mut storage = after_death(ending_in_two());
    let (segment, offset) = ending_in_two().writing_end();
    storage.flip_bit(seq(3), 20, 1);
    storage.overwrite(segment, offset, b"something");
    assert!(reopen(storage).is_err(), "something stands where the log ends, which may have been a seal");
}

#[test]
fn every_segment_that_was_left_ends_with_a_seal_and_hard_states_leave_room_for_it() {
    let mut log = new_log(5);
    append_many(&mut log, 3, 1..=20, 1500);
    for vote in 1..=200 {
        prepare_all(&mut log);
        log.append_hard_state(crate::HardStateRecord { term: crate::types::Term::new(vote), vote }).expect("room");
    }
    sync_all(&mut log);
    let last = log.writing_end().0;
    let storage = after_death(log);
    let images: Vec<_> =
        storage.segments().into_iter().map(|seq| SegmentImage { seq, bytes: storage.bytes(seq) }).collect();
    let geometry = crate::lsn::Geometry::new(SEGMENT_BYTES).expect("a size");
    let mut last_kinds = std::collections::BTreeMap::new();
    for step in Walk::new(&images, geometry, Some(IDENTITY), crate::Noted::default()) {
        if let Step::Frame(frame) = step {
            last_kinds.insert(frame.segment, frame.header.entry().kind());
        }
    }
    assert!(last >= seq(4));
    for (segment, kind) in last_kinds {
        assert_eq!(kind == EntryKind::SEAL, segment < last, "segment {segment}");
    }
}

#[test]
fn a_log_that_died_right_behind_a_seal_goes_on() {
    // The seal is durable and nothing of the next segment is.
    let log = going_on_in_three();
    let (first_of_three, _) = place(&log, 11);
    let mut storage = log.into_storage();
    storage.crash_process();
    storage.truncate_note(0);
    storage.overwrite(first_of_three, crate::limits::FIRST_FRAME_OFFSET, &vec![0; SEGMENT_BYTES as usize - 4096]);
    let (mut log, report) = reopen(storage).expect("a clean end behind the seal");
    assert_eq!(report.last, id(3, 10));
    append_many(&mut log, 3, 11..=40, 1500);
    sync_all(&mut log);
    let (log, _) = reopen(after_death(log)).expect("sound");
    assert_eq!(log.last_id(), id(3, 40));
}
