//! What stands at the client port and at the command line: limits, half-closed connections, values that are missing, variables.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use api::call::CallKind;
use api::command::{Op, encode_op_command};
use client::{Client, ClientError, ClientOptions};
use net::api::{KIND_PING, Request, Response, Status};
use net::deframer::Deframer;
use net::frame::FrameKind;
use net::handshake::{Hello, Verdict, Welcome};
use rustix::process::Signal;

use crate::harness::{Cluster, PATIENCE, is_full_run, quorate};

/// The frame kind of a write.
pub const WRITE: FrameKind = FrameKind::new(CallKind::Write.row().number);

/// A connection without the client library.
pub struct Raw {
    pub stream: TcpStream,
    deframer: Deframer,
}

impl Raw {
    pub fn connect(cluster: &Cluster) -> Self {
        Self::try_connect(cluster).expect("the port takes a connection")
    }

    /// Connects again until it is taken: beside a flood of strangers a greeting may have to make room.
    pub fn connect_beside_strangers(cluster: &Cluster) -> Self {
        let started = Instant::now();
        loop {
            match Self::try_connect(cluster) {
                Ok(raw) => return raw,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
        }
    }

    fn try_connect(cluster: &Cluster) -> std::io::Result<Self> {
        let address = cluster.nodes[0].client_address();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut hello = Vec::new();
        Hello::of_client().encode(&mut hello);
        stream.write_all(&hello)?;
        let mut deframer = Deframer::new(64 << 20);
        let welcome = loop {
            if let Some(frame) = deframer.next_frame().expect("sound frames") {
                break Welcome::decode(&frame).expect("a welcome");
            }
            match stream.read(deframer.space())? {
                0 => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                read => deframer.advance(read),
            }
        };
        assert_eq!(welcome.verdict, Verdict::Accepted);
        assert!(welcome.limits.requests > 0 && welcome.limits.request_bytes > 0 && welcome.limits.queued_bytes > 0);
        Ok(Self { stream, deframer })
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("an open connection");
    }

    fn request(&mut self, id: u64, kind: FrameKind, payload: &[u8]) {
        let mut bytes = Vec::new();
        Request { id, kind, shard: 0, timeout_ms: 20_000, session: 0, sequence: 0, payload }.encode(&mut bytes);
        self.send(&bytes);
    }

    pub fn put(&mut self, id: u64, value: &[u8]) {
        let mut payload = Vec::new();
        encode_op_command(&Op::Put { key: b"key", value, lease: 0, prev_kv: false }, &mut payload).expect("sound");
        self.request(id, WRITE, &payload);
    }

    /// Why the node closes the connection, as it says under no number.
    pub fn farewell(&mut self) -> Option<String> {
        self.frame(|frame| {
            let response = Response::decode(frame).expect("an answer");
            assert_eq!(response.id, 0);
            response.result.expect_err("a refusal").message.to_owned()
        })
    }

    /// The next frame; `None` once the node has closed its side.
    fn frame<T>(&mut self, take: impl FnOnce(&net::frame::Frame<'_>) -> T) -> Option<T> {
        loop {
            if let Some(frame) = self.deframer.next_frame().expect("sound frames") {
                return Some(take(&frame));
            }
            match self.stream.read(self.deframer.space()).expect("something arrives in time") {
                0 => return None,
                read => self.deframer.advance(read),
            }
        }
    }

    /// The next answer: its number, and how it was refused if it was.
    pub fn answer(&mut self) -> Option<(u64, Option<Status>)> {
        self.frame(|frame| {
            let response = Response::decode(frame).expect("an answer");
            (response.id, response.result.err().map(|refused| refused.status))
        })
    }
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_alone_and_the_connection_goes_on() {
    let cluster = Cluster::start(1).await;
    let mut raw = Raw::connect(&cluster);
    raw.put(1, b"before");
    raw.put(2, &vec![7; 3 << 20]);
    raw.put(3, b"behind");
    raw.request(4, KIND_PING, b"");
    // To cancel what has ended, never was or does not last changes nothing.
    for id in [1, 2, 3, 77] {
        let mut cancel = Vec::new();
        Request::cancel(id).encode(&mut cancel);
        raw.send(&cancel);
    }
    let mut answers: Vec<_> = (0..4).map(|_| raw.answer().expect("the connection stays open")).collect();
    answers.sort_by_key(|(id, _)| *id);
    assert_eq!(answers, [(1, None), (2, Some(Status::TooLarge)), (3, None), (4, None)]);
    // What is too large to be passed over ends the connection, and says so.
    let mut huge = Vec::new();
    net::frame::encode_frame(&mut huge, WRITE, 0, 0, 5, &vec![0; (64 << 20) + 1]);
    raw.send(&huge[..net::frame::FRAME_HEADER_BYTES]);
    assert_eq!(raw.answer(), Some((0, Some(Status::Invalid))));
    assert_eq!(raw.answer(), None);
}

#[tokio::test]
async fn a_client_that_closed_its_sending_side_gets_its_answers() {
    let cluster = Cluster::start(1).await;
    for round in 0..20 {
        let mut raw = Raw::connect(&cluster);
        for id in 1..=10 {
            raw.put(id, b"value");
        }
        raw.stream.shutdown(Shutdown::Write).expect("an open connection");
        for _ in 1..=10 {
            assert!(matches!(raw.answer(), Some((_, None))), "round {round}");
        }
        assert_eq!(raw.answer(), None, "then the node closes, too");
    }
}

#[tokio::test]
async fn a_probe_that_closed_its_sending_side_gets_its_answer() {
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].client_address();
    for round in 0..20 {
        // The end of what the probe sends is there when the node looks first.
        cluster.signal(0, Signal::STOP);
        let mut stream = TcpStream::connect(address).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: n\r\n\r\n").expect("an open connection");
        stream.shutdown(Shutdown::Write).expect("an open connection");
        cluster.signal(0, Signal::CONT);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and then the node closes, too");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("}\n"), "round {round}: {answer}");
    }
}

#[tokio::test]
async fn of_ten_thousand_puts_at_once_only_the_one_that_is_too_large_is_refused() {
    const PUTS: usize = 10_000;
    let cluster = Cluster::start(3).await;
    let endpoints = cluster.nodes.iter().map(|node| node.client_url.clone()).collect();
    let options = ClientOptions { endpoints, request_timeout: PATIENCE, ..ClientOptions::default() };
    let client = Client::connect(options).await.expect("a node answers");
    let put = |number: usize| {
        let client = client.clone();
        let value = vec![7; if number == PUTS / 2 { 3 << 20 } else { 100 }];
        tokio::spawn(async move { client.put(format!("key-{number}").as_bytes(), &value).await })
    };
    let puts: Vec<_> = (0..PUTS).map(put).collect();
    let mut refused = Vec::new();
    let mut acknowledged = 0;
    for put in puts {
        match put.await.expect("no panic") {
            Ok(_) => acknowledged += 1,
            Err(error) => refused.push(error),
        }
    }
    assert_eq!(acknowledged, PUTS - 1, "{:?}", refused.first());
    assert!(matches!(&refused[..], [ClientError::Refused { status: Status::TooLarge, .. }]), "{refused:?}");
}

/// Each client is told how much of its own a node lets wait; all of them together are more than a shard takes at a time.
#[tokio::test]
async fn many_clients_that_keep_their_limits_are_all_answered() {
    const EACH: usize = 4_096;
    let count = if is_full_run() { 20 } else { 6 };
    let cluster = Cluster::start(1).await;
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(cluster.client_of(&[0], PATIENCE).await);
    }
    let key = |client: usize, number: usize| format!("key-{client}-{number}");
    let each = || (0..count).flat_map(|client| (0..EACH).map(move |number| (client, number)));
    let put = |(client, number): (usize, usize)| {
        let (client, key) = (clients[client].clone(), key(client, number));
        tokio::spawn(async move { client.put(key.as_bytes(), b"value").await })
    };
    let puts: Vec<_> = each().map(put).collect();
    for put in puts {
        put.await.expect("no panic").expect("it waits for its turn");
    }
    let get = |(client, number): (usize, usize)| {
        let (client, key) = (clients[client].clone(), key(client, number));
        tokio::spawn(async move { client.get(key.as_bytes()).await })
    };
    let gets: Vec<_> = each().map(get).collect();
    for get in gets {
        assert!(get.await.expect("no panic").expect("it waits for its turn").is_some());
    }
}

