//! What people are told, once, when nodes turn out to be new, to have lost data, or to need a state. Decides nothing.

use std::cell::RefCell;

use crate::raft::LostView;
use crate::replica::ReplicaView;
use crate::types::{NodeId, ShardId};

/// Looks at a new node, one each tick, after which it is said that it waits.
const PATIENCE_COUNT: u64 = 500;

/// What was told of a shard so far.
#[derive(Debug, Default)]
pub struct Notices {
    told: RefCell<Told>,
}

#[derive(Debug, Default)]
struct Told {
    waiting: Option<String>,
    /// Looks since this node was first seen to be new.
    waited_count: u64,
    lost: LostView,
    needs_state: Vec<NodeId>,
}

impl Notices {
    /// Tells what is new in a view.
    pub fn look_at(&self, shard: ShardId, view: &ReplicaView) {
        let mut told = self.told.borrow_mut();
        let waiting = view.birth.as_ref().map(ToString::to_string);
        if waiting != told.waiting {
            match (&waiting, &view.repair) {
                (Some(waiting), _) => tracing::info!(%shard, "{waiting}"),
                (None, None) => tracing::info!(%shard, "this node is one of the founders of its cluster"),
                (None, Some(_)) => tracing::error!(
                    %shard,
                    "the data directory was empty, but the cluster knows this node: it comes back as a node under repair, and \
                     gets everything back from the others"
                ),
            }
        }
        if let Some(waiting) = &waiting {
            told.waited_count += 1;
            if told.waited_count == PATIENCE_COUNT {
                tracing::warn!(%shard, "{waiting}; until it has heard from all of them it takes no part");
            }
        }
        told.waiting = waiting;
        for node in view.needs_state.iter().filter(|node| !told.needs_state.contains(node)) {
            tracing::warn!(
                %shard,
                %node,
                "a node lacks entries that this leader's log does not reach back to; it is sent nothing until it has a state that \
                 lies within the log"
            );
        }
        told.needs_state.clone_from(&view.needs_state);
        if view.lost != told.lost {
            if view.lost.is_majority {
                tracing::error!(%shard, "{}", view.lost);
            } else {
                // This node itself under repair is told of where it starts.
                for node in view.lost.nodes.iter().filter(|node| !told.lost.nodes.contains(node)) {
                    tracing::warn!(%shard, %node, "a node lost data; it is getting it back");
                }
                for node in told.lost.nodes.iter().filter(|node| !view.lost.nodes.contains(node)) {
                    tracing::info!(%shard, %node, "a node says no more that it lost data");
                }
            }
            told.lost.clone_from(&view.lost);
        }
    }
}
