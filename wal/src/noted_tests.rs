//! The note of what is durable: the rows of recovery's decision table that rest on it, and when it may be believed.

use crate::checksum::HeaderSeed;
use crate::damage::Corruption;
use crate::format::{EntryHeader, FRAME_HEADER_BYTES, FrameHeader};
use crate::limits::{FIRST_FRAME_OFFSET, PAGE_BYTES};
use crate::note;
use crate::segment::SegmentHeader;
use crate::storage::Noted;
use crate::test_support::*;
use crate::testing::SimStorage;
use crate::types::Lsn;
use crate::{DamageKind, Log, Storage, Tail};

/// Ten durable entries in two segments. No watermark covers the last of them: only the note says that they are durable.
fn ten_entries() -> Log<SimStorage> {
    let mut log = new_log(5);
    append_many(&mut log, 3, 1..=10, 1500);
    sync_all(&mut log);
    prepare_all(&mut log);
    assert_eq!(place(&log, 10).0, seq(2));
    log
}

/// What opening says after the process ended and the device changed.
fn damaged(log: Log<SimStorage>, change: impl FnOnce(&mut SimStorage)) -> Corruption {
    let mut storage = log.into_storage();
    storage.crash_process();
    change(&mut storage);
    let before = storage.clone();
    let error = Log::open(&mut storage, OPTIONS).map(|_| ()).expect_err("durable parts are damaged");
    for seq in before.segments() {
        assert_eq!(storage.bytes(seq), before.bytes(seq), "nothing is changed");
    }
    error.corruption().expect("corruption").clone()
}

/// The same, after a crash of the host that took the note: the device alone can't tell.
fn undetected(log: Log<SimStorage>, change: impl FnOnce(&mut SimStorage)) {
    let mut storage = log.into_storage();
    storage.truncate_note(0);
    change(&mut storage);
    let (log, _) = reopen(storage).expect("looks like a torn tail");
    assert!(log.last_id() < id(3, 10), "the test needs a change that takes an entry");
}

#[test]
fn zeros_before_the_note_are_the_missing_end_of_the_log() {
    let (segment, offset) = place(&ten_entries(), 10);
    let bytes = SEGMENT_BYTES as usize - offset;
    let end = ten_entries().end_lsn();
    let change = |storage: &mut SimStorage| storage.overwrite(segment, offset, &vec![0; bytes]);
    let corruption = damaged(ten_entries(), change);
    let damage = corruption.damages[0];
    assert_eq!((damage.segment, damage.offset), (segment, offset));
    assert_eq!((damage.kind, damage.durable), (DamageKind::EndMissing { noted: end }, Some(end)));
    assert_eq!((corruption.damages_count, corruption.intact_last), (1, id(3, 9)));
    undetected(ten_entries(), change);
}

#[test]
fn zeros_before_the_note_with_something_behind_them_are_damage() {
    let (segment, offset) = place(&ten_entries(), 9);
    let change = |storage: &mut SimStorage| storage.overwrite(segment, offset, &[0; FRAME_HEADER_BYTES]);
    let corruption = damaged(ten_entries(), change);
    assert_eq!(corruption.damages[0].kind, DamageKind::FrameHeader);
    assert_eq!((corruption.intact_last, corruption.damages[0].entry_after), (id(3, 8), Some(id(3, 10))));
    undetected(ten_entries(), change);
}

#[test]
fn a_broken_header_before_the_note_is_damage() {
    let (segment, offset) = place(&ten_entries(), 10);
    let change = |storage: &mut SimStorage| storage.flip_bit(segment, offset + 20, 3);
    let corruption = damaged(ten_entries(), change);
    assert_eq!(corruption.damages[0].kind, DamageKind::FrameHeader);
    assert_eq!(corruption.intact_last, id(3, 9));
    undetected(ten_entries(), change);
}

#[test]
fn a_broken_payload_before_the_note_is_damage() {
    let (segment, offset) = place(&ten_entries(), 10);
    let change = |storage: &mut SimStorage| storage.flip_bit(segment, offset + 700, 3);
    let corruption = damaged(ten_entries(), change);
    assert!(matches!(corruption.damages[0].kind, DamageKind::Payload(_)), "{corruption:?}");
    assert_eq!((corruption.damages[0].entry, corruption.intact_last), (Some(id(3, 10)), id(3, 9)));
    undetected(ten_entries(), change);
}

