//! `quorate completion`: what a shell needs to complete commands and options.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::Printer;

/// `completion`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the shell's script.
///
/// # Errors
/// The output cannot be written to.
pub(crate) fn run<W: Write>(args: &Args, printer: &mut Printer<W>) -> io::Result<()> {
    printer.raw(&script(args.shell))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(&Cli::command()), "quorate", &mut script);
    script
}

/// The command with its visible options and subcommands alone: no shell should propose what would be refused.
fn visible(command: &Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).map(visible);
    // clap takes names that live as long as the process; it ends once the script is printed.
    let name: &'static str = Box::leak(command.get_name().into());
    Command::new(name).about(about).args(args).subcommands(subcommands)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_proposed_what_there_is_and_nothing_that_is_missing() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).expect("text");
            for known in ["sort-by", "health", "write-out", "demo"] {
                assert!(script.contains(known), "{shell}: {known}");
            }
            for missing in ["watch", "hashkv", "move-leader", "cacert", "ignore-lease", "inside-namespaces"] {
                assert!(!script.contains(missing), "{shell}: {missing}");
            }
        }
    }
}
