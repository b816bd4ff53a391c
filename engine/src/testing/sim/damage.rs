//! What can happen to the bytes of a log on a disk, by itself.

use wal::limits::{FIRST_FRAME_OFFSET, PAGE_BYTES};
use wal::testing::{SimRng, SimStorage};
use wal::{SegmentSeq, Storage};

use super::durable::OnDisk;
use super::plan::pick;
use crate::types::EntryId;

/// Name of the fault that also comes with others.
pub(super) const DAMAGED_LOG: &str = "damaged log";

/// Damages a disk with segments of this size, and says what it did, if it found a place for it.
pub(super) type Damage = fn(&mut SimStorage, &mut SimRng, u64) -> Option<String>;

/// Flips a bit of what was written last.
pub(super) fn damage_end(disk: &mut SimStorage, rng: &mut SimRng, _segment_bytes: u64) -> Option<String> {
    let (seq, end) = written_end(disk);
    let offset = end.saturating_sub(1 + usize::try_from(rng.below(40)).expect("small"));
    disk.flip_bit(seq, offset, 1);
    Some(format!("bit 1 of byte {offset} of segment {seq}, at its end, flips"))
}

/// Loses the page that was written last.
pub(super) fn damage_last_page(disk: &mut SimStorage, _rng: &mut SimRng, _segment_bytes: u64) -> Option<String> {
    let (seq, end) = written_end(disk);
    let offset = end.saturating_sub(1);
    disk.zero_page(seq, offset);
    Some(format!("the page at {offset} of segment {seq}, its last, turns to zeros"))
}

/// The last segment in use and the end of what was written to it.
fn written_end(disk: &SimStorage) -> (SegmentSeq, usize) {
    let end = |seq: &SegmentSeq| disk.bytes(*seq).iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let is_used = |seq: &SegmentSeq| end(seq) > FIRST_FRAME_OFFSET;
    let seq = disk.segments().into_iter().rfind(is_used).unwrap_or(SegmentSeq::FIRST);
    (seq, end(&seq))
}

/// Damages one place, anywhere, with a preference for the end of the log. Says what it did.
pub(super) fn damage(disk: &mut SimStorage, rng: &mut SimRng, segment_bytes: u64) -> Option<String> {
    let segments = disk.segments();
    if segments.is_empty() {
        return None;
    }
    let mut choose = || {
        let seq = pick(rng, &segments);
        let bytes = disk.bytes(seq);
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let limit = if rng.chance(2, 3) { written as u64 } else { segment_bytes };
        let tail = if rng.chance(1, 3) { limit.min(2048) } else { limit };
        let offset = limit - 1 - rng.below(tail);
        (seq, usize::try_from(offset).expect("within a segment"))
    };
    let ((seq, offset), (from_seq, from)) = (choose(), choose());
    Some(match rng.below(12) {
        0..4 => {
            let bit = u8::try_from(rng.below(8)).expect("a bit");
            disk.flip_bit(seq, offset, bit);
            format!("bit {bit} of byte {offset} of segment {seq} flips")
        }
        4..7 => {
            disk.zero_page(seq, offset);
            format!("the page at {offset} of segment {seq} turns to zeros")
        }
        7 | 8 => {
            disk.truncate(seq, offset);
            format!("segment {seq} is cut at {offset}")
        }
        9 => {
            let last = *segments.last().expect("a log has segments");
            disk.remove(last);
            format!("segment {last} is lost")
        }
        10 => {
            disk.misdirect((from_seq, from), (seq, offset));
            format!("the page at {offset} of segment {seq} gets the bytes at {from} of segment {from_seq}")
        }
        _ => {
            disk.flip_note_bit(usize::try_from(rng.below(32)).expect("small"), 3);
            "a bit of the note flips".to_owned()
        }
    })
}

/// Flips a bit, or loses a page, below the position that the last whole frame says was durable. After a loss of power, too, this can
/// be told from what was never synced.
pub(super) fn damage_below_watermark(disk: &mut SimStorage, rng: &mut SimRng, segment_bytes: u64) -> Option<String> {
    let (end_seq, end) = OnDisk::of(disk, EntryId::ZERO).watermark()?;
    let segments: Vec<SegmentSeq> = disk.segments().into_iter().filter(|seq| *seq <= end_seq).collect();
    let seq = pick(rng, &segments);
    let limit = if seq == end_seq { end } else { usize::try_from(segment_bytes).ok()? };
    let room = limit.checked_sub(FIRST_FRAME_OFFSET).filter(|room| *room > 0)?;
    let offset = FIRST_FRAME_OFFSET + usize::try_from(rng.below(room as u64)).ok()?;
    let is_whole_page = (offset / PAGE_BYTES + 1) * PAGE_BYTES <= limit;
    if is_whole_page && rng.chance(1, 2) {
        disk.zero_page(seq, offset);
        return Some(format!("the page at {offset} of segment {seq}, below what is durable, turns to zeros"));
    }
    disk.flip_bit(seq, offset, 0);
    Some(format!("bit 0 of byte {offset} of segment {seq}, below what is durable, flips"))
}
