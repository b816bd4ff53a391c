//! Peers and their port: several URLs of which one is dead, strangers at the door, and writes at a segment's end.

use std::io::{Read, Write};
use std::time::Duration;

use crate::harness::{Cluster, PATIENCE};

/// A figure of a node, all shards added up.
pub fn figure(cluster: &Cluster, number: usize, name: &str) -> u64 {
    let address = cluster.nodes[number].client_url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("the port is open");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let of_line = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    let values: Vec<u64> = text.lines().filter(|line| line.starts_with(name)).filter_map(of_line).collect();
    assert!(!values.is_empty(), "{name} is not among the figures of node {number}: {text}");
    values.iter().sum()
}

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
        let mut stream = std::net::TcpStream::connect(&address).expect("the port is open");
        if number % 2 == 0 {
            // Some say something. The node may be gone before it is all written.
            drop(stream.write_all(b"\0\0\0\0\0\0\0\0"));
        }
    }
    tokio::time::timeout(PATIENCE, async {
        while figure(&cluster, 0, "quorate_peer_connections_refused_total") < 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("each is counted");
    let complaints = || -> Vec<String> {
        let log = cluster.log_of(0);
        log.lines().filter(|line| line.contains("was not taken")).map(str::to_owned).collect()
    };
    // Lines are written by a thread of their own.
    tokio::time::timeout(PATIENCE, async {
        while complaints().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the first is said");
    let lines = complaints();
    // One in ten seconds; a slow host may need some tens of seconds for this test.
    assert!((1..10).contains(&lines.len()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("127.0.0.1:")), "{lines:#?}");
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
    let refused: u64 = (0..3).map(|number| figure(&cluster, number, "quorate_refused_overloaded_total")).sum();
    assert_eq!(refused, 0, "the client would have tried them again");
}
