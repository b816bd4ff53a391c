//! Exceptions from the size rules. Entries are lowered or removed, never raised or added for new code.

use crate::sizes::{FileRatchet, FunctionRatchet};

/// Files over the limit, with their present length.
pub const FILES: &[FileRatchet] = &[];

/// Functions over the limit, with their present length.
pub const FUNCTIONS: &[FunctionRatchet] = &[];

/// Files whose imports run in a circle.
pub const CIRCLES: &[&str] = &[
    "wal/src/constants.rs",
    "wal/src/error.rs",
    "wal/src/format.rs",
    "wal/src/group_commit.rs",
    "wal/src/index.rs",
    "wal/src/lsn.rs",
    "wal/src/mmap.rs",
    "wal/src/prepare.rs",
    "wal/src/recovery.rs",
    "wal/src/scan.rs",
    "wal/src/segment.rs",
    "wal/src/storage.rs",
    "wal/src/walk.rs",
    "wal/src/writer.rs",
];
