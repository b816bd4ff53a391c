//! The bytes of a frame: frame header, entry header, kinds, padding. Format version 2.
//!
//! Layout: `docs/format/wal.md`. Nothing here knows where a frame lies or what an entry means; the segment's own header
//! is in `segment`.

use std::fmt;
use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{HeaderSeed, crc32};
use crate::limits::{FRAME_ALIGN_BYTES, MEMBERS_BYTES_MAX, PAGE_BYTES, RESERVE_BYTES};
use crate::lineage::Lineage;
use crate::origin::{ORIGIN_BYTES_MAX, ORIGIN_FIXED_BYTES};
use crate::types::{EntryId, Index, Lsn, Term};

/// Size of an entry header. Unit: bytes.
pub const ENTRY_HEADER_BYTES: usize = size_of::<EntryHeader>();

/// Size of a frame header, entry header included. Unit: bytes.
pub const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();

/// Payload of a hard state frame: the vote. Unit: bytes.
pub(crate) const HARD_STATE_PAYLOAD_BYTES: usize = size_of::<U64>();

/// Chain value before the first frame that a log ever had. The first frame that a log still has repeats what was before it.
pub(crate) const CHAIN_START: u32 = 0;

/// What an entry or frame carries.
///
/// 0 is no kind, so that zeros are never a frame. From 0xF0 the kinds are the log's own; the others are its user's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryKind(u8);

impl EntryKind {
    /// An entry that says who the members of the group are. Its payload is what origins repeat, at most `MEMBERS_BYTES_MAX` long.
    pub const MEMBERS: Self = Self(3);
    /// First kind that belongs to the log.
    pub(crate) const LOCAL_FIRST: u8 = 0xF0;
    /// Hard state: the header's term, and the vote as payload. Index is 0.
    pub const HARD_STATE: Self = Self(0xF0);
    /// A frame that carries nothing but its durable watermark. Term and index are 0; the payload, if any, fills space.
    pub const MARK: Self = Self(0xF1);
    /// The last frame of a segment that the log left: nothing in the next segment is durable before this is.
    pub(crate) const SEAL: Self = Self(0xF2);
    /// The first frame of every segment, and of no other place: what the log was when the segment was begun.
    pub const ORIGIN: Self = Self(0xF3);

    /// A kind of the log's user. Panics outside `1..0xF0`: kinds are constants, so this is found at compile time.
    #[must_use]
    pub const fn new(raw: u8) -> Self {
        assert!(raw != 0 && raw < Self::LOCAL_FIRST, "kinds of the user lie in 1..0xF0");
        Self(raw)
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether this is a kind of the log's user: an entry.
    #[must_use]
    pub const fn is_entry(self) -> bool {
        self.0 != 0 && self.0 < Self::LOCAL_FIRST
    }
}

impl fmt::Debug for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryKind({self})")
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MEMBERS => f.write_str("members"),
            Self::HARD_STATE => f.write_str("hard-state"),
            Self::MARK => f.write_str("mark"),
            Self::SEAL => f.write_str("seal"),
            Self::ORIGIN => f.write_str("origin"),
            Self(raw) => raw.fmt(f),
        }
    }
}

/// Why bytes are not an entry. The sender, or what lies between, is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Fewer bytes than a header has.
    #[error("an entry header is cut off: {got} bytes, expected {expected}")]
    TooShort {
        /// Bytes there are.
        got: usize,
        /// Bytes a header has.
        expected: usize,
    },
    /// Reserved bytes must be zero in this version.
    #[error("an entry header's reserved bytes are not zero; the sender's version is newer, or the bytes were damaged")]
    ReservedNotZero,
    /// The kind is none of the log's users'.
    #[error("entry kind {got} is not one of 1..240")]
    Kind {
        /// The kind that was stated.
        got: u8,
    },
    /// Entries are counted from 1.
    #[error("an entry has index 0; the first index is 1")]
    NoIndex,
    /// The payload is not as long as the header says.
    #[error("an entry's payload has {got} bytes, expected {expected}")]
    Length {
        /// Bytes there are.
        got: usize,
        /// Bytes the header states.
        expected: usize,
    },
    /// The payload, or the header, is not what the leader checksummed.
    #[error("an entry's checksum is {got:08x}, expected {expected:08x}; it was damaged on its way")]
    Checksum {
        /// Checksum of what is there.
        got: u32,
        /// Checksum in the header.
        expected: u32,
    },
}

