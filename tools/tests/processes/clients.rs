//! How long clients are without an answer, whatever one node does.
//!
//! Each row is a fault, each column a kind of client: one that has lived for long with one or with 1,000 requests under way, and
//! new ones. `QUORATE_FULL_TESTS=1` runs every row; without it only the hardest run. The limit is the product's promise; what the
//! machine itself takes at the same load without a fault is added to it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, ClientOptions};
use rustix::process::Signal;

use crate::harness::Cluster;
use crate::namespaces::Namespaces;

/// Longest time without an answer, with default settings.
const PROMISED: Duration = Duration::from_secs(3);

/// How long a fault lasts.
const FAULT: Duration = Duration::from_secs(5);

/// How long the same load runs without a fault first.
const BASELINE: Duration = Duration::from_secs(1);

/// How many times the baseline is added to the promise.
const NOISE_FACTOR: u32 = 5;

/// When new clients come, after the fault. Unit: ms.
const NEW_CLIENTS_AT_MS: [u64; 5] = [0, 250, 500, 1000, 2000];

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LeaderStopped,
    LeaderKilled,
    FollowerStopped,
    FollowerKilled,
    /// The leader's log stops for good: its files are taken away.
    LeaderDiskFailed,
    /// The same for a follower.
    FollowerDiskFailed,
    /// One of the endpoints takes connections and says nothing.
    SilentEndpoint,
    /// Hints lead to an endpoint that takes connections and says nothing.
    UnreachableHint,
    /// Every packet from and to the leader's host is dropped, without a word. Needs namespaces.
    LeaderHostGone,
    /// The same for a follower.
    FollowerHostGone,
    /// Every packet between the leader and the other nodes is dropped; clients reach it. Needs namespaces.
    LeaderIsolated,
    /// The same for a follower.
    FollowerIsolated,
}

const IN_NAMESPACES: &[Fault] =
    &[Fault::LeaderHostGone, Fault::FollowerHostGone, Fault::LeaderIsolated, Fault::FollowerIsolated];
const SHORT_RUN: &[Fault] = &[Fault::LeaderStopped, Fault::UnreachableHint];
const FULL_RUN: &[Fault] = &[
    Fault::LeaderStopped,
    Fault::LeaderKilled,
    Fault::FollowerStopped,
    Fault::FollowerKilled,
    Fault::LeaderDiskFailed,
    Fault::FollowerDiskFailed,
    Fault::SilentEndpoint,
    Fault::UnreachableHint,
];

/// Successes, and the longest time without one.
#[derive(Debug)]
struct Gaps {
    last: Mutex<(Instant, Duration)>,
    successes: AtomicU64,
    failures: AtomicU64,
}

impl Gaps {
    fn new() -> Arc<Self> {
        let last = Mutex::new((Instant::now(), Duration::ZERO));
        Arc::new(Self { last, successes: AtomicU64::new(0), failures: AtomicU64::new(0) })
    }

    fn success(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().expect("no task panicked");
        last.1 = last.1.max(last.0.elapsed());
        last.0 = Instant::now();
    }

    /// The longest time without success so far; starts anew.
    fn take(&self) -> Duration {
        let mut last = self.last.lock().expect("no task panicked");
        let longest = last.1.max(last.0.elapsed());
        *last = (Instant::now(), Duration::ZERO);
        longest
    }
}

/// A client with default settings, apart from its endpoints.
async fn client_of(endpoints: &[String]) -> Client {
    let options = ClientOptions { endpoints: endpoints.to_vec(), ..ClientOptions::default() };
    Client::connect(options).await.expect("an endpoint answers")
}

