//! A closed-loop load of puts: a fixed number of writes in flight over a fixed number of connections, until stopped.
//!
//! Each thread runs its own single-threaded tokio runtime with its share of the connections and workers, so nothing is
//! shared between threads while it runs but the counters in `control`. A load knows no clock of its own beyond
//! time-stamps: whoever starts it decides when a phase begins and when it ends. It never looks at what a node holds.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::oneshot;
use wal::random::SplitMix64;

use crate::acks::{LoadWrites, WorkerWrites};
use crate::control::{Control, Progress};
use crate::failures::FailureCounts;
use crate::keys::{Filler, KEY_SPACE_MAX, KeyPlan, TRACKED_VALUE_BYTES_MIN, WriteSource};
use crate::latency::LatencyHistogram;
use crate::limits::{OUTSTANDING_BYTES_MAX, OUTSTANDING_MAX};
use crate::target::{Connect, PutTarget};
use crate::timeline::Timeline;
use crate::worker::{self, PhaseTally, ThreadState, ThreadTally};

/// Stream of the seed that jitter uses, apart from the workers' key streams.
const JITTER_STREAM: u64 = 1 << 40;

/// What to write, and how much of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Writes in flight at any time, over all connections; 1..=[`OUTSTANDING_MAX`].
    pub outstanding: usize,
    /// Connections they are spread over; 1..=`outstanding`.
    pub connections: usize,
    /// Threads the connections are spread over; 1..=`connections`.
    pub threads: usize,
    /// Length of each value, in bytes.
    pub value_bytes: usize,
    /// Keys to write.
    pub keys: KeyPlan,
    /// Seed of keys and jitter.
    pub seed: u64,
    /// Phases results are told apart by, at least 1; see [`Load::next_phase`].
    pub phases: usize,
}

/// Why a load could not be started or did not end well.
#[derive(Debug, Error)]
pub enum LoadError {
    /// An option is out of its bounds.
    #[error("{option} is {got}, expected {expected}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What it was.
        got: u64,
        /// What it may be.
        expected: String,
    },
    /// A connection could not be opened.
    #[error("cannot open connection {connection}: {reason}")]
    Connect {
        /// Number of the connection, from 0.
        connection: usize,
        /// What the client library said.
        reason: String,
    },
    /// A thread or its runtime could not be started.
    #[error("cannot start a load thread: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// A histogram could not be created.
    #[error("cannot create a histogram: {source}")]
    Histogram {
        /// What the library said.
        #[from]
        source: hdrhistogram::CreationError,
    },
    /// A thread of the load ended by a panic; its message is on stderr.
    #[error("load thread {thread} panicked")]
    Panicked {
        /// Number of the thread, from 0.
        thread: usize,
    },
}

/// Results of one phase.
#[derive(Clone, Debug)]
pub struct PhaseOutcome {
    /// How long the phase lasted.
    pub duration: Duration,
    /// Writes that were not acknowledged, by kind; counted in the phase in which they failed.
    pub failures: FailureCounts,
    /// Latencies of the writes acknowledged within the phase.
    pub latency: LatencyHistogram,
}

impl PhaseOutcome {
    /// Writes acknowledged within the phase.
    #[must_use]
    pub fn acknowledged_count(&self) -> u64 {
        self.latency.count()
    }

    /// Acknowledged writes per second; 0 for a phase of no length.
    #[must_use]
    pub fn ops_per_s(&self) -> f64 {
        let seconds = self.duration.as_secs_f64();
        if seconds > 0.0 { self.acknowledged_count() as f64 / seconds } else { 0.0 }
    }
}

/// Results of a load.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    /// By phase, in order; as many as the options said.
    pub phases: Vec<PhaseOutcome>,
    /// Writes in flight when the load was stopped: they were waited for, and are in no phase.
    pub drain: PhaseOutcome,
    /// Acknowledgements over time since [`Load::origin`], by shard of tracked keys (otherwise all in the first).
    pub timelines: Vec<Timeline>,
    /// What became of each write; empty sets unless keys were tracked.
    pub writes: LoadWrites,
    /// Processor time of the load's threads together, if the system tells.
    pub cpu: Option<Duration>,
}

struct ThreadOutcome {
    tally: ThreadTally,
    /// Worker number and its writes.
    writes: Vec<(usize, WorkerWrites)>,
    cpu: Option<Duration>,
}

struct LoadThread {
    handle: JoinHandle<()>,
    outcome: oneshot::Receiver<Result<ThreadOutcome, LoadError>>,
}

/// A running load. Dropping it stops it, without waiting.
pub struct Load {
    control: Arc<Control>,
    threads: Vec<LoadThread>,
    origin: Instant,
    /// Begin of each phase reached so far; the first is the origin.
    phase_begins: Vec<Instant>,
    options: LoadOptions,
}

