//! `quorate demo`: a cluster on this machine that loses its leader under load and loses no write.
//!
//! Starts nodes as separate processes in a fresh directory, drives writes, kills the leader half way, restarts it, waits
//! until it has caught up, reads every acknowledged write back from every node, and stops everything it started. What it
//! reports, and how each figure is measured, is in `docs/bench.md`.

mod host;
mod observer;
mod report;
mod story;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench::keys::TRACKED_VALUE_BYTES_MIN;
use bench::live::LiveView;
use bench::load::{LoadError, LoadOutcome};
use bench::nodes::{Nodes, NodesError, Shape};
use bench::verify::ReadBackError;
use thiserror::Error;

use self::observer::Observer;
use self::report::{DemoReport, Observed, Setup};
use self::story::Story;
use super::load::LoadArgs;
use super::outlet::{JsonArgs, Outlet, WriteError};

use crate::args::WriteOut;
use crate::limits::SIGNAL_POLL;

/// Flags of `quorate demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Seconds to write for; the leader is killed after half of them and restarted after seven tenths
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: u64,
    /// Nodes to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    #[command(flatten)]
    load: LoadArgs,
    /// Length of each value, in bytes
    #[arg(long, default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(TRACKED_VALUE_BYTES_MIN as i64..=1_048_576))]
    value_bytes: u32,
    /// Shards (Raft groups) of the cluster
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Executors (threads) of each node
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    cores: u32,
    #[command(flatten)]
    json: JsonArgs,
    /// Directory to create the demo's own directory in [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the nodes' data and logs
    #[arg(long)]
    keep: bool,
}

/// Why the demo failed.
#[derive(Debug, Error)]
pub enum DemoError {
    /// A file, directory or program could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The result could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The disk is too small for what may be written.
    #[error(
        "{} has {free_mib} MiB free and the demo may need {needed_mib} MiB; use --dir for a directory on a larger disk, \
         or fewer --seconds", dir.display()
    )]
    DiskSpace {
        /// Where the demo would run.
        dir: PathBuf,
        /// Free space.
        free_mib: u64,
        /// Space the nodes may fill.
        needed_mib: u64,
    },
    /// The nodes could not be started, watched or killed, or one died.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The nodes did not become a cluster.
    #[error("the nodes did not agree on a leader within {within_s} s; their logs end with:\n{logs}")]
    NotReady {
        /// Time given.
        within_s: u64,
        /// The last lines of all logs.
        logs: String,
    },
    /// Nobody leads at the moment when the leader is to be killed.
    #[error("no node leads shard 0 at half time, so there is no leader to kill")]
    NoLeader,
    /// A node did not catch up.
    #[error("the nodes did not apply the same within {within_s} s ({applied}); their logs end with:\n{logs}")]
    NotLevel {
        /// Time given.
        within_s: u64,
        /// Applied indexes by shard and node.
        applied: String,
        /// The last lines of all logs.
        logs: String,
    },
    /// The load failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The writes could not be read back.
    #[error(transparent)]
    Verify(#[from] ReadBackError),
    /// A client could not connect.
    #[error("cannot connect to the nodes: {0}")]
    Connect(#[from] client::ClientError),
    /// A node did not stop as it should.
    #[error("not everything stopped as it should: {complaints}")]
    Stop {
        /// What each did instead.
        complaints: String,
    },
    /// Acknowledged writes cannot be read back.
    #[error("{lost} acknowledged writes cannot be read back from every node")]
    Lost {
        /// How many.
        lost: u64,
    },
    /// A node holds rows it must not hold.
    #[error("{unexpected} rows are there that were refused, or that nobody wrote")]
    Unexpected {
        /// How many.
        unexpected: u64,
    },
    /// A signal ended the demo.
    #[error("interrupted; the nodes are stopped")]
    Interrupted,
}

impl DemoError {
    fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }
}

/// Runs the demo and prints its story and result; for people the last line on standard output is `lost: N`.
///
/// # Errors
/// Anything that went wrong, a lost write above all. Whatever it is, all nodes are stopped.
pub fn run(args: &Args, form: WriteOut) -> Result<(), DemoError> {
    let interrupted = register_signals()?;
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let outlet = args.json.open(form)?;
    for note in host::check(&parent, &args.plan())? {
        eprintln!("{note}");
    }
    let setup = args.setup();
    let shape = Shape { nodes: setup.nodes, shards: setup.shards, cores: setup.cores, flags: own_token() };
    let mut nodes = Nodes::create(own_program()?, shape, &parent, args.keep)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|source| DemoError::io("start a runtime in", Path::new("this process"), source))?;
    let (observed, outcome) = runtime.block_on(async {
        let story = new_story(&setup, &mut nodes, args.load.threads(), &outlet);
        tokio::select! {
            told = story.run() => told,
            () = until_set(&interrupted) => Err(DemoError::Interrupted),
        }
    })?;
    let complaints = nodes.stop();
    if args.keep {
        outlet.tell(&format!("data and logs are kept in {}", nodes.dir().display()))?;
    }
    conclude(&outlet, &setup, &observed, &outcome, &complaints)
}

fn new_story<'a>(setup: &'a Setup, nodes: &'a mut Nodes, threads: usize, outlet: &Outlet) -> Story<'a> {
    let observer = Observer::new(nodes.endpoints());
    let live = LiveView::new(Duration::from_secs(setup.seconds), outlet.is_for_people());
    Story { setup, nodes, observer, threads, live, observed: Observed::default() }
}

/// Prints and writes the result, and turns what is not as it should be into an error.
fn conclude(
    outlet: &Outlet,
    setup: &Setup,
    observed: &Observed,
    outcome: &LoadOutcome,
    complaints: &[String],
) -> Result<(), DemoError> {
    let report = DemoReport::new(setup, observed, outcome);
    outlet.finish(&report, || report.text(observed, outcome) + "\n")?;
    if observed.lost > 0 {
        return Err(DemoError::Lost { lost: observed.lost });
    }
    if observed.unexpected > 0 {
        return Err(DemoError::Unexpected { unexpected: observed.unexpected });
    }
    if !complaints.is_empty() {
        return Err(DemoError::Stop { complaints: complaints.join("; ") });
    }
    Ok(())
}

impl Args {
    fn setup(&self) -> Setup {
        Setup {
            nodes: usize::from(self.nodes),
            shards: self.shards,
            cores: self.cores,
            seconds: self.seconds,
            outstanding: self.load.outstanding(),
            connections: self.load.connections(),
            value_bytes: self.value_bytes as usize,
        }
    }

    fn plan(&self) -> host::Plan {
        host::Plan {
            nodes: u64::from(self.nodes),
            shards: u64::from(self.shards),
            seconds: self.seconds,
            value_bytes: u64::from(self.value_bytes),
        }
    }
}

/// This program, which is the server, too.
pub(in crate::cmd) fn own_program() -> Result<PathBuf, DemoError> {
    let program = std::env::current_exe();
    program.map_err(|source| DemoError::io("find the program of", Path::new("this process"), source))
}

/// Flags that keep the nodes of one run apart from those of another.
pub(in crate::cmd) fn own_token() -> Vec<String> {
    vec!["--initial-cluster-token".to_owned(), format!("quorate-demo-{}", std::process::id())]
}

/// A flag that SIGINT, SIGTERM and SIGHUP set.
pub(in crate::cmd) fn register_signals() -> Result<Arc<AtomicBool>, DemoError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|source| DemoError::io("handle signals of", Path::new("this process"), source))?;
    }
    Ok(flag)
}

pub(in crate::cmd) async fn until_set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(SIGNAL_POLL).await;
    }
}
