//! The demo's nodes: child processes of this one, each with a data directory, ports and a log file of its own.
//!
//! Whatever way the demo ends (success, error, ctrl-C, panic), dropping [`Nodes`] stops them: SIGTERM, then SIGKILL for
//! those still there after a while. It signals its own children alone and knows nothing of what they do.

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::DemoError;
use super::host;

/// Time nodes get to stop after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two looks at a stopping child.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Lines of a node's log shown when it died.
const LOG_TAIL_LINES: usize = 20;

/// What all nodes are started with.
#[derive(Clone, Copy, Debug)]
pub(in crate::cmd) struct Shape {
    pub(in crate::cmd) nodes: usize,
    pub(in crate::cmd) shards: u32,
    pub(in crate::cmd) cores: u32,
    /// Bytes of a log segment; `None` = the server's default.
    pub(in crate::cmd) segment_bytes: Option<u64>,
}

/// Where a node runs, if not on loopback and beside the others.
#[derive(Clone, Debug)]
pub(in crate::cmd) struct Place {
    /// Address it listens on, in its network.
    pub(in crate::cmd) host: IpAddr,
    /// Program and arguments that run the node's own command line; they must become the node (exec), not wait for it.
    pub(in crate::cmd) launcher: Vec<String>,
}

/// One node, running or not.
#[derive(Debug)]
struct Node {
    name: String,
    host: IpAddr,
    launcher: Vec<String>,
    client_port: u16,
    peer_port: u16,
    data_dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// All nodes and the directory they live in. Dropping it stops them and removes the directory unless it is kept.
#[derive(Debug)]
pub(in crate::cmd) struct Nodes {
    shape: Shape,
    program: PathBuf,
    token: String,
    nodes: Vec<Node>,
    dir: DemoDir,
}

/// The demo's directory.
#[derive(Debug)]
enum DemoDir {
    Removed(TempDir),
    Kept(PathBuf),
}

impl Nodes {
    /// Creates a directory inside `parent` and chooses ports; starts nothing yet.
    pub(in crate::cmd) fn create(shape: Shape, parent: &Path, keep: bool) -> Result<Self, DemoError> {
        let program = std::env::current_exe()
            .map_err(|source| DemoError::io("find the program of", Path::new("this process"), source))?;
        let temporary = tempfile::Builder::new()
            .prefix("quorate-demo-")
            .tempdir_in(parent)
            .map_err(|source| DemoError::io("create a directory in", parent, source))?;
        let dir = if keep { DemoDir::Kept(temporary.keep()) } else { DemoDir::Removed(temporary) };
        let ports = host::free_ports(shape.nodes * 2)?;
        let token = format!("quorate-demo-{}", std::process::id());
        let pairs = ports.chunks_exact(2).zip(1..);
        let nodes = pairs.filter_map(|(pair, number)| match *pair {
            [client_port, peer_port] => Some(Node::new(format!("n{number}"), client_port, peer_port, dir.path())),
            _ => None,
        });
        Ok(Self { shape, program, token, nodes: nodes.collect(), dir })
    }

    /// Moves node `node`, which has not run yet, to a network of its own.
    pub(in crate::cmd) fn place(&mut self, node: usize, place: Place) {
        if let Some(node) = self.nodes.get_mut(node) {
            (node.host, node.launcher) = (place.host, place.launcher);
        }
    }

