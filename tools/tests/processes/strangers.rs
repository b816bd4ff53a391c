//! Strangers at the ports of a running cluster: they connect, say nothing or half of something, and stay.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net::api::KIND_WRITE;
use net::frame::encode_frame;

use crate::clients::is_full_run;
use crate::door::Raw;
use crate::harness::{Cluster, PATIENCE};

/// Keeps so many silent connections to each address, and goes on making new ones for those that were closed.
struct Silent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Silent {
    /// Returns once all are connected.
    fn start(addresses: &[&str], count: usize) -> Self {
        /// New connections to each address in a round.
        const RENEWED: usize = 10;
        const PAUSE: Duration = Duration::from_millis(10);
        let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        let mut held: Vec<Vec<Option<TcpStream>>> =
            addresses.iter().map(|address| (0..count).map(|_| TcpStream::connect(address).ok()).collect()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut at = 0;
            while !is_over.load(Ordering::Relaxed) {
                for (address, held) in addresses.iter().zip(&mut held) {
                    for offset in 0..RENEWED {
                        held[(at + offset) % count] = TcpStream::connect(address).ok();
                    }
                }
                at = (at + RENEWED) % count;
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, thread: Some(thread) }
    }
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
    encode_frame(&mut bytes, KIND_WRITE, 0, 0, 1, &vec![0; 1_500_000]);
    bytes.truncate(arrived);
    bytes
}

#[tokio::test]
async fn half_requests_take_little_memory_and_the_node_goes_on_serving() {
    const GROWTH_MAX: u64 = 200 << 20;
    // Few large parts reach the bound as well as many small ones do.
    let (count, sizes) = if is_full_run() { (10_000, [100, 16 << 10]) } else { (1_500, [100, 384 << 10]) };
    let mut cluster = Cluster::start(1).await;
    cluster.kill(0);
    cluster.start_node_with(0, None, &["--max-connections", "12000"]);
    cluster.wait_for_leaders().await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    client.put(b"key", b"value").await.expect("a write");
    let (_, before) = cluster.memory_bytes(0);
    let halves = sizes.map(half_request);
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
    // A whole request of that size gets through beside them.
    client.put(b"large", &vec![7; 1_400_000]).await.expect("it goes on");
    let (most, _) = cluster.memory_bytes(0);
    let growth = most.saturating_sub(before);
    println!("{count} half requests: {} MiB more than before", growth >> 20);
    assert!(growth < GROWTH_MAX, "{} MiB more than before", growth >> 20);
    let farewell = held[1].farewell().expect("the oldest large part is told before it is closed");
    assert!(farewell.contains("newer ones needed its room"), "{farewell}");
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
