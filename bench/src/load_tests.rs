//! Tests of `load`: whole loads against a target in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::failures::FailureKind;
use crate::keys::{parse_tracked_key, tracked_shard};

/// A store all fake connections share. Every `unknown_every`-th write is applied but reported as unknown, every
/// `refused_every`-th is refused (0 = never).
#[derive(Default)]
struct Store {
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    put_count: AtomicUsize,
    in_flight: AtomicUsize,
    in_flight_peak: AtomicUsize,
    connection_count: AtomicUsize,
    unknown_every: usize,
    refused_every: usize,
    refuses_connections: bool,
}

#[derive(Clone)]
struct FakeConnector(Arc<Store>);

struct FakeTarget(Arc<Store>);

impl Connect for FakeConnector {
    type Target = FakeTarget;
    type Error = String;

    async fn connect(&self) -> Result<FakeTarget, String> {
        if self.0.refuses_connections {
            return Err("no node answers".to_owned());
        }
        self.0.connection_count.fetch_add(1, Ordering::Relaxed);
        Ok(FakeTarget(Arc::clone(&self.0)))
    }
}

impl PutTarget for FakeTarget {
    type Error = FailureKind;

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<(), FailureKind> {
        let number = self.0.put_count.fetch_add(1, Ordering::Relaxed) + 1;
        let now_in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.in_flight_peak.fetch_max(now_in_flight, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.0.refused_every > 0 && number.is_multiple_of(self.0.refused_every) {
            return Err(FailureKind::Overloaded);
        }
        self.0.rows.lock().expect("not poisoned").insert(key.to_vec(), value.to_vec());
        if self.0.unknown_every > 0 && number.is_multiple_of(self.0.unknown_every) {
            return Err(FailureKind::Unknown);
        }
        Ok(())
    }

    fn kind(error: &FailureKind) -> FailureKind {
        *error
    }
}

fn options(keys: KeyPlan) -> LoadOptions {
    LoadOptions { outstanding: 10, connections: 4, threads: 2, value_bytes: 40, keys, seed: 5, phases: 2 }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Runs a load until it made some progress in each phase.
async fn run(options: LoadOptions, store: &Arc<Store>) -> LoadOutcome {
    let mut load = Load::start(options, FakeConnector(Arc::clone(store))).await.expect("starts");
    for _ in 0..2 {
        let phase_end = load.progress().acknowledged_count + 200;
        while load.progress().acknowledged_count < phase_end {
            tokio::task::yield_now().await;
        }
        load.next_phase();
    }
    load.finish().await.expect("ends well")
}

#[test]
fn every_write_is_accounted_for_and_outstanding_is_kept() {
    let store = Arc::new(Store { unknown_every: 97, refused_every: 89, ..Store::default() });
    let outcome = block_on(run(options(KeyPlan::Tracked { shard_count: 3 }), &store));
    let puts = store.put_count.load(Ordering::Relaxed) as u64;
    let phases = || outcome.phases.iter().chain([&outcome.drain]);
    let acknowledged: u64 = phases().map(PhaseOutcome::acknowledged_count).sum();
    let failures: u64 = phases().map(|phase| phase.failures.total()).sum();
    let unknown: u64 = phases().map(|phase| phase.failures.count(FailureKind::Unknown)).sum();
    assert_eq!(acknowledged + failures, puts);
    assert_eq!(outcome.writes.acknowledged_count(), acknowledged);
    assert_eq!(outcome.writes.unknown_count(), unknown);
    assert_eq!(outcome.writes.workers.iter().map(|worker| worker.sent_count).sum::<u64>(), puts);
    assert_eq!(outcome.timelines.iter().map(Timeline::total).sum::<u64>(), acknowledged);
    assert!(outcome.phases.iter().all(|phase| phase.acknowledged_count() > 0));
    assert_eq!(store.connection_count.load(Ordering::Relaxed), 4);
    assert!(store.in_flight_peak.load(Ordering::Relaxed) <= 10);
}

#[test]
fn tracked_outcomes_name_exactly_the_rows_that_were_written() {
    let store = Arc::new(Store { unknown_every: 31, refused_every: 17, ..Store::default() });
    let outcome = block_on(run(options(KeyPlan::Tracked { shard_count: 2 }), &store));
    let rows = store.rows.lock().expect("not poisoned");
    let filler = Filler::new(40);
    let mut row_count = 0;
    for (worker, writes) in outcome.writes.workers.iter().enumerate() {
        for sequence in writes.acknowledged.iter().chain(writes.unknown.iter()) {
            let value = rows.get(&crate::keys::tracked_key(worker, sequence, 2)).expect("was written");
            assert!(filler.is_tracked_value(value, worker, sequence));
            row_count += 1;
        }
    }
    assert_eq!(row_count, rows.len());
    let shard_of = |key: &Vec<u8>| (0..10).find(|&worker| parse_tracked_key(key, worker, 2).is_some());
    assert!(
        rows.keys().all(|key| {
            shard_of(key).is_some_and(|worker| api::ids::shard_of_key(key, 2) == tracked_shard(worker, 2))
        })
    );
}

#[test]
fn a_connection_that_cannot_be_opened_is_named() {
    let store = Arc::new(Store { refuses_connections: true, ..Store::default() });
    let started = block_on(Load::start(options(KeyPlan::Sequential), FakeConnector(store)));
    let message = started.err().map(|error| error.to_string());
    assert_eq!(message.as_deref(), Some("cannot open connection 0: no node answers"));
}

#[test]
fn options_out_of_bounds_are_named() {
    type Change = fn(&mut LoadOptions);
    let cases: [(&str, Change); 7] = [
        ("outstanding is 0, expected 1 to 100000", |options| options.outstanding = 0),
        ("connections is 11, expected 1 to 10", |options| options.connections = 11),
        ("threads is 5, expected 1 to 4", |options| options.threads = 5),
        ("phases is 0, expected 1 to 100", |options| options.phases = 0),
        ("value-bytes is 1073741824, expected 0 to 107374182", |options| options.value_bytes = 1 << 30),
        ("key-space is 0, expected 1 to 10000000000000000", |options| options.keys = KeyPlan::Random { key_space: 0 }),
        ("shards is 11, expected 1 to 10", |options| options.keys = KeyPlan::Tracked { shard_count: 11 }),
    ];
    for (expected, change) in cases {
        let mut options = options(KeyPlan::Sequential);
        change(&mut options);
        assert_eq!(options.validate().expect_err(expected).to_string(), expected);
    }
}
