//! `quorate version`: of the binary, and of the formats that decide what it can read and whom it can talk to.

use std::io::{self, Write};

use serde::Serialize;

use crate::args::WriteOut;
use crate::output::Printer;

#[derive(Serialize)]
struct VersionJson {
    version: &'static str,
    commit: Option<&'static str>,
    log_format: u32,
    protocol: u16,
}

/// Prints the versions.
///
/// # Errors
/// The output cannot be written to.
pub fn run<W: Write>(printer: &mut Printer<W>) -> io::Result<()> {
    let versions = VersionJson {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("QUORATE_COMMIT"),
        log_format: wal::segment::FORMAT_VERSION as u32,
        protocol: net::handshake::PROTOCOL_VERSION,
    };
    let rows = [
        ("quorate version", versions.version.to_owned()),
        ("commit", versions.commit.unwrap_or("unknown").to_owned()),
        ("log format version", versions.log_format.to_string()),
        ("protocol version", versions.protocol.to_string()),
    ];
    match printer.form() {
        WriteOut::Json => printer.json(&versions),
        WriteOut::Fields => printer.fields_of(&versions),
        WriteOut::Simple => {
            rows.iter().try_for_each(|(what, version)| printer.line(format!("{what}: {version}").as_bytes()))
        }
        WriteOut::Table => {
            let rows = rows.map(|(what, version)| vec![what.to_owned(), version]);
            printer.table(&["what", "version"], rows.to_vec())
        }
    }
}