#[test]
fn a_whole_frame_that_does_not_follow_before_the_note_is_damage() {
    let log = ten_entries();
    let (segment, offset) = place(&log, 10);
    let header = SegmentHeader::parse(log.storage().bytes(segment)).expect("a segment");
    let entry = EntryHeader::new(id(3, 10), KIND, b"left over");
    let lsn = Lsn::new(segment.get() * SEGMENT_BYTES + offset as u64);
    let frame = FrameHeader::new(HeaderSeed::new(header.nonce), lsn, 0xBAD, Lsn::new(SEGMENT_BYTES), entry);
    let change = |storage: &mut SimStorage| {
        storage.overwrite(segment, offset, frame.as_bytes());
        storage.overwrite(segment, offset + FRAME_HEADER_BYTES, b"left over");
    };
    let corruption = damaged(log, change);
    assert_eq!(corruption.damages[0].kind, DamageKind::ChainBroken);
    assert_eq!(corruption.intact_last, id(3, 9));
    undetected(ten_entries(), change);
}

#[test]
fn a_note_alone_that_ends_before_the_first_segment_says_that_this_is_missing() {
    let mut storage = ten_entries().into_storage();
    let owner = SegmentHeader::parse(storage.bytes(seq(1))).expect("a segment").log_nonce;
    let mut note = vec![0; note::NOTE_BYTES];
    // Nothing writes such a note; what stands in a damaged directory may be anything.
    let noted = Noted { durable: Lsn::new(SEGMENT_BYTES + 8), first_segment: Some(seq(7)), ..Noted::default() };
    note::store_twice(&mut note, owner, noted);
    for seq in storage.segments() {
        storage.remove(seq);
    }
    storage.overwrite_note(0, &note);
    let error = reopen(storage).map(|_| ()).expect_err("it had a segment");
    let corruption = error.corruption().expect("corruption");
    let kinds: Vec<_> = corruption.damages.iter().map(|damage| (damage.segment, damage.kind)).collect();
    assert_eq!(kinds, [(seq(7), DamageKind::Missing { last: seq(7) })]);
}

#[test]
fn missing_last_segments_are_noticed_by_the_note() {
    for first_missing in 1..=2 {
        let change = |storage: &mut SimStorage| {
            for seq in storage.segments() {
                if seq.get() >= first_missing {
                    storage.remove(seq);
                }
            }
        };
        let corruption = damaged(ten_entries(), change);
        let damage = corruption.damages[0];
        assert_eq!((damage.segment, damage.kind), (seq(first_missing), DamageKind::Missing { last: seq(2) }));
        assert_eq!(corruption.damages_count, 1);
        undetected(ten_entries(), change);
    }
    // A spare one holds nothing and may go.
    let mut storage = ten_entries().into_storage();
    let spare = *storage.segments().last().expect("segments");
    storage.remove(spare);
    assert_eq!(reopen(storage).expect("sound").0.last_id(), id(3, 10));
}

#[test]
fn losing_any_one_page_after_the_process_ended_is_noticed() {
    let (active, _) = ten_entries().writing_end();
    let mut storage = ten_entries().into_storage();
    storage.crash_process();
    for seq in storage.segments().into_iter().filter(|seq| *seq <= active) {
        for page in 0..SEGMENT_BYTES as usize / PAGE_BYTES {
            let mut damaged = storage.clone();
            damaged.zero_page(seq, page * PAGE_BYTES);
            if damaged.bytes(seq) != storage.bytes(seq) {
                let error = reopen(damaged).expect_err("a page is lost");
                assert!(error.corruption().is_some(), "{error}");
            }
        }
    }
}

#[test]
fn a_zeroed_first_page_of_the_last_segment_is_named_there() {
    let corruption = damaged(ten_entries(), |storage| storage.zero_page(seq(2), FIRST_FRAME_OFFSET));
    let damage = corruption.damages[0];
    assert_eq!((damage.segment, damage.offset), (seq(2), FIRST_FRAME_OFFSET));
}

