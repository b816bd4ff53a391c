//! Real processes, real disks, real sockets: what an operator does to a cluster, and what must come of it.
//!
//! Every process runs on loopback, or in namespaces of the test, in a temporary directory, and ends with its test. Only `large`,
//! `ticks` and `clients` assert how long something takes; elsewhere there is nothing but a patience that only a hang reaches.

mod clients;
mod damage;
mod disks;
mod door;
mod from_etcd;
mod handover;
mod harness;
mod health;
mod hosts;
mod large;
mod load;
mod namespaces;
mod nonsense;
mod packaging;
mod pages;
mod peers;
mod place;
mod probes;
mod put_back;
mod reads;
mod returning;
mod runs;
mod runtime;
mod sick_disk;
mod strangers;
mod ticks;
mod timeline;
mod told;
mod transcripts;
mod unread;
mod wipe;

use std::time::Duration;

use client::ClientError;
use harness::{Cluster, quorate};
use load::{Load, check_everywhere};
use rustix::process::Signal;

const ALL: [usize; 3] = [0, 1, 2];

fn others(of: usize) -> Vec<usize> {
    ALL.into_iter().filter(|number| *number != of).collect()
}

#[tokio::test]
async fn a_write_sent_to_a_follower_is_readable_on_every_node() {
    let cluster = Cluster::start(3).await;
    let follower = others(cluster.leader(0).await)[0];
    let client = cluster.client_of(&[follower], Duration::from_secs(10)).await;
    client.put(b"key", b"value").await.expect("the follower passes the write on");
    cluster.wait_for_equal().await;
    for number in ALL {
        let client = cluster.client_of(&[number], Duration::from_secs(10)).await;
        let found = client.get(b"key").await.expect("a read").expect("the key is there");
        assert_eq!(found.value, b"value");
        let endpoint = cluster.nodes[number].client_url.as_str();
        let output = quorate(&["get", "key", "--endpoints", endpoint, "--consistency", "s"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "key\nvalue\n");
    }
}

#[tokio::test]
async fn writes_go_on_after_the_leader_is_killed() {
    let mut cluster = Cluster::start(3).await;
    let load = Load::start(&cluster, &ALL, "failover").await;
    load.wait_for_more(200).await;
    let leader = cluster.leader(0).await;
    cluster.kill(leader);
    load.wait_for_more(200).await;
    cluster.start_node(leader);
    load.wait_for_more(200).await;
    let acknowledged = load.stop().await;
    check_everywhere(&cluster, &ALL, &acknowledged).await;
}

#[tokio::test]
async fn every_acknowledged_write_survives_the_death_of_all_nodes() {
    let mut cluster = Cluster::start(3).await;
    let mut all = std::collections::BTreeSet::new();
    for round in 0..3 {
        let load = Load::start(&cluster, &ALL, &format!("round-{round}")).await;
        load.wait_for_more(500).await;
        for number in ALL {
            cluster.kill(number);
        }
        all.extend(load.stop().await);
        for number in ALL {
            let wal = cluster.data_dir(number).to_str().expect("a path").to_owned();
            let output = quorate(&["wal", "verify", &wal]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            cluster.start_node(number);
        }
        cluster.wait_for_leaders().await;
    }
    check_everywhere(&cluster, &ALL, &all).await;
}

#[tokio::test]
async fn a_killed_follower_catches_up_under_load() {
    let mut cluster = Cluster::start(3).await;
    let follower = others(cluster.leader(0).await)[0];
    let load = Load::start(&cluster, &others(follower), "killed").await;
    load.wait_for_more(200).await;
    cluster.kill(follower);
    load.wait_for_more(2000).await;
    cluster.start_node(follower);
    load.wait_for_more(500).await;
    let acknowledged = load.stop().await;
    check_everywhere(&cluster, &ALL, &acknowledged).await;
}

#[tokio::test]
async fn a_stopped_follower_catches_up_under_load() {
    let cluster = Cluster::start(3).await;
    let follower = others(cluster.leader(0).await)[0];
    let load = Load::start(&cluster, &others(follower), "stopped").await;
    load.wait_for_more(200).await;
    cluster.signal(follower, Signal::STOP);
    load.wait_for_more(2000).await;
    cluster.signal(follower, Signal::CONT);
    load.wait_for_more(500).await;
    let acknowledged = load.stop().await;
    check_everywhere(&cluster, &ALL, &acknowledged).await;
}

#[tokio::test]
async fn without_a_majority_a_write_is_refused_and_later_succeeds_by_itself() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let down = others(leader);
    cluster.client_of(&ALL, Duration::from_secs(10)).await.put(b"before", b"1").await.expect("a write");
    for number in &down {
        cluster.kill(*number);
    }
    let client = cluster.client_of(&[leader], Duration::from_secs(3)).await;
    let error = client.put(b"during", b"2").await.expect_err("there is no majority");
    assert!(matches!(error, ClientError::Unavailable { .. } | ClientError::Unknown { .. }), "{error}");
    cluster.start_node(down[0]);
    let client = cluster.client_of(&[leader], Duration::from_secs(30)).await;
    client.put(b"after", b"3").await.expect("two of three are a majority");
    assert!(client.get(b"before").await.expect("a read").is_some());
}

#[tokio::test]
async fn two_shards_on_two_cores_are_led_by_different_nodes() {
    let cluster = Cluster::start_with(3, 2, 2).await;
    let statuses = cluster
        .wait_until("the shards have one leader", |statuses| {
            let leader = |shard| statuses.iter().find(|status| status.shard == shard && status.role == "leader");
            matches!((leader(0), leader(1)), (Some(a), Some(b)) if a.node_id != b.node_id)
        })
        .await;
    assert_eq!(statuses.len(), 6);
    let load = Load::start(&cluster, &ALL, "shards").await;
    load.wait_for_more(500).await;
    let acknowledged = load.stop().await;
    check_everywhere(&cluster, &ALL, &acknowledged).await;
    let revisions: Vec<u64> = cluster.statuses().await.iter().map(|status| status.revision).collect();
    assert!(revisions.iter().all(|revision| *revision > 1), "both shards took writes: {revisions:?}");
}

#[tokio::test]
async fn a_node_stops_on_sigterm_and_the_others_go_on() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    cluster.client_of(&ALL, Duration::from_secs(10)).await.put(b"key", b"1").await.expect("a write");
    cluster.signal(leader, Signal::TERM);
    assert!(cluster.wait_for_end(leader), "{}", cluster.log_of(leader));
    let client = cluster.client_of(&others(leader), Duration::from_secs(10)).await;
    client.put(b"key", b"2").await.expect("the others go on");
}

