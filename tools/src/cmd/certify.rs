//! `quorate certify`: real nodes on file systems that lose their power (`powerfs`), again and again, while recorded clients write and
//! read; then the history is judged.
//!
//! The disks are simulated where it matters: what a sync promises, and what is left without one. Bytes lie in files of the directory that
//! was named, so the host's speed, space and errors are its own; whether the host's disk keeps what it synced is not tested. Faults
//! other than power cuts are `chaos`'s.

mod host;
mod rack;
mod round;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::nodes::NodesError;
use indicatif::{ProgressBar, ProgressStyle};
use powerfs::Remains;
use serde::Serialize;

use self::round::{Round, Tally};
use super::demo::{DemoError, own_program, own_token, register_signals, until_set};
use super::outlet::{JsonArgs, Outlet, WriteError};
use super::power::PowerError;
use crate::args::WriteOut;
use crate::output::{figures, terminal_columns};

use crate::limits::{CHAOS_SEGMENT_BYTES, CUTS_PER_ROUND, SPINNER_EVERY};

/// Flags of `quorate certify`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Directory on the disk that the nodes' files are to lie on
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How often the power is cut
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    cuts: u32,
    /// Chooses moments, victims, what is left and operations; without it a fresh one
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Nodes to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    nodes: u8,
    /// Clients, each with one operation at a time
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    clients: u8,
    /// Keys that they fight over
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u8).range(1..=200))]
    keys: u8,
    /// Keep the nodes' logs and files
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    json: JsonArgs,
    /// This process has mounts of its own
    #[arg(long, hide = true)]
    inside_mounts: bool,
    /// More flags of `quorate start`, behind `--`
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

/// Why power cuts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The host lacks something, or this user may not use it.
    #[error("power cuts cannot be had here: {0}")]
    Host(String),
    /// The power could not be cut.
    #[error(transparent)]
    Power(#[from] PowerError),
    /// Nodes could not be started or stopped.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// What it shares with the demo failed, or a signal ended it.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The figures could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No runtime for the clients.
    #[error("cannot start a runtime: {0}")]
    Runtime(io::Error),
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Summary {
    seed: u64,
    nodes: u8,
    host: String,
    cuts: u32,
    clusters: u32,
    cuts_of_all_nodes: u32,
    cuts_while_starting: u32,
    acknowledged: u64,
    unknown: u64,
    refused: u64,
    read_back: u64,
    sectors_kept: u64,
    sectors_lost: u64,
    names_kept: u64,
    names_lost: u64,
    search_gave_up: u32,
    violation: Option<String>,
}

/// Runs it.
///
/// # Errors
/// It could not be run. A violation is an exit code.
pub fn run(args: &Args, form: WriteOut) -> Result<ExitCode, CertifyError> {
    host::check(&args.dir)?;
    if !args.inside_mounts {
        return Err(host::run_again());
    }
    let outlet = args.json.open(form)?;
    let interrupted = register_signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CertifyError::Runtime)?.block_on(async {
        tokio::select! {
            outcome = run_rounds(args, &outlet) => outcome,
            // Dropping the rack stops the nodes and takes the file systems away.
            () = until_set(&interrupted) => Err(DemoError::Interrupted.into()),
        }
    })
}

async fn run_rounds(args: &Args, outlet: &Outlet) -> Result<ExitCode, CertifyError> {
    let since_start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(since_start.as_secs());
    let host = host::describe(&args.dir);
    outlet.tell(&format!("seed {seed}; {} nodes, images in {} ({host})", args.nodes, args.dir.display()))?;
    let progress = progress_bar(args.cuts);
    let mut total = Tally::default();
    let mut clusters = 0;
    while total.cuts < args.cuts && total.violation.is_none() {
        let round = Round {
            seed: wal::random::SplitMix64::of_stream(seed, clusters.into()).next_u64(),
            cuts: CUTS_PER_ROUND.min(args.cuts - total.cuts),
            nodes: args.nodes,
            clients: args.clients,
            keys: args.keys,
            program: own_program()?,
            flags: flags(args),
            dir: args.dir.clone(),
            keep: args.keep,
            history: args.dir.join(format!("quorate-certify-{seed}.history")),
        };
        clusters += 1;
        let tally = round.run(&progress).await?;
        progress.suspend(|| outlet.tell(&format!("cluster {clusters}: {}", tally.line())))?;
        total.add(tally);
    }
    progress.finish_and_clear();
    report(outlet, &summary(args, seed, host, clusters, total))
}

