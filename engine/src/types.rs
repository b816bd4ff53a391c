//! The names and numbers of the engine, in one place: ids are the API's, Raft's positions the log's. No behaviour lives here.

pub use api::ids::{ClusterId, NodeId, Revision, ShardId, shard_of_key};
pub use wal::Lineage;
pub use wal::types::{EntryId, Index, Lsn, Term};
