//! A log's device as a shard drives it: what `wal` says of any device, and syncs, which go through this executor's ring.

use std::fs::File;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;

use glommio::io::BufferedFile;
use wal::device::LogDevice;
use wal::{FileDevice, SegmentSeq, SyncFailure};

/// A device that this executor can sync.
pub trait ShardDevice: LogDevice {
    /// Makes durable what was stored to a segment before the call. It takes part in what it syncs by itself: the device may
    /// change meanwhile.
    ///
    /// Fails with what the system said; then what was stored may not be durable, and is never synced again.
    fn sync(&self, seq: SegmentSeq) -> impl Future<Output = Result<(), SyncFailure>> + 'static;

    /// The same for the note.
    fn sync_note(&self) -> impl Future<Output = Result<(), SyncFailure>> + 'static;
}

impl ShardDevice for FileDevice {
    fn sync(&self, seq: SegmentSeq) -> impl Future<Output = Result<(), SyncFailure>> + 'static {
        let file = self.sync_file(seq);
        async move {
            let file = file.ok_or_else(|| SyncFailure::new("the segment is not open"))?;
            SyncFile::new(file).sync().await
        }
    }

    fn sync_note(&self) -> impl Future<Output = Result<(), SyncFailure>> + 'static {
        let file = self.note_file();
        async move {
            match file {
                Some(file) => SyncFile::new(file).sync().await,
                None => Ok(()),
            }
        }
    }
}

/// One sync of a file, by the descriptor that its device has open.
///
/// Nothing is opened for it, so it can reach no other file than the one that was stored to and needs no descriptor of its own.
struct SyncFile {
    /// Never dropped: that would close the descriptor, which is `_file`'s.
    borrowed: ManuallyDrop<BufferedFile>,
    /// Keeps the descriptor open while the sync is on its way.
    _file: Arc<File>,
}

impl SyncFile {
    /// Prepares a sync of `file` on this executor.
    fn new(file: Arc<File>) -> Self {
        // SAFETY: the descriptor is open, and stays so while this value lives because `_file` shares its ownership. The
        // `BufferedFile` is never dropped, so it does not close what it does not own, and it does nothing but sync.
        let borrowed = ManuallyDrop::new(unsafe { BufferedFile::from_raw_fd(file.as_raw_fd()) });
        Self { borrowed, _file: file }
    }

    /// `fdatasync`.
    async fn sync(&self) -> Result<(), SyncFailure> {
        self.borrowed.fdatasync().await.map_err(|error| SyncFailure::new(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use glommio::LocalExecutor;

    use super::*;

    #[test]
    fn a_sync_leaves_the_file_open_and_a_failure_is_told() {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        let pipe = Arc::new(File::from(std::os::fd::OwnedFd::from(writer)));
        LocalExecutor::default().run(async {
            for _ in 0..3 {
                SyncFile::new(Arc::clone(&file)).sync().await.expect("synced");
            }
            let failure = SyncFile::new(pipe).sync().await.expect_err("a pipe can't be synced");
            assert!(!failure.reason.is_empty());
        });
        assert!(file.metadata().is_ok(), "the descriptor is still open");
    }
}