impl LoadOptions {
    /// Checks every option against its bounds.
    ///
    /// # Errors
    /// [`LoadError::Option`] names the first that is out of them.
    pub fn validate(&self) -> Result<(), LoadError> {
        let within = |option, got: usize, from: usize, to: usize| {
            let expected = || format!("{from} to {to}");
            let is_within = (from..=to).contains(&got);
            is_within.then_some(()).ok_or_else(|| LoadError::Option { option, got: got as u64, expected: expected() })
        };
        within("outstanding", self.outstanding, 1, OUTSTANDING_MAX)?;
        within("connections", self.connections, 1, self.outstanding)?;
        within("threads", self.threads, 1, self.connections)?;
        within("phases", self.phases, 1, 100)?;
        within("value-bytes", self.value_bytes, 0, OUTSTANDING_BYTES_MAX / self.outstanding)?;
        match self.keys {
            KeyPlan::Random { key_space } if !(1..=KEY_SPACE_MAX).contains(&key_space) => Err(LoadError::Option {
                option: "key-space",
                got: key_space,
                expected: format!("1 to {KEY_SPACE_MAX}"),
            }),
            KeyPlan::Random { .. } | KeyPlan::Sequential => Ok(()),
            KeyPlan::Tracked { shard_count } => {
                within("shards", shard_count as usize, 1, self.outstanding)?;
                within("value-bytes", self.value_bytes, TRACKED_VALUE_BYTES_MIN, usize::MAX)
            }
        }
    }
}

impl Load {
    /// Opens all connections, then lets all workers begin at once, in phase 0.
    ///
    /// # Errors
    /// An option is out of bounds, a thread could not be started, or a connection could not be opened.
    pub async fn start<C: Connect>(options: LoadOptions, connector: C) -> Result<Self, LoadError> {
        options.validate()?;
        let control = Arc::new(Control::new(options.threads));
        let filler = Arc::new(Filler::new(options.value_bytes));
        let mut threads = Vec::with_capacity(options.threads);
        let mut starting = Vec::with_capacity(options.threads);
        for thread in 0..options.threads {
            let (outcome_sender, outcome) = oneshot::channel();
            let (connected_sender, connected) = oneshot::channel();
            let (go_sender, go) = oneshot::channel();
            let plan = ThreadPlan {
                thread,
                options: options.clone(),
                control: Arc::clone(&control),
                filler: Arc::clone(&filler),
                connected: connected_sender,
                go,
            };
            let connector = connector.clone();
            let body = move || {
                let result = run_thread(plan, connector);
                // Nobody waits any more if the load was dropped.
                let _ = outcome_sender.send(result);
            };
            let builder = std::thread::Builder::new().name(format!("load-{thread}"));
            let handle = builder.spawn(body).map_err(|source| LoadError::Thread { source })?;
            threads.push(LoadThread { handle, outcome });
            starting.push((connected, go_sender));
        }
        Self::begin(options, control, threads, starting).await
    }

    async fn begin(
        options: LoadOptions,
        control: Arc<Control>,
        mut threads: Vec<LoadThread>,
        starting: Vec<(oneshot::Receiver<()>, oneshot::Sender<Instant>)>,
    ) -> Result<Self, LoadError> {
        let mut go_senders = Vec::with_capacity(starting.len());
        for (thread, (connected, go)) in starting.into_iter().enumerate() {
            if connected.await.is_err() {
                // It ended before it was connected; the others end by themselves as their `go` is dropped.
                return Err(match threads.swap_remove(thread).outcome.await {
                    Ok(Err(error)) => error,
                    Ok(Ok(_)) | Err(_) => LoadError::Panicked { thread },
                });
            }
            go_senders.push(go);
        }
        let origin = Instant::now();
        for go in go_senders {
            // A thread that has gone meanwhile is reported by `finish`.
            let _ = go.send(origin);
        }
        Ok(Self { control, threads, origin, phase_begins: vec![origin], options })
    }

