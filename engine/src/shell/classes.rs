//! Classes of work on a core, so that none starves another.
//!
//! Each class is a task queue of the executor. Within a class tasks run in turn. Between classes the executor picks the one
//! that had the least time, weighed by its shares; what wakes up after a pause goes first. A task runs until it waits or
//! yields, so every loop that may find more work without waiting yields after a [`Slice`]. Input and output advance at least
//! once in `POLL_WITHIN`, plus what the longest slice takes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use glommio::{Latency, Shares, TaskQueueHandle};

use super::limits::{CONTROL_WITHIN, POLL_WITHIN, PULSE, PULSES_AHEAD, SLICE_BYTES, SLICE_FRAMES};
use super::metrics::SliceMetrics;
use super::slices::Slices;
use super::tasks::Tasks;
use super::work::Work;

/// What a piece of work is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Ticks, and what peers say besides entries: votes, heartbeats, acknowledgements.
    Control,
    /// Turns, syncs, entries. The class that [`Classes::run`] runs in.
    Commit,
    /// Clients and probes.
    Serving,
    /// Preparing segments, repairs, reading old entries in.
    Background,
}

impl Class {
    /// What a slice of this class is spent on, as far as the class says.
    const fn work(self) -> Work {
        match self {
            Self::Control => Work::Control,
            Self::Commit => Work::Commit,
            Self::Serving => Work::Serving,
            Self::Background => Work::Background,
        }
    }
}

/// The task queues of one core.
#[derive(Clone, Debug)]
pub struct Classes {
    control: TaskQueueHandle,
    commit: TaskQueueHandle,
    serving: TaskQueueHandle,
    background: TaskQueueHandle,
    slices: Rc<Slices>,
    tasks: Rc<Tasks>,
}

impl Classes {
    /// Makes the queues on the calling executor, and measures slices into `metrics`.
    #[must_use]
    pub(super) fn create(metrics: SliceMetrics) -> Self {
        let queue =
            |shares, latency, name| glommio::executor().create_task_queue(Shares::Static(shares), latency, name);
        Self {
            control: queue(1000, Latency::Matters(CONTROL_WITHIN), "control"),
            commit: queue(1000, Latency::Matters(POLL_WITHIN), "commit"),
            serving: queue(1000, Latency::Matters(POLL_WITHIN), "serving"),
            background: queue(100, Latency::Matters(POLL_WITHIN), "background"),
            slices: Slices::of_this_thread(metrics),
            tasks: Rc::default(),
        }
    }

    /// The slices of this core.
    pub(super) fn slices(&self) -> &Slices {
        &self.slices
    }

    /// Runs what a core does, in the class of commits, and wakes the executor now and then for as long as that runs.
    pub async fn run(&self, work: impl Future<Output = ()> + 'static) {
        // First polled here and now: its timers are armed before the preempt timer is short.
        let pulses = glommio::spawn_local(pulse());
        // The executor arms a short timer only when it comes round with a task of a class waiting.
        let work = glommio::spawn_local_into(work, self.commit).expect("the queue was just made");
        glommio::timer::sleep(Duration::ZERO).await;
        work.await;
        // Nobody waits until their task is gone: without pulses glommio may never come to run it.
        drop(pulses);
    }

    /// The tasks that were started here and have not ended.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Starts a task in a class. It first runs when the class has its turn, not at once.
    #[track_caller]
    pub fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        let queue = match class {
            Class::Control => self.control,
            Class::Commit => self.commit,
            Class::Serving => self.serving,
            Class::Background => self.background,
        };
        let task = self.measured(class, task);
        glommio::spawn_local_into(task, queue).expect("the queues live as long as their executor").detach();
    }

    /// Starts a task in the queue of the calling one. It first runs at once, inside this call.
    #[track_caller]
    pub(super) fn spawn_here(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(self.measured(class, task)).detach();
    }

    /// A task whose slices are measured, and which ends when all are to end.
    #[track_caller]
    fn measured<F: Future<Output = ()>>(&self, class: Class, task: F) -> impl Future<Output = ()> + use<F> {
        let slices = Rc::clone(&self.slices);
        // In a box: each future that takes it over would set room aside for it anew, three times for every connection.
        let task = self.tasks.enter(Location::caller(), Box::pin(task));
        async move { slices.measure(class.work(), task).await }
    }
}

/// What a task that never waits may do before it lets others run.
#[derive(Debug)]
pub struct Slice {
    frames_left: Cell<u32>,
    bytes_left: Cell<usize>,
}

impl Default for Slice {
    fn default() -> Self {
        Self { frames_left: Cell::new(SLICE_FRAMES), bytes_left: Cell::new(SLICE_BYTES) }
    }
}

impl Slice {
    /// Counts a frame of `bytes`; says whether the slice is used up. Then the next one begins.
    fn is_spent(&self, bytes: usize) -> bool {
        self.frames_left.set(self.frames_left.get() - 1);
        self.bytes_left.set(self.bytes_left.get().saturating_sub(bytes));
        let is_spent = self.frames_left.get() == 0 || self.bytes_left.get() == 0;
        if is_spent {
            self.frames_left.set(SLICE_FRAMES);
            self.bytes_left.set(SLICE_BYTES);
        }
        is_spent
    }

