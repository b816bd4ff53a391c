//! What a node's log tells an operator at the default level.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE, quorate};
use crate::others;
use crate::probes::get;

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
    for message in ["starting", "log opened", "listening", "this node leads the shard", "stopping", "stopped"] {
        assert!(messages.contains(&message), "{messages:?}");
    }
    for line in lines.iter().filter(|line| !line["fields"]["shard"].is_null()) {
        assert_eq!(line["fields"]["shard"], 0, "a number: {line}");
    }
    let opened = lines.iter().find(|line| line["fields"]["message"] == "log opened").expect("it was found");
    for number in ["segments", "entries", "last_index", "last_term", "term", "end_bytes", "elapsed_ms"] {
        assert!(opened["fields"][number].is_u64(), "{number}: {opened}");
    }
    let leads =
        lines.iter().find(|line| line["fields"]["message"] == "this node leads the shard").expect("it was found");
    assert!(leads["fields"]["term"].is_u64(), "{leads}");
}

#[test]
fn a_node_that_cannot_run_says_so_in_the_form_of_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    let data_dir = data_dir.to_str().expect("a path");
    let host = "http://127.1.2.3:1";
    for (more, code) in [(&["--cores", "0"][..], 2), (&["--initial-cluster-state", "existing"], 1)] {
        let urls = ["--listen-client-urls", host, "--listen-peer-urls", "http://127.1.2.3:2", "--log-format", "json"];
        let output = quorate(&[&["start", "--data-dir", data_dir], &urls[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = lines.last().expect("a line");
        assert_eq!((output.status.code(), &last["level"]), (Some(code), &serde_json::json!("ERROR")), "{said}");
        assert!(last["fields"]["error"].as_str().is_some_and(|error| error.contains(more[0])), "{said}");
    }
}

#[tokio::test]
async fn the_log_tells_of_a_leader_that_is_silent_of_a_node_that_stood_still_and_of_a_follower_that_is_back() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let [follower, other] = others(leader)[..] else { unreachable!("three nodes") };
    let name = |number: usize| format!("{} (", cluster.nodes[number].name);

    cluster.signal(follower, Signal::STOP);
    let silent = format!(
        "a follower is silent: it is stopped or hangs, or its messages do not arrive shard=0 member={}",
        name(follower)
    );
    wait_for_lines(&cluster, leader, &[silent.as_str()]).await;
    // Longer than what is said, whenever its next tick comes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.signal(follower, Signal::CONT);
    let back = format!("a follower that was silent is back shard=0 member={}", name(follower));
    wait_for_lines(&cluster, leader, &[silent.as_str(), back.as_str()]).await;
    wait_for_lines(&cluster, follower, &["this node stood still", "for_ms="]).await;

    cluster.signal(leader, Signal::STOP);
    // Who asks for votes first gave it up; the other one may hear of the next leader at once.
    let gave_up = format!("gave the leader up: nothing was heard of it shard=0 leader={}", name(leader));
    let started = Instant::now();
    while ![follower, other].iter().any(|number| cluster.log_of(*number).contains(&gave_up)) {
        assert!(started.elapsed() < PATIENCE, "{}\n{}", cluster.log_of(follower), cluster.log_of(other));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for number in [follower, other] {
        wait_for_lines(&cluster, number, &["leads the shard shard=0 term=1", "leads the shard shard=0"]).await;
    }
    cluster.signal(leader, Signal::CONT);
}

#[tokio::test]
async fn the_log_names_the_founder_that_is_missing_and_where_it_should_be() {
    let mut cluster = Cluster::start(3).await;
    let gone = cluster.nodes[2].name.clone();
    for number in crate::ALL {
        cluster.kill(number);
        std::fs::remove_dir_all(cluster.data_dir(number)).expect("the directory is ours");
    }
    for number in [0, 1] {
        cluster.start_node(number);
        wait_for_lines(&cluster, number, &["this node is new and waits to hear", &format!("{gone} ("), ") at http://"])
            .await;
    }
    // Its earlier life has logged that it listens, too. And the probe's answer may be one tick older than the log.
    let started = Instant::now();
    loop {
        if TcpStream::connect(cluster.nodes[0].client_address()).is_err() {
            assert!(started.elapsed() < PATIENCE, "the port stays closed");
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let answer = get(&cluster, 0, "/readyz");
        if answer.contains(&format!("{gone} (")) && answer.contains(") at http://") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_speaks_another_protocol_at_the_client_port_is_said_once() {
    let cluster = Cluster::start(1).await;
    for _ in 0..20 {
        for first in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
            let mut stream = TcpStream::connect(cluster.nodes[0].client_address()).expect("the port is open");
            stream.write_all(first).expect("the connection is new");
            // It is closed; with an error if not all was read.
            drop(stream.read_to_end(&mut Vec::new()));
        }
    }
    let log = cluster.log_of(0);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("refused a client connection")).collect();
    // One in 10 s, and the forty calls may take longer than that on a busy machine.
    assert!((1..=4).contains(&lines.len()) && lines[0].contains("HTTP/2, as gRPC does"), "{log}");
}

#[tokio::test]
async fn a_start_with_other_urls_says_what_differs() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    let data_dir = cluster.data_dir(0).to_str().expect("a path").to_owned();
    let urls = ["--listen-client-urls", "http://127.1.2.4:1", "--listen-peer-urls", "http://127.1.2.4:2"];
    let said = quorate(&[&["start", "--name", &cluster.nodes[0].name, "--data-dir", &data_dir][..], &urls].concat());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("was created with") && said.contains("the names and peer URLs in --initial-cluster"),
        "{said}"
    );
}
