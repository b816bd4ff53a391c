//! Who the members of each shard are, as its log says, for all cores of a node: whom the peer port lets in.
//!
//! A shard writes down its members when its replica asks for connections to them. Decides nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::types::{NodeId, ShardId};

/// The other members of every shard; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    shards: Arc<Mutex<Vec<BTreeSet<NodeId>>>>,
}

impl Roster {
    /// The roster of shards that were just opened, in the order of their numbers.
    #[must_use]
    pub(super) fn new(shards: impl Iterator<Item = BTreeSet<NodeId>>) -> Self {
        Self { shards: Arc::new(Mutex::new(shards.collect())) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BTreeSet<NodeId>>> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these are a shard's other members.
    pub(super) fn set(&self, shard: ShardId, members: BTreeSet<NodeId>) {
        if let Some(place) = self.lock().get_mut(shard.get() as usize) {
            *place = members;
        }
    }

    /// Whether a node is another member of this shard.
    #[must_use]
    pub(super) fn has(&self, shard: ShardId, node: NodeId) -> bool {
        self.lock().get(shard.get() as usize).is_some_and(|members| members.contains(&node))
    }

    /// Whether a node is another member of any shard.
    #[must_use]
    pub(super) fn has_anywhere(&self, node: NodeId) -> bool {
        self.lock().iter().any(|members| members.contains(&node))
    }
}
