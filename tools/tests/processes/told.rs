//! What a node's log tells an operator at the default level.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE};
use crate::others;

/// Waits until a node's log has these texts, one after the other.
async fn wait_for_lines(cluster: &Cluster, number: usize, texts: &[&str]) {
    let started = Instant::now();
    loop {
        let log = cluster.log_of(number);
        let mut rest = log.as_str();
        let missing = texts.iter().find(|text| match rest.split_once(**text) {
            Some((_, after)) => {
                rest = after;
                false
            }
            None => true,
        });
        let Some(missing) = missing else { return };
        assert!(started.elapsed() < PATIENCE, "no {missing:?} after what comes before it:\n{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_log_tells_who_leads_when_nobody_does_and_who_is_connected() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let [second, left] = others(leader)[..] else { unreachable!("three nodes") };
    let [leader_name, second_name] = [leader, second].map(|number| cluster.nodes[number].name.clone());
    let led = format!("another node leads the shard shard=0 term=1 leader={leader_name} (");
    wait_for_lines(&cluster, left, &["starting version=", "connected to a member", led.as_str()]).await;

    // What nothing happens in adds no line.
    let before = cluster.log_of(left);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.log_of(left), before, "a line of an idle node");

    cluster.kill(leader);
    cluster.kill(second);
    let lost = format!("lost the connection to a member shard=0 member={second_name} (");
    let leaderless = ["cannot connect to a member", "WARN", "no leader is known", "connected=no other member"];
    wait_for_lines(&cluster, left, &[lost.as_str()]).await;
    wait_for_lines(&cluster, left, &leaderless).await;
    let since = cluster.log_of(left).split_off(before.len());
    assert_eq!(since.matches("cannot connect to a member").count(), 2, "once for each member:\n{since}");

    cluster.start_node(second);
    wait_for_lines(&cluster, left, &["no leader is known", "leads the shard shard=0", "without_ms="]).await;
    cluster.signal(left, Signal::TERM);
    assert!(cluster.wait_for_end(left), "it stops in order");
    wait_for_lines(&cluster, left, &["stopping signal=15", "stopped"]).await;
}

#[tokio::test]
async fn each_line_of_a_log_for_programs_is_one_object() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    let text_bytes = cluster.log_of(0).len();
    cluster.start_node_with(0, None, &["--log-format", "json"]);
    cluster.wait_for_leaders().await;
    cluster.signal(0, Signal::TERM);
    assert!(cluster.wait_for_end(0), "it stops in order");
    let log = cluster.log_of(0);
    // Standard output goes to the same file here.
    let logged = log[text_bytes..].lines().filter(|line| !line.starts_with("ready: "));
    let lines: Vec<serde_json::Value> = logged.map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["fields"]["message"].as_str()).collect();
    assert_eq!(messages.len(), lines.len());
    for message in ["starting", "log opened", "this node leads the shard", "stopping", "stopped"] {
        assert!(messages.contains(&message), "{messages:?}");
    }
}
