//! How long clients are without an answer, whatever one node does: all of them together, and each single write.
//!
//! Each row is a fault, each column a kind of client: one that has lived for long with one or with 1,000 requests under way, and
//! new ones. `QUORATE_FULL_TESTS=1` runs every row, `QUORATE_ROWS=LeaderStopped,LeaderKilled` these; without either only the hardest
//! run. The limit is the product's promise; what the machine itself takes at the same load without a fault is added to it. With several
//! shards none of them may take longer.
//!
//! A write that was under way at the node that fails may end with an unknown outcome, a few times at most. Nothing else may fail: no
//! write is refused, and none runs out of time.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::ids::shard_of_key;
use client::{Client, ClientError, ClientOptions};
use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE, is_full_run};
use crate::namespaces::Namespaces;
use crate::sick_disk::SickDisk;

/// Longest time without a success, and of a single write, with default settings.
const PROMISED: Duration = Duration::from_secs(3);

/// How long a fault lasts.
const FAULT: Duration = Duration::from_secs(5);

/// How long the same load runs without a fault first.
const BASELINE: Duration = Duration::from_secs(1);

/// How many times the baseline is added to the promise.
const NOISE_FACTOR: u32 = 5;

/// Writes of unknown outcome, for each that is under way: when the fault begins, while leadership moves, when the fault ends.
const UNKNOWN_MAX: u64 = 3;

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
    /// What the leader's disk is asked to write is not answered. Needs the right to mount.
    LeaderDiskHangs,
    /// The same for a follower.
    FollowerDiskHangs,
    /// The leader's disk fails every sync and every other write. Needs the right to mount.
    LeaderDiskErrors,
    /// The same for a follower.
    FollowerDiskErrors,
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
const ON_TWO_CORES: &[Fault] =
    &[Fault::LeaderKilled, Fault::LeaderStopped, Fault::FollowerStopped, Fault::LeaderDiskFailed];
const ON_DISKS: &[Fault] = &[Fault::FollowerDiskHangs, Fault::LeaderDiskHangs];
const ON_FAILING_DISKS: &[Fault] = &[Fault::FollowerDiskErrors, Fault::LeaderDiskErrors];
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

/// What became of writes.
#[derive(Debug)]
struct Outcomes {
    /// For each shard: the last success, and the longest time without one.
    last: Mutex<Vec<(Instant, Duration)>>,
    unknown_count: AtomicU64,
    /// The longest time that a single write took to any answer. Unit: ms.
    longest_ms: AtomicU64,
    /// The first of the failures that must not be.
    forbidden: Mutex<Option<ClientError>>,
}

impl Outcomes {
    fn new(shards: u32) -> Arc<Self> {
        let last = Mutex::new(vec![(Instant::now(), Duration::ZERO); shards as usize]);
        let (unknown_count, longest_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { last, unknown_count, longest_ms, forbidden: Mutex::default() })
    }

    fn success(&self, shard: u32) {
        let mut last = self.last.lock().expect("no task panicked");
        let last = &mut last[shard as usize];
        *last = (Instant::now(), last.1.max(last.0.elapsed()));
    }

    /// A write took so long, whatever came of it.
    fn took(&self, time: Duration) {
        let ms = time.as_millis().try_into().expect("a test does not take that long");
        self.longest_ms.fetch_max(ms, Ordering::Relaxed);
    }

    fn failure(&self, error: ClientError) {
        if matches!(error, ClientError::Unknown { .. }) {
            self.unknown_count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.forbidden.lock().expect("no task panicked").get_or_insert(error);
        }
    }

    /// The longest time that a shard was without success so far; starts anew.
    fn take(&self) -> Duration {
        let mut last = self.last.lock().expect("no task panicked");
        let longest = last.iter().map(|(at, longest)| (*longest).max(at.elapsed())).max();
        last.fill((Instant::now(), Duration::ZERO));
        longest.expect("a shard")
    }
}

/// A client with default settings, apart from its endpoints.
async fn client_of(endpoints: &[String]) -> Client {
    let options = ClientOptions { endpoints: endpoints.to_vec(), ..ClientOptions::default() };
    Client::connect(options).await.expect("an endpoint answers")
}

