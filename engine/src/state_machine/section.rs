//! Sections: the parts that a shard's state is made of, and what each must be able to do besides being applied to.
//!
//! A section can be read as of an entry while later ones are applied: all slices of a reading show one state, not a mixture of
//! several. Each section has its own form inside its chunks; nothing here knows files or peers.
//! Layout: `docs/format/state.md`.

use std::fmt::Debug;

use codec::{DecodeError, Reader};

use super::answers::CommandRefused;
use super::batch::{LogTime, Sender};
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

/// Which section a chunk belongs to, by the number in front of the chunk. Numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SectionKind(u8);

impl SectionKind {
    /// Keys and their versions.
    pub(super) const KEYS: Self = Self(1);

    /// The answers that tests keep. No node has it.
    pub const LAST_ANSWERS: Self = Self(255);

    /// The front of a chunk.
    #[must_use]
    pub(super) const fn chunk_header(self) -> [u8; CHUNK_HEADER_BYTES] {
        [self.0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// Reads the front of a chunk; returns what stands after it, too.
    ///
    /// # Errors
    /// The bytes do not follow the format.
    pub(super) fn of_chunk(chunk: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(chunk);
        let kind = Self(reader.u8("the section of a chunk")?);
        if reader.bytes("the reserved bytes of a chunk", 7)?.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Unknown { what: "a reserved byte of a chunk", got: 1 });
        }
        Ok((kind, reader.rest()))
    }

    /// What is wrong with a chunk of this section in a state that has none.
    pub(super) fn unknown(self) -> DecodeError {
        DecodeError::Unknown { what: "the section of a chunk", got: self.0.into() }
    }
}

/// How far a section is written out, or taken into a hash.
#[derive(Clone, Debug, Default)]
pub struct SectionCursor {
    /// Names the record that was visited last; empty = none.
    pub record: Vec<u8>,
    /// Parts of that record that were taken.
    pub taken: usize,
}

/// One part of a state.
///
/// Its state *as of* an entry is what that entry and those before it made. It is asked for as of the last entry that was finished, or,
/// between `begin_reading` and `end_reading`, as of the one that was the last when the reading began. What the commands of an entry do
/// counts once the entry is finished: so a section that overwrites or forgets keeps what it had before until then, and longer if a
/// reading is open. One whose past stays, as that of keys does, needs none of these calls.
pub trait Section: Debug + Send {
    /// Its number in chunks.
    fn kind(&self) -> SectionKind;

    /// Estimated size. Unit: bytes.
    fn bytes(&self) -> u64;

    /// True if it keeps the answers to commands that have a sender. Without such a section no command may have one.
    fn keeps_answers(&self) -> bool {
        false
    }

    /// Takes the answer to a command that has a sender. Every replica makes the same one, whether anybody waits for it or not.
    fn take_answer(&mut self, _sender: Sender, _answer: Result<&[u8], CommandRefused>) {}

    /// The entry that was being applied is whole: what was done since the one before it belongs to `as_of` from here on.
    fn finish_entry(&mut self, _as_of: &AsOf) {}

    /// From here on until `end_reading` the section is read as of `as_of`, the last entry that was finished. No two readings are begun as
    /// of the same entry; several of different ones may be open.
    fn begin_reading(&mut self, _as_of: &AsOf) {}

    /// The reading of `as_of` is over.
    fn end_reading(&mut self, _as_of: &AsOf) {}

    /// Appends more of the section as it was at `as_of`. Stops when `left` is used up, of which it takes 1 for each key that it visits and
    /// for each further version, or when there are `bytes_limit` bytes in `out`. Returns true if that was the last of it. It visits at
    /// least one key: `left` is not 0. Later entries may be applied between two calls.
    fn chunk(
        &self,
        as_of: &AsOf,
        cursor: &mut SectionCursor,
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
    fn digest(&self, as_of: &AsOf, cursor: &mut SectionCursor, left: &mut u64, digest: &mut Digest) -> bool;
}
