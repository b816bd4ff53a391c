//! Real nodes in this process and in copies of it: what a panic does, and what a start that fails leaves behind.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::command::{KeyRange, Op, RangeOp, encode_op_command, encode_range};
use api::response::Response;
use futures_lite::future::block_on;
use net::api::{Executed, KIND_PING, Request, Status};
use net::deframer::Deframer;
use net::frame::FrameKind;
use net::handshake::{Hello, Welcome};
use rustix::fs::{OFlags, fcntl_setfl};

use super::*;
use crate::config::Config;
use crate::shell::handle::{HANGS, HOLDS, IS_HANGING, PANICS};

/// Tells a second process of this test what to do.
const TASK: &str = "QUORATE_TEST_TASK";

/// A process that outlives this hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn free_url() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, format!("http://{address}"))
}

fn config(dir: &Path) -> Config {
    let (_client, client_url) = free_url();
    let (_peer, peer_url) = free_url();
    Config {
        data_dir: Some(dir.join("node")),
        listen_client_urls: vec![client_url],
        listen_peer_urls: vec![peer_url],
        segment_bytes: 8 << 20,
        ..Config::default()
    }
}

fn valid(config: Config) -> ValidConfig {
    config.validate().expect("valid settings")
}

/// What a second process does: it runs a real node.
fn second_process(task: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(valid(config(dir.path()))).expect("it starts");
    match task {
        "a task panics" => {
            let handle = node.handle();
            std::thread::spawn(move || {
                block_on(handle.propose(PANICS, Vec::new(), PATIENCE)).expect_err("no such shard")
            });
            // The main thread of a node waits for a signal, and knows nothing of its cores.
            loop {
                std::thread::park();
            }
        }
        "the program panics" => {
            std::thread::spawn(|| panic!("the program's own")).join().expect_err("it panicked");
            node.stop().expect("the node was not harmed");
        }
        other => panic!("unknown task {other}"),
    }
}

/// Runs this test once more as another process; says how that ended.
fn run_second(test: &str, task: &str, stderr: Stdio) -> ExitStatus {
    let name = format!("shell::node::tests::{test}");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([&name, "--exact", "--nocapture"])
        .env(TASK, task)
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("a second process");
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().expect("killed");
            child.wait().expect("it ends");
            panic!("the second process lives on: {task}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_panic_of_a_task_ends_the_process_whatever_happens_to_its_message() {
    if let Ok(task) = std::env::var(TASK) {
        return second_process(&task);
    }
    let run = |stderr: Stdio| {
        run_second("a_panic_of_a_task_ends_the_process_whatever_happens_to_its_message", "a task panics", stderr)
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("stderr");
    let status = run(std::fs::File::create(&path).expect("a file").into());
    let said = std::fs::read_to_string(&path).expect("readable");
    assert_eq!(status.signal(), Some(6), "{status}: {said}");
    assert!(said.contains("a task gives up") && said.contains("a core of the node panicked"), "{said}");

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(run(writer.into()).signal(), Some(6), "standard error was closed by its reader");

    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("a descriptor");
    while writer.write(b".").is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).expect("a descriptor");
    assert_eq!(run(writer.into()).signal(), Some(6), "nobody reads standard error");
    drop(reader);
}

#[test]
fn a_panic_of_the_program_that_embeds_a_node_is_its_own() {
    if let Ok(task) = std::env::var(TASK) {
        return second_process(&task);
    }
    let test = "a_panic_of_the_program_that_embeds_a_node_is_its_own";
    let status = run_second(test, "the program panics", Stdio::null());
    assert!(status.success(), "{status}");
}

/// Whoever connects is answered: no listener that nobody serves takes a part of the connections.
fn answers_everybody(url: &str) {
    const CONNECTIONS: usize = 100;
    let address = url.strip_prefix("http://").expect("a URL");
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(address).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").expect("taken");
        let mut front = [0; 12];
        stream.read_exact(&mut front).expect("an answer");
        assert_eq!(front, *b"HTTP/1.1 200");
    }
}

/// Starts a node that fails after its data was opened, then again as soon as the reason is gone, and as another node. Returns what
/// the first said.
fn start_twice(dir: &Path, failing: impl FnOnce(&mut Config) -> Box<dyn FnOnce()>) -> String {
    let mut settings = config(dir);
    let end_of_failure = failing(&mut settings);
    let failing = valid(settings.clone());
    let room = preflight::check_host(&failing).expect("a host");
    let error = Node::start_checked(failing, room, &Steps::default()).expect_err("a late failure").to_string();
    end_of_failure();
    assert!(!dir.join("node").exists(), "the first start left something behind: {error}");
    settings.pin_cores = false;
    settings.shards += 1;
    settings.name = "another".to_owned();
    let urls = settings.listen_client_urls.clone();
    let node = Node::start(valid(settings)).expect("nothing is left of the first start");
    urls.iter().for_each(|url| answers_everybody(url));
    node.stop().expect("it stops");
    error
}

