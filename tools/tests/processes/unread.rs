//! Clients that ask for much and read nothing.

use std::io::Write;

use api::call::CallKind;
use api::command::{KeyRange, RangeOp, encode_range};
use net::api::Request;
use net::frame::FrameKind;

use crate::door::Raw;
use crate::harness::{Cluster, PATIENCE, is_full_run};

#[tokio::test]
async fn answers_that_nobody_reads_take_a_bounded_share_of_the_memory() {
    /// The bound of a core is 512 MiB, and all shares together are half as much. The rest is what queues take while they grow.
    const GROWTH_MAX: u64 = 1 << 30;
    const GETS: u64 = 1_000;
    let count = if is_full_run() { 3_000 } else { 300 };
    let cluster = Cluster::start(1).await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    // Answers of this size count as small.
    client.put(b"key", &[7; 16_000]).await.expect("a write");
    let (_, before) = cluster.memory_bytes(0);
    let mut range = Vec::new();
    let key = KeyRange { key: b"key", range_end: b"" };
    encode_range(&RangeOp { range: key, limit: 0, revision: 0, keys_only: false, count_only: false }, &mut range)
        .expect("sound");
    let kind = FrameKind::new(CallKind::Read.row().number);
    let mut burst = Vec::new();
    for id in 1..=GETS {
        Request { id, kind, shard: 0, timeout_ms: 20_000, payload: &range }.encode(&mut burst);
    }
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
}
