//! The data directory is moved, replaced or removed under a running node: it notices, says so, and acknowledges nothing more.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use client::Client;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::harness::{Cluster, PATIENCE};
use crate::probes::get;

/// Writes until the node refuses. Returns how many writes were acknowledged, and the refusal.
async fn put_until_refused(client: &Client) -> (usize, String) {
    let started = Instant::now();
    let mut acknowledged = 0;
    loop {
        let key = format!("key-{acknowledged}");
        match client.put(key.as_bytes(), key.as_bytes()).await {
            Ok(_) => acknowledged += 1,
            Err(error) => return (acknowledged, error.to_string()),
        }
        assert!(started.elapsed() < PATIENCE, "{acknowledged} writes were acknowledged and none refused");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp runs").success());
}

#[tokio::test]
async fn a_node_whose_directory_was_replaced_stops_and_its_own_files_hold_what_it_acknowledged() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client_of(&[0], Duration::from_secs(2)).await;
    client.put(b"before", b"the move").await.expect("acknowledged");
    let (data, moved) = (cluster.data_dir(0).to_owned(), cluster.data_dir(0).with_extension("moved"));
    // In one step: a node that looks in between finds nothing there, and says that.
    copy(&data, &moved);
    renameat_with(CWD, &data, CWD, &moved, RenameFlags::EXCHANGE).expect("exchanged");
    let (acknowledged, refusal) = put_until_refused(&client).await;
    assert!(refusal.contains("not in its place"), "{refusal}");
    let said = get(&cluster, 0, "/health");
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("not in its place") && said.contains("inode"), "{said}");
    cluster.kill(0);
    fs::remove_dir_all(&data).expect("the copy");
    fs::rename(&moved, &data).expect("renamed");
    cluster.start_node(0);
    cluster.wait_for_leaders().await;
    let client = cluster.client_of(&[0], Duration::from_secs(10)).await;
    assert!(client.get(b"before").await.expect("a read").is_some());
    for number in 0..acknowledged {
        let key = format!("key-{number}");
        assert!(client.get(key.as_bytes()).await.expect("a read").is_some(), "{key} of {acknowledged}");
    }
}

#[tokio::test]
async fn a_node_whose_directory_was_removed_stops_and_says_so() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client_of(&[0], Duration::from_secs(2)).await;
    client.put(b"before", b"the removal").await.expect("acknowledged");
    fs::remove_dir_all(cluster.data_dir(0)).expect("removed");
    let (_, refusal) = put_until_refused(&client).await;
    assert!(refusal.contains("nothing is there"), "{refusal}");
    let said = get(&cluster, 0, "/health");
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("nothing is there"), "{said}");
}
