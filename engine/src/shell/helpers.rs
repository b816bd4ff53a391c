//! Work that may block, on threads of the node's own: files are created, filled, removed and read in there.
//!
//! A stop waits for these threads: while one still works in the data directory, nobody else may have it. What may hang on something
//! other than the log's disk does not belong here. Whoever asks for work waits for its end before it asks again, so no more work waits
//! than the shards have tasks.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::panics;

type Work = Box<dyn FnOnce() + Send>;

/// The helpers of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Helpers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: Vec<JoinHandle<()>>,
    /// Threads that have not come to their end.
    running_count: usize,
    is_over: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("running_count", &self.running_count).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Work runs outside the lock, and every change under it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does: one piece of work after the other, until there is to be no more.
    fn run(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let Some(work) = state.waiting.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            work();
            state = self.lock();
        }
    }
}

/// Says at its end that a thread has come to its own.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running_count -= 1;
        self.0.changed.notify_all();
    }
}

impl Helpers {
    /// Starts so many threads.
    ///
    /// # Errors
    /// There can be no more threads. Those that were started wait for work, or for the end.
    pub(super) fn start(&self, count: usize) -> io::Result<()> {
        for number in 0..count {
            let mut state = self.shared.lock();
            let running = Running(Arc::clone(&self.shared));
            state.running_count += 1;
            drop(state);
            let thread = std::thread::Builder::new().name(format!("quorate-help{number}")).spawn(move || {
                panics::thread_is_node("a helper thread");
                running.0.run();
            })?;
            self.shared.lock().threads.push(thread);
        }
        Ok(())
    }

    /// Does blocking work on one of the threads. The work goes on if the future is dropped. The future never ends if the threads do
    /// before they come to the work.
    pub(super) fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> impl Future<Output = R> {
        let (done, result) = async_channel::bounded(1);
        let work: Work = Box::new(move || {
            // The channel has room for it; nobody may be waiting any more.
            drop(done.try_send(work()));
        });
        let refused = {
            let mut state = self.shared.lock();
            if state.is_over {
                Some(work)
            } else {
                state.waiting.push_back(work);
                None
            }
        };
        drop(refused);
        self.shared.changed.notify_one();
        async move {
            match result.recv().await {
                Ok(result) => result,
                // The node is stopping: whoever waits here ends without an answer.
                Err(_closed) => std::future::pending().await,
            }
        }
    }

    /// Ends the threads once they have done what they are doing, and waits for that; says whether all ended in time. What they have not
    /// begun is dropped. Blocks.
    #[must_use]
    pub(super) fn end(&self, patience: Duration) -> bool {
        let mut state = self.shared.lock();
        state.is_over = true;
        let dropped = std::mem::take(&mut state.waiting);
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| state.running_count > 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let (threads, have_ended) = (std::mem::take(&mut state.threads), state.running_count == 0);
        drop(state);
        drop(dropped);
        if have_ended {
            for thread in threads {
                thread.join().expect("a helper thread that panics takes the process with it");
            }
        }
        have_ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn work_that_was_given_up_is_still_waited_for_and_what_was_not_begun_is_dropped() {
        let helpers = Helpers::default();
        helpers.start(1).expect("a thread");
        assert_eq!(block_on(helpers.run(|| 7)), 7);
        let (begun, begins) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        drop(helpers.run(move || {
            begun.send(()).expect("the test listens");
            goes_on.recv().expect_err("the test ends it")
        }));
        begins.recv().expect("it begins");
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let mut not_begun = Box::pin(helpers.run(move || drop(holds)));
        assert!(!helpers.end(Duration::from_millis(1)), "it still works");
        assert_eq!(Arc::strong_count(&held), 1, "what was not begun is gone");
        assert!(block_on(poll_once(&mut not_begun)).is_none(), "and nothing is said of it");
        drop(go_on);
        assert!(helpers.end(Duration::from_secs(60)));
        assert!(block_on(poll_once(helpers.run(|| 7))).is_none(), "nobody is left to do it");
    }
}
