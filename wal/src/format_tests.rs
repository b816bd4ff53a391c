//! The frame format against its documentation and its golden bytes.

use super::*;
use crate::doc_table::{WAL_DOC, layout_of};
use crate::limits;
use crate::lineage::Lineage;
use crate::note::{self, NOTE_BYTES, NOTE_SLOT_BYTES};
use crate::origin::{ORIGIN_FIXED_BYTES, Origin};
use crate::segment::{
    LogNonce, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, SegmentHeaderError, SegmentIdentity,
};
use crate::storage::Noted;
use crate::types::HardStateRecord;

#[test]
fn documented_layouts_are_the_ones_in_the_code() {
    let entry =
        layout_of![EntryHeader, (payload_crc, 4), (payload_len, 4), (term, 8), (index, 8), (kind, 1), (reserved, 7)];
    assert_eq!(WAL_DOC.layout("Entry header"), entry);
    let frame =
        layout_of![FrameHeader, (header_crc, 4), (prev_header_crc, 4), (durable, 8), (entry, ENTRY_HEADER_BYTES)];
    assert_eq!(WAL_DOC.layout("Frame"), frame);
    assert_eq!(WAL_DOC.layout("Segment header"), crate::segment::layout());
    assert_eq!(WAL_DOC.layout("Note"), note::layout());
    assert_eq!(WAL_DOC.layout("Origin"), crate::origin::layout());
}

#[test]
fn documented_layouts_end_where_their_structs_do() {
    for (heading, total) in [
        ("Segment header", SEGMENT_HEADER_BYTES),
        ("Note", NOTE_SLOT_BYTES),
        ("Origin", ORIGIN_FIXED_BYTES),
        ("Frame", FRAME_HEADER_BYTES),
        ("Entry header", ENTRY_HEADER_BYTES),
    ] {
        let end = WAL_DOC.layout(heading).last().map(|(_, range)| range.end);
        assert_eq!(end, Some(total), "{heading}");
    }
}

#[test]
fn documented_sizes_and_kinds_are_the_ones_in_the_code() {
    let sizes = [
        ("SEGMENT_HEADER_BYTES", SEGMENT_HEADER_BYTES as u64),
        ("FIRST_FRAME_OFFSET", limits::FIRST_FRAME_OFFSET as u64),
        ("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES as u64),
        ("ENTRY_HEADER_BYTES", ENTRY_HEADER_BYTES as u64),
        ("FRAME_ALIGN_BYTES", FRAME_ALIGN_BYTES as u64),
        ("RESERVE_BYTES", RESERVE_BYTES as u64),
        ("ORIGIN_FIXED_BYTES", ORIGIN_FIXED_BYTES as u64),
        ("MEMBERS_BYTES_MAX", MEMBERS_BYTES_MAX as u64),
        ("NOTE_BYTES", NOTE_BYTES as u64),
        ("NOTE_SLOT_BYTES", NOTE_SLOT_BYTES as u64),
        ("SEGMENT_BYTES_DEFAULT", limits::SEGMENT_BYTES_DEFAULT),
        ("SEGMENT_BYTES_MIN", limits::SEGMENT_BYTES_MIN),
        ("SEGMENT_BYTES_MAX", limits::SEGMENT_BYTES_MAX),
        ("SEGMENT_BYTES_UNIT", limits::SEGMENT_BYTES_UNIT),
    ];
    let documented: Vec<_> = WAL_DOC
        .table("Sizes")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse::<u64>().expect("a size")))
        .collect();
    assert_eq!(documented, sizes.map(|(name, bytes)| (name.to_owned(), bytes)));
    let kinds: Vec<_> = WAL_DOC.table("Kinds").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expected = [
        ("0".to_owned(), "-"),
        (format!("1..{}", EntryKind::LOCAL_FIRST - 1), "entries"),
        (EntryKind::MEMBERS.get().to_string(), "MEMBERS"),
        (EntryKind::HARD_STATE.get().to_string(), "HARD_STATE"),
        (EntryKind::MARK.get().to_string(), "MARK"),
        (EntryKind::SEAL.get().to_string(), "SEAL"),
        (EntryKind::ORIGIN.get().to_string(), "ORIGIN"),
    ];
    assert_eq!(kinds, expected.map(|(kind, name)| (kind, name.to_owned())));
}