    /// When all workers began.
    #[must_use]
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Totals up to now, a little behind.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.control.progress()
    }

    /// Ends the present phase and begins the next; writes count where they end. The last phase has no next.
    pub fn next_phase(&mut self) {
        if self.phase_begins.len() < self.options.phases {
            self.control.set_phase(self.phase_begins.len());
            self.phase_begins.push(Instant::now());
        }
    }

    /// Stops the load, waits for the writes in flight, and returns all results.
    ///
    /// # Errors
    /// A thread of the load failed or panicked.
    pub async fn finish(mut self) -> Result<LoadOutcome, LoadError> {
        let stopped = Instant::now();
        self.control.set_phase(self.options.phases);
        self.control.stop();
        let mut merged = self.empty_outcome(stopped)?;
        for (number, thread) in std::mem::take(&mut self.threads).into_iter().enumerate() {
            let outcome = thread.outcome.await.map_err(|_| LoadError::Panicked { thread: number })??;
            thread.handle.join().map_err(|_| LoadError::Panicked { thread: number })?;
            merged.add(outcome);
        }
        merged.drain.duration = stopped.elapsed();
        Ok(merged)
    }

    fn empty_outcome(&self, stopped: Instant) -> Result<LoadOutcome, LoadError> {
        let empty = |duration| -> Result<PhaseOutcome, LoadError> {
            Ok(PhaseOutcome { duration, failures: FailureCounts::default(), latency: LatencyHistogram::new()? })
        };
        let mut phases = Vec::with_capacity(self.options.phases);
        for phase in 0..self.options.phases {
            let begin = self.phase_begins.get(phase).copied().unwrap_or(stopped);
            let end = self.phase_begins.get(phase + 1).copied().unwrap_or(stopped);
            phases.push(empty(end.saturating_duration_since(begin))?);
        }
        Ok(LoadOutcome {
            phases,
            drain: empty(Duration::ZERO)?,
            timelines: vec![Timeline::default(); timeline_count(self.options.keys)],
            writes: LoadWrites { workers: vec![WorkerWrites::default(); self.options.outstanding] },
            cpu: Some(Duration::ZERO),
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.control.stop();
    }
}

impl LoadOutcome {
    fn add(&mut self, thread: ThreadOutcome) {
        let phases = self.phases.iter_mut().chain(std::iter::once(&mut self.drain));
        for (phase, tally) in phases.zip(thread.tally.phases) {
            phase.failures.merge(&tally.failures);
            phase.latency.merge(&tally.latency);
        }
        for (timeline, more) in self.timelines.iter_mut().zip(&thread.tally.timelines) {
            timeline.merge(more);
        }
        for (worker, writes) in thread.writes {
            if let Some(slot) = self.writes.workers.get_mut(worker) {
                *slot = writes;
            }
        }
        self.cpu = self.cpu.zip(thread.cpu).map(|(sum, more)| sum + more);
    }
}

/// What one thread is given.
struct ThreadPlan {
    thread: usize,
    options: LoadOptions,
    control: Arc<Control>,
    filler: Arc<Filler>,
    /// Told once all connections of the thread are open; dropped if they cannot be.
    connected: oneshot::Sender<()>,
    /// Receives the load's origin when all threads are connected.
    go: oneshot::Receiver<Instant>,
}

fn run_thread<C: Connect>(plan: ThreadPlan, connector: C) -> Result<ThreadOutcome, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|source| LoadError::Thread { source })?;
    runtime.block_on(drive_thread(plan, connector))
}

async fn drive_thread<C: Connect>(plan: ThreadPlan, connector: C) -> Result<ThreadOutcome, LoadError> {
    let ThreadPlan { thread, options, control, filler, connected, go } = plan;
    // Connection c belongs to thread c % threads, worker w to connection w % connections.
    let mut targets = Vec::new();
    for connection in (thread..options.connections).step_by(options.threads) {
        let opened = connector.connect().await;
        let target = opened.map_err(|error| LoadError::Connect { connection, reason: error.to_string() })?;
        targets.push((connection, Rc::new(target)));
    }
    let mut tally = ThreadTally { phases: Vec::new(), timelines: Vec::new() };
    for _ in 0..=options.phases {
        tally.phases.push(PhaseTally { failures: FailureCounts::default(), latency: LatencyHistogram::new()? });
    }
    tally.timelines.resize(timeline_count(options.keys), Timeline::default());
    // Both fail only when the load was given up before it began: the thread then ends with nothing done.
    let _ = connected.send(());
    let Ok(origin) = go.await else { return Ok(ThreadOutcome { tally, writes: Vec::new(), cpu: None }) };
    let is_tracked = matches!(options.keys, KeyPlan::Tracked { .. });
    let state = Rc::new(ThreadState { control, thread, origin, tally: RefCell::new(tally), is_tracked });
    let workers = spawn_workers(&options, &filler, &state, &targets);
    let mut writes = Vec::with_capacity(workers.len());
    for (worker, handle) in workers {
        writes.push((worker, handle.await.map_err(|_| LoadError::Panicked { thread })?));
    }
    let empty = ThreadTally { phases: Vec::new(), timelines: Vec::new() };
    Ok(ThreadOutcome { tally: state.tally.replace(empty), writes, cpu: thread_cpu() })
}

fn spawn_workers<T: PutTarget>(
    options: &LoadOptions,
    filler: &Filler,
    state: &Rc<ThreadState>,
    targets: &[(usize, Rc<T>)],
) -> Vec<(usize, tokio::task::JoinHandle<WorkerWrites>)> {
    let mut workers = Vec::new();
    for (connection, target) in targets {
        for worker in (*connection..options.outstanding).step_by(options.connections) {
            let source = WriteSource::new(options.keys, worker, options.outstanding, options.seed, filler);
            let jitter = SplitMix64::of_stream(options.seed, JITTER_STREAM + worker as u64);
            let task = worker::run(Rc::clone(state), Rc::clone(target), source, jitter);
            workers.push((worker, tokio::task::spawn_local(task)));
        }
    }
    workers
}

fn timeline_count(keys: KeyPlan) -> usize {
    match keys {
        KeyPlan::Tracked { shard_count } => shard_count as usize,
        KeyPlan::Random { .. } | KeyPlan::Sequential => 1,
    }
}

/// Processor time of the calling thread, from the scheduler's statistics; None where the kernel keeps none.
fn thread_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let run_ns: u64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(run_ns))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
