//! One test per row of recovery's decision table, the report of each kind of damage, and recovery interrupted.

use crate::damage::{Corruption, TornTail};
use crate::decision::{Decision, Finding, Surroundings, decide};
use crate::format::{EntryHeader, EntryKind, FRAME_HEADER_BYTES, FrameHeader, frame_bytes};
use crate::limits::FIRST_FRAME_OFFSET;
use crate::origin::ORIGIN_FIXED_BYTES;
use crate::segment::{IdentityField, IdentityMismatch, SegmentHeader, SegmentHeaderError};
use crate::test_support::*;
use crate::testing::SimStorage;
use crate::types::{EntryId, HardStateRecord, Index, Lsn, Term};
use crate::{DamageKind, Log, LogOptions, OpenError, SegmentIdentity, Storage, Tail};

/// Ten durable entries of 500 bytes in two segments; a mark after them if wanted. Entry 11 would follow.
fn ten_entries(mark: bool) -> Log<SimStorage> {
    let mut log = new_log(5);
    append_many(&mut log, 3, 1..=10, 1500);
    sync_all(&mut log);
    prepare_all(&mut log);
    if mark {
        log.append_mark().expect("room");
        sync_all(&mut log);
    }
    prepare_all(&mut log);
    log
}

/// What opening says about damage to ten durable entries after which there is a mark.
fn damaged(change: impl FnOnce(&mut SimStorage, &dyn Fn(u64) -> (crate::SegmentSeq, usize))) -> Corruption {
    let log = ten_entries(true);
    let places: Vec<_> = (1..=10).map(|index| place(&log, index)).collect();
    let mut storage = log.into_storage();
    change(&mut storage, &|index| places[index as usize - 1]);
    let before = storage.clone();
    let error = Log::open(&mut storage, OPTIONS).map(|_| ()).expect_err("durable parts are damaged");
    for seq in before.segments() {
        assert_eq!(storage.bytes(seq), before.bytes(seq), "nothing is changed");
    }
    assert!(error.to_string().contains(".wal, offset "), "{error}");
    error.corruption().expect("corruption").clone()
}

/// What opening says about a log whose tail was changed without any proof that it was durable.
fn torn(log: Log<SimStorage>, change: impl FnOnce(&mut SimStorage)) -> (Log<SimStorage>, TornTail) {
    let mut storage = log.into_storage();
    change(&mut storage);
    let (log, report) = reopen(storage).expect("a torn tail is cut");
    let Tail::Torn(torn) = report.tail else { panic!("{:?}", report.tail) };
    assert!(log.storage().live_is_zero_from(torn.segment, torn.offset), "cut");
    (log, torn)
}

#[test]
fn the_table_decides_every_combination() {
    for finding in [Finding::Zeros, Finding::BadHeader, Finding::BadPayload, Finding::BrokenChain, Finding::CutOff] {
        for rest_is_zero in [false, true] {
            for (durable_beyond, noted_beyond) in [(true, true), (true, false), (false, true)] {
                let around = Surroundings { durable_beyond, noted_beyond, rest_is_zero };
                assert_eq!(decide(finding, around), Decision::Refuse, "{finding:?} {around:?}");
            }
            let expected = match finding {
                Finding::CutOff => Decision::Refuse,
                Finding::Zeros if rest_is_zero => Decision::EndClean,
                _ => Decision::EndTorn,
            };
            let around = Surroundings { durable_beyond: false, noted_beyond: false, rest_is_zero };
            assert_eq!(decide(finding, around), expected);
        }
    }
}

#[test]
fn whole_frames_that_follow_are_accepted_across_segments() {
    let log = ten_entries(false);
    assert!(place(&log, 10).0 > place(&log, 1).0, "the test needs two segments");
    let (log, report) = reopen(log.into_storage()).expect("sound");
    assert_eq!((report.entries_count, report.last, report.tail), (10, id(3, 10), Tail::Clean));
    assert_eq!(log.persisted_index(), Index::new(10));
    for index in 1..=10 {
        let entry = log.entry(Index::new(index)).expect("readable").expect("present");
        assert_eq!((entry.payload(), entry.verify()), (&payload(3, index, 1500)[..], Ok(())));
    }
}

