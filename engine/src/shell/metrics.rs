//! Figures of a node for Prometheus: latency histograms that resolve 1 us, queue depths, Raft's state per shard.
//!
//! Shards fill in the figures from their own cores through atomics; any core renders them. The engine's decisions never
//! read them back. Names are documented in `docs/metrics.md`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use wal::LogStats;

use super::client_figures::ClientFigures;
use super::exposition::{self, Format};
use super::process_metrics::ProcessMetrics;
use super::standing_metrics::StandingMetrics;
use super::work::Work;
use crate::replica::{ReplicaStats, ReplicaView};
use crate::types::ShardId;

type UGauge = Gauge<u64, AtomicU64>;
type FGauge = Gauge<f64, AtomicU64>;

/// The gauge of the longest gap between two ticks.
fn longest_gap(registry: &mut Registry) -> FGauge {
    let gauge = FGauge::default();
    registry.register("tick_gap_own_max_seconds", "Longest of the times in tick_gap_own_seconds", gauge.clone());
    gauge
}

/// Raises a gauge that is never below zero: such numbers are in the order of their bits.
fn raise(gauge: &FGauge, value: Duration) {
    gauge.inner().fetch_max(value.as_secs_f64().to_bits(), Ordering::Relaxed);
}

/// Bucket bounds from 1 us to some 20 s, each at most half as large again as the one before. Unit: seconds.
fn latency_buckets() -> impl Iterator<Item = f64> {
    [1.0, 1.5].into_iter().flat_map(|step| (0..25).map(move |power| step * f64::from(1u32 << power) / 1e6)).sorted()
}

/// Sorting for the bucket bounds, which come in two interleaved series.
trait SortedF64: Iterator<Item = f64> + Sized {
    fn sorted(self) -> std::vec::IntoIter<f64> {
        let mut values: Vec<f64> = self.collect();
        values.sort_by(f64::total_cmp);
        values.into_iter()
    }
}

impl<I: Iterator<Item = f64>> SortedF64 for I {}

/// Figures of one shard on this node.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    commit_latency: Histogram,
    sync_latency: Histogram,
    apply_latency: Histogram,
    tick_gap: Histogram,
    tick_gap_own: Histogram,
    tick_gap_own_max: FGauge,
    is_leader: UGauge,
    term: UGauge,
    last_index: UGauge,
    persisted_index: UGauge,
    commit_index: UGauge,
    applied_index: UGauge,
    revision: UGauge,
    state_bytes: UGauge,
    pending_writes: UGauge,
    pending_reads: UGauge,
    relayed_requests: UGauge,
    writes_proposed: Counter,
    batches_closed: Counter,
    entries_applied: Counter,
    commands_applied: Counter,
    appends_without_room: Counter,
    appends_corrupt: Counter,
    refused_overloaded: Counter,
    answers_dropped: Counter,
    messages_refused: Counter,
    peer_frames_damaged: Counter,
    writes_queued: Counter,
    reads: ReadMetrics,
    leadership: LeadershipMetrics,
    log: LogMetrics,
    note_syncs: Counter,
    note_syncs_failed: Counter,
    /// How the shard stands.
    pub(super) standing: StandingMetrics,
}

/// Reads that were answered without being the leader's.
#[derive(Clone, Debug)]
struct ReadMetrics {
    at_follower: Counter,
    questions: Counter,
}

impl ReadMetrics {
    fn register(counter: &impl Fn(&str, &str) -> Counter) -> Self {
        Self {
            at_follower: counter(
                "reads_at_follower",
                "Linearizable reads answered from this node's own state while another one led, since the start",
            ),
            questions: counter("read_questions", "Questions to a leader about such reads, since the start"),
        }
    }

    fn update(&self, stats: &ReplicaStats) {
        self.at_follower.inner().store(stats.reads_at_follower, Ordering::Relaxed);
        self.questions.inner().store(stats.read_questions, Ordering::Relaxed);
    }
}

/// How often leadership changed hands here.
#[derive(Clone, Debug)]
struct LeadershipMetrics {
    hand_overs_begun: Counter,
    hand_overs_done: Counter,
    hand_overs_given_up: Counter,
    elections_won: Counter,
}

impl LeadershipMetrics {
    fn register(counter: &impl Fn(&str, &str) -> Counter) -> Self {
        Self {
            hand_overs_begun: counter(
                "hand_overs_begun",
                "Hand-overs of leadership that this node began as the leader, since the start",
            ),
            hand_overs_done: counter("hand_overs_done", "Those after which another node led, since the start"),
            hand_overs_given_up: counter("hand_overs_given_up", "Those that were given up, since the start"),
            elections_won: counter("elections_won", "Elections that this node won, since the start"),
        }
    }

