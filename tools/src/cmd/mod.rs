//! What each command does. One module for each; errors become messages and exit codes here.

mod bench;
mod chaos;
mod cluster;
mod del;
mod demo;
mod get;
mod put;
mod sim;
mod start;
mod status;
mod txn;
mod version;
pub mod wal;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::variables;
use crate::args::{Cli, ClientCommand, Command, GlobalArgs};
use crate::output::Printer;
use crate::settings::SettingsError;
use crate::txn_text::TxnTextError;

pub use bench::Args as BenchArgs;
pub use chaos::Args as ChaosArgs;
pub use demo::Args as DemoArgs;
pub use sim::Args as SimArgs;

/// Exit code of a command that was understood and failed.
const EXIT_FAILED: u8 = 1;
/// Exit code of a command that makes no sense; the argument parser's is the same.
const EXIT_USAGE: u8 = 2;

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
    /// The node could not start, or stopped by itself.
    #[error(transparent)]
    Start(#[from] start::StartCommandError),
    /// A log cannot be shown.
    #[error(transparent)]
    Wal(#[from] wal::WalError),
    /// A measurement failed.
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    /// Chaos could not be had.
    #[error(transparent)]
    Chaos(#[from] chaos::ChaosError),
    /// The demo failed.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
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

impl CommandError {
    /// Tells the user, and chooses the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            // Whoever read the output has seen enough.
            Self::Print(error) | Self::Wal(wal::WalError::Print(error))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                return ExitCode::SUCCESS;
            }
            // Nobody may be reading; the exit code says it all the same.
            Self::Settings(error) => {
                drop(writeln!(io::stderr(), "error: {error}{}", variables::note(&error.to_string())));
            }
            _ => drop(writeln!(io::stderr(), "error: {self}")),
        }
        let is_usage = matches!(self, Self::Settings(_) | Self::TxnText(_) | Self::NoValue);
        ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_FAILED })
    }
}

/// Runs a command.
///
/// # Errors
/// What kept it from being done.
pub fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    let global = &cli.global;
    let mut printer = Printer::new(global.write_out, io::BufWriter::new(io::stdout().lock()));
    let is_well = match cli.command {
        Command::Start(args) => {
            // It prints for itself, line by line, while it runs.
            drop(printer);
            return start::run(*args).map(|()| ExitCode::SUCCESS);
        }
        Command::Bench(args) => {
            drop(printer);
            return Ok(bench::run(&args, &global.endpoint_texts()).map(|()| ExitCode::SUCCESS)?);
        }
        Command::Demo(args) => {
            drop(printer);
            return Ok(demo::run(&args).map(|()| ExitCode::SUCCESS)?);
        }
        Command::Chaos(args) => {
            drop(printer);
            return Ok(chaos::run(&args)?);
        }
        Command::Sim(args) => {
            drop(printer);
            return sim::run(&args).map_err(CommandError::Print);
        }
        Command::Wal(command) => wal::run(&command, &mut printer)?,
        Command::Version => version::run(&mut printer).map(|()| true)?,
        Command::Client(command) => run_client(command, global, &mut printer)?,
    };
    printer.finish()?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Runs a command that talks to the cluster, on a runtime of its own. Returns whether all went well.
fn run_client<W: Write>(
    command: ClientCommand,
    global: &GlobalArgs,
    printer: &mut Printer<W>,
) -> Result<bool, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime)?;
    runtime.block_on(async {
        match command {
            ClientCommand::Put(args) => put::run(args, global, printer).await.map(|()| true),
            ClientCommand::Get(args) => get::run(&args, global, printer).await.map(|()| true),
            ClientCommand::Del(args) => del::run(&args, global, printer).await.map(|()| true),
            ClientCommand::Txn(args) => txn::run(args, global, printer).await.map(|()| true),
            ClientCommand::Status => status::run(global, printer).await,
        }
    })
}
