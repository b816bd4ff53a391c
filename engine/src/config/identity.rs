//! Identities derived from settings: the same `initial-cluster` and token give the same ids on every node, without asking
//! anybody.
//!
//! Part of the contract between nodes and with data on disk: the functions never change for an existing cluster, and
//! golden values pin them. They tell nodes and clusters apart; they are no protection against someone who forges them.

use super::Url;
use crate::types::{ClusterId, NodeId};

/// FNV-1a, 64 bits: offset basis and prime (Fowler, Noll, Vo).
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

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

/// FNV-1a over parts, each preceded by its length (u64, little-endian), so that no two lists of parts run together;
/// finished by the 64-bit mixer of `MurmurHash3`, because the high bits of FNV depend on few of the last bytes.
struct PartsHash(u64);

impl PartsHash {
    /// Starts with a domain, so that ids of different kinds differ even for equal parts.
    fn new(domain: &str) -> Self {
        let mut hash = Self(FNV_BASIS);
        hash.part(domain.as_bytes());
        hash
    }

    fn part(&mut self, part: &[u8]) {
        let length = part.len() as u64;
        for &byte in length.to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }

    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        hash.max(1)
    }
}