#[test]
fn bytes_behind_a_full_segments_last_frame_mean_nothing() {
    let log = ten_entries(false);
    let (seq, offset) = place(&log, 10);
    let last_before = (1..10).rev().map(|index| place(&log, index)).find(|(other, _)| *other < seq);
    let (full, last) = last_before.expect("an entry in the full segment");
    assert!(offset >= FIRST_FRAME_OFFSET);
    let mut storage = log.into_storage();
    storage.overwrite(full, last + frame_bytes(1500) + frame_bytes(0) + 16, &[0xAB; 64]);
    let (_, report) = reopen(storage).expect("sound");
    assert_eq!((report.entries_count, report.tail), (10, Tail::Clean));
}

#[test]
fn zeros_and_nothing_beyond_are_a_clean_end() {
    let mut log = new_log(1);
    append(&mut log, 1, 1, b"one").expect("room");
    sync_all(&mut log);
    append(&mut log, 1, 2, b"never synced").expect("room");
    let mut storage = log.into_storage();
    storage.crash_losing_everything();
    let (log, report) = reopen(storage).expect("sound");
    assert_eq!((report.last, report.tail), (id(1, 1), Tail::Clean));
    assert_eq!((log.end_lsn(), log.durable_lsn()), (report.end, report.end));
}

#[test]
fn zeros_with_unsynced_remains_beyond_are_a_torn_tail() {
    let mut log = ten_entries(true);
    let end = log.end_lsn();
    append_many(&mut log, 3, 11..=12, 100);
    let (seq, offset) = place(&log, 11);
    let (log, torn) = torn(log, |storage| storage.overwrite(seq, offset, &[0; 152]));
    assert_eq!((torn.segment, torn.offset, torn.found), (seq, offset, None));
    assert_eq!((torn.frames_count, torn.last_entry), (1, Some(id(3, 12))));
    assert_eq!((log.last_id(), log.end_lsn()), (id(3, 10), end));
}

#[test]
fn a_broken_header_with_no_watermark_beyond_is_a_torn_tail() {
    let mut log = ten_entries(true);
    append_many(&mut log, 3, 11..=12, 100);
    let (seq, offset) = place(&log, 11);
    let (log, torn) = torn(log, |storage| storage.flip_bit(seq, offset + 20, 3));
    assert_eq!((torn.segment, torn.offset, torn.found), (seq, offset, Some(DamageKind::FrameHeader)));
    assert_eq!(log.last_id(), id(3, 10));
}

#[test]
fn a_broken_payload_with_no_watermark_beyond_is_a_torn_tail() {
    let mut log = ten_entries(true);
    append_many(&mut log, 3, 11..=11, 100);
    let (seq, offset) = place(&log, 11);
    let (log, torn) = torn(log, |storage| storage.overwrite(seq, offset + 100, &[0; 20]));
    assert!(matches!(torn.found, Some(DamageKind::Payload(_))), "{torn:?}");
    assert_eq!((torn.frames_count, torn.last_entry), (1, Some(id(3, 11))));
    assert_eq!(log.last_id(), id(3, 10));
}

#[test]
fn a_whole_frame_that_does_not_follow_is_cut_with_the_tail() {
    let log = ten_entries(true);
    let (seq, offset) = log.writing_end();
    let header = SegmentHeader::parse(log.storage().bytes(seq)).expect("a segment");
    let entry = EntryHeader::new(id(3, 11), KIND, b"left over");
    let lsn = Lsn::new(seq.get() * SEGMENT_BYTES + offset as u64);
    let seed = crate::checksum::HeaderSeed::new(header.nonce);
    let frame = FrameHeader::new(seed, lsn, 0xBAD, log.durable_lsn(), entry);
    let (log, torn) = torn(log, |storage| {
        storage.overwrite(seq, offset, frame.as_bytes());
        storage.overwrite(seq, offset + FRAME_HEADER_BYTES, b"left over");
    });
    assert_eq!(torn.found, Some(DamageKind::ChainBroken));
    assert_eq!(log.last_id(), id(3, 10));
}

