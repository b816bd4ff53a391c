//! Writing frames: where the next one goes, the chain of header checksums, and the batch being formed.
//!
//! It stores bytes. It keeps no index, knows not what is durable beyond the watermark it is told to write, and syncs
//! nothing.

use crate::checksum::HeaderSeed;
use crate::error::{AppendError, Latch};
use crate::format::{EntryHeader, EntryKind, FRAME_HEADER_BYTES, FrameHeader, frame_bytes};
use crate::limits::{FIRST_FRAME_OFFSET, FRAME_ALIGN_BYTES, PAGE_BYTES, RESERVE_BYTES};
use crate::lsn::{Geometry, SegmentSeq};
use crate::origin::ORIGIN_BYTES_MAX;
use crate::segment::{SegmentHeader, SegmentIdentity};
use crate::storage::Storage;
use crate::types::{EntryId, Lsn, Term};
use crate::walk::LogEnd;

/// Which part of a segment a frame may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// All but the reserve at the end.
    Common,
    /// The reserve too.
    WithReserve,
}

/// A batch being formed. Its payload lies where it will stay; its header does not exist yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) id: EntryId,
    kind: EntryKind,
    payload_bytes: usize,
    /// Longest payload that fits here. Unit: bytes.
    capacity_bytes: usize,
}

impl Batch {
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    pub(crate) fn left_bytes(&self) -> usize {
        self.capacity_bytes - self.payload_bytes
    }
}

/// Where a frame was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
}

/// What making room came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The segment that was left, and where its last frame ends.
    pub(crate) sealed: Option<(SegmentSeq, usize)>,
    /// The segment that is written to now was begun: it got its origin.
    pub(crate) is_begun: bool,
}

/// The log's writing end.
#[derive(Debug)]
pub(crate) struct Writer {
    geometry: Geometry,
    identity: SegmentIdentity,
    seq: SegmentSeq,
    /// Where the next frame begins in segment `seq`. Everything from here on is zero, but for a batch being formed.
    offset: usize,
    /// End of the last frame, which may lie in the segment before `seq`.
    end: Lsn,
    /// Checksum of the last frame's header.
    chain: u32,
    /// Seed of segment `seq`; none until its header has been looked at, which needs it to be prepared.
    seed: Option<HeaderSeed>,
    batch: Option<Batch>,
}

impl Writer {
    /// Writes on where a log ends.
    pub(crate) fn new(geometry: Geometry, identity: SegmentIdentity, end: &LogEnd) -> Self {
        let LogEnd { seq, offset, chain, lsn, .. } = *end;
        assert!((FIRST_FRAME_OFFSET..=geometry.segment_bytes()).contains(&offset), "a log ends at offset {offset}");
        assert!(offset.is_multiple_of(FRAME_ALIGN_BYTES), "a log ends at offset {offset}");
        assert!(lsn <= geometry.lsn(seq, offset), "the last frame ends at {lsn}, beyond where the next one goes");
        Self { geometry, identity, seq, offset, end: lsn, chain, seed: None, batch: None }
    }

    pub(crate) fn seq(&self) -> SegmentSeq {
        self.seq
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn end(&self) -> Lsn {
        self.end
    }

    #[cfg(test)]
    pub(crate) fn chain(&self) -> u32 {
        self.chain
    }

    pub(crate) fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }

    /// Longest payload that any segment holds, whatever its origin says of the members. Unit: bytes.
    pub(crate) fn payload_limit_bytes(&self) -> usize {
        self.limit(Space::Common) - FIRST_FRAME_OFFSET - frame_bytes(ORIGIN_BYTES_MAX) - FRAME_HEADER_BYTES
    }

    /// Where frames must end at the latest. Unit: bytes.
    pub(crate) fn limit(&self, space: Space) -> usize {
        match space {
            Space::Common => self.geometry.segment_bytes() - RESERVE_BYTES,
            // The seal comes last.
            Space::WithReserve => self.geometry.segment_bytes() - frame_bytes(0),
        }
    }

    /// Payload of a mark that would fill up the page which the last frame ends in; `None` if it ends with its page.
    pub(crate) fn mark_filler_bytes(&self) -> Option<usize> {
        let rest = self.offset.next_multiple_of(PAGE_BYTES) - self.offset;
        match rest {
            0 => None,
            _ if rest < FRAME_HEADER_BYTES => Some(rest + PAGE_BYTES - FRAME_HEADER_BYTES),
            _ => Some(rest - FRAME_HEADER_BYTES),
        }
    }

