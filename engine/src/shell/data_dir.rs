//! The data directory: whose it is, where each shard's log lies, and that nobody else uses it.
//!
//! Blocking file work, done before any executor runs. Layout: `LOCK`, `identity` (one line of JSON and one with its
//! checksum), `shards/NNNN/wal/`, and beside each log its record (`origin`). It never changes a directory that belongs to
//! another node, cluster or shard count. What it creates only its owner may read. A start that fails before the node ever ran
//! takes away what it created.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use wal::files::{sync_dir, unfinished, write_durably};

use super::birth_file::BIRTH_FILE;
use super::modes::{DIR_MODE, FILE_MODE, OTHERS_MODE};
use crate::directory::{Entering, Identity, IdentityFound, NoEntry};
use crate::types::ShardId;

const IDENTITY_FILE: &str = "identity";
const LOCK_FILE: &str = "LOCK";
const SHARDS_DIR: &str = "shards";

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file operation failed.
    #[error("data directory: cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("data directory {path} is in use by another process (its LOCK file is held); stop that process or choose another --data-dir", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The identity file is damaged.
    #[error("data directory: {path} is damaged: {reason}; restore the file from a backup or from what `quorate wal verify` prints, or remove the whole data directory: a node of three or more then gets everything back from the others", path = path.display())]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to something else.
    #[error("data directory {path} was created with {what} {found}, and this start asks for {wanted}; use the directory's own settings or another --data-dir{unused}{hint}", hint = why_differs(what), path = path.display(), unused = if *was_used { "" } else { ", or remove it: the first start in it did not end, and no node ever ran there" })]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// Which property differs.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What was asked for.
        wanted: String,
        /// A node ran in it.
        was_used: bool,
    },
    /// The directory has files but no identity.
    #[error("data directory {path} holds files but no identity file, so it is not a Quorate data directory (or lost the file); choose an empty one", path = path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
}

/// What a property is made of, where that is not plain from its name.
fn why_differs(what: &str) -> &'static str {
    match what {
        "cluster id" => {
            ". The id is made of the names and peer URLs in --initial-cluster and of --initial-cluster-token: one of these is not what it was"
        }
        _ => "",
    }
}

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Identity,
    /// What this start created, while the node never ran.
    created: Created,
    _lock: File,
}

/// What of a data directory was created by the start that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Created {
    /// The directory itself.
    root: bool,
    /// The identity, and with it everything else in the directory.
    identity: bool,
}

impl Created {
    /// Removes what was created, as far as it can be removed; what is left keeps no later start from beginning anew.
    fn remove(self, root: &Path) {
        if !self.identity {
            return;
        }
        // The identity goes after the shards: without it what is left of them would be no data directory to a later start.
        let removed = remove_if_there(&root.join(SHARDS_DIR), |path| fs::remove_dir_all(path))
            .and_then(|()| remove_if_there(&unfinished(&root.join(IDENTITY_FILE)), |path| fs::remove_file(path)))
            .and_then(|()| remove_if_there(&root.join(IDENTITY_FILE), |path| fs::remove_file(path)))
            .and_then(|()| remove_if_there(&root.join(LOCK_FILE), |path| fs::remove_file(path)))
            .and_then(|()| if self.root { fs::remove_dir(root) } else { Ok(()) });
        if let Err(error) = removed {
            tracing::warn!(dir = %root.display(), %error, "what a failed first start created cannot be removed");
        }
    }
}

