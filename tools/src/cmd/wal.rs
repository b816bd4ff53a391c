//! `quorate wal verify` and `quorate wal dump`: a stopped node's log, read and never changed.
//!
//! What is sound and what is damage is the log's own judgement (`wal::verify`); this finds the directories and prints.

mod report;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use wal::verify::{Found, LogFiles, VerifyError};

use crate::args::WriteOut;
use crate::output::Printer;
use report::{FoundJson, ReportJson, found_line, report_lines};

/// `wal`.
#[derive(Clone, Debug, Subcommand)]
pub enum WalCommand {
    /// Check every byte of a log and name what is damaged
    Verify(LogArgs),
    /// Print every frame of a log
    Dump(LogArgs),
}

/// Which log.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// A node's data directory, or a directory of segments
    pub dir: PathBuf,
}

/// Why a log cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A directory cannot be read.
    #[error("cannot list {dir}: {source}", dir = dir.display())]
    List {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a data directory nor one of segments.
    #[error(
        "{dir} is neither a node's data directory (with shards/0000/wal in it) nor a directory of segments (*.wal)",
        dir = dir.display()
    )]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The log's files cannot be read.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The output cannot be written to.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Runs the command. Returns whether every log is sound.
///
/// # Errors
/// There is no log, its files cannot be read, or the output cannot be written to.
pub fn run<W: Write>(command: &WalCommand, printer: &mut Printer<W>) -> Result<bool, WalError> {
    match command {
        WalCommand::Verify(args) => verify(&log_dirs(&args.dir)?, printer),
        WalCommand::Dump(args) => dump(&log_dirs(&args.dir)?, printer),
    }
}

/// The directories with segments: of every shard of a data directory, or the directory itself.
fn log_dirs(dir: &Path) -> Result<Vec<PathBuf>, WalError> {
    let shards = dir.join("shards");
    if shards.is_dir() {
        let mut dirs: Vec<PathBuf> = list(&shards)?.into_iter().map(|shard| shard.join("wal")).collect();
        dirs.sort();
        return if dirs.is_empty() { Err(WalError::NoLog { dir: dir.to_owned() }) } else { Ok(dirs) };
    }
    if list(dir)?.iter().any(|path| path.extension().is_some_and(|extension| extension == "wal")) {
        return Ok(vec![dir.to_owned()]);
    }
    let inner = dir.join("wal");
    if inner.is_dir() { Ok(vec![inner]) } else { Err(WalError::NoLog { dir: dir.to_owned() }) }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, WalError> {
    let error = |source| WalError::List { dir: dir.to_owned(), source };
    fs::read_dir(dir).map_err(error)?.map(|entry| entry.map(|entry| entry.path()).map_err(error)).collect()
}

fn verify<W: Write>(dirs: &[PathBuf], printer: &mut Printer<W>) -> Result<bool, WalError> {
    let mut all_sound = true;
    let mut reports = Vec::new();
    for dir in dirs {
        let report = wal::verify::verify(dir)?;
        all_sound &= report.is_sound();
        match printer.form() {
            WriteOut::Fields => printer.fields_of(&ReportJson::new(dir, &report))?,
            WriteOut::Simple | WriteOut::Table => {
                report_lines(dir, &report).iter().try_for_each(|line| printer.line(line.as_bytes()))?;
            }
            WriteOut::Json => reports.push(ReportJson::new(dir, &report)),
        }
    }
    if printer.form() == WriteOut::Json {
        printer.json(&reports)?;
    }
    Ok(all_sound)
}

/// Prints frames as they are read: a log may be larger than memory.
fn dump<W: Write>(dirs: &[PathBuf], printer: &mut Printer<W>) -> Result<bool, WalError> {
    let mut all_sound = true;
    let is_json = printer.form() == WriteOut::Json;
    // Whatever cannot be opened is known before half of the JSON is printed.
    let logs = dirs.iter().map(|dir| Ok((dir, LogFiles::open(dir)?))).collect::<Result<Vec<_>, VerifyError>>()?;
    let mut separator: &[u8] = b"[";
    for (dir, log) in logs {
        if !printer.form().is_for_programs() {
            printer.line(format!("{}:", dir.display()).as_bytes())?;
        }
        for found in log.walk() {
            all_sound &= !matches!(found, Found::Damage(_));
            if is_json {
                printer.raw(separator)?;
                printer.json_part(&FoundJson::new(dir, &found))?;
                separator = b",";
            } else if printer.form() == WriteOut::Fields {
                printer.fields_of(&FoundJson::new(dir, &found))?;
            } else {
                printer.line(found_line(&found).as_bytes())?;
            }
        }
    }
    if is_json {
        printer.raw(if separator == b"[" { b"[]\n" } else { b"]\n" })?;
    }
    Ok(all_sound)
}

#[cfg(test)]
mod tests;
