//! Latencies: a histogram of 1 us resolution up to 60 s, the percentiles a report carries, and a drawing for terminals.
//!
//! Times are what a client sees: from handing a write to the client library to its acknowledgement, in microseconds.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

use crate::limits::{LATENCY_MAX_US, LATENCY_MIN_US};

/// Decimal digits kept: exact to 1 us below 2 ms, within 0.1 % above.
const LATENCY_DIGITS: u8 = 3;

/// Powers of two that a latency may have: the longest is rounded up by less than one. See `counts_by_power`.
const POWERS: usize = LATENCY_MAX_US.ilog2() as usize + 2;

/// Widest bar of [`LatencyHistogram::bars`], in characters.
const BAR_COLUMNS: f64 = 40.0;

/// Latencies of many requests.
#[derive(Clone, Debug)]
pub struct LatencyHistogram {
    histogram: Histogram<u64>,
}

/// Percentiles of a latency histogram, in whole microseconds; all 0 when nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyUs {
    /// Half of the requests took no longer.
    pub p50: u64,
    /// 90 % took no longer.
    pub p90: u64,
    /// 99 % took no longer.
    pub p99: u64,
    /// 99.9 % took no longer.
    pub p999: u64,
    /// The slowest request.
    pub max: u64,
}

impl LatencyHistogram {
    /// An empty histogram; some 180 KiB.
    ///
    /// # Errors
    /// The library refuses the bounds; they are constants, so this is a defect of this module.
    pub fn new() -> Result<Self, CreationError> {
        let histogram = Histogram::new_with_bounds(LATENCY_MIN_US, LATENCY_MAX_US, LATENCY_DIGITS)?;
        Ok(Self { histogram })
    }

    /// Counts one request.
    pub fn record(&mut self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        self.histogram.saturating_record(latency_us.clamp(LATENCY_MIN_US, LATENCY_MAX_US));
    }

    /// Adds the requests of `other`.
    pub fn merge(&mut self, other: &Self) {
        // Same bounds on both sides, so nothing can be out of range.
        if self.histogram.add(&other.histogram).is_err() {
            unreachable!("histograms of one program have the same bounds");
        }
    }

    /// Requests counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentiles of a report.
    #[must_use]
    pub fn percentiles(&self) -> LatencyUs {
        if self.histogram.is_empty() {
            return LatencyUs::default();
        }
        // The histogram answers with the upper end of a range of latencies that it does not tell apart.
        let at = |quantile| self.histogram.value_at_quantile(quantile).min(self.histogram.max());
        LatencyUs { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: self.histogram.max() }
    }

    /// The distribution as lines of text: one bar for each power of two that holds requests, with its share.
    #[must_use]
    pub fn bars(&self) -> String {
        let mut text = String::new();
        let total = self.histogram.len();
        if total == 0 {
            return text;
        }
        let counts = self.counts_by_power();
        let used = || counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(power, _)| power);
        let (Some(first), Some(last)) = (used().next(), used().next_back()) else { return text };
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        for (power, count) in counts.iter().enumerate().take(last + 1).skip(first) {
            let share = *count as f64 / total as f64;
            let columns = (*count as f64 / most as f64 * BAR_COLUMNS).round() as usize;
            let bar = if *count > 0 && columns == 0 { "▏".to_owned() } else { "█".repeat(columns) };
            let range = format!("{} - {}", short_us(1 << power), short_us(1 << (power + 1)));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {range:>21}  {:>7.3} %  {bar}", share * 100.0);
        }
        text
    }

    /// Requests by power of two: entry p counts those of `2^p..2^(p+1)` microseconds.
    fn counts_by_power(&self) -> [u64; POWERS] {
        let mut counts = [0; POWERS];
        for step in self.histogram.iter_recorded() {
            let power = step.value_iterated_to().max(1).ilog2() as usize;
            if let Some(count) = counts.get_mut(power) {
                *count += step.count_since_last_iteration();
            }
        }
        counts
    }
}

/// A duration in microseconds with the unit that reads best: `640 us`, `1.28 ms`, `2.10 s`.
#[must_use]
pub(crate) fn short_us(time_us: u64) -> String {
    match time_us {
        0..1000 => format!("{time_us} us"),
        1000..1_000_000 => format!("{:.2} ms", time_us as f64 / 1e3),
        _ => format!("{:.2} s", time_us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(latencies_us: impl Iterator<Item = u64>) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new().expect("constant bounds");
        latencies_us.for_each(|latency_us| histogram.record(Duration::from_micros(latency_us)));
        histogram
    }

    #[test]
    fn percentiles_are_exact_to_a_microsecond_below_two_milliseconds() {
        let percentiles = histogram(1..=1000).percentiles();
        assert_eq!(percentiles, LatencyUs { p50: 500, p90: 900, p99: 990, p999: 999, max: 1000 });
    }

    #[test]
    fn merging_equals_recording_into_one() {
        let mut left = histogram((1..5000).step_by(2));
        left.merge(&histogram((2..5000).step_by(2)));
        let both = histogram(1..5000);
        assert_eq!((left.count(), left.percentiles()), (both.count(), both.percentiles()));
    }

    #[test]
    fn extremes_are_clamped_not_lost() {
        let histogram = histogram([0, 100_000_000].into_iter());
        assert_eq!(histogram.count(), 2);
        let percentiles = histogram.percentiles();
        assert_eq!(percentiles.p50, 1);
        assert!(percentiles.max.abs_diff(LATENCY_MAX_US) <= LATENCY_MAX_US / 1000);
    }

    #[test]
    fn nothing_recorded_reads_zero_and_draws_nothing() {
        let empty = histogram(std::iter::empty());
        assert_eq!((empty.percentiles(), empty.bars()), (LatencyUs::default(), String::new()));
    }

    #[test]
    fn bars_cover_every_power_between_the_fastest_and_the_slowest() {
        let text = histogram([100, 100, 100, 900].into_iter()).bars();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("64 us - 128 us") && lines[0].contains("75.000 %"), "{text}");
        assert!(lines[3].contains("512 us - 1.02 ms") && lines[3].contains("25.000 %"), "{text}");
        assert!(!lines[1].contains('█'));
    }

    #[test]
    fn times_are_written_with_the_unit_that_reads_best() {
        assert_eq!(
            [short_us(0), short_us(999), short_us(1280), short_us(2_100_000)],
            ["0 us", "999 us", "1.28 ms", "2.10 s"]
        );
    }
}
