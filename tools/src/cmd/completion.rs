//! `quorate completion`: what a shell needs to complete commands and options.

use std::io::{self, Write};

use clap::{Arg, Command};
use clap_complete::Shell;

use crate::cli::definition;
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
    clap_complete::generate(shell, &mut visible(&definition::command()), "quorate", &mut script);
    script
}

/// The command with its visible options and subcommands alone: no shell should propose what would be refused.
fn visible(command: &Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    // Every command has what it uses. Help and version come by themselves.
    let is_own = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let args = command.get_arguments().filter(is_own);
    let args = args.map(|arg| arg.clone().global(false));
    let is_shown = |subcommand: &&Command| !subcommand.is_hide_set() && subcommand.get_name() != "help";
    let subcommands = command.get_subcommands().filter(is_shown).map(visible);
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
            for known in ["sort-by", "health", "write-out", "demo", "version"] {
                assert!(script.contains(known), "{shell}: {known}");
            }
            for missing in ["watch", "hashkv", "move-leader", "cacert", "ignore-lease", "inside-namespaces"] {
                assert!(!script.contains(missing), "{shell}: {missing}");
            }
        }
    }
}
