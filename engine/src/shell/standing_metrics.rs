//! Figures of how a shard stands: its leader, its peers, its disk, and which nodes are new or lost data.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::disk_space::DiskSpace;
use crate::replica::ReplicaView;

type UGauge = Gauge<u64, AtomicU64>;
type FGauge = Gauge<f64, AtomicU64>;

/// How a shard stands on this node.
#[derive(Clone, Debug)]
pub(super) struct StandingMetrics {
    has_leader: UGauge,
    leader_changes: Counter,
    peers: UGauge,
    peers_connected: UGauge,
    is_new: UGauge,
    under_repair: UGauge,
    stopped: UGauge,
    members_lost_data: UGauge,
    has_shortage: UGauge,
    log_bytes: UGauge,
    disk_free_bytes: UGauge,
    since_sync: FGauge,
    disk_wait: FGauge,
}

impl StandingMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = UGauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let has_leader = gauge("raft_has_leader", "1 while this node knows a leader");
        let peers = gauge("peers", "Other members of the shard");
        let peers_connected = gauge("peers_connected", "Those with which all connections are up, in both directions");
        let is_new = gauge("raft_is_new", "1 while this node is new and takes no part yet");
        let under_repair = gauge("raft_under_repair", "1 while this node gets back log entries that it lost");
        let stopped = gauge("shard_stopped", "1 once the shard stopped by itself; the node has to be restarted");
        let members_lost_data = gauge(
            "raft_members_lost_data",
            "Nodes that lost data and have not got it back, as far as this node knows; itself included",
        );
        let has_shortage =
            gauge("writes_have_no_room", "1 while the disk has no room for more of the log, or the quota is used up");
        let log_bytes = gauge("log_bytes", "Size of the log's files on the disk");
        let disk_free_bytes = gauge("disk_free_bytes", "What this node may still write on the log's file system");
        let mut seconds = |name: &str, help: &str| {
            let gauge = FGauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let since_sync =
            seconds("log_since_sync_seconds", "Time since a sync of the log succeeded last, or since the start");
        let disk_wait = seconds(
            "log_disk_wait_seconds",
            "Time that the sync of the log under way, or the oldest read of it, has taken so far; 0 if there is none",
        );
        let leader_changes = Counter::default();
        registry.register(
            "leader_changes",
            "Changes of the leader that this node saw since the start",
            leader_changes.clone(),
        );
        Self {
            has_leader,
            leader_changes,
            peers,
            peers_connected,
            is_new,
            under_repair,
            stopped,
            members_lost_data,
            has_shortage,
            log_bytes,
            disk_free_bytes,
            since_sync,
            disk_wait,
        }
    }

    /// Another leader than before was heard of.
    pub(super) fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// The shard has so many other members, and so many of them are connected.
    pub(super) fn connected(&self, peers_count: usize, connected_count: usize) {
        self.peers.set(peers_count as u64);
        self.peers_connected.set(connected_count as u64);
    }

    /// How much the log takes and how much is left.
    pub(super) fn measured(&self, space: DiskSpace) {
        self.log_bytes.set(space.log_bytes);
        self.disk_free_bytes.set(space.free_bytes);
    }

    /// Takes over what the replica shows. The last sync that succeeded ended so long ago.
    pub(super) fn update(&self, view: &ReplicaView, is_stopped: bool, since_sync: Duration) {
        self.has_leader.set(u64::from(view.leader.is_some()));
        self.is_new.set(u64::from(view.birth.is_some()));
        self.under_repair.set(u64::from(view.repair.is_some()));
        self.stopped.set(u64::from(is_stopped));
        self.members_lost_data.set(view.lost.nodes.len() as u64);
        self.has_shortage.set(u64::from(view.shortage.is_some()));
        self.since_sync.set(since_sync.as_secs_f64());
        self.disk_wait.set(Duration::from_millis(view.disk_waits_ms).as_secs_f64());
    }
}