#[test]
fn a_flipped_bit_in_a_durable_header_is_named() {
    let corruption = damaged(|storage, place| {
        let (seq, offset) = place(4);
        storage.flip_bit(seq, offset + 24, 0);
    });
    let log = ten_entries(true);
    let damage = corruption.damages[0];
    assert_eq!((damage.segment, damage.offset), place(&log, 4));
    assert_eq!(damage.kind, DamageKind::FrameHeader);
    assert_eq!((damage.entry, damage.entry_before, damage.entry_after), (None, Some(id(3, 3)), Some(id(3, 5))));
    assert_eq!(damage.resume_offset, place(&log, 5).1);
    assert!(damage.durable.is_some());
    assert_eq!((corruption.damages_count, corruption.intact_last), (1, id(3, 3)));
}

#[test]
fn a_flipped_bit_in_a_durable_payload_is_named_with_its_entry() {
    let corruption = damaged(|storage, place| {
        let (seq, offset) = place(4);
        storage.flip_bit(seq, offset + 100, 7);
    });
    let damage = corruption.damages[0];
    assert!(matches!(damage.kind, DamageKind::Payload(_)), "{damage}");
    assert_eq!(
        (damage.entry, damage.entry_before, damage.entry_after),
        (Some(id(3, 4)), Some(id(3, 3)), Some(id(3, 5)))
    );
    assert_eq!(corruption.damages_count, 1);
}

#[test]
fn a_zeroed_durable_page_is_named() {
    let corruption = damaged(|storage, place| storage.zero_page(place(3).0, 2 * 4096));
    let damage = corruption.damages[0];
    assert_eq!(damage.kind, DamageKind::ZeroedPage { page_offset: 8192 }, "{damage}");
    assert_eq!((damage.segment, damage.entry_before), (seq(1), Some(id(3, 2))));
}

#[test]
fn a_zeroed_first_page_of_frames_is_named_in_any_segment() {
    for segment in 1..=2 {
        let corruption = damaged(|storage, _| storage.zero_page(seq(segment), FIRST_FRAME_OFFSET));
        let damage = corruption.damages[0];
        assert_eq!(damage.kind, DamageKind::ZeroedPage { page_offset: FIRST_FRAME_OFFSET }, "{damage}");
        assert_eq!((damage.segment, damage.offset), (seq(segment), FIRST_FRAME_OFFSET));
    }
}

#[test]
fn losing_any_one_page_of_a_marked_log_is_noticed() {
    let log = ten_entries(true);
    let segments = log.storage().segments();
    let storage = log.into_storage();
    for seq in segments {
        for page in 0..SEGMENT_BYTES as usize / 4096 {
            let mut damaged = storage.clone();
            damaged.zero_page(seq, page * 4096);
            if damaged.bytes(seq) == storage.bytes(seq) {
                continue;
            }
            match reopen(damaged) {
                Err(error) => assert!(error.corruption().is_some(), "{error}"),
                Ok((log, _)) => assert_eq!(log.last_id(), id(3, 10), "only the mark was there: {seq} page {page}"),
            }
        }
    }
}

