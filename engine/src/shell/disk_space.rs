//! How much a log takes of its disk, and how much is left for it. Asks the file system, which may block: for helper threads.

use std::fs;
use std::io;
use std::path::Path;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiskSpace {
    /// Size of the log's files. Unit: bytes.
    pub log_bytes: u64,
    /// What this process may still write. Unit: bytes.
    pub free_bytes: u64,
}

impl DiskSpace {
    /// Measures the log in a directory.
    ///
    /// # Errors
    /// The directory or its file system cannot be looked at.
    pub(super) fn of(wal_dir: &Path) -> io::Result<Self> {
        let mut log_bytes = 0;
        for entry in fs::read_dir(wal_dir)? {
            match entry?.metadata() {
                Ok(metadata) => log_bytes += metadata.len(),
                // A file may be renamed or removed between the two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let system = rustix::fs::statvfs(wal_dir)?;
        Ok(Self { log_bytes, free_bytes: system.f_bavail.saturating_mul(system.f_frsize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_directory_are_added_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let empty = DiskSpace::of(dir.path()).expect("it is there");
        assert!(empty.log_bytes == 0 && empty.free_bytes > 0, "{empty:?}");
        for (name, bytes) in [("one", 1000), ("two", 24)] {
            fs::write(dir.path().join(name), vec![1; bytes]).expect("room");
        }
        assert_eq!(DiskSpace::of(dir.path()).expect("it is there").log_bytes, 1024);
        assert!(DiskSpace::of(&dir.path().join("none")).is_err());
    }
}
