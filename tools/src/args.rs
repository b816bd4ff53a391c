//! The command line: what can be said, not what it does.
//!
//! Names and defaults are etcd's and etcdctl's wherever they mean the same.

mod duration;
mod kv;
mod start;
pub mod variables;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::config::Url;

use crate::cmd;

pub use duration::parse_duration;
pub use kv::{Consistency, DelArgs, DelCommandArgs, GetArgs, PutArgs, TxnArgs};
pub use start::StartArgs;

/// Replicated, durable key-value storage: the server, its client commands and its tools.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every client command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

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

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Start(Box<StartArgs>),
    /// What a client does.
    #[command(flatten)]
    Client(ClientCommand),
    /// Measure a running cluster
    Bench(cmd::BenchArgs),
    /// Run a cluster on this machine that loses its leader under load and loses no write
    Demo(cmd::DemoArgs),
    /// Run simulated clusters under simulated faults, and check what they promised
    Sim(cmd::SimArgs),
    /// Kill, stop and damage real nodes while clients write and read, and judge what they saw
    Chaos(cmd::ChaosArgs),
    /// Look into a stopped node's log
    #[command(subcommand)]
    Wal(cmd::wal::WalCommand),
    /// Print the versions of this binary and of its formats
    Version,
}

/// What clients do: requests to a running cluster.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Write a key
    Put(PutArgs),
    /// Read a key or a range of keys
    Get(GetArgs),
    /// Delete a key or a range of keys
    Del(DelCommandArgs),
    /// Run a transaction read from standard input
    #[command(after_help = TXN_HELP)]
    Txn(TxnArgs),
    /// Show the state of every endpoint and shard
    Status,
}

/// The text form of transactions, by example.
const TXN_HELP: &str = "\
The transaction is read from standard input: compares, a blank line, operations for when all of them hold, a blank line,
operations for when not. Any part may be empty.

    mod(\"key1\") > \"0\"
    value(\"key2\") = \"a b\"

    put key1 \"it was there\"

    put key1 \"it is new\"
    get key2 --prefix

Compares: ver, create, mod, value, lease; relations: = != < >";

#[cfg(test)]
mod tests;
