//! What must not hold a node up: its log output, a large backlog, clients that never let go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::ClientError;
use engine::call::{Call, CallKind};
use engine::types::ShardId;
use net::handshake::Hello;
use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE, is_full_run};
use crate::large::{PUT_MS_MAX, SLOWER_MAX};
use crate::probes::count;
use crate::ticks::{self, watched_cluster};

const SECONDS: Duration = Duration::from_secs(10);

/// Makes a node log something.
fn connect_with_garbage(cluster: &Cluster, number: usize) {
    let mut stream = TcpStream::connect(cluster.nodes[number].client_address()).expect("the port is open");
    // The node may close the connection before it has taken everything; that is its right.
    drop(stream.write_all(b"neither protocol"));
}

/// Makes a node log until lines are lost, and checks that it serves all the same and stops in order.
async fn lose_lines_and_serve(cluster: &mut Cluster) {
    cluster.wait_for_leaders().await;
    let started = Instant::now();
    while count(cluster, 0, "quorate_log_lines_dropped_total") == 0 {
        assert!(started.elapsed() < PATIENCE, "no line was lost");
        for _ in 0..100 {
            connect_with_garbage(cluster, 0);
        }
    }
    let client = cluster.client_of(&[0], SECONDS).await;
    client.put(b"key", b"value").await.expect("the node serves");
    assert!(client.get(b"key").await.expect("a read").is_some());
    cluster.signal(0, Signal::TERM);
    assert!(cluster.wait_for_end(0), "it stops in order");
}

#[tokio::test]
async fn a_node_whose_standard_error_was_closed_goes_on() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    cluster.start_node_with(0, Some(writer.into()), &["--log-level", "debug"]);
    lose_lines_and_serve(&mut cluster).await;
}

#[tokio::test]
async fn a_node_whose_standard_error_nobody_reads_goes_on() {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    cluster.start_node_with(0, Some(writer.into()), &["--log-level", "debug"]);
    lose_lines_and_serve(&mut cluster).await;
    drop(reader);
}

#[tokio::test]
async fn a_node_whose_standard_output_nobody_reads_serves_and_stops_in_order() {
    /// Room in a pipe, unless somebody changes it. Unit: bytes.
    const PIPE_BYTES: usize = 64 << 10;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fifo = dir.path().join("stdout").display().to_string();
    let fill = format!("mkfifo {fifo} && exec 1<>{fifo} && head -c {PIPE_BYTES} /dev/zero");
    let mut cluster = Cluster::start_in_shell(1, &fill).await;
    cluster.client_of(&[0], SECONDS).await.put(b"key", b"value").await.expect("the node serves");
    cluster.signal(0, Signal::TERM);
    assert!(cluster.wait_for_end(0), "{}", cluster.log_of(0));
}

/// Greets as a client.
fn greet(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    let mut bytes = Vec::new();
    Hello::of_client().encode(&mut bytes);
    stream.write_all(&bytes).expect("taken");
    stream
}

/// Sends requests that are refused at once, as fast as the node takes them, and reads the answers.
fn flood_with_requests(address: &str, stop: &AtomicBool) {
    let mut stream = greet(address);
    let mut bytes = Vec::new();
    for id in 1..=1000 {
        Call::borrowed(ShardId::new(0), CallKind::Read, 1000, b"no range").as_request(id).encode(&mut bytes);
    }
    let mut answers = stream.try_clone().expect("a descriptor");
    let reader = std::thread::spawn(move || {
        let mut taken = vec![0; 1 << 20];
        while answers.read(&mut taken).is_ok_and(|count| count > 0) {}
    });
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&bytes).expect("taken");
    }
    stream.shutdown(std::net::Shutdown::Both).expect("open");
    reader.join().expect("it ends");
}

/// Sends what is no frame, and goes on for as long as the node takes it; then once more.
fn flood_with_damage(address: &str, stop: &AtomicBool) {
    let bytes = vec![0xff; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        let mut stream = greet(address);
        while !stop.load(Ordering::Relaxed) && stream.write_all(&bytes).is_ok() {}
    }
}

/// Asks for all figures again and again, many times at once, and reads the answers.
fn flood_with_probes(address: &str, stop: &AtomicBool) {
    let asked = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n".repeat(50);
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).expect("the port is open");
        let mut taken = vec![0; 1 << 20];
        // Others may need its place.
        while !stop.load(Ordering::Relaxed)
            && stream.write_all(&asked).is_ok()
            && stream.read(&mut taken).is_ok_and(|count| count > 0)
        {}
    }
}

/// The longest of puts within three seconds. Unit: ms. One whose node got no processor for a second, because others were given it, is
/// given up by its client; that says nothing but in full runs.
async fn longest_put(client: &client::Client) -> u128 {
    let started = Instant::now();
    let mut longest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        if let Err(error) = client.put(b"probe", b"value").await {
            assert!(matches!(error, ClientError::Unknown { .. }) && !is_full_run(), "a put is acknowledged: {error}");
        }
        longest = longest.max(asked.elapsed());
    }
    longest.as_millis()
}

#[tokio::test]
async fn clients_that_flood_a_node_hold_up_neither_ticks_nor_others() {
    const FLOODS: usize = 30;
    for (what, flood) in [
        ("bad requests", flood_with_requests as fn(&str, &AtomicBool)),
        ("what is no frame", flood_with_damage as fn(&str, &AtomicBool)),
        ("probes", flood_with_probes as fn(&str, &AtomicBool)),
    ] {
        let cluster = watched_cluster(3).await;
        let leader = cluster.leader(0).await;
        let term_of = |statuses: &[client::ShardStatus]| statuses.iter().map(|status| status.term).max();
        let term = term_of(&cluster.statuses().await);
        let client = cluster.client_of(&[leader], PATIENCE).await;
        let alone = longest_put(&client).await;
        let stop = Arc::new(AtomicBool::new(false));
        let floods: Vec<_> = (0..FLOODS)
            .map(|_| {
                let (address, stop) = (cluster.nodes[leader].client_address().to_owned(), Arc::clone(&stop));
                std::thread::spawn(move || flood(&address, &stop))
            })
            .collect();
        let beside = longest_put(&client).await;
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            flood.join().expect("the node takes all of it");
        }
        println!("beside {FLOODS} clients that send {what} the longest put took {beside} ms, alone {alone} ms");
        // So many threads that never rest share the processors with the nodes: on a machine that runs other tests, too, that alone may
        // take longer. Ticks are judged without waits for a processor.
        if is_full_run() {
            assert!(
                beside <= PUT_MS_MAX.max(alone * SLOWER_MAX),
                "a put took {beside} ms beside {what}; alone {alone} ms"
            );
        }
        assert_eq!(term_of(&cluster.statuses().await), term, "the leader was deposed beside {what}");
        ticks::check(&cluster, what);
    }
}
