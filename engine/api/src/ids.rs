//! Names and numbers that clients see: who replicates (`NodeId`, `ClusterId`), what (`ShardId`), and in which order (`Revision`).
//!
//! No behaviour lives here, except which shard a key belongs to.

use std::fmt;

/// Identity of one node (process) of a cluster; 0 = none. Derived from the peer URLs and the cluster token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

/// Identity of a cluster, the same on all its nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(u64);

/// Number of a shard (one Raft group), from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u32);

/// MVCC counter: one per write transaction of a shard. 0 = nothing written yet; as in etcd, an empty store is at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

macro_rules! raw {
    ($name:ident, $raw:ty, $format:literal) => {
        impl $name {
            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> $raw {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

raw!(NodeId, u64, "{:016x}");
raw!(ClusterId, u64, "{:016x}");
raw!(ShardId, u32, "{}");
raw!(Revision, u64, "{}");

impl Revision {
    /// The one after it.
    ///
    /// # Panics
    /// There is none, after 2^64 writes.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("no store sees 2^64 writes"))
    }
}

/// Shard that owns `key` in a cluster of `shard_count` shards.
///
/// CRC-32 of the key, scaled to the shard count. Part of the on-disk contract: it never changes for a created cluster.
#[must_use]
pub fn shard_of_key(key: &[u8], shard_count: u32) -> ShardId {
    let hash = u64::from(crc32fast::hash(key));
    let scaled = (hash * u64::from(shard_count)) >> 32;
    ShardId(u32::try_from(scaled).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_shards_and_stay_below_the_count() {
        for shard_count in [1, 2, 3, 7] {
            let mut keys_per_shard = vec![0; shard_count as usize];
            for key in 0..7000u32 {
                let shard = shard_of_key(format!("key-{key}").as_bytes(), shard_count);
                keys_per_shard[shard.get() as usize] += 1;
            }
            let expected = 7000 / shard_count;
            assert!(keys_per_shard.iter().all(|&count| count > expected / 2), "{keys_per_shard:?}");
        }
    }
}
