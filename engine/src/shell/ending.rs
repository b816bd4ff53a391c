//! How the cores of a node and whoever stops it come to the end together.
//!
//! A core that is done with its clients and peers waits until the others are, too: answers may still be on their way. Then all end
//! their tasks. Only when no other thread of the node can wake a task of a core any more may its executor end: glommio keeps a wake-up
//! that comes too late for ever, and with it the executor's descriptor.
//!
//! Cores look at a number instead of waiting for a wake-up, for the same reason. It starts and ends no thread itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::leftover::Leftover;
use super::limits::LOOK_FOR_END;

/// What a core has come to, or may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Step {
    /// It serves.
    Running,
    /// It serves nobody any more; its tasks may end.
    Stopped,
    /// It has no task any more; its executor may end.
    Idle,
    /// Its executor ends.
    Gone,
}

/// The end of a node. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The step that every core may take, as a number.
    allowed: AtomicU8,
    /// What each core has come to.
    reached: Mutex<BTreeMap<usize, Step>>,
    changed: Condvar,
    /// What the executors of cores that ended in order leave behind.
    leftovers: Mutex<Vec<Leftover>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("reached", &self.reached).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Step>> {
        // Every change is one assignment.
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, core: usize, step: Step) {
        let before = self.lock().insert(core, step);
        assert!(before.is_some_and(|before| before <= step), "a core takes its steps in order");
        self.changed.notify_all();
    }
}

impl Ending {
    /// A core that is about to be started.
    pub(super) fn of_core(&self, core: usize) -> CoreEnd {
        self.shared.lock().insert(core, Step::Running);
        CoreEnd { core, shared: Arc::clone(&self.shared) }
    }

    /// Waits until every core of which `counts` is true has come to a step; returns those that did not in time.
    pub(super) fn wait(&self, step: Step, patience: Duration, counts: impl Fn(usize) -> bool) -> Vec<usize> {
        let until = Instant::now() + patience;
        let mut reached = self.shared.lock();
        loop {
            let behind: Vec<usize> =
                reached.iter().filter(|(core, at)| **at < step && counts(**core)).map(|(core, _)| *core).collect();
            let left = until.saturating_duration_since(Instant::now());
            if behind.is_empty() || left.is_zero() {
                return behind;
            }
            reached = self.shared.changed.wait_timeout(reached, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What the executors left behind, once their threads have ended.
    pub(super) fn take_leftovers(&self) -> Vec<Leftover> {
        std::mem::take(&mut *self.shared.leftovers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets all cores come to a step.
    pub(super) fn allow(&self, step: Step) {
        self.shared.allowed.store(step as u8, Ordering::Release);
    }
}

/// The end of one core, told to whoever stops the node. A core whose executor never ran is gone when this is dropped.
#[derive(Debug)]
pub(super) struct CoreEnd {
    core: usize,
    shared: Arc<Shared>,
}

impl CoreEnd {
    /// The core has come to a step.
    pub(super) fn has_reached(&self, step: Step) {
        self.shared.note(self.core, step);
    }

    /// Nothing of the core is left but this.
    pub(super) fn leaves(&self, leftover: Leftover) {
        self.shared.leftovers.lock().unwrap_or_else(PoisonError::into_inner).push(leftover);
    }

    /// Waits until the core may come to a step.
    pub(super) async fn until_allowed(&self, step: Step) {
        while self.shared.allowed.load(Ordering::Acquire) < step as u8 {
            glommio::timer::sleep(LOOK_FOR_END).await;
        }
    }
}

impl Drop for CoreEnd {
    fn drop(&mut self) {
        self.shared.note(self.core, Step::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_are_behind_are_named_and_one_that_never_ran_is_gone() {
        let ending = Ending::default();
        let [first, second, third] = [0, 1, 2].map(|core| ending.of_core(core));
        first.has_reached(Step::Stopped);
        drop(third);
        assert_eq!(ending.wait(Step::Stopped, Duration::ZERO, |_| true), [1]);
        assert_eq!(ending.wait(Step::Idle, Duration::ZERO, |core| core != 1), [0]);
        second.has_reached(Step::Idle);
        assert!(ending.wait(Step::Stopped, Duration::from_secs(60), |_| true).is_empty());
    }

    #[test]
    fn a_core_goes_on_when_it_may() {
        let ending = Ending::default();
        let (core, end) = (ending.of_core(0), ending.clone());
        let thread = std::thread::spawn(move || {
            glommio::LocalExecutor::default().run(async {
                core.has_reached(Step::Stopped);
                core.until_allowed(Step::Idle).await;
                core.has_reached(Step::Idle);
            });
        });
        assert!(end.wait(Step::Stopped, Duration::from_secs(60), |_| true).is_empty());
        assert_eq!(end.wait(Step::Idle, Duration::from_millis(5), |_| true), [0]);
        end.allow(Step::Idle);
        assert!(end.wait(Step::Gone, Duration::from_secs(60), |_| true).is_empty());
        thread.join().expect("it ends");
    }
}
