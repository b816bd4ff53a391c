//! What a node answers to probes while something keeps it from taking writes, and what its log says of that.

use std::time::{Duration, Instant};

use client::ClientError;

use crate::harness::{Cluster, PATIENCE};
use crate::hosts::limit_files;
use crate::probes::{figure, get};
use crate::sick_disk::SickDisk;
use crate::{ALL, others};

/// Waits until a node answers this path with a text.
async fn wait_for_answer(cluster: &Cluster, number: usize, path: &str, text: &str) {
    let started = Instant::now();
    loop {
        let answer = get(cluster, number, path);
        if answer.contains(text) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{path} never says {text:?}: {answer}\n{}", cluster.log_of(number));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Puts until a put is refused.
async fn put_until_refused(cluster: &Cluster, value_bytes: usize) -> ClientError {
    let client = cluster.client_of(&[0], Duration::from_secs(2)).await;
    for _ in 0..200 {
        if let Err(error) = client.put(b"key", &vec![7; value_bytes]).await {
            return error;
        }
    }
    panic!("no put was refused: {}", cluster.log_of(0));
}

/// Waits until a node's log has a line with this text, then says how many it has. A probe may tell before the log does.
async fn lines_with(cluster: &Cluster, number: usize, text: &str) -> usize {
    let started = Instant::now();
    loop {
        let log = cluster.log_of(number);
        let count = log.lines().filter(|line| line.contains(text)).count();
        if count > 0 {
            return count;
        }
        assert!(started.elapsed() < PATIENCE, "{text:?} is not in the log: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_seen_by_probes_and_said_once() {
    let cluster = Cluster::start(1).await;
    limit_files(&cluster, 0, Some(64 << 10));
    let refused = put_until_refused(&cluster, 1_000_000).await;
    assert!(matches!(refused, ClientError::Refused { .. } | ClientError::Unavailable { .. }), "{refused}");
    for path in ["/health", "/readyz", "/health?serializable=true"] {
        wait_for_answer(&cluster, 0, path, "HTTP/1.1 503").await;
        wait_for_answer(&cluster, 0, path, "File too large").await;
    }
    for path in ["/livez", "/health?exclude=NOSPACE", "/readyz?exclude=NOSPACE"] {
        wait_for_answer(&cluster, 0, path, "HTTP/1.1 200").await;
    }
    // The attempts go on, twice a second; what they find stays the same.
    tokio::time::sleep(Duration::from_secs(2)).await;
    limit_files(&cluster, 0, None);
    wait_for_answer(&cluster, 0, "/health", "\"health\":\"true\"").await;
    assert_eq!(lines_with(&cluster, 0, "the next log segment cannot be prepared").await, 1, "{}", cluster.log_of(0));
    assert_eq!(lines_with(&cluster, 0, "there is room for writes again").await, 1, "{}", cluster.log_of(0));
    cluster.client_of(&[0], PATIENCE).await.put(b"key", b"value").await.expect("it goes on");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_seen_by_probes_and_said_once() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    cluster.start_node_with(0, None, &["--quota-backend-bytes", "16777216"]);
    cluster.wait_for_leaders().await;
    let refused = put_until_refused(&cluster, 1_000_000).await;
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
    for path in ["/health", "/readyz"] {
        wait_for_answer(&cluster, 0, path, "the quota is 16777216").await;
    }
    wait_for_answer(&cluster, 0, "/readyz?exclude=NOSPACE", "HTTP/1.1 200").await;
    drop(put_until_refused(&cluster, 1_000_000).await);
    assert_eq!(lines_with(&cluster, 0, "the quota is 16777216").await, 1, "{}", cluster.log_of(0));
}

#[tokio::test]
async fn without_a_leader_a_node_is_well_by_itself_and_serves_no_client() {
    let mut cluster = Cluster::start(3).await;
    let (left, gone) = (0, others(0));
    for number in ALL {
        wait_for_answer(&cluster, number, "/readyz", "HTTP/1.1 200").await;
    }
    for number in gone {
        cluster.kill(number);
    }
    wait_for_answer(&cluster, left, "/health", "has no leader").await;
    wait_for_answer(&cluster, left, "/readyz", "HTTP/1.1 503").await;
    // What is asked of the node alone has the same answer all the time.
    for path in ["/health?serializable=true", "/livez"] {
        let answer = get(&cluster, left, path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_is_seen_by_probes_of_a_lone_node() {
    let Some(disk) = SickDisk::mount() else { return };
    let cluster = Cluster::start_on(vec![disk.data_dir()], 1, 1).await;
    let client = cluster.client_of(&[0], Duration::from_secs(2)).await;
    client.put(b"key", b"before").await.expect("the disk is well");
    disk.hang();
    drop(client.put(b"key", b"during").await.expect_err("the disk does not answer"));
    wait_for_answer(&cluster, 0, "/health", "waits for its disk, which has not answered").await;
    wait_for_answer(&cluster, 0, "/readyz", "HTTP/1.1 503").await;
    disk.go_on();
    wait_for_answer(&cluster, 0, "/health", "\"health\":\"true\"").await;
    assert_eq!(lines_with(&cluster, 0, "the disk does not answer").await, 1, "{}", cluster.log_of(0));
    assert_eq!(lines_with(&cluster, 0, "the disk answers again").await, 1, "{}", cluster.log_of(0));
}

#[tokio::test]
async fn a_node_says_its_version() {
    let cluster = Cluster::start(1).await;
    let answer = get(&cluster, 0, "/version");
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    let version: serde_json::Value = serde_json::from_str(body).expect(&answer);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"), "{answer}");
    assert!(version["log_format"].is_u64() && version["protocol"].is_u64(), "{answer}");
}

#[tokio::test]
async fn figures_say_who_leads_who_is_connected_what_was_refused_and_what_the_process_takes() {
    let mut cluster = Cluster::start(3).await;
    wait_for_answer(&cluster, 0, "/metrics", "quorate_peers_connected{shard=\"0\"} 2").await;
    wait_for_answer(&cluster, 0, "/metrics", "quorate_raft_has_leader{shard=\"0\"} 1").await;
    let zero = ["quorate_raft_is_new", "quorate_raft_members_lost_data", "quorate_writes_have_no_room"];
    for name in zero {
        assert_eq!(figure(&cluster, 0, name), 0.0, "{name}");
    }
    for name in [
        "quorate_peers",
        "quorate_leader_changes_total",
        "quorate_log_bytes",
        "quorate_disk_free_bytes",
        "quorate_log_since_sync_seconds",
        "quorate_build_info",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(figure(&cluster, 0, name) > 0.0, "{name}");
    }
    for number in others(0) {
        cluster.kill(number);
    }
    wait_for_answer(&cluster, 0, "/metrics", "quorate_peers_connected{shard=\"0\"} 0").await;
    wait_for_answer(&cluster, 0, "/metrics", "quorate_raft_has_leader{shard=\"0\"} 0").await;
    let client = cluster.client_of(&[0], Duration::from_millis(500)).await;
    drop(client.put(b"key", b"value").await.expect_err("there is no majority"));
    assert!(figure(&cluster, 0, "quorate_client_requests_refused_total") > 0.0);
}
