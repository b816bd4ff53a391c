//! How results look: bare lines as from etcdctl, tables, JSON.
//!
//! Everything is printed through one writer, so that a closed pipe ends a command quietly instead of with a panic. The
//! JSON is documented in `docs/cli.md`.

mod bytes;

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::args::WriteOut;

pub use bytes::{PairJson, printable};

/// Prints results in one form.
pub struct Printer<W> {
    form: WriteOut,
    out: W,
}

impl<W: Write> Printer<W> {
    /// Prints in this form to `out`.
    pub fn new(form: WriteOut, out: W) -> Self {
        Self { form, out }
    }

    /// The form.
    pub fn form(&self) -> WriteOut {
        self.form
    }

    /// A line of bytes, as they are.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn line(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(b"\n")
    }

    /// Bytes without a line's end.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// A table. Control characters in cells must have been made visible.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(header);
        table.add_rows(rows);
        writeln!(self.out, "{table}")
    }

    /// One JSON value on one line.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn json<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
