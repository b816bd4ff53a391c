//! Nodes whose whole data directory is gone: they come back by themselves, or wait and say why, and nothing acknowledged is lost.
//! Nor do they show less than they showed before.

use std::time::Duration;

use client::ShardStatus;

use crate::harness::{Cluster, quorate};
use crate::probes::get;
use crate::{ALL, others};

/// Several election timeouts: who could be elected is elected within.
const ELECTIONS: Duration = Duration::from_secs(4);

async fn put_some(cluster: &Cluster, through: usize, round: &str) -> Vec<String> {
    let client = cluster.client_of(&[through], Duration::from_secs(20)).await;
    let keys: Vec<String> = (0..5).map(|number| format!("{round}-{number}")).collect();
    for key in &keys {
        client.put(key.as_bytes(), b"value").await.expect("a majority runs");
    }
    keys
}

async fn check_keys(cluster: &Cluster, keys: &[String]) {
    cluster.wait_for_leaders().await;
    cluster.wait_for_equal().await;
    for number in ALL {
        let client = cluster.client_of(&[number], Duration::from_secs(20)).await;
        for key in keys {
            assert!(client.get(key.as_bytes()).await.expect("a read").is_some(), "{key} is lost on node {number}");
        }
    }
}

fn wipe(cluster: &mut Cluster, number: usize) {
    cluster.kill(number);
    std::fs::remove_dir_all(cluster.data_dir(number)).expect("the directory is ours");
}

