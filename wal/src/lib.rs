//! Quorate's write-ahead log: segments, frames, checksums, group commit, recovery.
//!
//! [`Log`] is a plain value over a [`Storage`]: entries and hard states go in, a [`SyncRequest`] comes out, and whoever
//! drives the log performs it and reports back with [`Log::on_synced`]. Nothing here is durable because it was appended;
//! it is durable because a sync that covers it has completed.
//!
//! A log begins anywhere: after the entry at which the state that its owner keeps elsewhere is ([`Origin`]), and whole segments
//! that hold nothing beyond that state can go ([`Log::drop_before`]).
//!
//! The log knows no Raft (it numbers entries and lets later ones supersede a suffix, but does not decide which), no
//! sockets and no clock. The core does no I/O: with feature `shell` come the files (`device`) and
//! the offline checker (`verify`), with feature `testing` the simulated disk (`testing`).
//!
//! Calling order for one turn of the owner:
//! 1. append: [`Log::append_entry`], [`Log::append_hard_state`], or a batch
//!    ([`Log::begin_batch`], [`Log::batch_push`] and so on, [`Log::finish_batch`]);
//! 2. prepare what [`Log::needs_segment`] names, elsewhere, and install it in [`Log::storage_mut`];
//! 3. start what [`Log::next_sync`] asks for; when it ends, call [`Log::on_synced`] and ask again.
//!
//! The bytes on disk are documented in `docs/format/wal.md`.

// Marks a branch that is rare, or rare under a condition: the simulator must reach it. Expands to nothing without the feature
// `testing`.
#[cfg(any(test, feature = "testing"))]
macro_rules! mark {
    ($name:literal) => {
        crate::testing::marks::reach($name)
    };
    ($name:literal if $condition:expr) => {
        if $condition {
            crate::testing::marks::reach($name);
        }
    };
}
#[cfg(not(any(test, feature = "testing")))]
macro_rules! mark {
    ($($ignored:tt)*) => {};
}

pub mod checksum;
mod damage;
mod decision;
pub mod error;
pub mod format;
mod group_commit;
mod index;
pub mod limits;
mod lineage;
pub mod log;
pub mod lsn;
mod members;
#[cfg(any(test, feature = "shell", feature = "testing"))]
pub mod note;
pub mod origin;
pub mod random;
pub mod reader;
pub mod recovery;
pub mod salvage;
mod scan;
pub mod segment;
pub mod stats;
pub mod storage;
pub mod types;
mod walk;
mod writer;

#[cfg(feature = "shell")]
mod cache;
#[cfg(feature = "shell")]
pub mod device;
#[cfg(feature = "shell")]
pub mod files;
#[cfg(feature = "shell")]
mod mapped;
#[cfg(feature = "shell")]
mod mmap;
#[cfg(feature = "shell")]
pub mod place;
#[cfg(feature = "shell")]
mod prepare;
#[cfg(feature = "shell")]
pub mod repair;
#[cfg(feature = "shell")]
pub mod verify;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod doc_table;
#[cfg(test)]
mod log_tests;
#[cfg(all(test, feature = "shell"))]
mod mmap_tests;
#[cfg(test)]
mod noted_tests;
#[cfg(test)]
mod origin_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod unused_tests;

pub use damage::{Corruption, Damage, DamageKind, Inconsistency, Tail, TornTail};
pub use error::{AppendError, Latch, OpenError, ReadError};
pub use format::{EntryError, EntryHeader, EntryKind};
pub use group_commit::{SyncFailure, SyncId, SyncRequest};
pub use lineage::Lineage;
pub use log::{Log, LogOptions};
pub use lsn::SegmentSeq;
#[cfg(feature = "shell")]
pub use mmap::FileDevice;
pub use origin::Origin;
pub use reader::EntryRef;
pub use recovery::RecoveryReport;
pub use segment::{LogNonce, SegmentIdentity};
pub use stats::LogStats;
pub use storage::{Noted, Simulated, Storage, StorageError};
pub use types::HardStateRecord;
