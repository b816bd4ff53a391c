//! The leader is stopped in order, or killed, under many outstanding writes: what clients notice of it.
//!
//! `QUORATE_HANDOVER_ROUNDS` sets the number of rounds; pauses are asserted only then, since a busy machine makes its own.
//! `QUORATE_KILL_ROUNDS` sets the rounds of the kills and restarts, which only print; `QUORATE_KILL_OUTSTANDING` how many writes
//! wait meanwhile. `QUORATE_TIMELINE_MS` prints what the nodes logged around every pause that is longer; with `QUORATE_LOG=info` that is
//! every step from one leader to the next.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, ClientError};
use rustix::process::Signal;

use crate::harness::Cluster;
use crate::timeline::{self, Moment};

/// Writes that wait for an answer at any time.
const OUTSTANDING: usize = 200;

/// Longest pause of an orderly stop, where pauses are asserted.
const PAUSE_MAX: Duration = Duration::from_millis(150);

/// Rounds unless the environment says otherwise.
const ROUNDS: usize = 5;

/// Rounds of one cluster, at most.
const ROUNDS_OF_A_CLUSTER: usize = 10;

/// Shown before and after a pause.
const MARGIN: Duration = Duration::from_millis(60);

fn rounds(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().and_then(|rounds| rounds.parse().ok())
}

/// What writers saw.
#[derive(Default)]
struct Seen {
    done: AtomicU64,
    pauses: Mutex<Pauses>,
    unknown: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Pauses {
    /// When a write was last answered.
    last: Option<Instant>,
    /// The longest since it was last taken.
    longest: Option<Pause>,
}

/// A time without any answer.
#[derive(Clone, Copy)]
struct Pause {
    length: Duration,
    end: Moment,
}

impl Pause {
    /// What the nodes logged around it, if it was long enough for that. Times count from `zero`.
    fn show(self, cluster: &Cluster, what: &str, zero: Moment) {
        if rounds("QUORATE_TIMELINE_MS").is_some_and(|limit_ms| self.length.as_millis() >= limit_ms as u128) {
            let start = self.end.before(self.length);
            println!(
                "{what}: no answer from {:+.1} to {:+.1} ms\n{}",
                start.ms_since(zero),
                self.end.ms_since(zero),
                timeline::of(cluster, zero, start.before(MARGIN), self.end.after(MARGIN))
            );
        }
    }
}

impl Seen {
    fn on_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut pauses = self.pauses.lock().expect("no writer panicked");
        let Some(last) = pauses.last.replace(now) else { return };
        let length = now - last;
        if pauses.longest.is_none_or(|longest| length > longest.length) {
            pauses.longest = Some(Pause { length, end: Moment::now() });
        }
    }

    /// The longest pause since this was last asked.
    fn take_pause(&self) -> Pause {
        let longest = self.pauses.lock().expect("no writer panicked").longest.take();
        longest.unwrap_or(Pause { length: Duration::ZERO, end: Moment::now() })
    }

    async fn wait_for_more(&self, count: u64) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        tokio::time::timeout(crate::harness::PATIENCE, async {
            while self.done.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("writes are acknowledged");
    }
}

/// Writers at work, each with one write at a time.
struct Writers {
    seen: Arc<Seen>,
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    async fn start(cluster: &Cluster, outstanding: usize) -> Self {
        let (seen, is_over) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let client = cluster.client_of(&[0, 1, 2], Duration::from_secs(20)).await;
        let write = |writer: usize| {
            let (client, seen, is_over) = (client.clone(), Arc::clone(&seen), Arc::clone(&is_over));
            tokio::spawn(async move { write_until(&is_over, &client, &seen, writer).await })
        };
        Self { tasks: (0..outstanding).map(write).collect(), seen, is_over }
    }

    async fn stop(self) -> Arc<Seen> {
        self.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer ends well");
        }
        self.seen
    }
}

async fn write_until(is_over: &AtomicBool, client: &Client, seen: &Seen, writer: usize) {
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{writer}-{}", number % 100);
        match client.put(key.as_bytes(), number.to_string().as_bytes()).await {
            Ok(_) => seen.on_done(),
            Err(ClientError::Unknown { reason }) => seen.unknown.lock().expect("no writer panicked").push(reason),
            Err(error) => seen.refused.lock().expect("no writer panicked").push(error.to_string()),
        }
    }
}

