//! The text form of transactions, as etcdctl reads it: compares, a blank line, operations if all of them hold, a blank
//! line, operations if not.
//!
//! ```text
//! mod("key1") > "0"
//!
//! put key1 "overwrote key1"
//!
//! put key1 "created key1"
//! get key2 --prefix
//! ```
//!
//! Parsing only; nothing is sent from here.

mod line;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::args::{Arrangement, DelArgs, GetArgs, PutArgs};
use crate::cli::definition::{in_plain_words, with_numbers_below_zero};
use line::{Cursor, LineError};

/// What a compare looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The key's version: how often it was written since it was created; 0 = it does not exist.
    Version(u64),
    /// The revision that created the key; 0 = it does not exist.
    CreateRevision(u64),
    /// The revision that last wrote the key; 0 = it does not exist.
    ModRevision(u64),
    /// The value.
    Value(Vec<u8>),
    /// Id of the lease; 0 = none.
    Lease(u64),
}

/// How it is compared with what the line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `<`
    Less,
}

/// One compare: it holds if the key's property has this relation to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Vec<u8>,
    /// Relation of what is stored to what the line says.
    pub relation: Relation,
    /// The property and what the line says of it.
    pub target: Target,
}

/// One operation, with the arguments of the command of the same name.
#[derive(Clone, Debug, Subcommand)]
pub enum Operation {
    /// Write a key
    Put(PutArgs),
    /// Read a key or a range of keys
    Get(GetArgs),
    /// Delete a key or a range of keys
    Del(DelArgs),
}

/// A transaction.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// All of them have to hold.
    pub compares: Vec<Compare>,
    /// What is done if they do.
    pub success: Vec<Operation>,
    /// What is done if not.
    pub failure: Vec<Operation>,
}

/// Why a text is no transaction.
#[derive(Debug, thiserror::Error)]
pub enum TxnTextError {
    /// A line cannot be read.
    #[error("line {line}: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: LineError,
    },
    /// An operation is none, or its arguments are refused.
    #[error("line {line}: {reason}")]
    Operation {
        /// Number of the line, from 1.
        line: usize,
        /// What the argument parser said, on one line.
        reason: String,
    },
    /// The first word is no operation.
    #[error("line {line}: {got:?} is no operation; it is one of put, get, del")]
    NoOperation {
        /// Number of the line, from 1.
        line: usize,
        /// The word.
        got: String,
    },
    /// Whoever typed it left before the end.
    #[error("the input ended before the third blank line; nothing was sent and nothing was changed")]
    NotEnded,
    /// A put that would read its value from standard input, which the transaction itself comes from.
    #[error("line {line}: put needs its value on the line")]
    PutWithoutValue {
        /// Number of the line, from 1.
        line: usize,
    },
    /// An option that works on the command alone.
    #[error("line {line}: {option} in a transaction is not built yet")]
    NotBuilt {
        /// From 1.
        line: usize,
        /// Which.
        option: &'static str,
    },
    /// Something follows the third part.
    #[error("line {line}: a transaction has three parts, and this would be a fourth; remove the blank line before it")]
    FourthPart {
        /// Number of the line, from 1.
        line: usize,
    },
    /// Not even text.
    #[error("it is not UTF-8; write other bytes as escapes such as \\xff")]
    NotText,
    /// Neither compare nor operation.
    #[error("the transaction is empty; see `quorate txn --help`")]
    Empty,
}

#[derive(Parser)]
#[command(no_binary_name = true, name = "txn", disable_help_flag = true, disable_help_subcommand = true)]
struct OperationLine {
    #[command(subcommand)]
    operation: Operation,
}

/// Takes a transaction line by line. Each blank line ends a part.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    transaction: Transaction,
    /// Number of the last line, from 1.
    line: usize,
    /// From 0; 3 once all are there.
    part: usize,
}

impl Reader {
    /// The part that the next line belongs to: 0 compares, 1 operations if they hold, 2 operations if not, 3 nothing.
    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// Takes a line. Blank lines after the last part are ignored.
    ///
    /// # Errors
    /// What is wrong with it, with its number.
    pub(crate) fn take(&mut self, text: &str) -> Result<(), TxnTextError> {
        self.line += 1;
        let (line, text) = (self.line, text.trim());
        if text.is_empty() {
            self.part = (self.part + 1).min(3);
            return Ok(());
        }
        let transaction = &mut self.transaction;
        match self.part {
            0 => {
                let compare = parse_compare(text).map_err(|reason| TxnTextError::Line { line, reason })?;
                transaction.compares.push(compare);
            }
            1 => transaction.success.push(parse_operation(line, text)?),
            2 => transaction.failure.push(parse_operation(line, text)?),
            _ => return Err(TxnTextError::FourthPart { line }),
        }
        Ok(())
    }

