//! The demo's result: JSON with stable keys, and the same as a table for people, ending with `lost: N`.
//!
//! `docs/bench.md` documents every key with its unit and how it is measured; a test here keeps the two in step.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bench::failures::FailureKind;
use bench::latency::LatencyUs;
use bench::load::{LoadOutcome, PhaseOutcome};
use bench::report::{add_latency_rows, cpu_us_per_op, grouped, new_table, tenths};
use bench::timeline::Timeline;
use serde::Serialize;

use crate::limits::DRAWING_COLUMNS;

/// Levels of the drawing, lowest first.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Phases of the demo's load, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// All nodes run; from the first write to the kill.
    AllUp,
    /// One node is dead; from the kill to its restart.
    OneDown,
    /// The restarted node catches up under load.
    CatchingUp,
    /// It has caught up; until the load ends.
    Recovered,
}

impl Phase {
    /// Number of phases.
    pub(super) const COUNT: usize = 4;

    fn of(self, outcome: &LoadOutcome) -> Option<&PhaseOutcome> {
        outcome.phases.get(self as usize)
    }

    fn ops_per_s(self, outcome: &LoadOutcome) -> f64 {
        tenths(self.of(outcome).map_or(0.0, PhaseOutcome::ops_per_s))
    }
}

/// How the demo was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) nodes: usize,
    pub(super) shards: u32,
    pub(super) cores: u32,
    pub(super) seconds: u64,
    pub(super) outstanding: usize,
    pub(super) connections: usize,
    pub(super) value_bytes: usize,
}

/// What was observed beside the load itself. Times since the load's origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) killed_at: Duration,
    pub(super) restarted_at: Duration,
    /// From the kill until another node said that it leads shard 0; None if none was seen before the restart.
    pub(super) election: Option<Duration>,
    /// From the restart until the node had caught up.
    pub(super) catchup: Duration,
    /// Whether it caught up while writes went on.
    pub(super) caught_up_under_load: bool,
    /// From the end of the load until all nodes had applied the same.
    pub(super) level: Duration,
    /// Name of the leader of each shard at the kill.
    pub(super) shard_leaders: Vec<String>,
    /// Acknowledged writes missing or wrong on any node, each counted once for the node that lacks most.
    pub(super) lost: u64,
    /// The same for each node.
    pub(super) lost_by_node: BTreeMap<String, u64>,
    /// Rows on any node that were refused, or never written.
    pub(super) unexpected: u64,
    /// Writes of unknown outcome that did take effect.
    pub(super) unknown_present: u64,
    pub(super) verify: Duration,
}

/// Result of the demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DemoReport {
    nodes: usize,
    seconds: u64,
    outstanding: usize,
    value_bytes: usize,
    acknowledged: u64,
    lost: u64,
    errors: u64,
    ops_per_s: f64,
    latency_us: LatencyUs,
    failover_pause_ms: u64,
    catchup_ms: u64,
    shards: u32,
    cores: u32,
    connections: usize,
    ops_per_s_one_down: f64,
    ops_per_s_catching_up: f64,
    ops_per_s_recovered: f64,
    ops_per_s_overall: f64,
    latency_overall_us: LatencyUs,
    acknowledged_by_shard: Vec<u64>,
    shard_leaders: Vec<String>,
    errors_by_kind: BTreeMap<FailureKind, u64>,
    unknown: u64,
    unknown_present: u64,
    unexpected: u64,
    lost_by_node: BTreeMap<String, u64>,
    killed_at_ms: u64,
    restarted_at_ms: u64,
    election_ms: Option<u64>,
    caught_up_under_load: bool,
    level_ms: u64,
    verify_ms: u64,
    client_cpu_us_per_op: Option<f64>,
}

