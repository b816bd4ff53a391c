//! How long the calling thread could have run and had no processor: the host's doing, not the node's.
//!
//! The kernel counts it for each thread. Where it does not say (no `/proc`, no scheduler statistics) nothing is known, and
//! nothing is excused.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The statistics of the calling thread. Source: Linux, `Documentation/scheduler/sched-stats.rst`.
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";

/// The waits of the thread that made it, whichever thread asks.
#[derive(Debug)]
pub(super) struct RunQueue {
    file: Option<File>,
}

impl RunQueue {
    /// Opens the statistics of the calling thread.
    #[must_use]
    pub(super) fn of_this_thread() -> Self {
        Self { file: File::open(SCHEDSTAT).ok() }
    }

    /// The times so far; zero if the kernel does not say.
    #[must_use]
    pub(super) fn times(&self) -> ThreadTimes {
        let mut bytes = [0; 96];
        let count = self.file.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok());
        count.and_then(|count| bytes.get(..count)).and_then(times_of).unwrap_or_default()
    }
}

/// What became of a thread's time. What neither number has, it slept or was blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadTimes {
    /// Time on a processor.
    pub ran: Duration,
    /// Time for which it could have run and had no processor.
    pub waited: Duration,
}

impl ThreadTimes {
    /// What was added since an earlier look.
    #[must_use]
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self { ran: self.ran.saturating_sub(earlier.ran), waited: self.waited.saturating_sub(earlier.waited) }
    }
}

/// The first two of three numbers: time on a processor, time waiting for one (both in ns), count of turns.
fn times_of(text: &[u8]) -> Option<ThreadTimes> {
    let mut numbers = str::from_utf8(text).ok()?.split_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_nanos(numbers.next()?.ok()?));
    Some(ThreadTimes { ran: next()?, waited: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_count_and_anything_else_is_nothing() {
        let [ran, waited] = [100, 250].map(Duration::from_nanos);
        assert_eq!(times_of(b"100 250 3\n"), Some(ThreadTimes { ran, waited }));
        assert_eq!(times_of(b"100"), None);
        assert_eq!(times_of(b"a b c"), None);
        assert_eq!(RunQueue { file: None }.times(), ThreadTimes::default());
    }

    #[test]
    fn times_never_shrink() {
        let queue = RunQueue::of_this_thread();
        let before = queue.times();
        std::thread::yield_now();
        let after = queue.times();
        assert!(after.ran >= before.ran && after.waited >= before.waited);
        assert_eq!(before.since(after).waited, Duration::ZERO);
    }
}