    /// The transaction, once there are no more lines.
    ///
    /// # Errors
    /// There is nothing in it.
    pub(crate) fn finish(self) -> Result<Transaction, TxnTextError> {
        let Transaction { compares, success, failure } = &self.transaction;
        if compares.is_empty() && success.is_empty() && failure.is_empty() {
            return Err(TxnTextError::Empty);
        }
        Ok(self.transaction)
    }
}

/// Reads a transaction.
///
/// # Errors
/// The first line that cannot be read, by its number.
pub fn parse(text: &str) -> Result<Transaction, TxnTextError> {
    let mut reader = Reader::default();
    text.lines().try_for_each(|line| reader.take(line))?;
    reader.finish()
}

/// `mod("key") > "0"`. Numbers may stand without quotes.
fn parse_compare(text: &str) -> Result<Compare, LineError> {
    let mut cursor = Cursor::new(text);
    let property = cursor.word_until('(')?;
    let key = cursor.quoted()?;
    cursor.expect(')')?;
    let relation = match cursor.relation() {
        "=" | "==" => Relation::Equal,
        "!=" => Relation::NotEqual,
        ">" => Relation::Greater,
        "<" => Relation::Less,
        other => return Err(LineError::UnknownRelation { got: other.to_owned() }),
    };
    let operand = cursor.quoted_or_word()?;
    cursor.expect_end()?;
    let target = match property {
        "ver" | "version" => Target::Version(number(&operand)?),
        "c" | "create" => Target::CreateRevision(number(&operand)?),
        "m" | "mod" => Target::ModRevision(number(&operand)?),
        "val" | "value" => Target::Value(operand),
        "lease" => Target::Lease(lease(&operand)?),
        other => return Err(LineError::UnknownProperty { got: other.to_owned() }),
    };
    Ok(Compare { key, relation, target })
}

/// Text that may be a number: without a sign, which Rust's parsers would take.
fn digits(operand: &[u8]) -> Option<&str> {
    std::str::from_utf8(operand).ok().filter(|text| !text.starts_with('+'))
}

fn number(operand: &[u8]) -> Result<u64, LineError> {
    let parsed = digits(operand).and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| LineError::NotANumber { got: String::from_utf8_lossy(operand).into_owned() })
}

/// Lease ids are hexadecimal wherever people see them.
fn lease(operand: &[u8]) -> Result<u64, LineError> {
    let parsed = digits(operand).and_then(|text| u64::from_str_radix(text, 16).ok());
    parsed.ok_or_else(|| LineError::NotALease { got: String::from_utf8_lossy(operand).into_owned() })
}

/// `put key "a value" --flag`: words as in a shell with double quotes only.
fn parse_operation(line: usize, text: &str) -> Result<Operation, TxnTextError> {
    let words: Vec<OsString> = line::words(text).map_err(|reason| TxnTextError::Line { line, reason })?;
    let operation = operation_of(line, &words)?;
    if let Some(option) = missing_option(&operation) {
        return Err(TxnTextError::NotBuilt { line, option });
    }
    match &operation {
        Operation::Put(put) if put.value.is_none() => Err(TxnTextError::PutWithoutValue { line }),
        _ => Ok(operation),
    }
}

/// An operation from its words.
fn operation_of(line: usize, words: &[OsString]) -> Result<Operation, TxnTextError> {
    let mut command = with_numbers_below_zero(OperationLine::command());
    let parsed = command.try_get_matches_from_mut(words).and_then(|matches| OperationLine::from_arg_matches(&matches));
    parsed.map(|line| line.operation).map_err(|error| {
        if error.kind() == ErrorKind::InvalidSubcommand {
            let got = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
            return TxnTextError::NoOperation { line, got };
        }
        let said = in_plain_words(error.format(&mut command), &mut command).to_string();
        // How the command is used, and what help there is, stands behind a blank line.
        let said = said.trim_start_matches("error: ").lines().take_while(|line| !line.trim().is_empty());
        TxnTextError::Operation { line, reason: said.map(str::trim).collect::<Vec<_>>().join(" ") }
    })
}

/// An option of the command that nodes do not know, so that it has no meaning within a transaction.
fn missing_option(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::Put(put) if put.ignore_value => Some("--ignore-value"),
        Operation::Put(put) if put.ignore_lease => Some("--ignore-lease"),
        Operation::Get(get) if get.arrangement != Arrangement::default() => {
            Some("sorting, and choosing keys by their revisions,")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
