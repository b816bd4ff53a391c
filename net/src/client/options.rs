//! What a client is told, and what it tells.

use std::time::Duration;

use super::{Endpoint, EndpointError};
use crate::api::Status;
use crate::frame::FrameKind;
use crate::limits::SILENCE_MS_MAX;
use crate::resolve::Resolver;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where nodes are reached: `host:port` or `http://host:port`.
    pub endpoints: Vec<String>,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// Connections to each endpoint. More than one only helps when one is saturated.
    pub connections_per_endpoint: usize,
    /// While an attempt to connect takes longer than this, the next endpoint is tried beside it.
    pub next_endpoint_after: Duration,
    /// While one address of an endpoint takes longer than this, the next one is tried beside it.
    pub next_address_after: Duration,
    /// Finds the addresses of endpoints.
    pub resolver: Resolver,
    /// A node that owes an answer and says nothing for so long, not even to a ping, is given up.
    pub silence_limit: Duration,
    /// A connection that nothing is waited for on is pinged after so long.
    pub idle_ping: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            connect_timeout: Duration::from_secs(2),
            connections_per_endpoint: 1,
            next_endpoint_after: Duration::from_millis(200),
            next_address_after: Duration::from_millis(200),
            resolver: Resolver::default(),
            silence_limit: Duration::from_millis(SILENCE_MS_MAX),
            idle_ping: Duration::from_secs(10),
        }
    }
}

/// Who should answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Whoever leads the shard, found by hints; any node passes a request on.
    Leader,
    /// This endpoint and no other.
    Endpoint(&'a Endpoint),
}

/// What a request is, as far as the client has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its number on the wire.
    pub number: FrameKind,
    /// It may change something: one that may have reached a node is never sent twice.
    pub writes: bool,
    /// Its answer goes on until either side ends it: it is `open`ed, not `request`ed.
    pub lasts: bool,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No endpoint could do it in time; it certainly took no effect.
    #[error("unavailable, and the request took no effect: {reason}")]
    Unavailable {
        /// What each endpoint said; a line for each if there are several.
        reason: String,
    },
    /// It may or may not have taken effect, or still may.
    #[error("outcome unknown: {reason}; the request may or may not have taken effect")]
    Unknown {
        /// What happened, with the endpoint.
        reason: String,
    },
    /// A node refused it; it certainly took no effect.
    #[error("{status}: {message}", status = status.as_str())]
    Refused {
        /// The kind of refusal.
        status: Status,
        /// What was wrong, and what to do.
        message: String,
    },
    /// An endpoint is not written as one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no endpoint.
    #[error("no endpoint was given")]
    NoEndpoint,
}

/// What a node said of itself when the first connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its cluster.
    pub cluster_id: u64,
    /// Shards of the cluster.
    pub shard_count: u32,
}
