//! Acknowledgements over time: how many fell into each small slice of a run.
//!
//! Serves the question "how long did writes pause?" and the rate drawn under a report. It holds counts, no latencies.
//! Memory is bounded: when a run outgrows the buckets, neighbours are merged and the bucket width doubles.

use crate::limits::{BUCKET_COUNT_MAX, BUCKET_US};

/// Counts of events in consecutive slices of time since an origin the caller keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Width of a bucket, which is the resolution of [`Self::longest_pause_us`].
    bucket_us: u64,
    counts: Vec<u32>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { bucket_us: BUCKET_US, counts: Vec::new() }
    }
}

impl Timeline {
    /// Counts one event at `at_us` microseconds since the origin.
    pub fn record(&mut self, at_us: u64) {
        while at_us / self.bucket_us >= BUCKET_COUNT_MAX as u64 {
            self.widen();
        }
        // Below BUCKET_COUNT_MAX by the loop above.
        let bucket = (at_us / self.bucket_us) as usize;
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds the events of `other`, which has the same origin.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.bucket_us < other.bucket_us {
            self.widen();
        }
        while other.bucket_us < self.bucket_us {
            other.widen();
        }
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// Longest stretch without an event that overlaps `from_us..to_us`, in microseconds; 0 when no bucket was empty.
    ///
    /// A pause that begins in the window is followed past its end, up to the next event. Time before the first event
    /// and after `to_us` with no event at all counts as pause only as far as the window reaches. True length is within
    /// one bucket either way: a run of k empty buckets is reported as k + 1 widths, its events being k to k + 2 apart.
    #[must_use]
    pub fn longest_pause_us(&self, from_us: u64, to_us: u64) -> u64 {
        let first = usize::try_from(from_us / self.bucket_us).unwrap_or(usize::MAX).min(BUCKET_COUNT_MAX);
        let end = usize::try_from(to_us.div_ceil(self.bucket_us)).unwrap_or(usize::MAX).min(BUCKET_COUNT_MAX);
        let is_empty = |bucket: usize| self.counts.get(bucket).is_none_or(|&count| count == 0);
        let mut longest_count = 0;
        let mut bucket = first;
        // A pause that began before the window belongs to it with its whole length.
        while bucket > 0 && is_empty(bucket) && is_empty(bucket - 1) {
            bucket -= 1;
        }
        while bucket < end {
            if !is_empty(bucket) {
                bucket += 1;
                continue;
            }
            let begin = bucket;
            while is_empty(bucket) && bucket < self.counts.len().max(end) {
                bucket += 1;
            }
            longest_count = longest_count.max(bucket - begin);
        }
        if longest_count == 0 { 0 } else { (longest_count as u64 + 1) * self.bucket_us }
    }

    /// Events per second in `columns` equal slices of `0..total_us`, for drawing.
    #[must_use]
    pub fn rates(&self, total_us: u64, columns: usize) -> Vec<f64> {
        let bucket_count = usize::try_from(total_us.div_ceil(self.bucket_us)).unwrap_or(usize::MAX);
        let bucket_count = bucket_count.clamp(1, BUCKET_COUNT_MAX);
        let columns = columns.clamp(1, bucket_count);
        (0..columns)
            .map(|column| {
                let first = column * bucket_count / columns;
                let end = (column + 1) * bucket_count / columns;
                let events: u64 = self
                    .counts
                    .get(first..end.min(self.counts.len()))
                    .unwrap_or(&[])
                    .iter()
                    .map(|&n| u64::from(n))
                    .sum();
                events as f64 * 1e6 / ((end - first) as u64 * self.bucket_us) as f64
            })
            .collect()
    }

    /// Events counted in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    fn widen(&mut self) {
        let merged = self.counts.chunks(2).map(|pair| pair.iter().fold(0u32, |sum, &n| sum.saturating_add(n)));
        self.counts = merged.collect();
        self.bucket_us *= 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timeline(events_us: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        events_us.iter().for_each(|&at_us| timeline.record(at_us));
        timeline
    }

    #[test]
    fn the_longest_pause_is_the_distance_between_the_events_around_it() {
        let line = timeline(&[0, 1000, 2000, 3500, 300_000, 301_000, 302_000, 303_000]);
        let pause_us = line.longest_pause_us(3000, 303_000);
        assert!((295_500..=297_500).contains(&pause_us), "{pause_us}");
    }

    #[test]
    fn a_steady_stream_has_no_pause() {
        let events: Vec<u64> = (0..500).map(|at| at * 900).collect();
        assert_eq!(timeline(&events).longest_pause_us(0, 449_000), 0);
    }

    #[test]
    fn a_pause_that_outlasts_the_window_counts_in_full_and_one_outside_does_not_count() {
        let mut events: Vec<u64> = (0..100).map(|at| at * 1000).collect();
        events.extend((400..500).map(|at| at * 1000));
        let line = timeline(&events);
        assert_eq!(line.longest_pause_us(90_000, 150_000), 301_000);
        assert_eq!(line.longest_pause_us(200_000, 250_000), 301_000);
        assert_eq!(line.longest_pause_us(420_000, 480_000), 0);
        assert_eq!(line.longest_pause_us(10_000, 90_000), 0);
    }

    #[test]
    fn writes_that_never_resume_pause_until_the_window_ends() {
        let line = timeline(&[0, 1000, 2000]);
        assert_eq!(line.longest_pause_us(2000, 1_003_000), 1_001_000);
        assert_eq!(Timeline::default().longest_pause_us(0, 5000), 6000);
    }

    #[test]
    fn rates_are_per_second() {
        let events: Vec<u64> = (0..1000).map(|at| at * 1000).collect();
        for rate in timeline(&events).rates(1_000_000, 10) {
            assert!((rate - 1000.0).abs() < 1e-6, "{rate}");
        }
    }

    #[test]
    fn an_hour_stays_within_the_bucket_limit() {
        let events: Vec<u64> = (0..3600).map(|at| at * 1_000_000).collect();
        let line = timeline(&events);
        assert!(line.counts.len() <= BUCKET_COUNT_MAX);
        assert_eq!((line.total(), line.bucket_us), (3600, 64_000));
    }

    proptest! {
        #[test]
        fn merging_loses_no_event_whatever_the_widths(
            left in prop::collection::vec(0u64..400_000_000, 0..60),
            right in prop::collection::vec(0u64..20_000_000, 0..60),
        ) {
            let mut merged = timeline(&left);
            merged.merge(&timeline(&right));
            let mut all = left.clone();
            all.extend(&right);
            let mut expected = timeline(&all);
            while expected.bucket_us < merged.bucket_us {
                expected.widen();
            }
            prop_assert_eq!(merged.total(), all.len() as u64);
            prop_assert_eq!(merged.bucket_us, expected.bucket_us);
            prop_assert_eq!(merged.counts, expected.counts);
        }

        #[test]
        fn a_reported_pause_is_within_a_bucket_of_the_true_one(
            mut events in prop::collection::vec(0u64..5_000_000, 2..40),
        ) {
            events.sort_unstable();
            let longest = events.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            let first = events[0];
            let last = events[events.len() - 1];
            let reported = timeline(&events).longest_pause_us(first, last);
            if longest > 2 * BUCKET_US {
                prop_assert!(reported.abs_diff(longest) <= BUCKET_US, "{} for {}", reported, longest);
            } else {
                prop_assert!(reported <= 3 * BUCKET_US);
            }
        }
    }
}
