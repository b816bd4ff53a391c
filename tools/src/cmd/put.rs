//! `quorate put`.

use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use client::{Client, Compare, CompareResult, CompareTarget, Op, OpResult, PutOptions, PutResponse, Txn};

use super::{CommandError, cluster};
use crate::args::{GlobalArgs, PutArgs};
use crate::output::{Printer, printable};
use crate::results::print_put;

/// Writes a key.
///
/// # Errors
/// The write was refused, or nobody knows whether it was done.
pub async fn run<W: Write>(args: PutArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<(), CommandError> {
    if args.ignore_lease {
        let why = "there are no leases that a key could keep";
        return Err(CommandError::NotBuilt { what: "put --ignore-lease".to_owned(), why });
    }
    let options = PutOptions { lease: args.lease, prev_kv: args.prev_kv };
    if args.ignore_value {
        let (client, origin) = cluster::connect_and_ask(global).await?;
        let response = put_again(&client, args.key.as_bytes(), options, global.command_timeout).await?;
        return Ok(print_put(&response, &origin, printer)?);
    }
    let value = match args.value {
        Some(value) if value.as_bytes() != b"-" => value.into_vec(),
        _ => match cluster::read_input()? {
            // As etcdctl: whoever wants an empty value says so.
            input if input.is_empty() => return Err(CommandError::NoValue),
            input => input,
        },
    };
    let (client, origin) = cluster::connect_and_ask(global).await?;
    let response = client.put_with(args.key.as_bytes(), &value, options).await?;
    Ok(print_put(&response, &origin, printer)?)
}

/// Writes the value that the key has. A transaction writes it only if nobody changed the key since it was read; otherwise it is read
/// again.
async fn put_again(
    client: &Client,
    key: &[u8],
    options: PutOptions,
    within: Duration,
) -> Result<PutResponse, CommandError> {
    let started = Instant::now();
    while started.elapsed() < within {
        let found = client.get(key).await?;
        let found = found.ok_or_else(|| CommandError::NoKey { key: printable(key, false) })?;
        let target = CompareTarget::ModRevision(found.mod_revision);
        let txn = Txn {
            compares: vec![Compare { key: key.to_vec(), target, result: CompareResult::Equal }],
            success: vec![Op::Put { key: key.to_vec(), value: found.value, options }],
            failure: Vec::new(),
        };
        let response = client.txn(&txn).await?;
        if response.succeeded {
            let prev_kv = match response.results.into_iter().next() {
                Some(OpResult::Put(prev_kv)) => prev_kv,
                _ => None,
            };
            return Ok(PutResponse { revision: response.revision, prev_kv });
        }
    }
    Err(CommandError::KeyChanges { key: printable(key, false) })
}
