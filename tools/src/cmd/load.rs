//! What the commands that put a cluster under load share: flags of the load, and the file that the result goes to.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use bench::limits::OUTSTANDING_MAX;
use serde::Serialize;

/// How a load is spread.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct LoadArgs {
    /// Writes in flight at any time, over all connections
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=OUTSTANDING_MAX as i64))]
    outstanding: u32,
    /// Client connections the writes are spread over, at most one for each write in flight
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Threads of the load generator, at most one for each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

impl LoadArgs {
    /// Writes in flight.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding as usize
    }

    /// Connections, at most one for each write in flight.
    pub(super) fn connections(&self) -> usize {
        (self.connections as usize).min(self.outstanding())
    }

    /// Threads, at most one for each connection.
    pub(super) fn threads(&self) -> usize {
        usize::from(self.threads).min(self.connections())
    }
}

/// The result cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

impl WriteError {
    fn of(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: file.to_owned(), source }
    }
}

/// Fails now rather than after the run if the result could not be written.
pub(super) fn check_writable(file: &Path) -> Result<(), WriteError> {
    OpenOptions::new().create(true).append(true).open(file).map(drop).map_err(WriteError::of(file))
}

/// Writes a result to its file.
pub(super) fn write_json(file: &Path, result: &impl Serialize) -> Result<(), WriteError> {
    let json = serde_json::to_string_pretty(result).map_err(io::Error::from);
    json.and_then(|json| fs::write(file, json + "\n")).map_err(WriteError::of(file))
}
