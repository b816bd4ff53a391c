//! Strangers at the ports of a running cluster: they connect, say nothing or half of something, and stay.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::call::CallKind;
use api::command::{KeyRange, RangeOp, encode_range};
use net::api::Request;
use net::frame::{FrameKind, encode_frame};
use net::handshake::Hello;
use rustix::process::Signal;

use crate::door::{Raw, WRITE};
use crate::harness::{Cluster, PATIENCE, is_full_run};
use crate::probes::{count, get};

/// Keeps so many silent connections to each address, and goes on making new ones for those that were closed.
struct Silent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Silent {
    /// Returns once all are connected.
    fn start(addresses: &[&str], count: usize) -> Self {
        /// New connections to each address in a round, at most.
        const RENEWED_MAX: usize = 20;
        const PAUSE: Duration = Duration::from_millis(10);
        let mut held: Vec<(String, Option<TcpStream>)> = Vec::new();
        for _ in 0..count {
            held.extend(addresses.iter().map(|address| ((*address).to_owned(), connect(address))));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (is_over, renewed_max) = (Arc::clone(&stop), RENEWED_MAX * addresses.len());
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let closed = held.iter_mut().filter(|(_, stream)| stream.as_ref().is_none_or(is_closed));
                for (address, stream) in closed.take(renewed_max) {
                    *stream = connect(address);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

fn connect(address: &str) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Whether the other side closed the connection.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A restarted node gets in although its peers' ports are full of silent connections, all from the address that it has too.
async fn a_restarted_member_gets_in(silent_count: usize) {
    const SOON: Duration = Duration::from_secs(15);
    let mut cluster = Cluster::start(3).await;
    cluster.kill(2);
    let silent = Silent::start(&[cluster.nodes[0].peer_address(), cluster.nodes[1].peer_address()], silent_count);
    let client = cluster.client_of(&[0, 1], PATIENCE).await;
    client.put(b"key", b"value").await.expect("two of three go on");
    let started = Instant::now();
    cluster.start_node(2);
    assert!(cluster.wait_until_sound(2, "it does not get in").await, "it ended: {}", cluster.log_of(2));
    cluster.wait_for_equal().await;
    let took = started.elapsed();
    assert!(took < SOON, "it took {took:?} with {silent_count} silent connections");
    // It is a full member: with one of the others gone it makes the quorum.
    cluster.kill(0);
    cluster.wait_for_leaders().await;
    cluster.client_of(&[1, 2], PATIENCE).await.put(b"key", b"other").await.expect("two of three go on");
    drop(silent);
}

#[tokio::test]
async fn a_restarted_member_gets_in_beside_three_hundred_silent_connections() {
    a_restarted_member_gets_in(300).await;
}

#[tokio::test]
async fn a_restarted_member_gets_in_beside_two_thousand_silent_connections() {
    a_restarted_member_gets_in(2_000).await;
}

/// The front of a request of 1.5 MB, of which the rest does not come.
fn half_request(arrived: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, WRITE, 0, 0, 1, &vec![0; 1_500_000]);
    bytes.truncate(arrived);
    bytes
}

/// Connects so many clients that each send the front of a request, and says how much the node grew. It goes on serving.
async fn half_requests(count: usize, sizes: &[usize]) -> (u64, Vec<Raw>) {
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    cluster.start_node_with(0, None, &["--max-connections", "12000"]);
    cluster.wait_for_leaders().await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    client.put(b"key", b"value").await.expect("a write");
    let (_, before) = cluster.memory_bytes(0);
    let halves: Vec<_> = sizes.iter().copied().map(half_request).collect();
    let mut held = Vec::new();
    for number in 0..count {
        let mut raw = Raw::connect(&cluster);
        raw.stream.write_all(&halves[number % halves.len()]).expect("an open connection");
        held.push(raw);
        if number % 500 == 0 {
            client.put(b"key", b"value").await.expect("it goes on");
        }
    }
    for _ in 0..100 {
        client.put(b"key", b"value").await.expect("it goes on");
    }
    let (most, _) = cluster.memory_bytes(0);
    let growth = most.saturating_sub(before);
    println!(
        "{count} half requests of {sizes:?} bytes: {} MiB more than before, {} KiB each",
        growth >> 20,
        growth / 1024 / count as u64
    );
    // A whole request of that size gets through beside them.
    client.put(b"large", &vec![7; 1_400_000]).await.expect("it goes on");
    (growth, held)
}

#[tokio::test]
async fn half_requests_take_little_memory_and_the_node_goes_on_serving() {
    const GROWTH_MAX: u64 = 200 << 20;
    // Few large parts reach the bound as well as many small ones do.
    let (count, sizes) = if is_full_run() { (10_000, [100, 16 << 10]) } else { (1_500, [100, 384 << 10]) };
    let (growth, mut held) = half_requests(count, &sizes).await;
    assert!(growth < GROWTH_MAX, "{} MiB more than before", growth >> 20);
    let farewell = held[1].farewell().expect("the oldest large part is told before it is closed");
    assert!(farewell.contains("newer ones needed its room"), "{farewell}");
}

#[tokio::test]
async fn small_half_requests_take_little_memory_for_each_connection() {
    /// Most of it is the connection, not the part. Unit: bytes.
    const GROWTH_MAX_EACH: u64 = 14 << 10;
    let count = if is_full_run() { 10_000 } else { 2_000 };
    let (growth, _held) = half_requests(count, &[100]).await;
    assert!(growth < GROWTH_MAX_EACH * count as u64, "{} KiB more for each", growth / 1024 / count as u64);
}

#[tokio::test]
async fn a_request_whose_rest_does_not_come_is_given_up() {
    if !is_full_run() {
        return;
    }
    let cluster = Cluster::start(1).await;
    let mut raw = Raw::connect(&cluster);
    raw.stream.write_all(&half_request(100)).expect("an open connection");
    let started = Instant::now();
    let farewell = raw.farewell().expect("it is told");
    assert!(farewell.contains("did not come in time"), "{farewell}");
    assert!(started.elapsed() > Duration::from_secs(20), "slow clients have their time");
}

#[tokio::test]
async fn the_log_finds_descriptors_although_silent_connections_take_all_that_they_get() {
    const LIMIT: u32 = 256;
    const SILENT: usize = 400;
    const WRITES: usize = 100;
    let mut cluster = Cluster::start_with_descriptors(3, LIMIT).await;
    let client = cluster.client_of(&[0, 1, 2], PATIENCE).await;
    let client_address = cluster.nodes[0].client_address().to_owned();
    let peer_addresses: Vec<String> = cluster.nodes.iter().map(|node| node.peer_address().to_owned()).collect();
    let mut addresses: Vec<&str> = peer_addresses.iter().map(String::as_str).collect();
    addresses.push(&client_address);
    let silent = Silent::start(&addresses, SILENT);
    // Idle clients that did say who they are, as many as the node takes.
    let idle: Vec<Raw> = (0..20).map(|_| Raw::connect_beside_strangers(&cluster)).collect();
    for number in 0..WRITES {
        client.put(format!("key-{number}").as_bytes(), &vec![7; 1_000_000]).await.expect("it finds its next segment");
    }
    let segments = |cluster: &Cluster, number: usize| {
        let is_segment = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "wal");
        cluster.descriptors(number).iter().filter(|path| is_segment(path)).count()
    };
    for number in 0..3 {
        let open = segments(&cluster, number);
        assert!((1..=6).contains(&open), "node {number} has {open} segments open, of more than ten");
        assert!(cluster.descriptors(number).len() < LIMIT as usize);
        assert!(!cluster.log_of(number).contains("Too many open files"), "{}", cluster.log_of(number));
    }
    // A start with many segments needs no more.
    cluster.kill(2);
    cluster.start_node(2);
    assert!(cluster.wait_until_sound(2, "it does not get in").await, "it ended: {}", cluster.log_of(2));
    cluster.wait_for_equal().await;
    assert!((1..=6).contains(&segments(&cluster, 2)), "{:?}", cluster.descriptors(2));
    drop((silent, idle));
}

/// Connects so many times at once to each address of a node that does not run just then. Every other one says hello and no more.
fn burst(addresses: &[&str], count: usize) -> Vec<TcpStream> {
    const PATIENCE: Duration = Duration::from_millis(100);
    let mut hello = Vec::new();
    Hello::of_client().encode(&mut hello);
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    let mut held = Vec::new();
    for number in 0..count {
        for address in &addresses {
            // Beyond what the kernel keeps for the node, connections are not made.
            let Ok(mut stream) = TcpStream::connect_timeout(address, PATIENCE) else { return held };
            if number % 2 == 0 {
                stream.write_all(&hello).expect("the kernel takes it");
            }
            held.push(stream);
        }
    }
    held
}

#[tokio::test]
async fn the_log_finds_descriptors_although_very_many_connect_at_once() {
    const LIMIT: u32 = 256;
    const BURST: usize = 400;
    let cluster = Cluster::start_with_descriptors(3, LIMIT).await;
    let client = cluster.client_of(&[0, 1, 2], PATIENCE).await;
    let client_address = cluster.nodes[0].client_url.trim_start_matches("http://").to_owned();
    let addresses = [client_address.as_str(), cluster.nodes[0].peer_address()];
    let mut most = 0;
    for round in 0..5 {
        cluster.signal(0, Signal::STOP);
        let held = burst(&addresses, BURST);
        most = most.max(held.len());
        cluster.signal(0, Signal::CONT);
        for number in 0..10 {
            let key = format!("key-{round}-{number}");
            client.put(key.as_bytes(), &vec![7; 1_000_000]).await.expect("it finds its next segment");
        }
        drop(held);
    }
    assert!(most > LIMIT as usize, "only {most} connected at once");
    assert!(!cluster.log_of(0).contains("Too many open files"), "{}", cluster.log_of(0));
}

#[tokio::test]
async fn damaged_frames_are_said_once_in_a_while_with_the_address_and_counted() {
    const DAMAGED: usize = 300;
    let cluster = Cluster::start(1).await;
    for _ in 0..DAMAGED {
        let mut raw = Raw::connect(&cluster);
        raw.stream.write_all(&[0xaa; 64]).expect("an open connection");
        assert!(raw.farewell().is_some(), "it is told why");
    }
    let log = cluster.log_of(0);
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("closed a client connection")).collect();
    assert!((1..=DAMAGED / 10).contains(&lines.len()), "{log}");
    assert!(lines[0].contains("address=127.0.0.1:"), "{}", lines[0]);
    assert_eq!(count(&cluster, 0, "quorate_client_frames_damaged_total"), DAMAGED as u64);
}

#[tokio::test]
async fn silent_clients_make_room_for_new_ones_and_whoever_was_idle_loses_no_request() {
    const LIMIT: usize = 64;
    const MADE_ROOM: &str = "quorate_client_connections_made_room_total";
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    cluster.start_node_with(0, None, &["--max-connections", &LIMIT.to_string()]);
    cluster.wait_for_leaders().await;
    let idle = cluster.client_of(&[0], PATIENCE).await;
    idle.put(b"idle", b"value").await.expect("a write");
    // They say hello, and nothing more.
    let strangers: Vec<Raw> = (0..3 * LIMIT).map(|_| Raw::connect(&cluster)).collect();
    let before = count(&cluster, 0, MADE_ROOM);
    assert!(before >= 2 * LIMIT as u64, "{before}");
    cluster.client_of(&[0], PATIENCE).await.put(b"new", b"value").await.expect("a new client gets in");
    // Those that asked for something once push out whoever was silent longer; the next request finds another connection.
    for round in 0..5 {
        let mut held = Vec::new();
        for number in 0..2 * LIMIT as u64 {
            let mut raw = Raw::connect(&cluster);
            raw.put(number + 1, b"value");
            assert_eq!(raw.answer(), Some((number + 1, None)));
            held.push(raw);
        }
        idle.put(b"idle", b"value").await.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    assert!(count(&cluster, 0, MADE_ROOM) > before);
    drop(strangers);
}

#[tokio::test]
async fn probes_are_answered_although_silent_connections_take_every_place_for_probes() {
    const SILENT: usize = 200;
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].client_address();
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("the port is open");
            stream.write_all(b"GET /health").expect("an open connection");
            stream
        })
        .collect();
    for path in ["/health", "/metrics", "/livez", "/readyz"] {
        assert!(get(&cluster, 0, path).starts_with("HTTP/1.1 200"));
    }
    cluster.client_of(&[0], PATIENCE).await.put(b"key", b"value").await.expect("clients have their own places");
    drop(silent);
}

