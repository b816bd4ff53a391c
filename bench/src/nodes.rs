//! Runs nodes as child processes, each with a data directory, ports and a log file of its own: for demo, chaos and tests.
//!
//! Dropping [`Nodes`] stops them, however their owner ends (success, error, ctrl-C, panic): SIGTERM, then SIGKILL for those still
//! there after a while. It signals only its own children, and does not know what they do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Index, IndexMut};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::limits::{LOG_TAIL_LINES, PORT_MIN, STOP_POLL, STOP_WITHIN};

/// Why a node cannot be started, watched or killed, or that it died.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// A file, directory or program could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No free ports.
    #[error("cannot find free ports on 127.0.0.1: {source}")]
    Ports {
        /// What the system said.
        source: io::Error,
    },
    /// A node could not be killed.
    #[error("cannot kill {name}: {source}")]
    Kill {
        /// The node.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A node ended by itself.
    #[error("{name} died ({status}); its log ends with:\n{log_tail}")]
    NodeDied {
        /// The node.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log_tail: String,
    },
}

impl NodesError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

/// Size of a cluster, and the flags with which all its nodes are started.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of shards.
    pub shards: u32,
    /// Number of executors of each node (`--cores`).
    pub cores: u32,
    /// More flags of `quorate start`.
    pub flags: Vec<String>,
}

/// Where a node runs that has a network of its own.
#[derive(Clone, Debug)]
pub struct Place {
    /// Address it listens on, in its network.
    pub host: IpAddr,
    /// Program and arguments that run the node's command line, which follows them. The program must become the node (exec), not wait
    /// for it.
    pub launcher: Vec<String>,
}

/// One node, running or not. A change of its fields takes effect when it is started next.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it serves clients.
    pub client_url: String,
    /// Where it serves peers.
    pub peer_url: String,
    /// A second peer URL, which the node advertises before the other one. It does not listen there.
    pub dead_peer_url: Option<String>,
    /// The URL that the node advertises to clients instead of `client_url`.
    pub advertised: Option<String>,
    /// Program and arguments put in front of the node's command line, as [`Place::launcher`]. May be empty.
    pub launcher: Vec<String>,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// The file that its output is appended to, start after start.
    pub log: PathBuf,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

/// All nodes and the directory with their data and logs. Dropping it stops them and removes the directory unless it is kept.
#[derive(Debug)]
pub struct Nodes {
    shape: Shape,
    program: PathBuf,
    nodes: Vec<Node>,
    dir: NodesDir,
}

#[derive(Debug)]
enum NodesDir {
    Removed(TempDir),
    Kept(PathBuf),
}

impl Nodes {
    /// Creates a directory inside `parent` and chooses ports; starts nothing yet. `program` is the server's binary. With `keep`, the
    /// directory stays when the nodes are dropped.
    ///
    /// # Errors
    /// The directory cannot be created, or there are no free ports.
    pub fn create(program: PathBuf, shape: Shape, parent: &Path, keep: bool) -> Result<Self, NodesError> {
        let temporary = tempfile::Builder::new()
            .prefix("quorate-nodes-")
            .tempdir_in(parent)
            .map_err(NodesError::io("create a directory in", parent))?;
        let dir = if keep { NodesDir::Kept(temporary.keep()) } else { NodesDir::Removed(temporary) };
        let ports = free_ports(shape.nodes * 2)?;
        let pairs = ports.as_chunks::<2>().0.iter().zip(1..);
        let nodes =
            pairs.map(|(ports, number)| Node::new(format!("n{number}"), *ports, dir.path())).collect::<Vec<_>>();
        assert_eq!(nodes.len(), shape.nodes, "two ports for each node");
        Ok(Self { shape, program, nodes, dir })
    }

    /// Number of nodes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, running or not.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// All nodes, for changes of their fields.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    /// Starts node `node` with the same flags each time. It must not be running.
    ///
    /// # Errors
    /// The program cannot be started, or the node's log cannot be opened.
    pub fn start(&mut self, node: usize) -> Result<(), NodesError> {
        self.start_with(node, None, &[], true)
    }

