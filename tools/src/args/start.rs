//! Arguments of `start`: one for each setting of `engine::config::Config`, all optional, so that a file or the default
//! can provide what neither flag nor variable does.

use std::path::PathBuf;

use clap::Args;
use engine::config::{
    ClusterState, Config, ConfigError, LogFormat, LogLevel, WalIo, parse_initial_cluster, parse_list,
};

use super::parse_switch;
use super::start_missing::MissingStartArgs;

/// `start`. Each flag can also be given as `QUORATE_<FLAG>` and as a key of the file; a flag wins over the variable, the
/// variable over the file, the file over the default.
#[derive(Args, Clone, Debug, Default)]
pub struct StartArgs {
    /// TOML file with settings; its keys are the names of the flags
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this node [default: default]
    #[arg(long, env = "QUORATE_NAME")]
    name: Option<String>,
    /// Where the node keeps its data [default: NAME.quorate]
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients are served [default: http://localhost:2379]
    #[arg(long, env = "QUORATE_LISTEN_CLIENT_URLS", value_name = "URLS")]
    listen_client_urls: Option<String>,
    /// Where clients are told to find this node [default: the listen URLs]
    #[arg(long, env = "QUORATE_ADVERTISE_CLIENT_URLS", value_name = "URLS")]
    advertise_client_urls: Option<String>,
    /// Where peers are served [default: http://localhost:2380]
    #[arg(long, env = "QUORATE_LISTEN_PEER_URLS", value_name = "URLS")]
    listen_peer_urls: Option<String>,
    /// Where peers find this node [default: the listen URLs]
    #[arg(long, env = "QUORATE_INITIAL_ADVERTISE_PEER_URLS", value_name = "URLS")]
    initial_advertise_peer_urls: Option<String>,
    /// Every voter: name=url,name=url,… [default: this node alone]
    #[arg(long, env = "QUORATE_INITIAL_CLUSTER", value_name = "LIST")]
    initial_cluster: Option<String>,
    /// Whether the cluster is being created: new or existing [default: new]
    #[arg(long, env = "QUORATE_INITIAL_CLUSTER_STATE", value_name = "STATE")]
    initial_cluster_state: Option<ClusterState>,
    /// Tells clusters apart that have the same URLs [default: quorate-cluster]
    #[arg(long, env = "QUORATE_INITIAL_CLUSTER_TOKEN", value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// Number of executors, one thread each [default: 1]
    #[arg(long, env = "QUORATE_CORES", value_name = "N")]
    cores: Option<u32>,
    /// Number of Raft groups the keys are spread over; fixed when the cluster is created [default: 1]
    #[arg(long, env = "QUORATE_SHARDS", value_name = "N")]
    shards: Option<u32>,
    /// How the log is written: mmap [default: mmap]
    #[arg(long, env = "QUORATE_WAL_IO", value_name = "HOW")]
    wal_io: Option<WalIo>,
    /// Milliseconds between a leader's heartbeats [default: 50]
    #[arg(long = "heartbeat-interval", env = "QUORATE_HEARTBEAT_INTERVAL", value_name = "MS")]
    heartbeat_interval_ms: Option<u64>,
    /// Milliseconds of silence after which a follower campaigns [default: 500]
    #[arg(long = "election-timeout", env = "QUORATE_ELECTION_TIMEOUT", value_name = "MS")]
    election_timeout_ms: Option<u64>,
    /// Size of a log segment; fixed when the data directory is created [default: 67108864]
    #[arg(long, env = "QUORATE_SEGMENT_BYTES", value_name = "BYTES")]
    segment_bytes: Option<u64>,
    /// Largest request a client may send [default: 1572864]
    #[arg(long, env = "QUORATE_MAX_REQUEST_BYTES", value_name = "BYTES")]
    max_request_bytes: Option<u64>,
    /// Most operations in one transaction [default: 128]
    #[arg(long, env = "QUORATE_MAX_TXN_OPS", value_name = "N")]
    max_txn_ops: Option<u32>,
    /// Size of a shard's state past which writes are refused [default: 8589934592]
    #[arg(long, env = "QUORATE_QUOTA_BACKEND_BYTES", value_name = "BYTES")]
    quota_backend_bytes: Option<u64>,
    /// Most client connections of the node [default: 10000]
    #[arg(long, env = "QUORATE_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<u32>,
    /// Most unanswered requests of one client connection [default: 4096]
    #[arg(long, env = "QUORATE_MAX_REQUESTS_PER_CONNECTION", value_name = "N")]
    max_requests_per_connection: Option<u32>,
    /// Most bytes of unanswered requests held by one core [default: 67108864]
    #[arg(long, env = "QUORATE_MAX_QUEUED_BYTES", value_name = "BYTES")]
    max_queued_bytes: Option<u64>,
    /// Pin each executor to a core; only for hosts with cores to give away [default: false]
    #[arg(long, env = "QUORATE_PIN_CORES", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = parse_switch)]
    pin_cores: Option<bool>,
    /// Microseconds an idle executor spins before it sleeps [default: 0]
    #[arg(long, env = "QUORATE_SPIN_US", value_name = "US")]
    spin_us: Option<u64>,
    /// Milliseconds that a sync of a leader's log, a read of old entries, or a segment that the log waits for, may take before it hands
    /// over to a healthy node; 0 = never for this reason [default: 1000]
    #[arg(long, env = "QUORATE_SLOW_DISK_HANDOVER_MS", value_name = "MS")]
    slow_disk_handover_ms: Option<u64>,
    /// Least severe messages that are logged: error, warn, info, debug or trace [default: info]
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// How lines of the log are written: text, or json with one object on each line [default: text]
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    _missing: MissingStartArgs,
}

impl StartArgs {
    /// Lays what was given on the command line and in variables over the settings of a file (or the defaults).
    ///
    /// # Errors
    /// `--initial-cluster` is no list of name=url.
    pub fn overlay(self, config: &mut Config) -> Result<(), ConfigError> {
        let lists = [
            (self.listen_client_urls, &mut config.listen_client_urls),
            (self.advertise_client_urls, &mut config.advertise_client_urls),
            (self.listen_peer_urls, &mut config.listen_peer_urls),
            (self.initial_advertise_peer_urls, &mut config.initial_advertise_peer_urls),
        ];
        for (given, setting) in lists {
            set(setting, given.as_deref().map(parse_list));
        }
        set(&mut config.initial_cluster, self.initial_cluster.as_deref().map(parse_initial_cluster).transpose()?);
        set(&mut config.name, self.name);
        set(&mut config.data_dir, self.data_dir.map(Some));
        set(&mut config.initial_cluster_state, self.initial_cluster_state);
        set(&mut config.initial_cluster_token, self.initial_cluster_token);
        set(&mut config.cores, self.cores);
        set(&mut config.shards, self.shards);
        set(&mut config.wal_io, self.wal_io);
        set(&mut config.heartbeat_interval_ms, self.heartbeat_interval_ms);
        set(&mut config.election_timeout_ms, self.election_timeout_ms);
        set(&mut config.segment_bytes, self.segment_bytes);
        set(&mut config.max_request_bytes, self.max_request_bytes);
        set(&mut config.max_txn_ops, self.max_txn_ops);
        set(&mut config.quota_backend_bytes, self.quota_backend_bytes);
        set(&mut config.max_connections, self.max_connections);
        set(&mut config.max_requests_per_connection, self.max_requests_per_connection);
        set(&mut config.max_queued_bytes, self.max_queued_bytes);
        set(&mut config.pin_cores, self.pin_cores);
        set(&mut config.spin_us, self.spin_us);
        set(&mut config.slow_disk_handover_ms, self.slow_disk_handover_ms);
        set(&mut config.log_level, self.log_level);
        set(&mut config.log_format, self.log_format);
        Ok(())
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}
