//! `quorate start`: runs a node until a signal stops it.

use std::io::{self, Write};

use engine::config::{LogLevel, Url, ValidConfig};
use engine::shell::node::{Node, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

use super::CommandError;
use crate::args::StartArgs;
use crate::settings::{self, SettingsError};

/// Exit code after a second signal: stopping was cut short. What was acknowledged is safe; it always is.
const EXIT_CUT_SHORT: i32 = 130;

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartCommandError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// It did not stop in order.
    #[error("while stopping: {reason}")]
    Stop {
        /// What went wrong.
        reason: String,
    },
}

/// Runs a node; returns when it has stopped.
///
/// # Errors
/// Settings are refused, it cannot start, or it did not stop in order.
pub fn run(args: StartArgs) -> Result<(), CommandError> {
    let config = settings::merge(args)?.validate().map_err(SettingsError::from)?;
    Ok(run_node(config)?)
}

fn run_node(config: ValidConfig) -> Result<(), StartCommandError> {
    start_logging(config.log_level());
    let ready_line = ready_line(&config);
    // Before the node starts, so that a signal in between is not lost.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(StartCommandError::Signals)?;
    let node = Node::start(config)?;
    announce(&ready_line);
    let signal = signals.forever().next();
    tracing::info!(?signal, "stopping");
    // It ends with the process; a second signal ends the process.
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(EXIT_CUT_SHORT);
        }
    });
    node.stop().map_err(|reason| StartCommandError::Stop { reason })
}

/// Logs go to standard error; `QUORATE_LOG`, with the filter syntax of tracing, overrides the level for single modules.
fn start_logging(level: LogLevel) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing_level(level).into())
        .with_env_var("QUORATE_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

fn tracing_level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}

fn ready_line(config: &ValidConfig) -> String {
    let urls: Vec<String> = config.advertise_client().iter().map(Url::to_string).collect();
    format!(
        "ready: node {} ({}) of cluster {}, serving clients on {}",
        config.name(),
        config.node_id(),
        config.cluster_id(),
        urls.join(", ")
    )
}

/// Prints the line that tells scripts and people that clients are served.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody may be reading, and the node runs all the same.
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "cannot print to standard output");
    }
}
