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
pub struct RunQueue {
    file: Option<File>,
}

impl RunQueue {
    /// Opens the statistics of the calling thread.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self { file: File::open(SCHEDSTAT).ok() }
    }

    /// Waiting time so far; zero if the kernel does not say.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let mut bytes = [0; 96];
        let count = self.file.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok());
        count.and_then(|count| bytes.get(..count)).and_then(waited_of).unwrap_or_default()
    }
}

/// The second of three numbers: time on a processor, time waiting for one (both in ns), count of turns.
fn waited_of(text: &[u8]) -> Option<Duration> {
    let text = str::from_utf8(text).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts_and_anything_else_is_nothing() {
        assert_eq!(waited_of(b"100 250 3\n"), Some(Duration::from_nanos(250)));
        assert_eq!(waited_of(b"100"), None);
        assert_eq!(waited_of(b"a b c"), None);
        assert_eq!(RunQueue { file: None }.waited(), Duration::ZERO);
    }

    #[test]
    fn waits_never_shrink() {
        let queue = RunQueue::of_this_thread();
        let before = queue.waited();
        std::thread::yield_now();
        assert!(queue.waited() >= before);
    }
}
