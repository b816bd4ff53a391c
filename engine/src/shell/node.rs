//! A node: checks the host, opens the data, starts the cores, stops them.
//!
//! `Node::start` blocks until the node listens; everything that can be wrong is found before anything is touched, as far as
//! that is possible. The `Handle` proposes and reads from any thread, without a socket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use wal::repair::{Repair, open_or_salvage};
use wal::{Log, LogOptions, RecoveryReport, SegmentIdentity};

use super::Device;
use super::callers::Callers;
use super::core::Shared;
use super::cores::Cores;
use super::data_dir::DataDir;
use super::helpers::Helpers;
use super::limits::{
    APPEND_BYTES_LIMIT, APPLY_BYTES_PER_TURN, APPLY_KEYS_PER_TURN, BATCH_BYTES_TARGET, CONN_LASTING_MAX,
    CORE_LASTING_MAX, CORE_WAITING_MAX, HANDLE_MARGIN_MS_MAX, HANDLE_MARGIN_SHARE, INFLIGHT_BYTES_LIMIT,
    INFLIGHT_MESSAGES_LIMIT, NOTE_BUSY_MS, NOTE_IDLE_MS, PART_BYTES_MAX, PENDING_READS_LIMIT, PENDING_WRITES_LIMIT,
    PIPELINE_BATCHES_LIMIT, QUEUED_WRITE_BYTES_LIMIT, RELAYED_LIMIT, TICK_MS, TIMEOUT_MS_MAX, UNCOMMITTED_BYTES_LIMIT,
};
use super::metrics::NodeMetrics;
use super::names::Names;
use super::origin::Found;
use super::preflight;
use super::room::Room;
use super::roster::Roster;
use super::shard::ShardParts;
pub use super::start_error::StartError;
use super::status::StatusBoard;
use super::steps::Steps;
pub use super::stop_error::StopError;
use crate::call::{Call, CallKind, Meta, Refusal};
use crate::config::{ClusterState, ValidConfig};
use crate::desk::DeskLimits;
use crate::directory::Identity;
use crate::limits::{ANSWER_HEADS_BYTES, COMMAND_ANSWER_BYTES_LIMIT, RANGE_BYTES_LIMIT};
use crate::raft;
use crate::replica::{ReadingLimits, RepairOptions, Replica, ReplicaOptions};
use crate::state_machine;
use crate::types::{NodeId, ShardId};
use api::command;
use api::status::ShardStatus;

/// A running node. Dropping it stops it.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    cores: Cores,
}

/// Proposes to a node of this process and reads from it. Clones share it; any thread may use it.
#[derive(Clone, Debug)]
pub struct Handle {
    callers: Callers,
    board: StatusBoard,
    config: Arc<ValidConfig>,
}

impl Node {
    /// Starts a node and returns once it serves its ports. Blocks; do not call it on an async executor.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn start(config: ValidConfig) -> Result<Self, StartError> {
        let steps = Steps::default();
        let _watch = steps.watch().map_err(|source| StartError::Watch { source })?;
        steps.enter("checking the limits of this host and io_uring");
        let room = preflight::check_host(&config)?;
        if config.pin_cores() {
            preflight::check_pinning(config.cores() as usize)?;
        }
        let mut ports = Vec::new();
        for address in config.listen_client() {
            steps.enter(format!("looking whether {address} is free for clients"));
            ports.push(preflight::take_address(*address, "clients")?);
        }
        for address in config.listen_peer() {
            steps.enter(format!("looking whether {address} is free for peers"));
            ports.push(preflight::take_address(*address, "peers")?);
        }
        let mut node = Self::start_checked(config, room, &steps)?;
        node.cores.hold(ports);
        Ok(node)
    }

    /// Starts a node on a host whose limits and addresses were found to be good.
    fn start_checked(config: ValidConfig, room: Room, steps: &Steps) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let metrics = NodeMetrics::new(config.shards());
        let (shards, data_dir) = open_shards(&config, &metrics, steps)?;
        let board = StatusBoard::new(config.name(), config.node_id(), config.shards());
        board.set_names(Names::of_members(&config));
        if let Some(url) = config.advertise_client().first() {
            board.note_client_url(config.node_id(), &url.to_string());
        }
        let shared = Shared {
            limits: gateway_limits(&config),
            room,
            connections: Arc::default(),
            probes: Arc::default(),
            waiting: Arc::new(AtomicU64::new(0)),
            resolver: net::shell::Resolver::of_system(),
            metrics,
            board: board.clone(),
            config: Arc::clone(&config),
            roster: Roster::new(shards.iter().map(|shard| shard.replica.other_members())),
            helpers: Helpers::default(),
        };
        let serving = Arc::clone(&config);
        let handle = Handle { callers: Callers::default(), board, config };
        let cores = Cores::start(&shared, shards, handle.callers.clone(), data_dir, steps).map_err(StartError::Core)?;
        tell_serving(&serving);
        Ok(Self { handle, cores })
    }

    /// Proposes and reads without a socket.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops the node: leaderships are handed over, what waits is refused, and every thread has ended on return, with its sockets, files
    /// and mappings. The same program can start the node again at once. Blocks; do not call it on an async executor.
    ///
    /// # Errors
    /// Something did not end in order; what of the node is left then.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.cores.join()
    }
}

