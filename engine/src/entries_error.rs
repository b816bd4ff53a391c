//! What may be wrong with the entries of an `AppendEntries`. `wire` and the replica find it; the replica takes none of the entries then.

use codec::DecodeError;
use wal::format::EntryError;

use crate::log_store::FormError;
use crate::types::{EntryId, Index};

/// The entries of an `AppendEntries` are not what it announces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    /// One is damaged.
    #[error("entry at index {index} of an AppendEntries is damaged: {error}")]
    Entry {
        /// Where the entry should stand.
        index: Index,
        /// What is wrong with it.
        error: EntryError,
    },
    /// One stands in another's place.
    #[error("entry {got} stands in an AppendEntries where index {expected} is due")]
    Sequence {
        /// As found.
        got: EntryId,
        /// The index that is due.
        expected: Index,
    },
    /// One arrived as it was sent, and no state machine of this version could apply it.
    #[error("entry at index {index} of an AppendEntries is refused: {error}")]
    Form {
        /// Where the entry should stand.
        index: Index,
        /// What is wrong with it.
        error: FormError,
    },
    /// One is larger than any segment of this node's log.
    #[error(
        "entry at index {index} of an AppendEntries has {got} bytes, and this node's log takes at most {limit}: start every node with the same --segment-bytes"
    )]
    TooLarge {
        /// Where the entry should stand.
        index: Index,
        /// Length of its payload as announced. Unit: bytes.
        got: usize,
        /// Longest payload of this node's log. Unit: bytes.
        limit: usize,
    },
    /// Bytes are left over, or missing.
    #[error("an AppendEntries holds other entries than it announces: {0}")]
    Decode(#[from] DecodeError),
}