    /// Makes sure that a frame with this payload fits at the writing end, moving to the next segment if it does not.
    ///
    /// A segment that is begun gets its origin, of which `origin` makes the payload. A segment that is left gets a
    /// seal. Syncs go segment by segment, so nothing in the next segment is durable before the seal is: a segment
    /// without one has no successor that holds anything durable. Says what was begun and left, if so. On an error
    /// nothing has moved.
    pub(crate) fn make_room(
        &mut self,
        storage: &mut impl Storage,
        payload_len: usize,
        space: Space,
        durable: Lsn,
        origin: impl Fn() -> Vec<u8>,
    ) -> Result<Moved, AppendError> {
        assert!(self.batch.is_none(), "nothing moves under a batch");
        let limit_bytes = self.payload_limit_bytes();
        if payload_len > limit_bytes {
            return Err(AppendError::TooLarge { payload_bytes: payload_len, limit_bytes });
        }
        let mut moved = Moved::default();
        if self.seed.is_none() {
            self.seed = Some(self.seed_of(storage, self.seq)?);
            moved.is_begun = self.begin_segment(storage, durable, &origin);
        }
        mark!(
            "log: a hard state uses the reserve"
                if space == Space::WithReserve
                    && self.offset + frame_bytes(payload_len) > self.limit(Space::Common)
        );
        if self.offset + frame_bytes(payload_len) <= self.limit(space) {
            return Ok(moved);
        }
        assert!(!moved.is_begun, "a segment that was just begun has room for what no segment refuses");
        let next = self.seq.next();
        let seed = self.seed_of(storage, next)?;
        // Without room for it there is one already: the log was opened again right after it.
        if self.offset + frame_bytes(0) <= self.geometry.segment_bytes() {
            self.write(storage, &EntryHeader::local(EntryKind::SEAL, Term::ZERO, &[]), &[], durable);
        }
        mark!("log: a segment is left");
        moved.sealed = Some((self.seq, self.offset));
        self.seq = next;
        self.offset = FIRST_FRAME_OFFSET;
        self.seed = Some(seed);
        moved.is_begun = self.begin_segment(storage, durable, &origin);
        assert!(moved.is_begun, "a segment that the log moves on to gets its origin");
        assert!(self.offset + frame_bytes(payload_len) <= self.limit(space), "room was made for {payload_len} bytes");
        Ok(moved)
    }

    /// Writes the segment's origin if it has none, and returns true then.
    fn begin_segment(&mut self, storage: &mut impl Storage, durable: Lsn, origin: &impl Fn() -> Vec<u8>) -> bool {
        if self.offset != FIRST_FRAME_OFFSET {
            return false;
        }
        let payload = origin();
        self.write(storage, &EntryHeader::local(EntryKind::ORIGIN, Term::ZERO, &payload), &payload, durable);
        true
    }

    /// Writes a frame for which there is room. Stores the header last; recovery relies on checksums, not on that.
    pub(crate) fn write(
        &mut self,
        storage: &mut impl Storage,
        entry: &EntryHeader,
        payload: &[u8],
        durable: Lsn,
    ) -> Placed {
        assert_eq!(entry.payload_len(), payload.len(), "the header was made for this payload");
        assert!(self.batch.is_none(), "a frame in the place of the batch");
        let frame = frame_bytes(payload.len());
        let bytes = storage.bytes_mut(self.seq, self.offset..self.offset + frame);
        let (header, rest) = bytes.split_at_mut(FRAME_HEADER_BYTES);
        let (body, padding) = rest.split_at_mut(payload.len());
        body.copy_from_slice(payload);
        padding.fill(0);
        let (placed, encoded) = self.seal_frame(*entry, frame, durable);
        header.copy_from_slice(encoded.as_bytes());
        placed
    }

    /// Begins a batch where there is room for at least its header.
    pub(crate) fn begin_batch(&mut self, id: EntryId, kind: EntryKind) {
        // No more than every segment of every node holds, though this one's origin may be short.
        assert!(self.batch.is_none(), "a batch within a batch");
        assert!(self.offset > FIRST_FRAME_OFFSET, "a batch in the place of the segment's origin");
        let here_bytes = self.limit(Space::Common) - self.offset - FRAME_HEADER_BYTES;
        let capacity_bytes = here_bytes.min(self.payload_limit_bytes());
        self.batch = Some(Batch { id, kind, payload_bytes: 0, capacity_bytes });
    }