    /// Gives node `node`, which has not run yet, another data directory.
    pub(in crate::cmd) fn set_data_dir(&mut self, node: usize, data_dir: PathBuf) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.data_dir = data_dir;
        }
    }

    /// Starts node `node`, which is not running, under the same flags each time.
    pub(in crate::cmd) fn start(&mut self, node: usize) -> Result<(), DemoError> {
        let arguments = self.arguments(node);
        let program = self.program.clone();
        let Some(target) = self.nodes.get_mut(node) else { return Ok(()) };
        let log = target.open_log()?;
        let log_too = log.try_clone().map_err(|source| DemoError::io("open", &target.log, source))?;
        let mut words = target.launcher.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(program.as_os_str()));
        command.args(words).args(arguments).stdin(Stdio::null()).stdout(log).stderr(log_too);
        // Ctrl-C in the terminal is for the demo, which then stops its nodes in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|source| DemoError::io("start", &program, source))?;
        target.child = Some(child);
        Ok(())
    }

    /// Kills node `node` with SIGKILL and waits until it is gone. One that had ended by itself is an error, as in `check`: it
    /// must not pass for one that was killed.
    pub(in crate::cmd) fn kill(&mut self, node: usize) -> Result<(), DemoError> {
        let Some(target) = self.nodes.get_mut(node) else { return Ok(()) };
        let Some(mut child) = target.child.take() else { return Ok(()) };
        let killed = child.kill().and_then(|()| child.wait());
        let status = killed.map_err(|source| DemoError::Kill { name: target.name.clone(), source })?;
        if status.signal() == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        Err(DemoError::NodeDied { name: target.name.clone(), status, log_tail: target.log_tail() })
    }

    /// Lines of all nodes' logs, of all their lives, that contain `text`.
    pub(in crate::cmd) fn lines_with(&self, text: &str) -> Result<Vec<String>, DemoError> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let log = fs::read(&node.log).map_err(|source| DemoError::io("read", &node.log, source))?;
            let log = String::from_utf8_lossy(&log);
            let lines = log.lines().filter(|line| line.contains(text));
            found.extend(lines.map(|line| format!("{}: {line}", node.name)));
        }
        Ok(found)
    }

    /// Stops node `node` with SIGSTOP, or lets it go on with SIGCONT.
    pub(in crate::cmd) fn pause(&self, node: usize, pause: bool) {
        let child = self.nodes.get(node).and_then(|node| node.child.as_ref());
        if let Some(pid) = child.and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?)) {
            // It fails only for a child that has ended, which `check` then sees.
            let _ = kill_process(pid, if pause { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Where node `node` keeps its data.
    pub(in crate::cmd) fn data_dir(&self, node: usize) -> PathBuf {
        self.nodes.get(node).map_or_else(PathBuf::new, |node| node.data_dir.clone())
    }

    /// Fails if a node that should be running is not, with the end of its log.
    pub(in crate::cmd) fn check(&mut self) -> Result<(), DemoError> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            let status = child.try_wait().map_err(|source| DemoError::io("watch", &node.log, source))?;
            if let Some(status) = status {
                node.child = None;
                return Err(DemoError::NodeDied { name: node.name.clone(), status, log_tail: node.log_tail() });
            }
        }
        Ok(())
    }

    /// Asks all running nodes to stop, waits for them, and returns those that had to be killed or ended badly.
    pub(in crate::cmd) fn stop(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        for node in &mut self.nodes {
            if let Some(pid) = node.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?)) {
                // It fails only for a child that has ended, which `stop_by` then sees.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_WITHIN;
        for node in &mut self.nodes {
            if let Some(child) = node.child.take() {
                complaints.extend(stop_by(deadline, child).map(|complaint| format!("{} {complaint}", node.name)));
            }
        }
        complaints
    }

    /// `host:port` of each node's client port.
    pub(in crate::cmd) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| SocketAddr::new(node.host, node.client_port).to_string()).collect()
    }

    /// Name of node `node`.
    pub(in crate::cmd) fn name(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("?", |node| &node.name)
    }

    /// Directory of the demo.
    pub(in crate::cmd) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends of all nodes' logs, for a failure that is not one node's.
    pub(in crate::cmd) fn log_tails(&self) -> String {
        self.nodes.iter().map(|node| format!("--- {}\n{}\n", node.log.display(), node.log_tail())).collect()
    }

    fn arguments(&self, node: usize) -> Vec<String> {
        let Some(own) = self.nodes.get(node) else { return Vec::new() };
        let peer_url = |node: &Node| format!("http://{}", SocketAddr::new(node.host, node.peer_port));
        let client_url = format!("http://{}", SocketAddr::new(own.host, own.client_port));
        let members: Vec<String> = self.nodes.iter().map(|node| format!("{}={}", node.name, peer_url(node))).collect();
        let flags = [
            ("--name", own.name.clone()),
            ("--data-dir", own.data_dir.display().to_string()),
            ("--listen-client-urls", client_url.clone()),
            ("--advertise-client-urls", client_url),
            ("--listen-peer-urls", peer_url(own)),
            ("--initial-advertise-peer-urls", peer_url(own)),
            ("--initial-cluster", members.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
            ("--initial-cluster-token", self.token.clone()),
            ("--shards", self.shape.shards.to_string()),
            ("--cores", self.shape.cores.to_string()),
        ];
        let mut arguments = vec!["start".to_owned()];
        // A segment holds at least four requests of the largest size.
        let segments = self.shape.segment_bytes.into_iter().flat_map(|bytes| {
            [("--segment-bytes", bytes.to_string()), ("--max-request-bytes", (bytes / 4).to_string())]
        });
        arguments.extend(flags.into_iter().chain(segments).flat_map(|(flag, value)| [flag.to_owned(), value]));
        arguments
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for complaint in self.stop() {
            eprintln!("{complaint}");
        }
    }
}

impl Node {
    fn new(name: String, client_port: u16, peer_port: u16, dir: &Path) -> Self {
        let (data_dir, log) = (dir.join(&name), dir.join(format!("{name}.log")));
        let host = Ipv4Addr::LOCALHOST.into();
        Self { name, host, launcher: Vec::new(), client_port, peer_port, data_dir, log, child: None }
    }

    fn open_log(&self) -> Result<File, DemoError> {
        let opened = OpenOptions::new().create(true).append(true).open(&self.log);
        opened.map_err(|source| DemoError::io("open", &self.log, source))
    }

    fn log_tail(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => tail_lines(&String::from_utf8_lossy(&bytes), LOG_TAIL_LINES),
            Err(error) => format!("(cannot read {}: {error})", self.log.display()),
        }
    }
}

