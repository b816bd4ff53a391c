//! The command line as it is shown and read: made of what the types say, with what they cannot say.
//!
//! Options of client commands are known everywhere, so that they may stand before a command's name; a command that does not use one does
//! not list it, and reads no variable for it. A number below zero is a value that is refused, not an unknown option.

use std::any::TypeId;
use std::error::Error;
use std::ffi::OsString;
use std::num::{ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// The whole command line.
#[must_use]
pub(crate) fn command() -> Command {
    shown(Cli::command())
}

/// The command line for these words: of the options of client commands, the command that they name reads the variables of those
/// alone which it uses.
pub(super) fn command_for(words: &[OsString]) -> Command {
    let command = Cli::command();
    let Some(named) = named(&command, words) else { return shown(command) };
    shown(command.mut_args(|arg| if is_used(&named, &arg) { arg } else { arg.env(None::<&'static str>) }))
}

fn shown(command: Command) -> Command {
    let mut command = with_numbers_below_zero(command);
    // From here on every command has the options that may stand before its name.
    command.build();
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        only_used(subcommand, &name)
    })
}

/// Hides the options that a command, or one below it, does not use.
fn only_used(command: Command, name: &str) -> Command {
    let command = command.mut_args(|arg| if is_used(name, &arg) { arg } else { arg.hide(true) });
    command.mut_subcommands(|subcommand| only_used(subcommand, name))
}

/// Whether a command uses an option. Each uses its own.
fn is_used(command: &str, option: &Arg) -> bool {
    if !option.is_global_set() {
        return true;
    }
    let used: &[&str] = match command {
        "start" | "completion" | "man" => &[],
        "wal" => &["write_out", "hex"],
        "version" | "demo" | "sim" | "chaos" | "certify" => &["write_out"],
        _ => return true,
    };
    used.contains(&option.get_id().as_str())
}

/// The command that these words name, if they name one.
fn named(command: &Command, words: &[OsString]) -> Option<String> {
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            return command.find_subcommand(word).map(|found| found.get_name().to_owned());
        }
        let is_meant = |arg: &&Arg| {
            let long = word.strip_prefix("--");
            let short = word.strip_prefix('-').and_then(|word| word.parse::<char>().ok());
            (long.is_some() && arg.get_long() == long) || (short.is_some() && arg.get_short() == short)
        };
        // Its value is the next word.
        if command.get_arguments().find(is_meant).is_some_and(|arg| arg.get_action().takes_values()) {
            words.next();
        }
    }
    None
}

/// Has every number take a sign, so that its own check refuses it.
pub(crate) fn with_numbers_below_zero(command: Command) -> Command {
    let numbers =
        [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()];
    let command = command.mut_args(|arg| {
        let is_number =
            arg.get_action().takes_values() && numbers.iter().any(|number| arg.get_value_parser().type_id() == *number);
        if is_number { arg.allow_negative_numbers(true) } else { arg }
    });
    command.mut_subcommands(with_numbers_below_zero)
}

/// An error of the parser; if it is about a number it says what is expected.
pub(crate) fn in_plain_words(error: clap::Error, command: &mut Command) -> clap::Error {
    let expected = match error.source() {
        Some(source) if source.is::<ParseIntError>() => "write a whole number that is not below zero, such as 10",
        Some(source) if source.is::<ParseFloatError>() => "write a number, such as 0.5",
        _ => return error,
    };
    let (Some(ContextValue::String(arg)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return error;
    };
    command.error(ErrorKind::ValueValidation, format!("invalid value '{value}' for '{arg}': {expected}"))
}