    /// Adds parts to the batch, all or none.
    pub(crate) fn push(&mut self, storage: &mut impl Storage, parts: &[&[u8]]) -> Result<(), AppendError> {
        let limit_bytes = self.payload_limit_bytes();
        let batch = self.batch.as_mut().ok_or(AppendError::NoBatch)?;
        let total = parts.iter().map(|part| part.len()).sum();
        if total > limit_bytes {
            return Err(AppendError::TooLarge { payload_bytes: total, limit_bytes });
        }
        if total > batch.left_bytes() {
            return Err(AppendError::BatchFull);
        }
        let start = self.offset + FRAME_HEADER_BYTES + batch.payload_bytes;
        let mut rest = storage.bytes_mut(self.seq, start..start + total);
        for part in parts {
            let (here, beyond) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = beyond;
        }
        batch.payload_bytes += total;
        Ok(())
    }

    /// Completes the batch: checksums its payload where it lies, then stores the header.
    pub(crate) fn finish_batch(
        &mut self,
        storage: &mut impl Storage,
        durable: Lsn,
    ) -> Result<(EntryHeader, Placed), AppendError> {
        let batch = self.batch.take().ok_or(AppendError::NoBatch)?;
        assert!(batch.payload_bytes <= batch.capacity_bytes, "the batch outgrew its place");
        let start = self.offset + FRAME_HEADER_BYTES;
        let payload = &storage.bytes(self.seq)[start..start + batch.payload_bytes];
        let entry = EntryHeader::new(batch.id, batch.kind, payload);
        let header_at = self.offset..self.offset + FRAME_HEADER_BYTES;
        let (placed, encoded) = self.seal_frame(entry, frame_bytes(batch.payload_bytes), durable);
        storage.bytes_mut(self.seq, header_at).copy_from_slice(encoded.as_bytes());
        Ok((entry, placed))
    }

    /// Drops the batch and turns its bytes back to zero. Whether there was one.
    ///
    /// Its bytes may have reached the device and may come back after a crash. Without a header they are no frame there,
    /// only something after the log's end that recovery clears.
    pub(crate) fn abandon_batch(&mut self, storage: &mut impl Storage) -> bool {
        let Some(batch) = self.batch.take() else { return false };
        mark!("log: a batch is given up");
        let start = self.offset + FRAME_HEADER_BYTES;
        storage.bytes_mut(self.seq, start..start + batch.payload_bytes).fill(0);
        true
    }

    /// Makes a frame's header and moves the writing end after the frame.
    fn seal_frame(&mut self, entry: EntryHeader, frame: usize, durable: Lsn) -> (Placed, FrameHeader) {
        let seed = self.seed.expect("room was made in a segment that was looked at");
        let start = self.geometry.lsn(self.seq, self.offset);
        assert!(durable <= self.end, "a frame at {start} would promise {durable}, beyond the frame before it");
        let header = FrameHeader::new(seed, start, self.chain, durable, entry);
        self.offset += frame;
        // Panics beyond the segment's end.
        self.end = self.geometry.lsn(self.seq, self.offset);
        assert!(self.offset.is_multiple_of(FRAME_ALIGN_BYTES), "the frame at {start} has {frame} bytes");
        self.chain = header.header_crc();
        (Placed { start, end: self.end }, header)
    }

    /// Looks at a prepared segment before its first use.
    fn seed_of(&self, storage: &impl Storage, seq: SegmentSeq) -> Result<HeaderSeed, AppendError> {
        if !storage.contains(seq) {
            return Err(AppendError::SegmentNotReady);
        }
        let header =
            SegmentHeader::parse(storage.bytes(seq)).map_err(|error| Latch::BadSegment { segment: seq, error })?;
        let mismatch = header.mismatch(&self.identity, seq, self.geometry);
        if let Some(mismatch) = mismatch {
            return Err(Latch::ForeignSegment { segment: seq, mismatch }.into());
        }
        Ok(HeaderSeed::new(header.nonce))
    }
}