impl DemoReport {
    pub(super) fn new(setup: &Setup, observed: &Observed, outcome: &LoadOutcome) -> Self {
        let measured: Duration = outcome.phases.iter().map(|phase| phase.duration).sum();
        let in_phases: u64 = outcome.phases.iter().map(PhaseOutcome::acknowledged_count).sum();
        let mut failures = outcome.drain.failures.clone();
        let mut latency = outcome.drain.latency.clone();
        for phase in &outcome.phases {
            failures.merge(&phase.failures);
            latency.merge(&phase.latency);
        }
        Self {
            nodes: setup.nodes,
            seconds: setup.seconds,
            outstanding: setup.outstanding,
            value_bytes: setup.value_bytes,
            acknowledged: outcome.writes.acknowledged_count(),
            lost: observed.lost,
            errors: failures.total(),
            ops_per_s: Phase::AllUp.ops_per_s(outcome),
            latency_us: Phase::AllUp.of(outcome).map(|phase| phase.latency.percentiles()).unwrap_or_default(),
            failover_pause_ms: failover_pause_ms(observed, outcome),
            catchup_ms: whole_ms(observed.catchup),
            shards: setup.shards,
            cores: setup.cores,
            connections: setup.connections,
            ops_per_s_one_down: Phase::OneDown.ops_per_s(outcome),
            ops_per_s_catching_up: Phase::CatchingUp.ops_per_s(outcome),
            ops_per_s_recovered: Phase::Recovered.ops_per_s(outcome),
            ops_per_s_overall: tenths(in_phases as f64 / measured.as_secs_f64().max(f64::MIN_POSITIVE)),
            latency_overall_us: latency.percentiles(),
            acknowledged_by_shard: outcome.timelines.iter().map(Timeline::total).collect(),
            shard_leaders: observed.shard_leaders.clone(),
            errors_by_kind: failures.by_kind(),
            unknown: outcome.writes.unknown_count(),
            unknown_present: observed.unknown_present,
            unexpected: observed.unexpected,
            lost_by_node: observed.lost_by_node.clone(),
            killed_at_ms: whole_ms(observed.killed_at),
            restarted_at_ms: whole_ms(observed.restarted_at),
            election_ms: observed.election.map(whole_ms),
            caught_up_under_load: observed.caught_up_under_load,
            level_ms: whole_ms(observed.level),
            verify_ms: whole_ms(observed.verify),
            client_cpu_us_per_op: cpu_us_per_op(outcome),
        }
    }

    /// The report for people. Its last line is `lost: N`.
    pub(super) fn text(&self, observed: &Observed, outcome: &LoadOutcome) -> String {
        let mut text = format!(
            "\n{} nodes, {} shard{}, {}-byte values, {} outstanding over {} connections, {} s\n",
            self.nodes,
            self.shards,
            if self.shards == 1 { "" } else { "s" },
            self.value_bytes,
            self.outstanding,
            self.connections,
            self.seconds
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\n", self.table());
        text.push_str(&drawing(observed, outcome));
        if let Some(phase) = Phase::AllUp.of(outcome) {
            let _ = write!(text, "\nlatency while all nodes ran\n{}", phase.latency.bars());
        }
        let mut failures = outcome.drain.failures.clone();
        outcome.phases.iter().for_each(|phase| failures.merge(&phase.failures));
        for line in failures.lines() {
            let _ = writeln!(text, "error: {line}");
        }
        let _ = write!(text, "\nlost: {}", self.lost);
        text
    }

    fn table(&self) -> comfy_table::Table {
        let rate = |ops_per_s: f64| grouped(ops_per_s.round() as u64);
        let mut table = new_table();
        let mut add = |name: &str, value: String| {
            table.add_row(vec![name.to_owned(), value]);
        };
        add("writes per second, all nodes up", rate(self.ops_per_s));
        add("writes per second, leader dead", rate(self.ops_per_s_one_down));
        add("writes per second, catching up", rate(self.ops_per_s_catching_up));
        add("writes per second, whole run", rate(self.ops_per_s_overall));
        if self.shards > 1 {
            for (shard, count) in self.acknowledged_by_shard.iter().enumerate() {
                let leader = self.shard_leaders.get(shard).map_or("?", String::as_str);
                add(&format!("acknowledged by shard {shard}, led by {leader}"), grouped(*count));
            }
        }
        add_latency_rows(&mut table, &self.latency_us);
        let mut add = |name: &str, value: String| {
            table.add_row(vec![name.to_owned(), value]);
        };
        add("writes paused at the failover", format!("{} ms", self.failover_pause_ms));
        add("catch-up after the restart", format!("{} ms", self.catchup_ms));
        add("errors", grouped(self.errors));
        add("of these of unknown outcome", format!("{} ({} took effect)", self.unknown, self.unknown_present));
        add("acknowledged", grouped(self.acknowledged));
        add("lost", grouped(self.lost));
        table
    }
}

/// Longest time without an acknowledgement by shard 0, whose leader was killed, between the kill and the restart.
fn failover_pause_ms(observed: &Observed, outcome: &LoadOutcome) -> u64 {
    let (from_us, to_us) = (whole_us(observed.killed_at), whole_us(observed.restarted_at));
    let pause_us = outcome.timelines.first().map_or(0, |timeline| timeline.longest_pause_us(from_us, to_us));
    pause_us / 1000
}

/// The rate over time, with the kill and the restart marked below.
fn drawing(observed: &Observed, outcome: &LoadOutcome) -> String {
    let mut all = Timeline::default();
    outcome.timelines.iter().for_each(|timeline| all.merge(timeline));
    let total: Duration = outcome.phases.iter().map(|phase| phase.duration).sum();
    let rates = all.rates(whole_us(total), DRAWING_COLUMNS);
    let peak = rates.iter().copied().fold(1.0, f64::max);
    let level = |rate: &f64| {
        let level = (rate / peak * (LEVELS.len() - 1) as f64).ceil() as usize;
        LEVELS.get(level).copied().unwrap_or('█')
    };
    let line: String = rates.iter().map(level).collect();
    let mut marks = vec![' '; rates.len() + 16];
    for (at, label) in [(observed.killed_at, "^killed"), (observed.restarted_at, "^restarted")] {
        let column = (at.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE) * rates.len() as f64) as usize;
        for (place, letter) in marks.iter_mut().skip(column).zip(label.chars()) {
            *place = letter;
        }
    }
    let marks: String = marks.into_iter().collect();
    format!("writes per second over time, at most {}\n{line}\n{}\n", grouped(peak as u64), marks.trim_end())
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn whole_us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bench::acks::{LoadWrites, WorkerWrites};
    use bench::failures::FailureCounts;
    use bench::latency::LatencyHistogram;

