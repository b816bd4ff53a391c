//! A cluster of real `quorate start` processes on loopback, killed and removed when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bench::nodes::{Nodes, Shape};
use client::{Client, ClientOptions, ShardStatus};
use rustix::process::{Pid, Signal};

use crate::namespaces::Namespaces;

/// Longest wait for anything; a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether tests are to run whole, however long that takes: `QUORATE_FULL_TESTS` is set.
pub fn is_full_run() -> bool {
    std::env::var_os("QUORATE_FULL_TESTS").is_some_and(|value| !value.is_empty())
}

/// Says that a test, or a part of it, is left out on this host. In a full run that is a failure: nobody would notice it.
pub fn leave_out(reason: &str) {
    assert!(!is_full_run(), "QUORATE_FULL_TESTS leaves nothing out: {reason}");
    eprintln!("left out: {reason}");
}

pub struct Cluster {
    pub nodes: Nodes,
    shards: u32,
}

pub fn quorate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate")).args(args).output().expect("the binary runs")
}

impl Cluster {
    /// Starts `count` nodes and waits until every shard has a leader that all of them know.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, 1, 1).await
    }

    pub async fn start_with(count: usize, shards: u32, cores: u32) -> Self {
        Self::plan(count, shards, cores).begin().await
    }

    /// The same; each node has a second peer URL, sorted before the other, at which nobody listens.
    pub async fn start_with_dead_peer_urls(count: usize) -> Self {
        let mut cluster = Self::plan(count, 1, 1);
        for (number, node) in (1..).zip(cluster.nodes.iter_mut()) {
            node.dead_peer_url = Some(format!("http://127.0.0.1:{number}"));
        }
        cluster.begin().await
    }

    /// The same; clients are told to find every node at `advertised`.
    pub async fn start_as(count: usize, advertised: Option<&str>) -> Self {
        let mut cluster = Self::plan(count, 1, 1);
        for node in cluster.nodes.iter_mut() {
            node.advertised = advertised.map(str::to_owned);
        }
        cluster.begin().await
    }

    /// The same; every node may have so many descriptors.
    pub async fn start_with_descriptors(count: usize, limit: u32) -> Self {
        Self::start_in_shell(count, &format!("ulimit -n {limit}")).await
    }

    /// The same; every node is started by a shell that has executed a command before.
    pub async fn start_in_shell(count: usize, command: &str) -> Self {
        let mut cluster = Self::plan(count, 1, 1);
        for node in cluster.nodes.iter_mut() {
            node.launcher = ["sh", "-c", &format!("{command} && exec \"$0\" \"$@\"")].map(str::to_owned).into();
        }
        cluster.begin().await
    }

    /// The same; each node keeps its data in one of these directories.
    pub async fn start_on(data_dirs: Vec<PathBuf>, shards: u32, cores: u32) -> Self {
        let mut cluster = Self::plan(data_dirs.len(), shards, cores);
        for (node, data_dir) in cluster.nodes.iter_mut().zip(data_dirs) {
            node.data_dir = data_dir;
        }
        cluster.begin().await
    }

    /// The same; every node is started by `env`, with a variable (`NAME=value`) or an option of it.
    pub async fn start_by_env(count: usize, argument: &str) -> Self {
        let mut cluster = Self::plan(count, 1, 1);
        for node in cluster.nodes.iter_mut() {
            node.launcher = ["env", argument].map(str::to_owned).into();
        }
        cluster.begin().await
    }

    /// Starts a node in each of the namespaces.
    pub async fn start_in(namespaces: &Namespaces, count: usize) -> Self {
        let mut cluster = Self::plan(count, 1, 1);
        for (number, node) in cluster.nodes.iter_mut().enumerate() {
            node.move_to(namespaces.place(number));
        }
        cluster.begin().await
    }

    fn plan(count: usize, shards: u32, cores: u32) -> Self {
        let program = env!("CARGO_BIN_EXE_quorate").into();
        let flags = ["--segment-bytes", "8388608"].map(str::to_owned).into();
        let shape = Shape { nodes: count, shards, cores, flags };
        let nodes = Nodes::create(program, shape, &std::env::temp_dir(), false).expect("a directory and ports");
        Self { nodes, shards }
    }

    async fn begin(mut self) -> Self {
        for number in 0..self.nodes.count() {
            self.start_node(number);
        }
        self.wait_for_leaders().await;
        self
    }

    pub fn start_node(&mut self, number: usize) {
        self.start_node_with(number, None, &[]);
    }

    /// Starts a node with more arguments; its standard error goes to its log if it goes nowhere else.
    pub fn start_node_with(&mut self, number: usize, stderr: Option<Stdio>, more: &[&str]) {
        self.nodes.start_with(number, stderr, more, false).expect("the binary starts");
    }

    /// The directory of the nodes' directories and logs.
    pub fn dir(&self) -> &Path {
        self.nodes.dir()
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_started()).map(|(number, _)| number)
    }

    pub fn data_dir(&self, number: usize) -> &Path {
        &self.nodes[number].data_dir
    }

    /// Takes a node's data directory from its place. A node that runs goes on with its open files until it looks.
    pub fn take_data_away(&self, number: usize) {
        let data_dir = self.data_dir(number);
        std::fs::rename(data_dir, data_dir.with_extension("away")).expect("renamed");
    }

    /// Puts it back.
    pub fn bring_data_back(&self, number: usize) {
        let data_dir = self.data_dir(number);
        std::fs::rename(data_dir.with_extension("away"), data_dir).expect("renamed");
    }

    pub fn log_of(&self, number: usize) -> String {
        self.nodes[number].log_text()
    }

    /// Kills a node the hard way and waits until it is gone.
    pub fn kill(&mut self, number: usize) {
        assert!(self.nodes[number].is_started(), "the node runs");
        self.nodes.kill(number).expect("it ran until now");
    }

    pub fn pid(&self, number: usize) -> Pid {
        let pid = self.nodes[number].pid().expect("the node runs");
        Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("a process id")
    }

    pub fn signal(&self, number: usize, signal: Signal) {
        assert!(self.nodes[number].is_started(), "the node runs");
        self.nodes[number].signal(signal);
    }

    /// What the descriptors of a node lead to.
    pub fn descriptors(&self, number: usize) -> Vec<PathBuf> {
        let id = self.nodes[number].pid().expect("the node runs");
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).expect("a process");
        // Some are closed while this looks.
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    /// The most memory that a node's process has had so far, and what it has now. Unit: bytes.
    pub fn memory_bytes(&self, number: usize) -> (u64, u64) {
        let id = self.nodes[number].pid().expect("the node runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
        };
        (field("VmHWM:"), field("VmRSS:"))
    }

    /// Time that all threads of a node's process had on a processor.
    pub fn processor_time(&self, number: usize) -> Duration {
        let id = self.nodes[number].pid().expect("the node runs");
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("a process");
        // Some end while this looks.
        let statistics =
            threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        Duration::from_nanos(statistics.filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok()).sum())
    }

    /// Waits for a node to end by itself; says whether it ended well.
    pub fn wait_for_end(&mut self, number: usize) -> bool {
        let started = Instant::now();
        loop {
            if let Some(is_well) = self.ended(number, started) {
                return is_well;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The same without holding up other tasks of the test, clients for one.
    pub async fn wait_for_end_meanwhile(&mut self, number: usize) -> bool {
        let started = Instant::now();
        loop {
            if let Some(is_well) = self.ended(number, started) {
                return is_well;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether a node ended well, once it has ended. Fails if it takes too long.
    fn ended(&mut self, number: usize, started: Instant) -> Option<bool> {
        assert!(self.nodes[number].is_started(), "the node runs");
        let status = self.nodes[number].ended().expect("a child");
        assert!(status.is_some() || started.elapsed() < PATIENCE, "it does not end: {}", self.log_of(number));
        status.map(|status| status.success())
    }

    /// Waits until a node has everything again, or has ended by itself: then `false`.
    pub async fn wait_until_sound(&mut self, number: usize, what: &str) -> bool {
        let started = Instant::now();
        loop {
            let node = &mut self.nodes[number];
            assert!(node.is_started(), "the node was started");
            if node.ended().expect("a child").is_some() {
                return false;
            }
            let name = node.name.clone();
            let statuses = self.statuses().await;
            let is_sound =
                |status: &ShardStatus| status.name == name && status.leader != 0 && status.under_repair.is_none();
            if statuses.iter().any(is_sound) {
                return true;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {statuses:#?}\n{}", self.log_of(number));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client that knows these nodes only.
    pub async fn client_of(&self, numbers: &[usize], timeout: Duration) -> Client {
        let endpoints = numbers.iter().map(|number| self.nodes[*number].client_url.clone()).collect();
        let options = ClientOptions { endpoints, request_timeout: timeout, ..ClientOptions::default() };
        Client::connect(options).await.expect("a node answers")
    }

    /// Statuses of the nodes that answer.
    pub async fn statuses(&self) -> Vec<ShardStatus> {
        let mut statuses = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            let options = ClientOptions {
                endpoints: vec![node.client_url.clone()],
                request_timeout: Duration::from_secs(2),
                ..ClientOptions::default()
            };
            if let Ok(client) = Client::connect(options).await
                && let Ok(shards) = client.status(&node.client_url).await
            {
                statuses.extend(shards);
            }
        }
        statuses
    }

    /// Waits until `holds` for the statuses; fails with the nodes' logs if it never does.
    pub async fn wait_until(&self, what: &str, mut holds: impl FnMut(&[ShardStatus]) -> bool) -> Vec<ShardStatus> {
        let started = Instant::now();
        loop {
            let statuses = self.statuses().await;
            if holds(&statuses) {
                return statuses;
            }
            let logs: Vec<String> = (0..self.nodes.count()).map(|number| self.log_of(number)).collect();
            assert!(started.elapsed() < PATIENCE, "{what}: {statuses:#?}\n{}", logs.join("\n"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until every running node knows one running leader for each shard.
    pub async fn wait_for_leaders(&self) -> Vec<ShardStatus> {
        let running = self.nodes.iter().filter(|node| node.is_started()).count();
        let expected = running * self.shards as usize;
        self.wait_until("no leader is known to all", |statuses| {
            let led = |status: &ShardStatus| {
                statuses.iter().any(|other| {
                    other.shard == status.shard && other.role == "leader" && other.node_id == status.leader
                })
            };
            statuses.len() == expected && statuses.iter().all(led)
        })
        .await
    }

    /// Number of the node that leads a shard.
    pub async fn leader(&self, shard: u32) -> usize {
        let statuses = self.wait_for_leaders().await;
        let leads = |status: &&ShardStatus| status.shard == shard && status.role == "leader";
        let name = &statuses.iter().find(leads).expect("the shard has a leader").name;
        self.nodes.iter().position(|node| node.name == *name).expect("the leader is a node")
    }

    /// Waits until all running nodes are nearly level while writes go on: each has applied what was committed when this was called.
    pub async fn wait_for_equal_applied(&self) {
        let committed = |statuses: &[ShardStatus]| statuses.iter().map(|status| status.commit_index).max().unwrap_or(0);
        let goal = committed(&self.wait_for_leaders().await);
        self.wait_until("a node does not catch up", |statuses| {
            statuses.len() == self.nodes.count() && statuses.iter().all(|status| status.applied_index >= goal)
        })
        .await;
    }

    /// Waits until all running nodes have applied the same, and everything.
    pub async fn wait_for_equal(&self) {
        let running = self.nodes.iter().filter(|node| node.is_started()).count();
        let expected = running * self.shards as usize;
        self.wait_until("the nodes do not become equal", |statuses| {
            let all_answer = statuses.len() == expected;
            all_answer
                && statuses.iter().all(|status| {
                    statuses.iter().all(|other| {
                        other.shard != status.shard
                            || (other.applied_index == status.applied_index && other.last_index == status.applied_index)
                    })
                })
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.nodes.count() {
            // It may have ended by itself; either way it is gone afterwards.
            drop(self.nodes.kill(number));
        }
    }
}
