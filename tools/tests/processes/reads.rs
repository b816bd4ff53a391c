//! Linearizable reads at followers: the follower answers them itself, and never with less than what was acknowledged before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::Client;
use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE};
use crate::others;
use crate::probes::count;

const KEY: &[u8] = b"key";

/// Time for which the leader is stopped: several election timeouts.
const STOPPED: Duration = Duration::from_secs(4);

/// Patience of one request.
const REQUEST: Duration = Duration::from_secs(2);

/// The revision of the last write that was acknowledged.
type Acknowledged = Arc<AtomicU64>;

/// Writes again and again. A write whose answer did not come may take effect at any time later, at a later revision.
async fn write_on(client: Client, acknowledged: Acknowledged) {
    loop {
        match client.put(KEY, b"value").await {
            Ok(done) => acknowledged.store(done.revision, Ordering::SeqCst),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Reads again and again, and counts the answers.
async fn read_on(client: Client, acknowledged: Acknowledged, answers: Arc<AtomicU64>) {
    loop {
        let before = acknowledged.load(Ordering::SeqCst);
        match client.get(KEY).await {
            Ok(found) => {
                let revision = found.map_or(0, |found| found.mod_revision);
                assert!(
                    revision >= before,
                    "revision {revision} was read after the write at {before} was acknowledged"
                );
                answers.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until a node has counted so many.
async fn wait_for_count(cluster: &Cluster, number: usize, name: &str, count_min: u64) {
    let counted = async {
        while count(cluster, number, name) < count_min {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let what = format!("node {number} counts {count_min} of {name}");
    tokio::time::timeout(PATIENCE, counted).await.expect(&what);
}

#[tokio::test]
async fn a_follower_answers_linearizable_reads_itself_and_sees_what_was_acknowledged_before() {
    const READS: u64 = 20;
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let follower = others(leader)[0];
    let writer = cluster.client_of(&[leader], PATIENCE).await;
    let reader = cluster.client_of(&[follower], PATIENCE).await;
    for number in 0..READS {
        writer.put(KEY, &number.to_be_bytes()).await.expect("a write");
        let found = reader.get(KEY).await.expect("a read").expect("the key is there");
        assert_eq!(found.value, number.to_be_bytes());
    }
    wait_for_count(&cluster, follower, "quorate_reads_at_follower_total", READS).await;
    wait_for_count(&cluster, follower, "quorate_read_questions_total", 1).await;
    assert_eq!(count(&cluster, leader, "quorate_reads_at_follower_total"), 0, "a leader's reads are no follower's");
}

#[tokio::test]
async fn while_the_leader_is_stopped_and_when_it_goes_on_no_node_serves_a_stale_value() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let acknowledged = Acknowledged::default();
    let writer = cluster.client_of(&[0, 1, 2], REQUEST).await;
    let mut tasks = vec![tokio::spawn(write_on(writer, Arc::clone(&acknowledged)))];
    let mut answers = Vec::new();
    for number in [0, 1, 2] {
        let (client, answered) = (cluster.client_of(&[number], REQUEST).await, Arc::default());
        tasks.push(tokio::spawn(read_on(client, Arc::clone(&acknowledged), Arc::clone(&answered))));
        answers.push(answered);
    }
    wait_for_progress(&acknowledged, &answers, &[0, 1, 2]).await;
    cluster.signal(leader, Signal::STOP);
    tokio::time::sleep(STOPPED).await;
    // The others go on without it.
    wait_for_progress(&acknowledged, &answers, &others(leader)).await;
    cluster.signal(leader, Signal::CONT);
    wait_for_progress(&acknowledged, &answers, &[0, 1, 2]).await;
    for task in tasks {
        task.abort();
        match task.await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => {}
        }
    }
}

/// Waits until more writes were acknowledged, and these nodes answered more reads after that.
async fn wait_for_progress(acknowledged: &Acknowledged, answers: &[Arc<AtomicU64>], nodes: &[usize]) {
    let mut watched: Vec<&Arc<AtomicU64>> = vec![acknowledged];
    watched.extend(nodes.iter().map(|node| &answers[*node]));
    for counter in watched {
        let before = counter.load(Ordering::SeqCst);
        let more = async {
            while counter.load(Ordering::SeqCst) < before + 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.expect("writes and reads go on");
    }
}