#[test]
fn a_truncated_file_is_damage_wherever_it_ends() {
    let log = ten_entries(true);
    let (active, _) = log.writing_end();
    let storage = log.into_storage();
    for seq in storage.segments() {
        for bytes in [0, 10, 64, 4096, 5000, 9000, SEGMENT_BYTES as usize - 1] {
            let mut truncated = storage.clone();
            truncated.truncate(seq, bytes);
            if seq > active {
                let (log, report) = reopen(truncated).expect("it was never used");
                assert_eq!((log.last_id(), report.unused_from), (id(3, 10), Some(seq)));
                continue;
            }
            let error = reopen(truncated).expect_err("never a torn tail");
            let corruption = error.corruption().expect("corruption");
            let expected = DamageKind::Truncated { got_bytes: bytes, expected_bytes: SEGMENT_BYTES as usize };
            let damage = corruption.damages[0];
            assert_eq!((damage.segment, damage.kind), (seq, expected), "{error}");
            assert_eq!(corruption.damages_count, 1, "{corruption:?}");
        }
    }
}

#[test]
fn a_damaged_segment_header_is_damage_of_its_own_kind() {
    for (offset, check) in [
        (2, |kind| matches!(kind, DamageKind::SegmentHeader(SegmentHeaderError::Magic { .. }))),
        (12, |kind| matches!(kind, DamageKind::SegmentHeader(SegmentHeaderError::Checksum { .. }))),
        (60, |kind| matches!(kind, DamageKind::SegmentHeader(SegmentHeaderError::Checksum { .. }))),
    ] as [(usize, fn(DamageKind) -> bool); 3]
    {
        for segment in 1..=2 {
            let corruption = damaged(|storage, _| storage.flip_bit(seq(segment), offset, 1));
            let damage = corruption.damages[0];
            assert!(check(damage.kind), "{damage}");
            assert_eq!((damage.segment, damage.offset, corruption.damages_count), (seq(segment), 0, 1));
        }
    }
    let corruption = damaged(|storage, _| storage.zero_page(seq(1), 0));
    assert_eq!(corruption.damages[0].kind, DamageKind::SegmentHeader(SegmentHeaderError::Zeroed));
}

#[test]
fn a_missing_segment_is_named() {
    for missing in 1..=2 {
        let corruption = damaged(|storage, _| storage.remove(seq(missing)));
        let damage = corruption.damages[0];
        assert_eq!((damage.segment, damage.kind), (seq(missing), DamageKind::Missing { last: seq(missing) }));
        assert_eq!(corruption.damages_count, 1);
    }
}

#[test]
fn another_logs_segments_are_refused_and_no_corruption() {
    let other = |identity, segment_bytes| LogOptions {
        identity,
        segment_bytes,
        state: EntryId::ZERO,
        state_lineage: crate::Lineage::START,
    };
    for (options, field, expected, found) in [
        (other(SegmentIdentity { cluster_id: 1, ..IDENTITY }, SEGMENT_BYTES), IdentityField::ClusterId, 1, 11),
        (other(SegmentIdentity { node_id: 1, ..IDENTITY }, SEGMENT_BYTES), IdentityField::NodeId, 1, 22),
        (other(SegmentIdentity { shard: 1, ..IDENTITY }, SEGMENT_BYTES), IdentityField::Shard, 1, 0),
        (other(SegmentIdentity { shard_count: 2, ..IDENTITY }, SEGMENT_BYTES), IdentityField::ShardCount, 2, 1),
        (other(IDENTITY, 2 * SEGMENT_BYTES), IdentityField::SegmentBytes, 2 * SEGMENT_BYTES, SEGMENT_BYTES),
    ] {
        let error = Log::open(ten_entries(true).into_storage(), options).map(|_| ()).expect_err("another log");
        let mismatch = IdentityMismatch { field, expected, found };
        assert_eq!(error, OpenError::Identity { segment: seq(1), mismatch });
    }
}

#[test]
fn a_segment_in_the_place_of_another_is_damage_and_no_other_log() {
    let corruption = damaged(|storage, _| storage.misdirect((seq(2), 0), (seq(1), 0)));
    let mismatch = IdentityMismatch { field: IdentityField::SegmentSeq, expected: 1, found: 2 };
    assert_eq!(corruption.damages[0].kind, DamageKind::Identity(mismatch));
}

