//! What can go wrong, one closed enum per operation. Each says what was found, what was expected, and what to do.
//!
//! What recovery finds wrong with a log is in `damage`, what is wrong with the bytes of an entry in `format`.

use crate::damage::Corruption;
use crate::format::EntryKind;
use crate::group_commit::SyncFailure;
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_UNIT};
use crate::lsn::SegmentSeq;
use crate::segment::{IdentityMismatch, SegmentHeaderError};
use crate::storage::StorageError;
use crate::types::EntryId;

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