#[tokio::test]
async fn a_leader_that_is_stopped_in_order_leaves_no_write_unknown() {
    let asserted = rounds("QUORATE_HANDOVER_ROUNDS");
    let mut pauses = Vec::new();
    let (mut done, mut unknown, mut refused) = (0, Vec::new(), Vec::new());
    let mut rounds_left = asserted.unwrap_or(ROUNDS);
    // Some hundred thousand writes a second add up, and a node reads all of them when it starts: so not all in one cluster.
    while rounds_left > 0 {
        let rounds = rounds_left.min(ROUNDS_OF_A_CLUSTER);
        rounds_left -= rounds;
        let seen = stop_leaders(rounds, &mut pauses).await;
        done += seen.done.load(Ordering::Relaxed);
        unknown.append(&mut seen.unknown.lock().expect("no writer panicked"));
        refused.append(&mut seen.refused.lock().expect("no writer panicked"));
    }
    pauses.sort_unstable();
    println!(
        "{} orderly stops of the leader under {OUTSTANDING} outstanding writes: {done} done, {} unknown, {} refused, pauses {pauses:?}",
        pauses.len(),
        unknown.len(),
        refused.len()
    );
    assert!(unknown.is_empty(), "{} writes of unknown outcome, the first: {}", unknown.len(), unknown[0]);
    assert!(refused.is_empty(), "{} writes refused, the first: {}", refused.len(), refused[0]);
    let longest = pauses.last().copied().unwrap_or_default();
    assert!(asserted.is_none() || longest <= PAUSE_MAX, "a pause of {longest:?}");
}

/// Stops the leader of a new cluster so many times, and says what its writers saw.
async fn stop_leaders(rounds: usize, pauses: &mut Vec<Duration>) -> Arc<Seen> {
    let mut cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, OUTSTANDING).await;
    for _ in 0..rounds {
        writers.seen.wait_for_more(500).await;
        let leader = cluster.leader(0).await;
        writers.seen.take_pause();
        let stopped = Moment::now();
        cluster.signal(leader, Signal::TERM);
        assert!(cluster.wait_for_end_meanwhile(leader).await, "{}", cluster.log_of(leader));
        writers.seen.wait_for_more(500).await;
        let pause = writers.seen.take_pause();
        pause.show(&cluster, "SIGTERM", stopped);
        pauses.push(pause.length);
        cluster.start_node(leader);
        cluster.wait_for_equal_applied().await;
    }
    writers.stop().await
}

/// By hand: how long writes pause when a leader is killed, and when it returns.
#[tokio::test]
async fn pauses_when_a_leader_is_killed_and_returns() {
    let Some(count) = rounds("QUORATE_KILL_ROUNDS") else { return };
    let outstanding = rounds("QUORATE_KILL_OUTSTANDING").unwrap_or(OUTSTANDING);
    let mut cluster = Cluster::start(3).await;
    let writers = Writers::start(&cluster, outstanding).await;
    for _ in 0..count {
        writers.seen.wait_for_more(2000).await;
        let leader = cluster.leader(0).await;
        writers.seen.take_pause();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let steady = writers.seen.take_pause();
        let (_, memory_bytes) = cluster.memory_bytes(leader);
        let zero = Moment::now();
        cluster.signal(leader, Signal::KILL);
        assert!(!cluster.wait_for_end_meanwhile(leader).await, "it was killed");
        // Its connections break a moment before, once its memory is given back.
        let died_ms = Moment::now().ms_since(zero);
        writers.seen.wait_for_more(2000).await;
        let killed = writers.seen.take_pause();
        killed.show(&cluster, "SIGKILL", zero);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let without = writers.seen.take_pause();
        let zero = Moment::now();
        cluster.start_node(leader);
        cluster.wait_for_equal_applied().await;
        let level_ms = Moment::now().ms_since(zero);
        let busy = cluster.processor_time(leader);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let returned = writers.seen.take_pause();
        returned.show(&cluster, "return", zero);
        println!(
            "{outstanding} outstanding, longest pause: steady {:?}, killed {:?}, without it {:?}, on its return {:?}; its {} MB \
             were gone after {died_ms:.0} ms; it was level after {level_ms:.0} ms, of which it ran for {busy:?}",
            steady.length,
            killed.length,
            without.length,
            returned.length,
            memory_bytes >> 20
        );
    }
    let seen = writers.stop().await;
    println!("{} unknown", seen.unknown.lock().expect("no writer panicked").len());
}
