//! What the shards of a node show of themselves, for all its cores: `status`, probes, leader hints.
//!
//! Each shard posts its view on every tick, and whenever it applied entries, before it answers anything that rests on them. So a
//! node's status shows every write that the node has answered; all else may be one tick old. No promise rests on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::raft::Role;
use crate::replica::ReplicaView;
use crate::types::{NodeId, ShardId};
use api::status::ShardStatus;

use super::limits::READY_LAG_ENTRIES;

/// The board; clones share it.
#[derive(Clone, Debug)]
pub struct StatusBoard {
    shared: Arc<Mutex<Board>>,
}

#[derive(Debug)]
struct Board {
    name: String,
    node: NodeId,
    shards: Vec<Option<Posted>>,
    client_urls: BTreeMap<NodeId, String>,
}

#[derive(Debug)]
struct Posted {
    view: ReplicaView,
    fault: Option<String>,
    /// How often the shard posted, this included.
    count: u64,
    /// Its core was seen to hang since.
    is_silent: bool,
}

impl StatusBoard {
    /// An empty board for a node.
    #[must_use]
    pub fn new(name: &str, node: NodeId, shard_count: u32) -> Self {
        let shards = (0..shard_count).map(|_| None).collect();
        let board = Board { name: name.to_owned(), node, shards, client_urls: BTreeMap::new() };
        Self { shared: Arc::new(Mutex::new(board)) }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts what a shard shows.
    pub fn post(&self, shard: ShardId, view: ReplicaView, fault: Option<String>) {
        if let Some(place) = self.lock().shards.get_mut(shard.get() as usize) {
            let count = place.as_ref().map_or(0, |before| before.count) + 1;
            *place = Some(Posted { view, fault, count, is_silent: false });
        }
    }

    /// How often each shard has posted.
    pub(super) fn post_counts(&self) -> Vec<u64> {
        self.lock().shards.iter().map(|posted| posted.as_ref().map_or(0, |posted| posted.count)).collect()
    }

    /// Notes that a shard does not post any more; it counts until the shard posts again.
    pub(super) fn note_silent(&self, shard: ShardId) {
        if let Some(Some(posted)) = self.lock().shards.get_mut(shard.get() as usize) {
            posted.is_silent = true;
        }
    }

    /// Notes where clients reach a node.
    pub fn note_client_url(&self, node: NodeId, url: &str) {
        if !url.is_empty() {
            self.lock().client_urls.insert(node, url.to_owned());
        }
    }

    /// Where clients reach the leader of a shard, if that is another node and known.
    #[must_use]
    pub fn leader_hint(&self, shard: ShardId) -> Option<String> {
        let board = self.lock();
        let leader = board.shards.get(shard.get() as usize)?.as_ref()?.view.leader?;
        if leader == board.node {
            return None;
        }
        board.client_urls.get(&leader).cloned()
    }

    /// The status of every shard.
    #[must_use]
    pub fn statuses(&self) -> Vec<ShardStatus> {
        let board = self.lock();
        let posted = board.shards.iter().enumerate().filter_map(|(shard, posted)| Some((shard, posted.as_ref()?)));
        posted
            .map(|(shard, Posted { view, fault, .. })| ShardStatus {
                name: board.name.clone(),
                node_id: board.node.get(),
                shard: u32::try_from(shard).unwrap_or(u32::MAX),
                role: if fault.is_some() { "stopped" } else { role_name(view) }.to_owned(),
                leader: view.leader.map_or(0, NodeId::get),
                term: view.term.get(),
                last_index: view.last_index.get(),
                persisted_index: view.persisted_index.get(),
                commit_index: view.commit_index.get(),
                applied_index: view.applied_index.get(),
                revision: view.revision.get(),
                stopped: fault.clone(),
                under_repair: view.repair.as_ref().map(ToString::to_string),
                new: view.birth.as_ref().map(ToString::to_string),
                lost_data: (!view.lost.nodes.is_empty()).then(|| view.lost.to_string()),
            })
            .collect()
    }

    /// `statuses` as JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.statuses()).expect("plain data has a JSON form")
    }

