//! What can be wrong with settings, and what to do about it.

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No scheme, or one that means nothing here.
    #[error("write it as http://host:port")]
    Scheme,
    /// TLS is asked for.
    #[error("TLS is not supported yet; use http:// on a network you trust")]
    Https,
    /// A path, query, fragment or user follows or precedes the address.
    #[error("only http://host:port is allowed, without a path, query or user")]
    NotBare,
    /// The host is missing or has characters no host name has.
    #[error("the host is missing or malformed (IPv6 addresses go in brackets: http://[::1]:2380)")]
    Host,
    /// The port is missing or no number from 1 to 65535.
    #[error("the port must be given, from 1 to 65535")]
    Port,
    /// A host name where a socket has to be bound.
    #[error("listening needs an IP address or localhost, not a host name")]
    ListenName,
    /// `0.0.0.0` or `[::]` where others have to connect to.
    #[error("others cannot connect to an unspecified address; give one that they can reach")]
    Unspecified,
}

/// Why settings are refused. Each message names the flag (the TOML key is the same without the dashes).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The node's name, or one in `initial-cluster`, cannot be used.
    #[error("--{flag}: name {name:?} must be 1 to {max} bytes without whitespace, control characters, ',', '=' and '/'", max = crate::limits::NAME_BYTES_MAX)]
    Name {
        /// Where it was given.
        flag: &'static str,
        /// As given.
        name: String,
    },
    /// An empty token would make unrelated clusters look the same.
    #[error("--initial-cluster-token: it must not be empty")]
    EmptyToken,
    /// An empty directory name.
    #[error("--data-dir: it must not be empty")]
    EmptyDataDir,
    /// A list without an element.
    #[error("--{flag}: at least one URL is needed")]
    NoUrl {
        /// Which list.
        flag: &'static str,
    },
    /// A URL is refused.
    #[error("--{flag}: {url:?}: {reason}")]
    Url {
        /// Where it was given.
        flag: &'static str,
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: UrlError,
    },
    /// The same URL twice where each must be its own.
    #[error("--{flag}: {url} is given twice; every address can be used once")]
    DuplicateUrl {
        /// Where the second one was given.
        flag: &'static str,
        /// The URL.
        url: String,
    },
    /// The advertised addresses would follow the listen addresses, but nobody can connect to those.
    #[error("--{flag}: give it when listening on {listen}, which others cannot connect to")]
    AdvertiseNeeded {
        /// The missing flag.
        flag: &'static str,
        /// The unspecified listen URL.
        listen: String,
    },
    /// An element of `initial-cluster` is not `name=url`.
    #[error("--initial-cluster: {element:?} is not name=http://host:port")]
    ClusterSyntax {
        /// The element.
        element: String,
    },
    /// This node is not among the voters.
    #[error("--initial-cluster: it lists {listed}, but not this node, --name {name}")]
    NotAMember {
        /// This node's name.
        name: String,
        /// The names that are listed.
        listed: String,
    },
    /// The cluster would reach this node elsewhere than this node says.
    #[error(
        "--initial-cluster: it has {name} at {listed}, but --initial-advertise-peer-urls says {advertised}; both must be the same"
    )]
    AdvertiseMismatch {
        /// This node's name.
        name: String,
        /// URLs in `initial-cluster`.
        listed: String,
        /// URLs in `initial-advertise-peer-urls`.
        advertised: String,
    },
    /// Too many voters.
    #[error("--initial-cluster: {count} voters are too many; at most {max}", max = crate::limits::VOTERS_MAX)]
    TooManyVoters {
        /// As given.
        count: usize,
    },
    /// Two voters have the same identity by accident.
    #[error("--initial-cluster: {first} and {second} have the same derived node id; change --initial-cluster-token")]
    IdCollision {
        /// One voter's name.
        first: String,
        /// The other's.
        second: String,
    },
    /// A number is out of its bounds.
    #[error("--{flag}: {got} is out of range; it must be from {min} to {max}")]
    OutOfRange {
        /// Which setting.
        flag: &'static str,
        /// As given.
        got: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// The election timeout leaves too little room for heartbeats.
    #[error(
        "--election-timeout: {election_ms} must be at least {ratio} times --heartbeat-interval ({heartbeat_ms})",
        ratio = crate::limits::HEARTBEATS_PER_ELECTION_MIN
    )]
    ElectionTooShort {
        /// `election-timeout`.
        election_ms: u64,
        /// `heartbeat-interval`.
        heartbeat_ms: u64,
    },
    /// The segment size is not a multiple of the step.
    #[error("--segment-bytes: {got} must be a multiple of {step}", step = crate::limits::SEGMENT_BYTES_STEP)]
    SegmentStep {
        /// As given.
        got: u64,
    },
    /// A segment could not hold a full batch.
    #[error(
        "--segment-bytes: {segment_bytes} must be at least {ratio} times --max-request-bytes ({request_bytes})",
        ratio = crate::limits::REQUESTS_PER_SEGMENT_MIN
    )]
    SegmentTooSmall {
        /// `segment-bytes`.
        segment_bytes: u64,
        /// `max-request-bytes`.
        request_bytes: u64,
    },
    /// The queue could not hold one request.
    #[error("--max-queued-bytes: {queued_bytes} must be at least --max-request-bytes ({request_bytes})")]
    QueueTooSmall {
        /// `max-queued-bytes`.
        queued_bytes: u64,
        /// `max-request-bytes`.
        request_bytes: u64,
    },
    /// A way of writing the log that is not there.
    #[error("--wal-io: direct is not supported yet; use mmap")]
    DirectIo,
    /// A word that is none of the allowed ones.
    #[error("--{flag}: {got:?} is unknown; it is one of {expected}")]
    UnknownWord {
        /// Which setting.
        flag: &'static str,
        /// As given.
        got: String,
        /// The words there are.
        expected: &'static str,
    },
}
