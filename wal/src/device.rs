//! What a shard's log is kept on, as whoever drives the log sees it: open, prepare, install, sync, read, look after.
//!
//! Shell. A device does nothing by itself and waits for nothing while a log runs: what takes time it gives out as work for a
//! helper thread, or as a handle to sync. Everything that a log itself does with its bytes is [`Storage`]'s. Beyond these two
//! traits nobody knows whether a device maps files or writes around the cache.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::lsn::SegmentSeq;
use crate::place::LogPlace;
use crate::segment::SegmentIdentity;
use crate::storage::{Storage, StorageError};

pub use crate::mapped::DeviceError;
pub use crate::prepare::PrepareError;

/// A log's segments and its note, on a device of this host.
pub trait LogDevice: Storage<Prepared: Send> + Sized + 'static {
    /// Opens the segments in `dir`, which exists, and makes sure that what they show is what the device holds. Blocks.
    ///
    /// A segment is synced, which must succeed, and what the cache has of it is dropped or compared: after a failed sync the cache
    /// may hold what the device does not. It is read once, so that a place that can't be read is found to be damage, and does not
    /// end the process later. The note is read through the cache, where alone it needs to be. Leftovers of an unfinished
    /// preparation are removed. Whether the segments are a log is `Log::open`'s business.
    fn open(dir: &Path) -> Result<Self, DeviceError>;

    /// Makes the first segment of a new log in `dir`, which exists. Blocks; durable on return.
    fn create(dir: &Path, identity: SegmentIdentity, segment_bytes: u64) -> Result<(), PrepareError>;

    /// Work for a helper thread that prepares segment `seq`, for [`Storage::install`]. It writes and syncs a whole segment.
    fn preparing(
        &self,
        seq: SegmentSeq,
        identity: SegmentIdentity,
        segment_bytes: u64,
    ) -> impl FnOnce() -> Result<Self::Prepared, PrepareError> + Send + 'static;

    /// What to `fdatasync` for a [`crate::SyncRequest`]: the very file that was stored to. `None` if the segment is absent, or sealed:
    /// then nobody asks for a sync of it.
    ///
    /// Never sync by path: whatever stands there by then may be another file. Nor by a descriptor that was opened after what it
    /// is to sync was stored: it does not learn of a failure before.
    fn sync_file(&self, seq: SegmentSeq) -> Option<Arc<File>>;

    /// The same for the note; `None` before the first segment.
    fn note_file(&self) -> Option<Arc<File>>;

    /// Work for a helper thread that reads parts of segments into memory, so that looking at them waits for no device.
    ///
    /// It reads by descriptors of its own: the storage may change meanwhile. It fails where the device does.
    fn reading_in(
        &self,
        parts: Vec<(SegmentSeq, Range<usize>)>,
    ) -> io::Result<impl FnOnce() -> io::Result<()> + Send + 'static>;

    /// Work for a helper thread that removes the segments which the log dropped; `None` if there are none.
    ///
    /// First the note is synced, which says where the log begins: without it their absence would be damage. Then the oldest goes
    /// first, and the removal is made durable. After an error some are left, are no part of the log, and go when it opens next.
    fn removing_dropped(&mut self) -> Option<impl FnOnce() -> Result<(), StorageError> + Send + 'static>;

    /// The directory and files that are open, to see whether they are still in their places.
    fn place(&self) -> LogPlace;
}
