//! Nodes that forget: a data directory that is put back to an older copy, and a node that is the only one left.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::ALL;
use crate::harness::{Cluster, PATIENCE, quorate};
use crate::probes::count;

const KEYS: [&str; 5] = ["k1", "k2", "k3", "k4", "k5"];

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory of the node") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file of the node");
        }
    }
}

async fn put_all(cluster: &Cluster, numbers: &[usize]) {
    let client = cluster.client_of(numbers, Duration::from_secs(20)).await;
    for key in KEYS {
        client.put(key.as_bytes(), b"value").await.expect("acknowledged");
    }
}

/// Reads a lone node's own state until it answers. It answers with everything it showed before, or not at all.
async fn read_alone(cluster: &Cluster, number: usize) -> usize {
    let endpoint = cluster.nodes[number].client_url.clone();
    let started = Instant::now();
    let mut refused = 0;
    loop {
        let args = ["get", "k", "--prefix", "--consistency", "s", "--command-timeout", "2s", "--endpoints", &endpoint];
        let output = quorate(&args);
        if output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(text.lines().filter(|line| KEYS.contains(line)).count(), KEYS.len(), "{text}");
            return refused;
        }
        refused += 1;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(started.elapsed() < PATIENCE, "{error}\n{}", cluster.log_of(number));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_only_node_left_shows_what_it_has() {
    let mut cluster = Cluster::start(3).await;
    put_all(&cluster, &ALL).await;
    cluster.wait_for_equal().await;
    for number in ALL {
        cluster.kill(number);
    }
    for number in ALL {
        cluster.start_node(number);
        let refused = read_alone(&cluster, number).await;
        println!("node {number} refused {refused} reads before it answered");
        cluster.kill(number);
    }
}

#[tokio::test]
async fn a_follower_that_is_put_back_gets_everything_again_while_the_leader_stays() {
    let mut cluster = Cluster::start(3).await;
    put_all(&cluster, &ALL).await;
    cluster.wait_for_equal().await;
    let leader = cluster.leader(0).await;
    let (put_back, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let copy = cluster.dir().join("copy");
    cluster.kill(put_back);
    copy_directory(cluster.data_dir(put_back), &copy);
    cluster.start_node(put_back);
    // It acknowledges what the copy does not have.
    put_all(&cluster, &ALL).await;
    cluster.wait_for_equal().await;
    cluster.kill(put_back);
    fs::remove_dir_all(cluster.data_dir(put_back)).expect("a directory");
    copy_directory(&copy, cluster.data_dir(put_back));
    cluster.start_node(put_back);
    cluster.wait_for_equal().await;
    assert_eq!(cluster.leader(0).await, leader, "nobody was elected meanwhile");
    // So it is good for a majority.
    cluster.kill(other);
    put_all(&cluster, &[leader, put_back]).await;
}

#[tokio::test]
async fn a_node_does_not_cut_what_was_acknowledged_when_another_was_put_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.client_of(&ALL, Duration::from_secs(20)).await.put(b"before", b"1").await.expect("acknowledged");
    cluster.wait_for_equal().await;
    let keeper = cluster.leader(0).await;
    let (put_back, away) = ((keeper + 1) % 3, (keeper + 2) % 3);
    let copy = cluster.dir().join("copy");
    cluster.kill(put_back);
    copy_directory(cluster.data_dir(put_back), &copy);
    cluster.start_node(put_back);
    cluster.wait_for_equal().await;
    // From here on one node is away; the other two acknowledge five writes.
    cluster.kill(away);
    put_all(&cluster, &[keeper, put_back]).await;
    cluster.wait_for_equal().await;
    cluster.kill(keeper);
    cluster.kill(put_back);
    fs::remove_dir_all(cluster.data_dir(put_back)).expect("ours");
    copy_directory(&copy, cluster.data_dir(put_back));
    cluster.start_node(put_back);
    cluster.start_node(away);
    cluster.wait_for_leaders().await;
    let client = cluster.client_of(&[put_back, away], Duration::from_secs(20)).await;
    client.put(b"after", b"2").await.expect("two of three are a majority");

    for _ in 0..2 {
        let before = cluster.log_of(keeper).len();
        cluster.start_node(keeper);
        let started = Instant::now();
        loop {
            let log = cluster.log_of(keeper);
            if log[before..].contains("was committed") && log[before..].contains("put back to an older copy") {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.kill(keeper);
    }
    for number in [put_back, away] {
        cluster.kill(number);
    }
    cluster.start_node(keeper);
    read_alone(&cluster, keeper).await;
}

#[tokio::test]
async fn a_directory_that_was_replaced_is_not_let_back_in() {
    let mut cluster = Cluster::start(3).await;
    cluster.client_of(&ALL, Duration::from_secs(20)).await.put(b"before", b"1").await.expect("acknowledged");
    cluster.wait_for_equal().await;
    let keeper = cluster.leader(0).await;
    let (replaced, away) = ((keeper + 1) % 3, (keeper + 2) % 3);
    let aside = cluster.dir().join("aside");
    cluster.kill(replaced);
    fs::rename(cluster.data_dir(replaced), &aside).expect("ours");
    cluster.start_node(replaced);
    assert!(cluster.wait_until_sound(replaced, "it is not repaired").await, "{}", cluster.log_of(replaced));
    cluster.wait_for_equal().await;
    // What is acknowledged now only the leader and the replacement have.
    cluster.kill(away);
    put_all(&cluster, &[keeper, replaced]).await;
    cluster.kill(keeper);
    cluster.kill(replaced);
    let newer = cluster.dir().join("newer");
    fs::rename(cluster.data_dir(replaced), &newer).expect("ours");
    fs::rename(&aside, cluster.data_dir(replaced)).expect("ours");
    for _ in 0..2 {
        let before = cluster.log_of(replaced).len();
        cluster.start_node(replaced);
        cluster.start_node(away);
        let started = Instant::now();
        loop {
            let log = cluster.log_of(replaced);
            if log[before..].contains("another data directory in the place of this one")
                && log[before..].contains("start this node with an empty one")
            {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let client = cluster.client_of(&[replaced, away], Duration::from_secs(3)).await;
        drop(client.put(b"key", b"value").await.expect_err("one of three is no majority"));
        cluster.kill(replaced);
        cluster.kill(away);
    }
    // What the message says: the directory that replaced it, or an empty one.
    for empty in [false, true] {
        fs::remove_dir_all(cluster.data_dir(replaced)).expect("ours");
        if !empty {
            fs::rename(&newer, cluster.data_dir(replaced)).expect("ours");
        }
        for number in ALL {
            cluster.start_node(number);
        }
        assert!(cluster.wait_until_sound(replaced, "it does not take part").await, "{}", cluster.log_of(replaced));
        cluster.wait_for_leaders().await;
        cluster.wait_for_equal().await;
        for number in ALL {
            let client = cluster.client_of(&[number], Duration::from_secs(20)).await;
            for key in KEYS {
                assert!(client.get(key.as_bytes()).await.expect("a read").is_some(), "{key} is lost on node {number}");
            }
        }
        for number in ALL {
            cluster.kill(number);
        }
    }
}

#[tokio::test]
async fn an_isolated_write_costs_one_sync_of_the_log_on_every_node() {
    const WRITES: u64 = 6;
    /// What a write of 100 bytes takes in the log, and something to spare: much less than a page. Unit: bytes.
    const BYTES_MAX: u64 = 512;
    /// An election in between takes syncs of its own.
    const TRIES: usize = 5;
    let cluster = Cluster::start(3).await;
    let client = cluster.client_of(&ALL, Duration::from_secs(20)).await;
    client.put(b"first", b"1").await.expect("acknowledged");
    cluster.wait_for_equal().await;
    let syncs = || ALL.map(|number| count(&cluster, number, "quorate_sync_latency_seconds_count"));
    let bytes = || ALL.map(|number| count(&cluster, number, "quorate_log_bytes_appended_total"));
    let terms = || ALL.map(|number| count(&cluster, number, "quorate_raft_term"));
    for _ in 0..TRIES {
        let (syncs_before, bytes_before, terms_before) = (syncs(), bytes(), terms());
        for _ in 0..WRITES {
            client.put(b"key", &[7; 100]).await.expect("acknowledged");
            // Long enough for anything that a node does when it has become idle.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        cluster.wait_for_equal().await;
        let since = |now: [u64; 3], before: [u64; 3]| ALL.map(|number| now[number] - before[number]);
        let (syncs_taken, bytes_taken) = (since(syncs(), syncs_before), since(bytes(), bytes_before));
        let note_syncs = ALL.map(|number| count(&cluster, number, "quorate_note_syncs_total"));
        println!(
            "{WRITES} writes: {syncs_taken:?} syncs and {bytes_taken:?} bytes of the log, {note_syncs:?} syncs of the note since the start"
        );
        if terms() == terms_before {
            assert_eq!(syncs_taken, [WRITES; 3]);
            assert!(bytes_taken.iter().all(|bytes| *bytes <= WRITES * BYTES_MAX), "{bytes_taken:?}");
            return;
        }
    }
    panic!("there was an election in each of {TRIES} tries");
}
