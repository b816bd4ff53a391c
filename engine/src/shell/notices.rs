//! What people are told, once, when nodes turn out to be new, to have lost data, or to need a state. Decides nothing.

use std::cell::RefCell;

use super::limits::NEW_NODE_LOOKS;
use super::said::{Complaint, Said};
use crate::raft::LostView;
use crate::replica::ReplicaView;
use crate::types::{NodeId, ShardId};

/// What was told of a shard so far.
#[derive(Debug, Default)]
pub struct Notices {
    told: RefCell<Told>,
    /// What peers say may change with each of their messages.
    said: Said,
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
            if told.waited_count == NEW_NODE_LOOKS {
                tracing::warn!(%shard, "{waiting}; until it has heard from all of them it takes no part");
            }
        }
        told.waiting = waiting;
        for node in view.needs_state.iter().filter(|node| !told.needs_state.contains(node)) {
            let Some(left_out) = self.said.may_say(Complaint::Lost) else { continue };
            tracing::warn!(
                %shard,
                %node,
                left_out,
                "a node lacks entries that this leader's log does not reach back to; it is sent nothing until it has a state that \
                 lies within the log"
            );
        }
        told.needs_state.clone_from(&view.needs_state);
        if view.lost != told.lost {
            if let Some(left_out) = self.said.may_say(Complaint::Lost) {
                tell_lost(shard, &told.lost, &view.lost, left_out);
            }
            told.lost.clone_from(&view.lost);
        }
    }
}

/// Tells which nodes say now that they lost data, and which do not any more.
fn tell_lost(shard: ShardId, before: &LostView, now: &LostView, left_out: u64) {
    if now.is_majority {
        return tracing::error!(%shard, left_out, "{now}");
    }
    // This node itself under repair is told of where it starts.
    for node in now.nodes.iter().filter(|node| !before.nodes.contains(node)) {
        tracing::warn!(%shard, %node, left_out, "a node lost data; it is getting it back");
    }
    for node in before.nodes.iter().filter(|node| !now.nodes.contains(node)) {
        tracing::info!(%shard, %node, left_out, "a node says no more that it lost data");
    }
}