#[test]
fn another_version_is_refused_and_no_corruption() {
    let mut storage = ten_entries(true).into_storage();
    let mut header = storage.bytes(seq(1))[..crate::segment::SEGMENT_HEADER_BYTES].to_vec();
    header[12] = 9;
    let crc = crate::checksum::crc32(&[&header[12..]]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    storage.overwrite(seq(1), 0, &header);
    assert_eq!(reopen(storage).expect_err("version 9"), OpenError::Version { segment: seq(1), got: 9, known: 2 });
}

#[test]
fn a_whole_frame_that_cannot_come_next_is_refused_even_at_the_end() {
    let log = ten_entries(true);
    let (seq, offset) = log.writing_end();
    let header = SegmentHeader::parse(log.storage().bytes(seq)).expect("a segment");
    let lsn = Lsn::new(seq.get() * SEGMENT_BYTES + offset as u64);
    let chain = log.chain();
    let storage = log.into_storage();
    for (entry, payload) in [
        (EntryHeader::new(id(3, 12), KIND, b""), vec![]),
        (EntryHeader::new(id(2, 11), KIND, b""), vec![]),
        (EntryHeader::new(id(2, 5), KIND, b""), vec![]),
    ] {
        let seed = crate::checksum::HeaderSeed::new(header.nonce);
        let frame = FrameHeader::new(seed, lsn, chain, lsn, entry);
        let mut storage = storage.clone();
        storage.overwrite(seq, offset, frame.as_bytes());
        storage.overwrite(seq, offset + FRAME_HEADER_BYTES, &payload);
        let error = reopen(storage).expect_err("impossible");
        let damage = error.corruption().expect("corruption").damages[0];
        assert!(matches!(damage.kind, DamageKind::Inconsistent(_)), "{damage}");
    }
}

#[test]
fn a_hard_state_that_falls_is_refused() {
    let mut log = new_log(1);
    log.append_hard_state(HardStateRecord { term: Term::new(5), vote: 2 }).expect("room");
    let (seq, offset) = log.writing_end();
    let header = SegmentHeader::parse(log.storage().bytes(seq)).expect("a segment");
    let lsn = log.end_lsn();
    let chain = log.chain();
    let vote = 3_u64.to_le_bytes();
    let seed = crate::checksum::HeaderSeed::new(header.nonce);
    let entry = EntryHeader::local(EntryKind::HARD_STATE, Term::new(5), &vote);
    let frame = FrameHeader::new(seed, lsn, chain, Lsn::new(SEGMENT_BYTES + 4096), entry);
    sync_all(&mut log);
    let mut storage = log.into_storage();
    storage.overwrite(seq, offset, frame.as_bytes());
    storage.overwrite(seq, offset + FRAME_HEADER_BYTES, &vote);
    assert!(reopen(storage).expect_err("another vote in the same term").corruption().is_some());
}

#[test]
fn all_damages_are_listed_in_order() {
    let corruption = damaged(|storage, place| {
        for index in [2, 6, 9] {
            let (seq, offset) = place(index);
            storage.flip_bit(seq, offset + 200, 0);
        }
    });
    let entries: Vec<_> = corruption.damages.iter().filter_map(|damage| damage.entry).collect();
    assert_eq!(entries, [id(3, 2), id(3, 6), id(3, 9)]);
    let next: Vec<_> = corruption.damages.iter().filter_map(|damage| damage.entry_after).collect();
    assert_eq!(next, [id(3, 3), id(3, 7), id(3, 10)]);
    assert_eq!(corruption.intact_last, id(3, 1));
    assert!(corruption.damages.is_sorted_by_key(|damage| (damage.segment, damage.offset)));
}

#[test]
fn frames_behind_a_cut_tail_never_come_back() {
    let mut log = ten_entries(false);
    append_many(&mut log, 3, 11..=14, 200);
    let (seq, offset) = place(&log, 11);
    let (mut log, _) = torn(log, |storage| {
        // The tail is on the device except for one sector of its first frame.
        storage.settle();
        storage.overwrite(seq, offset, &[0; 64]);
    });
    append(&mut log, 4, 11, &payload(4, 11, 200)).expect("room");
    sync_all(&mut log);
    let (log, report) = reopen(log.into_storage()).expect("sound");
    assert_eq!((log.last_id(), report.tail), (id(4, 11), Tail::Clean));
}

#[test]
fn recovery_that_is_interrupted_anywhere_ends_the_same() {
    let mut log = ten_entries(false);
    // Unsynced entries in the active segment and the next one.
    append_many(&mut log, 3, 11..=14, 2500);
    let (seq, offset) = place(&log, 11);
    let mut storage = log.into_storage();
    storage.settle();
    storage.overwrite(seq, offset, &[0; 64]);
    let (_, expected) = reopen(storage.clone()).expect("a torn tail");
    assert!(matches!(expected.tail, Tail::Torn(_)));
    for resets in 0..storage.segments().len() as u64 {
        let mut storage = storage.clone();
        storage.crash_after_resets(resets);
        if let Err(error) = Log::open(&mut storage, OPTIONS) {
            assert!(matches!(error, OpenError::Storage(_)), "{error}");
        }
        storage.crash();
        let (log, report) = reopen(storage).expect("still a torn tail or a clean end");
        assert_eq!((report.last, report.end), (expected.last, expected.end));
        for seq in log.storage().segments() {
            assert_eq!(log.storage().bytes(seq), log.storage().durable_bytes(seq));
        }
    }
}

#[test]
fn a_log_goes_on_where_it_ended_also_at_the_start_of_a_segment() {
    let mut log = new_log(3);
    append_many(&mut log, 1, 1..=2, 3500);
    sync_all(&mut log);
    let end = log.end_lsn();
    // The origin of the next segment is torn: its header made it and its payload did not.
    append_many(&mut log, 1, 3..=3, 3500);
    let (segment, offset) = place(&log, 3);
    assert_eq!((segment, offset), (seq(2), FIRST_FRAME_OFFSET + frame_bytes(ORIGIN_FIXED_BYTES)));
    // Payload of the origin, and the entry after it.
    let gone = FIRST_FRAME_OFFSET + FRAME_HEADER_BYTES;
    let (mut log, _) = torn(log, |storage| storage.overwrite(segment, gone, &[0; 2000]));
    // The seal of the segment before is the last frame.
    let end = Lsn::new(end.get() + frame_bytes(0) as u64);
    assert_eq!((log.last_id(), log.end_lsn(), log.durable_lsn()), (id(1, 2), end, end));
    assert_eq!(log.next_sync(), None);
    // What is written now must not look as if something durable lay between the segments.
    append_many(&mut log, 1, 3..=4, 1000);
    let mut storage = log.into_storage();
    storage.overwrite(seq(2), FIRST_FRAME_OFFSET, &[0; 512]);
    let (log, _) = reopen(storage).expect("a torn tail, no corruption");
    assert_eq!(log.last_id(), id(1, 2));
}

#[test]
fn an_empty_log_recovers_from_prepared_segments() {
    let (log, report) = reopen(new_log(1).into_storage()).expect("sound");
    assert_eq!((log.last_id(), log.hard_state()), (EntryId::ZERO, HardStateRecord::default()));
    assert_eq!((report.frames_count, report.tail), (0, Tail::Clean));
}

#[test]
fn the_hard_state_is_the_last_one() {
    let mut log = new_log(1);
    for term in 1..=5 {
        log.append_hard_state(HardStateRecord { term: Term::new(term), vote: term % 3 }).expect("room");
        append(&mut log, term, term, b"x").expect("room");
    }
    sync_all(&mut log);
    let (log, report) = reopen(log.into_storage()).expect("sound");
    assert_eq!(report.hard_state, HardStateRecord { term: Term::new(5), vote: 2 });
    assert_eq!(log.hard_state(), report.hard_state);
}