#[test]
fn a_first_start_that_fails_late_leaves_no_thread_no_lock_and_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    // Somebody takes the second address between the check and the listening.
    let error = start_twice(&dir.path().join("address"), |settings| {
        let (taken, url) = free_url();
        settings.listen_client_urls.push(url);
        settings.cores = 2;
        Box::new(move || drop(taken))
    });
    assert!(error.contains("cannot listen on"), "{error}");

    // The last core cannot be started; the others already wait for it, with their logs open.
    let error = start_twice(&dir.path().join("cores"), |settings| {
        settings.pin_cores = true;
        settings.cores = u32::try_from(std::thread::available_parallelism().expect("known").get() + 1).expect("few");
        Box::new(|| {})
    });
    assert!(error.contains("cannot start"), "{error}");
}

#[test]
fn a_start_that_fails_late_takes_nothing_from_a_node_that_ran() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = config(dir.path());
    Node::start(valid(settings.clone())).expect("it starts").stop().expect("it stops");
    let (taken, url) = free_url();
    let mut failing = settings.clone();
    failing.listen_client_urls.push(url);
    let failing = valid(failing);
    let room = preflight::check_host(&failing).expect("a host");
    Node::start_checked(failing, room, &Steps::default()).expect_err("a late failure");
    drop(taken);
    let other = Config { shards: settings.shards + 1, ..settings.clone() };
    let error = Node::start(valid(other)).expect_err("the directory is that of the first node").to_string();
    assert!(error.contains("shard count"), "{error}");
    Node::start(valid(settings)).expect("it starts again").stop().expect("it stops");
}

#[test]
fn status_shows_every_write_that_was_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(valid(config(dir.path()))).expect("it starts");
    let handle = node.handle();
    let mut command = Vec::new();
    let put = Op::Put { key: b"key", value: b"value", lease: 0, prev_kv: false };
    encode_op_command(&put, &mut command).expect("a small command");
    let started = Instant::now();
    // Far more writes than ticks: a status that is posted on ticks alone shows hardly any of them.
    for _ in 0..50 {
        let answer = loop {
            match block_on(handle.propose(ShardId::new(0), command.clone(), PATIENCE)) {
                Err(refusal) if refusal.is_safe_to_retry() && started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => break result.expect("the only node takes writes"),
            }
        };
        let answered = Response::decode(&answer).expect("an answer").revision;
        let shown = handle.status()[0].revision;
        assert!(shown >= answered, "status shows revision {shown} after {answered} was answered");
    }
    node.stop().expect("it stops");
}

/// A client's connection.
struct Client {
    stream: TcpStream,
    deframer: Deframer,
}

impl Client {
    fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).expect("the port is open");
        let mut client = Self { stream, deframer: Deframer::new(1 << 20) };
        let mut hello = Vec::new();
        Hello::of_client().encode(&mut hello);
        client.stream.write_all(&hello).expect("an open connection");
        client.frame(PATIENCE, |frame| Welcome::decode(frame).expect("a welcome")).expect("an answer");
        client
    }

    fn ask(&mut self, id: u64, kind: FrameKind, payload: &[u8]) {
        self.ask_of(id, kind, payload, 0);
    }

    fn ask_of(&mut self, id: u64, kind: FrameKind, payload: &[u8], session: u64) {
        let mut bytes = Vec::new();
        Request { id, kind, shard: 0, timeout_ms: 600_000, session, sequence: session, payload }.encode(&mut bytes);
        self.stream.write_all(&bytes).expect("an open connection");
    }

    /// The next answer: its number, and how it was refused if it was. `None`: there is none in time.
    fn answer(&mut self, within: Duration) -> Option<(u64, Option<(Status, Executed)>)> {
        self.frame(within, |frame| {
            let response = net::api::Response::decode(frame).expect("an answer");
            (response.id, response.result.err().map(|refused| (refused.status, refused.executed)))
        })
    }

    fn frame<T>(&mut self, within: Duration, take: impl FnOnce(&net::frame::Frame<'_>) -> T) -> Option<T> {
        self.stream.set_read_timeout(Some(within)).expect("a limit");
        loop {
            if let Some(frame) = self.deframer.next_frame().expect("sound frames") {
                return Some(take(&frame));
            }
            let read = match self.stream.read(self.deframer.space()) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                read => read.expect("an open connection"),
            };
            assert!(read > 0, "the connection stays open");
            self.deframer.advance(read);
        }
    }
}

