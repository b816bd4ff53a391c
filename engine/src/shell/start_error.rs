//! Why a node does not start: what was wrong, where, and what to do.

use std::path::PathBuf;

use wal::OpenError;
use wal::device::{DeviceError, PrepareError};
use wal::repair::RepairError;

use super::data_dir::DataDirError;
use super::preflight::PreflightError;
use crate::types::ShardId;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host cannot run it.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The system gives no random numbers.
    #[error("cannot read /dev/urandom: {source}")]
    Random {
        /// What it said.
        source: std::io::Error,
    },
    /// The log's files cannot be used.
    #[error("shard {shard}: {source}")]
    Files {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        source: DeviceError,
    },
    /// The log's first segment cannot be made.
    #[error("shard {shard}: {source}")]
    Prepare {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        source: PrepareError,
    },
    /// The log is damaged, or not this node's.
    #[error("shard {shard}: {source}")]
    Log {
        /// The shard.
        shard: ShardId,
        /// What is wrong, and where.
        source: OpenError,
    },
    /// The node is to be one of a cluster that exists, and has nothing of it.
    #[error(
        "--initial-cluster-state is 'existing', but data directory {dir} holds no node; a node that lost its directory \
         forgot its votes and what it acknowledged, and in a cluster of one or two the others are too few to give that back: \
         restore the directory. For a new cluster use 'new'", dir = dir.display()
    )]
    NoMember {
        /// The directory.
        dir: PathBuf,
    },
    /// The log is damaged and could not be repaired, or is not this node's.
    #[error("shard {shard}: {source}")]
    Repair {
        /// The shard.
        shard: ShardId,
        /// What is wrong, and where.
        source: RepairError,
    },
    /// The log is gone.
    #[error(
        "shard {shard}: the log is gone: {dir} holds no segment, but the data directory was in use before; starting empty would forget votes and acknowledged writes; restore it, or remove the whole data directory: a node of three or more then gets everything back from the others, if none of them lost data, too", dir = dir.display()
    )]
    LogGone {
        /// The shard.
        shard: ShardId,
        /// Where it should be.
        dir: PathBuf,
    },
    /// The record of a log's origin does not fit.
    #[error(
        "shard {shard}: {path}: {reason}; it says whether this node may ever have promised anything: restore it, or remove the \
         whole data directory: a node of three or more then gets everything back from the others, if none of them lost data, \
         too", path = path.display()
    )]
    Birth {
        /// The shard.
        shard: ShardId,
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The start cannot be watched.
    #[error("cannot start the thread that watches the start: {source}; raise the limit on threads or processes")]
    Watch {
        /// What the system said.
        source: std::io::Error,
    },
    /// A core did not start.
    #[error("{0}")]
    Core(String),
}