#[tokio::test]
async fn leases_are_refused_by_the_server_too() {
    let cluster = Cluster::start(1).await;
    let mut raw = Raw::connect(&cluster);
    let mut payload = Vec::new();
    encode_op_command(&Op::Put { key: b"key", value: b"v", lease: 7, prev_kv: false }, &mut payload).expect("sound");
    raw.request(1, WRITE, &payload);
    assert_eq!(raw.answer(), Some((1, Some(Status::Invalid))));
    let client = cluster.client_of(&[0], Duration::from_secs(10)).await;
    let options = client::PutOptions { lease: 7, prev_kv: false };
    let error = client.put_with(b"key", b"v", options).await.expect_err("there are no leases").to_string();
    assert!(error.contains("leases do not exist yet"), "{error}");
    assert!(client.get(b"key").await.expect("a read").is_none(), "nothing was written");
}

#[tokio::test]
async fn without_a_quorum_the_error_says_so_and_what_each_endpoint_answered() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    let down = [(leader + 1) % 3, (leader + 2) % 3];
    for number in down {
        cluster.kill(number);
    }
    cluster.wait_until("the leader steps down", |statuses| statuses.iter().all(|status| status.role != "leader")).await;
    // The dead ones stand first and last.
    let urls: Vec<_> = [down[0], leader, down[1]].map(|number| cluster.nodes[number].client_url.clone()).into();
    let output = quorate(&["put", "key", "value", "--endpoints", &urls.join(","), "--command-timeout", "2s"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: unavailable, and the request took no effect: there is no quorum: "), "{text}");
    let lines: Vec<_> = text.lines().skip(1).map(str::trim_start).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for number in [down[0], leader, down[1]] {
        let endpoint = cluster.nodes[number].client_address();
        let line = lines.iter().find(|line| line.starts_with(endpoint)).expect(endpoint);
        let expected = if number == leader { "no leader" } else { "nothing listens there" };
        assert!(line.contains(expected), "{line}");
    }
}

fn quorate_with(args: &[&str], variables: &[(&str, &str)], input: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).envs(variables.iter().copied()).stdin(input);
    command.output().expect("the binary runs")
}

