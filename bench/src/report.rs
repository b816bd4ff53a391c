//! The report of `quorate bench put`: JSON with stable keys, and the same as a table for people.
//!
//! `docs/bench.md` documents every key with its unit and how it is measured; a test here keeps the two in step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::failures::{FailureCounts, FailureKind};
use crate::latency::{LatencyHistogram, LatencyUs, short_us};
use crate::load::{LoadOptions, LoadOutcome, PhaseOutcome};

/// Result of one run of puts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PutReport {
    /// Writes acknowledged within `seconds`.
    pub acknowledged: u64,
    /// Writes that failed within `seconds` or while the run ended, unknown outcomes included.
    pub errors: u64,
    /// `errors` by kind; kinds that did not occur are left out.
    pub errors_by_kind: BTreeMap<FailureKind, u64>,
    /// `acknowledged / seconds`.
    pub ops_per_s: f64,
    /// Latency of the acknowledged writes as the client sees it.
    pub latency_us: LatencyUs,
    /// Time measured.
    pub seconds: f64,
    /// Endpoints given.
    pub nodes: usize,
    /// Writes in flight.
    pub outstanding: usize,
    /// Connections they were spread over.
    pub connections: usize,
    /// Threads of the generator.
    pub threads: usize,
    /// Length of each value.
    pub value_bytes: usize,
    /// Keys the writes were spread over; 0 = every write has a key of its own.
    pub key_space: u64,
    /// Writes in flight at the end that were acknowledged after it; not in `acknowledged`.
    pub acknowledged_after_end: u64,
    /// Longest time without any acknowledgement.
    pub longest_pause_ms: f64,
    /// Processor time the generator's threads took for each write, all of them together; null if unknown.
    pub client_cpu_us_per_op: Option<f64>,
}

impl PutReport {
    /// Condenses a one-phase `outcome` of a load on `nodes` endpoints; `key_space` is 0 for unique keys.
    #[must_use]
    pub fn new(nodes: usize, key_space: u64, options: &LoadOptions, outcome: &LoadOutcome) -> Self {
        let mut failures = outcome.drain.failures.clone();
        outcome.phases.iter().for_each(|phase| failures.merge(&phase.failures));
        let measured = outcome.phases.first();
        let seconds = measured.map_or(0.0, |phase| phase.duration.as_secs_f64());
        let end_us = (seconds * 1e6) as u64;
        let pauses = outcome.timelines.iter().map(|timeline| timeline.longest_pause_us(0, end_us));
        Self {
            acknowledged: measured.map_or(0, PhaseOutcome::acknowledged_count),
            errors: failures.total(),
            errors_by_kind: failures.by_kind(),
            ops_per_s: tenths(measured.map_or(0.0, PhaseOutcome::ops_per_s)),
            latency_us: measured.map(|phase| phase.latency.percentiles()).unwrap_or_default(),
            seconds: (seconds * 1000.0).round() / 1000.0,
            nodes,
            outstanding: options.outstanding,
            connections: options.connections,
            threads: options.threads,
            value_bytes: options.value_bytes,
            key_space,
            acknowledged_after_end: outcome.drain.acknowledged_count(),
            longest_pause_ms: pauses.max().unwrap_or(0) as f64 / 1000.0,
            client_cpu_us_per_op: cpu_us_per_op(outcome),
        }
    }

    /// The report for people: table, distribution, and what went wrong.
    #[must_use]
    pub fn text(&self, latency: &LatencyHistogram, failures: &FailureCounts) -> String {
        let mut table = new_table();
        table.add_row(vec!["acknowledged".to_owned(), grouped(self.acknowledged)]);
        table.add_row(vec!["errors".to_owned(), grouped(self.errors)]);
        table.add_row(vec!["writes per second".to_owned(), grouped(self.ops_per_s.round() as u64)]);
        add_latency_rows(&mut table, &self.latency_us);
        table.add_row(vec!["longest pause".to_owned(), format!("{:.0} ms", self.longest_pause_ms)]);
        if let Some(cpu_us) = self.client_cpu_us_per_op {
            table.add_row(vec!["client CPU per write".to_owned(), format!("{cpu_us:.2} us")]);
        }
        let keys = match self.key_space {
            0 => "unique keys".to_owned(),
            key_space => format!("{} random keys", grouped(key_space)),
        };
        let mut text = format!(
            "put of {}-byte values, {keys}: {} outstanding over {} connections, {:.1} s\n{table}\n",
            self.value_bytes, self.outstanding, self.connections, self.seconds
        );
        let bars = latency.bars();
        if !bars.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\nlatency\n{bars}");
        }
        for line in failures.lines() {
            let _ = writeln!(text, "error: {line}");
        }
        text
    }
}

