//! Options that commands take, as they are written on the command line.
//!
//! Names and defaults are etcd's and etcdctl's wherever they mean the same.

mod duration;
pub mod kv;
mod start;

use std::time::Duration;

use clap::{Args, ValueEnum};
use engine::config::Url;

pub use duration::parse_duration;
pub use kv::{Consistency, DelArgs, DelCommandArgs, GetArgs, PutArgs, TxnArgs};
pub use start::StartArgs;

/// Options of every client command, before or after its name.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// Client addresses of the cluster's nodes, separated by commas: host:port or http://host:port
    #[arg(
        long,
        global = true,
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "127.0.0.1:2379",
        value_parser = Url::parse_endpoint
    )]
    pub endpoints: Vec<Url>,
    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        env = "QUORATE_WRITE_OUT",
        value_enum,
        value_name = "FORM",
        default_value = "simple"
    )]
    pub write_out: WriteOut,
    /// How long a command may take, such as 5s or 500ms
    #[arg(
        long,
        global = true,
        env = "QUORATE_COMMAND_TIMEOUT",
        value_name = "TIME",
        default_value = "5s",
        value_parser = parse_duration
    )]
    pub command_timeout: Duration,
    /// A node that owes an answer and is silent for so long is given up
    #[arg(
        long,
        global = true,
        env = "QUORATE_KEEPALIVE_TIMEOUT",
        value_name = "TIME",
        default_value = "1s",
        value_parser = parse_duration
    )]
    pub keepalive_timeout: Duration,
}

impl GlobalArgs {
    /// The endpoints as the client library takes them.
    #[must_use]
    pub fn endpoint_texts(&self) -> Vec<String> {
        self.endpoints.iter().map(Url::authority).collect()
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    /// As etcdctl does by default: bare lines
    Simple,
    /// A table for people
    Table,
    /// JSON for programs
    Json,
}
