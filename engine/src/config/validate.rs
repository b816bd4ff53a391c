//! From settings to guarantees: everything that can be known to be wrong without touching the host is refused here.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use wal::limits::SEGMENT_BYTES_MAX;

use super::{ClusterState, Config, ConfigError, DEFAULT_TOKEN, LogFormat, LogLevel, Url, UrlError, WalIo, identity};
use crate::limits::{
    CORES_MAX, ELECTION_TIMEOUT_MS_MAX, HEARTBEATS_PER_ELECTION_MIN, NAME_BYTES_MAX, QUOTA_BYTES_MIN,
    REQUEST_BYTES_CHOSEN_MAX, REQUEST_BYTES_CHOSEN_MIN, REQUESTS_PER_SEGMENT_MIN, SEGMENT_BYTES_CHOSEN_MIN,
    SEGMENT_BYTES_STEP, SHARDS_MAX, SLOW_DISK_MS_MAX, SPIN_US_MAX, TXN_OPS_MAX, VOTERS_MAX,
};
use crate::types::{ClusterId, NodeId};

/// One founding member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Derived from the token and the peer URLs.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Where peers reach it; never empty, sorted.
    pub peer_urls: Vec<Url>,
}

/// Bounds on what clients may ask for and what a node holds for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServingLimits {
    /// Largest request a client may send. Unit: bytes.
    pub request_bytes: u64,
    /// Most operations in one transaction.
    pub txn_ops: u32,
    /// Size of a shard's state past which writes are refused. Unit: bytes.
    pub quota_bytes: u64,
    /// Most client connections of the node.
    pub connections: u32,
    /// Most unanswered requests of one client connection.
    pub requests_per_connection: u32,
    /// Most bytes of unanswered requests held by one core. Unit: bytes.
    pub queued_bytes: u64,
}

/// Settings that were checked together. Only [`Config::validate`] makes one.
///
/// Invariants: `members` is sorted by id, without duplicates, and contains `node_id` with this node's name;
/// `election_timeout_ms >= 5 * heartbeat_interval_ms > 0`; `segment_bytes >= 4 * limits.request_bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidConfig {
    settings: Config,
    data_dir: PathBuf,
    listen_client: Vec<SocketAddr>,
    advertise_client: Vec<Url>,
    listen_peer: Vec<SocketAddr>,
    members: Vec<Member>,
    node_id: NodeId,
    cluster_id: ClusterId,
}

