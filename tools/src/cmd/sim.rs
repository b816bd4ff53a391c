//! `quorate sim`: whole clusters of the shipped core on simulated disks, links and clocks, one per seed.
//!
//! Prints what was run, and for a seed that fails one line that runs it again. The simulator itself is the engine's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use engine::testing::sim::{self, Failure, Options, Report};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::CommandError;
use super::interrupt::Interrupt;
use super::outlet::JsonArgs;
use crate::args::{WriteOut, parse_minutes};
use crate::output::{figures, terminal_columns};

use crate::limits::{FAILURES_MAX, RAREST_MARKS_MAX, TRACE_LINES_MAX};

/// What `quorate sim` takes.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How many seeds to run
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first seed; without it a fresh one, taken from the clock
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Run seeds for so many minutes instead of a fixed number
    #[arg(long, value_name = "M", conflicts_with = "seeds", value_parser = parse_minutes)]
    minutes: Option<Duration>,
    /// Threads; by default one for each core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Fail unless all coverage marks were reached: rare branches of the product that the seeds together must take
    #[arg(long)]
    all_marks: bool,
    /// Print every event of the first seed that fails, or of the only one
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    json: JsonArgs,
}

/// The figures of all runs.
#[derive(Debug, Serialize)]
struct Summary {
    first_seed: u64,
    seeds: u64,
    failed: Vec<u64>,
    wall_s: f64,
    simulated_s: f64,
    simulated_s_per_s: f64,
    events: u64,
    answered: u64,
    unknown: u64,
    refused: u64,
    leaders: u64,
    committed: u64,
    repairs: u64,
    judged: u64,
    search_gave_up: u64,
    marks_reached: usize,
    marks_unreached: Vec<&'static str>,
    /// For each mark the number of seeds that reached it.
    marks: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    /// True if a signal ended the run early.
    interrupted: bool,
}

/// Runs the seeds. A signal ends the run once the seeds under way are done.
///
/// # Errors
/// The figures cannot be written.
pub fn run(args: &Args, form: WriteOut) -> Result<ExitCode, CommandError> {
    let outlet = args.json.open(form)?;
    let interrupt = Interrupt::register().map_err(CommandError::Signals)?;
    let first_seed = args.seed.unwrap_or_else(fresh_seed);
    let started = Instant::now();
    let (total, failures, seeds) = run_all(args, first_seed, &interrupt);
    let wall_s = started.elapsed().as_secs_f64();
    let simulated_s = total.simulated_us as f64 / 1e6;
    let marks = total.marks();
    let marks_unreached: Vec<_> = marks.iter().filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect();
    let summary = Summary {
        first_seed,
        seeds,
        failed: failures.iter().map(|failure| failure.seed).collect(),
        wall_s,
        simulated_s,
        simulated_s_per_s: simulated_s / wall_s,
        events: total.events_count,
        answered: total.answered_count,
        unknown: total.unknown_count,
        refused: total.refused_count,
        leaders: total.leaders_count,
        committed: total.committed_count,
        repairs: total.repairs_count,
        judged: total.judged_count,
        search_gave_up: total.given_up_count,
        marks_reached: marks.len() - marks_unreached.len(),
        marks_unreached,
        marks: marks.iter().copied().collect(),
        faults: total.faults.clone(),
        interrupted: interrupt.came(),
    };
    for failure in &failures {
        outlet.tell(&failure_text(failure, args.trace))?;
    }
    outlet.finish(&summary, || summary_text(&summary))?;
    let lacks_marks = args.all_marks && !summary.marks_unreached.is_empty();
    if lacks_marks {
        let advice = "run more seeds, aim a fault at the branch, or remove the mark of one that no run can take";
        outlet.tell(&format!("FAILED coverage marks were not reached, as listed above; {advice}"))?;
    }
    let is_well = failures.is_empty() && !lacks_marks;
    let exit_code = if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(interrupt.exit_code().filter(|_| is_well).unwrap_or(exit_code))
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1_000_000
}