/// A client that relies on its write being applied once is told that this node cannot see to that.
#[test]
fn a_write_of_a_session_is_refused_and_its_connection_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = config(dir.path());
    let url = settings.listen_client_urls[0].clone();
    let node = Node::start(valid(settings)).expect("it starts");
    let mut put = Vec::new();
    encode_op_command(&Op::Put { key: b"k", value: b"value", lease: 0, prev_kv: false }, &mut put).expect("sound");
    let kind = |kind: CallKind| FrameKind::new(kind.row().number);
    let mut client = Client::connect(&url);
    client.ask_of(1, kind(CallKind::Write), &put, 7);
    assert_eq!(client.answer(PATIENCE), Some((1, Some((Status::Invalid, Executed::No)))));
    client.ask_of(2, kind(CallKind::Status), b"", 7);
    assert_eq!(client.answer(PATIENCE), Some((2, Some((Status::Invalid, Executed::No)))));
    client.ask(3, kind(CallKind::Status), b"");
    assert_eq!(client.answer(PATIENCE), Some((3, None)));
    node.stop().expect("it stops");
}

/// What clients of one core get from a shard of another core that hangs: an answer, long before their time is up.
#[test]
fn nobody_waits_for_a_shard_of_another_core_that_hangs() {
    const CONNECTIONS: usize = 16;
    const SOON: Duration = Duration::from_millis(500);
    let dir = tempfile::tempdir().expect("a directory");
    let settings = Config { cores: 2, shards: 2, ..config(dir.path()) };
    let url = settings.listen_client_urls[0].clone();
    let node = Node::start(valid(settings)).expect("it starts");
    let started = Instant::now();
    while let Err(reason) = node.handle().ready() {
        assert!(started.elapsed() < PATIENCE, "{reason}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut put, mut range) = (Vec::new(), Vec::new());
    encode_op_command(&Op::Put { key: b"k", value: b"value", lease: 0, prev_kv: false }, &mut put).expect("sound");
    let key = KeyRange { key: b"k", range_end: b"" };
    encode_range(&RangeOp { range: key, limit: 0, revision: 0, keys_only: false, count_only: false }, &mut range)
        .expect("sound");
    assert_eq!(api::ids::shard_of_key(b"k", 2).get(), 0, "a key of the first core's shard");
    let kind = |kind: CallKind| FrameKind::new(kind.row().number);

    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(&url)).collect();
    let holds = HOLDS.lock().expect("no test panicked");
    let handle = node.handle();
    let hanging = std::thread::spawn(move || block_on(handle.propose(HANGS, Vec::new(), PATIENCE)));
    while !IS_HANGING.load(Ordering::SeqCst) {
        assert!(started.elapsed() < PATIENCE, "the core takes the call that makes it hang");
        std::thread::yield_now();
    }
    for client in &mut clients {
        client.ask(1, kind(CallKind::Write), &put);
        client.ask(2, KIND_PING, b"");
    }
    // Those of the other core; the kernel chooses who is.
    clients.retain_mut(|client| client.answer(SOON).is_some_and(|(id, _)| id == 2));
    assert!(!clients.is_empty(), "some are on the core that goes on");
    for client in &mut clients {
        assert_eq!(client.answer(PATIENCE), Some((1, Some((Status::Unavailable, Executed::Unknown)))));
    }
    assert!(node.handle().ready().expect_err("a shard hangs").contains("shard 0 says nothing"));
    for client in &mut clients {
        // What the shard was given before may be done yet; what comes now is not.
        client.ask(3, kind(CallKind::Write), &put);
        assert_eq!(client.answer(PATIENCE), Some((3, Some((Status::Unavailable, Executed::No)))));
    }
    drop(holds);
    drop(hanging.join().expect("no panic").expect_err("there is no such shard"));
    let started = Instant::now();
    for client in &mut clients {
        loop {
            client.ask(4, kind(CallKind::Read), &range);
            match client.answer(PATIENCE).expect("an answer") {
                (4, None) => break,
                (4, Some((Status::Unavailable, Executed::No))) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    node.stop().expect("it stops");
}
