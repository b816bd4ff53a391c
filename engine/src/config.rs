//! Settings of one node, as people write them ([`Config`]), and as the rest of the engine may rely on them
//! ([`ValidConfig`]).
//!
//! Every setting has one name: the flag of `quorate start`, the key of a TOML file and, upper-cased, the `QUORATE_`
//! variable; times keep etcd's names and are in milliseconds. Nothing here reads files, flags or the environment,
//! resolves host names or opens sockets; the binary and embedding programs do that.

mod error;
mod identity;
mod text;
mod url;
mod validate;

use std::path::PathBuf;

use serde::Deserialize;

pub use error::{ConfigError, UrlError};
pub use identity::{PublicClusterId, cluster_id, node_id};
pub use text::{ClusterState, LogFormat, LogLevel, WalIo, parse_initial_cluster, parse_list};
pub use url::Url;
pub use validate::{Member, ServingLimits, ValidConfig};

/// The token of clusters that were given none: everybody knows it.
const DEFAULT_TOKEN: &str = "quorate-cluster";

/// Settings of one node before validation: plain values with etcd's defaults.
///
/// [`Config::default`] is a node alone in its cluster on etcd's ports. Empty lists mean "derived": see each field.
/// Deserializes from a TOML table whose keys are the flags' names; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Name of this node; its entry in `initial_cluster`.
    pub name: String,
    /// Where the node keeps its data. None: `<name>.quorate` in the working directory.
    pub data_dir: Option<PathBuf>,
    /// Where clients are served: `http://IP:port`.
    #[serde(deserialize_with = "text::deserialize_list")]
    pub listen_client_urls: Vec<String>,
    /// Where clients are told to find this node. Empty: the listen URLs.
    #[serde(deserialize_with = "text::deserialize_list")]
    pub advertise_client_urls: Vec<String>,
    /// Where peers are served: `http://IP:port`.
    #[serde(deserialize_with = "text::deserialize_list")]
    pub listen_peer_urls: Vec<String>,
    /// Where peers find this node. Empty: the peer listen URLs.
    #[serde(deserialize_with = "text::deserialize_list")]
    pub initial_advertise_peer_urls: Vec<String>,
    /// Name and peer URL of every voter; a name with several URLs has several entries. Empty: this node alone.
    #[serde(deserialize_with = "text::deserialize_cluster")]
    pub initial_cluster: Vec<(String, String)>,
    /// Whether the cluster is being created or exists already.
    pub initial_cluster_state: ClusterState,
    /// Tells clusters apart that were created from the same URLs.
    pub initial_cluster_token: String,
    /// Number of executors, one thread each.
    pub cores: u32,
    /// Number of Raft groups the keys are spread over. Fixed when the cluster is created.
    pub shards: u32,
    /// How the log is written.
    pub wal_io: WalIo,
    /// Time between a leader's heartbeats. Unit: milliseconds; whole ticks of it are the core's clock.
    #[serde(rename = "heartbeat-interval")]
    pub heartbeat_interval_ms: u64,
    /// Silence after which a follower campaigns; each wait is drawn between once and twice this. Unit: milliseconds.
    #[serde(rename = "election-timeout")]
    pub election_timeout_ms: u64,
    /// Size of a log segment. Fixed when the data directory is created. Unit: bytes.
    pub segment_bytes: u64,
    /// Largest request a client may send. Unit: bytes.
    pub max_request_bytes: u64,
    /// Most operations in one transaction.
    pub max_txn_ops: u32,
    /// Size of a shard's state past which writes are refused. Unit: bytes.
    pub quota_backend_bytes: u64,
    /// Most client connections of the node, over all cores.
    pub max_connections: u32,
    /// Most unanswered requests of one client connection.
    pub max_requests_per_connection: u32,
    /// Most bytes of unanswered requests held by one core; past it the answer is `overloaded`. Unit: bytes.
    pub max_queued_bytes: u64,
    /// Pin each executor to a core. Only for hosts with that many cores to give away.
    pub pin_cores: bool,
    /// How long an idle executor spins before it sleeps; 0 = it never spins. Unit: microseconds.
    pub spin_us: u64,
    /// A leader whose disk takes longer for a sync, for a read of old entries, or for a segment that the log waits for, hands over to a
    /// healthy follower; 0 = it never does for this reason. Unit: milliseconds.
    pub slow_disk_handover_ms: u64,
    /// Least severe messages that are logged.
    pub log_level: LogLevel,
    /// How lines of the log are written.
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            data_dir: None,
            listen_client_urls: vec!["http://localhost:2379".to_owned()],
            advertise_client_urls: Vec::new(),
            listen_peer_urls: vec!["http://localhost:2380".to_owned()],
            initial_advertise_peer_urls: Vec::new(),
            initial_cluster: Vec::new(),
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: DEFAULT_TOKEN.to_owned(),
            cores: 1,
            shards: 1,
            wal_io: WalIo::Mmap,
            heartbeat_interval_ms: 50,
            election_timeout_ms: 500,
            segment_bytes: 64 << 20,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            quota_backend_bytes: 8 << 30,
            max_connections: 10_000,
            max_requests_per_connection: 4096,
            max_queued_bytes: 64 << 20,
            pin_cores: false,
            spin_us: 0,
            slow_disk_handover_ms: 1_000,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    }
}

#[cfg(test)]
mod tests;