    use super::*;

    const SETUP: Setup =
        Setup { nodes: 3, shards: 1, cores: 1, seconds: 10, outstanding: 1000, connections: 4, value_bytes: 256 };

    /// Ten seconds at 1,000 writes a second but for a pause of 300 ms after the kill at 5 s.
    fn scenario() -> (Observed, LoadOutcome) {
        let seconds = [5, 2, 1, 2];
        let phase = |seconds: u64, count: u64| {
            let mut latency = LatencyHistogram::new().expect("constant bounds");
            (0..count).for_each(|_| latency.record(Duration::from_micros(700)));
            PhaseOutcome { duration: Duration::from_secs(seconds), failures: FailureCounts::default(), latency }
        };
        let mut phases: Vec<PhaseOutcome> = seconds.iter().map(|&seconds| phase(seconds, seconds * 1000)).collect();
        phases[1] = phase(2, 1700);
        phases[1].failures.record(FailureKind::Unknown, &"connection closed");
        let mut timeline = Timeline::default();
        let acknowledged = (0..10_000u64).filter(|at_ms| !(5000..5300).contains(at_ms));
        acknowledged.for_each(|at_ms| timeline.record(at_ms * 1000));
        let mut worker = WorkerWrites { sent_count: 9701, ..WorkerWrites::default() };
        (0..9700).for_each(|sequence| worker.acknowledged.push(sequence));
        worker.unknown.push(9700);
        let outcome = LoadOutcome {
            phases,
            drain: phase(0, 0),
            timelines: vec![timeline],
            writes: LoadWrites { workers: vec![worker] },
            cpu: None,
        };
        let observed = Observed {
            killed_at: Duration::from_secs(5),
            restarted_at: Duration::from_secs(7),
            catchup: Duration::from_millis(812),
            shard_leaders: vec!["n1".to_owned()],
            ..Observed::default()
        };
        (observed, outcome)
    }

    #[test]
    fn figures_are_those_of_their_phases() {
        let (observed, outcome) = scenario();
        let report = DemoReport::new(&SETUP, &observed, &outcome);
        assert_eq!((report.acknowledged, report.lost, report.errors, report.unknown), (9700, 0, 1, 1));
        assert_eq!((report.ops_per_s, report.ops_per_s_one_down, report.ops_per_s_overall), (1000.0, 850.0, 970.0));
        assert!(report.failover_pause_ms.abs_diff(300) <= 1, "{}", report.failover_pause_ms);
        assert_eq!(report.catchup_ms, 812);
    }

    #[test]
    fn json_keys_are_the_promised_and_documented_ones() {
        let (observed, outcome) = scenario();
        let json = serde_json::to_value(DemoReport::new(&SETUP, &observed, &outcome)).expect("plain values");
        let keys: Vec<&String> = json.as_object().expect("an object").keys().collect();
        let promised = "nodes seconds outstanding value_bytes acknowledged lost errors ops_per_s latency_us \
                        failover_pause_ms catchup_ms";
        for key in promised.split_ascii_whitespace() {
            assert!(keys.iter().any(|present| *present == key), "{key}");
        }
        let documentation = include_str!("../../../../docs/bench.md");
        for key in keys {
            assert!(documentation.contains(&format!("| `{key}` |")), "docs/bench.md misses {key}");
        }
    }

    #[test]
    fn the_text_tells_the_story_and_ends_with_what_was_lost() {
        let (observed, outcome) = scenario();
        let text = DemoReport::new(&SETUP, &observed, &outcome).text(&observed, &outcome);
        assert_eq!(text.lines().last(), Some("lost: 0"));
        for part in ["^killed", "^restarted", "9,700", "812 ms", "1 (0 took effect)", "error: 1 unknown"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