/// Keeps so many writes under way until told to stop.
struct Load {
    outcomes: Arc<Outcomes>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(endpoints: &[String], outstanding: usize) -> Self {
        let client = client_of(endpoints).await;
        let shards = client.shard_count();
        let (outcomes, stop) = (Outcomes::new(shards), Arc::new(AtomicBool::new(false)));
        let task = |number: usize| {
            let (outcomes, stop, client) = (Arc::clone(&outcomes), Arc::clone(&stop), client.clone());
            tokio::spawn(async move {
                // One after the other it goes through the shards.
                for key in (number..).map(|at| format!("key-{at}")) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let began = Instant::now();
                    let result = client.put(key.as_bytes(), b"value").await;
                    outcomes.took(began.elapsed());
                    match result {
                        Ok(_) => outcomes.success(shard_of_key(key.as_bytes(), shards).get()),
                        Err(error) => outcomes.failure(error),
                    }
                }
            })
        };
        Self { tasks: (0..outstanding).map(task).collect(), outcomes, stop }
    }

    /// Ends it. Says how long a single write took at most, how many are of unknown outcome, and what failed that must not.
    async fn stop(self) -> (Duration, u64, Option<ClientError>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer ends well");
        }
        let forbidden = self.outcomes.forbidden.lock().expect("no task panicked").take();
        let longest = Duration::from_millis(self.outcomes.longest_ms.load(Ordering::Relaxed));
        (longest, self.outcomes.unknown_count.load(Ordering::Relaxed), forbidden)
    }
}