/// Runs seeds on several threads until there are enough. Failures in order of their seeds.
fn run_all(args: &Args, first_seed: u64, interrupt: &Interrupt) -> (Report, Vec<Failure>, u64) {
    let next = AtomicU64::new(0);
    let deadline = args.minutes.map(|minutes| Instant::now() + minutes);
    let count = if deadline.is_some() { u64::MAX } else { args.seeds };
    let default_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or(default_threads).max(1);
    let options = Options { keep_trace: args.trace };
    let progress = progress_bar(args);
    // A panic of the product is a finding and reported as one, not printed by whichever thread had it.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, results) = mpsc::channel();
    let mut total = Report::default();
    let mut failures = Vec::new();
    let mut done_count = 0;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    if number >= count || is_over || interrupt.came() {
                        return;
                    }
                    let result = sim::run(first_seed.wrapping_add(number), options);
                    if sender.send(result).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for result in results {
            done_count += 1;
            progress.inc(1);
            match result {
                Ok(report) => total.add(&report),
                Err(failure) => {
                    failures.push(failure);
                    // Enough to work on.
                    if failures.len() == FAILURES_MAX {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                    }
                }
            }
        }
    });
    std::panic::set_hook(hook);
    progress.finish_and_clear();
    failures.sort_by_key(|failure| failure.seed);
    (total, failures, done_count)
}

fn progress_bar(args: &Args) -> ProgressBar {
    let progress = match args.minutes {
        Some(_) => ProgressBar::new_spinner(),
        None => ProgressBar::new(args.seeds),
    };
    let style = match args.minutes {
        Some(_) => ProgressStyle::with_template("{spinner} {elapsed} {pos} seeds"),
        None => ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} left"),
    };
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress
}

fn failure_text(failure: &Failure, all: bool) -> String {
    let skipped = if all { 0 } else { failure.trace.len().saturating_sub(TRACE_LINES_MAX) };
    let plan = failure.plan.to_string();
    let lines = std::iter::once(&plan).chain(&failure.trace[skipped..]);
    let mut text = format!("FAILED {failure}\n");
    lines.for_each(|line| writeln!(text, "  {line}").expect("a string takes everything"));
    text + &format!("again: quorate sim --seeds 1 --seed {} --trace   (version {})", failure.seed, version())
}

fn version() -> String {
    let commit = option_env!("QUORATE_COMMIT").unwrap_or("unknown");
    format!("{}, commit {commit}", env!("CARGO_PKG_VERSION"))
}

fn summary_text(summary: &Summary) -> String {
    let mut rows = Vec::new();
    let mut row = |what: &str, figure: String| rows.push((what.to_owned(), figure));
    row("seeds", format!("{} from {}", summary.seeds, summary.first_seed));
    row("failed", summary.failed.len().to_string());
    row(
        "simulated",
        format!("{:.0} s in {:.1} s: {:.0} a second", summary.simulated_s, summary.wall_s, summary.simulated_s_per_s),
    );
    row("events", summary.events.to_string());
    row("operations answered", summary.answered.to_string());
    row("operations of unknown outcome", summary.unknown.to_string());
    row("operations refused", summary.refused.to_string());
    row("leaders elected", summary.leaders.to_string());
    row("entries committed", summary.committed.to_string());
    row("logs repaired", summary.repairs.to_string());
    row("histories judged", format!("{}, search gave up on {}", summary.judged, summary.search_gave_up));
    row("coverage marks reached", format!("{}, {} not", summary.marks_reached, summary.marks_unreached.len()));
    let mut rarest: Vec<_> = summary.marks.iter().filter(|(_, count)| **count > 0).collect();
    rarest.sort_by_key(|(_, count)| **count);
    for (name, count) in rarest.into_iter().take(RAREST_MARKS_MAX) {
        row("rarest mark", format!("{count} seeds: {name}"));
    }
    for (name, count) in &summary.faults {
        row(name, count.to_string());
    }
    let unreached = summary.marks_unreached.iter().map(|name| format!("not reached: {name}\n"));
    figures(rows, terminal_columns()) + "\n" + &unreached.collect::<String>()
}