/// The part of a frame that is the same wherever the entry is stored or sent. The leader makes it once.
///
/// On the wire an entry is this header and its payload, with no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryHeader {
    payload_crc: U32,
    payload_len: U32,
    term: U64,
    index: U64,
    kind: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<EntryHeader>() == 32);
const _: () = assert!(offset_of!(EntryHeader, payload_crc) == 0);
const _: () = assert!(offset_of!(EntryHeader, payload_len) == 4);
const _: () = assert!(offset_of!(EntryHeader, term) == 8);
const _: () = assert!(offset_of!(EntryHeader, index) == 16);
const _: () = assert!(offset_of!(EntryHeader, kind) == 24);
const _: () = assert!(offset_of!(EntryHeader, reserved) == 25);

/// Bytes of the entry header that its own checksum covers begin here.
const ENTRY_COVERED_FROM: usize = size_of::<U32>();

impl EntryHeader {
    /// Makes the header of an entry; the only place where the payload's checksum is computed rather than checked.
    ///
    /// Panics if the payload is 4 GiB or longer.
    #[must_use]
    pub fn new(id: EntryId, kind: EntryKind, payload: &[u8]) -> Self {
        let payload_len = u32::try_from(payload.len()).expect("a payload fits a segment, which is below 4 GiB");
        let mut header = Self {
            payload_crc: U32::ZERO,
            payload_len: U32::new(payload_len),
            term: U64::new(id.term.get()),
            index: U64::new(id.index.get()),
            kind: kind.get(),
            reserved: [0; 7],
        };
        header.payload_crc = U32::new(header.compute_crc(payload));
        header
    }

    /// Reads the header of an entry at the start of untrusted bytes, as they come over the wire.
    ///
    /// Checks everything that needs no payload: reserved bytes zero, the kind one of the user's, an index. The payload
    /// is [`Self::verify`]'s business.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let Ok((header, _)) = Self::read_from_prefix(bytes) else {
            return Err(EntryError::TooShort { got: bytes.len(), expected: ENTRY_HEADER_BYTES });
        };
        if header.reserved != [0; 7] {
            return Err(EntryError::ReservedNotZero);
        }
        if !header.kind().is_entry() {
            return Err(EntryError::Kind { got: header.kind });
        }
        if header.index() == Index::ZERO {
            return Err(EntryError::NoIndex);
        }
        Ok(header)
    }

    /// Checks header and payload against the checksum that the leader gave them.
    pub fn verify(&self, payload: &[u8]) -> Result<(), EntryError> {
        if payload.len() != self.payload_len() {
            return Err(EntryError::Length { got: payload.len(), expected: self.payload_len() });
        }
        let computed = self.compute_crc(payload);
        if computed != self.payload_crc.get() {
            return Err(EntryError::Checksum { got: computed, expected: self.payload_crc.get() });
        }
        Ok(())
    }

    /// Term and index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId::new(self.term(), self.index())
    }

    /// Term in which a leader created the entry.
    #[must_use]
    pub fn term(&self) -> Term {
        Term::new(self.term.get())
    }

    /// Position of the entry.
    #[must_use]
    pub fn index(&self) -> Index {
        Index::new(self.index.get())
    }

    /// What the entry carries.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        EntryKind(self.kind)
    }

    /// Length of the payload. Unit: bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_len.get() as usize
    }

    /// The running checksum up to this entry, after entries with the running checksum `before`.
    #[must_use]
    pub fn lineage_behind(&self, before: Lineage) -> Lineage {
        before.then(self.id(), self.kind, self.payload_crc.get())
    }

    /// The header as it goes over the wire, `ENTRY_HEADER_BYTES` long.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    /// The header of a frame that is the log's own and no entry.
    pub(crate) fn local(kind: EntryKind, term: Term, payload: &[u8]) -> Self {
        assert!(!kind.is_entry(), "an entry has an index");
        Self::new(EntryId::new(term, Index::ZERO), kind, payload)
    }

    fn compute_crc(&self, payload: &[u8]) -> u32 {
        crc32(&[&IntoBytes::as_bytes(self)[ENTRY_COVERED_FROM..], payload])
    }

    /// Whether the fields can be those of any frame of this version, entry or not.
    fn is_plausible(&self) -> bool {
        let shape = match self.kind() {
            EntryKind::HARD_STATE => self.index.get() == 0 && self.payload_len() == HARD_STATE_PAYLOAD_BYTES,
            EntryKind::MARK => self.index.get() == 0 && self.term.get() == 0,
            EntryKind::SEAL => self.index.get() == 0 && self.term.get() == 0 && self.payload_len() == 0,
            EntryKind::ORIGIN => {
                let is_possible = (ORIGIN_FIXED_BYTES..=ORIGIN_BYTES_MAX).contains(&self.payload_len());
                self.index.get() == 0 && self.term.get() == 0 && is_possible
            }
            EntryKind::MEMBERS => self.index.get() != 0 && self.payload_len() <= MEMBERS_BYTES_MAX,
            kind => kind.is_entry() && self.index.get() != 0,
        };
        shape && self.reserved == [0; 7]
    }
}

