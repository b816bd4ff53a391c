//! Whether a log's files are still where its node will look for them at the next start.
//!
//! A running log works on open files, and those stay what they are when somebody removes or renames the directory, puts
//! another one in its place, or mounts something over it. What is then acknowledged is durable in files that the next start
//! does not find. So whoever owns the log looks now and then, and stops when something is not in its place.
//!
//! Shell. It only looks; when to look, and what follows, is the owner's business.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory and files of a log that are open or mapped, and the paths where they belong.
///
/// The log keeps them open or mapped: until then no other file gets the number of one of them.
#[derive(Clone, Debug)]
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

impl LogPlace {
    /// Looks at every path. May block for as long as the file system does.
    ///
    /// # Errors
    /// The first one that is not in its place. A path that can't be looked at counts as that, too.
    pub fn check(&self) -> Result<(), NotInPlace> {
        self.files.iter().try_for_each(|(path, expected)| {
            found_instead(path, *expected).map_or(Ok(()), |found| Err(NotInPlace { path: path.clone(), found }))
        })
    }
}

/// What stands at `path` if it is not the expected file.
fn found_instead(path: &Path, expected: FileIdentity) -> Option<String> {
    match fs::metadata(path) {
        Ok(there) if FileIdentity::of(&there) == expected => None,
        Ok(there) => Some(expected.said_of(FileIdentity::of(&there))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("nothing is there".to_owned()),
        Err(error) => Some(format!("it cannot be looked at: {error}")),
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
        let retargeted = check_after(|dir| {
            let elsewhere = dir.with_extension("elsewhere");
            fs::create_dir(&elsewhere).expect("a directory");
            fs::rename(dir, dir.with_extension("moved")).expect("renamed");
            std::os::unix::fs::symlink(elsewhere, dir).expect("a link");
        });
        assert!(retargeted.contains("expected inode"), "{retargeted}");
    }
}
