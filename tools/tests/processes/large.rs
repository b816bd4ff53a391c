//! Requests over very many keys: small writes go on beside them, and the leader keeps its office.
//!
//! `QUORATE_FULL_TESTS=1` makes it a million keys, `QUORATE_LARGE_KEYS` any number; the figures are printed (`--nocapture`).

use std::time::{Duration, Instant};

use client::{Client, ClientError, ClientOptions, Op, PutOptions, RangeRequest, Txn};
use net::api::Status;
use tokio::task::JoinSet;

use crate::harness::{Cluster, PATIENCE, is_full_run, quorate};
use crate::ticks;

/// Keys, unless the environment says otherwise: more than one command may visit.
const KEYS: u64 = 60_000;

/// Keys of a full run.
const KEYS_FULL: u64 = 1_000_000;

/// How long a small write may take beside a large request. Unit: ms.
pub const PUT_MS_MAX: u128 = 200;

/// A machine that is busy with other tests is slow by itself: so many times the longest put with nothing beside is as good.
pub const SLOWER_MAX: u128 = 10;

fn keys_count() -> u64 {
    let default = if is_full_run() { KEYS_FULL } else { KEYS };
    std::env::var("QUORATE_LARGE_KEYS").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// Puts `big/0000000` and on, in transactions of as many as one takes, several at a time.
async fn fill(client: &Client, count: u64) {
    const TXN_OPS: u64 = 128;
    const WRITERS: u64 = 8;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            let mut first = writer * TXN_OPS;
            while first < count {
                let put = |number: u64| Op::Put {
                    key: format!("big/{number:07}").into_bytes(),
                    value: b"v".to_vec(),
                    options: PutOptions::default(),
                };
                let success = (first..count.min(first + TXN_OPS)).map(put).collect();
                client.txn(&Txn { success, ..Txn::default() }).await.expect("the keys are put");
                first += WRITERS * TXN_OPS;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends well");
    }
}

/// The longest of puts, one after the other, while `others` run; at least so many puts.
async fn longest_put(client: &Client, what: &str, mut others: JoinSet<()>) -> u128 {
    const PUTS_MIN: u32 = 100;
    let (mut longest, mut puts_count) = (Duration::ZERO, 0);
    let started = Instant::now();
    while puts_count < PUTS_MIN || !others.is_empty() {
        let before = Instant::now();
        client.put(b"small", b"v").await.expect("a put is acknowledged");
        longest = longest.max(before.elapsed());
        puts_count += 1;
        while let Some(ended) = others.try_join_next() {
            ended.expect("a large request ends as expected");
        }
    }
    println!("{what}: {puts_count} puts in {:?}, the longest took {longest:?}", started.elapsed());
    longest.as_millis()
}

fn all_keys() -> RangeRequest {
    RangeRequest { key: b"big/".to_vec(), range_end: b"big0".to_vec(), ..RangeRequest::default() }
}

fn is_too_large<T>(result: Result<T, ClientError>) -> bool {
    let Err(ClientError::Refused { status: Status::TooLarge, message }) = result else { return false };
    message.contains("more than 50000 keys") && message.contains("nothing of it was done")
}

async fn term_of(cluster: &Cluster) -> u64 {
    cluster.wait_for_leaders().await[0].term
}

#[tokio::test]
async fn small_writes_go_on_beside_requests_over_very_many_keys() {
    let cluster = ticks::watched_cluster(3).await;
    let count = keys_count();
    let client = cluster.client_of(&[cluster.leader(0).await], Duration::from_secs(60)).await;
    fill(&client, count).await;
    let term = term_of(&cluster).await;
    ticks::check(&cluster, "keys were put");
    let alone = longest_put(&client, "nothing beside", JoinSet::new()).await;
    let bound = PUT_MS_MAX.max(alone * SLOWER_MAX);

    let mut gets = JoinSet::new();
    for _ in 0..60 {
        let client = client.clone();
        gets.spawn(async move {
            let found = client.range(RangeRequest { limit: 1, ..all_keys() }).await.expect("a read is answered");
            assert_eq!((found.kvs.len() as u64, found.more, found.count), (1, true, count));
        });
    }
    let took = longest_put(&client, "beside 60 reads of all keys", gets).await;
    assert!(took <= bound, "a put took {took} ms beside 60 reads of {count} keys; alone {alone} ms");

    ticks::check(&cluster, "60 reads of all keys");

    let mut refused = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        refused.spawn(async move {
            assert!(is_too_large(client.delete(b"big/", Some(b"big0")).await));
            let counts = vec![Op::Range(RangeRequest { count_only: true, ..all_keys() }); 100];
            assert!(is_too_large(client.txn(&Txn { success: counts, ..Txn::default() }).await));
        });
    }
    let took = longest_put(&client, "beside deletes and counts that are too large", refused).await;
    assert!(took <= bound, "a put took {took} ms beside what is refused; alone {alone} ms");
    let found = client.range(RangeRequest { count_only: true, ..all_keys() }).await.expect("a count");
    assert_eq!(found.count, count, "nothing was deleted");

    ticks::check(&cluster, "deletes and counts that are too large");

    let endpoint = cluster.nodes[cluster.leader(0).await].client_url.clone();
    let mut deleted = JoinSet::new();
    deleted.spawn_blocking(move || {
        let output =
            quorate(&["del", "big/", "--prefix", "--in-parts", "--endpoints", &endpoint, "--command-timeout", "60s"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{count}\n"), "{output:?}");
    });
    let took = longest_put(&client, "beside a delete in parts", deleted).await;
    assert!(took <= bound, "a put took {took} ms beside a delete in parts; alone {alone} ms");
    let found = client.range(RangeRequest { count_only: true, ..all_keys() }).await.expect("a count");
    assert_eq!(found.count, 0);
    ticks::check(&cluster, "a delete in parts");

    let term_after = term_of(&cluster).await;
    println!("{count} keys: term {term} before and {term_after} after");
    assert_eq!(term_after, term, "the leader kept its office");
    cluster.wait_for_equal().await;
}

/// Answers larger than a part of one come through other nodes and other cores, and are the same everywhere.
#[tokio::test]
async fn a_large_answer_comes_in_parts_through_nodes_and_cores() {
    const VALUES: u8 = 30;
    let cluster = Cluster::start_with(3, 2, 2).await;
    let client = cluster.client_of(&[0, 1, 2], PATIENCE).await;
    for number in 0..VALUES {
        let value = vec![number; 120 << 10];
        client.put(format!("large/{number:02}").as_bytes(), &value).await.expect("a put is acknowledged");
    }
    let request = RangeRequest { key: b"large/".to_vec(), range_end: b"large0".to_vec(), ..RangeRequest::default() };
    let expected = client.range(request.clone()).await.expect("a range");
    assert_eq!(expected.kvs.len(), usize::from(VALUES), "both shards together hold all");
    for node in cluster.nodes.iter() {
        // Connections come to either core by chance.
        for _ in 0..8 {
            let options = ClientOptions { endpoints: vec![node.client_url.clone()], ..ClientOptions::default() };
            let client = Client::connect(options).await.expect("a node answers");
            let found = client.range_on(&node.client_url, request.clone()).await.expect("a range");
            assert!(found == expected, "{} gives another answer", node.name);
        }
    }
}
