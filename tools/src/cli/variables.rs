//! Environment variables as settings: an empty one counts as not given, and an error names the variable that it came from.
//!
//! The names are the flags' names; which flag has which variable stands with the flag.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, FromArgMatches};

use super::{Cli, definition};

/// Reads the command line and the variables; says what is wrong and ends the process if they make no sense.
pub fn parse() -> Cli {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut command = without_empty(definition::command_for(&words));
    let parsed =
        command.try_get_matches_from_mut(&words).and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    parsed.unwrap_or_else(|error| {
        let error = name_variable(error.format(&mut command), &command, &words);
        definition::in_plain_words(error, &mut command).exit()
    })
}

/// Forgets the variables that are empty.
fn without_empty(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { arg.env(None::<&'static str>) } else { arg }
    });
    command.mut_subcommands(without_empty)
}

/// Puts the variable's name in front of the flag's, if the value that is refused came from one.
fn name_variable(mut error: clap::Error, command: &Command, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return error };
    let flag = shown.split([' ', '=', '[']).next().unwrap_or_default();
    if let Some(variable) = variable_behind(flag, command, words) {
        let named = format!("{variable} ({shown})");
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// The variable that stands for a flag which is not among the words.
fn variable_behind(flag: &str, command: &Command, words: &[OsString]) -> Option<String> {
    let name = flag.strip_prefix("--")?;
    let arg = find_arg(command, name)?;
    let is_flag = |word: &OsString| {
        let short = arg.get_short().map(|short| format!("-{short}"));
        word.to_str().is_some_and(|word| word.starts_with(flag) || short.is_some_and(|short| word.starts_with(&short)))
    };
    let variable = arg.get_env()?;
    let is_set = std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    (is_set && !words.iter().skip(1).any(is_flag)).then(|| variable.to_string_lossy().into_owned())
}

fn find_arg<'a>(command: &'a Command, name: &str) -> Option<&'a clap::Arg> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    own.or_else(|| command.get_subcommands().find_map(|command| find_arg(command, name)))
}

/// What stands after a message that begins with a flag, if its value came from a variable.
pub fn note(message: &str) -> String {
    let flag = message.split([':', ' ']).next().unwrap_or_default();
    let words: Vec<OsString> = std::env::args_os().collect();
    variable_behind(flag, &Cli::command(), &words)
        .map(|variable| format!(" (the value is that of the variable {variable})"))
        .unwrap_or_default()
}
