//! The note beside a log's segments: how far the log is durable, and which entries its owner knew to be committed. Two
//! slots, each in a page of its own, written in turn.
//!
//! Bytes only: where they are kept and when they are synced is the storage's business. A note is made when what it says
//! has come true, so whatever can still be read is true, however old. It outlives the process; what of it outlives the
//! host is decided by the syncs of its file, which nobody waits for.
//!
//! A slot belongs to one log: it repeats the log's nonce, which every segment of that log names, wherever it begins. The note
//! of a log that was discarded or replaced says nothing about the one that took its place.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::crc32;
use crate::limits::{PAGE_BYTES, SECTOR_BYTES};
use crate::lineage::Lineage;
use crate::lsn::SegmentSeq;
use crate::segment::{FORMAT_VERSION, LogNonce};
use crate::storage::Noted;
use crate::types::{EntryId, Index, Lsn, Term};

/// Size of a note with both its slots. Unit: bytes.
pub(crate) const NOTE_BYTES: usize = SLOTS_COUNT * PAGE_BYTES;

/// Size of a slot's contents; the rest of its page is not looked at. Unit: bytes.
pub(crate) const NOTE_SLOT_BYTES: usize = size_of::<RawSlot>();

/// First bytes of a slot that was written.
pub(crate) const NOTE_MAGIC: [u8; 8] = *b"QUORADUR";

/// Name of the file that holds the note in a log's directory.
pub const NOTE_FILE_NAME: &str = "durable";

const SLOTS_COUNT: usize = 2;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSlot {
    magic: [u8; 8],
    slot_crc: U32,
    format_version: U32,
    log_nonce: U64,
    durable: U64,
    first_segment: U64,
    committed_term: U64,
    committed_index: U64,
    committed_lineage: U64,
}

const _: () = assert!(size_of::<RawSlot>() == 64);
const _: () = assert!(offset_of!(RawSlot, magic) == 0);
const _: () = assert!(offset_of!(RawSlot, slot_crc) == 8);
const _: () = assert!(offset_of!(RawSlot, format_version) == 12);
const _: () = assert!(offset_of!(RawSlot, log_nonce) == 16);
const _: () = assert!(offset_of!(RawSlot, durable) == 24);
const _: () = assert!(offset_of!(RawSlot, first_segment) == 32);
const _: () = assert!(offset_of!(RawSlot, committed_term) == 40);
const _: () = assert!(offset_of!(RawSlot, committed_index) == 48);
const _: () = assert!(offset_of!(RawSlot, committed_lineage) == 56);
// A slot is written whole or not at all by any disk.
const _: () = assert!(NOTE_SLOT_BYTES <= SECTOR_BYTES);
const _: () = assert!(NOTE_SLOT_BYTES <= PAGE_BYTES);

/// Bytes that the slot's checksum covers begin here.
const COVERED_FROM: usize = offset_of!(RawSlot, format_version);

/// What a slot says, if it was written whole.
fn slot(bytes: &[u8], number: usize) -> Option<(LogNonce, Noted)> {
    let (raw, _) = RawSlot::ref_from_prefix(bytes.get(number * PAGE_BYTES..)?).ok()?;
    let computed = crc32(&[raw.as_bytes().get(COVERED_FROM..)?]);
    let is_whole =
        raw.magic == NOTE_MAGIC && raw.slot_crc.get() == computed && raw.format_version.get() == FORMAT_VERSION as u32;
    let owner = LogNonce::new(raw.log_nonce.get());
    let first_segment = SegmentSeq::new(raw.first_segment.get());
    let committed = EntryId::new(Term::new(raw.committed_term.get()), Index::new(raw.committed_index.get()));
    let committed_lineage = Lineage::new(raw.committed_lineage.get());
    let noted = Noted { durable: Lsn::new(raw.durable.get()), committed, committed_lineage, first_segment };
    is_whole.then_some((owner, noted))
}

