//! The load generator's view of a cluster: the client library behind the traits `target` and `verify` ask for.
//!
//! Each connection of a load is a client of its own, with one TCP connection to each endpoint it talks to; so it learns
//! the leader, and loses it, as any other program's would.

use std::time::Duration;

use client::{Client, ClientError, ClientOptions, RangeRequest};
use net::api::Status;

use crate::failures::FailureKind;
use crate::target::{Connect, PutTarget};
use crate::verify::{Row, RowSource};

/// How to reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConnector {
    /// Endpoints, as `host:port` or `http://host:port`.
    pub endpoints: Vec<String>,
    /// Time a request may take before its outcome is given up.
    pub request_timeout: Duration,
    /// Time opening a connection may take.
    pub connect_timeout: Duration,
}

/// One client of a cluster, as a target of puts.
pub struct ClusterTarget {
    client: Client,
}

/// Rows as one node, or the whole cluster, serves them.
pub struct NodeRows {
    client: Client,
    /// The node to read from, serializable; None reads linearizable, through the leader.
    endpoint: Option<String>,
}

impl ClusterConnector {
    /// Opens a client.
    ///
    /// # Errors
    /// The endpoints make no sense, or none of them answers.
    pub async fn client(&self) -> Result<Client, ClientError> {
        let options = ClientOptions {
            endpoints: self.endpoints.clone(),
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
            ..ClientOptions::default()
        };
        Client::connect(options).await
    }
}

impl Connect for ClusterConnector {
    type Target = ClusterTarget;
    type Error = ClientError;

    async fn connect(&self) -> Result<ClusterTarget, ClientError> {
        Ok(ClusterTarget { client: self.client().await? })
    }
}

impl PutTarget for ClusterTarget {
    type Error = ClientError;

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<(), ClientError> {
        self.client.put(key, value).await.map(drop)
    }

    fn kind(error: &ClientError) -> FailureKind {
        match error {
            ClientError::Unknown { .. } | ClientError::Partial { .. } | ClientError::Malformed { .. } => {
                FailureKind::Unknown
            }
            ClientError::Unavailable { .. } | ClientError::Endpoints { .. } => FailureKind::Unavailable,
            ClientError::Overloaded { .. } => FailureKind::Overloaded,
            ClientError::Refused { status: Status::Timeout, .. } => FailureKind::TimedOut,
            ClientError::Refused { .. } | ClientError::Invalid(_) => FailureKind::Refused,
        }
    }
}

impl NodeRows {
    /// Reads what the node at `endpoint` has applied, whether or not it is up to date.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn serializable(connector: &ClusterConnector, endpoint: String) -> Result<Self, ClientError> {
        Ok(Self { client: connector.client().await?, endpoint: Some(endpoint) })
    }

    /// Reads what the cluster has committed.
    ///
    /// # Errors
    /// No node answers.
    pub async fn linearizable(connector: &ClusterConnector) -> Result<Self, ClientError> {
        Ok(Self { client: connector.client().await?, endpoint: None })
    }
}

impl RowSource for NodeRows {
    type Error = ClientError;

    async fn page(&self, begin: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, ClientError> {
        let request = RangeRequest {
            key: begin.to_vec(),
            range_end: end.to_vec(),
            limit: limit as u64,
            serializable: self.endpoint.is_some(),
            ..RangeRequest::default()
        };
        let response = match &self.endpoint {
            Some(endpoint) => self.client.range_on(endpoint, request).await?,
            None => self.client.range(request).await?,
        };
        Ok(response.kvs.into_iter().map(|row| (row.key, row.value)).collect())
    }
}
