//! Looking at one segment's bytes without trusting any: is there a frame here, is there one further on.
//!
//! It decides nothing about the log; `walk` and `recovery` do.

use crate::checksum::HeaderSeed;
use crate::format::{EntryError, EntryKind, FRAME_HEADER_BYTES, FrameHeader, frame_bytes};
use crate::limits::ZERO_CHUNK_BYTES;
use crate::limits::{FIRST_FRAME_OFFSET, FRAME_ALIGN_BYTES, PAGE_BYTES};
use crate::lsn::{Geometry, SegmentSeq};
use crate::types::Lsn;

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZERO_CHUNK_BYTES).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What stands at one offset of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look<'a> {
    /// A whole frame. Whether it follows the frame before is not looked at.
    Frame { header: &'a FrameHeader, payload: &'a [u8] },
    /// A frame header that was written here, and a payload that is not its own.
    BadPayload { header: &'a FrameHeader, error: EntryError },
    /// Something that is no frame header written here.
    NoHeader,
    /// Zeros where a frame header would be, or too little room for one.
    Zeros,
    /// The bytes end within the header or the payload although the segment should go on.
    CutOff,
}

/// A segment whose header has been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentView<'a> {
    pub(crate) seq: SegmentSeq,
    pub(crate) bytes: &'a [u8],
    seed: HeaderSeed,
    geometry: Geometry,
}

impl<'a> SegmentView<'a> {
    pub(crate) fn new(seq: SegmentSeq, bytes: &'a [u8], nonce: u64, geometry: Geometry) -> Self {
        let bytes = bytes.get(..geometry.segment_bytes()).unwrap_or(bytes);
        Self { seq, bytes, seed: HeaderSeed::new(nonce), geometry }
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.bytes.len() < self.geometry.segment_bytes()
    }

    pub(crate) fn lsn(&self, offset: usize) -> Lsn {
        self.geometry.lsn(self.seq, offset)
    }

    /// The frame header that was written at `offset`, if it is whole. Every segment's first frame is an origin, and no other is.
    pub(crate) fn header_at(&self, offset: usize) -> Option<&'a FrameHeader> {
        let bytes = self.bytes.get(offset..)?;
        let header = FrameHeader::at(bytes, self.seed, self.lsn(offset))?;
        let is_in_place = (header.entry().kind() == EntryKind::ORIGIN) == (offset == FIRST_FRAME_OFFSET);
        let end = offset.checked_add(frame_bytes(header.entry().payload_len()))?;
        (is_in_place && end <= self.geometry.segment_bytes()).then_some(header)
    }

    pub(crate) fn look(&self, offset: usize) -> Look<'a> {
        let room = self.geometry.segment_bytes().saturating_sub(offset);
        if room < FRAME_HEADER_BYTES {
            return Look::Zeros;
        }
        let Some(start) = self.bytes.get(offset..offset + FRAME_HEADER_BYTES) else { return Look::CutOff };
        let Some(header) = self.header_at(offset) else {
            return if is_zero(start) { Look::Zeros } else { Look::NoHeader };
        };
        let from = offset + FRAME_HEADER_BYTES;
        let Some(payload) = self.bytes.get(from..from + header.entry().payload_len()) else { return Look::CutOff };
        match header.entry().verify(payload) {
            Ok(()) => Look::Frame { header, payload },
            Err(error) => Look::BadPayload { header, error },
        }
    }

    /// The first frame header at or beyond `offset` that was written where it stands.
    pub(crate) fn next_header(&self, offset: usize) -> Option<(usize, &'a FrameHeader)> {
        let mut offset = offset.next_multiple_of(FRAME_ALIGN_BYTES);
        loop {
            let rest = self.bytes.get(offset..)?;
            if rest.len() < FRAME_HEADER_BYTES {
                return None;
            }
            // A quick look before the checksum: no frame carries a watermark of zero, or one beyond itself.
            let skipped = self.implausible_prefix(rest, offset);
            if skipped > 0 {
                offset += skipped;
                continue;
            }
            if let Some(header) = self.header_at(offset) {
                return Some((offset, header));
            }
            offset += FRAME_ALIGN_BYTES;
        }
    }

    /// Number of bytes from the start of `rest`, which lies at `offset`, that begin no frame by their watermark.
    fn implausible_prefix(&self, rest: &[u8], offset: usize) -> usize {
        const WATERMARK: usize = 8;
        let here = self.lsn(offset).get();
        let candidates = rest.len() - FRAME_HEADER_BYTES;
        let (words, _) = rest.get(WATERMARK..).unwrap_or_default().as_chunks::<FRAME_ALIGN_BYTES>();
        let mut skipped = 0;
        for word in words {
            let watermark = u64::from_le_bytes(*word);
            if watermark != 0 && watermark <= here + skipped as u64 || skipped > candidates {
                break;
            }
            skipped += FRAME_ALIGN_BYTES;
        }
        skipped
    }

    /// The first page that touches `range` and reads as zeros from end to end, if any.
    pub(crate) fn zeroed_page(&self, range: std::ops::Range<usize>) -> Option<usize> {
        let first = range.start / PAGE_BYTES * PAGE_BYTES;
        (first..range.end.max(range.start + 1))
            .step_by(PAGE_BYTES)
            .find(|page| self.bytes.get(*page..page + PAGE_BYTES).is_some_and(is_zero))
    }

    /// Whether everything from `offset` on reads as zeros.
    pub(crate) fn rest_is_zero(&self, offset: usize) -> bool {
        self.bytes.get(offset..).is_none_or(is_zero)
    }

    /// Whether something other than zeros stands before `offset` in the same page.
    pub(crate) fn page_begun(&self, offset: usize) -> bool {
        let page = offset / PAGE_BYTES * PAGE_BYTES;
        offset > FIRST_FRAME_OFFSET && self.bytes.get(page..offset).is_some_and(|bytes| !is_zero(bytes))
    }
}