    fn update(&self, stats: &ReplicaStats) {
        self.hand_overs_begun.inner().store(stats.hand_overs_begun, Ordering::Relaxed);
        self.hand_overs_done.inner().store(stats.hand_overs_done, Ordering::Relaxed);
        self.hand_overs_given_up.inner().store(stats.hand_overs_given_up, Ordering::Relaxed);
        self.elections_won.inner().store(stats.elections_won, Ordering::Relaxed);
    }
}

/// What a shard's log has done since the start.
#[derive(Clone, Debug)]
struct LogMetrics {
    bytes_appended: Counter,
    bytes_synced: Counter,
    entries_superseded: Counter,
    segments_begun: Counter,
    segments_dropped: Counter,
    segments_missed: Counter,
    syncs_failed: Counter,
}

impl LogMetrics {
    fn register(counter: &impl Fn(&str, &str) -> Counter) -> Self {
        Self {
            bytes_appended: counter("log_bytes_appended", "Bytes of frames appended to the log since the start"),
            bytes_synced: counter("log_bytes_synced", "Bytes of the log that syncs made durable since the start"),
            entries_superseded: counter(
                "log_entries_superseded",
                "Entries of the log that another leader's took the place of, since the start",
            ),
            segments_begun: counter("log_segments_begun", "Segments that the log moved on to since the start"),
            segments_dropped: counter("log_segments_dropped", "Segments dropped from the log's start since the start"),
            segments_missed: counter(
                "log_segments_missed",
                "Attempts to append that found the next segment not prepared yet, since the start",
            ),
            syncs_failed: counter(
                "log_syncs_failed",
                "Failed syncs of the log since the start; the first stops the shard",
            ),
        }
    }

    fn update(&self, stats: &LogStats) {
        self.bytes_appended.inner().store(stats.frames_bytes, Ordering::Relaxed);
        self.bytes_synced.inner().store(stats.synced_bytes, Ordering::Relaxed);
        self.entries_superseded.inner().store(stats.entries_superseded_count, Ordering::Relaxed);
        self.segments_begun.inner().store(stats.segments_activated_count, Ordering::Relaxed);
        self.segments_dropped.inner().store(stats.segments_dropped_count, Ordering::Relaxed);
        self.segments_missed.inner().store(stats.segment_not_ready_count, Ordering::Relaxed);
        self.syncs_failed.inner().store(stats.syncs_failed_count, Ordering::Relaxed);
    }
}

