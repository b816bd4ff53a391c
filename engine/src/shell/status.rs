//! What the shards of a node show of themselves, for all its cores: `status`, probes, leader hints.
//!
//! Each shard posts its view on every tick, and whenever it applied entries, before it answers anything that rests on them. So a
//! node's status shows every write that the node has answered; all else may be one tick old. No promise rests on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::raft::Role;
use crate::replica::ReplicaView;
use crate::types::{NodeId, ShardId};
use api::status::ShardStatus;

use super::limits::{READY_LAG_ENTRIES, SLOW_SYNC};
use super::names::Names;

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
    names: Names,
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

/// What a probe wants to know of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Only whether the node itself is well: it may be without a leader, and behind.
    pub(super) serializable: bool,
    /// A disk or a quota without room for more writes does not count.
    pub(super) without_room: bool,
}

impl Posted {
    /// What keeps the shard from serving, as the rest of a sentence.
    fn serves(&self, asked: &Asked) -> Result<(), String> {
        let view = &self.view;
        let waits = Duration::from_millis(view.disk_waits_ms);
        if self.is_silent {
            return Err("says nothing: its core hangs, as it does when the disk does not answer".to_owned());
        }
        if waits >= SLOW_SYNC {
            return Err(format!("waits for its disk, which has not answered for {} s", waits.as_secs()));
        }
        if let Some(shortage) = view.shortage.as_ref().filter(|_| !asked.without_room) {
            return Err(format!("has no room: {shortage}"));
        }
        if asked.serializable {
            return Ok(());
        }
        if view.lost.is_majority {
            return Err(format!("has lost data: {}", view.lost));
        }
        if let Some(birth) = &view.birth {
            return Err(format!("takes no part yet: {birth}"));
        }
        if view.leader.is_none() {
            return Err("has no leader, so that requests wait or are refused: no majority of its nodes is connected, or the leader has another history".to_owned());
        }
        let (applied, committed) = (view.applied_index, view.commit_index);
        if applied.plus(READY_LAG_ENTRIES) < committed {
            return Err(format!("is applying its log: {applied} of {committed} committed entries are applied"));
        }
        let told = view.told_commit_index;
        if applied.plus(READY_LAG_ENTRIES) < told {
            return Err(format!(
                "is behind its leader: {applied} of {told} committed entries are applied, and some are not in its log yet"
            ));
        }
        Ok(())
    }
}

impl StatusBoard {
    /// An empty board for a node.
    #[must_use]
    pub fn new(name: &str, node: NodeId, shard_count: u32) -> Self {
        let shards = (0..shard_count).map(|_| None).collect();
        let board =
            Board { name: name.to_owned(), node, shards, client_urls: BTreeMap::new(), names: Names::default() };
        Self { shared: Arc::new(Mutex::new(board)) }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is shown of members names them from here on.
    pub(super) fn set_names(&self, names: Names) {
        self.lock().names = names;
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
                under_repair: view.repair.as_ref().map(|repair| board.names.in_words(&repair.to_string())),
                new: view.birth.as_ref().map(|birth| board.names.in_words(&birth.to_string())),
                lost_data: (!view.lost.nodes.is_empty()).then(|| board.names.in_words(&view.lost.to_string())),
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
        self.serves(&Asked::default())
    }

    /// Why this node cannot serve every shard now with all that is asked for.
    ///
    /// # Errors
    /// The first reason found.
    pub(super) fn serves(&self, asked: &Asked) -> Result<(), String> {
        self.live()?;
        let board = self.lock();
        let why_not = |(shard, posted): (usize, &Option<Posted>)| match posted {
            None => Err(format!("shard {shard} has not started yet")),
            Some(posted) => posted.serves(asked).map_err(|why| format!("shard {shard} {}", board.names.in_words(&why))),
        };
        board.shards.iter().enumerate().try_for_each(why_not)
    }

    /// Why this node needs a restart, if it does.
    ///
    /// # Errors
    /// The first shard that stopped, and why.
    pub(super) fn live(&self) -> Result<(), String> {
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
pub(super) mod tests {
    use super::*;
    use crate::raft::LostView;
    use crate::replica::Shortage;
    use crate::types::{Index, Revision, Term};

    /// What a follower shows of itself.
    pub(in crate::shell) fn view(applied: u64, committed: u64) -> ReplicaView {
        ReplicaView {
            is_leader: false,
            is_learner: false,
            role: Role::Follower,
            leader: Some(NodeId::new(2)),
            term: Term::new(1),
            last_index: Index::new(committed),
            persisted_index: Index::new(committed),
            commit_index: Index::new(committed),
            told_commit_index: Index::new(committed),
            applied_index: Index::new(applied),
            revision: Revision::new(1),
            state_bytes: 0,
            shortage: None,
            disk_waits_ms: 0,
            pending_writes_count: 0,
            pending_reads_count: 0,
            relayed_count: 0,
            repair: None,
            transfer: None,
            birth: None,
            lost: LostView::default(),
            leader_silent_ms: 0,
            silent: Vec::new(),
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

    /// What a board says of one shard that shows this: to whoever asks for everything, for all but room, and for the node alone.
    fn said_of(view: ReplicaView) -> [Result<(), String>; 3] {
        let board = StatusBoard::new("one", NodeId::new(1), 1);
        board.post(ShardId::new(0), view, None);
        let asked = Asked { serializable: false, without_room: false };
        [asked, Asked { without_room: true, ..asked }, Asked { serializable: true, ..asked }]
            .map(|asked| board.serves(&asked))
    }

    #[test]
    fn who_refuses_writes_says_why() {
        assert_eq!(said_of(view(1, 1)), [Ok(()), Ok(()), Ok(())]);
        let full = Shortage::Segment { reason: "No space left on device".to_owned() };
        let [said, without_room, serializable] = said_of(ReplicaView { shortage: Some(full), ..view(1, 1) });
        assert!(said.as_ref().is_err_and(|why| why.contains("No space left on device")), "{said:?}");
        assert_eq!((without_room, serializable), (Ok(()), said));
        let quota = Shortage::Quota { state_bytes: 12, quota_bytes: 10 };
        let [said, without_room, _] = said_of(ReplicaView { shortage: Some(quota), ..view(1, 1) });
        assert!(said.as_ref().is_err_and(|why| why.contains("12 bytes and the quota is 10")), "{said:?}");
        assert_eq!(without_room, Ok(()));
    }

    #[test]
    fn a_disk_that_hangs_counts_whatever_is_asked() {
        let waits = |ms| said_of(ReplicaView { disk_waits_ms: ms, ..view(1, 1) });
        let bound_ms = SLOW_SYNC.as_millis() as u64;
        assert_eq!(waits(bound_ms - 1), [Ok(()), Ok(()), Ok(())]);
        for said in waits(bound_ms) {
            assert!(said.as_ref().is_err_and(|why| why.contains("has not answered for 1 s")), "{said:?}");
        }
    }

    #[test]
    fn a_node_without_a_leader_or_far_behind_it_is_well_by_itself() {
        let lag = 1 + READY_LAG_ENTRIES;
        for (view, why) in [
            (ReplicaView { leader: None, ..view(1, 1) }, "no majority of its nodes"),
            (ReplicaView { told_commit_index: Index::new(1 + lag), ..view(1, 1) }, "is behind its leader: 1 of 258"),
        ] {
            let [said, without_room, serializable] = said_of(view);
            assert!(said.as_ref().is_err_and(|said| said.contains(why)), "{said:?}");
            assert_eq!((without_room, serializable), (said, Ok(())));
        }
    }
}
