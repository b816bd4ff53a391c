//! `quorate put`.

use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use client::PutOptions;

use super::{CommandError, cluster};
use crate::args::{GlobalArgs, PutArgs};
use crate::output::Printer;
use crate::results::print_put;

/// Writes a key.
///
/// # Errors
/// The write was refused, or nobody knows whether it was done.
pub async fn run<W: Write>(args: PutArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<(), CommandError> {
    let value = match args.value {
        Some(value) if value.as_bytes() != b"-" => value.into_vec(),
        _ => match cluster::read_input()? {
            // As etcdctl: whoever wants an empty value says so.
            input if input.is_empty() => return Err(CommandError::NoValue),
            input => input,
        },
    };
    let client = cluster::connect(global).await?;
    let options = PutOptions { lease: args.lease, prev_kv: args.prev_kv };
    let response = client.put_with(args.key.as_bytes(), &value, options).await?;
    Ok(print_put(&response, printer)?)
}
