//! Where things lie: segment numbers, and the arithmetic between positions in the log and positions in a segment.
//!
//! It computes; it reads and writes nothing.

use std::fmt;

use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_UNIT, SEGMENT_SEQ_MAX};
use crate::types::Lsn;

/// Number of a segment. Numbers are given out without gaps and never again; a log may begin with any, since it loses its
/// oldest segments.
///
/// Invariant: at most `SEGMENT_SEQ_MAX`, so that a position in any segment fits an [`Lsn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSeq(u64);

const FILE_NAME_DIGITS: usize = 16;
const FILE_NAME_SUFFIX: &str = ".wal";

impl SegmentSeq {
    /// The first segment of a log that is begun in an empty place.
    pub const FIRST: Self = Self(1);

    /// Wraps a raw number; `None` if it is 0 or above `SEGMENT_SEQ_MAX`.
    #[must_use]
    pub const fn new(raw: u64) -> Option<Self> {
        if raw == 0 || raw > SEGMENT_SEQ_MAX { None } else { Some(Self(raw)) }
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment after this one. Panics above `SEGMENT_SEQ_MAX`, which is out of reach of any disk.
    #[must_use]
    pub fn next(self) -> Self {
        assert!(self.0 < SEGMENT_SEQ_MAX, "segment numbers are used up");
        Self(self.0 + 1)
    }

    /// Name of the segment's file: 16 decimal digits and `.wal`.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{:0width$}{FILE_NAME_SUFFIX}", self.0, width = FILE_NAME_DIGITS)
    }

    /// The segment that a file of this name holds; `None` for a name that [`Self::file_name`] never gives.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(FILE_NAME_SUFFIX)?;
        if digits.len() != FILE_NAME_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Self::new(digits.parse().ok()?)
    }
}

impl fmt::Display for SegmentSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name())
    }
}

/// The size of a log's segments, and with it the meaning of its positions.
///
/// Invariant: a multiple of `SEGMENT_BYTES_UNIT`, from `SEGMENT_BYTES_MIN` to `SEGMENT_BYTES_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    segment_bytes: u32,
}

impl Geometry {
    /// Checks a segment size; `None` if it breaks the invariant.
    #[must_use]
    pub fn new(segment_bytes: u64) -> Option<Self> {
        let in_range = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes);
        if !in_range || !segment_bytes.is_multiple_of(SEGMENT_BYTES_UNIT) {
            return None;
        }
        Some(Self { segment_bytes: u32::try_from(segment_bytes).ok()? })
    }

    /// Size of a segment. Unit: bytes.
    #[must_use]
    pub const fn segment_bytes(self) -> usize {
        self.segment_bytes as usize
    }

    /// The position of byte `offset` of segment `seq`.
    #[must_use]
    pub fn lsn(self, seq: SegmentSeq, offset: usize) -> Lsn {
        assert!(offset <= self.segment_bytes(), "offset {offset} lies outside a segment");
        Lsn::new(seq.get() * u64::from(self.segment_bytes) + offset as u64)
    }

    /// The segment and offset of a position; `None` below the first segment.
    #[must_use]
    pub fn split(self, lsn: Lsn) -> Option<(SegmentSeq, usize)> {
        let segment_bytes = u64::from(self.segment_bytes);
        let seq = SegmentSeq::new(lsn.get() / segment_bytes)?;
        Some((seq, usize::try_from(lsn.get() % segment_bytes).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_strangers_are_refused() {
        let seq = SegmentSeq::new(42).expect("in range");
        assert_eq!(seq.file_name(), "0000000000000042.wal");
        assert_eq!(SegmentSeq::from_file_name(&seq.file_name()), Some(seq));
        let strangers = ["42.wal", "0000000000000000.wal", "0000000000000042.wal.tmp", "00000000000000+1.wal", "LOCK"];
        for name in strangers {
            assert_eq!(SegmentSeq::from_file_name(name), None, "{name}");
        }
        assert_eq!(SegmentSeq::from_file_name("9999999999999999.wal"), None);
    }

    #[test]
    fn positions_split_into_segment_and_offset() {
        let geometry = Geometry::new(SEGMENT_BYTES_MIN).expect("smallest");
        let seq = SegmentSeq::new(7).expect("in range");
        assert_eq!(geometry.split(geometry.lsn(seq, 4096)), Some((seq, 4096)));
        assert_eq!(geometry.split(Lsn::new(3)), None);
    }

    #[test]
    fn segment_sizes_outside_the_limits_are_refused() {
        for bytes in [0, SEGMENT_BYTES_MIN - SEGMENT_BYTES_UNIT, SEGMENT_BYTES_MIN + 1, SEGMENT_BYTES_MAX * 2] {
            assert_eq!(Geometry::new(bytes), None, "{bytes}");
        }
        assert!(Geometry::new(SEGMENT_BYTES_MAX).is_some());
    }
}