#[test]
fn what_was_not_durable_is_cut_as_before() {
    let mut log = ten_entries();
    append_many(&mut log, 3, 11..=12, 100);
    let (segment, offset) = place(&log, 11);
    let mut storage = log.into_storage();
    storage.crash_process();
    storage.flip_bit(segment, offset + 20, 1);
    let (log, report) = reopen(storage).expect("a torn tail");
    assert!(matches!(report.tail, Tail::Torn(_)));
    assert_eq!(log.last_id(), id(3, 10));
}

#[test]
fn a_note_is_made_by_every_sync_and_by_opening() {
    let mut log = new_log(1);
    assert_eq!(log.storage().noted().durable, Lsn::ZERO, "nothing is durable yet");
    for index in 1..=20 {
        append_many(&mut log, 1, index..=index, 900);
        let before = log.durable_lsn();
        assert!(log.storage().noted().durable <= before, "an append notes nothing");
        sync_all(&mut log);
        assert_eq!(log.storage().noted().durable, log.end_lsn());
    }
    // Opening acknowledges what it reads, so that is noted too.
    append_many(&mut log, 1, 21..=21, 900);
    let mut storage = log.into_storage();
    storage.crash_process();
    let (log, report) = reopen(storage).expect("sound");
    assert_eq!((report.last, log.storage().noted().durable), (id(1, 21), log.end_lsn()));
}

#[test]
fn a_failed_sync_notes_nothing() {
    let mut log = ten_entries();
    let noted = log.storage().noted().durable;
    append_many(&mut log, 3, 11..=11, 100);
    let request = log.next_sync().expect("something to sync");
    log.storage_mut().begin_sync(&request);
    let failure = log.storage_mut().fail_sync(request.id);
    log.on_synced(request.id, Err(failure));
    assert_eq!(log.storage().noted().durable, noted);
}

#[test]
fn after_a_crash_of_the_host_a_note_is_old_or_gone_and_never_wrong() {
    let (mut gone, mut latest) = (0, 0);
    for seed in 0..200 {
        let mut log = new_log(seed);
        for index in 1..=8 {
            append_many(&mut log, 1, index..=index, 100);
            sync_all(&mut log);
        }
        let durable = log.durable_lsn();
        let mut storage = log.into_storage();
        storage.crash();
        let noted = storage.noted().durable;
        assert!(noted <= durable);
        gone += u32::from(noted == Lsn::ZERO);
        latest += u32::from(noted == durable);
        assert_eq!(reopen(storage).expect("sound").0.last_id(), id(1, 8));
    }
    assert!(gone > 0 && latest > 0 && gone + latest < 200, "{gone} gone, {latest} the latest");
}

#[test]
fn damage_to_the_note_itself_keeps_no_log_from_opening() {
    let log = ten_entries();
    let end = log.durable_lsn();
    let storage = log.into_storage();
    let changes: [fn(&mut SimStorage); 6] = [
        |storage| storage.flip_note_bit(33, 2),
        |storage| storage.flip_note_bit(PAGE_BYTES + 33, 2),
        |storage| storage.zero_note_page(0),
        |storage| storage.zero_note_page(1),
        |storage| storage.truncate_note(0),
        |storage| storage.misdirect_onto_note((seq(1), FIRST_FRAME_OFFSET), 0),
    ];
    for change in changes {
        let mut storage = storage.clone();
        change(&mut storage);
        let (log, _) = reopen(storage).expect("sound");
        assert_eq!((log.last_id(), log.storage().noted().durable), (id(3, 10), end), "and the note is made again");
    }
}

#[test]
fn the_note_of_a_log_that_was_replaced_is_not_believed() {
    let mut storage = ten_entries().into_storage();
    for seq in storage.segments() {
        storage.remove(seq);
    }
    // A new log in the same place, with the same identity and another nonce.
    storage.prepare(seq(1));
    let (log, report) = reopen(storage).expect("a new log");
    assert_eq!((log.last_id(), report.frames_count), (id(0, 0), 0));
    assert_eq!(log.storage().noted().durable, log.end_lsn());
}
