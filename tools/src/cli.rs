//! The command line: what can be said, not what it does.
//!
//! Names and defaults are etcd's and etcdctl's wherever they mean the same.

pub(crate) mod definition;
mod missing;
pub mod variables;

use clap::{Parser, Subcommand};

use crate::args::{DelCommandArgs, GetArgs, GlobalArgs, PutArgs, StartArgs, TxnArgs};
use crate::cmd;

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

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Start(Box<StartArgs>),
    /// What a client does.
    #[command(flatten)]
    Client(ClientCommand),
    /// Measure a running cluster
    Bench(cmd::bench::Args),
    /// Run a cluster on this machine that loses its leader under load and loses no write
    Demo(cmd::demo::Args),
    /// Run simulated clusters under simulated faults, and check what they promised
    Sim(cmd::sim::Args),
    /// Kill, stop and damage real nodes while clients write and read, and judge what they saw
    Chaos(cmd::chaos::Args),
    /// Cut the power of real nodes again and again, and judge what clients were told
    Certify(cmd::certify::Args),
    /// Look into a stopped node's log
    #[command(subcommand)]
    Wal(cmd::wal::WalCommand),
    /// Print the versions of this binary and of its formats
    Version,
    /// Print a script that makes a shell complete commands and options
    Completion(cmd::completion::Args),
    /// Write the manual pages of this binary and of its commands
    Man(cmd::man::Args),
    /// Commands of etcdctl that are not built yet.
    #[command(flatten)]
    Missing(missing::Missing),
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
    /// Ask endpoints how they are, one by one
    Endpoint(cmd::endpoint::Args),
    /// Check what a cluster can do
    #[command(subcommand)]
    Check(cmd::check::CheckCommand),
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