    /// Starts a node with the flags `more` besides the usual ones. Its standard error goes to `stderr`, or to its log if that is
    /// `None`. Without a process group of its own the node gets the terminal's signals (Ctrl-C), as its parent does.
    ///
    /// # Errors
    /// As for `start`.
    pub fn start_with(
        &mut self,
        node: usize,
        stderr: Option<Stdio>,
        more: &[&str],
        has_own_group: bool,
    ) -> Result<(), NodesError> {
        let arguments = self.arguments(node);
        let program = self.program.clone();
        let target = &mut self.nodes[node];
        assert!(target.child.is_none(), "{} was started already", target.name);
        let log = target.open_log()?;
        let log_too = log.try_clone().map_err(NodesError::io("open", &target.log))?;
        let mut words = target.launcher.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(program.as_os_str()));
        command.args(words).args(arguments).args(more).stdin(Stdio::null()).stdout(log);
        command.stderr(stderr.unwrap_or_else(|| log_too.into()));
        if has_own_group {
            // Ctrl-C in the terminal then reaches only the parent, which stops its nodes in order.
            command.process_group(0);
        }
        // These variables are settings of a node, too. Only the flags above are to count.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(name);
        }
        target.child = Some(command.spawn().map_err(NodesError::io("start", &program))?);
        Ok(())
    }

    /// Kills node `node` with SIGKILL and waits until it is gone. Does nothing if it is not started. It is an error if the node had
    /// ended by itself, as in `check`: it must not pass for a node that was killed.
    ///
    /// # Errors
    /// It could not be killed, or had ended before.
    pub fn kill(&mut self, node: usize) -> Result<(), NodesError> {
        let target = &mut self.nodes[node];
        let Some(mut child) = target.child.take() else { return Ok(()) };
        let killed = child.kill().and_then(|()| child.wait());
        let status = killed.map_err(|source| NodesError::Kill { name: target.name.clone(), source })?;
        if status.signal() == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        Err(NodesError::NodeDied { name: target.name.clone(), status, log_tail: target.log_tail() })
    }

    /// All lines of all nodes' logs that contain `text`, each with its node's name in front.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn lines_with(&self, text: &str) -> Result<Vec<String>, NodesError> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let log = fs::read(&node.log).map_err(NodesError::io("read", &node.log))?;
            let log = String::from_utf8_lossy(&log);
            let lines = log.lines().filter(|line| line.contains(text));
            found.extend(lines.map(|line| format!("{}: {line}", node.name)));
        }
        Ok(found)
    }

    /// Fails if a node ended by itself. The error holds the end of its log. Each such end is reported once.
    ///
    /// # Errors
    /// A node died, or cannot be watched.
    pub fn check(&mut self) -> Result<(), NodesError> {
        for node in &mut self.nodes {
            if let Some(status) = node.ended()? {
                return Err(NodesError::NodeDied { name: node.name.clone(), status, log_tail: node.log_tail() });
            }
        }
        Ok(())
    }

    /// Asks all running nodes to stop and waits for them. Returns a complaint about each that had to be killed or ended badly.
    pub fn stop(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        for node in &mut self.nodes {
            node.signal(Signal::TERM);
        }
        let deadline = Instant::now() + STOP_WITHIN;
        for node in &mut self.nodes {
            if let Some(child) = node.child.take() {
                complaints.extend(stop_by(deadline, child).map(|complaint| format!("{} {complaint}", node.name)));
            }
        }
        complaints
    }

    /// Where each node serves clients, as `host:port`.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client_address().to_owned()).collect()
    }

    /// Directory of all nodes.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The last lines of every node's log, for a failure that concerns more than one node.
    #[must_use]
    pub fn log_tails(&self) -> String {
        self.nodes.iter().map(|node| format!("--- {}\n{}\n", node.log.display(), node.log_tail())).collect()
    }

    fn arguments(&self, node: usize) -> Vec<String> {
        let own = &self.nodes[node];
        let members = self.nodes.iter().flat_map(|node| node.peer_urls().map(|url| format!("{}={url}", node.name)));
        let members: Vec<String> = members.collect();
        let peer_urls: Vec<&str> = own.peer_urls().collect();
        let flags = [
            ("--name", own.name.clone()),
            ("--data-dir", own.data_dir.display().to_string()),
            ("--listen-client-urls", own.client_url.clone()),
            ("--advertise-client-urls", own.advertised.as_ref().unwrap_or(&own.client_url).clone()),
            ("--listen-peer-urls", own.peer_url.clone()),
            ("--initial-advertise-peer-urls", peer_urls.join(",")),
            ("--initial-cluster", members.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
            ("--shards", self.shape.shards.to_string()),
            ("--cores", self.shape.cores.to_string()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        std::iter::once("start".to_owned()).chain(flags).chain(self.shape.flags.iter().cloned()).collect()
    }
}

impl Index<usize> for Nodes {
    type Output = Node;

    fn index(&self, node: usize) -> &Node {
        &self.nodes[node]
    }
}

impl IndexMut<usize> for Nodes {
    fn index_mut(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
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
    fn new(name: String, [client_port, peer_port]: [u16; 2], dir: &Path) -> Self {
        let url = |port| format!("http://{}", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        Self {
            client_url: url(client_port),
            peer_url: url(peer_port),
            dead_peer_url: None,
            advertised: None,
            launcher: Vec::new(),
            data_dir: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            name,
            client_port,
            peer_port,
            child: None,
        }
    }

    /// Gives the node a network of its own, from its next start on.
    pub fn move_to(&mut self, place: Place) {
        self.client_url = format!("http://{}", SocketAddr::new(place.host, self.client_port));
        self.peer_url = format!("http://{}", SocketAddr::new(place.host, self.peer_port));
        self.launcher = place.launcher;
    }

    /// Host and port at which it serves clients.
    #[must_use]
    pub fn client_address(&self) -> &str {
        self.client_url.trim_start_matches("http://")
    }

    /// Host and port at which it serves peers.
    #[must_use]
    pub fn peer_address(&self) -> &str {
        self.peer_url.trim_start_matches("http://")
    }

    /// Whether it was started and has neither been killed nor been seen to end.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id, while `is_started`.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal, if it was started.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // This fails only if the child has ended. Whoever waits for the child sees that.
            let _ = kill_process(pid, signal);
        }
    }

    /// Its exit status, if it has ended by itself. Only the first call after the end returns it; then the node is not started any more.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, NodesError> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait().map_err(NodesError::io("watch", &self.log))?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Its whole log; empty if the log cannot be read.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read(&self.log).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn peer_urls(&self) -> impl Iterator<Item = &str> {
        self.dead_peer_url.iter().chain([&self.peer_url]).map(String::as_str)
    }

    fn open_log(&self) -> Result<File, NodesError> {
        OpenOptions::new().create(true).append(true).open(&self.log).map_err(NodesError::io("open", &self.log))
    }

    fn log_tail(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => tail_lines(&String::from_utf8_lossy(&bytes), LOG_TAIL_LINES),
            Err(error) => format!("(cannot read {}: {error})", self.log.display()),
        }
    }
}