    /// Why this node cannot serve every shard now, if it cannot.
    ///
    /// # Errors
    /// The first reason found.
    pub fn ready(&self) -> Result<(), String> {
        self.live()?;
        let board = self.lock();
        for (shard, posted) in board.shards.iter().enumerate() {
            match posted {
                None => return Err(format!("shard {shard} has not started yet")),
                Some(Posted { is_silent: true, .. }) => {
                    return Err(format!(
                        "shard {shard} says nothing: its core hangs, as it does when the disk does not answer"
                    ));
                }
                Some(Posted { view, .. }) if view.lost.is_majority => {
                    return Err(format!("shard {shard}: {}", view.lost));
                }
                Some(Posted { view: ReplicaView { birth: Some(birth), .. }, .. }) => {
                    return Err(format!("shard {shard}: {birth}"));
                }
                Some(posted) if posted.view.leader.is_none() => {
                    return Err(format!(
                        "shard {shard} has no leader: no majority of its nodes is connected, or the leader has another history"
                    ));
                }
                Some(Posted { view, .. }) if view.applied_index.plus(READY_LAG_ENTRIES) < view.commit_index => {
                    let (applied, committed) = (view.applied_index, view.commit_index);
                    return Err(format!(
                        "shard {shard} is applying its log: {applied} of {committed} committed entries are applied"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Why this node needs a restart, if it does.
    ///
    /// # Errors
    /// The first shard that stopped, and why.
    pub fn live(&self) -> Result<(), String> {
        let board = self.lock();
        let faults = board.shards.iter().enumerate().filter_map(|(shard, posted)| Some((shard, posted.as_ref()?)));
        for (shard, posted) in faults {
            if let Some(fault) = &posted.fault {
                return Err(format!("shard {shard} stopped: {fault}"));
            }
        }
        Ok(())
    }
}

fn role_name(view: &ReplicaView) -> &'static str {
    match view.role {
        Role::Follower if view.is_learner => "learner",
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LostView;
    use crate::types::{Index, Revision, Term};

    fn view(applied: u64, committed: u64) -> ReplicaView {
        ReplicaView {
            is_leader: false,
            is_learner: false,
            role: Role::Follower,
            leader: Some(NodeId::new(2)),
            term: Term::new(1),
            last_index: Index::new(committed),
            persisted_index: Index::new(committed),
            commit_index: Index::new(committed),
            applied_index: Index::new(applied),
            revision: Revision::new(1),
            state_bytes: 0,
            pending_writes_count: 0,
            pending_reads_count: 0,
            relayed_count: 0,
            repair: None,
            transfer: None,
            birth: None,
            lost: LostView::default(),
            needs_state: Vec::new(),
        }
    }

    #[test]
    fn a_node_is_ready_once_each_shard_has_applied_nearly_all_that_is_committed() {
        let board = StatusBoard::new("one", NodeId::new(1), 2);
        let post = |shard, applied, committed| {
            board.post(ShardId::new(shard), view(applied, committed), None);
            board.ready()
        };
        let missing = post(0, 1_000, 1_000).expect_err("the other shard shows nothing yet");
        assert!(missing.contains("shard 1 has not started"), "{missing}");
        assert_eq!(post(1, 1_000, 1_000 + READY_LAG_ENTRIES), Ok(()));
        let behind = post(1, 1_000, 1_001 + READY_LAG_ENTRIES).expect_err("it is behind");
        assert!(behind.contains("shard 1 is applying its log: 1000 of 1257 committed"), "{behind}");
        assert_eq!(board.live(), Ok(()), "a restart would not help");
        assert_eq!(post(1, 1_001, 1_001 + READY_LAG_ENTRIES), Ok(()));
    }
}
