//! `quorate bench`: measures a running cluster from a client's side.
//!
//! The load itself, and what is reported, are the `bench` library's; `docs/bench.md` says how each figure is measured.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench::cluster::ClusterConnector;
use bench::failures::FailureCounts;
use bench::keys::{KEY_SPACE_MAX, KeyPlan};
use bench::limits::SHOW_EVERY;
use bench::live::LiveView;
use bench::load::{Load, LoadError, LoadOptions, LoadOutcome};
use bench::report::PutReport;
use serde::Serialize;
use thiserror::Error;

use super::interrupt::Interrupt;
use super::load::LoadArgs;
use super::outlet::{JsonArgs, WriteError};
use crate::args::GlobalArgs;

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
    #[command(flatten)]
    json: JsonArgs,
}

/// The result, as programs read it.
#[derive(Serialize)]
struct Measured<'a> {
    #[serde(flatten)]
    report: &'a PutReport,
    /// True if a signal ended the measurement early.
    interrupted: bool,
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
    Runtime(io::Error),
    /// Signals cannot be taken.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// A signal came before the first write.
    #[error("interrupted before the first write")]
    Interrupted,
    /// The cluster took no write at all.
    #[error("no write was acknowledged{}", example(.failures))]
    Nothing {
        /// What it said instead.
        failures: FailureCounts,
    },
    /// Some writes failed.
    #[error("{} of {} writes failed{}", .failures.total(), .acknowledged + .failures.total(), example(.failures))]
    Failures {
        /// Writes that were acknowledged.
        acknowledged: u64,
        /// What was said of the others.
        failures: FailureCounts,
    },
}

fn example(failures: &FailureCounts) -> String {
    failures.lines().first().map(|line| format!(": {line}")).unwrap_or_default()
}

/// Measures the cluster and prints the result. A signal ends the measurement early; the result is printed all the same.
///
/// # Errors
/// The cluster cannot be reached, writes failed, or the result cannot be written.
pub fn run(args: &Args, global: &GlobalArgs) -> Result<ExitCode, BenchError> {
    let Workload::Put(put) = &args.workload;
    let outlet = put.json.open(global.write_out)?;
    let interrupt = Interrupt::register().map_err(BenchError::Signals)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Runtime)?;
    let options = put.load_options();
    let endpoints = global.endpoint_texts();
    let outcome = runtime.block_on(drive(put, &options, &endpoints, &interrupt))?;
    let report = PutReport::new(endpoints.len(), put.key_space, &options, &outcome);
    let mut failures = outcome.drain.failures.clone();
    outcome.phases.iter().for_each(|phase| failures.merge(&phase.failures));
    let exit_code = interrupt.exit_code();
    if exit_code.is_some() {
        eprintln!(
            "note: interrupted after {:.1} of {} s; this is what was measured until then",
            report.seconds, put.seconds
        );
    }
    outlet.finish(&Measured { report: &report, interrupted: exit_code.is_some() }, || {
        outcome.phases.first().map(|measured| report.text(&measured.latency, &failures)).unwrap_or_default()
    })?;
    verdict(&report, failures).map(|()| exit_code.unwrap_or(ExitCode::SUCCESS))
}

/// Fails if a write was not acknowledged. Writes that were in flight at the end count, too.
fn verdict(report: &PutReport, failures: FailureCounts) -> Result<(), BenchError> {
    match report.acknowledged + report.acknowledged_after_end {
        0 => Err(BenchError::Nothing { failures }),
        acknowledged if failures.total() > 0 => Err(BenchError::Failures { acknowledged, failures }),
        _ => Ok(()),
    }
}

async fn drive(
    put: &PutArgs,
    options: &LoadOptions,
    endpoints: &[String],
    interrupt: &Interrupt,
) -> Result<LoadOutcome, BenchError> {
    let timeout = Duration::from_millis(put.timeout_ms);
    let connector =
        ClusterConnector { endpoints: endpoints.to_vec(), request_timeout: timeout, connect_timeout: timeout };
    let total = Duration::from_secs(put.seconds);
    let load = tokio::select! {
        load = Load::start(options.clone(), connector) => load?,
        () = interrupt.wait() => return Err(BenchError::Interrupted),
    };
    let mut live = LiveView::new(total, true);
    let deadline = load.origin() + total;
    while !interrupt.came() {
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
