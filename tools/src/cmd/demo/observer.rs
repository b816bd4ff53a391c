//! Asks every node for its status, each over a connection of its own that is opened again when it broke.
//!
//! A node that does not answer is no error here: it is what a look is for.

use bench::cluster::ClusterConnector;
use client::{Client, ShardStatus};

use super::view::{ShardState, View};

use crate::limits::STATUS_TIMEOUT;

/// Role of a leader, as a node names it.
const LEADER: &str = "leader";

/// Connections to all nodes.
pub(super) struct Observer {
    nodes: Vec<Observed>,
}

struct Observed {
    endpoint: String,
    client: Option<Client>,
}

impl Observer {
    /// Watches the nodes at `endpoints`; connects when first asked to look.
    pub(super) fn new(endpoints: Vec<String>) -> Self {
        Self { nodes: endpoints.into_iter().map(|endpoint| Observed { endpoint, client: None }).collect() }
    }

    /// What each node says now, asked one after the other in order.
    pub(super) async fn look(&mut self) -> View {
        let mut view = View::default();
        for node in &mut self.nodes {
            view.nodes.push(node.look().await);
        }
        view
    }

    /// Drops the connection to `node`, which is known to be dead; the next look connects anew, or is refused at once.
    pub(super) fn forget(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.client = None;
        }
    }
}

impl Observed {
    async fn look(&mut self) -> Option<Vec<ShardState>> {
        if self.client.is_none() {
            self.client = self.connector().client().await.ok();
        }
        match self.client.as_ref()?.status(&self.endpoint).await {
            Ok(mut shards) => {
                shards.sort_by_key(|shard| shard.shard);
                Some(shards.iter().map(state_of).collect())
            }
            Err(_) => {
                self.client = None;
                None
            }
        }
    }

    fn connector(&self) -> ClusterConnector {
        let endpoints = vec![self.endpoint.clone()];
        ClusterConnector { endpoints, request_timeout: STATUS_TIMEOUT, connect_timeout: STATUS_TIMEOUT }
    }
}

fn state_of(shard: &ShardStatus) -> ShardState {
    ShardState {
        node_id: shard.node_id,
        leader: shard.leader,
        is_leader: shard.role == LEADER,
        term: shard.term,
        commit_index: shard.commit_index,
        applied_index: shard.applied_index,
    }
}
