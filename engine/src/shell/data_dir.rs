//! The data directory: whose it is, where each shard's log lies, and that nobody else uses it.
//!
//! Blocking file work, done before any executor runs. Layout: `LOCK`, `identity` (one line of JSON and one with its
//! checksum), `shards/NNNN/wal/`. It never changes a directory that belongs to another node, cluster or shard count.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::types::{ClusterId, NodeId, ShardId};

const IDENTITY_FILE: &str = "identity";
const LOCK_FILE: &str = "LOCK";
const LAYOUT_VERSION: u32 = 1;

/// What a data directory was created for. None of it can change later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the directory's layout.
    pub layout_version: u32,
    /// Cluster, as 16 hexadecimal digits.
    pub cluster_id: String,
    /// Node, as 16 hexadecimal digits.
    pub node_id: String,
    /// The node's name, for people.
    pub name: String,
    /// Number of shards of the cluster.
    pub shards: u32,
    /// Size of a log segment. Unit: bytes.
    pub segment_bytes: u64,
    /// Every shard's log has its first segment. A directory that is ready and has lost a log must not start empty: the
    /// node would forget its votes and what it acknowledged.
    pub ready: bool,
}

impl Identity {
    /// Describes this node for a new directory, or for comparison with an old one.
    #[must_use]
    pub fn new(cluster: ClusterId, node: NodeId, name: &str, shards: u32, segment_bytes: u64) -> Self {
        Self {
            layout_version: LAYOUT_VERSION,
            cluster_id: cluster.to_string(),
            node_id: node.to_string(),
            name: name.to_owned(),
            shards,
            segment_bytes,
            ready: false,
        }
    }
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file operation failed.
    #[error("data directory: cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
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
    #[error("data directory: {path} is damaged: {reason}; restore the file from a backup or from what `quorate wal verify` prints", path = path.display())]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to something else.
    #[error("data directory {path} was created with {what} {found}, and this start asks for {wanted}; use the directory's own settings or another --data-dir", path = path.display())]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// Which property differs.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The directory has files but no identity.
    #[error("data directory {path} holds files but no identity file, so it is not a Quorate data directory (or lost the file); choose an empty one", path = path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
}

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Identity,
    _lock: File,
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
        fs::create_dir_all(root).map_err(io_error("create", root))?;
        let identity_path = root.join(IDENTITY_FILE);
        if read_identity(&identity_path)?.is_none() && !is_unused(root)? {
            return Err(DataDirError::Foreign { path: root.to_owned() });
        }
        let lock_path = root.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(io_error("open", &lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(DataDirError::InUse { path: root.to_owned() });
        }
        // Read under the lock: another first start may have written it since.
        let identity = match read_identity(&identity_path)? {
            Some(found) => {
                compare(root, &found, wanted)?;
                found
            }
            None => {
                sync_name(root).map_err(io_error("sync the name of", root))?;
                write_identity(root, wanted).map_err(io_error("write", &identity_path))?;
                wanted.clone()
            }
        };
        let directory = Self { root: root.to_owned(), identity, _lock: lock };
        for shard in 0..wanted.shards {
            let path = directory.wal_dir(ShardId::new(shard));
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
            // A start that died in between may have left the name of any of them in memory only.
            for synced in path.ancestors().take(4) {
                sync_dir(synced).map_err(io_error("sync", synced))?;
            }
        }
        Ok(directory)
    }

    /// Whether a node was ever created in this directory.
    #[must_use]
    pub fn has_member(root: &Path) -> bool {
        root.join(IDENTITY_FILE).exists()
    }

    /// Every shard's log had its first segment when this directory was last used; a log without one is lost.
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
        Ok(())
    }

    /// Whether a shard has nothing that could be its log: no segment, and nothing of a repair beside it.
    ///
    /// # Errors
    /// A directory could not be listed.
    pub fn is_new_log(&self, shard: ShardId) -> Result<bool, DataDirError> {
        let wal_dir = self.wal_dir(shard);
        let entries_count = |path: &Path| {
            let entries = fs::read_dir(path).map(|entries| entries.count());
            entries.map_err(|source| DataDirError::Io { action: "list", path: path.to_owned(), source })
        };
        let beside = wal_dir.parent().map_or(Ok(1), entries_count)?;
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
        self.root.join("shards").join(format!("{:04}", shard.get())).join("wal")
    }
}

