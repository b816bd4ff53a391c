//! Writes at a fixed rate by a fixed number of clients, each with one write under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bench::Progress;
use bench::limits::SHOW_EVERY;
use bench::live::LiveView;
use client::Client;
use wal::random::SplitMix64;

use super::super::interrupt::Interrupt;
use crate::limits::{CHECK_KEY_BYTES, CHECK_VALUE_BYTES};

/// What is written.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) prefix: String,
    /// Unit: writes a second.
    pub(super) rate: u64,
    pub(super) clients_count: usize,
    pub(super) lasts: Duration,
}

/// Outcomes of the writes. Times are those of acknowledged writes. Unit: s.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    pub(super) sum: f64,
    pub(super) sum_of_squares: f64,
    pub(super) slowest: f64,
    /// How often each error came.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the first write to the end of the last.
    pub(super) took: Duration,
}

/// What the clients share.
struct Shared {
    plan: Plan,
    started: Instant,
    interrupt: Interrupt,
    /// When the latest write is due that a client has taken.
    last_due: Mutex<Instant>,
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Shared {
    /// Takes the next write and returns when it is due; `None` if there are no more. Time in which no client was free is lost: the rate
    /// is never exceeded to make up for it.
    fn next_due(&self) -> Option<Instant> {
        let interval = Duration::from_nanos(1_000_000_000 / self.plan.rate);
        // The lock holds a whole value whoever panicked.
        let mut last_due = self.last_due.lock().unwrap_or_else(PoisonError::into_inner);
        *last_due = (*last_due + interval).max(Instant::now());
        (*last_due < self.started + self.plan.lasts && !self.interrupt.came()).then_some(*last_due)
    }

    fn progress(&self) -> Progress {
        Progress {
            acknowledged_count: self.acknowledged.load(Ordering::Relaxed),
            failure_count: self.failed.load(Ordering::Relaxed),
        }
    }
}

impl Tally {
    fn acknowledged(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.acknowledged += 1;
        self.sum += seconds;
        self.sum_of_squares += seconds * seconds;
        self.slowest = self.slowest.max(seconds);
    }

    fn failed(&mut self, error: String, count: u64) {
        *self.errors.entry(error).or_default() += count;
    }

    fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.slowest = self.slowest.max(other.slowest);
        other.errors.into_iter().for_each(|(error, count)| self.failed(error, count));
    }

    /// Acknowledged writes a second.
    pub(super) fn throughput(&self) -> f64 {
        self.acknowledged as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Standard deviation of the times.
    pub(super) fn deviation(&self) -> f64 {
        let count = self.acknowledged.max(1) as f64;
        let mean = self.sum / count;
        (self.sum_of_squares / count - mean * mean).max(0.0).sqrt()
    }
}

/// Writes until the time is over or a signal came, and waits for the writes under way.
pub(super) async fn drive(plan: &Plan, connections: &[Client], interrupt: &Interrupt) -> Tally {
    let started = Instant::now();
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        started,
        interrupt: interrupt.clone(),
        last_due: Mutex::new(started),
        acknowledged: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let clients = (0..plan.clients_count).zip(connections.iter().cycle()).map(|(number, client)| {
        let keys = SplitMix64::of_stream(since.as_secs(), number as u64);
        tokio::spawn(write(Arc::clone(&shared), client.clone(), keys))
    });
    let clients: Vec<_> = clients.collect();
    let mut live = LiveView::new(plan.lasts, false);
    while started.elapsed() < plan.lasts && !interrupt.came() {
        tokio::time::sleep(SHOW_EVERY).await;
        live.show(started.elapsed(), shared.progress(), "");
    }
    let mut tally = Tally::default();
    for client in clients {
        match client.await {
            Ok(own) => tally.add(own),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    live.finish();
    tally.took = started.elapsed();
    tally
}

/// Writes as one client, one write after the other.
async fn write(shared: Arc<Shared>, client: Client, mut keys: SplitMix64) -> Tally {
    let mut tally = Tally::default();
    let value = vec![0; CHECK_VALUE_BYTES];
    while let Some(due) = shared.next_due() {
        tokio::time::sleep_until(due.into()).await;
        let key = format!("{}{:0>width$x}", shared.plan.prefix, keys.below(u64::MAX), width = CHECK_KEY_BYTES);
        let begun = Instant::now();
        match client.put(key.as_bytes(), &value).await {
            Ok(_) => {
                tally.acknowledged(begun.elapsed());
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tally.failed(error.to_string(), 1);
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_to_what_all_times_together_give() {
        let mut one = Tally::default();
        let mut other = Tally::default();
        for ms in [10, 20] {
            one.acknowledged(Duration::from_millis(ms));
        }
        for ms in [30, 40] {
            other.acknowledged(Duration::from_millis(ms));
        }
        one.failed("full".to_owned(), 1);
        other.failed("full".to_owned(), 2);
        one.add(other);
        one.took = Duration::from_secs(2);
        assert_eq!((one.acknowledged, one.throughput(), one.slowest), (4, 2.0, 0.04));
        // Of 10, 20, 30, 40 ms: the mean is 25, the squares of the distances have a mean of 125.
        assert!((one.deviation() - 0.125_f64.sqrt() / 10.0_f64.sqrt() * 0.1).abs() < 1e-9, "{}", one.deviation());
        assert_eq!(one.errors["full"], 3);
    }
}
