//! Limits of the log, each with its unit, and what must hold between them.
//!
//! These are choices. Sizes that follow from a layout stand beside it, in `format`, `origin` and `segment`, with what must hold
//! between the two.

/// Size of a page: what the kernel writes back as one, and the granularity of holes after a crash. Unit: bytes.
pub const PAGE_BYTES: usize = 4096;

/// What a disk writes whole or not at all. Unit: bytes.
pub const SECTOR_BYTES: usize = 512;

/// Frames begin at multiples of this. Unit: bytes.
pub(crate) const FRAME_ALIGN_BYTES: usize = 8;

/// Where a segment's first frame begins. The header's page holds nothing else, so no append ever dirties it.
pub const FIRST_FRAME_OFFSET: usize = PAGE_BYTES;

/// End of each segment that only hard states may use, so that a vote never waits for a segment. Unit: bytes.
pub(crate) const RESERVE_BYTES: usize = 4096;

/// Segments that the log wants prepared beyond the one it writes to. Unit: segments.
pub const SEGMENTS_AHEAD: u64 = 2;

/// Size of a segment unless chosen otherwise. Unit: bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Smallest segment: header, reserve, and two pages for entries. Unit: bytes.
pub const SEGMENT_BYTES_MIN: u64 = 4 * PAGE_BYTES as u64;

/// Largest segment. Unit: bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Segments are multiples of this. Unit: bytes.
pub(crate) const SEGMENT_BYTES_UNIT: u64 = PAGE_BYTES as u64;

/// Highest segment number. Unit: segments.
pub(crate) const SEGMENT_SEQ_MAX: u64 = u32::MAX as u64;

/// Damages that one opening lists; a log with more is as unusable as one with these. Unit: damages.
pub(crate) const DAMAGES_LISTED_MAX: usize = 64;

// Frames start aligned.
const _: () = assert!(FIRST_FRAME_OFFSET.is_multiple_of(FRAME_ALIGN_BYTES));
// Sectors never straddle pages.
const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES));
// Offsets within a segment and payload lengths fit 32 bits.
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
// Any position fits an Lsn.
const _: () = assert!((SEGMENT_SEQ_MAX + 1).checked_mul(SEGMENT_BYTES_MAX).is_some());
// The smallest segment still has room for entries.
const _: () = assert!(SEGMENT_BYTES_MIN as usize >= FIRST_FRAME_OFFSET + RESERVE_BYTES + 2 * PAGE_BYTES);
// A mark, what fills up the page before it, and an origin before that fit any segment.
const _: () = assert!(3 * PAGE_BYTES <= SEGMENT_BYTES_MIN as usize - RESERVE_BYTES);
const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(SEGMENT_BYTES_UNIT));
const _: () = assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BYTES_UNIT));