    /// Lets others run if the executor asks for it: after a read, which on a busy connection never waits, so that the pieces of a
    /// large frame come one after the other.
    pub async fn look(&self) {
        if glommio::executor().need_preempt() {
            give_way().await;
        }
    }

    /// Counts a frame of `bytes` that was handled, and lets others run if the slice is used up or the executor asks for it.
    pub async fn spend(&self, bytes: usize) {
        let executor = glommio::executor();
        if self.is_spent(bytes) || executor.need_preempt() {
            give_way().await;
        }
    }
}

/// Wakes the executor now and then.
///
/// glommio 0.9 asks once more before each round of tasks whether its preempt timer has fired, or whatever else came in on the same
/// ring. If so, the round ends before any task ran, and glommio takes that for "nothing to do" and sleeps, whatever waits to run.
/// The timer is short here, so that happens whenever the thread loses its processor at that place. Timers that have fired by then
/// are used up, the one of this task among them, and this task does not run either. So many more are armed beforehand: the
/// executor goes round again after one `PULSE`.
async fn pulse() {
    let mut armed: VecDeque<Timer> = VecDeque::with_capacity(PULSES_AHEAD);
    let mut last = Instant::now();
    poll_fn(|cx| {
        while armed.pop_front_if(|timer| Pin::new(timer).poll(cx).is_ready()).is_some() {}
        let now = Instant::now();
        last = last.max(now);
        while armed.len() < PULSES_AHEAD {
            last += PULSE;
            let mut timer = Timer::new(last - now);
            // This arms it. Should it be over already, the others do.
            let _is_over = Pin::new(&mut timer).poll(cx).is_ready();
            armed.push_back(timer);
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Lets other tasks and other classes run, and input and output advance when it is time for them.
pub async fn give_way() {
    glommio::executor().yield_task_queue_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::limits::BEFORE_CLASSES;

    /// An executor that starts with the short timer sleeps for ever with its first task waiting if its thread comes too late.
    #[test]
    fn a_core_begins_and_hears_other_threads_however_busy_the_host() {
        const ROUNDS: usize = 30;
        let (told, heard) = std::sync::mpsc::channel();
        for _ in 0..ROUNDS {
            let told = told.clone();
            let builder = glommio::LocalExecutorBuilder::default().preempt_timer(BEFORE_CLASSES);
            let (wake, woken) = async_channel::bounded(1);
            let executor = builder.spawn(move || async move {
                let work = async move {
                    told.send(()).expect("the test listens");
                    woken.recv().await.expect("a word of the test");
                };
                Classes::create(SliceMetrics::default()).run(work).await;
            });
            heard.recv_timeout(Duration::from_secs(60)).expect("its first task ran");
            wake.send_blocking(()).expect("it listens");
            executor.expect("a thread").join().expect("it ends");
        }
    }

    /// Ticks of 10 ms in a class so hasty that many rounds end before any task ran; says what the longest time between two was.
    async fn tick_hastily(latency: Duration, until: Instant) -> Duration {
        let latency = Latency::Matters(latency);
        let queue = glommio::executor().create_task_queue(Shares::Static(1000), latency, "hasty");
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let ticks = async move {
            while last < until {
                glommio::timer::sleep(Duration::from_millis(10)).await;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            longest
        };
        glommio::spawn_local_into(ticks, queue).expect("the queue was just made").await
    }

    /// With two pulses, an executor slept for up to a second with a tick due: the timer of the shorter pulse was used up.
    /// The latencies are far shorter than those of the classes, but not so short that a slow machine begins no task within one.
    #[test]
    fn an_executor_that_sleeps_with_work_left_wakes_after_a_pulse() {
        const PULSES_MAX: u32 = 40;
        let until = Instant::now() + Duration::from_secs(3);
        let executors: Vec<_> = [100, 120, 150, 200, 250, 300, 350, 400]
            .map(|latency_us| {
                let builder = glommio::LocalExecutorBuilder::default().preempt_timer(BEFORE_CLASSES);
                let (told, longest) = std::sync::mpsc::channel();
                let hasty = builder.spawn(move || async move {
                    let work = async move {
                        let longest = tick_hastily(Duration::from_micros(latency_us), until).await;
                        told.send(longest).expect("the test listens");
                    };
                    Classes::create(SliceMetrics::default()).run(work).await;
                });
                (hasty.expect("a thread"), longest)
            })
            .into();
        let longest = executors.into_iter().map(|(executor, longest)| {
            executor.join().expect("it ends");
            longest.recv().expect("it was told")
        });
        let longest = longest.max().expect("some executors");
        assert!(longest < PULSE * PULSES_MAX, "a tick of 10 ms came after {longest:?}");
    }

    #[test]
    fn a_slice_ends_by_frames_or_by_bytes_and_the_next_one_is_whole() {
        let slice = Slice::default();
        for _ in 0..2 {
            assert!((1..SLICE_FRAMES).all(|_| !slice.is_spent(1)));
            assert!(slice.is_spent(1));
            assert!(!slice.is_spent(SLICE_BYTES - 1) && slice.is_spent(1));
            assert!(slice.is_spent(usize::MAX));
        }
    }
}
