//! How results look: bare lines, JSON and fields as from etcdctl, and tables.
//!
//! Everything is printed through one writer, so that a closed pipe ends a command quietly instead of with a panic. The
//! JSON is documented in `docs/cli.md`.

mod bytes;
mod table;

use std::io::{self, Write};

use serde::Serialize;

use crate::args::WriteOut;

pub(crate) use bytes::Base64;
pub use bytes::printable;
pub(crate) use table::{figures, terminal_columns};

/// Prints results in one form.
pub struct Printer<W> {
    form: WriteOut,
    /// Keys, values and ids are printed in hexadecimal.
    is_hex: bool,
    /// Columns of the terminal that `out` is; `None` if it is none.
    columns: Option<u16>,
    out: W,
}

impl<W: Write> Printer<W> {
    /// Prints in this form to `out`.
    pub fn new(form: WriteOut, out: W) -> Self {
        Self { form, is_hex: false, columns: None, out }
    }

    /// From now on tables fit a terminal with this many columns; with `None` they may be of any width.
    pub(crate) fn set_columns(&mut self, columns: Option<u16>) {
        self.columns = columns;
    }

    /// From now on keys, values and ids are printed in hexadecimal, or not.
    pub(crate) fn set_hex(&mut self, is_hex: bool) {
        self.is_hex = is_hex;
    }

    /// True if keys, values and ids are printed in hexadecimal.
    pub(crate) fn is_hex(&self) -> bool {
        self.is_hex
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

    /// A line of a key or a value: as it is, or each of its bytes in hexadecimal.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub(crate) fn bytes_line(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_hex { self.line(bytes::hex(bytes).as_bytes()) } else { self.line(bytes) }
    }

    /// A line for each field.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub(crate) fn fields(&mut self, fields: &[(&str, FieldValue<'_>)]) -> io::Result<()> {
        for (name, value) in fields {
            match value {
                FieldValue::Number(number) => writeln!(self.out, "\"{name}\" : {number}")?,
                FieldValue::Word(word) => writeln!(self.out, "\"{name}\" : {word}")?,
                FieldValue::Text(text) => writeln!(self.out, "\"{name}\" : {}", bytes::go_quoted(text.as_bytes()))?,
                FieldValue::Bytes(bytes) => writeln!(self.out, "\"{name}\" : {}", bytes::go_quoted(bytes))?,
            }
        }
        Ok(())
    }

    /// The fields of a value's JSON and an empty line, for commands that etcdctl does not have.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub(crate) fn fields_of<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        match serde_json::to_value(value)? {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        serde_json::Value::String(text) => self.fields(&[(&name, FieldValue::Text(&text))])?,
                        other => self.fields(&[(&name, FieldValue::Word(&other.to_string()))])?,
                    }
                }
            }
            other => self.fields(&[("Value", FieldValue::Word(&other.to_string()))])?,
        }
        self.line(b"")
    }

    /// Bytes without a line's end.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// A table that leaves words whole: where it is wider than the terminal, each row is a table of its own.
    ///
    /// Control characters in cells must have been made visible.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        writeln!(self.out, "{}", table::render(header, rows, self.columns))
    }

    /// One JSON value on one line.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn json<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        self.json_part(value)?;
        self.out.write_all(b"\n")
    }

    /// JSON without a line's end: a part of a larger value.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub(crate) fn json_part<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        Ok(serde_json::to_writer(&mut self.out, value)?)
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The same, when nothing more will come.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldValue<'a> {
    /// A number.
    Number(u64),
    /// A word, without quotes.
    Word(&'a str),
    /// Text, in quotes.
    Text(&'a str),
    /// Bytes, in quotes.
    Bytes(&'a [u8]),
}

#[cfg(test)]
mod tests;
