//! Whether a log's files are still where its node will look for them at the next start.
//!
//! A running log works on open files, and those stay what they are when somebody removes or renames the directory, puts
//! another one in its place, or mounts something over it. What is then acknowledged is durable in files that the next start
//! does not find. So whoever owns the log looks now and then, and stops when something is not in its place.
//!
//! A path that cannot be looked at proves nothing: the system may be short of memory, or the device may fail to read a directory
//! once. That is told apart, so that the owner can look again.
//!
//! Shell. It only looks; when to look, and what follows, is the owner's business.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory and files of a log that are open or mapped, and the paths where they belong.
///
/// The log keeps them open or mapped: until then no other file gets the number of one of them.
#[derive(Clone, Debug, Default)]
pub struct LogPlace {
    /// The directory, then each segment.
    pub(crate) files: Vec<(PathBuf, FileIdentity)>,
}

/// Which file it is, whatever its names. Unique while the file is open or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Opens the file, which must stand at `path`, for reading and whatever else `options` say.
    pub(crate) fn open(self, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        let file = options.read(true).open(path)?;
        match Self::of(&file.metadata()?) {
            found if found == self => Ok(file),
            found => Err(io::Error::other(self.said_of(found))),
        }
    }

    fn said_of(self, found: Self) -> String {
        format!(
            "inode {} of device {} is there, expected inode {} of device {}",
            found.inode, found.device, self.inode, self.device
        )
    }
}

/// A file or directory of a running log is not in its place any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is not what this node opened there: {found}; it was removed, renamed, replaced or mounted over while the node \
     ran, so the next start would not find what is written now; put it back, then restart this node",
    path = path.display()
)]
pub struct NotInPlace {
    /// The path.
    pub path: PathBuf,
    /// What is there instead.
    pub found: String,
}

/// What a look at a log's paths found.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something is not in its place.
    #[error(transparent)]
    NotInPlace(#[from] NotInPlace),
    /// A path could not be looked at. Look again: it may be in its place.
    #[error("{path} cannot be looked at: {source}", path = path.display())]
    Unknown {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LogPlace {
    /// Looks at every path. May block for as long as the file system does.
    ///
    /// # Errors
    /// The first one that is not in its place; if there is none, the first one that could not be looked at.
    pub fn check(&self) -> Result<(), PlaceError> {
        let mut unknown = Ok(());
        for (path, expected) in &self.files {
            match found_instead(path, *expected) {
                Ok(None) => {}
                Ok(Some(found)) => return Err(NotInPlace { path: path.clone(), found }.into()),
                Err(source) => unknown = unknown.and(Err(PlaceError::Unknown { path: path.clone(), source })),
            }
        }
        unknown
    }
}

/// What stands at `path` if it is not the expected file.
fn found_instead(path: &Path, expected: FileIdentity) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(there) if FileIdentity::of(&there) == expected => Ok(None),
        Ok(there) => Ok(Some(expected.said_of(FileIdentity::of(&there)))),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(Some("nothing is there".to_owned())),
            io::ErrorKind::NotADirectory => Ok(Some("a part of the path is no directory".to_owned())),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> LogPlace {
        let look = |path: PathBuf| (path.clone(), FileIdentity::of(&fs::metadata(path).expect("it is there")));
        LogPlace { files: vec![look(dir.to_owned()), look(dir.join("segment"))] }
    }

    fn check_after(change: impl FnOnce(&Path)) -> String {
        let root = tempfile::TempDir::new().expect("a directory");
        let dir = root.path().join("wal");
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("segment"), b"bytes").expect("a file");
        let (place, _open) = (place(&dir), File::open(dir.join("segment")).expect("it is there"));
        place.check().expect("everything is in its place");
        change(&dir);
        place.check().expect_err("it was noticed").to_string()
    }

    #[test]
    fn whatever_is_not_in_its_place_is_noticed() {
        let removed = check_after(|dir| fs::remove_dir_all(dir).expect("removed"));
        assert!(removed.contains("wal is not what") && removed.contains("nothing is there"), "{removed}");
        let renamed = check_after(|dir| fs::rename(dir, dir.with_extension("moved")).expect("renamed"));
        assert!(renamed.contains("nothing is there"), "{renamed}");
        let replaced = check_after(|dir| {
            fs::rename(dir, dir.with_extension("moved")).expect("renamed");
            fs::create_dir(dir).expect("a directory");
            fs::copy(dir.with_extension("moved").join("segment"), dir.join("segment")).expect("copied");
        });
        assert!(replaced.contains("is there, expected inode"), "{replaced}");
        let file_removed = check_after(|dir| fs::remove_file(dir.join("segment")).expect("removed"));
        assert!(file_removed.contains("segment is not what"), "{file_removed}");
        let file_replaced = check_after(|dir| {
            fs::write(dir.join("other"), b"bytes").expect("a file");
            fs::rename(dir.join("other"), dir.join("segment")).expect("renamed");
        });
        assert!(file_replaced.contains("expected inode"), "{file_replaced}");
        let covered = check_after(|dir| {
            fs::rename(dir, dir.with_extension("moved")).expect("renamed");
            fs::write(dir, b"no directory").expect("a file");
        });
        assert!(covered.contains("expected inode"), "{covered}");
        let retargeted = check_after(|dir| {
            let elsewhere = dir.with_extension("elsewhere");
            fs::create_dir(&elsewhere).expect("a directory");
            fs::rename(dir, dir.with_extension("moved")).expect("renamed");
            std::os::unix::fs::symlink(elsewhere, dir).expect("a link");
        });
        assert!(retargeted.contains("expected inode"), "{retargeted}");
    }

    #[test]
    fn a_path_that_cannot_be_looked_at_is_not_taken_for_a_wrong_one() {
        let root = tempfile::TempDir::new().expect("a directory");
        let dir = root.path().join("wal");
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("segment"), b"bytes").expect("a file");
        let place = place(&dir);
        fs::rename(&dir, dir.with_extension("moved")).expect("renamed");
        // A link to itself: the system gives up, and nobody knows what is there.
        std::os::unix::fs::symlink(&dir, &dir).expect("a link");
        let error = place.check().expect_err("it is not known");
        assert!(matches!(&error, PlaceError::Unknown { path, .. } if *path == dir), "{error}");
        fs::remove_file(&dir).expect("the link");
        fs::rename(dir.with_extension("moved"), &dir).expect("renamed");
        place.check().expect("everything was in its place all the time");
        // What is known to be wrong is said, whatever else is not known.
        fs::remove_file(dir.join("segment")).expect("removed");
        std::os::unix::fs::symlink(dir.join("other"), dir.join("other")).expect("a link");
        let mut place = place;
        place.files.insert(0, (dir.join("other"), place.files[0].1));
        assert!(matches!(place.check(), Err(PlaceError::NotInPlace(_))), "the segment is gone");
    }
}