/// Says with which settings a node starts. What proves the cluster in the handshake is not among them.
fn tell_settings(config: &ValidConfig) {
    let members: Vec<String> = config.members().iter().map(|member| member.name.clone()).collect();
    let urls = |urls: &[crate::config::Url]| urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = config.name(),
        node = %config.node_id(),
        members = members.join(","),
        data_dir = %config.data_dir().display(),
        advertise_client_urls = urls(config.advertise_client()),
        cores = config.cores(),
        shards = config.shards(),
        heartbeat_interval_ms = config.heartbeat_interval_ms(),
        election_timeout_ms = config.election_timeout_ms(),
        segment_bytes = config.segment_bytes(),
        quota_backend_bytes = config.limits().quota_bytes,
        "starting"
    );
}

/// Says where the node listens, once it does.
fn tell_serving(config: &ValidConfig) {
    let list =
        |addresses: &[std::net::SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    tracing::info!(clients = list(config.listen_client()), peers = list(config.listen_peer()), "listening");
}

impl Handle {
    /// Proposes an encoded command to the shard that owns its keys and waits until it is applied, for as long as `timeout`, whatever the
    /// node does meanwhile. After a stop it is refused at once.
    ///
    /// # Errors
    /// Why not, and whether it can still take effect.
    pub async fn propose(&self, shard: ShardId, command: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, Refusal> {
        self.ask(shard, CallKind::Write, command, timeout).await
    }

    /// Reads with an encoded range request; linearizable.
    ///
    /// # Errors
    /// Why not.
    pub async fn read(&self, shard: ShardId, range: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, Refusal> {
        self.ask(shard, CallKind::Read, range, timeout).await
    }

    /// Reads with an encoded range request from what this node has applied, however old.
    ///
    /// # Errors
    /// Why not.
    pub async fn read_serializable(
        &self,
        shard: ShardId,
        range: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Refusal> {
        self.ask(shard, CallKind::ReadSerializable, range, timeout).await
    }

    /// What the node's shards show of themselves.
    #[must_use]
    pub fn status(&self) -> Vec<ShardStatus> {
        self.board.statuses()
    }

    /// This node serves reads and writes of every shard.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        self.board.ready()
    }

    /// The node's settings.
    #[must_use]
    pub fn config(&self) -> &ValidConfig {
        &self.config
    }

    async fn ask(
        &self,
        shard: ShardId,
        kind: CallKind,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Refusal> {
        // The node has a little less: what it says of a call whose time is over is more exact than what can be said here.
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).min(TIMEOUT_MS_MAX);
        let timeout_ms = (timeout_ms - (timeout_ms / HANDLE_MARGIN_SHARE).min(HANDLE_MARGIN_MS_MAX)).max(1);
        let call = Call { meta: Meta { shard, timeout_ms, sender: None }, kind, payload: payload.into() };
        self.callers.ask(call, timeout).await
    }
}

fn command_limits(config: &ValidConfig) -> command::Limits {
    let limits = config.limits();
    command::Limits { request_bytes: limits.request_bytes, txn_ops: limits.txn_ops, shard_count: config.shards() }
}

pub(super) fn gateway_limits(config: &ValidConfig) -> DeskLimits {
    let limits = config.limits();
    DeskLimits {
        command: command_limits(config),
        shard_count: config.shards(),
        requests_per_connection: limits.requests_per_connection,
        lasting_per_connection: CONN_LASTING_MAX,
        queued_bytes: limits.queued_bytes,
        requests: CORE_WAITING_MAX,
        lasting: CORE_LASTING_MAX,
    }
}

/// Opens every shard's log, and makes the first segment of new ones.
pub(super) fn open_shards(
    config: &ValidConfig,
    metrics: &NodeMetrics,
    steps: &Steps,
) -> Result<(Vec<ShardParts>, DataDir), StartError> {
    let (cluster, node) = (config.cluster_id(), config.node_id());
    let wanted = Identity::new(cluster, node, config.name(), config.shards(), config.segment_bytes());
    let joins_existing =
        config.initial_cluster_state() == ClusterState::Existing && !DataDir::has_member(config.data_dir());
    if joins_existing && !membership(config).can_repair(config.node_id()) {
        return Err(StartError::NoMember { dir: config.data_dir().to_owned() });
    }
    steps.enter(format!("opening data directory {}", config.data_dir().display()));
    let data_dir = DataDir::open(config.data_dir(), &wanted)?;
    // Whoever cannot start says so in one line; from here on little is left that can fail.
    tell_settings(config);
    let opened = (0..config.shards()).map(ShardId::new).map(|shard| {
        steps.enter(format!("reading the log of shard {shard} in {}", data_dir.wal_dir(shard).display()));
        open_shard(config, &data_dir, shard, joins_existing, metrics)
    });
    match opened.collect::<Result<Vec<_>, _>>() {
        Ok(shards) => Ok((shards, data_dir)),
        Err(error) => {
            data_dir.discard();
            Err(error)
        }
    }
}

fn open_shard(
    config: &ValidConfig,
    data_dir: &DataDir,
    shard: ShardId,
    joins_existing: bool,
    metrics: &NodeMetrics,
) -> Result<ShardParts, StartError> {
    let started = Instant::now();
    let wal_dir = data_dir.wal_dir(shard);
    let identity = SegmentIdentity {
        cluster_id: config.cluster_id().get(),
        node_id: config.node_id().get(),
        shard: shard.get(),
        shard_count: config.shards(),
    };
    let segment_bytes = config.segment_bytes();
    let [seed, relay_id_floor, nonce, incarnation, hash_seed] =
        wal::files::random_numbers().map_err(|source| StartError::Random { source })?;
    // Nothing keeps state beside the log yet: it is all in there.
    let options =
        LogOptions { identity, segment_bytes, state: crate::types::EntryId::ZERO, state_lineage: wal::Lineage::START };
    let found = Found {
        shard,
        wal_dir: &wal_dir,
        log: options,
        is_ready: data_dir.is_ready(),
        has_no_log: data_dir.is_new_log(shard)?,
        founds_alone: membership(config).voters() == [config.node_id()],
        joins_existing,
        incarnation,
    };
    let birth = found.settle()?;
    let (log, report, repair) = open_log(config, shard, &wal_dir, options)?;
    // Whatever else lies beside it: a directory that was in use and has no segment has lost its log.
    if data_dir.is_ready() && report.segments_count == 0 && repair.is_none() {
        return Err(StartError::LogGone { shard, dir: wal_dir });
    }
    tracing::info!(
        shard = shard.get(),
        segments = report.segments_count,
        entries = report.entries_count,
        last_index = report.last.index.get(),
        last_term = report.last.term.get(),
        term = report.hard_state.term.get(),
        end_bytes = report.end.get(),
        is_torn = report.tail != wal::Tail::Clean,
        elapsed_ms = started.elapsed().as_millis() as u64,
        "log opened"
    );
    if let Some(segment) = report.unused_from {
        tracing::warn!(shard = shard.get(), %segment, "segments from this one on were damaged or missing; they held nothing and are prepared anew");
    }
    let mut options = replica_options(config, shard);
    options.raft.seed = seed;
    options.machine.hash_seed = hash_seed;
    options.birth = birth;
    options.raft.life = nonce.max(1);
    // Numbers are counted up from here; half of all is left.
    options.relay_id_floor = relay_id_floor >> 1;
    options.repair = repair.map(|repair| {
        let damage = repair.damage;
        tracing::error!(shard = shard.get(), %damage, "the log lost durable entries; this node gets them back from the others");
        RepairOptions { nonce, hard_state_is_certain: repair.hard_state_is_certain, damage }
    });
    let replica = Replica::new(options, log);
    let metrics = metrics.shard(shard);
    let names = Names::of_members(config);
    let tick_ms = tick_ms(config);
    Ok(ShardParts { id: shard, replica, wal_dir, identity, segment_bytes, metrics, tick_ms, names })
}

type OpenLog = (Log<Device>, RecoveryReport, Option<Repair>);

/// Opens a log; a damaged one is repaired, if the other nodes are a quorum that it can be repaired from.
fn open_log(config: &ValidConfig, shard: ShardId, wal_dir: &Path, options: LogOptions) -> Result<OpenLog, StartError> {
    if membership(config).can_repair(config.node_id()) {
        let opened = open_or_salvage(wal_dir, options).map_err(|source| StartError::Repair { shard, source })?;
        return Ok((opened.log, opened.report, opened.repair));
    }
    let storage = Device::open(wal_dir).map_err(|source| StartError::Files { shard, source })?;
    let (log, report) = Log::open(storage, options).map_err(|source| StartError::Log { shard, source })?;
    Ok((log, report, None))
}

fn membership(config: &ValidConfig) -> raft::Membership {
    raft::Membership::new(config.members().iter().map(|member| member.id).collect())
}

fn tick_ms(config: &ValidConfig) -> u64 {
    TICK_MS.min(config.heartbeat_interval_ms())
}

/// The answer to a transaction has room for a range, and for a value of any size beside it.
fn answer_bytes_limit(config: &ValidConfig) -> u32 {
    let with_range_bytes =
        config.limits().request_bytes.saturating_add((RANGE_BYTES_LIMIT + ANSWER_HEADS_BYTES) as u64);
    u32::try_from(with_range_bytes.max(COMMAND_ANSWER_BYTES_LIMIT as u64)).unwrap_or(u32::MAX)
}

/// All but the numbers that each life has of its own.
pub(super) fn replica_options(config: &ValidConfig, shard: ShardId) -> ReplicaOptions {
    let tick_ms = tick_ms(config);
    let ticks = |ms: u64| u32::try_from(ms.div_ceil(tick_ms)).unwrap_or(u32::MAX);
    let founders: Vec<NodeId> = config.members().iter().map(|member| member.id).collect();
    // Leaders of several shards spread over the nodes; with one shard whoever is elected may stay.
    let spread = config.shards() > 1 && founders.len() > 1;
    let preferred_leader = spread.then(|| founders[shard.get() as usize % founders.len()]);
    ReplicaOptions {
        raft: raft::Config {
            id: config.node_id(),
            founders,
            election_ticks: ticks(config.election_timeout_ms()),
            heartbeat_ticks: ticks(config.heartbeat_interval_ms()),
            inflight_messages_limit: INFLIGHT_MESSAGES_LIMIT,
            inflight_bytes_limit: INFLIGHT_BYTES_LIMIT,
            append_bytes_limit: APPEND_BYTES_LIMIT,
            life: 0,
            seed: 0,
            preferred_leader,
        },
        machine: state_machine::Options::default(),
        answer_bytes_limit: answer_bytes_limit(config),
        pipeline_batches_limit: PIPELINE_BATCHES_LIMIT,
        batch_bytes_target: BATCH_BYTES_TARGET,
        pending_writes_limit: PENDING_WRITES_LIMIT,
        pending_reads_limit: PENDING_READS_LIMIT,
        relayed_limit: RELAYED_LIMIT,
        quota_bytes: config.limits().quota_bytes,
        uncommitted_bytes_limit: UNCOMMITTED_BYTES_LIMIT,
        queued_write_bytes_limit: QUEUED_WRITE_BYTES_LIMIT,
        command: command_limits(config),
        apply_bytes_per_turn: APPLY_BYTES_PER_TURN,
        apply_keys_per_turn: APPLY_KEYS_PER_TURN,
        reading: ReadingLimits::default(),
        slow_disk_ticks: config.slow_disk_handover_ms().div_ceil(tick_ms),
        note_idle_ticks: u64::from(ticks(NOTE_IDLE_MS)),
        note_busy_ticks: u64::from(ticks(NOTE_BUSY_MS)),
        relay_id_floor: 0,
        part_bytes_max: PART_BYTES_MAX,
        tick_ms,
        repair: None,
        birth: raft::BirthRecord::default(),
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "cycles_tests.rs"]
mod cycles;
