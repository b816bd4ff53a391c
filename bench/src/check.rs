//! Compares what a node holds with what was acknowledged: one pass over the rows of each worker, in key order.
//!
//! It knows nothing of clusters, sockets or pages; `verify` feeds it. An acknowledged write must be there with its exact
//! value, one of unknown outcome may be there, and nothing else may.

use crate::acks::{LoadWrites, WorkerWrites};
use crate::keys::{Filler, parse_tracked_key, tracked_key};
use crate::limits::EXAMPLE_COUNT_MAX;

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rows looked at.
    pub row_count: u64,
    /// Acknowledged writes found with the right value.
    pub verified_count: u64,
    /// Acknowledged writes that are not there.
    pub missing_count: u64,
    /// Acknowledged writes that are there with another value.
    pub wrong_count: u64,
    /// Writes of unknown outcome that are there with the right value.
    pub unknown_present_count: u64,
    /// Rows that nobody wrote, that were refused, or of unknown outcome with another value.
    pub unexpected_count: u64,
    /// Keys of some of the missing, wrong and unexpected rows, with what is the matter.
    pub examples: Vec<String>,
}

impl CheckReport {
    /// Acknowledged writes that cannot be read back: missing or wrong.
    #[must_use]
    pub fn lost_count(&self) -> u64 {
        self.missing_count + self.wrong_count
    }

    /// Adds the findings of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.row_count += other.row_count;
        self.verified_count += other.verified_count;
        self.missing_count += other.missing_count;
        self.wrong_count += other.wrong_count;
        self.unknown_present_count += other.unknown_present_count;
        self.unexpected_count += other.unexpected_count;
        let room = EXAMPLE_COUNT_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }

    fn example(&mut self, key: &[u8], matter: &str) {
        if self.examples.len() < EXAMPLE_COUNT_MAX {
            self.examples.push(format!("{} {matter}", String::from_utf8_lossy(key)));
        }
    }
}

/// Expectations of a whole load, shared by the checks of all workers.
#[derive(Clone, Debug)]
pub struct Expected {
    writes: LoadWrites,
    filler: Filler,
    shard_count: u32,
}

impl Expected {
    /// Expects `writes`, made with values of `value_bytes` in a cluster of `shard_count` shards.
    #[must_use]
    pub fn new(writes: LoadWrites, value_bytes: usize, shard_count: u32) -> Self {
        Self { writes, filler: Filler::new(value_bytes), shard_count }
    }

    /// Workers whose rows are to be checked: `0..worker_count`.
    #[must_use]
    pub(crate) fn worker_count(&self) -> usize {
        self.writes.workers.len()
    }

    /// Acknowledged writes of all workers.
    #[must_use]
    pub fn acknowledged_count(&self) -> u64 {
        self.writes.acknowledged_count()
    }

    /// Length of the values, in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.filler.plain_value().len()
    }

    /// Shards of the cluster.
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        self.shard_count
    }

    /// Sequence number of `worker`'s last acknowledged write, if it has one.
    #[must_use]
    pub(crate) fn last_acknowledged(&self, worker: usize) -> Option<u64> {
        self.writes.workers.get(worker)?.acknowledged.last()
    }

    /// Whether `value` is what the tracked write (`worker`, `sequence`) carried.
    #[must_use]
    pub(crate) fn is_value(&self, value: &[u8], worker: usize, sequence: u64) -> bool {
        self.filler.is_tracked_value(value, worker, sequence)
    }

    /// Begins the check of `worker`'s rows; None past the last worker.
    #[must_use]
    pub(crate) fn check_worker(&self, worker: usize) -> Option<WorkerCheck<'_>> {
        let writes = self.writes.workers.get(worker)?;
        let mut remaining: Box<dyn Iterator<Item = u64> + Send + '_> = Box::new(writes.acknowledged.iter());
        let awaited = remaining.next();
        Some(WorkerCheck { expected: self, worker, writes, remaining, awaited, report: CheckReport::default() })
    }
}

/// The check of one worker's rows. Feed it [`Self::row`] in key order, then ask [`Self::finish`].
pub struct WorkerCheck<'a> {
    expected: &'a Expected,
    worker: usize,
    writes: &'a WorkerWrites,
    /// Acknowledged sequence numbers above `awaited`.
    remaining: Box<dyn Iterator<Item = u64> + Send + 'a>,
    /// Lowest acknowledged sequence number not yet met.
    awaited: Option<u64>,
    report: CheckReport,
}

