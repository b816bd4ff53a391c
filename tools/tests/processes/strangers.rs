//! Strangers at the ports of a running cluster: they connect, say nothing or half of something, and stay.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