#[tokio::test]
async fn garbage_on_either_port_harms_nothing() {
    use std::io::{Read, Write};
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].client_address().to_owned();
    let mut hello = Vec::new();
    hello.extend_from_slice(b"QUORATE\n");
    hello.extend_from_slice(&[0xff; 200]);
    for garbage in [b"\0\0\0\0\0\0\0\0".as_slice(), b"QUORATE\n", &hello, b"GET / HTTP/9.9\r\n\r\n", &[0xaa; 4096]] {
        let mut stream = std::net::TcpStream::connect(&address).expect("the port is open");
        // The node may close the connection before it has taken everything; that is its right.
        drop(stream.write_all(garbage));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
    }
    let client = cluster.client_of(&[0], Duration::from_secs(10)).await;
    client.put(b"key", b"value").await.expect("the node still serves");
}

#[tokio::test]
async fn probes_and_metrics_are_served_on_the_client_port() {
    let cluster = Cluster::start(1).await;
    let get = |path: &str| probes::get(&cluster, 0, path);
    for path in ["/health", "/livez", "/readyz"] {
        assert!(get(path).starts_with("HTTP/1.1 200"), "{}", get(path));
    }
    assert!(get("/metrics").contains("quorate_sync_latency_seconds_bucket"), "{}", get("/metrics"));
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why_in_one_line() {
    let cluster = Cluster::start(1).await;
    let dir = cluster.dir().join("other");
    let data_dir = dir.to_str().expect("a path");
    let in_use = quorate(&["start", "--data-dir", data_dir, "--listen-client-urls", &cluster.nodes[0].client_url]);
    let text = String::from_utf8_lossy(&in_use.stderr).into_owned();
    assert!(!in_use.status.success() && text.contains("another process uses this port"), "{text}");
    assert!(!dir.exists(), "nothing was touched");

    let mut cluster = cluster;
    cluster.kill(0);
    let data_dir = cluster.data_dir(0).to_str().expect("a path").to_owned();
    let urls = ["--listen-client-urls", "http://127.0.0.1:1", "--listen-peer-urls", "http://127.0.0.1:2"];
    let foreign = quorate(&[["start", "--data-dir", &data_dir].as_slice(), &urls].concat());
    let text = String::from_utf8_lossy(&foreign.stderr).into_owned();
    assert!(!foreign.status.success() && text.contains("was created with"), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

#[test]
fn chaos_on_real_nodes_finds_nothing_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("a path");
    let output = quorate(&["chaos", "--minutes", "0.2", "--seed", "7", "--dir", path]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("operations answered and judged"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "everything it made is removed");
}

#[test]
fn power_cuts_of_real_nodes_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("a path");
    let output = quorate(&["certify", path, "--cuts", "5", "--seed", "7"]);
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("power cuts cannot be had here") || said.contains("unshare") {
        eprintln!("not run: {said}");
        return;
    }
    assert!(output.status.success(), "{text}\n{said}");
    assert!(text.contains("operations acknowledged and judged"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "everything it made is removed");
}

#[test]
fn where_power_cuts_cannot_be_had_one_line_says_why() {
    let output = quorate(&["certify", "/nowhere-at-all"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("power cuts cannot be had here"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}