impl WorkerCheck<'_> {
    /// Takes the next row of the worker's range.
    pub fn row(&mut self, key: &[u8], value: &[u8]) {
        self.report.row_count += 1;
        let Some(sequence) = parse_tracked_key(key, self.worker, self.expected.shard_count) else {
            self.unexpected(key, "was not written by this load");
            return;
        };
        self.miss_below(sequence);
        let is_right = self.expected.filler.is_tracked_value(value, self.worker, sequence);
        if self.awaited == Some(sequence) {
            self.awaited = self.remaining.next();
            if is_right {
                self.report.verified_count += 1;
            } else {
                self.report.wrong_count += 1;
                self.report.example(key, "was acknowledged but has another value");
            }
        } else if self.writes.unknown.contains(sequence) && is_right {
            self.report.unknown_present_count += 1;
        } else if self.writes.acknowledged.contains(sequence) {
            self.unexpected(key, "came twice or out of order");
        } else if self.writes.unknown.contains(sequence) {
            self.unexpected(key, "has a value that was never sent");
        } else {
            self.unexpected(key, "was refused but is there");
        }
    }

    /// Counts whatever did not come as missing and returns the findings.
    #[must_use]
    pub fn finish(mut self) -> CheckReport {
        self.miss_below(u64::MAX);
        self.report
    }

    fn miss_below(&mut self, sequence: u64) {
        while let Some(missing) = self.awaited.filter(|&awaited| awaited < sequence) {
            self.report.missing_count += 1;
            if self.report.examples.len() < EXAMPLE_COUNT_MAX {
                let key = tracked_key(self.worker, missing, self.expected.shard_count);
                self.report.example(&key, "was acknowledged but is not there");
            }
            self.awaited = self.remaining.next();
        }
    }

    fn unexpected(&mut self, key: &[u8], matter: &str) {
        self.report.unexpected_count += 1;
        self.report.example(key, matter);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::keys::{KeyPlan, WriteSource};

    const VALUE_BYTES: usize = 24;

    /// What became of one write and whether its row is there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Kept,
        Lost,
        Changed,
        UnknownPresent,
        UnknownAbsent,
        Refused,
        RefusedButPresent,
    }

    fn fates() -> impl Strategy<Value = Vec<Fate>> {
        use Fate::{Changed, Kept, Lost, Refused, RefusedButPresent, UnknownAbsent, UnknownPresent};
        let fate = prop_oneof![
            8 => Just(Kept),
            1 => Just(Lost),
            1 => Just(Changed),
            1 => Just(UnknownPresent),
            1 => Just(UnknownAbsent),
            1 => Just(Refused),
            1 => Just(RefusedButPresent),
        ];
        prop::collection::vec(fate, 0..60)
    }

    /// The expectations and rows that `fates` make for worker 0.
    fn scenario(fates: &[Fate], shard_count: u32) -> (Expected, BTreeMap<Vec<u8>, Vec<u8>>) {
        let filler = Filler::new(VALUE_BYTES);
        let mut source = WriteSource::new(KeyPlan::Tracked { shard_count }, 0, 1, 1, &filler);
        let mut writes = WorkerWrites::default();
        let mut rows = BTreeMap::new();
        for (sequence, fate) in (0u64..).zip(fates) {
            let (key, value) = source.next_write();
            let (key, mut value) = (key.to_vec(), value.to_vec());
            match fate {
                Fate::Kept | Fate::Lost | Fate::Changed => writes.acknowledged.push(sequence),
                Fate::UnknownPresent | Fate::UnknownAbsent => writes.unknown.push(sequence),
                Fate::Refused | Fate::RefusedButPresent => {}
            }
            if *fate == Fate::Changed {
                value[VALUE_BYTES - 1] ^= 1;
            }
            if matches!(fate, Fate::Kept | Fate::Changed | Fate::UnknownPresent | Fate::RefusedButPresent) {
                rows.insert(key, value);
            }
        }
        writes.sent_count = fates.len() as u64;
        (Expected::new(LoadWrites { workers: vec![writes] }, VALUE_BYTES, shard_count), rows)
    }

    fn check(expected: &Expected, rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> CheckReport {
        let mut check = expected.check_worker(0).expect("worker 0");
        rows.iter().for_each(|(key, value)| check.row(key, value));
        check.finish()
    }

    proptest! {
        #[test]
        fn findings_count_exactly_what_happened(fates in fates(), shard_count in 1u32..4) {
            let (expected, rows) = scenario(&fates, shard_count);
            let report = check(&expected, &rows);
            let count = |wanted| fates.iter().filter(|&&fate| fate == wanted).count() as u64;
            prop_assert_eq!(report.row_count, rows.len() as u64);
            prop_assert_eq!(report.verified_count, count(Fate::Kept));
            prop_assert_eq!(report.missing_count, count(Fate::Lost));
            prop_assert_eq!(report.wrong_count, count(Fate::Changed));
            prop_assert_eq!(report.lost_count(), count(Fate::Lost) + count(Fate::Changed));
            prop_assert_eq!(report.unknown_present_count, count(Fate::UnknownPresent));
            prop_assert_eq!(report.unexpected_count, count(Fate::RefusedButPresent));
            prop_assert!(report.examples.len() <= EXAMPLE_COUNT_MAX);
            let is_clean = report.lost_count() + report.unexpected_count == 0;
            prop_assert_eq!(report.examples.is_empty(), is_clean);
        }
    }

    #[test]
    fn rows_of_strangers_and_rows_out_of_order_are_unexpected() {
        let (expected, rows) = scenario(&[Fate::Kept, Fate::Kept], 1);
        let mut check = expected.check_worker(0).expect("worker 0");
        rows.iter().rev().for_each(|(key, value)| check.row(key, value));
        check.row(b"w00000-stranger!!", b"");
        let report = check.finish();
        assert_eq!((report.verified_count, report.missing_count, report.unexpected_count), (1, 1, 2));
    }
}