/// The flags of each node. What the user says comes in the place of what stands here.
fn flags(args: &Args) -> Vec<String> {
    let mut flags = own_token();
    // A segment holds at least four requests of the largest size.
    for (flag, bytes) in [("--segment-bytes", CHAOS_SEGMENT_BYTES), ("--max-request-bytes", CHAOS_SEGMENT_BYTES / 4)] {
        let is_said = |said: &String| said == "--segment-bytes" || said.starts_with("--segment-bytes=");
        if !args.flags.iter().any(is_said) && !args.flags.iter().any(|said| said.starts_with(flag)) {
            flags.extend([flag.to_owned(), bytes.to_string()]);
        }
    }
    flags.extend(args.flags.iter().cloned());
    flags
}

fn progress_bar(cuts: u32) -> ProgressBar {
    let progress = ProgressBar::new(cuts.into());
    let style = ProgressStyle::with_template("{spinner} {elapsed} {pos} of {len} cuts  {msg}");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.enable_steady_tick(SPINNER_EVERY);
    progress
}

fn summary(args: &Args, seed: u64, host: String, clusters: u32, total: Tally) -> Summary {
    let Remains { sectors_kept, sectors_lost, names_kept, names_lost } = total.remains;
    Summary {
        seed,
        nodes: args.nodes,
        host,
        cuts: total.cuts,
        clusters,
        cuts_of_all_nodes: total.cuts_of_all_nodes,
        cuts_while_starting: total.cuts_while_starting,
        acknowledged: total.acknowledged,
        unknown: total.unknown,
        refused: total.refused,
        read_back: total.read_back,
        sectors_kept,
        sectors_lost,
        names_kept,
        names_lost,
        search_gave_up: total.search_gave_up,
        violation: total.violation,
    }
}

fn report(outlet: &Outlet, summary: &Summary) -> Result<ExitCode, CertifyError> {
    outlet.finish(summary, || summary_text(summary))?;
    let Some(violation) = &summary.violation else { return Ok(ExitCode::SUCCESS) };
    outlet.tell(&format!("VIOLATION after {} cuts: {violation}", summary.cuts))?;
    Ok(ExitCode::FAILURE)
}

fn summary_text(summary: &Summary) -> String {
    let mut rows = Vec::new();
    let mut row = |what: &str, figure: String| rows.push((what.to_owned(), figure));
    row("seed", summary.seed.to_string());
    row("host", summary.host.clone());
    row("power cuts", format!("{} in {} clusters", summary.cuts, summary.clusters));
    row("of all nodes at once", summary.cuts_of_all_nodes.to_string());
    row("while nodes were starting", summary.cuts_while_starting.to_string());
    let sectors = format!("{} kept, {} lost", summary.sectors_kept, summary.sectors_lost);
    row("sectors of 512 B not synced at a cut", sectors);
    row("names not synced at a cut", format!("{} kept, {} lost", summary.names_kept, summary.names_lost));
    row("operations acknowledged and judged", summary.acknowledged.to_string());
    row("of unknown outcome", summary.unknown.to_string());
    row("refused", summary.refused.to_string());
    row("answers read back from the nodes at the end", summary.read_back.to_string());
    row("histories too large for the second judge", summary.search_gave_up.to_string());
    row("lost or otherwise wrong", summary.violation.as_ref().map_or("0", |_| "SEE BELOW").to_owned());
    figures(rows, terminal_columns()) + "\nnot tested: whether the host's own disk keeps what it synced\n"
}