impl Config {
    /// Checks everything that can be checked without the host, fills in derived values and computes the identities.
    ///
    /// # Errors
    /// The first thing found wrong, with the flag it came from and what would be right.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        check_name("name", &self.name)?;
        if self.initial_cluster_token.is_empty() {
            return Err(ConfigError::EmptyToken);
        }
        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.quorate", self.name)));
        if data_dir.as_os_str().is_empty() {
            return Err(ConfigError::EmptyDataDir);
        }
        self.check_numbers()?;
        if self.wal_io == WalIo::Direct {
            return Err(ConfigError::DirectIo);
        }
        let mut bound = BTreeSet::new();
        let client_urls = listen_urls("listen-client-urls", &self.listen_client_urls, &mut bound)?;
        let peer_urls = listen_urls("listen-peer-urls", &self.listen_peer_urls, &mut bound)?;
        let advertise_client = advertise_urls("advertise-client-urls", &self.advertise_client_urls, &client_urls)?;
        let advertise_peer =
            advertise_urls("initial-advertise-peer-urls", &self.initial_advertise_peer_urls, &peer_urls)?;
        let members = self.members(advertise_peer)?;
        let ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
        let node_id = members
            .iter()
            .find(|member| member.name == self.name)
            .map(|member| member.id)
            .ok_or_else(|| ConfigError::NotAMember { name: self.name.clone(), listed: names(&members) })?;
        Ok(ValidConfig {
            data_dir,
            listen_client: client_urls.iter().filter_map(Url::bind_address).collect(),
            advertise_client,
            listen_peer: peer_urls.iter().filter_map(Url::bind_address).collect(),
            cluster_id: identity::cluster_id(&self.initial_cluster_token, &ids),
            members,
            node_id,
            settings: self,
        })
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let heartbeat_max = ELECTION_TIMEOUT_MS_MAX / HEARTBEATS_PER_ELECTION_MIN;
        let u32_max = u64::from(u32::MAX);
        let bounds = [
            ("cores", self.cores.into(), 1, CORES_MAX.into()),
            ("shards", self.shards.into(), 1, SHARDS_MAX.into()),
            ("heartbeat-interval", self.heartbeat_interval_ms, 1, heartbeat_max),
            ("election-timeout", self.election_timeout_ms, HEARTBEATS_PER_ELECTION_MIN, ELECTION_TIMEOUT_MS_MAX),
            ("segment-bytes", self.segment_bytes, SEGMENT_BYTES_CHOSEN_MIN, SEGMENT_BYTES_MAX),
            ("max-request-bytes", self.max_request_bytes, REQUEST_BYTES_CHOSEN_MIN, REQUEST_BYTES_CHOSEN_MAX),
            ("max-txn-ops", self.max_txn_ops.into(), 1, TXN_OPS_MAX.into()),
            ("quota-backend-bytes", self.quota_backend_bytes, QUOTA_BYTES_MIN, u64::MAX),
            ("max-connections", self.max_connections.into(), 1, u32_max),
            ("max-requests-per-connection", self.max_requests_per_connection.into(), 1, u32_max),
            ("max-queued-bytes", self.max_queued_bytes, 1, u64::MAX),
            ("spin-us", self.spin_us, 0, SPIN_US_MAX),
            ("slow-disk-handover-ms", self.slow_disk_handover_ms, 0, SLOW_DISK_MS_MAX),
        ];
        for (flag, got, min, max) in bounds {
            if got < min || got > max {
                return Err(ConfigError::OutOfRange { flag, got, min, max });
            }
        }
        self.check_number_relations()
    }

    /// Relations between numbers that are each within their bounds.
    fn check_number_relations(&self) -> Result<(), ConfigError> {
        let (election_ms, heartbeat_ms) = (self.election_timeout_ms, self.heartbeat_interval_ms);
        if election_ms < HEARTBEATS_PER_ELECTION_MIN * heartbeat_ms {
            return Err(ConfigError::ElectionTooShort { election_ms, heartbeat_ms });
        }
        let (segment_bytes, request_bytes) = (self.segment_bytes, self.max_request_bytes);
        if !segment_bytes.is_multiple_of(SEGMENT_BYTES_STEP) {
            return Err(ConfigError::SegmentStep { got: segment_bytes });
        }
        if segment_bytes < REQUESTS_PER_SEGMENT_MIN * request_bytes {
            return Err(ConfigError::SegmentTooSmall { segment_bytes, request_bytes });
        }
        if self.max_queued_bytes < request_bytes {
            return Err(ConfigError::QueueTooSmall { queued_bytes: self.max_queued_bytes, request_bytes });
        }
        Ok(())
    }

    /// The founding members, sorted by id; this node's addresses must agree with its entry.
    fn members(&self, mut advertise_peer: Vec<Url>) -> Result<Vec<Member>, ConfigError> {
        const FLAG: &str = "initial-cluster";
        advertise_peer.sort();
        let mut members: Vec<Member> = Vec::new();
        let mut used = BTreeSet::new();
        for (name, text) in &self.initial_cluster {
            check_name(FLAG, name)?;
            let url = reachable_url(FLAG, text)?;
            if !used.insert(url.clone()) {
                return Err(ConfigError::DuplicateUrl { flag: FLAG, url: url.to_string() });
            }
            match members.iter_mut().find(|member| member.name == *name) {
                Some(member) => member.peer_urls.push(url),
                None => {
                    members.push(Member { id: NodeId::default(), name: name.clone(), peer_urls: vec![url] });
                }
            }
        }
        if members.is_empty() {
            let name = self.name.clone();
            members.push(Member { id: NodeId::default(), name, peer_urls: advertise_peer.clone() });
        }
        if members.len() > VOTERS_MAX {
            return Err(ConfigError::TooManyVoters { count: members.len() });
        }
        for member in &mut members {
            member.peer_urls.sort();
            member.id = identity::node_id(&self.initial_cluster_token, &member.peer_urls);
            if member.name == self.name && member.peer_urls != advertise_peer {
                return Err(ConfigError::AdvertiseMismatch {
                    name: member.name.clone(),
                    listed: join(&member.peer_urls),
                    advertised: join(&advertise_peer),
                });
            }
        }
        members.sort_by_key(|member| member.id);
        for (first, second) in members.iter().zip(members.iter().skip(1)) {
            if first.id == second.id {
                let (first, second) = (first.name.clone(), second.name.clone());
                return Err(ConfigError::IdCollision { first, second });
            }
        }
        Ok(members)
    }
}

fn check_name(flag: &'static str, name: &str) -> Result<(), ConfigError> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '=' | '/');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(forbidden) {
        return Err(ConfigError::Name { flag, name: name.to_owned() });
    }
    Ok(())
}

/// Parses the addresses to bind; each may be bound once, whether for clients or for peers.
fn listen_urls(
    flag: &'static str,
    texts: &[String],
    bound: &mut BTreeSet<SocketAddr>,
) -> Result<Vec<Url>, ConfigError> {
    if texts.is_empty() {
        return Err(ConfigError::NoUrl { flag });
    }
    let mut urls = Vec::new();
    for text in texts {
        let url_error = |reason| ConfigError::Url { flag, url: text.clone(), reason };
        let url = Url::parse(text).map_err(url_error)?;
        let address = url.bind_address().ok_or_else(|| url_error(UrlError::ListenName))?;
        if !bound.insert(address) {
            return Err(ConfigError::DuplicateUrl { flag, url: url.to_string() });
        }
        urls.push(url);
    }
    Ok(urls)
}

