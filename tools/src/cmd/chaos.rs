//! `quorate chaos`: real nodes as processes, killed, stopped, damaged, cut off from each other and short of disk, while
//! recorded clients write and read; then the history is judged.
//!
//! It signals only processes that it started, and removes what it created. Networks and disks are the nodes' own (`network`,
//! `disks`); where the machine allows none, the nodes run side by side and those faults are left out, and named as left out.
//! Delays, loss and corruption on the wire and failing syncs are the simulator's (`quorate sim`).

mod disks;
mod faults;
mod lab;
mod nemesis;
mod network;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::status::SHARD_STOPPED;
use bench::namespaces::Namespaces;
use bench::nodes::{Nodes, NodesError, Shape};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::lab::Lab;
use self::nemesis::Nemesis;
use super::demo::{DemoError, own_program, own_token, register_signals, until_set};
use super::outlet::{JsonArgs, Outlet, WriteError};
use super::power::PowerError;
use super::recorded::clients::read_everything;
use super::recorded::{ConvergeError, Shared, converge, join_clients, spawn_clients};
use crate::args::{WriteOut, parse_minutes};
use crate::output::{figures, terminal_columns};

use crate::limits::CHAOS_SEGMENT_BYTES;

/// Flags of `quorate chaos`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Minutes of faults
    #[arg(long, value_name = "M", default_value = "1", value_parser = parse_minutes)]
    minutes: Duration,
    /// Chooses faults and operations; without it a fresh one
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Nodes to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    /// Clients, each with one operation at a time
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    clients: u8,
    /// Keys that they fight over
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u8).range(1..=200))]
    keys: u8,
    /// Directory to create the nodes' directory in
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Keep the nodes' data and logs
    #[arg(long)]
    keep: bool,
    /// Put the nodes on file systems that lose what was not synced, and cut their power, too; `certify` does nothing else
    #[arg(long)]
    power: bool,
    /// Run the nodes side by side: networks are not cut, disks not filled
    #[arg(long)]
    no_namespaces: bool,
    /// Prefix of the namespaces that this process is among
    #[arg(long, hide = true, value_name = "PREFIX")]
    inside_namespaces: Option<String>,
    #[command(flatten)]
    json: JsonArgs,
}

/// Why the chaos test could not run, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// Nodes could not be started or stopped, or one died that nobody killed.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// What it shares with the demo failed, or a signal ended it.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The figures could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The power could not be cut.
    #[error(transparent)]
    Power(#[from] PowerError),
    /// No runtime for the clients.
    #[error("cannot start a runtime: {0}")]
    Runtime(io::Error),
    /// The nodes' networks or disks could not be set up or changed.
    #[error("cannot change the nodes' network or disks: {0}; --no-namespaces runs without them")]
    Lab(String),
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The nodes did not agree.
    #[error(transparent)]
    Converge(#[from] ConvergeError),
}

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Summary {
    seed: u64,
    nodes: u8,
    minutes: f64,
    acknowledged: usize,
    unknown: usize,
    refused: u64,
    faults: BTreeMap<String, u64>,
    /// Faults that this machine does not allow, with the reason.
    not_injected: Vec<String>,
    /// Steps of the search for an order of all operations, if it gave up; the judge by revisions does not.
    search_gave_up_after: Option<u64>,
    violation: Option<String>,
}

/// Runs it.
///
/// # Errors
/// It could not be run, or the nodes did not come back. A violation is an exit code.
pub fn run(args: &Args, form: WriteOut) -> Result<ExitCode, ChaosError> {
    let interrupted = register_signals()?;
    if args.inside_namespaces.is_none() && !args.no_namespaces {
        match Namespaces::create(args.nodes.into()) {
            Ok(namespaces) => return network::run_again(&namespaces, &interrupted).map_err(ChaosError::Lab),
            Err(reason) => eprintln!("note: the nodes run side by side, without namespaces: {reason}"),
        }
    }
    let outlet = args.json.open(form)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ChaosError::Runtime)?.block_on(async {
        tokio::select! {
            outcome = run_nodes(args, &outlet) => outcome,
            // Dropping the nodes stops them.
            () = until_set(&interrupted) => Err(DemoError::Interrupted.into()),
        }
    })
}