/// What a node shows of its own state: how many of `keys`, or why it shows nothing.
fn shown(cluster: &Cluster, number: usize, keys: &[String]) -> Result<usize, String> {
    let endpoint = &cluster.nodes[number].client_url;
    let output =
        quorate(&["get", "", "--prefix", "--consistency", "s", "--command-timeout", "5s", "--endpoints", endpoint]);
    if output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        return Ok(text.lines().filter(|line| keys.iter().any(|key| key == line)).count());
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until a node says that it shows nothing, for this reason. It never shows less than all keys.
async fn wait_until_nothing_is_shown(cluster: &Cluster, number: usize, keys: &[String], reason: &str) {
    let started = std::time::Instant::now();
    loop {
        let found = shown(cluster, number, keys);
        match &found {
            Err(why) if why.contains(reason) => return,
            Err(_) => {}
            Ok(count) => assert_eq!(*count, keys.len(), "{}", cluster.log_of(number)),
        }
        assert!(started.elapsed() < crate::harness::PATIENCE, "{found:?}\n{}", cluster.log_of(number));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a node shows its state. It never shows less than all keys.
async fn wait_until_all_is_shown(cluster: &Cluster, number: usize, keys: &[String]) {
    let started = std::time::Instant::now();
    loop {
        match shown(cluster, number, keys) {
            Ok(count) => return assert_eq!(count, keys.len(), "{}", cluster.log_of(number)),
            Err(why) => assert!(started.elapsed() < crate::harness::PATIENCE, "{why}\n{}", cluster.log_of(number)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_wiped_node_does_not_help_to_forget_acknowledged_writes() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let (wiped, away) = (others(leader)[0], others(leader)[1]);
    cluster.kill(away);
    let keys = put_some(&cluster, leader, "acknowledged").await;
    wipe(&mut cluster, wiped);
    cluster.kill(leader);
    cluster.start_node(wiped);
    wait_until_nothing_is_shown(&cluster, wiped, &keys, "this node is new and waits").await;
    cluster.start_node(away);
    let is_replaced = |status: &ShardStatus| status.under_repair.as_ref().is_some_and(|what| what.contains("was gone"));
    cluster.wait_until("the wiped node takes part as if nothing had happened", |all| all.iter().any(is_replaced)).await;
    let client = cluster.client_of(&[wiped, away], ELECTIONS).await;
    drop(client.get(keys[0].as_bytes()).await.expect_err("the two are no majority of what they were"));
    wait_until_nothing_is_shown(&cluster, wiped, &keys, "data directory was empty").await;
    let statuses = cluster.statuses().await;
    assert!(statuses.iter().all(|status| status.role != "leader"), "{statuses:#?}");
    cluster.start_node(leader);
    assert!(cluster.wait_until_sound(wiped, "it is not repaired").await, "{}", cluster.log_of(wiped));
    check_keys(&cluster, &keys).await;
    assert_eq!(shown(&cluster, wiped, &keys), Ok(keys.len()), "all is back");
    cluster.kill(wiped);
    for number in [leader, away] {
        cluster.kill(number);
    }
    // Alone, after another start.
    cluster.start_node(wiped);
    wait_until_all_is_shown(&cluster, wiped, &keys).await;
    cluster.start_node(away);
    cluster.start_node(leader);
    check_keys(&cluster, &keys).await;
    assert!(cluster.log_of(away).contains("a node lost data"), "{}", cluster.log_of(away));
}

#[tokio::test]
async fn a_wiped_follower_gets_everything_back_while_the_leader_stays() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let follower = others(leader)[0];
    let mut keys = put_some(&cluster, leader, "before").await;
    wipe(&mut cluster, follower);
    keys.extend(put_some(&cluster, leader, "without").await);
    cluster.start_node(follower);
    assert!(cluster.wait_until_sound(follower, "it is not repaired").await, "{}", cluster.log_of(follower));
    check_keys(&cluster, &keys).await;
    assert!(cluster.log_of(leader).contains("a node lost data"), "{}", cluster.log_of(leader));
    // Born once: a restart is an ordinary one, and the next wipe is noticed again.
    for number in [follower, leader] {
        wipe(&mut cluster, number);
        cluster.start_node(number);
        assert!(cluster.wait_until_sound(number, "it is not repaired").await, "{}", cluster.log_of(number));
    }
    check_keys(&cluster, &keys).await;
}

#[tokio::test]
async fn two_wiped_of_three_elect_nobody_and_say_so() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let keys = put_some(&cluster, leader, "kept").await;
    let wiped = others(leader);
    let places = [0, 1].map(|number| cluster.dir().join(format!("aside-{number}")));
    for (number, place) in wiped.iter().zip(&places) {
        cluster.kill(*number);
        std::fs::rename(cluster.data_dir(*number), place).expect("the directory is ours");
    }
    for number in &wiped {
        cluster.start_node(*number);
    }
    let says_so = |status: &ShardStatus| {
        status.leader == 0 && status.lost_data.as_ref().is_some_and(|what| what.contains("no majority"))
    };
    let what = "not everyone says that two of three lost their data";
    cluster.wait_until(what, |all| all.len() == 3 && all.iter().all(says_so)).await;
    for number in ALL {
        let answer = get(&cluster, number, "/readyz");
        assert!(answer.contains("503") && answer.contains("nodes that lost data"), "{answer}");
        assert!(cluster.log_of(number).contains("nodes that lost data"), "{}", cluster.log_of(number));
    }
    let client = cluster.client_of(&ALL, ELECTIONS).await;
    drop(client.put(b"key", b"value").await.expect_err("nobody leads"));
    // Whoever looks for what is left is not told that there is nothing.
    for number in &wiped {
        wait_until_nothing_is_shown(&cluster, *number, &keys, "data directory was empty").await;
    }
    wait_until_all_is_shown(&cluster, leader, &keys).await;
    // What a person can do: put the directories back. Both empty nodes end first: with one directory back there is a majority, which
    // would name the log of the other empty node in the place of the one that is about to come back.
    for number in &wiped {
        wipe(&mut cluster, *number);
    }
    for (number, place) in wiped.iter().zip(&places) {
        std::fs::rename(place, cluster.data_dir(*number)).expect("the directory is ours");
        cluster.start_node(*number);
    }
    check_keys(&cluster, &keys).await;
}

#[tokio::test]
async fn a_lost_log_or_record_is_named_and_removing_the_directory_helps() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let keys = put_some(&cluster, leader, "kept").await;
    let follower = others(leader)[0];
    for lost in ["shards/0000/wal", "shards/0000/birth"] {
        cluster.kill(follower);
        let path = cluster.data_dir(follower).join(lost);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it was there");
        cluster.start_node(follower);
        assert!(!cluster.wait_for_end(follower), "it starts without {lost}");
        let log = cluster.log_of(follower);
        assert!(log.lines().last().is_some_and(|line| line.contains("remove the whole data directory")), "{log}");
        std::fs::remove_dir_all(cluster.data_dir(follower)).expect("the directory is ours");
        cluster.start_node(follower);
        assert!(cluster.wait_until_sound(follower, "it is not repaired").await, "{}", cluster.log_of(follower));
    }
    check_keys(&cluster, &keys).await;
}

#[tokio::test]
async fn of_two_nodes_a_wiped_one_stops_and_says_what_can_be_done() {
    let mut cluster = Cluster::start(2).await;
    let leader = cluster.leader(0).await;
    put_some(&cluster, leader, "kept").await;
    let follower = 1 - leader;
    wipe(&mut cluster, follower);
    cluster.start_node(follower);
    let started = std::time::Instant::now();
    while !cluster.log_of(follower).contains("Restore the directory") {
        assert!(started.elapsed() < crate::harness::PATIENCE, "{}", cluster.log_of(follower));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.kill(follower);

    let dir = cluster.dir().join("empty");
    let members = "a=http://127.0.0.1:1,b=http://127.0.0.1:2";
    let urls = ["--listen-peer-urls", "http://127.0.0.1:1", "--listen-client-urls", "http://127.0.0.1:3"];
    let start = ["start", "--name", "a", "--initial-cluster", members, "--initial-cluster-state", "existing"];
    let place = ["--data-dir", dir.to_str().expect("a path")];
    let output = quorate(&[start.as_slice(), &urls, &place].concat());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("restore the directory"), "{text}");
}
