//! Peers and their port: several URLs of which one is dead, strangers at the door, and writes at a segment's end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use net::handshake::{Hello, HelloRole, PROTOCOL_VERSION};

use crate::harness::{Cluster, PATIENCE};
use crate::probes::count;

#[tokio::test]
async fn a_peer_is_reached_although_the_first_of_its_urls_is_dead() {
    let cluster = Cluster::start_with_dead_peer_urls(3).await;
    let client = cluster.client_of(&[0, 1, 2], Duration::from_secs(20)).await;
    client.put(b"key", b"value").await.expect("a write");
    cluster.wait_for_equal().await;
}

#[tokio::test]
async fn a_hundred_health_checks_at_the_peer_port_are_counted_and_said_once() {
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].peer_address().to_owned();
    for number in 0..100 {
        let mut stream = TcpStream::connect(&address).expect("the port is open");
        if number % 2 == 0 {
            // Some say something. The node may be gone before it is all written.
            drop(stream.write_all(b"\0\0\0\0\0\0\0\0"));
        }
    }
    wait_for_count(&cluster, "quorate_peer_connections_refused_total", 100).await;
    said_now_and_then(&cluster, "was not taken").await;
}

/// Waits until the first node has counted so many.
async fn wait_for_count(cluster: &Cluster, name: &str, count_min: u64) {
    let counted = async {
        while count(cluster, 0, name) < count_min {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("each is counted");
}

/// The lines with these words in the first node's log: there are some, and few.
async fn said_now_and_then(cluster: &Cluster, words: &str) -> Vec<String> {
    let complaints = || -> Vec<String> {
        let log = cluster.log_of(0);
        log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    };
    // Lines are written by a thread of their own.
    let said = async {
        while complaints().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("the first is said");
    let lines = complaints();
    // One in ten seconds; a slow host may need some tens of seconds for this test.
    assert!((1..10).contains(&lines.len()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("127.0.0.1:")), "{lines:#?}");
    lines
}

/// Says who it is and waits until the node closes the connection.
fn call(address: &str, hello: &Hello) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    stream.write_all(&bytes).expect("an open connection");
    let mut answer = Vec::new();
    // The end may come as a reset.
    drop(stream.read_to_end(&mut answer));
}

#[tokio::test]
async fn peers_of_another_cluster_are_counted_and_said_once_and_write_no_line_of_their_own() {
    let cluster = Cluster::start(1).await;
    let hello = Hello {
        version: PROTOCOL_VERSION,
        role: HelloRole::PeerBulk,
        shard_count: 1,
        shard: 0,
        cluster: 7,
        from: 1,
        to: 2,
        nonce: 0,
        name: "b\n2026-01-01T00:00:00.000000Z ERROR engine: the disk failed".to_owned(),
    };
    for _ in 0..100 {
        call(cluster.nodes[0].peer_address(), &hello);
    }
    wait_for_count(&cluster, "quorate_peer_connections_refused_total", 100).await;
    let lines = said_now_and_then(&cluster, "refused a peer").await;
    assert!(lines.iter().all(|line| line.contains("the disk failed")), "who it was is said: {lines:#?}");
    let log = cluster.log_of(0);
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00")), "a stranger wrote a line: {log}");
}

#[tokio::test]
async fn callers_that_are_no_clients_are_counted_at_the_client_port() {
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].client_address();
    let client = Hello {
        version: PROTOCOL_VERSION,
        role: HelloRole::Client,
        shard_count: 0,
        shard: 0,
        cluster: 0,
        from: 0,
        to: 0,
        nonce: 0,
        name: String::new(),
    };
    for hello in [
        Hello { version: PROTOCOL_VERSION + 1, ..client.clone() },
        Hello { cluster: 7, ..client.clone() },
        Hello { role: HelloRole::PeerBulk, ..client },
    ] {
        call(address, &hello);
    }
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.write_all(b"\0\0\0\0\0\0\0\0").expect("an open connection");
    wait_for_count(&cluster, "quorate_client_connections_refused_total", 4).await;
    said_now_and_then(&cluster, "refused a client connection").await;
}

#[tokio::test]
async fn a_healthy_cluster_refuses_no_write_at_a_segments_end() {
    const WRITERS: usize = 16;
    const WRITES: usize = 4;
    let cluster = Cluster::start(3).await;
    let client = cluster.client_of(&[0, 1, 2], Duration::from_secs(60)).await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..WRITES {
                    let key = format!("{writer}-{number}");
                    client.put(key.as_bytes(), &vec![7; 1_000_000]).await.expect("it waits for the next segment");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer ends well");
    }
    let refused: u64 = (0..3).map(|number| count(&cluster, number, "quorate_refused_overloaded_total")).sum();
    assert_eq!(refused, 0, "the client would have tried them again");
}
