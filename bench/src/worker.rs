//! One worker of a load: it sends a write, waits for the answer, and sends the next (a closed loop).
//!
//! Workers are started once and live as long as the load. A write costs one reading of the clock beyond what the target itself
//! does, and neither a task nor an allocation. A failed write is never sent again: after a pause the worker goes on with a new one.
//! So every write is sent once and has one outcome.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::types::ShardId;
use wal::random::SplitMix64;

use crate::acks::WorkerWrites;
use crate::control::Control;
use crate::failures::{FailureCounts, FailureKind};
use crate::keys::WriteSource;
use crate::latency::LatencyHistogram;
use crate::limits::{BACKOFF_MAX_MS, BACKOFF_MIN_MS};
use crate::target::PutTarget;
use crate::timeline::Timeline;

/// Results of one thread in one phase. A phase is a stretch of time whose results are reported apart; see `Load::next_phase`.
#[derive(Clone, Debug)]
pub(crate) struct PhaseTally {
    pub(crate) failures: FailureCounts,
    /// Latencies of acknowledged writes; their number is the number of acknowledged writes.
    pub(crate) latency: LatencyHistogram,
}

/// Results of one thread.
#[derive(Debug)]
pub(crate) struct ThreadTally {
    /// One for each phase, then one for what ended after the load was stopped.
    pub(crate) phases: Vec<PhaseTally>,
    /// Acknowledgements over time, one timeline for each shard. Only one if the keys do not tell the shard.
    pub(crate) timelines: Vec<Timeline>,
}

/// What the workers of one thread share.
pub(crate) struct ThreadState {
    pub(crate) control: Arc<Control>,
    pub(crate) thread: usize,
    /// When the load began. Timelines count from here.
    pub(crate) origin: Instant,
    pub(crate) tally: RefCell<ThreadTally>,
    /// Whether workers record which writes were acknowledged and which are of unknown outcome, so that the data can be verified.
    pub(crate) is_tracked: bool,
}

impl ThreadState {
    /// Records that a write was acknowledged. It counts in the phase in which it ended.
    fn acknowledged(&self, shard: ShardId, begun: Instant, ended: Instant) {
        let mut tally = self.tally.borrow_mut();
        if let Some(phase) = tally.phases.get_mut(self.control.phase()) {
            phase.latency.record(ended - begun);
        }
        if let Some(timeline) = tally.timelines.get_mut(shard.get() as usize) {
            timeline.record(u64::try_from((ended - self.origin).as_micros()).unwrap_or(u64::MAX));
        }
        self.control.count_acknowledged(self.thread);
    }

    /// Records that a write failed.
    fn failed(&self, kind: FailureKind, message: &dyn std::fmt::Display) {
        if let Some(phase) = self.tally.borrow_mut().phases.get_mut(self.control.phase()) {
            phase.failures.record(kind, message);
        }
        self.control.count_failure(self.thread);
    }
}

/// Writes to `target` what `source` gives, until the load is stopped. Returns the outcomes of the writes; without `is_tracked` only
/// their number.
pub(crate) async fn run<T: PutTarget>(
    state: Rc<ThreadState>,
    target: Rc<T>,
    mut source: WriteSource,
    jitter: SplitMix64,
) -> WorkerWrites {
    let mut writes = WorkerWrites::default();
    let mut backoff = Backoff::new(jitter);
    let shard = source.shard();
    let mut begun = Instant::now();
    while !state.control.is_stopped() {
        let sequence = source.sequence();
        let (key, value) = source.next_write();
        let outcome = target.put(key, value).await;
        match outcome {
            Ok(()) => {
                // The next write begins when this one ends: one reading of the clock serves both.
                let ended = Instant::now();
                state.acknowledged(shard, begun, ended);
                begun = ended;
                backoff.reset();
                if state.is_tracked {
                    writes.acknowledged.push(sequence);
                }
            }
            Err(error) => {
                let kind = T::kind(&error);
                state.failed(kind, &error);
                if state.is_tracked && kind == FailureKind::Unknown {
                    writes.unknown.push(sequence);
                }
                tokio::time::sleep(backoff.next_pause()).await;
                begun = Instant::now();
            }
        }
    }
    writes.sent_count = source.sequence();
    writes
}

/// Pauses after failures. They double with each failure in a row, up to a limit, and are partly random, so that workers that failed
/// together do not return together.
struct Backoff {
    jitter: SplitMix64,
    pause_ms: u64,
}

impl Backoff {
    fn new(jitter: SplitMix64) -> Self {
        Self { jitter, pause_ms: BACKOFF_MIN_MS }
    }

    fn reset(&mut self) {
        self.pause_ms = BACKOFF_MIN_MS;
    }

    /// Draws the next pause, between half of `pause_ms` and all of it, and doubles `pause_ms` up to its limit.
    fn next_pause(&mut self) -> Duration {
        let half_us = self.pause_ms * 500;
        self.pause_ms = (self.pause_ms * 2).min(BACKOFF_MAX_MS);
        Duration::from_micros(half_us + self.jitter.below(half_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(SplitMix64::of_stream(1, 1));
        let mut bound_ms = BACKOFF_MIN_MS;
        for _ in 0..12 {
            let pause = backoff.next_pause();
            assert!(pause >= Duration::from_micros(bound_ms * 500) && pause <= Duration::from_millis(bound_ms));
            bound_ms = (bound_ms * 2).min(BACKOFF_MAX_MS);
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(BACKOFF_MIN_MS));
    }
}
