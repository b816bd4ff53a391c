//! Syncing a log's file by the descriptor that its device has open, through io_uring.
//!
//! Nothing is opened for it, so a sync can reach no other file than the one that was stored to and needs no descriptor of its own.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;

use glommio::io::BufferedFile;
use wal::SyncFailure;

/// One sync of a file.
pub struct SyncFile {
    /// Never dropped: that would close the descriptor, which is `_file`'s.
    borrowed: ManuallyDrop<BufferedFile>,
    /// Keeps the descriptor open while the sync is on its way.
    _file: Arc<File>,
}

impl SyncFile {
    /// Prepares a sync of `file` on this executor.
    #[must_use]
    pub fn new(file: Arc<File>) -> Self {
        // SAFETY: the descriptor is open, and stays so while this value lives because `_file` shares its ownership. The
        // `BufferedFile` is never dropped, so it does not close what it does not own, and it does nothing but sync.
        let borrowed = ManuallyDrop::new(unsafe { BufferedFile::from_raw_fd(file.as_raw_fd()) });
        Self { borrowed, _file: file }
    }

    /// `fdatasync`.
    ///
    /// # Errors
    /// What the system said; what was stored before may not be durable.
    pub async fn sync(&self) -> Result<(), SyncFailure> {
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
