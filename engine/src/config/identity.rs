//! Identities derived from settings: the same `initial-cluster` and token give the same ids on every node, without asking
//! anybody.
//!
//! Part of the contract between nodes and with data on disk: the functions never change for an existing cluster, and
//! golden values pin them. They tell nodes and clusters apart. The cluster id is as hard to guess as the token is, and it is
//! spoken in clear between peers: real proof of identity needs TLS.

use std::fmt;

use sha2::{Digest, Sha256};

use super::Url;
use crate::types::{ClusterId, NodeId};

/// Identity of the node with these peer URLs in the cluster of this token.
///
/// The order of the URLs does not matter. Never 0, which means "none".
#[must_use]
pub fn node_id(token: &str, peer_urls: &[Url]) -> NodeId {
    let mut urls: Vec<String> = peer_urls.iter().map(Url::to_string).collect();
    urls.sort();
    let mut hash = PartsHash::new("quorate node");
    hash.part(token.as_bytes());
    for url in &urls {
        hash.part(url.as_bytes());
    }
    NodeId::new(hash.finish())
}

/// Identity of the cluster with these founding members and this token.
///
/// The order of the members does not matter. Never 0.
#[must_use]
pub fn cluster_id(token: &str, members: &[NodeId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|id| id.get()).collect();
    ids.sort_unstable();
    let mut hash = PartsHash::new("quorate cluster");
    hash.part(token.as_bytes());
    for id in ids {
        hash.part(&id.to_le_bytes());
    }
    ClusterId::new(hash.finish())
}

/// What clients are told of a cluster's identity: enough to tell clusters apart, not enough to speak to peers.
///
/// Whoever names the [`ClusterId`] at a peer port passes for a member, so it never leaves the nodes; this is a digest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicClusterId(u64);

impl PublicClusterId {
    /// The public identity of a cluster. Never 0.
    #[must_use]
    pub fn of(cluster: ClusterId) -> Self {
        let mut hash = PartsHash::new("quorate public cluster");
        hash.part(&cluster.get().to_le_bytes());
        Self(hash.finish())
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PublicClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The first 64 bits of a SHA-256 over parts, each preceded by its length (u64, little-endian), so that no two lists of parts
/// run together. One-way: node ids are shown to clients, and say nothing of the token that they were made with.
struct PartsHash(Sha256);

impl PartsHash {
    /// Starts with a domain, so that ids of different kinds differ even for equal parts.
    fn new(domain: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.part(domain.as_bytes());
        hash
    }

    fn part(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn finish(self) -> u64 {
        let digest: [u8; 32] = self.0.finalize().into();
        let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
        u64::from_le_bytes(*first).max(1)
    }
}
