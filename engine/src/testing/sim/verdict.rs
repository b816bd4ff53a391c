//! How a run ended.

use std::fmt;

use super::marks;

/// A run in which every promise was kept.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Simulated time. Unit: us.
    pub simulated_us: u64,
    /// Events that were handled.
    pub events_count: u64,
    /// Operations of clients that were answered.
    pub answered_count: u64,
    /// Parts of answers, in front of the last ones.
    pub parts_count: u64,
    /// Operations whose outcome stayed unknown.
    pub unknown_count: u64,
    /// Operations that certainly took no effect.
    pub refused_count: u64,
    /// Elections won.
    pub leaders_count: u64,
    /// Entries committed.
    pub committed_count: u64,
    /// Faults injected, by name.
    pub faults: std::collections::BTreeMap<&'static str, u64>,
    /// Coverage marks that were reached, and by how many runs; all there are stand in `marks`.
    pub(super) marks: std::collections::BTreeMap<&'static str, u64>,
    /// Nodes that lost durable entries and got them back.
    pub repairs_count: u64,
    /// Histories of shards that were judged.
    pub judged_count: u64,
    /// Those of them that were too long for the search over all keys at once: judged key by key, and by revisions.
    pub given_up_count: u64,
}

impl Report {
    /// Every coverage mark, and how many runs reached it; the rarest first.
    #[must_use]
    pub fn marks(&self) -> Vec<(&'static str, u64)> {
        let mut counts: Vec<_> =
            marks::ALL.iter().map(|name| (*name, self.marks.get(name).copied().unwrap_or(0))).collect();
        counts.sort_by_key(|(_, runs_count)| *runs_count);
        counts
    }

    /// Adds another run's figures; the seed stays.
    pub fn add(&mut self, other: &Self) {
        self.simulated_us += other.simulated_us;
        self.events_count += other.events_count;
        self.answered_count += other.answered_count;
        self.parts_count += other.parts_count;
        self.unknown_count += other.unknown_count;
        self.refused_count += other.refused_count;
        self.leaders_count += other.leaders_count;
        self.committed_count += other.committed_count;
        self.repairs_count += other.repairs_count;
        self.judged_count += other.judged_count;
        self.given_up_count += other.given_up_count;
        for (&name, count) in &other.marks {
            *self.marks.entry(name).or_default() += count;
        }
        for (&name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }
}

/// A run in which a promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed: with the same source it fails again.
    pub seed: u64,
    /// When. Unit: us of simulated time.
    pub at_us: u64,
    /// What was promised and did not hold.
    pub what: String,
    /// The cluster's shape and the faults that were switched on.
    pub plan: String,
    /// What led to it.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} fails at {:.6} s: {}", self.seed, self.at_us as f64 / 1e6, self.what)
    }
}

impl std::error::Error for Failure {}
