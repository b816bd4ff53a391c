//! `quorate start`: runs a node until a signal stops it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, mpsc};

use engine::config::{Config, LogFormat, Url, ValidConfig};
use engine::shell::node::{Node, StartError, StopError};
use engine::shell::panics;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::CommandError;
use crate::args::StartArgs;
use crate::limits::LOG_FLUSH_WITHIN;
use crate::logging::{self, LogQueue};
use crate::settings::{self, SettingsError};

/// Exit code after a second signal: stopping was cut short. What was acknowledged is safe; it always is.
const EXIT_CUT_SHORT: i32 = 130;

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartCommandError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Logs cannot be written.
    #[error("cannot start the thread that writes the log: {0}")]
    Logging(io::Error),
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// It did not stop in order.
    #[error("while stopping: {0}")]
    Stop(#[from] StopError),
}

/// Runs a node; returns when it has stopped.
///
/// # Errors
/// Settings are refused, it cannot start, or it did not stop in order.
pub fn run(args: StartArgs) -> Result<(), CommandError> {
    let config = settings::merge(args)?;
    let format = config.log_format;
    let log = logging::start(config.log_level, format).map_err(StartCommandError::Logging)?;
    let result = run_node(config, &log).map_err(|error| match format {
        LogFormat::Text => error,
        // Whoever reads the log reads objects, and this is the last of them.
        LogFormat::Json => {
            tracing::error!(%error, "the node does not run");
            CommandError::Logged(Box::new(error))
        }
    });
    log.flush(LOG_FLUSH_WITHIN);
    result
}

fn run_node(config: Config, log: &LogQueue) -> Result<(), CommandError> {
    let config = config.validate().map_err(SettingsError::from)?;
    panics::process_is_node();
    Ok(run_until_stopped(config, log.clone())?)
}

fn run_until_stopped(config: ValidConfig, log: LogQueue) -> Result<(), StartCommandError> {
    let ready_line = ready_line(&config);
    // Before the node starts, so that a signal in between is not lost.
    let (phase, stop) = hear_signals(log)?;
    let node = Node::start(config)?;
    phase.store(RUNNING, Ordering::SeqCst);
    announce(ready_line);
    // An error means that the thread is gone, and with it any way to stop the node in order.
    let signal = stop.recv().map_err(|_gone| StartCommandError::Signals(io::ErrorKind::BrokenPipe.into()))?;
    // From here on nobody takes a signal: the next one ends the process.
    drop(stop);
    tracing::info!(signal, "stopping");
    node.stop()?;
    tracing::info!("stopped");
    Ok(())
}

/// The node is not ready yet.
const STARTING: u8 = 0;
/// The node serves; a signal stops it.
const RUNNING: u8 = 1;

/// Starts a thread that hears signals until the process ends.
///
/// While the node starts, which takes long with a long log, a signal ends the process at once, as it would end any other:
/// nothing was acknowledged yet. Later the first signal is passed on to whoever stops the node, and the second ends the process.
///
/// A terminal that closes and a limit on CPU time stop a node in order, too. A limit on the size of files must not end it: the
/// write that would pass the limit fails, as on any disk that is full.
fn hear_signals(log: LogQueue) -> Result<(Arc<AtomicU8>, mpsc::Receiver<i32>), StartCommandError> {
    // Nobody looks at the flag: whoever wrote sees its own error.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(StartCommandError::Signals)?;
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGXCPU].into_iter().filter(|signal| !is_left_to_nohup(*signal));
    let mut signals = Signals::new(wanted).map_err(StartCommandError::Signals)?;
    let phase = Arc::new(AtomicU8::new(STARTING));
    let (heard, stop) = mpsc::sync_channel(1);
    let seen = Arc::clone(&phase);
    let hear = move || {
        for signal in signals.forever() {
            if seen.load(Ordering::SeqCst) == STARTING {
                tracing::warn!(signal, "ended by a signal before the node was ready");
                log.flush(LOG_FLUSH_WITHIN);
                // It only returns if the system refuses to end the process by this signal.
                let refused = signal_hook::low_level::emulate_default_handler(signal);
                tracing::error!(?refused, "the signal cannot end the process by itself");
                log.flush(LOG_FLUSH_WITHIN);
                std::process::exit(EXIT_CUT_SHORT);
            }
            if heard.try_send(signal).is_err() {
                log.flush(LOG_FLUSH_WITHIN);
                std::process::exit(EXIT_CUT_SHORT);
            }
        }
    };
    let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(hear);
    spawned.map(|_thread| (phase, stop)).map_err(StartCommandError::Signals)
}

/// Whether this process was started to outlive its terminal.
fn is_left_to_nohup(signal: i32) -> bool {
    let is_ignored = |status: String| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask & (1 << (signal - 1)) != 0)
    };
    signal == SIGHUP && std::fs::read_to_string("/proc/self/status").ok().and_then(is_ignored).unwrap_or(false)
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

/// Prints the line that tells scripts and people that clients are served. On a thread of its own: nobody may be reading, and whoever
/// waits here hears no signal.
fn announce(line: String) {
    let print = move || {
        let mut out = io::stdout().lock();
        if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
            tracing::warn!(%error, "cannot print to standard output");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("announce".to_owned()).spawn(print) {
        tracing::warn!(%error, "cannot start the thread that prints to standard output");
    }
}
