//! What a node shows of each of its shards; `quorate status` prints it.

use serde::{Deserialize, Serialize};

/// What a node's log says when a shard stopped by itself; whoever looks for trouble in logs looks for this.
pub const SHARD_STOPPED: &str = "this shard stopped";

/// One shard on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The node's name.
    pub name: String,
    /// The node.
    pub node_id: u64,
    /// The shard.
    pub shard: u32,
    /// `follower`, `pre-candidate`, `candidate` or `leader`; `stopped` once the shard stopped by itself.
    pub role: String,
    /// The leader that the node knows of; 0 = none.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// Last entry in its log.
    pub last_index: u64,
    /// Last entry durable on its own disk.
    pub persisted_index: u64,
    /// Last entry that it knows a quorum has durable.
    pub commit_index: u64,
    /// Last entry applied to its state.
    pub applied_index: u64,
    /// MVCC revision of its state.
    pub revision: u64,
    /// Present once the shard stopped by itself: why. It serves nothing until the node is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Present while the node gets back log entries that it lost: what was damaged and what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_repair: Option<String>,
    /// Present while the node is new and takes no part yet: what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// Present while nodes lost data and have not got it back: which, and what can be done if they are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_data: Option<String>,
}
