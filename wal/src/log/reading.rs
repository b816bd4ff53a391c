//! Looking at what a log holds: entries, where they lie, and whether looking would wait for the device.

use std::ops::Range;

use super::Log;
use crate::error::ReadError;
use crate::format::FRAME_HEADER_BYTES;
use crate::index::Slot;
use crate::lsn::SegmentSeq;
use crate::reader::EntryRef;
use crate::storage::Storage;
use crate::types::{Index, Lsn};

impl<S: Storage> Log<S> {
    /// The entry at `index`, where it lies; `None` if the log does not hold it.
    ///
    /// The batch being formed is no entry yet. Checksums are not computed again; see [`EntryRef::verify`].
    pub fn entry(&self, index: Index) -> Result<Option<EntryRef<'_>>, ReadError> {
        let Some(slot) = self.index.get(index) else { return Ok(None) };
        let (seq, offset) = self.split(slot.lsn);
        EntryRef::at(self.storage.bytes(seq), seq, offset, index, slot).map(Some)
    }

    /// Size of the entry at `index` on the wire, header and payload; 0 if the log does not hold it. Unit: bytes.
    #[must_use]
    pub fn entry_bytes(&self, index: Index) -> u64 {
        self.index.get(index).map_or(0, Slot::entry_bytes)
    }

    /// Where the payload of the entry at `index` begins; `None` if the log does not hold it.
    #[must_use]
    pub fn payload_place(&self, index: Index) -> Option<Lsn> {
        self.index.get(index).map(|slot| Lsn::new(slot.lsn.get() + FRAME_HEADER_BYTES as u64))
    }

    /// Segment and offset of the frame that holds the entry at `index`; `None` if the log does not hold it.
    #[must_use]
    pub fn place_of(&self, index: Index) -> Option<(SegmentSeq, usize)> {
        self.index.get(index).map(|slot| self.split(slot.lsn))
    }

    /// The parts of segments that hold the entries `first..=last`, in order; none if the log does not hold them all.
    #[must_use]
    pub fn parts_of(&self, first: Index, last: Index) -> Vec<(SegmentSeq, Range<usize>)> {
        let (Some(from), Some(to)) = (self.index.get(first), self.index.get(last)) else { return Vec::new() };
        assert!(first <= last, "the entries from {first} to {last} are none");
        let ((mut seq, mut start), (last_seq, last_start)) = (self.split(from.lsn), self.split(to.lsn));
        let end = last_start + usize::try_from(to.end().get() - to.lsn.get()).unwrap_or(0);
        let mut parts = Vec::new();
        while seq < last_seq {
            parts.push((seq, start..self.storage.bytes(seq).len()));
            (seq, start) = (seq.next(), 0);
        }
        assert!(start < end, "the entries {first} to {last} are in no order");
        parts.push((seq, start..end));
        parts
    }

    /// Whether the entries `first..=last` can be read without waiting for the device, as far as can be told.
    #[must_use]
    pub fn is_resident(&self, first: Index, last: Index) -> bool {
        let behind_bytes = self.bytes_from(first);
        let parts = self.parts_of(first, last);
        parts.into_iter().all(|(seq, part)| self.storage.is_resident(seq, part, behind_bytes))
    }

    /// Bytes of the log from the frame that holds the entry at `index` to the end of the last frame; 0 if it does not hold it.
    #[must_use]
    pub fn bytes_from(&self, index: Index) -> u64 {
        self.index.get(index).map_or(0, |slot| self.end_lsn().get() - slot.lsn.get())
    }
}
