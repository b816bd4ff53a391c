//! Hosts that are not like ours: what a node says and leaves behind where it cannot run, and how it hears signals early.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use client::ClientError;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::harness::{Cluster, PATIENCE as CLUSTER_PATIENCE};

/// Tells the second process of a test which system calls to lose before it becomes a node.
const REFUSED: &str = "QUORATE_TEST_REFUSED_CALLS";
/// And where that node keeps its data.
const DATA_DIR: &str = "QUORATE_TEST_DATA_DIR";

/// Longest wait for a process; a test that reaches it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers of io_uring's system calls, the same on every architecture. Source: Linux, `asm-generic/unistd.h`.
const URING_CALLS: [(&str, i64); 3] = [("io_uring_setup", 425), ("io_uring_enter", 426), ("io_uring_register", 427)];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

/// Number of `socket`. Source: Linux, the tables of x86-64 and of all newer architectures.
const SOCKET_CALL: i64 = if cfg!(target_arch = "x86_64") { 41 } else { 198 };

/// First argument of `socket` for Unix sockets.
const AF_UNIX: u64 = 1;

fn start_command(data_dir: &Path, more: &[&str]) -> Command {
    // Addresses that no other node has: those here need not be reached by anybody.
    static HOSTS: AtomicU8 = AtomicU8::new(1);
    let host = format!("http://127.1.{}.1", HOSTS.fetch_add(1, Ordering::Relaxed));
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["start", "--listen-client-urls", &format!("{host}:1"), "--listen-peer-urls", &format!("{host}:2")]);
    command.arg("--data-dir").arg(data_dir).args(more).stdin(Stdio::null());
    command
}

/// The test of this name again, as a process that loses the calls and then becomes a node.
fn second_process(test: &str, calls: &str, data_dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.arg(format!("hosts::{test}")).args(["--exact", "--nocapture"]).stdin(Stdio::null());
    command.env(REFUSED, calls).env(DATA_DIR, data_dir);
    command
}

fn start_without(calls: &str, data_dir: &Path) -> Output {
    let test = "without_io_uring_one_line_says_which_call_was_refused";
    second_process(test, calls, data_dir).output().expect("a second process")
}

/// Refuses the calls `name=errno,...` to this process and to what it becomes.
fn refuse(calls: &str) {
    for call in calls.split(',') {
        let (name, errno) = call.split_once('=').expect("name=errno");
        let number = URING_CALLS.iter().find(|(known, _)| *known == name).expect("a known call").1;
        refuse_call(number, Vec::new(), errno.parse().expect("a number"));
    }
}

/// Refuses one call, or those of it for which a rule holds.
fn refuse_call(number: i64, rules: Vec<SeccompRule>, errno: u32) {
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture with seccomp");
    let errno = SeccompAction::Errno(errno);
    let filter = SeccompFilter::new(BTreeMap::from([(number, rules)]), SeccompAction::Allow, errno, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("any process may give up rights");
}

#[test]
fn without_io_uring_one_line_says_which_call_was_refused() {
    if let (Ok(calls), Some(data_dir)) = (std::env::var(REFUSED), std::env::var_os(DATA_DIR)) {
        refuse(&calls);
        let error = start_command(Path::new(&data_dir), &[]).exec();
        panic!("the node cannot be started: {error}");
    }
    let above = tempfile::tempdir().expect("a temporary directory");
    let data_dir = above.path().join("data");
    for errno in [EPERM, ENOSYS] {
        let each = URING_CALLS.map(|(name, _)| (name, format!("{name}={errno}")));
        let all = each.clone().map(|(_, refused)| refused).join(",");
        for (named, refused) in each.into_iter().chain([("io_uring_setup", all)]) {
            let output = start_without(&refused, &data_dir);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{refused}: {said}");
            let is_named = said.contains(&format!("the system call {named} was refused"));
            assert!(is_named && said.contains("seccomp") && said.lines().count() == 1, "{refused}: {said}");
            assert!(!data_dir.exists(), "{refused}: something was touched");
        }
    }
}

#[test]
fn without_unix_sockets_a_node_runs_and_says_that_its_addresses_are_not_held() {
    if let Some(data_dir) = std::env::var_os(DATA_DIR) {
        let is_unix =
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, AF_UNIX).expect("a condition");
        refuse_call(SOCKET_CALL, vec![SeccompRule::new(vec![is_unix]).expect("a rule")], EAFNOSUPPORT);
        let error = start_command(Path::new(&data_dir), &[]).exec();
        panic!("the node cannot be started: {error}");
    }
    let above = tempfile::tempdir().expect("a temporary directory");
    let test = "without_unix_sockets_a_node_runs_and_says_that_its_addresses_are_not_held";
    let mut command = second_process(test, "", &above.path().join("data"));
    let mut node = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a second process");
    // The test's own first words may stand in front of it.
    let mut said = BufReader::new(node.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let ready = said.find(|line| line.contains("ready: node"));
    node.kill().expect("it is killed");
    wait(&mut node);
    let mut log = String::new();
    node.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
    assert!(ready.is_some(), "{log}");
    assert!(log.contains("whether another node shares this address cannot be told"), "{log}");
}

#[test]
fn more_cores_than_there_can_be_are_refused_before_anything_is_touched() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let data_dir = above.path().join("data");
    let processors = std::thread::available_parallelism().expect("processors").get();
    let (pinned, too_many) = ((processors + 1).to_string(), (8 * processors + 1).to_string());
    for (args, expected) in [
        (vec!["--pin-cores", "--cores", &pinned], format!("--pin-cores with --cores {pinned}")),
        (vec!["--cores", &too_many], format!("--cores {too_many}: this process may use {processors} processors")),
    ] {
        let output = start_command(&data_dir, &args).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(&expected), "{said}");
        assert!(!data_dir.exists());
    }
}

