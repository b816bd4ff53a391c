//! Work that may block, on the helper threads of an executor: files are created, filled, removed and read in there.
//!
//! An executor that ends does not wait for its helpers, so the node does: while one still works in the data directory, nobody
//! else may have it. What may hang on something other than the log's disk does not belong here.

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::panics;

/// The helpers of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Helpers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    busy_count: Mutex<usize>,
    idle: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.busy_count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of work, from its hand-over to its end.
struct Busy(Arc<Shared>);

impl Busy {
    fn new(shared: &Arc<Shared>) -> Self {
        *shared.lock() += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy_count = self.0.lock();
        *busy_count -= 1;
        if *busy_count == 0 {
            self.0.idle.notify_all();
        }
    }
}

impl Helpers {
    /// Does blocking work on a helper thread of the calling executor. The work goes on if the future is dropped.
    pub fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> impl Future<Output = R> {
        let busy = Busy::new(&self.shared);
        glommio::executor().spawn_blocking(move || {
            let _busy = busy;
            panics::thread_is_node("a helper thread");
            work()
        })
    }

    /// Waits until no helper works; says whether that came true in time. Blocks.
    #[must_use]
    pub fn wait_until_idle(&self, patience: Duration) -> bool {
        let waited = self.shared.idle.wait_timeout_while(self.shared.lock(), patience, |busy_count| *busy_count > 0);
        let (busy_count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *busy_count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_was_given_up_is_still_waited_for() {
        let helpers = Helpers::default();
        assert!(helpers.wait_until_idle(Duration::ZERO));
        let busy = Busy::new(&helpers.shared);
        assert!(!helpers.wait_until_idle(Duration::from_millis(1)));
        let ending = std::thread::spawn(move || drop(busy));
        assert!(helpers.wait_until_idle(Duration::from_secs(60)));
        ending.join().expect("it ends");
    }
}