/// The slots that are about a log, and what they say. Without an owner every whole slot counts.
fn slots(bytes: &[u8], owner: Option<LogNonce>) -> impl Iterator<Item = (usize, Noted)> {
    let about = move |number| match slot(bytes, number) {
        Some((found, noted)) if owner.is_none_or(|owner| owner == found) => Some((number, noted)),
        _ => None,
    };
    (0..SLOTS_COUNT).filter_map(about)
}

/// What can be read of the notes; zeros without one.
///
/// Without an owner, because no segment can say, every whole slot counts: such a log is damaged, and the note tells how far
/// it went.
pub(crate) fn read(bytes: &[u8], owner: Option<LogNonce>) -> Noted {
    slots(bytes, owner).map(|(_, noted)| noted).fold(Noted::default(), Noted::max)
}

/// Notes something more, in the slot that does not hold the latest note so far. A later slot says at least as much as an
/// earlier one in every field.
///
/// Panics if there is less room than a note needs: it would be lost without a word.
pub(crate) fn store(bytes: &mut [u8], owner: LogNonce, noted: Noted) {
    assert!(bytes.len() >= NOTE_BYTES, "a note in {} bytes", bytes.len());
    let latest = slots(bytes, Some(owner)).max_by_key(|(_, noted)| (noted.durable, noted.committed.index));
    let noted = read(bytes, Some(owner)).max(noted);
    let number = match latest {
        Some((_, before)) if before == noted => return,
        Some((number, _)) => (number + 1) % SLOTS_COUNT,
        None => 0,
    };
    put(bytes, number, owner, noted);
}

/// Notes something in both slots, one after the other, so that losing either leaves it known.
pub(crate) fn store_twice(bytes: &mut [u8], owner: LogNonce, noted: Noted) {
    store(bytes, owner, noted);
    let noted = read(bytes, Some(owner));
    for number in 0..SLOTS_COUNT {
        put(bytes, number, owner, noted);
    }
}

fn put(bytes: &mut [u8], number: usize, owner: LogNonce, noted: Noted) {
    let encoded = encode(owner, noted);
    let start = number * PAGE_BYTES;
    bytes[start..start + encoded.len()].copy_from_slice(&encoded);
}

pub(crate) fn encode(owner: LogNonce, noted: Noted) -> [u8; NOTE_SLOT_BYTES] {
    let mut raw = RawSlot {
        magic: NOTE_MAGIC,
        slot_crc: U32::ZERO,
        format_version: U32::new(FORMAT_VERSION as u32),
        log_nonce: U64::new(owner.get()),
        durable: U64::new(noted.durable.get()),
        first_segment: U64::new(noted.first_segment.map_or(0, SegmentSeq::get)),
        committed_term: U64::new(noted.committed.term.get()),
        committed_index: U64::new(noted.committed.index.get()),
        committed_lineage: U64::new(noted.committed_lineage.get()),
    };
    raw.slot_crc = U32::new(crc32(&[&raw.as_bytes()[COVERED_FROM..]]));
    zerocopy::transmute!(raw)
}