impl ShardMetrics {
    fn register(registry: &mut Registry, shard: ShardId) -> Self {
        let labels = [("shard".into(), shard.to_string().into())];
        let registry = registry.sub_registry_with_labels(labels.into_iter());
        let mut histogram = |name: &str, help: &str| {
            let histogram = Histogram::new(latency_buckets());
            registry.register(name, help, histogram.clone());
            histogram
        };
        let commit_latency =
            histogram("commit_latency_seconds", "Time from handing a batch to Raft until a quorum made it durable");
        let sync_latency = histogram("sync_latency_seconds", "Time of one sync of the log");
        let apply_latency = histogram("apply_latency_seconds", "Time of a turn that applied entries");
        let tick_gap = histogram("tick_gap_seconds", "Time between two ticks");
        let tick_gap_own = histogram(
            "tick_gap_own_seconds",
            "Time between two ticks without the time for which the core's thread waited for a processor",
        );
        let tick_gap_own_max = longest_gap(registry);
        let standing = StandingMetrics::register(registry);
        let registry = std::cell::RefCell::new(registry);
        let gauge = |name: &str, help: &str| {
            let gauge = UGauge::default();
            registry.borrow_mut().register(name, help, gauge.clone());
            gauge
        };
        let counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.borrow_mut().register(name, help, counter.clone());
            counter
        };
        Self {
            commit_latency,
            sync_latency,
            apply_latency,
            tick_gap,
            tick_gap_own,
            tick_gap_own_max,
            is_leader: gauge("raft_is_leader", "1 while this node leads the shard"),
            term: gauge("raft_term", "Current term"),
            last_index: gauge("raft_last_index", "Last entry in the log"),
            persisted_index: gauge("raft_persisted_index", "Last entry durable on this node's own disk"),
            commit_index: gauge("raft_commit_index", "Last entry known durable on a quorum"),
            applied_index: gauge("raft_applied_index", "Last entry applied to the state machine"),
            revision: gauge("revision", "Current MVCC revision"),
            state_bytes: gauge("state_bytes", "Estimated size of the state, compared with the quota"),
            pending_writes: gauge("pending_writes", "Writes that wait for a quorum"),
            pending_reads: gauge("pending_reads", "Linearizable reads that wait for a quorum"),
            relayed_requests: gauge("relayed_requests", "Requests that wait for the leader's answer"),
            writes_proposed: counter("writes_proposed", "Writes taken into a batch since the start"),
            batches_closed: counter("batches_closed", "Batches handed to Raft since the start"),
            entries_applied: counter("entries_applied", "Entries applied since the start"),
            commands_applied: counter("commands_applied", "Commands applied since the start"),
            appends_without_room: counter("appends_without_room", "AppendEntries not taken for want of room"),
            appends_corrupt: counter("appends_corrupt", "AppendEntries that failed a checksum, since the start"),
            refused_overloaded: counter("refused_overloaded", "Requests refused as overloaded since the start"),
            messages_refused: counter("messages_refused", "Messages of peers that made no sense, since the start"),
            peer_frames_damaged: counter("peer_frames_damaged", "Peers' connections closed for a frame"),
            writes_queued: counter("writes_queued", "Writes that waited for room in the log, since the start"),
            answers_dropped: counter(
                "answers_dropped",
                "Answers to relayed requests replaced by a refusal for want of room, since the start",
            ),
            reads: ReadMetrics::register(&counter),
            leadership: LeadershipMetrics::register(&counter),
            log: LogMetrics::register(&counter),
            note_syncs: counter("note_syncs", "Syncs of the note beside the log since the start"),
            note_syncs_failed: counter("note_syncs_failed", "Failed syncs of the note beside the log, since the start"),
            standing,
        }
    }

    /// A peer's connection was closed for a frame.
    pub(super) fn peer_frame_damaged(&self) {
        self.peer_frames_damaged.inc();
    }

    /// A batch took this long from being handed to Raft until a quorum had it durable.
    pub fn committed(&self, latency: Duration) {
        self.commit_latency.observe(latency.as_secs_f64());
    }

    /// A sync took this long.
    pub fn synced(&self, latency: Duration) {
        self.sync_latency.observe(latency.as_secs_f64());
    }

    /// A turn that applied entries took this long.
    pub fn applied(&self, latency: Duration) {
        self.apply_latency.observe(latency.as_secs_f64());
    }

    /// A tick came this long after the one before; for some of it the core's thread waited for a processor.
    pub fn ticked(&self, gap: Duration, waited: Duration) {
        self.tick_gap.observe(gap.as_secs_f64());
        let own = gap.saturating_sub(waited);
        self.tick_gap_own.observe(own.as_secs_f64());
        raise(&self.tick_gap_own_max, own);
    }

    /// Takes over the state of the replica.
    pub fn update(&self, view: &ReplicaView, stats: &ReplicaStats, log: &LogStats) {
        self.log.update(log);
        self.is_leader.set(u64::from(view.is_leader));
        self.term.set(view.term.get());
        self.last_index.set(view.last_index.get());
        self.persisted_index.set(view.persisted_index.get());
        self.commit_index.set(view.commit_index.get());
        self.applied_index.set(view.applied_index.get());
        self.revision.set(view.revision.get());
        self.state_bytes.set(view.state_bytes);
        self.pending_writes.set(view.pending_writes_count as u64);
        self.pending_reads.set(view.pending_reads_count as u64);
        self.relayed_requests.set(view.relayed_count as u64);
        self.writes_proposed.inner().store(stats.writes_proposed, Ordering::Relaxed);
        self.batches_closed.inner().store(stats.batches_closed, Ordering::Relaxed);
        self.entries_applied.inner().store(stats.entries_applied, Ordering::Relaxed);
        self.commands_applied.inner().store(stats.commands_applied, Ordering::Relaxed);
        self.appends_without_room.inner().store(stats.appends_without_room, Ordering::Relaxed);
        self.appends_corrupt.inner().store(stats.appends_corrupt, Ordering::Relaxed);
        self.refused_overloaded.inner().store(stats.refused_overloaded, Ordering::Relaxed);
        self.messages_refused.inner().store(stats.messages_refused, Ordering::Relaxed);
        self.writes_queued.inner().store(stats.writes_queued, Ordering::Relaxed);
        self.answers_dropped.inner().store(stats.answers_dropped, Ordering::Relaxed);
        self.reads.update(stats);
        self.leadership.update(stats);
        self.note_syncs.inner().store(stats.note_syncs, Ordering::Relaxed);
        self.note_syncs_failed.inner().store(stats.note_syncs_failed, Ordering::Relaxed);
    }
}

