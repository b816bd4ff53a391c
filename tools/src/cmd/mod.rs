//! What each command does. One module for each.

pub mod bench;
pub mod certify;
pub mod chaos;
pub(crate) mod check;
mod cluster;
pub(crate) mod completion;
pub mod del;
pub mod demo;
pub(crate) mod endpoint;
pub mod get;
mod interrupt;
mod load;
pub(crate) mod man;
mod outlet;
mod power;
pub mod put;
mod recorded;
pub mod sim;
pub mod start;
pub mod status;
pub mod txn;
pub mod version;
pub mod wal;

use std::io;

pub(crate) use cluster::Origin;

use crate::settings::SettingsError;
use crate::txn_text::TxnTextError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Settings are refused.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The text of a transaction is refused.
    #[error("transaction: {0}")]
    TxnText(#[from] TxnTextError),
    /// The cluster refused a request, or did not answer.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// A delete in parts did not come to its end.
    #[error("{deleted} keys were deleted by revision {revision}, and stay deleted; then a part failed: {source}")]
    PartlyDeleted {
        /// Keys that are gone.
        deleted: u64,
        /// The revision after the last of them.
        revision: u64,
        /// What became of the part that failed.
        source: client::ClientError,
    },
    /// The node could not start, or stopped by itself.
    #[error(transparent)]
    Start(#[from] start::StartCommandError),
    /// It was written to the node's log already.
    #[error(transparent)]
    Logged(Box<Self>),
    /// The manual pages cannot be written.
    #[error("cannot write the manual pages: {0}")]
    Man(io::Error),
    /// A log cannot be shown.
    #[error(transparent)]
    Wal(#[from] wal::WalError),
    /// A measurement failed.
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    /// The chaos test could not run, or found something.
    #[error(transparent)]
    Chaos(#[from] chaos::ChaosError),
    /// The figures of a run could not be written.
    #[error(transparent)]
    Write(#[from] outlet::WriteError),
    /// Signals cannot be taken.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// Power cuts could not be had.
    #[error(transparent)]
    Certify(#[from] certify::CertifyError),
    /// The demo failed.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// etcdctl has it, and it is not built yet.
    #[error("{what} is not built yet: {why}")]
    NotBuilt {
        /// The command, or its option.
        what: String,
        /// Why not, or what there is instead.
        why: &'static str,
    },
    /// `put --ignore-value` of a key that is not there.
    #[error("there is no key \"{key}\" whose value could be written once more")]
    NoKey {
        /// The key, readable.
        key: String,
    },
    /// `put --ignore-value` of a key that others go on changing.
    #[error("others changed key \"{key}\" each time before its value was written once more; it was not written")]
    KeyChanges {
        /// The key, readable.
        key: String,
    },
    /// `check perf` found keys with its prefix.
    #[error(
        "there are keys that begin with {prefix:?}; delete them with quorate del --prefix {prefix:?}, or give another --prefix"
    )]
    KeysThere {
        /// The prefix.
        prefix: String,
    },
    /// `put` has no value.
    #[error(
        "put needs a value: a second argument, or something on standard input, which was empty; for an empty value write \
         quorate put KEY ''"
    )]
    NoValue,
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// Standard output cannot be written to.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    /// No runtime for the client.
    #[error("cannot start a runtime: {0}")]
    Runtime(io::Error),
}