/// The fields by name, and where each lies, for the test that holds the documentation against the code.
#[cfg(test)]
pub(crate) fn layout() -> Vec<(String, std::ops::Range<usize>)> {
    use crate::doc_table::layout_of;
    layout_of![
        RawSlot,
        (magic, 8),
        (slot_crc, 4),
        (format_version, 4),
        (log_nonce, 8),
        (durable, 8),
        (first_segment, 8),
        (committed_term, 8),
        (committed_index, 8),
        (committed_lineage, 8)
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: LogNonce = LogNonce::new(8);

    /// A note whose fields grow with `number`.
    fn note(number: u64) -> Noted {
        let committed = EntryId::new(Term::new(2), Index::new(number / 2));
        let committed_lineage = Lineage::new(number / 2);
        Noted { durable: Lsn::new(number), committed, committed_lineage, first_segment: SegmentSeq::new(number / 3) }
    }

    fn noted(upto: u64) -> Vec<u8> {
        let mut bytes = vec![0; NOTE_BYTES];
        for number in 1..=upto {
            store(&mut bytes, OWNER, note(number));
        }
        bytes
    }

    #[test]
    fn notes_alternate_and_the_highest_counts() {
        assert_eq!(read(&noted(0), Some(OWNER)), Noted::default());
        let mut bytes = noted(5);
        assert_eq!(read(&bytes, Some(OWNER)), note(5));
        assert_eq!(slot(&bytes, 0).map(|(_, noted)| noted), Some(note(5)));
        assert_eq!(slot(&bytes, 1).map(|(_, noted)| noted), Some(note(4)));
        let before = bytes.clone();
        store(&mut bytes, OWNER, note(3));
        assert_eq!(bytes, before, "a note never falls");
    }

    #[test]
    fn each_field_grows_by_itself() {
        let mut bytes = noted(4);
        let committed = EntryId::new(Term::new(3), Index::new(9));
        let committed_lineage = Lineage::new(77);
        store(&mut bytes, OWNER, Noted { committed, committed_lineage, ..Noted::default() });
        let expected = Noted { durable: Lsn::new(4), committed, committed_lineage, ..note(4) };
        assert_eq!(read(&bytes, Some(OWNER)), expected);
        store(&mut bytes, OWNER, Noted { durable: Lsn::new(6), ..Noted::default() });
        assert_eq!(read(&bytes, Some(OWNER)), Noted { durable: Lsn::new(6), ..expected });
        let both = |number| slot(&bytes, number).map(|(_, noted)| noted.committed);
        assert_eq!((both(0), both(1)), (Some(committed), Some(committed)), "in either slot");
    }

    #[test]
    fn any_damage_to_one_slot_leaves_the_other() {
        let bytes = noted(5);
        for bit in 0..NOTE_SLOT_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped, Some(OWNER)), note(4), "bit {bit}");
            // The damaged slot is written next, and the whole one stays until then.
            store(&mut flipped, OWNER, note(6));
            assert_eq!(read(&flipped, Some(OWNER)), note(6));
            assert_eq!(slot(&flipped, 1).map(|(_, noted)| noted), Some(note(4)));
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], Some(OWNER)).durable <= Lsn::new(5));
        }
    }

    #[test]
    fn a_store_that_was_cut_short_leaves_the_note_before() {
        let before = noted(4);
        let after = noted(5);
        for stored in 0..NOTE_SLOT_BYTES {
            let mut bytes = before.clone();
            bytes[..stored].copy_from_slice(&after[..stored]);
            let expected = if bytes == after { 5 } else { 4 };
            assert_eq!(read(&bytes, Some(OWNER)), note(expected), "{stored} bytes");
        }
    }

    #[test]
    fn what_is_noted_twice_survives_the_loss_of_either_slot() {
        for number in 0..SLOTS_COUNT {
            let mut bytes = noted(5);
            let first_segment = SegmentSeq::new(9);
            store_twice(&mut bytes, OWNER, Noted { first_segment, ..Noted::default() });
            bytes[number * PAGE_BYTES..(number + 1) * PAGE_BYTES].fill(0);
            assert_eq!(read(&bytes, Some(OWNER)), Noted { first_segment, ..note(5) });
        }
    }

    #[test]
    fn the_note_of_another_log_says_nothing() {
        let bytes = noted(5);
        let other = LogNonce::new(9);
        assert_eq!(read(&bytes, Some(other)), Noted::default());
        let mut written = bytes.clone();
        store(&mut written, other, note(2));
        assert_eq!(read(&written, Some(other)), note(2), "and is written over");
        assert_eq!(read(&bytes, None), note(5), "with no log to compare with it is all there is");
    }
}