/// Lines that the process' log lost because nobody took them in time. Counted by whoever writes the log.
///
/// There is one standard error in a process, and so one count, however many nodes run in it.
pub fn log_lines_dropped() -> &'static Counter {
    static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);
    &DROPPED
}

/// The longest slices of a node's cores, by what they were spent on.
#[derive(Clone, Debug, Default)]
pub(super) struct SliceMetrics {
    longest: [FGauge; Work::ALL.len()],
}

impl SliceMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (work, gauge) in Work::ALL.into_iter().zip(&metrics.longest) {
            let registry = registry.sub_registry_with_label(("work".into(), work.name().into()));
            let help = "Longest slice of work on a core, without the time for which its thread waited for a processor";
            registry.register("slice_own_max_seconds", help, gauge.clone());
        }
        metrics
    }

    /// A core spent so long on this, longer than ever before.
    pub(super) fn longest(&self, work: Work, took: Duration) {
        raise(&self.longest[work as usize], took);
    }
}

/// All figures of a node.
#[derive(Debug)]
pub struct NodeMetrics {
    registry: Registry,
    shards: Vec<ShardMetrics>,
    slices: SliceMetrics,
    /// Open client connections.
    pub client_connections: UGauge,
    /// Client connections that were not taken: there was no place, or what they said at first was not what a client says.
    pub connections_refused: Counter,
    /// Idle client connections closed because newer ones needed their place.
    pub connections_made_room: Counter,
    /// The same of probes.
    pub probes_made_room: Counter,
    /// Client connections closed because a frame was damaged.
    pub client_frames_damaged: Counter,
    /// Connections to the peer port that were not taken.
    pub peer_connections_refused: Counter,
    /// What clients were told instead of what they asked for.
    pub(super) clients: ClientFigures,
    /// Answers that were dropped on their way from one core to another.
    pub core_answers_dropped: Counter,
    /// Bytes of answers that wait until clients take them.
    pub(super) client_answer_bytes: UGauge,
    /// Reads that were held back until their clients took answers.
    pub(super) client_reads_held_back: Counter,
    /// Client connections closed because their answers were not taken while others needed the room.
    pub(super) client_connections_slow: Counter,
}

impl NodeMetrics {
    /// Registers the figures of a node with `shard_count` shards.
    #[must_use]
    pub fn new(shard_count: u32) -> Arc<Self> {
        let mut whole = Registry::default();
        whole.register_collector(Box::new(ProcessMetrics));
        let registry = whole.sub_registry_with_prefix("quorate");
        let built = registry.sub_registry_with_label(("version".into(), env!("CARGO_PKG_VERSION").into()));
        let is_built = UGauge::default();
        is_built.set(1);
        built.register("build_info", "1, with the version of this build", is_built);
        let shards = (0..shard_count).map(|shard| ShardMetrics::register(registry, ShardId::new(shard))).collect();
        let slices = SliceMetrics::register(registry);
        let clients = ClientFigures::register(registry);
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let connections_refused =
            counter("client_connections_refused", "Connections to the client port that were not taken");
        let connections_made_room = counter(
            "client_connections_made_room",
            "Idle client connections closed because newer ones needed their place",
        );
        let probes_made_room =
            counter("probe_connections_made_room", "HTTP connections closed because newer ones needed their place");
        let client_frames_damaged =
            counter("client_frames_damaged", "Client connections closed because what they sent was no sound frame");
        let peer_connections_refused =
            counter("peer_connections_refused", "Connections to the peer port that were not taken");
        let core_answers_dropped = counter(
            "core_answers_dropped",
            "Answers replaced by a refusal because too many bytes of answers were on their way between cores",
        );
        let client_reads_held_back =
            counter("client_reads_held_back", "Reads that were held back until their clients took answers to others");
        let client_connections_slow = counter(
            "client_connections_slow",
            "Client connections closed because their answers were not taken while others needed the room",
        );
        let client_connections = UGauge::default();
        registry.register("client_connections", "Open client connections", client_connections.clone());
        let client_answer_bytes = UGauge::default();
        registry.register(
            "client_answer_bytes",
            "Bytes of answers that wait until clients take them",
            client_answer_bytes.clone(),
        );
        let dropped = log_lines_dropped().clone();
        registry.register("log_lines_dropped", "Log lines lost because nobody took them in time", dropped);
        Arc::new(Self {
            registry: whole,
            shards,
            slices,
            client_connections,
            connections_refused,
            connections_made_room,
            probes_made_room,
            client_frames_damaged,
            peer_connections_refused,
            clients,
            core_answers_dropped,
            client_answer_bytes,
            client_reads_held_back,
            client_connections_slow,
        })
    }