impl NodesDir {
    fn path(&self) -> &Path {
        match self {
            Self::Removed(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

/// Finds `count` different loopback ports on which nobody listens.
///
/// The ports lie below the range from which the system takes ports for outgoing connections. Otherwise a client or a peer that keeps
/// trying to reach a killed node would sooner or later get that node's port as its own, connect to itself, and keep the node from
/// coming back. This process tries such a port again only after it has tried all of them. If too few of them are free, the system
/// chooses the rest.
fn free_ports(count: usize) -> Result<Vec<u16>, NodesError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing = range.split_ascii_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768);
    let width = u32::saturating_sub(outgoing, PORT_MIN);
    // Processes begin their search at different ports, so that two that run at once seldom try the same.
    let start = std::process::id().wrapping_mul(97);
    let below = (0..width).map(|_| PORT_MIN + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % width);
    let mut ports = BTreeSet::new();
    // Held until all are chosen, so that the system chooses none twice.
    let mut held = Vec::with_capacity(count);
    for port in below.chain(std::iter::repeat_n(0, count)).filter_map(|port| u16::try_from(port).ok()) {
        if ports.len() == count {
            break;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            ports.insert(listener.local_addr().map_err(|source| NodesError::Ports { source })?.port());
            held.push(listener);
        }
    }
    if ports.len() < count {
        return Err(NodesError::Ports { source: io::ErrorKind::AddrInUse.into() });
    }
    assert!(!ports.contains(&0), "a port that is bound has a number");
    Ok(ports.into_iter().collect())
}

/// Waits for `child` until `deadline`, then kills it. Returns a complaint unless it ended in time and with success.
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

    fn create(parent: &Path, keep: bool) -> Nodes {
        let shape = Shape { nodes: 3, shards: 2, cores: 1, flags: vec!["--flag".to_owned(), "value".to_owned()] };
        Nodes::create(PathBuf::from("sh"), shape, parent, keep).expect("created")
    }

    #[test]
    fn flags_are_etcds_and_the_same_at_each_start() {
        let parent = tempfile::tempdir().expect("a directory");
        let nodes = create(parent.path(), false);
        let arguments = nodes.arguments(1);
        assert_eq!(arguments, nodes.arguments(1));
        assert_eq!(arguments.first().map(String::as_str), Some("start"));
        let value_of = |flag: &str| {
            let at = arguments.iter().position(|argument| argument == flag).expect(flag);
            arguments[at + 1].clone()
        };
        assert_eq!((value_of("--name"), value_of("--shards")), ("n2".to_owned(), "2".to_owned()));
        assert_eq!(value_of("--flag"), "value");
        assert_eq!(value_of("--initial-cluster").split(',').count(), 3);
        assert!(value_of("--initial-cluster").contains(&format!("n2={}", value_of("--listen-peer-urls"))));
        assert!(value_of("--advertise-client-urls").ends_with(&nodes.endpoints()[1]));
    }

    #[test]
    fn ports_are_different() {
        // That they were free is `free_ports`' own check; whether they still are is up to whoever else runs here.
        let ports = [free_ports(6).expect("ports"), free_ports(6).expect("ports")].concat();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 12);
        assert!(!ports.contains(&0));
    }

    #[test]
    fn the_directory_goes_with_the_nodes_unless_it_is_kept() {
        let parent = tempfile::tempdir().expect("a directory");
        let entries = || fs::read_dir(parent.path()).expect("readable").count();
        drop(create(parent.path(), false));
        assert_eq!(entries(), 0);
        drop(create(parent.path(), true));
        assert_eq!(entries(), 1);
    }

    /// A child that runs `script`, as node 0.
    fn with_child(script: &str) -> (TempDir, Nodes) {
        let parent = tempfile::tempdir().expect("a directory");
        let mut nodes = create(parent.path(), false);
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
        assert!(matches!(nodes.kill(0), Err(NodesError::NodeDied { .. })));
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