fn golden_segment() -> SegmentHeader {
    SegmentHeader {
        identity: SegmentIdentity { cluster_id: 1, node_id: 2, shard: 3, shard_count: 4 },
        seq: crate::lsn::SegmentSeq::new(5).expect("in range"),
        segment_bytes: 65536,
        nonce: 0x0102_0304_0506_0708,
        log_nonce: LogNonce::new(0x1112_1314_1516_1718),
    }
}

/// Where the golden frames lie: the first place in the golden segment.
const GOLDEN_LSN: Lsn = Lsn::new(5 * 65536 + 4096);

fn frame_at_golden_place(prev: u32, durable: u64, entry: EntryHeader, payload: &[u8]) -> Vec<u8> {
    let seed = HeaderSeed::new(golden_segment().nonce);
    let header = FrameHeader::new(seed, GOLDEN_LSN, prev, Lsn::new(durable), entry);
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes.resize(frame_bytes(payload.len()), 0);
    bytes
}

#[test]
fn golden_segment_header() {
    let bytes = golden_segment().encode();
    assert_eq!(bytes.to_vec(), WAL_DOC.golden("A segment header"), "got {bytes:02x?}");
    assert_eq!(SegmentHeader::parse(&bytes), Ok(golden_segment()));
}

#[test]
fn golden_note() {
    let owner = golden_segment().log_nonce;
    let committed = EntryId::new(Term::new(7), Index::new(42));
    let committed_lineage = Lineage::new(0x2122_2324_2526_2728);
    let (durable, first_segment) = (Lsn::new(5 * 65536 + 4096 + 64), Some(golden_segment().seq));
    let noted = Noted { durable, committed, committed_lineage, first_segment };
    let bytes = note::encode(owner, noted);
    assert_eq!(bytes.to_vec(), WAL_DOC.golden("A slot of the note"), "got {bytes:02x?}");
    assert_eq!(note::read(&bytes, Some(owner)), noted);
}

#[test]
fn golden_entry_frame() {
    let id = EntryId::new(Term::new(7), Index::new(42));
    let entry = EntryHeader::new(id, EntryKind::new(2), b"quorate wal");
    let bytes = frame_at_golden_place(0x1122_3344, 5 * 65536, entry, b"quorate wal");
    assert_eq!(bytes, WAL_DOC.golden("An entry"), "got {bytes:02x?}");
}

#[test]
fn golden_hard_state_and_mark_frames() {
    let vote = 9_u64.to_le_bytes();
    let hard_state = EntryHeader::local(EntryKind::HARD_STATE, Term::new(8), &vote);
    let bytes = frame_at_golden_place(1, GOLDEN_LSN.get(), hard_state, &vote);
    assert_eq!(bytes, WAL_DOC.golden("A hard state"), "got {bytes:02x?}");
    let mark = EntryHeader::local(EntryKind::MARK, Term::ZERO, &[]);
    let bytes = frame_at_golden_place(2, GOLDEN_LSN.get(), mark, &[]);
    assert_eq!(bytes, WAL_DOC.golden("A mark"), "got {bytes:02x?}");
}

#[test]
fn golden_lineage() {
    let id = EntryId::new(Term::new(7), Index::new(42));
    let entry = EntryHeader::new(id, EntryKind::new(2), b"quorate wal");
    let lineage = entry.lineage_behind(Lineage::new(0x2122_2324_2526_2728));
    assert_eq!(lineage.get().to_le_bytes().to_vec(), WAL_DOC.golden("A lineage"), "got {lineage}");
}

#[test]
fn golden_origin_frame() {
    let base = EntryId::new(Term::new(7), Index::new(41));
    let payload = Origin::encode(
        base,
        Lineage::new(0x2122_2324_2526_2728),
        HardStateRecord { term: Term::new(8), vote: 9 },
        b"members",
    );
    let origin = EntryHeader::local(EntryKind::ORIGIN, Term::ZERO, &payload);
    let bytes = frame_at_golden_place(0x1122_3344, 5 * 65536, origin, &payload);
    assert_eq!(bytes, WAL_DOC.golden("An origin"), "got {bytes:02x?}");
}