/// Parses the addresses others are told; without any, those that are listened on.
fn advertise_urls(flag: &'static str, texts: &[String], listen: &[Url]) -> Result<Vec<Url>, ConfigError> {
    if texts.is_empty() {
        if let Some(url) = listen.iter().find(|url| url.is_unspecified()) {
            return Err(ConfigError::AdvertiseNeeded { flag, listen: url.to_string() });
        }
        return Ok(listen.to_vec());
    }
    let mut urls: Vec<Url> = Vec::new();
    for text in texts {
        let url = reachable_url(flag, text)?;
        if urls.contains(&url) {
            return Err(ConfigError::DuplicateUrl { flag, url: url.to_string() });
        }
        urls.push(url);
    }
    Ok(urls)
}

fn reachable_url(flag: &'static str, text: &str) -> Result<Url, ConfigError> {
    let url_error = |reason| ConfigError::Url { flag, url: text.to_owned(), reason };
    let url = Url::parse(text).map_err(url_error)?;
    if url.is_unspecified() { Err(url_error(UrlError::Unspecified)) } else { Ok(url) }
}

fn names(members: &[Member]) -> String {
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    names.join(", ")
}

fn join(urls: &[Url]) -> String {
    let urls: Vec<String> = urls.iter().map(Url::to_string).collect();
    urls.join(",")
}

impl ValidConfig {
    /// Name of this node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Where the node keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Addresses to bind for clients; never empty.
    #[must_use]
    pub fn listen_client(&self) -> &[SocketAddr] {
        &self.listen_client
    }

    /// Where clients are told to find this node; never empty.
    #[must_use]
    pub fn advertise_client(&self) -> &[Url] {
        &self.advertise_client
    }

    /// Addresses to bind for peers; never empty.
    #[must_use]
    pub fn listen_peer(&self) -> &[SocketAddr] {
        &self.listen_peer
    }

    /// The voters, this node included, sorted by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Identity of this node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Identity of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// True if anybody who reaches the peer port, also from other hosts, knows the token that it takes to pass for a member.
    #[must_use]
    pub fn lets_impostors_in(&self) -> bool {
        let is_known = self.settings.initial_cluster_token == DEFAULT_TOKEN;
        let is_reached = self.listen_peer.iter().any(|address| !address.ip().to_canonical().is_loopback());
        is_known && is_reached && self.members.len() > 1
    }

    /// Whether the cluster is being created or exists already.
    #[must_use]
    pub fn initial_cluster_state(&self) -> ClusterState {
        self.settings.initial_cluster_state
    }

    /// Number of executors.
    #[must_use]
    pub fn cores(&self) -> u32 {
        self.settings.cores
    }

    /// Number of Raft groups.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.settings.shards
    }

    /// How the log is written; only what this version can do.
    #[must_use]
    pub fn wal_io(&self) -> WalIo {
        self.settings.wal_io
    }

    /// Time between a leader's heartbeats. Unit: milliseconds.
    #[must_use]
    pub fn heartbeat_interval_ms(&self) -> u64 {
        self.settings.heartbeat_interval_ms
    }

    /// Silence after which a follower campaigns. Unit: milliseconds.
    #[must_use]
    pub fn election_timeout_ms(&self) -> u64 {
        self.settings.election_timeout_ms
    }

    /// Size of a log segment. Unit: bytes.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.settings.segment_bytes
    }

    /// Bounds on what clients may ask for.
    #[must_use]
    pub fn limits(&self) -> ServingLimits {
        let settings = &self.settings;
        ServingLimits {
            request_bytes: settings.max_request_bytes,
            txn_ops: settings.max_txn_ops,
            quota_bytes: settings.quota_backend_bytes,
            connections: settings.max_connections,
            requests_per_connection: settings.max_requests_per_connection,
            queued_bytes: settings.max_queued_bytes,
        }
    }

    /// Whether executors are pinned to cores.
    #[must_use]
    pub fn pin_cores(&self) -> bool {
        self.settings.pin_cores
    }

    /// How long an idle executor spins before it sleeps; 0 = it never spins. Unit: microseconds.
    #[must_use]
    pub fn spin_us(&self) -> u64 {
        self.settings.spin_us
    }

    /// A leader hands over when one sync of its log takes longer; 0 = it never does. Unit: milliseconds.
    #[must_use]
    pub fn slow_disk_handover_ms(&self) -> u64 {
        self.settings.slow_disk_handover_ms
    }

    /// Least severe messages that are logged.
    #[must_use]
    pub fn log_level(&self) -> LogLevel {
        self.settings.log_level
    }

    /// How lines of the log are written.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.settings.log_format
    }
}