    /// The figures of one shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> ShardMetrics {
        self.shards[shard.get() as usize].clone()
    }

    /// The figures of slices, which all cores share.
    #[must_use]
    pub(super) fn slices(&self) -> SliceMetrics {
        self.slices.clone()
    }

    /// All figures in a text format.
    ///
    /// # Errors
    /// Formatting failed, which a `String` does not do.
    pub(super) fn render(&self, format: Format) -> Result<(Format, String), fmt::Error> {
        let mut written = String::new();
        encode(&mut written, &self.registry)?;
        Ok((format, exposition::write(&written, format)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_buckets_ascend_and_resolve_one_microsecond() {
        let buckets: Vec<f64> = latency_buckets().collect();
        assert!(buckets.is_sorted() && buckets[0] == 1e-6 && buckets[1] == 1.5e-6, "{buckets:?}");
        assert!(buckets[buckets.len() - 1] > 10.0);
    }

    /// The document lists exactly what is there.
    #[test]
    fn every_figure_is_documented() {
        let document = include_str!("../../../docs/metrics.md");
        let text = NodeMetrics::new(1).render(Format::OpenMetrics).expect("rendered").1;
        let of_type = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        let rendered: std::collections::BTreeSet<String> = text.lines().filter_map(of_type).collect();
        // Other tables explain labels.
        let of_row = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
        let is_figure = |name: &String| name.starts_with("quorate_") || name.starts_with("process_");
        let documented: std::collections::BTreeSet<String> =
            document.lines().filter_map(of_row).filter(is_figure).collect();
        assert_eq!(rendered, documented);
    }

    /// A collector of figures takes each one once, with its help, and names end with the base unit.
    #[test]
    fn a_parser_of_the_older_format_finds_every_figure_described_once() {
        let metrics = NodeMetrics::new(3);
        metrics.shard(ShardId::new(2)).synced(Duration::from_micros(120));
        let text = metrics.render(Format::Text).expect("rendered").1;
        let described = |word: &str| -> Vec<String> {
            let of_line = |line: &str| Some(line.strip_prefix(word)?.split(' ').next()?.to_owned());
            text.lines().filter_map(of_line).collect()
        };
        let (helps, types) = (described("# HELP "), described("# TYPE "));
        assert_eq!(helps, types);
        let once: std::collections::BTreeSet<&String> = types.iter().collect();
        assert_eq!(once.len(), types.len(), "{types:?}");
        let parsed =
            prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("a sound text");
        for sample in &parsed.samples {
            let is_described = matches!(
                sample.value,
                prometheus_parse::Value::Counter(_)
                    | prometheus_parse::Value::Gauge(_)
                    | prometheus_parse::Value::Histogram(_)
            );
            let is_part = ["_sum", "_count"].iter().any(|part| sample.metric.ends_with(part));
            assert!(is_described || is_part, "{sample:?}");
            assert!(!sample.metric.contains("microseconds") && !sample.metric.contains("milliseconds"), "{sample:?}");
        }
        assert!(parsed.samples.len() > 3 * 20, "{}", parsed.samples.len());
    }

    #[test]
    fn a_shard_renders_under_its_label() {
        let metrics = NodeMetrics::new(2);
        metrics.shard(ShardId::new(1)).synced(Duration::from_micros(120));
        let text = metrics.render(Format::OpenMetrics).expect("rendered").1;
        assert!(text.contains("quorate_sync_latency_seconds_count{shard=\"1\"} 1"), "{text}");
        assert!(text.contains("quorate_raft_term{shard=\"0\"} 0"), "{text}");
    }

    #[test]
    fn the_longest_slice_of_a_kind_stays() {
        let metrics = NodeMetrics::new(1);
        let (one_core, another) = (metrics.slices(), metrics.slices());
        one_core.longest(Work::Apply, Duration::from_micros(70));
        another.longest(Work::Apply, Duration::from_micros(30));
        let text = metrics.render(Format::OpenMetrics).expect("rendered").1;
        assert!(text.contains("quorate_slice_own_max_seconds{work=\"apply\"} 0.00007"), "{text}");
        assert!(text.contains("quorate_slice_own_max_seconds{work=\"read\"} 0.0"), "{text}");
    }
}
