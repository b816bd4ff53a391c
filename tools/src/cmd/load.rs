//! What the commands that put a cluster under load share: flags of the load.

use bench::limits::OUTSTANDING_MAX;

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
