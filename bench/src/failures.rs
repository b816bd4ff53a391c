//! Writes that were not acknowledged, counted by what the client library said about them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What kind of failure a write met. The name of each is its key in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The write left and no answer came: it may or may not have taken effect.
    Unknown,
    /// No node could take the write (no leader, no majority, none reachable); it took no effect.
    Unavailable,
    /// The cluster was full and said so; it took no effect.
    Overloaded,
    /// The cluster had nothing final to say within the request's time; it took no effect.
    TimedOut,
    /// The cluster refused the write itself, for example over a limit; it took no effect.
    Refused,
}

impl FailureKind {
    /// The key of this kind in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureTally {
    /// How many.
    pub count: u64,
    /// Message of the first.
    pub example: String,
}

/// Failures by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts {
    tallies: BTreeMap<FailureKind, FailureTally>,
}

impl FailureCounts {
    /// Counts one failure; `message` is written out for the first of its kind alone.
    pub fn record(&mut self, kind: FailureKind, message: &dyn fmt::Display) {
        let tally = self.tallies.entry(kind).or_insert_with(|| FailureTally { count: 0, example: message.to_string() });
        tally.count += 1;
    }

    /// Adds the failures of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (kind, tally) in &other.tallies {
            self.tallies.entry(*kind).and_modify(|own| own.count += tally.count).or_insert_with(|| tally.clone());
        }
    }

    /// Failures of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tallies.values().map(|tally| tally.count).sum()
    }

    /// Failures of `kind`.
    #[must_use]
    pub fn count(&self, kind: FailureKind) -> u64 {
        self.tallies.get(&kind).map_or(0, |tally| tally.count)
    }

    /// Counts by the kinds' names, for reports.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<FailureKind, u64> {
        self.tallies.iter().map(|(kind, tally)| (*kind, tally.count)).collect()
    }

    /// One line for each kind met: count, name, message of the first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |(kind, tally): (&FailureKind, &FailureTally)| {
            format!("{} {kind}, the first: {}", tally.count, tally.example)
        };
        self.tallies.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_keep_the_first_message() {
        let mut left = FailureCounts::default();
        left.record(FailureKind::Unknown, &"connection closed");
        left.record(FailureKind::Unknown, &"later");
        let mut right = FailureCounts::default();
        right.record(FailureKind::Unknown, &"elsewhere");
        right.record(FailureKind::Overloaded, &"queue full");
        left.merge(&right);
        assert_eq!((left.total(), left.count(FailureKind::Unknown), left.count(FailureKind::Refused)), (4, 3, 0));
        assert_eq!(left.lines(), ["3 unknown, the first: connection closed", "1 overloaded, the first: queue full"]);
    }

    #[test]
    fn kinds_are_map_keys_in_json_under_their_names() {
        let mut counts = FailureCounts::default();
        for kind in [FailureKind::Unknown, FailureKind::TimedOut, FailureKind::Refused] {
            counts.record(kind, &"");
            assert_eq!(serde_json::to_value(kind).expect("plain enum"), kind.name());
        }
        let json = serde_json::to_string(&counts.by_kind()).expect("plain map");
        assert_eq!(json, r#"{"unknown":1,"timed_out":1,"refused":1}"#);
    }
}
