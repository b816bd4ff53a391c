//! What a shard's log is kept on, as whoever drives the log sees it: prepare, install, read, look after.
//!
//! Shell. A device does nothing by itself and waits for nothing while a log runs: what takes time it gives out as work for a
//! helper thread. Everything that a log itself does with its bytes is [`Storage`]'s; how a device is synced is up to whoever has
//! an executor. Beyond this nobody knows whether a device maps files or writes around the cache. How one is opened is its own.

use std::io;
use std::ops::Range;

use crate::lsn::SegmentSeq;
use crate::place::LogPlace;
use crate::segment::SegmentIdentity;
use crate::storage::{Storage, StorageError};

pub use crate::mapped::DeviceError;
pub use crate::prepare::PrepareError;

/// A log's segments and its note, on a device of this host.
pub trait LogDevice: Storage<Prepared: Send> + 'static {
    /// Work for a helper thread that prepares segment `seq`, for [`Storage::install`]. It writes and syncs a whole segment.
    fn preparing(
        &self,
        seq: SegmentSeq,
        identity: SegmentIdentity,
        segment_bytes: u64,
    ) -> impl FnOnce() -> Result<Self::Prepared, PrepareError> + Send + 'static;

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

    /// The directory and files that are open, to see whether they are still in their places. Empty if the device has none.
    fn place(&self) -> LogPlace;
}
