//! Sections: the parts that a shard's state is made of, and what each must be able to do besides being applied to.
//!
//! A section can be read as of an entry while later ones are applied: all slices of a reading show one state, not a mixture of
//! several. Each section has its own form inside its chunks; nothing here knows files or peers.
//! Layout: `docs/format/state.md`.

use codec::{DecodeError, Reader};

use super::batch::LogTime;
use super::digest::Digest;
use crate::types::{EntryId, Index, Revision, Term};

/// Length of what stands in front of every chunk. Unit: bytes.
pub const CHUNK_HEADER_BYTES: usize = 8;

/// A state by the last entry that it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The last entry applied.
    pub applied: EntryId,
    /// The revision then.
    pub revision: Revision,
    /// The log's time then.
    pub time: LogTime,
}

impl AsOf {
    /// Before the first entry of a new shard. As in etcd an empty store is at revision 1.
    pub const EMPTY: Self = Self {
        applied: EntryId { term: Term::ZERO, index: Index::ZERO },
        revision: Revision::new(1),
        time: LogTime::new(0),
    };
}

/// Which section a chunk belongs to. Numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionKind {
    /// Keys and their versions.
    Keys,
}

impl SectionKind {
    /// The number in front of a chunk.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Keys => 1,
        }
    }

    /// The front of a chunk.
    #[must_use]
    pub const fn chunk_header(self) -> [u8; CHUNK_HEADER_BYTES] {
        [self.to_wire(), 0, 0, 0, 0, 0, 0, 0]
    }

    /// Reads the front of a chunk; returns what stands after it, too.
    ///
    /// # Errors
    /// The bytes do not follow the format.
    pub fn of_chunk(chunk: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(chunk);
        let kind = match reader.u8("the section of a chunk")? {
            1 => Self::Keys,
            got => return Err(DecodeError::Unknown { what: "the section of a chunk", got: got.into() }),
        };
        if reader.bytes("the reserved bytes of a chunk", 7)?.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Unknown { what: "a reserved byte of a chunk", got: 1 });
        }
        Ok((kind, reader.rest()))
    }
}

/// One part of a state.
pub trait Section {
    /// How far the writing out of a section has come.
    type Cursor: Default;

    /// Appends more of the section as it was at `as_of`. Stops when `left` is used up, of which it takes 1 for each key that it visits and
    /// for each further version, or when there are `bytes_limit` bytes in `out`. Returns true if that was the last of it. It visits at
    /// least one key: `left` is not 0. Later entries may be applied between two calls.
    fn chunk(
        &self,
        as_of: &AsOf,
        cursor: &mut Self::Cursor,
        left: &mut u64,
        bytes_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool;

    /// Takes in what `chunk` wrote, chunk by chunk in their order, into a section that was empty.
    ///
    /// # Errors
    /// The bytes do not follow the format or are out of order; the section must not be used then.
    fn restore(&mut self, chunk: &[u8]) -> Result<(), DecodeError>;

    /// Takes more of the section as it was at `as_of` into a hash, until `left` is used up, of which it takes 1 for each key that it
    /// visits and each version, and more for long values. Returns true if that was the last of it. Where the slices end makes no
    /// difference to the hash. Later entries may be applied between two calls.
    fn digest(&self, as_of: &AsOf, cursor: &mut Self::Cursor, left: &mut u64, digest: &mut Digest) -> bool;
}
