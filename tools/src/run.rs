//! From the command line to the command: runs it, and turns its end into a message and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::GlobalArgs;
use crate::cli::variables;
use crate::cli::{Cli, ClientCommand, Command};
use crate::cmd::{
    CommandError, bench, certify, chaos, check, completion, del, demo, endpoint, get, man, put, sim, start, status,
    txn, version, wal,
};
use crate::output::{Printer, terminal_columns};

/// Exit code of a command that was understood and failed.
const EXIT_FAILED: u8 = 1;
/// Exit code of a command that makes no sense; the argument parser's is the same.
const EXIT_USAGE: u8 = 2;

/// Tells the user why a command failed, and chooses the exit code.
pub fn report(error: &CommandError) -> ExitCode {
    match error {
        // Whoever read the output has seen enough.
        CommandError::Print(error) | CommandError::Wal(wal::WalError::Print(error))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            return ExitCode::SUCCESS;
        }
        CommandError::Logged(_) => {}
        // Nobody may be reading; the exit code says it all the same.
        CommandError::Settings(error) => {
            drop(writeln!(io::stderr(), "error: {error}{}", variables::note(&error.to_string())));
        }
        _ => drop(writeln!(io::stderr(), "error: {error}")),
    }
    let cause = if let CommandError::Logged(logged) = error { logged } else { error };
    let is_usage = matches!(
        cause,
        CommandError::Settings(_) | CommandError::TxnText(_) | CommandError::NoValue | CommandError::NotBuilt { .. }
    );
    ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_FAILED })
}

/// Runs a command.
///
/// # Errors
/// What kept it from being done.
pub fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    let global = &cli.global;
    let mut printer = Printer::new(global.write_out, io::BufWriter::new(io::stdout().lock()));
    printer.set_columns(terminal_columns());
    printer.set_hex(global.hex);
    let is_well = match cli.command {
        Command::Start(args) => {
            // It prints for itself, line by line, while it runs.
            drop(printer);
            return start::run(*args).map(|()| ExitCode::SUCCESS);
        }
        Command::Bench(args) => {
            drop(printer);
            return Ok(bench::run(&args, global)?);
        }
        Command::Demo(args) => {
            drop(printer);
            return Ok(demo::run(&args, global.write_out).map(|()| ExitCode::SUCCESS)?);
        }
        Command::Chaos(args) => {
            drop(printer);
            return Ok(chaos::run(&args, global.write_out)?);
        }
        Command::Certify(args) => {
            drop(printer);
            return Ok(certify::run(&args, global.write_out)?);
        }
        Command::Sim(args) => {
            drop(printer);
            return sim::run(&args, global.write_out);
        }
        Command::Wal(command) => wal::run(&command, &mut printer)?,
        Command::Version => version::run(&mut printer).map(|()| true)?,
        Command::Completion(args) => completion::run(&args, &mut printer).map(|()| true)?,
        Command::Man(args) => man::run(&args).map(|()| true).map_err(CommandError::Man)?,
        Command::Missing(missing) => return Err(missing.refusal()),
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
            ClientCommand::Endpoint(args) => endpoint::run(&args, global, printer).await,
            ClientCommand::Check(command) => check::run(&command, global, printer).await,
        }
    })
}
