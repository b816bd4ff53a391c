//! What the nodes logged around a pause, in one order and with times counted from a moment of the test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::Cluster;

/// Lines that are shown at most.
const LINES_MAX: usize = 80;

/// A moment on the clock that the nodes' logs use.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970"))
    }

    /// The same moment, so much earlier.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    /// The same moment, so much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0 + time)
    }

    /// Milliseconds from `start`, which may be later.
    pub fn ms_since(self, start: Self) -> f64 {
        (self.0.as_secs_f64() - start.0.as_secs_f64()) * 1000.0
    }

    /// The time that a log line begins with: `2026-01-31T12:34:56.123456Z`. The date must be today's: only the time of day counts.
    fn of_line(line: &str, today: Self) -> Option<Self> {
        let time = line.split_once('T')?.1.split_once('Z')?.0;
        let mut parts = time.split(':');
        let hours: u64 = parts.next()?.parse().ok()?;
        let minutes: u64 = parts.next()?.parse().ok()?;
        let seconds: f64 = parts.next()?.parse().ok()?;
        let midnight = Duration::from_secs(today.0.as_secs() / 86_400 * 86_400);
        let whole = Duration::from_secs(hours * 3600 + minutes * 60);
        Some(Self(midnight + whole + Duration::try_from_secs_f64(seconds).ok()?))
    }
}

/// The lines of all nodes' logs between two moments, each with its node and its time from `zero`.
pub fn of(cluster: &Cluster, zero: Moment, from: Moment, to: Moment) -> String {
    let mut lines = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        for line in cluster.log_of(number).lines() {
            let Some(at) = Moment::of_line(line, zero) else { continue };
            if at.0 >= from.0 && at.0 <= to.0 {
                let said = line.split_once('Z').map_or(line, |(_, said)| said.trim());
                lines.push((at.0, format!("{:>+9.1} ms  {}  {said}", at.ms_since(zero), node.name)));
            }
        }
    }
    lines.sort();
    lines.into_iter().take(LINES_MAX).map(|(_, line)| line + "\n").collect()
}
