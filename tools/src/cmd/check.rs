//! `quorate check perf`: whether a cluster keeps up with one of etcdctl's four loads of writes. The answer is yes or no.
//!
//! Rates, numbers of clients, sizes and bounds are etcdctl's (`docs/from-etcd.md`). Each client has one write under way; clients share
//! a few connections. `quorate bench put` measures how much a cluster can do.

mod load;
mod verdict;

use std::io::Write;
use std::time::Duration;

use client::{Client, RangeRequest};

use super::interrupt::Interrupt;
use super::{CommandError, cluster, del};
use crate::args::GlobalArgs;
use crate::args::kv::KeySpan;
use crate::limits::CHECK_CONNECTIONS_MAX;
use crate::output::Printer;
use verdict::Verdict;

/// `check`.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum CheckCommand {
    /// Check whether the cluster keeps up with a load of writes: PASS or FAIL after a minute
    Perf(PerfArgs),
    /// Not built yet
    #[command(hide = true)]
    Datascale {
        /// Any
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
}

/// `check perf`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct PerfArgs {
    /// The load: 150, 1000, 8000 or 15000 writes a second by 50, 200, 500 or 1000 clients
    #[arg(long, value_enum, value_name = "LOAD", default_value = "s")]
    load: Model,
    /// What its keys begin with; there must be none, and they are deleted afterwards
    #[arg(long, value_name = "PREFIX", default_value = "/etcdctl-check-perf/")]
    prefix: String,
    /// How long it writes
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Not built yet
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    auto_compact: Option<bool>,
    /// Not built yet
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    auto_defrag: Option<bool>,
}

/// etcdctl's loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Model {
    /// Small
    #[value(name = "s", alias = "small")]
    Small,
    /// Medium
    #[value(name = "m", alias = "medium")]
    Medium,
    /// Large
    #[value(name = "l", alias = "large")]
    Large,
    /// Largest
    #[value(name = "xl", aliases = ["xLarge", "xlarge"])]
    Largest,
}

impl Model {
    /// Writes a second, and clients that each have one under way.
    pub(crate) fn row(self) -> (u64, usize) {
        match self {
            Self::Small => (150, 50),
            Self::Medium => (1_000, 200),
            Self::Large => (8_000, 500),
            Self::Largest => (15_000, 1_000),
        }
    }
}

/// Runs the check. Returns true if the cluster passed.
///
/// # Errors
/// It could not be run: the cluster cannot be reached, or has keys in its place.
pub(crate) async fn run<W: Write>(
    command: &CheckCommand,
    global: &GlobalArgs,
    printer: &mut Printer<W>,
) -> Result<bool, CommandError> {
    let not_built = |what: &str, why| Err(CommandError::NotBuilt { what: what.to_owned(), why });
    match command {
        CheckCommand::Datascale { words: _ } => {
            not_built("quorate check datascale", "/metrics of a node shows what its state takes")
        }
        CheckCommand::Perf(args) if args.auto_compact == Some(true) => {
            not_built("--auto-compact", "all revisions are kept")
        }
        CheckCommand::Perf(args) if args.auto_defrag == Some(true) => {
            not_built("--auto-defrag", "all revisions are kept")
        }
        CheckCommand::Perf(args) => check(args, global, printer).await,
    }
}

async fn check<W: Write>(args: &PerfArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<bool, CommandError> {
    let interrupt = Interrupt::register().map_err(CommandError::Signals)?;
    let (rate, clients_count) = args.load.row();
    let mut connections = Vec::new();
    for _ in 0..clients_count.min(CHECK_CONNECTIONS_MAX) {
        connections.push(cluster::connect(global).await?);
    }
    let span = KeySpan { key: args.prefix.clone().into(), range_end: None, prefix: true, from_key: false };
    let (key, range_end) = span.bounds();
    refuse_keys(&connections[0], args, key.clone(), range_end.clone()).await?;
    let lasts = Duration::from_secs(args.seconds);
    let plan = load::Plan { prefix: args.prefix.clone(), rate, clients_count, lasts };
    let tally = load::drive(&plan, &connections, &interrupt).await;
    let mut verdict = Verdict::new(rate, args.seconds, &tally, interrupt.came());
    if let Err(error) = del::delete_in_parts(&connections[0], key, range_end).await {
        verdict.cleanup_failed(&error.to_string());
    }
    verdict.print(printer)?;
    Ok(verdict.passed)
}

/// Fails if there are keys with the prefix: the check would delete them at the end.
async fn refuse_keys(client: &Client, args: &PerfArgs, key: Vec<u8>, range_end: Vec<u8>) -> Result<(), CommandError> {
    let request = RangeRequest { key, range_end, limit: 1, keys_only: true, ..RangeRequest::default() };
    if client.range(request).await?.kvs.is_empty() {
        return Ok(());
    }
    Err(CommandError::KeysThere { prefix: args.prefix.clone() })
}