#[tokio::test]
async fn connections_that_were_busy_and_fell_idle_take_little_memory() {
    const GROWTH_MAX: u64 = 200 << 20;
    const REQUESTS: u64 = 300;
    let count = if is_full_run() { 10_000 } else { 1_500 };
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    cluster.start_node_with(0, None, &["--max-connections", "12000"]);
    cluster.wait_for_leaders().await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    client.put(b"large", &vec![7; 400_000]).await.expect("a write");
    let (_, before) = cluster.memory_bytes(0);
    let mut range = Vec::new();
    let key = KeyRange { key: b"large", range_end: b"" };
    encode_range(&RangeOp { range: key, limit: 0, revision: 0, keys_only: false, count_only: false }, &mut range)
        .expect("sound");
    let mut burst = Vec::new();
    for id in 1..REQUESTS {
        // No command: it is refused at once, after it was read.
        Request { id, kind: WRITE, shard: 0, timeout_ms: 20_000, session: 0, sequence: 0, payload: &[0xff; 1_000] }
            .encode(&mut burst);
    }
    Request {
        id: REQUESTS,
        kind: FrameKind::new(CallKind::Read.row().number),
        shard: 0,
        timeout_ms: 20_000,
        session: 0,
        sequence: 0,
        payload: &range,
    }
    .encode(&mut burst);
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::connect(&cluster);
        raw.stream.write_all(&burst).expect("an open connection");
        for _ in 0..REQUESTS {
            raw.answer().expect("an open connection");
        }
        held.push(raw.stream);
    }
    let (most, _) = cluster.memory_bytes(0);
    let growth = most.saturating_sub(before);
    println!("{count} connections that were busy: {} MiB more than before", growth >> 20);
    assert!(growth < GROWTH_MAX, "{} MiB more than before", growth >> 20);
    client.put(b"key", b"value").await.expect("it goes on");
    assert!(!held.iter().any(is_closed_now), "all are still served");
}

/// Whether the other side closed a connection that blocks.
fn is_closed_now(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    is_closed(stream)
}