impl DemoDir {
    fn path(&self) -> &Path {
        match self {
            Self::Removed(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

/// Waits for `child` until `deadline`, then kills it. Returns what was not as it should be.
fn stop_by(deadline: Instant, mut child: Child) -> Option<String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return complaint_of(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(STOP_POLL),
            Ok(None) => {
                let killed = child.kill().and_then(|()| child.wait());
                let within_s = STOP_WITHIN.as_secs();
                return Some(match killed {
                    Ok(_) => format!("did not stop within {within_s} s of SIGTERM and was killed"),
                    Err(error) => format!("did not stop within {within_s} s of SIGTERM and cannot be killed: {error}"),
                });
            }
            Err(error) => return Some(format!("cannot be waited for: {error}")),
        }
    }
}

fn complaint_of(status: ExitStatus) -> Option<String> {
    (!status.success()).then(|| format!("ended with {status} when asked to stop"))
}

/// The last `count` lines of `text`.
fn tail_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or(&[]).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { nodes: 3, shards: 2, cores: 1, segment_bytes: None };

    #[test]
    fn flags_are_etcds_and_the_same_at_each_start() {
        let parent = tempfile::tempdir().expect("a directory");
        let nodes = Nodes::create(SHAPE, parent.path(), false).expect("created");
        let arguments = nodes.arguments(1);
        assert_eq!(arguments, nodes.arguments(1));
        assert_eq!(arguments.first().map(String::as_str), Some("start"));
        let value_of = |flag: &str| {
            let at = arguments.iter().position(|argument| argument == flag).expect(flag);
            arguments[at + 1].clone()
        };
        assert_eq!((value_of("--name"), value_of("--shards")), ("n2".to_owned(), "2".to_owned()));
        assert_eq!(value_of("--initial-cluster").split(',').count(), 3);
        assert!(value_of("--initial-cluster").contains(&format!("n2={}", value_of("--listen-peer-urls"))));
        assert!(value_of("--advertise-client-urls").ends_with(&nodes.endpoints()[1]));
    }

    #[test]
    fn the_directory_goes_with_the_nodes_unless_it_is_kept() {
        let parent = tempfile::tempdir().expect("a directory");
        let entries = || fs::read_dir(parent.path()).expect("readable").count();
        drop(Nodes::create(SHAPE, parent.path(), false).expect("created"));
        assert_eq!(entries(), 0);
        drop(Nodes::create(SHAPE, parent.path(), true).expect("created"));
        assert_eq!(entries(), 1);
    }

    /// A child that runs `script`, as node 0.
    fn with_child(script: &str) -> (TempDir, Nodes) {
        let parent = tempfile::tempdir().expect("a directory");
        let mut nodes = Nodes::create(SHAPE, parent.path(), false).expect("created");
        let node = &mut nodes.nodes[0];
        let log = node.open_log().expect("a log");
        let child = Command::new("sh").args(["-c", script]).stdout(log).spawn().expect("a shell");
        node.child = Some(child);
        (parent, nodes)
    }

    #[test]
    fn a_node_that_ended_by_itself_does_not_pass_for_killed() {
        let (_parent, mut nodes) = with_child("exit 3");
        let pid = nodes.nodes[0].child.as_ref().map(|child| child.id()).expect("a child");
        let is_zombie = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("not reaped yet");
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
        };
        while !is_zombie() {
            std::thread::yield_now();
        }
        assert!(matches!(nodes.kill(0), Err(DemoError::NodeDied { .. })));
        let (_parent, mut nodes) = with_child("echo started; exec sleep 60");
        nodes.kill(0).expect("killed");
        assert!(nodes.check().is_ok());
    }

    #[test]
    fn lines_are_found_in_the_logs_of_all_lives() {
        let (_parent, nodes) = with_child("true");
        for node in &nodes.nodes {
            fs::write(&node.log, "one\nhas stopped, once\ntwo\nhas stopped, twice\n").expect("a log");
        }
        let lines = nodes.lines_with("has stopped").expect("readable");
        assert_eq!((lines.len(), lines[1].as_str()), (6, "n1: has stopped, twice"));
    }

    #[test]
    fn a_dead_node_is_reported_with_the_end_of_its_log() {
        let (_parent, mut nodes) = with_child("seq 1 50; exit 3");
        let error = loop {
            match nodes.check() {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("n1") && error.contains("exit status: 3"), "{error}");
        assert!(error.contains("\n50") && error.contains("\n31") && !error.contains("\n30\n"), "{error}");
        assert!(nodes.check().is_ok());
    }

    #[test]
    fn a_killed_node_is_gone_and_not_reported_as_dead() {
        let (_parent, mut nodes) = with_child("exec sleep 100");
        nodes.kill(0).expect("killed");
        assert!(nodes.check().is_ok());
        assert!(nodes.stop().is_empty());
    }

    #[test]
    fn a_node_that_ends_badly_when_asked_to_stop_is_complained_about() {
        let (_parent, mut nodes) = with_child("exec sleep 100");
        let complaints = nodes.stop();
        assert!(complaints.len() == 1 && complaints[0].starts_with("n1 ended with signal: 15"), "{complaints:?}");
    }
}