/// What stands before a payload in the log: the part that belongs to this place, then the entry's own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    header_crc: U32,
    prev_header_crc: U32,
    durable: U64,
    entry: EntryHeader,
}

const _: () = assert!(size_of::<FrameHeader>() == 48);
const _: () = assert!(offset_of!(FrameHeader, header_crc) == 0);
const _: () = assert!(offset_of!(FrameHeader, prev_header_crc) == 4);
const _: () = assert!(offset_of!(FrameHeader, durable) == 8);
const _: () = assert!(offset_of!(FrameHeader, entry) == 16);

/// Where the entry header begins in a frame: from here on a frame's bytes are the entry's bytes on the wire.
pub(crate) const FRAME_ENTRY_OFFSET: usize = offset_of!(FrameHeader, entry);

/// Bytes of the frame header that its checksum covers begin here.
const FRAME_COVERED_FROM: usize = size_of::<U32>();

impl FrameHeader {
    /// Makes the header of a frame at `lsn`, after the frame whose header checksum is `prev_header_crc`.
    ///
    /// `durable`: position below which everything was known durable. Invariant: `durable <= lsn`.
    #[must_use]
    pub fn new(seed: HeaderSeed, lsn: Lsn, prev_header_crc: u32, durable: Lsn, entry: EntryHeader) -> Self {
        assert!(durable <= lsn, "a frame at {lsn} can't promise that {durable} is durable");
        let mut header = Self {
            header_crc: U32::ZERO,
            prev_header_crc: U32::new(prev_header_crc),
            durable: U64::new(durable.get()),
            entry,
        };
        header.header_crc = U32::new(header.compute_crc(seed, lsn));
        header
    }

    /// The header at the start of `bytes`, if it is one that was written at `lsn` under `seed`.
    ///
    /// Says nothing about the payload, nor whether the frame follows the one before it.
    #[must_use]
    pub fn at(bytes: &[u8], seed: HeaderSeed, lsn: Lsn) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(bytes).ok()?;
        let plausible = header.entry.is_plausible() && header.durable() <= lsn;
        (plausible && header.header_crc.get() == header.compute_crc(seed, lsn)).then_some(header)
    }

    /// This header's checksum, which the next frame repeats.
    #[must_use]
    pub fn header_crc(&self) -> u32 {
        self.header_crc.get()
    }

    /// Checksum of the header of the frame before, across segments; `CHAIN_START` in the first frame that a log ever had.
    #[must_use]
    pub fn prev_header_crc(&self) -> u32 {
        self.prev_header_crc.get()
    }

    /// Watermark: everything below this position was durable when the frame was written.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        Lsn::new(self.durable.get())
    }

    /// The entry's own header.
    #[must_use]
    pub fn entry(&self) -> &EntryHeader {
        &self.entry
    }

    /// The header as it stands in the log, `FRAME_HEADER_BYTES` long.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    fn compute_crc(&self, seed: HeaderSeed, lsn: Lsn) -> u32 {
        seed.header_crc(lsn, &IntoBytes::as_bytes(self)[FRAME_COVERED_FROM..])
    }
}

/// Size of a frame with a payload of this length: header, payload, zero padding to 8. Unit: bytes.
#[must_use]
pub const fn frame_bytes(payload_len: usize) -> usize {
    FRAME_HEADER_BYTES + payload_len.next_multiple_of(FRAME_ALIGN_BYTES)
}

// Frames follow each other aligned.
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN_BYTES));
// The reserve holds several elections while no segment can be prepared.
const _: () = assert!(RESERVE_BYTES >= 64 * frame_bytes(HARD_STATE_PAYLOAD_BYTES) + frame_bytes(0));
// A mark and what fills up the page before it fit any segment, after its origin.
const _: () = assert!(frame_bytes(ORIGIN_BYTES_MAX) + 2 * FRAME_HEADER_BYTES <= PAGE_BYTES);

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
