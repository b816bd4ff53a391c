//! What a running load and the one who watches it share: stop, phase, and counters that are read while it runs.
//!
//! Everything here is advisory and relaxed: figures of a report come from the threads themselves when they have ended.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Counters of one load thread, on a cache line of its own. Written by that thread alone.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ThreadCounters {
    acknowledged_count: AtomicU64,
    failure_count: AtomicU64,
}

/// Shared by a load's threads and its watcher.
#[derive(Debug)]
pub(crate) struct Control {
    is_stopped: AtomicBool,
    phase: AtomicUsize,
    threads: Vec<ThreadCounters>,
}

/// Totals of a load since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Writes acknowledged.
    pub acknowledged_count: u64,
    /// Writes that failed, unknown outcomes included.
    pub failure_count: u64,
}

impl Control {
    pub(crate) fn new(thread_count: usize) -> Self {
        let threads = (0..thread_count).map(|_| ThreadCounters::default()).collect();
        Self { is_stopped: AtomicBool::new(false), phase: AtomicUsize::new(0), threads }
    }

    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn set_phase(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }

    /// Counts one acknowledged write of `thread`; to be called on that thread alone.
    pub(crate) fn count_acknowledged(&self, thread: usize) {
        if let Some(counters) = self.threads.get(thread) {
            bump(&counters.acknowledged_count);
        }
    }

    /// Counts one failed write of `thread`; to be called on that thread alone.
    pub(crate) fn count_failure(&self, thread: usize) {
        if let Some(counters) = self.threads.get(thread) {
            bump(&counters.failure_count);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.threads.iter().fold(Progress::default(), |sum, counters| Progress {
            acknowledged_count: sum.acknowledged_count + counters.acknowledged_count.load(Ordering::Relaxed),
            failure_count: sum.failure_count + counters.failure_count.load(Ordering::Relaxed),
        })
    }
}

/// Adds one without a locked instruction; sound because each counter has a single writer.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_sums_the_threads() {
        let control = Control::new(2);
        control.count_acknowledged(0);
        control.count_acknowledged(1);
        control.count_acknowledged(1);
        control.count_failure(1);
        assert_eq!(control.progress(), Progress { acknowledged_count: 3, failure_count: 1 });
    }
}