/// Keeps so many writes under way until told to stop.
struct Load {
    gaps: Arc<Gaps>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(endpoints: &[String], outstanding: usize) -> Self {
        let (gaps, stop) = (Gaps::new(), Arc::new(AtomicBool::new(false)));
        let client = client_of(endpoints).await;
        let task = |number: usize| {
            let (gaps, stop, client) = (Arc::clone(&gaps), Arc::clone(&stop), client.clone());
            tokio::spawn(async move {
                let key = format!("key-{number}");
                while !stop.load(Ordering::Relaxed) {
                    match client.put(key.as_bytes(), b"value").await {
                        Ok(_) => gaps.success(),
                        Err(_) => {
                            gaps.failures.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        };
        Self { tasks: (0..outstanding).map(task).collect(), gaps, stop }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer ends well");
        }
    }
}

/// How long new clients need for their first write, at worst.
async fn new_clients(endpoints: &[String]) -> Duration {
    let began = Instant::now();
    let mut clients = Vec::new();
    for at_ms in NEW_CLIENTS_AT_MS {
        tokio::time::sleep(Duration::from_millis(at_ms).saturating_sub(began.elapsed())).await;
        let endpoints = endpoints.to_vec();
        clients.push(tokio::spawn(async move {
            let began = Instant::now();
            loop {
                let options = ClientOptions { endpoints: endpoints.clone(), ..ClientOptions::default() };
                let Ok(client) = Client::connect(options).await else { continue };
                if client.put(b"new", b"value").await.is_ok() {
                    return began.elapsed();
                }
            }
        }));
    }
    let mut longest = Duration::ZERO;
    for client in clients {
        longest = longest.max(client.await.expect("no panic"));
    }
    longest
}

/// A cluster, and an endpoint that takes connections and says nothing.
struct Stage {
    cluster: Cluster,
    silent: TcpListener,
    namespaces: Option<Namespaces>,
}

impl Stage {
    async fn set(fault: Fault) -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let advertised = format!("http://{}", silent.local_addr().expect("an address"));
        let advertised = (fault == Fault::UnreachableHint).then_some(advertised.as_str());
        Self { cluster: Cluster::start_as(3, advertised).await, silent, namespaces: None }
    }

    async fn set_in(namespaces: Namespaces) -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { cluster: Cluster::start_in(&namespaces, 3).await, silent, namespaces: Some(namespaces) }
    }

    /// The endpoints that clients are given; the one that matters stands first.
    async fn endpoints(&self, fault: Fault) -> (usize, Vec<String>) {
        let leader = self.cluster.leader(0).await;
        let first = match fault {
            Fault::LeaderStopped
            | Fault::LeaderKilled
            | Fault::LeaderDiskFailed
            | Fault::LeaderHostGone
            | Fault::LeaderIsolated => leader,
            _ => (leader + 1) % 3,
        };
        let mut endpoints: Vec<String> =
            (0..3).map(|offset| self.cluster.nodes[(first + offset) % 3].client_url.clone()).collect();
        if fault == Fault::SilentEndpoint {
            endpoints.insert(0, format!("http://{}", self.silent.local_addr().expect("an address")));
        }
        (first, endpoints)
    }

    fn namespaces(&self) -> &Namespaces {
        self.namespaces.as_ref().expect("this fault runs in namespaces")
    }

    fn begin(&mut self, fault: Fault, node: usize) {
        match fault {
            Fault::LeaderStopped | Fault::FollowerStopped => self.cluster.signal(node, Signal::STOP),
            Fault::LeaderKilled | Fault::FollowerKilled => self.cluster.kill(node),
            Fault::LeaderDiskFailed | Fault::FollowerDiskFailed => self.cluster.take_data_away(node),
            Fault::LeaderHostGone | Fault::FollowerHostGone => self.namespaces().cut_off(node),
            Fault::LeaderIsolated | Fault::FollowerIsolated => self.namespaces().isolate(node),
            Fault::SilentEndpoint | Fault::UnreachableHint => {}
        }
    }

    fn end(&mut self, fault: Fault, node: usize) {
        match fault {
            Fault::LeaderStopped | Fault::FollowerStopped => self.cluster.signal(node, Signal::CONT),
            Fault::LeaderKilled | Fault::FollowerKilled => self.cluster.start_node(node),
            Fault::LeaderDiskFailed | Fault::FollowerDiskFailed => {
                self.cluster.kill(node);
                self.cluster.bring_data_back(node);
                self.cluster.start_node(node);
            }
            Fault::LeaderHostGone | Fault::FollowerHostGone => self.namespaces().bring_back(node),
            Fault::LeaderIsolated | Fault::FollowerIsolated => self.namespaces().join(node),
            Fault::SilentEndpoint | Fault::UnreachableHint => {}
        }
    }

    /// One row of the table, and what is wrong with it.
    async fn row(&mut self, fault: Fault) -> (String, Vec<String>) {
        let mut cells = Vec::new();
        let mut wrong = Vec::new();
        let mut judge = |who: &str, longest: Duration, baseline: Duration| {
            let limit = PROMISED + NOISE_FACTOR * baseline;
            if longest > limit {
                wrong.push(format!("{fault:?}: {who} {} ms, at most {} ms", longest.as_millis(), limit.as_millis()));
            }
            format!("{:>5} ms ({:>3} ms)", longest.as_millis(), baseline.as_millis())
        };
        for outstanding in [1, 1000] {
            let (node, endpoints) = self.endpoints(fault).await;
            let load = Load::start(&endpoints, outstanding).await;
            tokio::time::sleep(BASELINE).await;
            let baseline = load.gaps.take();
            self.begin(fault, node);
            tokio::time::sleep(FAULT).await;
            let longest = load.gaps.take();
            self.end(fault, node);
            cells.push(judge(&format!("{outstanding} outstanding"), longest, baseline));
            load.stop().await;
        }
        let (node, endpoints) = self.endpoints(fault).await;
        let baseline = Instant::now();
        client_of(&endpoints[endpoints.len() - 1..]).await.put(b"new", b"value").await.expect("nothing is wrong yet");
        let baseline = baseline.elapsed();
        self.begin(fault, node);
        let longest = new_clients(&endpoints).await;
        self.end(fault, node);
        cells.push(judge("a new client", longest, baseline));
        (format!("{:<16} | {}", format!("{fault:?}"), cells.join(" | ")), wrong)
    }
}

fn print_head() {
    println!("longest time without success (the same without a fault)");
    println!("{:<16} | {:<17} | {:<17} | a new client", "", "1 outstanding", "1000 outstanding");
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_when_packets_are_dropped() {
    let test = "clients::clients_reach_a_healthy_quorum_soon_when_packets_are_dropped";
    let Some(namespaces) = Namespaces::enter(3, test) else { return };
    let mut stage = Stage::set_in(namespaces).await;
    let mut wrong = Vec::new();
    print_head();
    for fault in if is_full_run() { IN_NAMESPACES } else { &IN_NAMESPACES[..1] } {
        let (row, complaints) = stage.row(*fault).await;
        println!("{row}");
        wrong.extend(complaints);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub fn is_full_run() -> bool {
    std::env::var_os("QUORATE_FULL_TESTS").is_some_and(|value| !value.is_empty())
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_whatever_one_node_does() {
    let mut wrong = Vec::new();
    print_head();
    for fault in if is_full_run() { FULL_RUN } else { SHORT_RUN } {
        let (row, complaints) = Stage::set(*fault).await.row(*fault).await;
        println!("{row}");
        wrong.extend(complaints);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
