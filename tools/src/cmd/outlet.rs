//! Where the result of a run goes: as a text for people or as JSON for programs, to standard output and to a file.
//!
//! Standard output that is for programs has the result and nothing else; the story of the run goes to standard error then.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::args::WriteOut;
use crate::output::Printer;

/// Stands for standard output in place of a file's name.
const STANDARD_OUTPUT: &str = "-";

/// The flag that names the file.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct JsonArgs {
    /// Write the result to this file as JSON, too; - is standard output, and means the same as -w json
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The result cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {place}: {source}")]
pub struct WriteError {
    /// The file, or standard output.
    place: String,
    /// What the system said.
    source: io::Error,
}

/// Where the result goes, and in which form.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    form: WriteOut,
    file: Option<PathBuf>,
}

impl JsonArgs {
    /// Decides where the result goes. Fails now, and not after the run, if the file cannot be written.
    pub(super) fn open(&self, form: WriteOut) -> Result<Outlet, WriteError> {
        match &self.json {
            Some(file) if file.as_os_str() == STANDARD_OUTPUT => Ok(Outlet { form: WriteOut::Json, file: None }),
            Some(file) => {
                OpenOptions::new().create(true).append(true).open(file).map_err(WriteError::of(file))?;
                Ok(Outlet { form, file: Some(file.clone()) })
            }
            None => Ok(Outlet { form, file: None }),
        }
    }
}

impl WriteError {
    fn of(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { place: file.display().to_string(), source }
    }

    fn of_output(source: io::Error) -> Self {
        Self { place: "to standard output".to_owned(), source }
    }
}

impl Outlet {
    /// True if people read standard output.
    pub(super) fn is_for_people(&self) -> bool {
        !self.form.is_for_programs()
    }

    /// Prints a line of the run's story, which is no part of the result.
    pub(super) fn tell(&self, line: &str) -> Result<(), WriteError> {
        if self.is_for_people() {
            writeln!(io::stdout(), "{line}").map_err(WriteError::of_output)
        } else {
            // Nobody may be reading the story; the result is written all the same.
            drop(writeln!(io::stderr(), "{line}"));
            Ok(())
        }
    }

    /// Writes the result. `text` makes the form for people.
    pub(super) fn finish(&self, result: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), WriteError> {
        if let Some(file) = &self.file {
            let json = serde_json::to_string_pretty(result).map_err(io::Error::from);
            json.and_then(|json| fs::write(file, json + "\n")).map_err(WriteError::of(file))?;
        }
        if self.is_for_people() {
            return write!(io::stdout(), "{}", text()).map_err(WriteError::of_output);
        }
        let mut printer = Printer::new(self.form, io::stdout().lock());
        let printed = match self.form {
            WriteOut::Fields => printer.fields_of(result),
            _ => printer.json(result),
        };
        printed.and_then(|()| printer.finish()).map_err(WriteError::of_output)
    }
}
