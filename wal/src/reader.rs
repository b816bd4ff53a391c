//! Reading an entry where it lies: header and payload as slices of the storage, nothing copied.
//!
//! Reads trust the checksums that were checked when the entry was appended or recovered; [`EntryRef::verify`] checks them
//! again.

use crate::error::ReadError;
use crate::format::{ENTRY_HEADER_BYTES, EntryError, EntryHeader, EntryKind, FRAME_ENTRY_OFFSET};
use crate::index::Slot;
use crate::lsn::SegmentSeq;
use crate::types::{EntryId, Index};

use zerocopy::FromBytes;

/// An entry in the log.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    header: &'a EntryHeader,
    /// Header and payload.
    bytes: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// The entry at `offset` of a segment's bytes, if the one that `slot` describes is there.
    pub(crate) fn at(
        segment: &'a [u8],
        seq: SegmentSeq,
        offset: usize,
        index: Index,
        slot: &Slot,
    ) -> Result<Self, ReadError> {
        let expected = EntryId::new(slot.term, index);
        let lost = ReadError { expected, segment: seq, offset };
        let start = offset + FRAME_ENTRY_OFFSET;
        let end = start + ENTRY_HEADER_BYTES + slot.payload_len as usize;
        let bytes = segment.get(start..end).ok_or(lost)?;
        let (header, _) = EntryHeader::ref_from_prefix(bytes).map_err(|_| lost)?;
        if header.id() != expected || header.payload_len() != slot.payload_len as usize {
            return Err(lost);
        }
        Ok(Self { header, bytes })
    }

    /// Term and index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.header.id()
    }

    /// What it carries.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.header.kind()
    }

    /// Its header, as the leader made it.
    #[must_use]
    pub fn header(&self) -> &'a EntryHeader {
        self.header
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[ENTRY_HEADER_BYTES..]
    }

    /// Header and payload as they go over the wire: one slice, because they lie so in the log.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks header and payload against the leader's checksum.
    pub fn verify(&self) -> Result<(), EntryError> {
        self.header.verify(self.payload())
    }
}