#[test]
fn every_bit_of_an_entry_is_covered() {
    let id = EntryId::new(Term::new(7), Index::new(42));
    let payload = b"some payload";
    let mut bytes = EntryHeader::new(id, EntryKind::new(1), payload).as_bytes().to_vec();
    bytes.extend_from_slice(payload);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let accepted = EntryHeader::parse(&flipped).and_then(|header| header.verify(&flipped[ENTRY_HEADER_BYTES..]));
        assert!(accepted.is_err(), "bit {bit}");
    }
    assert_eq!(EntryHeader::parse(&bytes).and_then(|header| header.verify(payload)), Ok(()));
}

#[test]
fn every_bit_of_a_frame_header_is_covered() {
    let entry = EntryHeader::new(EntryId::new(Term::new(7), Index::new(42)), EntryKind::new(1), b"x");
    let seed = HeaderSeed::new(11);
    let bytes = FrameHeader::new(seed, GOLDEN_LSN, 3, GOLDEN_LSN, entry).as_bytes().to_vec();
    assert!(FrameHeader::at(&bytes, seed, GOLDEN_LSN).is_some());
    assert!(FrameHeader::at(&bytes, seed, GOLDEN_LSN.plus(8)).is_none(), "bound to its place");
    assert!(FrameHeader::at(&bytes, HeaderSeed::new(12), GOLDEN_LSN).is_none(), "bound to its segment");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(FrameHeader::at(&flipped, seed, GOLDEN_LSN).is_none(), "bit {bit}");
    }
}

#[test]
fn every_bit_of_a_segment_header_is_covered() {
    let bytes = golden_segment().encode();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = SegmentHeader::parse(&flipped).expect_err("a flipped bit");
        let expected = matches!(error, SegmentHeaderError::Magic { .. } | SegmentHeaderError::Checksum { .. });
        assert!(expected, "bit {bit}: {error}");
    }
}

#[test]
fn bytes_that_are_no_entry_are_refused_with_the_reason() {
    let header = EntryHeader::new(EntryId::new(Term::new(1), Index::new(1)), EntryKind::new(1), b"abc");
    let bytes = header.as_bytes();
    assert_eq!(EntryHeader::parse(&bytes[..31]), Err(EntryError::TooShort { got: 31, expected: 32 }));
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        EntryHeader::parse(&bytes).map(|_| ())
    };
    assert_eq!(with(25, 1), Err(EntryError::ReservedNotZero));
    assert_eq!(with(24, 0), Err(EntryError::Kind { got: 0 }));
    assert_eq!(with(24, EntryKind::MARK.get()), Err(EntryError::Kind { got: 241 }));
    assert_eq!(with(16, 0), Err(EntryError::NoIndex));
    assert_eq!(header.verify(b"abcd"), Err(EntryError::Length { got: 4, expected: 3 }));
    assert!(matches!(header.verify(b"abd"), Err(EntryError::Checksum { .. })));
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = golden_segment().encode();
    bytes[12] = 3;
    let crc = crc32(&[&bytes[12..]]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::parse(&bytes), Err(SegmentHeaderError::Version { got: 3 }));
    assert_eq!(SegmentHeader::parse(&[0; 128]), Err(SegmentHeaderError::Zeroed));
    assert_eq!(SegmentHeader::parse(&bytes[..127]), Err(SegmentHeaderError::TooShort { got: 127 }));
    assert_eq!(bytes[..8], SEGMENT_MAGIC);
    // Version 1 had a shorter header.
    let mut old = [0; 128];
    old[..64].copy_from_slice(&bytes[..64]);
    old[12] = 1;
    let crc = crc32(&[&old[12..64]]);
    old[8..12].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::parse(&old), Err(SegmentHeaderError::Version { got: 1 }));
}

#[test]
fn reserved_bytes_of_a_segment_header_are_zero() {
    let mut bytes = golden_segment().encode();
    bytes[100] = 1;
    let crc = crc32(&[&bytes[12..]]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::parse(&bytes), Err(SegmentHeaderError::ReservedNotZero));
}
