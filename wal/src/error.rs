//! What can go wrong, one closed enum per operation. Each says what was found, what was expected, and what to do.
//!
//! What recovery finds wrong with a log is in `walk` (`Damage`) and `recovery` (`Corruption`).

use crate::constants::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_UNIT};
use crate::format::EntryKind;
use crate::group_commit::SyncFailure;
use crate::lsn::SegmentSeq;
use crate::recovery::Corruption;
use crate::segment::{IdentityMismatch, SegmentHeaderError};
use crate::storage::StorageError;
use crate::types::{EntryId, Index};

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

/// Why the log took nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The next segment is not there yet. Prepare what `needs_segment` names, then try again.
    #[error("the log's next segment is not prepared yet; try again once it is")]
    SegmentNotReady,
    /// No segment of this log could ever hold it.
    #[error("an entry of {payload_bytes} bytes exceeds the log's limit of {limit_bytes}; use larger segments")]
    TooLarge {
        /// Length of the payload. Unit: bytes.
        payload_bytes: usize,
        /// Longest payload that a segment holds. Unit: bytes.
        limit_bytes: usize,
    },
    /// The batch has no room left for this; finish it and begin another.
    #[error("the batch is full; finish it and begin another")]
    BatchFull,
    /// Nothing else can be appended while a batch is being formed; finish or abandon it first.
    #[error("a batch is being formed; finish or abandon it before anything else is appended")]
    BatchOpen,
    /// There is no batch to add to or to finish.
    #[error("no batch is being formed; begin one first")]
    NoBatch,
    /// The entry neither follows the last one nor supersedes a suffix, or its term is older than its predecessor's.
    #[error("entry {got} does not follow: the log ends at {last}, and its predecessor there has no greater term")]
    OutOfSequence {
        /// The entry that was offered.
        got: EntryId,
        /// The log's last entry.
        last: EntryId,
    },
    /// The kind is reserved for the log itself.
    #[error("entry kind {kind} is not for entries")]
    ReservedKind {
        /// The kind that was stated.
        kind: EntryKind,
    },
    /// The log failed earlier and takes nothing more.
    #[error(transparent)]
    Latched(#[from] Latch),
}

/// The failure that stopped a log for good. Only a restart, which reads the device anew, gets past it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Latch {
    /// A sync failed. What it covered may be lost although it can still be read; a second sync would prove nothing.
    #[error(
        "sync of log segment {segment}, bytes {start_offset}..{end_offset}, failed: {failure}; \
         nothing more is acknowledged; check the disk, then restart this node"
    )]
    SyncFailed {
        /// The segment.
        segment: SegmentSeq,
        /// Where the unsynced part begins. Unit: bytes.
        start_offset: u64,
        /// Where it ends. Unit: bytes.
        end_offset: u64,
        /// What the system said.
        failure: SyncFailure,
    },
    /// A segment that was installed is not one that was prepared for this log.
    #[error("log segment {segment} was installed but cannot be used: {error}; restart this node")]
    BadSegment {
        /// The segment.
        segment: SegmentSeq,
        /// What is wrong with its header.
        error: SegmentHeaderError,
    },
    /// A segment that was installed was prepared for another log.
    #[error("log segment {segment} was installed but belongs elsewhere: {mismatch}; restart this node")]
    ForeignSegment {
        /// The segment.
        segment: SegmentSeq,
        /// What differs.
        mismatch: IdentityMismatch,
    },
}

/// An entry that the index knows and that is not where it was written: the mapping shows something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {expected} is not at offset {offset} of log segment {segment} any more; \
     the file was changed or the device failed; restart this node"
)]
pub struct ReadError {
    /// The entry that belongs there.
    pub expected: EntryId,
    /// The segment.
    pub segment: SegmentSeq,
    /// Offset of its frame. Unit: bytes.
    pub offset: usize,
}

/// Why a log did not open. Nothing was changed unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The segment size breaks the limits.
    #[error(
        "a log segment of {got} bytes is not possible; \
         choose a multiple of {SEGMENT_BYTES_UNIT} from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
    )]
    SegmentBytes {
        /// The size that was asked for. Unit: bytes.
        got: u64,
    },
    /// The log was created for another cluster, node, shard, shard count or segment size.
    #[error(
        "log segment {segment} belongs to another log: {mismatch}; \
         point this node at its own data directory, or start it as what the directory was created for"
    )]
    Identity {
        /// The first segment that says so.
        segment: SegmentSeq,
        /// What differs.
        mismatch: IdentityMismatch,
    },
    /// Another version of Quorate wrote the log.
    #[error(
        "log segment {segment} has format version {got}, this build knows {known}; start the version that wrote it"
    )]
    Version {
        /// The first segment that says so.
        segment: SegmentSeq,
        /// The version it states.
        got: u32,
        /// The version this build reads.
        known: u32,
    },
    /// Durable parts of the log are damaged. They are never cut off.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// A log was to be begun where there is one.
    #[error("there is a log already where one was to be begun; remove what is there")]
    NotEmpty,
    /// The storage failed while the log's end was being cleaned. Opening again is safe.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl OpenError {
    /// The damage, if that is the reason.
    #[must_use]
    pub fn corruption(&self) -> Option<&Corruption> {
        match self {
            Self::Corrupt(corruption) => Some(corruption),
            _ => None,
        }
    }
}

/// Why an index or term does not fit where it stands in the log, although its frame is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// Entries are missing between this one and the one before.
    #[error("entry {got} follows entry {last}, so entries are missing between them")]
    IndexGap {
        /// The entry in the frame.
        got: EntryId,
        /// The last entry before it.
        last: EntryId,
    },
    /// Terms never fall along a log.
    #[error("entry {got} follows an entry of the later term {before}")]
    TermFalls {
        /// The entry in the frame.
        got: EntryId,
        /// Term of the entry at the index before.
        before: crate::types::Term,
    },
    /// The first frame of a segment is none of the log's origins, although it is whole.
    #[error("the origin of the segment says what no origin says")]
    NoOrigin,
    /// The origin of a segment does not repeat what the segments before it add up to.
    #[error(
        "the segment was begun behind entry {got} or with another hard state, and the segments before it end at entry {last}"
    )]
    OtherOrigin {
        /// The entry that the segment says was before it.
        got: EntryId,
        /// The last entry before it.
        last: EntryId,
    },
    /// A node's term never falls, and within a term its vote never changes.
    #[error("a hard state takes back an earlier one")]
    HardStateFalls,
    /// The entry would replace one that the log does not hold any more.
    #[error("entry {got} lies before the log's first index {first}")]
    BeforeFirst {
        /// The entry in the frame.
        got: EntryId,
        /// The log's first index.
        first: Index,
    },
}
