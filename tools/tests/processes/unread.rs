//! Clients that ask for much and read nothing.

use std::io::Write;
use std::time::{Duration, Instant};

use api::call::CallKind;
use api::command::{KeyRange, RangeOp, encode_range};
use net::api::Request;
use net::frame::FrameKind;

use crate::door::Raw;
use crate::harness::{Cluster, PATIENCE, is_full_run};
use crate::probes::count as count_of;

/// So many reads of `key`, to be sent at once.
fn gets_of_key(count: u64, timeout_ms: u32) -> Vec<u8> {
    let mut range = Vec::new();
    let key = KeyRange { key: b"key", range_end: b"" };
    encode_range(&RangeOp { range: key, limit: 0, revision: 0, keys_only: false, count_only: false }, &mut range)
        .expect("sound");
    let kind = FrameKind::new(CallKind::Read.row().number);
    let mut burst = Vec::new();
    for id in 1..=count {
        Request { id, kind, shard: 0, timeout_ms, session: 0, sequence: 0, payload: &range }.encode(&mut burst);
    }
    burst
}

#[tokio::test]
async fn answers_that_nobody_reads_take_a_bounded_share_of_the_memory() {
    /// 512 MiB of answers may wait on a core, and as much as all shares together of small ones beyond; the rest is for requests, and for
    /// the connections themselves.
    const GROWTH_MAX: u64 = 1 << 30;
    const GETS: u64 = 1_000;
    let count = if is_full_run() { 3_000 } else { 300 };
    let cluster = Cluster::start(1).await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    // Answers of this size count as small.
    client.put(b"key", &[7; 16_000]).await.expect("a write");
    let (_, before) = cluster.memory_bytes(0);
    let burst = gets_of_key(GETS, 20_000);
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::connect(&cluster);
        raw.stream.write_all(&burst).expect("an open connection");
        held.push(raw);
        // Whoever reads is answered, once those before it are.
        assert!(client.get(b"key").await.expect("it goes on").is_some());
    }
    client.put(b"key", b"value").await.expect("it goes on");
    let (most, _) = cluster.memory_bytes(0);
    let growth = most.saturating_sub(before);
    println!("{count} connections that read nothing: {} MiB more than before", growth >> 20);
    assert!(growth < GROWTH_MAX, "{} MiB more than before", growth >> 20);
    drop(held);
    wait_for_memory_back(&cluster, before);
}

/// Waits until a node has given back what connections took that are closed now.
fn wait_for_memory_back(cluster: &Cluster, before: u64) {
    /// Answers are given back at once. What the allocator keeps are buffers that grew, requests, and what connections were made of: a
    /// sixth to a quarter was seen.
    const KEPT_SHARE: u64 = 3;
    /// And this much in any case.
    const KEPT_MIN: u64 = 64 << 20;
    let started = Instant::now();
    let (most, closed) = cluster.memory_bytes(0);
    let kept_max = (most.saturating_sub(before) / KEPT_SHARE).max(KEPT_MIN);
    let mut now = u64::MAX;
    while now > before + kept_max {
        assert!(started.elapsed() < PATIENCE, "{} MiB are left of {} before", now >> 20, before >> 20);
        std::thread::sleep(Duration::from_millis(100));
        now = cluster.memory_bytes(0).1;
    }
    let took = started.elapsed();
    println!("{} MiB before, {} when they closed, {} after {took:?}", before >> 20, closed >> 20, now >> 20);
}

#[tokio::test]
async fn a_small_read_does_not_wait_for_large_ones_that_strangers_pipeline_and_never_read() {
    /// All those reads one after the other take many seconds.
    const SOON: Duration = Duration::from_secs(1);
    const GETS: u64 = 200;
    const READS: u64 = 20;
    let count = if is_full_run() { 300 } else { 40 };
    let cluster = Cluster::start(1).await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    client.put(b"key", &vec![7; 1_400_000]).await.expect("a write");
    client.put(b"small", &[7; 100]).await.expect("a write");
    let (_, before) = cluster.memory_bytes(0);
    let burst = gets_of_key(GETS, 60_000);
    let mut held = Vec::new();
    let mut longest = Duration::ZERO;
    for number in 0..count + 100 {
        if number < count {
            let mut raw = Raw::connect(&cluster);
            raw.stream.write_all(&burst).expect("an open connection");
            held.push(raw);
        }
        let started = Instant::now();
        assert!(client.get(b"small").await.expect("it goes on").is_some());
        longest = longest.max(started.elapsed());
        // A new client is no stranger either.
        if number % 20 == 0 {
            let other = cluster.client_of(&[0], PATIENCE).await;
            assert!(other.get(b"small").await.expect("it goes on").is_some());
            longest = longest.max(started.elapsed());
        }
    }
    println!("{count} connections with {GETS} large reads each: a small one took at most {longest:?}");
    assert!(longest < SOON, "a small read took {longest:?}");
    // Whoever takes its answers gets all of them: if there is no room for them, those make some that take nothing.
    let mut raw = Raw::connect(&cluster);
    let started = Instant::now();
    raw.stream.write_all(&gets_of_key(READS, 60_000)).expect("an open connection");
    for _ in 0..READS {
        let answer = raw.answer();
        assert!(matches!(answer, Some((_, None))), "{answer:?}");
    }
    println!("{:?} for {READS} large reads beside them", started.elapsed());
    // Those reads may have found room before anybody had been slow for long enough.
    let started = Instant::now();
    while is_full_run() && count_of(&cluster, 0, "quorate_client_connections_slow_total") == 0 {
        assert!(started.elapsed() < PATIENCE, "nobody is closed as slow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(held);
    wait_for_memory_back(&cluster, before);
}

#[tokio::test]
async fn a_client_that_pipelines_reads_gets_all_answers_however_large_they_turn_out() {
    /// Together far more than may wait for one client.
    const GETS: u64 = 200;
    let cluster = Cluster::start(1).await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    client.put(b"key", b"small").await.expect("a write");
    let mut raw = Raw::connect(&cluster);
    let mut ask = |is_slow: bool| {
        raw.stream.write_all(&gets_of_key(GETS, 60_000)).expect("an open connection");
        if is_slow {
            std::thread::sleep(Duration::from_secs(1));
        }
        for _ in 0..GETS {
            let answer = raw.answer();
            assert!(matches!(answer, Some((_, None))), "{answer:?}");
        }
    };
    ask(false);
    client.put(b"key", &vec![7; 1_400_000]).await.expect("a write");
    ask(true);
}
