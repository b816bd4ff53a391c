//! Replays written scenes and compares what happens with what was written down.
//!
//! `testdata/raft_*.txt` hold blocks: commands, a line `----`, and what they caused, up to an empty line. Run with
//! `QUORATE_REWRITE=1` to write down what happens now; then read the difference before committing it.

use std::fmt::Write as _;
use std::path::PathBuf;

use engine::raft::{Config, HardState, LogView, Message};
use engine::types::Term;

use crate::cluster::{Cluster, config, node_id};
use crate::sim_log::SimLog;
use crate::trace::role_name;

#[test]
fn election() {
    check("election");
}

#[test]
fn pre_vote_of_a_partitioned_node() {
    check("pre_vote");
}

#[test]
fn conflict_repair_with_hints() {
    check("conflict_repair");
}

#[test]
fn pipelining_window() {
    check("pipelining");
}

#[test]
fn parallel_leader_disk() {
    check("parallel_disk");
}

#[test]
fn failover_after_a_broken_connection() {
    check("failover");
}

#[test]
fn read_index() {
    check("read_index");
}

#[test]
fn lost_messages_and_slow_disks() {
    check("lost_or_slow");
}

#[test]
fn leadership_transfer() {
    check("transfer");
}

/// Replays one file.
fn check(name: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "testdata", &format!("raft_{name}.txt")].iter().collect();
    let expected = std::fs::read_to_string(&path).expect("the transcript exists");
    let actual = replay(&expected);
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        std::fs::write(&path, &actual).expect("the transcript can be written");
        return;
    }
    let differs = expected.lines().zip(actual.lines()).position(|(expected, actual)| expected != actual);
    if expected != actual {
        let line = differs.unwrap_or(0) + 1;
        panic!("{} differs from line {line} on; what happens now:\n{actual}", path.display());
    }
}

/// The transcript with what happens now in place of what was written down.
fn replay(transcript: &str) -> String {
    let mut scene = Scene::default();
    let mut out = String::new();
    for block in transcript.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        let mut effects = String::new();
        for command in &commands {
            out.push_str(command);
            out.push('\n');
            if !command.starts_with('#') {
                scene.run(command, &mut effects);
            }
        }
        if commands.iter().any(|command| !command.starts_with('#')) {
            write!(out, "----\n{}", if effects.is_empty() { "nothing\n" } else { &effects })
                .expect("a string takes it");
        }
    }
    out
}

#[derive(Default)]
struct Scene {
    cluster: Option<Cluster>,
    quiet: bool,
}

impl Scene {
    /// Runs one command and appends what it caused.
    fn run(&mut self, command: &str, effects: &mut String) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (name, arguments) = words.split_first().expect("a command");
        match *name {
            "cluster" => {
                self.cluster = Some(make_cluster(arguments));
                effects.push_str("ok\n");
            }
            "quiet" => self.quiet = true,
            "loud" => self.quiet = false,
            _ => {
                let cluster = self.cluster.as_mut().expect("a cluster was made first");
                cluster.trace.is_on = true;
                run_in(cluster, name, arguments);
                let lines = cluster.trace.take();
                if !self.quiet {
                    effects.push_str(&lines);
                }
            }
        }
    }
}

/// `cluster 3 election_ticks=10 log1=1,1,2 term1=2 ...`
fn make_cluster(arguments: &[&str]) -> Cluster {
    let voters = number(arguments[0]);
    let mut settings: Config = config(voters);
    let mut logs = vec![SimLog::default(); usize::try_from(voters).expect("small")];
    for argument in &arguments[1..] {
        let (key, value) = argument.split_once('=').expect("key=value");
        match key {
            "inflight_messages" => settings.inflight_messages_limit = usize::try_from(number(value)).expect("small"),
            "append_bytes" => settings.append_bytes_limit = number(value),
            "preferred" => settings.preferred_leader = Some(node_id(number(value))),
            "seed" => settings.seed = number(value),
            log if log.starts_with("log") => {
                let terms: Vec<u64> = value.split(',').map(number).collect();
                let term = Term::new(*terms.last().expect("a term"));
                let at = usize::try_from(number(&log[3..])).expect("small") - 1;
                logs[at] = SimLog::with_terms(&terms, HardState { term, vote: None });
            }
            _ => panic!("unknown setting {key}"),
        }
    }
    Cluster::with_logs(settings, logs)
}

fn run_in(cluster: &mut Cluster, name: &str, arguments: &[&str]) {
    let at = |position: usize| usize::try_from(number(arguments[position])).expect("small") - 1;
    let count =
        |position: usize| arguments.get(position).map_or(1, |word| usize::try_from(number(word)).expect("small"));
    match name {
        "tick" => (0..count(1)).for_each(|_| cluster.tick(at(0))),
        "tick-all" => {
            for _ in 0..count(0) {
                (0..cluster.nodes.len()).for_each(|at| cluster.tick(at));
            }
        }
        "timeout" => {
            // A node that asks already goes on asking in its role, so it is the time that ends this.
            const TICKS_MAX: usize = 40;
            let role = cluster.raft(at(0)).role();
            let asked = cluster.network.len();
            for _ in 0..TICKS_MAX {
                if cluster.raft(at(0)).role() != role || cluster.network.len() > asked {
                    break;
                }
                cluster.tick(at(0));
            }
        }
        "elect" => cluster.elect(at(0)),
        "deliver" if arguments.is_empty() => {
            cluster.deliver_all();
        }
        "deliver" => {
            // What is on its way now; answers stay on their way.
            let (from, to) = (node_id(number(arguments[0])), node_id(number(arguments[1])));
            let queued = std::mem::take(&mut cluster.network).into_iter();
            let (now, later): (Vec<_>, Vec<_>) = queued.partition(|packet| packet.from == from && packet.to == to);
            cluster.network = later.into();
            for packet in now {
                cluster.receive(packet);
            }
        }
        "lose" => {
            let (from, to) = (node_id(number(arguments[0])), node_id(number(arguments[1])));
            cluster.network.retain(|packet| packet.from != from || packet.to != to);
        }
        "lose-appends" => {
            let to = node_id(number(arguments[0]));
            cluster.network.retain(|packet| packet.to != to || !matches!(packet.message, Message::AppendEntries(_)));
        }
        "settle" => cluster.settle(),
        "sync" => {
            cluster.sync(at(0));
        }
        "hang-disk" => cluster.nodes[at(0)].disk_hangs = true,
        "propose" => assert!(cluster.propose(at(0), count(1)), "{} takes no proposals", arguments[0]),
        "read" => assert!(cluster.read(at(0)).is_some(), "{} takes no reads", arguments[0]),
        "transfer" => cluster.transfer(at(0), node_id(number(arguments[1]))),
        "isolate" => cluster.isolate(node_id(number(arguments[0]))),
        "heal" => cluster.heal(),
        "crash" => cluster.crash(at(0), 0),
        "restart" => cluster.restart(at(0)),
        "disconnect" => cluster.disconnect(at(0), at(1)),
        "connect" => cluster.connect(at(0), at(1)),
        "status" => status(cluster),
        _ => panic!("unknown command {name}"),
    }
}

fn status(cluster: &mut Cluster) {
    for node in &cluster.nodes {
        let line = match &node.raft {
            None => format!("{}: down", node.id.get()),
            Some(raft) => format!(
                "{}: {} term {} log ends {} persisted {} commit {}",
                node.id.get(),
                role_name(raft.role()),
                raft.term(),
                node.log.last_id(),
                node.log.persisted_index(),
                raft.commit_index()
            ),
        };
        cluster.trace.line(line);
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is not a number"))
}