/// Waits until the process has ended, or fails.
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().expect("SIGKILL is sent");
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_signal_ends_a_node_that_is_still_starting() {
    let above = tempfile::tempdir().expect("a temporary directory");
    // A node waits some seconds for a port that is in use, and is starting meanwhile.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(["start", "--listen-client-urls", &url, "--listen-peer-urls", "http://127.0.0.1:2"]);
        command.arg("--data-dir").arg(above.path().join("data")).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let pid = Pid::from_child(&child);
        // It hears signals once it asks for them, which shows in the mask of caught ones.
        let status = format!("/proc/{}/status", child.id());
        let started = Instant::now();
        let hears = |text: &str| {
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or_default();
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
        };
        while !hears(&std::fs::read_to_string(&status).unwrap_or_default()) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(pid, signal).expect("a signal is sent");
        let status = wait(&mut child);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status:?}");
    }
}

#[test]
fn a_start_that_hangs_says_at_which_step_and_ends_by_a_signal() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let data_dir = above.path().join("data");
    std::fs::create_dir(&data_dir).expect("created");
    // Whoever reads this file waits for a writer that never comes, as for a disk that never answers.
    let made = Command::new("mkfifo").arg(data_dir.join("identity")).status().expect("mkfifo runs");
    assert!(made.success(), "a pipe in the file system");
    let mut child = start_command(&data_dir, &[]).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its standard error")).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("still starting")));
    let line = line.expect("a line before the end");
    assert!(line.contains("opening data directory") && line.contains("step_s="), "{line}");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal is sent");
    let status = wait(&mut child);
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status:?}");
}

#[test]
fn of_two_nodes_with_one_client_port_one_starts_and_the_other_says_why_not() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [port, one, other] = free.map(|free| free.local_addr().expect("its address").port());
    // At the same time: neither listens yet when the other looks.
    let mut nodes = [one, other].map(|peer_port| {
        let client_url = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        command.args(["start", "--listen-client-urls", &client_url, "--listen-peer-urls", &peer_url]);
        command.arg("--data-dir").arg(above.path().join(peer_port.to_string())).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    });
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        let ended = nodes.iter_mut().position(|node| node.try_wait().expect("a status").is_some());
        if let Some(ended) = ended {
            break ended;
        }
        assert!(Instant::now() < deadline, "both share the port");
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut said = String::new();
    nodes[ended].stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("another process uses this port"), "{said}");
    let mut line = String::new();
    let other = &mut nodes[1 - ended];
    BufReader::new(other.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("ready"), "{line}");
    other.kill().expect("it is killed");
    wait(other);
}

#[test]
fn a_limit_on_the_size_of_files_refuses_a_start_in_one_line() {
    let above = tempfile::tempdir().expect("a temporary directory");
    let data_dir = above.path().join("data");
    let start = start_command(&data_dir, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1000 && exec \"$0\" \"$@\""]).arg(start.get_program()).args(start.get_args());
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.status.signal()), (Some(1), None), "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert!(!data_dir.exists(), "the start left something behind");
}