/// Processor time of the load's threads per acknowledged write, in microseconds.
#[must_use]
pub fn cpu_us_per_op(outcome: &LoadOutcome) -> Option<f64> {
    let phases = outcome.phases.iter().chain([&outcome.drain]);
    let acknowledged: u64 = phases.map(PhaseOutcome::acknowledged_count).sum();
    let cpu = outcome.cpu.filter(|_| acknowledged > 0)?;
    Some((cpu.as_secs_f64() * 1e8 / acknowledged as f64).round() / 100.0)
}

/// A table of names and right-aligned figures, as all reports use it.
#[must_use]
pub fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(vec!["", "result"]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Adds one row for each percentile.
pub fn add_latency_rows(table: &mut Table, latency: &LatencyUs) {
    let rows = [
        ("latency p50", latency.p50),
        ("latency p90", latency.p90),
        ("latency p99", latency.p99),
        ("latency p99.9", latency.p999),
        ("latency max", latency.max),
    ];
    for (name, value_us) in rows {
        table.add_row(vec![name.to_owned(), short_us(value_us)]);
    }
}

/// A number with its thousands set apart: `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `value` rounded to one decimal, as rates are reported.
#[must_use]
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::acks::LoadWrites;
    use crate::keys::KeyPlan;
    use crate::timeline::Timeline;

    fn outcome() -> LoadOutcome {
        let phase = |latencies_us: std::ops::Range<u64>, duration| {
            let mut latency = LatencyHistogram::new().expect("constant bounds");
            latencies_us.for_each(|latency_us| latency.record(Duration::from_micros(latency_us)));
            PhaseOutcome { duration, failures: FailureCounts::default(), latency }
        };
        let mut timeline = Timeline::default();
        [0, 900, 41_500, 42_000, 100_000, 1_999_000].iter().for_each(|&at_us| timeline.record(at_us));
        let mut outcome = LoadOutcome {
            phases: vec![phase(1..1001, Duration::from_secs(2))],
            drain: phase(1..11, Duration::from_millis(5)),
            timelines: vec![timeline],
            writes: LoadWrites::default(),
            cpu: Some(Duration::from_micros(2020)),
        };
        outcome.phases[0].failures.record(FailureKind::Unavailable, &"no leader");
        outcome.drain.failures.record(FailureKind::Unknown, &"closed");
        outcome
    }

    fn options() -> LoadOptions {
        let keys = KeyPlan::Random { key_space: 100 };
        LoadOptions { outstanding: 64, connections: 4, threads: 1, value_bytes: 256, keys, seed: 1, phases: 1 }
    }

    #[test]
    fn figures_come_from_the_measured_time() {
        let report = PutReport::new(3, 100, &options(), &outcome());
        assert_eq!((report.acknowledged, report.acknowledged_after_end, report.errors), (1000, 10, 2));
        assert_eq!((report.ops_per_s, report.seconds), (500.0, 2.0));
        assert_eq!(report.latency_us, LatencyUs { p50: 500, p90: 900, p99: 990, p999: 999, max: 1000 });
        assert_eq!(report.longest_pause_ms, 1899.0);
        assert_eq!(report.client_cpu_us_per_op, Some(2.0));
    }

    #[test]
    fn json_keys_are_the_documented_ones() {
        let report = PutReport::new(3, 100, &options(), &outcome());
        let json = serde_json::to_value(&report).expect("plain values");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        let documentation = include_str!("../../docs/bench.md");
        for key in keys(&json) {
            assert!(documentation.contains(&format!("| `{key}` |")), "docs/bench.md misses {key}");
        }
        for key in ["acknowledged", "errors", "ops_per_s", "latency_us"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        let mut latency_keys = keys(&json["latency_us"]);
        latency_keys.sort();
        assert_eq!(latency_keys, ["max", "p50", "p90", "p99", "p999"]);
        assert_eq!(json["errors_by_kind"], serde_json::json!({"unknown": 1, "unavailable": 1}));
    }

    #[test]
    fn the_text_shows_figures_distribution_and_errors() {
        let outcome = outcome();
        let report = PutReport::new(3, 100, &options(), &outcome);
        let text = report.text(&outcome.phases[0].latency, &outcome.phases[0].failures);
        for part in ["1,000", "p99.9", "990 us", "error: 1 unavailable, the first: no leader", "100 random keys", "█"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        cases.iter().for_each(|&(number, text)| assert_eq!(grouped(number), text));
    }
}
