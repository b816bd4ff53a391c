//! Runs that measure and check: where their results go, what a signal makes of them, and their exit codes.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, quorate};

fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn spawn(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary runs")
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("a process id");
    kill_process(pid, signal).expect("our own child");
}

/// The revision of the first shard.
async fn revision(cluster: &Cluster) -> u64 {
    cluster.statuses().await.iter().map(|status| status.revision).max().unwrap_or_default()
}

/// Waits until something was written behind this revision.
async fn wait_for_writes(cluster: &Cluster, behind: u64) {
    let started = Instant::now();
    while revision(cluster).await < behind + 1000 {
        assert!(started.elapsed() < PATIENCE, "nothing is written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_measurement_that_is_interrupted_prints_what_was_measured() {
    let cluster = Cluster::start(1).await;
    let endpoint = cluster.nodes[0].client_url.clone();
    let bench =
        spawn(&["bench", "put", "--seconds", "600", "--outstanding", "8", "-w", "json", "--endpoints", &endpoint]);
    wait_for_writes(&cluster, 0).await;
    signal(&bench, Signal::INT);
    let output = bench.wait_with_output().expect("it ends");
    let (json, stderr) = (json_of(&output), text_of(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!((&json["interrupted"], &json["errors"]), (&true.into(), &0.into()), "{json}");
    assert!(json["acknowledged"].as_u64().is_some_and(|count| count > 0), "{json}");
    assert!(json["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0 && seconds < 600.0), "{json}");
    assert!(stderr.contains("note: interrupted after "), "{stderr}");

    let before = revision(&cluster).await;
    let bench = spawn(&["bench", "put", "--seconds", "600", "--outstanding", "8", "--endpoints", &endpoint]);
    wait_for_writes(&cluster, before).await;
    signal(&bench, Signal::TERM);
    let output = bench.wait_with_output().expect("it ends");
    let text = text_of(&output.stdout);
    assert!(output.status.code() == Some(143) && text.contains("writes per second"), "{text}");
}

#[tokio::test]
async fn nobody_there_to_measure_is_no_reason_not_to_hear_a_signal() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = listener.local_addr().expect("bound").to_string();
    let bench = spawn(&["bench", "put", "--timeout-ms", "600000", "--endpoints", &endpoint]);
    // It has asked for a connection, so it has taken its signals.
    drop(listener.accept().expect("a connection"));
    signal(&bench, Signal::INT);
    let output = bench.wait_with_output().expect("it ends");
    assert!(output.status.code().is_some_and(|code| code != 0), "{:?}", output.status.signal());
}

#[tokio::test]
async fn writes_that_fail_among_those_measured_change_the_exit_code() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    // Room for some writes and not for all.
    cluster.start_node_with(0, None, &["--quota-backend-bytes", "16777216"]);
    cluster.wait_for_leaders().await;
    let endpoint = cluster.nodes[0].client_url.clone();
    let sized = ["--key-space", "0", "--value-bytes", "65536", "--seconds", "2", "--outstanding", "8"];
    let output = quorate(&[&["bench", "put", "-w", "json", "--endpoints", &endpoint], &sized[..]].concat());
    let (json, stderr) = (json_of(&output), text_of(&output.stderr));
    assert!(json["acknowledged"].as_u64().is_some_and(|count| count > 0), "{json}");
    assert!(json["errors"].as_u64().is_some_and(|count| count > 0), "{json}");
    assert_eq!((output.status.code(), &json["interrupted"]), (Some(1), &false.into()), "{stderr}");
    assert!(stderr.contains(" writes failed: ") && stderr.contains("the first: "), "{stderr}");
}

#[tokio::test]
async fn json_of_runs_goes_alone_to_standard_output_or_to_a_file_or_to_both() {
    let cluster = Cluster::start(1).await;
    let endpoint = cluster.nodes[0].client_url.clone();
    let bench = ["bench", "put", "--seconds", "1", "--outstanding", "4", "--endpoints", &endpoint];
    let file = cluster.dir().join("result.json");
    let path = file.to_str().expect("a printable path");
    let both = quorate(&[&bench[..], &["-w", "json", "--json", path]].concat());
    let written: Value = serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    assert_eq!(json_of(&both), written);
    let dash = quorate(&[&bench[..], &["--json", "-"]].concat());
    assert!(json_of(&dash)["acknowledged"].as_u64().is_some_and(|count| count > 0), "{dash:?}");
    assert!(!cluster.dir().join("-").exists() && !std::path::Path::new("-").exists(), "no file of this name is made");

    let dir = cluster.dir().to_str().expect("a printable path");
    let demo = quorate(&["demo", "--seconds", "2", "--outstanding", "16", "--dir", dir, "-w", "json"]);
    let json = json_of(&demo);
    assert_eq!((demo.status.code(), &json["lost"]), (Some(0), &0.into()), "{json}");
    assert!(text_of(&demo.stderr).contains(" leads; it is killed"), "the story: {}", text_of(&demo.stderr));
    let sim = quorate(&["sim", "--seeds", "1", "--seed", "1", "--json", "-"]);
    assert_eq!(json_of(&sim)["seeds"], 1, "{sim:?}");
}
