//! Whether a client takes its answers, and the time that counts for that.
//!
//! Nobody is slow for a time in which nothing could be taken. While a core hangs, or its process is stopped, nothing is written to
//! clients. So time counts only as far as the core was there to look: see [`TakingTime`]. Knows no sockets.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::limits::{PROGRESS_BYTES_MIN, PROGRESS_SHARE, STUCK_AFTER, TAKING_TIME_PER_LOOK_MAX};

/// Time for which the clients of a core could take answers. It advances with every look at them, and little with a look that comes late.
#[derive(Debug, Default)]
pub(super) struct TakingTime {
    passed: Cell<Duration>,
}

impl TakingTime {
    /// The time that counts so far.
    pub(super) const fn passed(&self) -> Duration {
        self.passed.get()
    }

    /// The core looks at its clients, `since_last` after the last look.
    pub(super) fn look(&self, since_last: Duration) {
        self.passed.set(self.passed.get() + since_last.min(TAKING_TIME_PER_LOOK_MAX));
    }
}

/// How a client takes its answers.
#[derive(Debug)]
pub(super) struct Taking {
    /// Bytes of answers that were queued since the start.
    pushed_bytes: Cell<u64>,
    /// How much of its answers the client should have taken soon after the last look.
    progress: Cell<Option<Progress>>,
    time: Rc<TakingTime>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    since: Duration,
    /// Bytes that will have been written in all once the client has taken some of what waited at `since`.
    goal_bytes: u64,
}

impl Taking {
    /// Nothing was queued yet. `time` is the core's.
    pub(super) const fn new(time: Rc<TakingTime>) -> Self {
        Self { pushed_bytes: Cell::new(0), progress: Cell::new(None), time }
    }

    /// So many bytes more were queued.
    pub(super) fn pushed(&self, bytes: usize) {
        self.pushed_bytes.set(self.pushed_bytes.get() + bytes as u64);
    }

    /// For how long the client has taken next to nothing, as far as it was looked at, if so many bytes wait for it.
    pub(super) fn untaken_for(&self, queued_bytes: usize) -> Duration {
        let (queued, now) = (queued_bytes as u64, self.time.passed());
        let written_bytes = self.pushed_bytes.get() - queued;
        if let Some(progress) = self.progress.get()
            && written_bytes < progress.goal_bytes
        {
            assert!(progress.since <= now, "the time that counts never goes back");
            return now - progress.since;
        }
        let goal_bytes = written_bytes + (queued / PROGRESS_SHARE).max(PROGRESS_BYTES_MIN).min(queued);
        self.progress.set(Some(Progress { since: now, goal_bytes }));
        Duration::ZERO
    }

    /// The client has taken next to nothing of its answers for long.
    pub(super) fn is_stuck(&self, queued_bytes: usize) -> bool {
        self.untaken_for(queued_bytes) >= STUCK_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{SLOW_AFTER, SLOW_LOOK_PAUSE};
    use super::*;

    #[test]
    fn a_look_that_comes_late_makes_nobody_slow() {
        let time = Rc::new(TakingTime::default());
        let taking = Taking::new(Rc::clone(&time));
        let queued_bytes = 1 << 20;
        taking.pushed(queued_bytes);
        assert_eq!(taking.untaken_for(queued_bytes), Duration::ZERO);
        // The core hung, or the process was stopped.
        time.look(Duration::from_mins(1));
        assert!(taking.untaken_for(queued_bytes) < SLOW_AFTER);
        // Whoever then takes nothing is slow in its time.
        let looks = (SLOW_AFTER - TAKING_TIME_PER_LOOK_MAX).as_millis() / SLOW_LOOK_PAUSE.as_millis();
        for _ in 0..looks {
            assert!(taking.untaken_for(queued_bytes) < SLOW_AFTER);
            time.look(SLOW_LOOK_PAUSE);
        }
        assert!(taking.untaken_for(queued_bytes) >= SLOW_AFTER);
        // It takes some.
        assert_eq!(taking.untaken_for(queued_bytes - (queued_bytes >> 3)), Duration::ZERO);
    }

    #[test]
    fn answers_that_were_just_queued_have_their_time() {
        let time = Rc::new(TakingTime::default());
        let taking = Taking::new(Rc::clone(&time));
        assert!(!taking.is_stuck(0));
        let wait = || (0..40).for_each(|_| time.look(SLOW_LOOK_PAUSE));
        wait();
        taking.pushed(1_000);
        assert!(!taking.is_stuck(1_000), "however long ago the last look was");
        wait();
        assert!(taking.is_stuck(1_000) && !taking.is_stuck(0));
    }
}
