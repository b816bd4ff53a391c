//! `quorate del`.

use std::io::Write;

use super::{CommandError, cluster};
use crate::args::{DelArgs, GlobalArgs};
use crate::output::Printer;
use crate::results::print_delete;

/// Deletes a key or a range of keys.
///
/// # Errors
/// The write was refused, or nobody knows whether it was done.
pub async fn run<W: Write>(args: &DelArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<(), CommandError> {
    let client = cluster::connect(global).await?;
    let (key, range_end) = args.span.bounds();
    let response = client.delete_with(&key, Some(&range_end), args.prev_kv).await?;
    Ok(print_delete(&response, printer)?)
}