/// Everything in a directory, and the directory itself.
fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut looked_at = 0;
    while let Some(path) = found.get(looked_at).cloned() {
        looked_at += 1;
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            found.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    found
}

#[tokio::test]
async fn other_users_may_read_no_file_of_a_node_and_a_wide_directory_is_warned_of() {
    const OTHERS: u32 = 0o077;
    const WARNING: &str = "other users of this host";
    let mut cluster = Cluster::start_in_shell(1, "umask 022").await;
    let client = cluster.client_of(&[0], CLUSTER_PATIENCE).await;
    // Several segments: those that were prepared at the start, and those that are prepared while it runs.
    for _ in 0..40 {
        client.put(b"key", &vec![7; 1_000_000]).await.expect("a write");
    }
    let data_dir = cluster.data_dir(0).to_owned();
    let look = |path: &PathBuf| {
        // Files that are being prepared get another name meanwhile.
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        Some((path.clone(), mode & 0o777)).filter(|(_, mode)| mode & OTHERS != 0)
    };
    let files = all_below(&data_dir);
    assert!(files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "wal")).count() > 3);
    let wide: Vec<_> = files.iter().filter_map(look).collect();
    assert!(wide.is_empty(), "others may look at {wide:?}");
    assert!(!cluster.log_of(0).contains(WARNING));
    cluster.kill(0);
    std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o755)).expect("our own directory");
    cluster.start_node(0);
    cluster.wait_for_leaders().await;
    assert!(cluster.log_of(0).contains(WARNING), "{}", cluster.log_of(0));
}

/// Limits the files of a running node.
pub fn limit_files(cluster: &Cluster, number: usize, bytes: Option<u64>) {
    let limits = prlimit(Some(cluster.pid(number)), Resource::Fsize, Rlimit { current: bytes, maximum: None });
    limits.expect("a limit that is not raised above the old one");
}

#[tokio::test]
async fn a_cluster_goes_on_writing_when_the_disk_of_its_leader_is_full() {
    const WRITES: usize = 100;
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader(0).await;
    limit_files(&cluster, leader, Some(64 << 10));
    let client = cluster.client_of(&[0, 1, 2], CLUSTER_PATIENCE).await;
    let (started, mut done) = (Instant::now(), 0);
    while done < WRITES {
        match client.put(b"key", &vec![7; 1_000_000]).await {
            Ok(_) => done += 1,
            // Until it has handed over.
            Err(ClientError::Refused { .. } | ClientError::Unavailable { .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < PATIENCE, "{done} writes were acknowledged: {}", cluster.log_of(leader));
    }
    assert!(cluster.log_of(leader).contains("the next log segment cannot be prepared"), "{}", cluster.log_of(leader));
    assert_ne!(cluster.leader(0).await, leader);
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_is_met_like_a_full_disk() {
    let cluster = Cluster::start(1).await;
    limit_files(&cluster, 0, Some(64 << 10));
    let client = cluster.client_of(&[0], Duration::from_secs(2)).await;
    let mut refused = None;
    for _ in 0..100 {
        match client.put(b"key", &vec![7; 1_000_000]).await {
            Ok(_) => {}
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("the segments that are ready hold less than that");
    assert!(matches!(refused, ClientError::Refused { .. } | ClientError::Unavailable { .. }), "{refused}");
    let log = cluster.log_of(0);
    assert!(log.contains("File too large"), "{log}");
    limit_files(&cluster, 0, None);
    let client = cluster.client_of(&[0], CLUSTER_PATIENCE).await;
    client.put(b"key", b"value").await.expect("it goes on");
}

#[tokio::test]
async fn a_node_stops_in_order_when_its_terminal_closes() {
    // Whoever runs this test may ignore the signal, and what it starts would, too.
    let mut cluster = Cluster::start_by_env(1, "--default-signal=HUP").await;
    cluster.signal(0, Signal::HUP);
    assert!(cluster.wait_for_end(0), "{}", cluster.log_of(0));
}

#[tokio::test]
async fn a_node_that_was_started_by_nohup_outlives_its_terminal() {
    let mut cluster = Cluster::start_by_env(1, "--ignore-signal=HUP").await;
    cluster.signal(0, Signal::HUP);
    cluster.client_of(&[0], CLUSTER_PATIENCE).await.put(b"key", b"value").await.expect("it goes on");
    cluster.signal(0, Signal::TERM);
    assert!(cluster.wait_for_end(0), "{}", cluster.log_of(0));
}
