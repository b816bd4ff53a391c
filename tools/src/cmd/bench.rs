//! `quorate bench`: measures a running cluster from a client's side.
//!
//! The load itself, and what is reported, are the `bench` library's; `docs/bench.md` says how each figure is measured.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bench::cluster::ClusterConnector;
use bench::failures::FailureCounts;
use bench::keys::{KEY_SPACE_MAX, KeyPlan};
use bench::limits::SHOW_EVERY;
use bench::live::LiveView;
use bench::load::{Load, LoadError, LoadOptions, LoadOutcome};
use bench::report::PutReport;
use thiserror::Error;

use super::load::{LoadArgs, WriteError, check_writable, write_json};

/// Flags of `quorate bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    workload: Workload,
}

/// What to measure.
#[derive(clap::Subcommand, Clone, Debug)]
enum Workload {
    /// Puts, in a closed loop: a fixed number is in flight at any time
    Put(PutArgs),
}

/// Flags of `quorate bench put`.
#[derive(clap::Args, Clone, Debug)]
struct PutArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Length of each value, in bytes
    #[arg(long, default_value_t = 256)]
    value_bytes: u32,
    /// Number of keys to write to, chosen at random; 0 gives each write a key of its own
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(0..=KEY_SPACE_MAX))]
    key_space: u64,
    /// Seconds to measure; there is no warm-up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seed of the keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds a write may take before its outcome counts as unknown
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Why a measurement failed.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The load could not be started or did not end well.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The result could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No runtime.
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::Error),
    /// The cluster took no write at all.
    #[error("no write was acknowledged{}", example(.failures))]
    Nothing {
        /// What it said instead.
        failures: FailureCounts,
    },
}

fn example(failures: &FailureCounts) -> String {
    failures.lines().first().map(|line| format!(": {line}")).unwrap_or_default()
}

/// Measures the cluster at `endpoints` and prints the result.
///
/// # Errors
/// The cluster cannot be reached, took no write at all, or the result cannot be written.
pub fn run(args: &Args, endpoints: &[String]) -> Result<(), BenchError> {
    let Workload::Put(put) = &args.workload;
    if let Some(file) = &put.json {
        check_writable(file)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Runtime)?;
    let options = put.load_options();
    let outcome = runtime.block_on(drive(put, &options, endpoints))?;
    let report = PutReport::new(endpoints.len(), put.key_space, &options, &outcome);
    if let Some(file) = &put.json {
        write_json(file, &report)?;
    }
    let mut failures = outcome.drain.failures.clone();
    outcome.phases.iter().for_each(|phase| failures.merge(&phase.failures));
    if let Some(measured) = outcome.phases.first() {
        print!("{}", report.text(&measured.latency, &failures));
    }
    if report.acknowledged == 0 { Err(BenchError::Nothing { failures }) } else { Ok(()) }
}

async fn drive(put: &PutArgs, options: &LoadOptions, endpoints: &[String]) -> Result<LoadOutcome, BenchError> {
    let timeout = Duration::from_millis(put.timeout_ms);
    let connector =
        ClusterConnector { endpoints: endpoints.to_vec(), request_timeout: timeout, connect_timeout: timeout };
    let total = Duration::from_secs(put.seconds);
    let load = Load::start(options.clone(), connector).await?;
    let mut live = LiveView::new(total);
    let deadline = load.origin() + total;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(SHOW_EVERY)).await;
        live.show(load.origin().elapsed(), load.progress(), "");
    }
    let outcome = load.finish().await?;
    live.finish();
    Ok(outcome)
}

impl PutArgs {
    fn load_options(&self) -> LoadOptions {
        let keys = match self.key_space {
            0 => KeyPlan::Sequential,
            key_space => KeyPlan::Random { key_space },
        };
        LoadOptions {
            outstanding: self.load.outstanding(),
            connections: self.load.connections(),
            threads: self.load.threads(),
            value_bytes: self.value_bytes as usize,
            keys,
            seed: self.seed,
            phases: 1,
        }
    }
}