fn remove_if_there(path: &Path, remove: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl DataDir {
    /// Opens the directory for `wanted`, creating it if it does not exist or is empty.
    ///
    /// # Errors
    /// Says which path, what was found and what was wanted; a mismatch changes nothing.
    pub fn open(root: &Path, wanted: &Identity) -> Result<Self, DataDirError> {
        let io_error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        // What is opened and looked at later must not depend on where the process stands by then.
        let root = &std::path::absolute(root).map_err(io_error("resolve", root))?;
        let is_new_root = !root.exists();
        create_dir(root).map_err(io_error("create", root))?;
        let identity_path = root.join(IDENTITY_FILE);
        // Not even a lock file is made in a directory that is not used.
        enter(root, false, wanted)?;
        warn_of_wide_permissions(root);
        let lock_path = root.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&lock_path);
        let lock = lock.map_err(io_error("open", &lock_path))?;
        let is_locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        // A failed first start takes its lock file away: a lock on that one keeps nobody out.
        let is_ours = is_locked && is_same_file(&lock, &lock_path).map_err(io_error("look at", &lock_path))?;
        // Once more under the lock: another first start may have written the identity since.
        let found = enter(root, !is_ours, wanted)?;
        let created = Created { root: is_new_root, identity: found.is_none() };
        let identity = match found {
            Some(found) => Ok(found),
            None => sync_name(root)
                .map_err(io_error("sync the name of", root))
                .and_then(|()| write_identity(root, wanted).map_err(io_error("write", &identity_path)))
                .map(|()| wanted.clone()),
        };
        let opened = identity.and_then(|identity| {
            let directory = Self { root: root.to_owned(), identity, created, _lock: lock };
            directory.create_shard_dirs(wanted.shards).map(|()| directory)
        });
        if opened.is_err() {
            created.remove(root);
        }
        opened
    }

    fn create_shard_dirs(&self, shards: u32) -> Result<(), DataDirError> {
        for shard in 0..shards {
            let path = self.wal_dir(ShardId::new(shard));
            let failed = |action, path: &Path| {
                let path = path.to_owned();
                move |source| DataDirError::Io { action, path, source }
            };
            create_dir(&path).map_err(failed("create", &path))?;
            // A start that died in between may have left the name of any of them in memory only.
            for synced in path.ancestors().take(4) {
                sync_dir(synced).map_err(failed("sync", synced))?;
            }
        }
        Ok(())
    }

    /// Takes away what this start created, if the node never ran: the next start finds no trace of it.
    ///
    /// A directory that was there before, or that was marked as ready, is left as it is.
    pub fn discard(self) {
        self.created.remove(&self.root);
    }

    /// Whether a node was ever created in this directory.
    #[must_use]
    pub fn has_member(root: &Path) -> bool {
        root.join(IDENTITY_FILE).exists()
    }

    /// True if every shard's log had its first segment when this directory was last used; a log without one is lost.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.identity.ready
    }

    /// Notes that every shard's log has its first segment.
    ///
    /// # Errors
    /// The identity file could not be written; the old one stands.
    pub fn mark_ready(&mut self) -> Result<(), DataDirError> {
        if self.identity.ready {
            return Ok(());
        }
        let identity = Identity { ready: true, ..self.identity.clone() };
        write_identity(&self.root, &identity).map_err(|source| DataDirError::Io {
            action: "write",
            path: self.root.join(IDENTITY_FILE),
            source,
        })?;
        self.identity = identity;
        self.created = Created { root: false, identity: false };
        Ok(())
    }

    /// Whether a shard has nothing that could be its log: no segment, and nothing of a repair beside it.
    ///
    /// # Errors
    /// A directory could not be listed.
    pub fn is_new_log(&self, shard: ShardId) -> Result<bool, DataDirError> {
        let wal_dir = self.wal_dir(shard);
        let is_record = |name: &std::ffi::OsStr| name == BIRTH_FILE || unfinished(Path::new(BIRTH_FILE)) == *name;
        let names_count = |path: &Path| {
            let entries = fs::read_dir(path).map(|entries| {
                entries.filter(|entry| !entry.as_ref().is_ok_and(|entry| is_record(&entry.file_name()))).count()
            });
            entries.map_err(|source| DataDirError::Io { action: "list", path: path.to_owned(), source })
        };
        let beside = wal_dir.parent().map_or(Ok(1), names_count)?;
        let has_segment = fs::read_dir(&wal_dir).map(|entries| {
            entries.filter_map(Result::ok).any(|entry| entry.path().extension().is_some_and(|ending| ending == "wal"))
        });
        let has_segment =
            has_segment.map_err(|source| DataDirError::Io { action: "list", path: wal_dir.clone(), source })?;
        Ok(!has_segment && beside == 1)
    }

    /// Where a shard's log lies.
    #[must_use]
    pub fn wal_dir(&self, shard: ShardId) -> PathBuf {
        self.root.join(SHARDS_DIR).join(format!("{:04}", shard.get())).join("wal")
    }
}

