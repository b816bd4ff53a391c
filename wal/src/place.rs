//! Whether a log's files are still where its node will look for them at the next start.
//!
//! A running log works on open files, and those stay what they are when somebody removes or renames the directory, puts
//! another one in its place, or mounts something over it. What is then acknowledged is durable in files that the next start
//! does not find. So whoever owns the log looks now and then, and stops when something is not in its place.
//!
//! Shell. It only looks; when to look, and what follows, is the owner's business.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The open directory and files of a log, and the paths where they belong.
#[derive(Clone, Debug)]
pub struct LogPlace {
    /// The directory, then each segment.
    pub(crate) files: Vec<(PathBuf, Arc<File>)>,
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
    /// Looks at every path and every open file. May block for as long as the file system does.
    ///
    /// # Errors
    /// The first one that is not in its place. A path that can't be looked at counts as that, too.
    pub fn check(&self) -> Result<(), NotInPlace> {
        self.files.iter().try_for_each(|(path, file)| {
            found_instead(path, file).map_or(Ok(()), |found| Err(NotInPlace { path: path.clone(), found }))
        })
    }
}

/// What stands at `path` if it is not `file`.
fn found_instead(path: &Path, file: &File) -> Option<String> {
    let open = match file.metadata() {
        Ok(open) => open,
        Err(error) => return Some(format!("the open file cannot be looked at: {error}")),
    };
    match fs::metadata(path) {
        Ok(there) if identity(&there) == identity(&open) => None,
        Ok(there) => {
            let (device, inode) = identity(&there);
            let (expected_device, expected_inode) = identity(&open);
            Some(format!(
                "inode {inode} of device {device} is there, expected inode {expected_inode} of device {expected_device}"
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("nothing is there".to_owned()),
        Err(error) => Some(format!("it cannot be looked at: {error}")),
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> LogPlace {
        let open = |path: PathBuf| (path.clone(), Arc::new(File::open(path).expect("it is there")));
        LogPlace { files: vec![open(dir.to_owned()), open(dir.join("segment"))] }
    }

    fn check_after(change: impl FnOnce(&Path)) -> String {
        let root = tempfile::TempDir::new().expect("a directory");
        let dir = root.path().join("wal");
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("segment"), b"bytes").expect("a file");
        let place = place(&dir);
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