/// How long a write takes once all is well again after the fault before.
async fn write_soon(endpoints: &[String]) -> Duration {
    let client = client_of(endpoints).await;
    let started = Instant::now();
    loop {
        let began = Instant::now();
        match client.put(b"new", b"value").await {
            Ok(_) => return began.elapsed(),
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
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
    /// One for each node, for faults of disks. They go on before the nodes are ended: a node that waits for its disk cannot end.
    disks: Vec<SickDisk>,
    cluster: Cluster,
    silent: TcpListener,
    namespaces: Option<Namespaces>,
}

impl Stage {
    async fn set(fault: Fault) -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let advertised = format!("http://{}", silent.local_addr().expect("an address"));
        let advertised = (fault == Fault::UnreachableHint).then_some(advertised.as_str());
        Self { cluster: Cluster::start_as(3, advertised).await, silent, namespaces: None, disks: Vec::new() }
    }

    /// Two shards on two cores of each node.
    async fn set_on_two_cores() -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { cluster: Cluster::start_with(3, 2, 2).await, silent, namespaces: None, disks: Vec::new() }
    }

    /// Each node has a disk of its own, and so many shards on as many cores; `None` if this host has no right or no tool to make
    /// disks.
    async fn set_on_disks(cores: u32) -> Option<Self> {
        let disks: Vec<SickDisk> = (0..3).map_while(|_| SickDisk::mount()).collect();
        if disks.len() < 3 {
            return None;
        }
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let data_dirs = disks.iter().map(SickDisk::data_dir).collect();
        Some(Self { cluster: Cluster::start_on(data_dirs, cores, cores).await, silent, namespaces: None, disks })
    }

    async fn set_in(namespaces: Namespaces) -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self {
            cluster: Cluster::start_in(&namespaces, 3).await,
            silent,
            namespaces: Some(namespaces),
            disks: Vec::new(),
        }
    }

    /// The endpoints that clients are given; the one that matters stands first.
    async fn endpoints(&self, fault: Fault) -> (usize, Vec<String>) {
        let leader = self.cluster.leader(0).await;
        let first = match fault {
            Fault::LeaderStopped
            | Fault::LeaderKilled
            | Fault::LeaderDiskFailed
            | Fault::LeaderDiskHangs
            | Fault::LeaderDiskErrors
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
            Fault::LeaderDiskHangs | Fault::FollowerDiskHangs => self.disks[node].hang(),
            Fault::LeaderDiskErrors | Fault::FollowerDiskErrors => self.disks[node].fail(),
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
            Fault::LeaderDiskHangs | Fault::FollowerDiskHangs => self.disks[node].go_on(),
            Fault::LeaderDiskErrors | Fault::FollowerDiskErrors => {
                self.cluster.kill(node);
                self.disks[node].recover();
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
        for outstanding in [1, 1000] {
            let (node, endpoints) = self.endpoints(fault).await;
            let load = Load::start(&endpoints, outstanding).await;
            tokio::time::sleep(BASELINE).await;
            let baseline = load.outcomes.take();
            self.begin(fault, node);
            tokio::time::sleep(FAULT).await;
            let longest = load.outcomes.take();
            self.end(fault, node);
            let (longest_write, unknown_count, forbidden) = load.stop().await;
            let who = format!("{outstanding} outstanding");
            wrong.extend(judge(fault, &who, longest, baseline));
            wrong.extend(judge(fault, &format!("a single write of {who}"), longest_write, baseline));
            // With such noise a write may well run out of its time.
            if limit(baseline) < ClientOptions::default().request_timeout {
                wrong.extend(forbidden.map(|error| format!("{fault:?}: {who}: {error}")));
            }
            if unknown_count > UNKNOWN_MAX * outstanding as u64 {
                wrong.push(format!("{fault:?}: {who}: {unknown_count} writes of unknown outcome"));
            }
            let longest_write_ms = longest_write.as_millis();
            cells.push(format!("{} {longest_write_ms:>5} ms {unknown_count:>4}", cell(longest, baseline)));
        }
        let (node, endpoints) = self.endpoints(fault).await;
        let baseline = write_soon(&endpoints[endpoints.len() - 1..]).await;
        self.begin(fault, node);
        let longest = new_clients(&endpoints).await;
        self.end(fault, node);
        wrong.extend(judge(fault, "a new client", longest, baseline));
        cells.push(cell(longest, baseline));
        (format!("{:<18} | {}", format!("{fault:?}"), cells.join(" | ")), wrong)
    }
}

fn limit(baseline: Duration) -> Duration {
    PROMISED + NOISE_FACTOR * baseline
}

fn judge(fault: Fault, who: &str, longest: Duration, baseline: Duration) -> Option<String> {
    let limit = limit(baseline);
    let who = format!("{fault:?}: {who}");
    (longest > limit).then(|| format!("{who}: {} ms, at most {} ms", longest.as_millis(), limit.as_millis()))
}

fn cell(longest: Duration, baseline: Duration) -> String {
    format!("{:>5} ms ({:>3} ms)", longest.as_millis(), baseline.as_millis())
}

fn print_head() {
    println!(
        "longest time without success (the same without a fault), longest single write, writes of unknown outcome"
    );
    println!("{:<18} | {:<30} | {:<30} | a new client", "", "1 outstanding", "1000 outstanding");
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_when_packets_are_dropped() {
    let test = "clients::clients_reach_a_healthy_quorum_soon_when_packets_are_dropped";
    let rows = rows(IN_NAMESPACES, &IN_NAMESPACES[..1]);
    if rows.is_empty() {
        return;
    }
    let Some(namespaces) = Namespaces::enter(3, test) else { return };
    run_rows(Stage::set_in(namespaces).await, rows).await;
}

/// The rows of a table to run: those that are named, all, or a few.
fn rows(all: &[Fault], few: &[Fault]) -> Vec<Fault> {
    match std::env::var("QUORATE_ROWS") {
        Ok(names) if !names.is_empty() => {
            let is_named = |fault: &&Fault| names.split(',').any(|name| name == format!("{fault:?}"));
            all.iter().filter(is_named).copied().collect()
        }
        _ if is_full_run() => all.to_vec(),
        _ => few.to_vec(),
    }
}

/// Runs these rows on one stage.
async fn run_rows(mut stage: Stage, rows: Vec<Fault>) {
    let mut wrong = Vec::new();
    print_head();
    for fault in rows {
        let (row, complaints) = stage.row(fault).await;
        println!("{row}");
        wrong.extend(complaints);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_whatever_one_node_does() {
    let mut wrong = Vec::new();
    print_head();
    for fault in rows(FULL_RUN, SHORT_RUN) {
        let (row, complaints) = Stage::set(fault).await.row(fault).await;
        println!("{row}");
        wrong.extend(complaints);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_with_two_shards_on_two_cores() {
    let mut wrong = Vec::new();
    print_head();
    for fault in rows(ON_TWO_CORES, &ON_TWO_CORES[..1]) {
        let (row, complaints) = Stage::set_on_two_cores().await.row(fault).await;
        println!("{row}");
        wrong.extend(complaints);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_when_a_disk_hangs() {
    let rows = rows(ON_DISKS, &ON_DISKS[..1]);
    if rows.is_empty() {
        return;
    }
    let Some(stage) = Stage::set_on_disks(1).await else { return };
    run_rows(stage, rows).await;
}

/// A core that hangs may be another than the one to which a client is connected.
#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_when_a_disk_hangs_below_two_cores() {
    let rows = rows(ON_DISKS, &[]);
    if rows.is_empty() {
        return;
    }
    let Some(stage) = Stage::set_on_disks(2).await else { return };
    run_rows(stage, rows).await;
}

#[tokio::test]
async fn clients_reach_a_healthy_quorum_soon_when_a_disk_fails() {
    let rows = rows(ON_FAILING_DISKS, &[]);
    if rows.is_empty() || !SickDisk::can_fail() {
        return;
    }
    let Some(stage) = Stage::set_on_disks(1).await else { return };
    run_rows(stage, rows).await;
}
