//! `quorate`: the server, its client commands and its tools in one binary.
//!
//! It parses, calls the libraries and prints. Nothing is decided here that an embedding program would have to repeat.

mod args;
mod cli;
mod cmd;
mod limits;
mod logging;
mod output;
mod results;
mod run;
mod settings;
mod txn_text;

use std::process::ExitCode;

fn main() -> ExitCode {
    match run::run(cli::variables::parse()) {
        Ok(code) => code,
        Err(error) => run::report(&error),
    }
}