/// The path names the open file.
fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates a directory and those above it that are missing.
fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
}

/// Says so if other users may look into the directory, or change it: it holds everybody's data, and its permissions are its owner's
/// business.
fn warn_of_wide_permissions(root: &Path) {
    let Ok(metadata) = fs::metadata(root) else { return };
    let dir = root.display();
    if metadata.permissions().mode() & OTHERS_MODE != 0 {
        let mode = format!("{:04o}", metadata.permissions().mode() & 0o7777);
        tracing::warn!(%dir, %mode, "other users of this host may enter the data directory; `chmod 700` keeps them out");
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        tracing::warn!(%dir, owner, user, "the data directory belongs to another user, who may enter and change it; `chown` it to the user that the node runs as");
    }
}

fn is_unused(root: &Path) -> Result<bool, DataDirError> {
    let error = |source| DataDirError::Io { action: "list", path: root.to_owned(), source };
    for entry in fs::read_dir(root).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        // A start that died between creating the lock and the identity leaves these behind; a fresh file system, the last.
        if name != LOCK_FILE && unfinished(Path::new(IDENTITY_FILE)) != *name && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_identity(path: &Path) -> Result<IdentityFound, DataDirError> {
    match fs::read(path) {
        Ok(bytes) => Ok(IdentityFound::parse(Some(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(IdentityFound::parse(None)),
        Err(source) => Err(DataDirError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// What a start does with the directory, as its files are now.
fn enter(root: &Path, is_locked_by_other: bool, wanted: &Identity) -> Result<Option<Identity>, DataDirError> {
    let found = read_identity(&root.join(IDENTITY_FILE))?;
    let is_unused = is_unused(root)?;
    let path = root.to_owned();
    match Entering::decide(is_locked_by_other, found, is_unused, wanted) {
        Entering::Create => Ok(None),
        Entering::Open(identity) => Ok(Some(identity)),
        Entering::Refuse(NoEntry::InUse) => Err(DataDirError::InUse { path }),
        Entering::Refuse(NoEntry::Foreign) => Err(DataDirError::Foreign { path }),
        Entering::Refuse(NoEntry::Damaged(reason)) => {
            Err(DataDirError::Damaged { path: root.join(IDENTITY_FILE), reason })
        }
        Entering::Refuse(NoEntry::Mismatch { what, found, wanted, was_used }) => {
            Err(DataDirError::Mismatch { path, what, found, wanted, was_used })
        }
    }
}

fn write_identity(root: &Path, identity: &Identity) -> io::Result<()> {
    write_durably(&root.join(IDENTITY_FILE), &identity.to_text()?)
}

/// Makes a directory's name durable, and all names above it, whoever created them and when. Without that a power cut could
/// take the directory together with the node's votes, and the node would start as a new one. Done before there is an
/// identity, so that a directory with one has a durable name.
fn sync_name(root: &Path) -> io::Result<()> {
    let above = root.canonicalize()?;
    let synced = above.ancestors().skip(1).try_for_each(sync_dir);
    // A directory above may be none of this user's business, or of a file system that knows no syncs.
    synced.or_else(|_| rustix::fs::syncfs(File::open(root)?).map_err(io::Error::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, NodeId};

    fn identity() -> Identity {
        Identity::new(ClusterId::new(7), NodeId::new(9), "a", 2, 1 << 20)
    }

    #[test]
    fn a_directory_is_created_once_and_opens_again() {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut opened = DataDir::open(root.path(), &identity()).expect("created");
        assert!(!opened.is_ready() && opened.wal_dir(ShardId::new(1)).is_dir());
        opened.mark_ready().expect("written");
        drop(opened);
        assert!(DataDir::open(root.path(), &identity()).expect("opened").is_ready());
    }

    #[test]
    fn only_the_owner_may_read_what_is_created() {
        let above = tempfile::tempdir().expect("temporary directory");
        let root = above.path().join("data");
        let opened = DataDir::open(&root, &identity()).expect("created");
        let wal_dir = opened.wal_dir(ShardId::new(1));
        let dirs = wal_dir.ancestors().take_while(|path| *path != above.path());
        for path in dirs.chain([root.join(LOCK_FILE).as_path(), root.join(IDENTITY_FILE).as_path()]) {
            let mode = fs::metadata(path).expect("it is there").permissions().mode();
            assert_eq!(mode & OTHERS_MODE, 0, "{} has {mode:o}", path.display());
        }
    }

    #[test]
    fn a_failed_first_start_leaves_nothing_behind() {
        let above = tempfile::tempdir().expect("temporary directory");
        let (new, empty) = (above.path().join("new"), above.path().join("empty"));
        fs::create_dir(&empty).expect("a directory");
        for root in [&new, &empty] {
            DataDir::open(root, &identity()).expect("created").discard();
        }
        assert!(!new.exists() && fs::read_dir(&empty).expect("it was there before").next().is_none());
    }

    #[test]
    fn a_failed_start_of_a_node_that_ran_takes_nothing_away() {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut opened = DataDir::open(root.path(), &identity()).expect("created");
        opened.mark_ready().expect("written");
        opened.discard();
        let opened = DataDir::open(root.path(), &identity()).expect("it is still there");
        assert!(opened.is_ready());
        opened.discard();
        assert!(DataDir::open(root.path(), &identity()).expect("it is still there").is_ready());
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let root = tempfile::tempdir().expect("temporary directory");
        let _first = DataDir::open(root.path(), &identity()).expect("created");
        assert!(matches!(DataDir::open(root.path(), &identity()), Err(DataDirError::InUse { .. })));
    }

    #[test]
    fn a_directory_in_which_a_node_ran_is_not_said_to_be_unused() {
        let root = tempfile::tempdir().expect("temporary directory");
        DataDir::open(root.path(), &identity()).expect("created").mark_ready().expect("marked");
        let other = Identity::new(ClusterId::new(7), NodeId::new(9), "a", 3, 1 << 20);
        let error = DataDir::open(root.path(), &other).expect_err("another shard count").to_string();
        assert!(error.ends_with("use the directory's own settings or another --data-dir"), "{error}");
    }

    #[test]
    fn a_directory_of_another_node_is_left_alone() {
        let root = tempfile::tempdir().expect("temporary directory");
        drop(DataDir::open(root.path(), &identity()).expect("created"));
        let other = Identity::new(ClusterId::new(7), NodeId::new(1), "a", 2, 1 << 20);
        match DataDir::open(root.path(), &other) {
            Err(error @ DataDirError::Mismatch { what, was_used, .. }) => {
                assert_eq!((what, was_used), ("node id", false));
                assert!(error.to_string().contains("no node ever ran there"), "{error}");
            }
            other => panic!("expected a mismatch of the node id, got {other:?}"),
        }
        fs::write(root.path().join(IDENTITY_FILE), "rot").expect("identity file");
        assert!(matches!(DataDir::open(root.path(), &identity()), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn a_directory_of_other_files_is_left_alone() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::write(root.path().join("notes.txt"), "mine").expect("a file");
        assert!(matches!(DataDir::open(root.path(), &identity()), Err(DataDirError::Foreign { .. })));
        assert!(!root.path().join(LOCK_FILE).exists());
    }
}
