//! A node that is started and stopped again and again in one process leaves nothing there: no thread, no descriptor, no mapping, no port.
//!
//! Each test runs as a process of its own, in which the allocator keeps nothing for later: one arena, and no stacks of threads that
//! ended. So every mapping that is left over is the node's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use api::command::{KeyRange, Op, RangeOp, encode_op_command, encode_range};
use futures_lite::future::block_on;
use net::api::{Executed, Status};

use super::*;
use crate::config::Config;
use crate::shell::handle::{HANGS, HOLDS, IS_HANGING};

/// Tells the second process of a test that it is that.
const IS_SECOND: &str = "QUORATE_TEST_CYCLES";

/// glibc keeps up to 40 MiB of stacks, and an arena for every few threads.
const KEEPS_NOTHING: &str = "glibc.malloc.arena_max=1:glibc.pthread.stack_cache_size=0";

const CYCLES: usize = 6;

/// glommio makes an eventfd of its own when executors are connected for the first time, and keeps it: it stands for those that are gone.
const EVENTFDS_OF_PROCESS: usize = 1;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` as a process of its own, or is that process and runs `body`.
fn in_own_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(IS_SECOND).is_some() {
        return body();
    }
    let name = format!("shell::node::cycles::{test}");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([&name, "--exact", "--nocapture", "--test-threads=1"])
        .env(IS_SECOND, "1")
        .env("GLIBC_TUNABLES", KEEPS_NOTHING)
        .output()
        .expect("a second process");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
}

/// What a process has.
#[derive(PartialEq, Eq)]
struct Has {
    threads: BTreeMap<String, String>,
    descriptors: BTreeMap<String, String>,
    mappings: Vec<String>,
}

impl Has {
    fn now() -> Self {
        let entries = |dir: &str, look: fn(&Path) -> Option<String>| -> BTreeMap<String, String> {
            let entries = std::fs::read_dir(dir).expect("this process").map(|entry| entry.expect("an entry"));
            // What is gone when it is looked at was the look itself.
            entries.filter_map(|e| Some((e.file_name().to_string_lossy().into_owned(), look(&e.path())?))).collect()
        };
        Self {
            threads: entries("/proc/self/task", |path| std::fs::read_to_string(path.join("comm")).ok()),
            descriptors: entries("/proc/self/fd", |path| {
                let target = std::fs::read_link(path).ok()?.to_string_lossy().into_owned();
                (!target.ends_with("/fd")).then_some(target)
            }),
            mappings: std::fs::read_to_string("/proc/self/maps")
                .expect("this process")
                .lines()
                .map(str::to_owned)
                .collect(),
        }
    }

    fn counts(&self) -> [usize; 3] {
        [self.threads.len(), self.descriptors.len(), self.mappings.len()]
    }

    /// Waits until the process has no more than before. A thread that was joined is still listed for an instant.
    fn wait_for(before: &Self, after_what: &str) {
        let started = Instant::now();
        loop {
            let now = Self::now();
            let [threads, descriptors, mappings] = before.counts();
            let most = [threads, descriptors + EVENTFDS_OF_PROCESS, mappings];
            if now.counts().iter().zip(most).all(|(now, most)| *now <= most) {
                return;
            }
            if started.elapsed() > PATIENCE {
                panic!("{after_what}: {:?} became {:?}{}", before.counts(), now.counts(), now.beside(before));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is there and was not before, for people.
    fn beside(&self, before: &Self) -> String {
        let threads = self.threads.iter().filter(|(id, _)| !before.threads.contains_key(*id)).map(|(_, name)| name);
        let new = |(number, what): &(&String, &String)| before.descriptors.get(*number) != Some(*what);
        let descriptors = self.descriptors.iter().filter(new).map(|(_, what)| what);
        let mappings = self.mappings.iter().filter(|line| !before.mappings.contains(line));
        threads.chain(descriptors).chain(mappings).map(|line| format!("\n  {}", line.trim_end())).collect()
    }
}

fn free_address() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

struct Place {
    _dir: tempfile::TempDir,
    config: Config,
    addresses: [String; 2],
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ((_client, client), (_peer, peer)) = (free_address(), free_address());
        let config = Config {
            data_dir: Some(dir.path().join("node")),
            listen_client_urls: vec![format!("http://{client}")],
            listen_peer_urls: vec![format!("http://{peer}")],
            segment_bytes: 8 << 20,
            cores: 2,
            shards: 3,
            ..Config::default()
        };
        Self { _dir: dir, config, addresses: [client, peer] }
    }

    fn config(&self) -> ValidConfig {
        self.config.clone().validate().expect("valid settings")
    }

    /// Nobody listens any more, and nobody has to wait for that.
    fn is_free(&self) {
        for address in &self.addresses {
            TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    }
}

fn write_and_read(handle: &Handle, value: &[u8]) {
    let (mut command, mut get) = (Vec::new(), Vec::new());
    encode_op_command(&Op::Put { key: b"key", value, lease: 0, prev_kv: false }, &mut command)
        .expect("a small command");
    let range = KeyRange { key: b"key", range_end: b"" };
    encode_range(&RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false }, &mut get)
        .expect("sound");
    let shard = api::ids::shard_of_key(b"key", handle.config().shards());
    let started = Instant::now();
    loop {
        match block_on(handle.propose(shard, command.clone(), PATIENCE)) {
            Err(refusal) if refusal.is_safe_to_retry() && started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => break drop(result.expect("the only node takes writes")),
        }
    }
    let answer = block_on(handle.read(shard, get, PATIENCE)).expect("it is read");
    assert!(answer.windows(value.len()).any(|part| part == value), "what was written is read");
}

/// Connections of all kinds that are open when the node stops: asking, silent, and half way through a question.
fn connections(place: &Place) -> Vec<TcpStream> {
    let connect = |address: &String| TcpStream::connect(address).expect("the port is open");
    let mut all: Vec<TcpStream> = (0..20).flat_map(|_| place.addresses.iter().map(connect)).collect();
    let mut asking = connect(&place.addresses[0]);
    asking.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").expect("taken");
    asking.read_exact(&mut [0; 12]).expect("an answer");
    all.push(asking);
    all[0].write_all(b"GET /li").expect("taken");
    all
}

#[test]
fn nothing_is_left_of_nodes_that_were_stopped() {
    in_own_process("nothing_is_left_of_nodes_that_were_stopped", || {
        let place = Place::new();
        let before = Has::now();
        for cycle in 0..CYCLES {
            let node = Node::start(place.config()).expect("it starts at once");
            let handle = node.handle();
            write_and_read(&handle, format!("value {cycle}").as_bytes());
            let open = connections(&place);
            node.stop().expect("it stops");
            drop((open, handle));
            place.is_free();
            Has::wait_for(&before, &format!("stop {cycle}"));
        }
    });
}

#[test]
fn nothing_is_left_of_nodes_that_were_dropped() {
    in_own_process("nothing_is_left_of_nodes_that_were_dropped", || {
        let place = Place::new();
        let before = Has::now();
        for cycle in 0..CYCLES {
            let node = Node::start(place.config()).expect("it starts at once");
            write_and_read(&node.handle(), format!("value {cycle}").as_bytes());
            drop(node);
            place.is_free();
            Has::wait_for(&before, &format!("drop {cycle}"));
        }
    });
}

#[test]
fn nothing_is_left_of_starts_that_fail_late() {
    in_own_process("nothing_is_left_of_starts_that_fail_late", || {
        let place = Place::new();
        let (_taken, taken) = free_address();
        let before = Has::now();
        for cycle in 0..CYCLES {
            let mut config = place.config.clone();
            config.listen_client_urls.push(format!("http://{taken}"));
            let config = config.validate().expect("valid settings");
            let room = preflight::check_host(&config).expect("a host");
            Node::start_checked(config, room, &Steps::default()).expect_err("somebody has the second address");
            place.is_free();
            Has::wait_for(&before, &format!("start {cycle}"));
        }
        Node::start(place.config()).expect("it starts").stop().expect("it stops");
        Has::wait_for(&before, "a start and a stop");
    });
}

#[test]
fn every_call_ends_in_time_while_a_core_hangs_while_the_node_stops_and_after_that() {
    in_own_process("every_call_ends_in_time_while_a_core_hangs_while_the_node_stops_and_after_that", || {
        const SHORT: Duration = Duration::from_millis(50);
        let mut place = Place::new();
        (place.config.cores, place.config.shards) = (1, 1);
        let node = Node::start(place.config()).expect("it starts");
        let handle = node.handle();
        write_and_read(&handle, b"value");
        let mut command = Vec::new();
        encode_op_command(&Op::Put { key: b"key", value: b"late", lease: 0, prev_kv: false }, &mut command)
            .expect("small");
        let propose = |timeout| {
            let refusal =
                block_on(handle.propose(ShardId::new(0), command.clone(), timeout)).expect_err("nobody answers");
            (refusal.status, refusal.executed)
        };
        let holds = HOLDS.lock().expect("no test panicked");
        let asking = handle.clone();
        let hanging = std::thread::spawn(move || block_on(asking.propose(HANGS, Vec::new(), PATIENCE)));
        while !IS_HANGING.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert_eq!(propose(SHORT), (Status::Timeout, Executed::No), "the core hangs");
        let stopping = std::thread::spawn(move || node.stop());
        assert_eq!(propose(SHORT), (Status::Timeout, Executed::No), "the node stops, and its core hangs");
        drop(holds);
        stopping.join().expect("no panic").expect("it stops");
        drop(hanging.join().expect("no panic").expect_err("there is no such shard"));
        assert_eq!(propose(PATIENCE), (Status::ShuttingDown, Executed::No), "the node has stopped");
    });
}
