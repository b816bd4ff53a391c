//! How long a core stays with one piece of work before others have their turn: the longest slice of each kind since the start.
//!
//! A slice is one poll of a task, and nothing else happens on the core meanwhile: a tick that is due waits for it. So a late tick
//! can be told from a long slice. The time for which the core's thread waited for a processor is left out, as in the own gap
//! (`docs/metrics.md`). It measures and decides nothing.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::limits::{WAITS_LOOK_EVERY, WAITS_LOOK_WITHIN, WAITS_LOOKS_MAX};
use super::metrics::SliceMetrics;
use super::run_queue::RunQueue;
use super::work::Work;

/// The slices of one core.
#[derive(Debug)]
pub(super) struct Slices {
    run_queue: RunQueue,
    /// When the waits of the thread were last looked at, and what they were.
    looked: Cell<(Instant, Duration)>,
    /// What the slice under way turned out to be.
    turned_out: Cell<Option<Work>>,
    longest: [Cell<Duration>; Work::ALL.len()],
    /// Since it was last asked for.
    longest_lately: Cell<Option<(Work, Duration)>>,
    metrics: SliceMetrics,
}

impl Slices {
    /// Measures the slices of the calling thread.
    pub(super) fn of_this_thread(metrics: SliceMetrics) -> Rc<Self> {
        let run_queue = RunQueue::of_this_thread();
        let looked = Cell::new((Instant::now(), run_queue.times().waited));
        Rc::new(Self {
            run_queue,
            looked,
            turned_out: Cell::default(),
            longest: Default::default(),
            longest_lately: Cell::default(),
            metrics,
        })
    }

    /// Runs a task and measures its slices, which count as `work` unless `turned_out` says otherwise.
    pub(super) async fn measure<T>(&self, work: Work, task: impl Future<Output = T>) -> T {
        let mut task = pin!(task);
        poll_fn(|cx| {
            let started = self.begin();
            // A task that is started in here is polled at once, within this slice.
            let outer = self.turned_out.take();
            let polled = task.as_mut().poll(cx);
            let work = self.turned_out.replace(outer).unwrap_or(work);
            self.end(work, started);
            polled
        })
        .await
    }

    /// The slice under way is spent on this.
    pub(super) fn turned_out(&self, work: Work) {
        self.turned_out.set(Some(work));
    }

    /// The longest slice since this was last asked.
    pub(super) fn take_longest_lately(&self) -> Option<(Work, Duration)> {
        self.longest_lately.take()
    }

    /// Now, and what the thread has waited.
    fn begin(&self) -> (Instant, Duration) {
        // The clock first, here and at the end: a thread that loses its processor as the system call returns waits in the slice.
        let mut now = Instant::now();
        if now.duration_since(self.looked.get().0) >= WAITS_LOOK_EVERY {
            for _ in 0..WAITS_LOOKS_MAX {
                self.looked.set((now, self.run_queue.times().waited));
                let looked_for = now.elapsed();
                if looked_for < WAITS_LOOK_WITHIN {
                    break;
                }
                // It lost its processor in the look: a wait that the look has and the slice would have, too.
                now += looked_for;
            }
        }
        (now, self.looked.get().1)
    }

    fn end(&self, work: Work, (started, waited_before): (Instant, Duration)) {
        let now = Instant::now();
        assert!(now >= started, "a slice ends after it began");
        let mut took = now.duration_since(started);
        if took >= WAITS_LOOK_EVERY {
            let waited = self.run_queue.times().waited;
            self.looked.set((now, waited));
            took = took.saturating_sub(waited.saturating_sub(waited_before));
        }
        if self.longest_lately.get().is_none_or(|(_, longest)| took > longest) {
            self.longest_lately.set(Some((work, took)));
        }
        let longest = &self.longest[work as usize];
        if took > longest.get() {
            longest.set(took);
            assert!(took <= now.duration_since(started), "waits are a part of a slice");
            self.metrics.longest(work, took);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, yield_now};

    use super::*;

    fn longest(slices: &Slices, work: Work) -> Duration {
        slices.longest[work as usize].get()
    }

    #[test]
    fn the_longest_slice_of_each_kind_is_kept_and_waiting_is_none() {
        let slices = Slices::of_this_thread(SliceMetrics::default());
        let busy = |time: Duration| {
            let started = Instant::now();
            while started.elapsed() < time {}
        };
        let work = Duration::from_micros(300);
        block_on(slices.measure(Work::Serving, async {
            busy(work);
            yield_now().await;
            slices.turned_out(Work::Apply);
            busy(2 * work);
            // A task within a task has slices of its own, which are part of the outer one.
            slices.measure(Work::Commit, async { busy(work) }).await;
        }));
        assert!(longest(&slices, Work::Serving) >= work);
        assert!(longest(&slices, Work::Commit) >= work);
        assert!(longest(&slices, Work::Apply) >= 3 * work);
        assert_eq!(longest(&slices, Work::Read), Duration::ZERO);
        let lately = slices.take_longest_lately().expect("some slices");
        assert!(lately.1 >= longest(&slices, Work::Apply) && slices.take_longest_lately().is_none(), "{lately:?}");
    }
}