fn is_unused(root: &Path) -> Result<bool, DataDirError> {
    let error = |source| DataDirError::Io { action: "list", path: root.to_owned(), source };
    for entry in fs::read_dir(root).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        // A start that died between creating the lock and the identity leaves these behind; a fresh file system, the last.
        if name != LOCK_FILE && name != "identity.new" && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, DataDirError> {
    let text = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DataDirError::Io { action: "read", path: path.to_owned(), source }),
    };
    let damaged = |reason: String| DataDirError::Damaged { path: path.to_owned(), reason };
    let text = String::from_utf8(text).map_err(|_| damaged("it is not text".to_owned()))?;
    let (json, checksum) = text.split_once('\n').ok_or_else(|| damaged("its checksum line is missing".to_owned()))?;
    let expected = checksum_line(json);
    if checksum != expected {
        return Err(damaged(format!("its checksum line is {checksum:?}, expected {expected:?}")));
    }
    serde_json::from_str(json).map(Some).map_err(|error| damaged(error.to_string()))
}

fn checksum_line(json: &str) -> String {
    format!("crc32 {:08x}\n", crc32fast::hash(json.as_bytes()))
}

fn write_identity(root: &Path, identity: &Identity) -> io::Result<()> {
    let json = serde_json::to_string(identity)?;
    let temporary = root.join("identity.new");
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{json}\n{}", checksum_line(&json)).as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, root.join(IDENTITY_FILE))?;
    sync_dir(root)
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

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn compare(root: &Path, found: &Identity, wanted: &Identity) -> Result<(), DataDirError> {
    let checks = [
        ("layout version", found.layout_version.to_string(), wanted.layout_version.to_string()),
        ("cluster id", found.cluster_id.clone(), wanted.cluster_id.clone()),
        ("node id", found.node_id.clone(), wanted.node_id.clone()),
        ("shard count", found.shards.to_string(), wanted.shards.to_string()),
        ("segment size", found.segment_bytes.to_string(), wanted.segment_bytes.to_string()),
    ];
    for (what, found, wanted) in checks {
        if found != wanted {
            return Err(DataDirError::Mismatch { path: root.to_owned(), what, found, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_second_process_is_kept_out() {
        let root = tempfile::tempdir().expect("temporary directory");
        let _first = DataDir::open(root.path(), &identity()).expect("created");
        assert!(matches!(DataDir::open(root.path(), &identity()), Err(DataDirError::InUse { .. })));
    }

    #[test]
    fn each_difference_is_named() {
        let root = tempfile::tempdir().expect("temporary directory");
        drop(DataDir::open(root.path(), &identity()).expect("created"));
        let others = [
            ("cluster id", Identity::new(ClusterId::new(8), NodeId::new(9), "a", 2, 1 << 20)),
            ("node id", Identity::new(ClusterId::new(7), NodeId::new(1), "a", 2, 1 << 20)),
            ("shard count", Identity::new(ClusterId::new(7), NodeId::new(9), "a", 3, 1 << 20)),
            ("segment size", Identity::new(ClusterId::new(7), NodeId::new(9), "a", 2, 1 << 21)),
        ];
        for (expected, other) in others {
            match DataDir::open(root.path(), &other) {
                Err(DataDirError::Mismatch { what, .. }) => assert_eq!(what, expected),
                other => panic!("expected a mismatch of the {expected}, got {other:?}"),
            }
        }
    }

    #[test]
    fn any_flipped_bit_of_the_identity_is_noticed() {
        let root = tempfile::tempdir().expect("temporary directory");
        drop(DataDir::open(root.path(), &identity()).expect("created"));
        let path = root.path().join(IDENTITY_FILE);
        let good = fs::read(&path).expect("identity file");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).expect("identity file");
            assert!(DataDir::open(root.path(), &identity()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_directory_of_other_files_is_left_alone() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::write(root.path().join("notes.txt"), "mine").expect("a file");
        assert!(matches!(DataDir::open(root.path(), &identity()), Err(DataDirError::Foreign { .. })));
        assert!(!root.path().join(LOCK_FILE).exists());
    }
}