async fn run_nodes(args: &Args, outlet: &Outlet) -> Result<ExitCode, ChaosError> {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(since_epoch.as_secs());
    let mut flags = own_token();
    // A segment holds at least four requests of the largest size.
    for (flag, bytes) in [("--segment-bytes", CHAOS_SEGMENT_BYTES), ("--max-request-bytes", CHAOS_SEGMENT_BYTES / 4)] {
        flags.extend([flag.to_owned(), bytes.to_string()]);
    }
    let shape = Shape { nodes: args.nodes.into(), shards: 1, cores: 1, flags };
    let mut nodes = Nodes::create(own_program()?, shape, &args.dir, args.keep)?;
    // Declared after the nodes: its disks are let go before the directory they are in is removed.
    let lab = Lab::set_up(&mut nodes, args.nodes.into(), args.inside_namespaces.as_deref(), args.power)?;
    let mut nemesis = Nemesis::new(seed, args.minutes, lab);
    let shared = Arc::new(Shared::new(&nodes));
    for node in 0..usize::from(args.nodes) {
        nodes.start(node)?;
    }
    converge(&mut nodes, &shared).await?;
    let workers = spawn_clients(&shared, args.clients, seed, args.keys);
    let progress = progress_bar(in_minutes(args));
    nemesis.run(&mut nodes, &shared, &progress).await?;
    shared.is_over.store(true, Ordering::SeqCst);
    join_clients(workers).await;
    progress.set_message("faults have ended; waiting for the nodes to agree");
    converge(&mut nodes, &shared).await?;
    read_everything(&shared, args.keys.into()).await;
    progress.finish_and_clear();
    // A node that does not stop, or a shard that stopped by itself in some life of its node, is a failure like a lost write.
    nodes.stop().into_iter().for_each(|complaint| shared.complain(complaint));
    nodes.lines_with(SHARD_STOPPED)?.into_iter().for_each(|line| shared.complain(line));
    report(args, seed, outlet, &shared, &nemesis)
}

fn in_minutes(args: &Args) -> f64 {
    args.minutes.as_secs_f64() / 60.0
}

fn progress_bar(minutes: f64) -> ProgressBar {
    let progress = ProgressBar::new_spinner();
    let template = format!("{{spinner}} {{elapsed}} of {minutes} min  {{msg}}");
    progress.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}

fn report(args: &Args, seed: u64, outlet: &Outlet, shared: &Shared, nemesis: &Nemesis) -> Result<ExitCode, ChaosError> {
    let (violation, search_gave_up_after) = shared.verdict();
    let (acknowledged, unknown) = shared.counts();
    let summary = Summary {
        seed,
        nodes: args.nodes,
        minutes: in_minutes(args),
        acknowledged,
        unknown,
        refused: shared.refused.load(Ordering::Relaxed),
        faults: nemesis.counts(),
        not_injected: nemesis.lacks(),
        search_gave_up_after,
        violation,
    };
    nemesis.lines().try_for_each(|line| outlet.tell(&line))?;
    outlet.finish(&summary, || summary_text(&summary))?;
    let Some(violation) = summary.violation else { return Ok(ExitCode::SUCCESS) };
    let path = args.dir.join(format!("quorate-chaos-{seed}.history"));
    shared.save(&path).map_err(|source| ChaosError::Io { action: "write", path: path.clone(), source })?;
    outlet.tell(&format!("VIOLATION: {violation}\nthe history is in {}", path.display()))?;
    Ok(ExitCode::FAILURE)
}

fn summary_text(summary: &Summary) -> String {
    let mut rows = Vec::new();
    let mut row = |what: &str, figure: String| rows.push((what.to_owned(), figure));
    row("seed", summary.seed.to_string());
    row("operations answered and judged", summary.acknowledged.to_string());
    row("of unknown outcome", summary.unknown.to_string());
    row("refused", summary.refused.to_string());
    for (fault, count) in &summary.faults {
        row(fault, count.to_string());
    }
    let searched = summary.search_gave_up_after.map_or("yes".to_owned(), |steps| format!("no, after {steps} steps"));
    row("one order of all found by search", if summary.violation.is_some() { "no".to_owned() } else { searched });
    row(
        "lost, not linearizable or otherwise wrong",
        summary.violation.as_ref().map_or("0", |_| "SEE BELOW").to_owned(),
    );
    let lacks = summary.not_injected.iter().map(|reason| format!("not injected: {reason}\n"));
    figures(rows, terminal_columns()) + "\n" + &lacks.collect::<String>()
}
