//! Limits of the log, each with its unit, and what must hold between them.
//!
//! These are choices. Sizes that follow from a layout stand beside it, in `format`, `origin`, `segment` and `note`, with what must
//! hold between the two.

/// Size of a page: what the kernel writes back as one, and the granularity of holes after a crash. Unit: bytes.
pub const PAGE_BYTES: usize = 4096;

/// What a disk writes whole or not at all. Unit: bytes.
pub(crate) const SECTOR_BYTES: usize = 512;

/// Frames begin at multiples of this. Unit: bytes.
pub(crate) const FRAME_ALIGN_BYTES: usize = 8;

/// Where a segment's first frame begins. The header's page holds nothing else, so no append ever dirties it.
pub const FIRST_FRAME_OFFSET: usize = PAGE_BYTES;

/// End of each segment that only hard states may use, so that a vote never waits for a segment. Unit: bytes.
pub(crate) const RESERVE_BYTES: usize = 4096;

/// Segments that the log wants prepared beyond the one it writes to. Unit: segments.
pub const SEGMENTS_AHEAD: u64 = 2;

/// Size of a segment unless chosen otherwise. Unit: bytes.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

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

/// What an origin may say of the members. Every segment keeps room for it. Unit: bytes.
pub const MEMBERS_BYTES_MAX: usize = 1024;

// Work on files.

/// Bytes compared with zero at a time; a power of two that the compiler turns into vector instructions.
pub(crate) const ZERO_CHUNK_BYTES: usize = 256;

/// Size of the writes that fill a segment. Unit: bytes.
///
/// The kernel tracks what is dirty per folio, and folios are as large as the writes that made them: filled in 1 MiB pieces
/// a small append makes its sync write 1 MiB. 64 KiB measured best overall.
#[cfg(feature = "shell")]
pub(crate) const FILL_BYTES: usize = 64 << 10;

/// Size of the reads that try whether a segment can be read. Unit: bytes.
///
/// Large, because without readahead nothing is on its way between two of them: 64 MiB took 300 ms in reads of 1 MiB, and
/// 100 to 190 ms in reads of this size, as with readahead.
#[cfg(feature = "shell")]
pub(crate) const TRY_BYTES: usize = 8 << 20;

/// What was stored so shortly before the log's end is in memory: at least the writing of it just was. Unit: bytes.
#[cfg(feature = "shell")]
pub(crate) const RECENT_BYTES: u64 = 8 << 20;

/// Size of the pieces in which bytes are compared and rewritten. Unit: bytes.
#[cfg(feature = "shell")]
pub(crate) const COMPARED_BYTES: usize = 64 << 10;

/// Extents that are asked for at once.
#[cfg(feature = "shell")]
pub(crate) const EXTENTS_COUNT: usize = 64;

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
// The smallest, the largest and the usual segment have valid sizes.
const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(SEGMENT_BYTES_UNIT));
const _: () = assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BYTES_UNIT));
const _: () = assert!(SEGMENT_BYTES_DEFAULT.is_multiple_of(SEGMENT_BYTES_UNIT));
const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT && SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
// A segment is filled and compared in whole pieces of whole pages.
#[cfg(feature = "shell")]
const _: () = assert!(FILL_BYTES.is_multiple_of(PAGE_BYTES) && COMPARED_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(ZERO_CHUNK_BYTES.is_power_of_two());