#[test]
fn a_put_without_a_value_and_without_input_is_refused() {
    for args in [&["put", "key"][..], &["put", "key", "-"]] {
        let output = quorate_with(args, &[], Stdio::null());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("error: put needs a value: "), "{text}");
    }
}

#[test]
fn an_empty_variable_counts_as_not_given_and_a_wrong_one_is_named() {
    let empty = [("QUORATE_ENDPOINTS", ""), ("QUORATE_COMMAND_TIMEOUT", ""), ("QUORATE_WRITE_OUT", "")];
    let output = quorate_with(&["version"], &empty, Stdio::null());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    // The settings are looked at, and refused for a reason of their own: no variable is in the way.
    let start = |name: &str, value: &str, more: &[&str]| {
        let args = ["start", "--data-dir", data_dir.to_str().expect("a path")];
        let args = [&args[..], more].concat();
        let variables = [("QUORATE_SHARDS", ""), ("QUORATE_LOG", ""), ("QUORATE_PIN_CORES", ""), (name, value)];
        let output = quorate_with(&args, &variables, Stdio::null());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = start("QUORATE_CORES", "", &["--heartbeat-interval", "0"]);
    assert!(text.contains("--heartbeat-interval") && !text.contains("QUORATE"), "{text}");
    let text = start("QUORATE_CORES", "many", &[]);
    assert!(text.contains("QUORATE_CORES (--cores <N>)"), "{text}");
    let text = start("QUORATE_PIN_CORES", "perhaps", &[]);
    assert!(text.contains("QUORATE_PIN_CORES (--pin-cores"), "{text}");
    let text = start("QUORATE_CORES", "many", &["--cores", "few"]);
    assert!(text.contains("'--cores <N>'") && !text.contains("QUORATE_CORES"), "{text}");
    let text = start("QUORATE_HEARTBEAT_INTERVAL", "0", &[]);
    assert!(text.contains("--heartbeat-interval") && text.contains("QUORATE_HEARTBEAT_INTERVAL"), "{text}");
    let text = start("QUORATE_INITIAL_CLUSTER", "a", &[]);
    assert!(text.contains("QUORATE_INITIAL_CLUSTER"), "{text}");
    assert!(!data_dir.exists(), "nothing was touched");
}
