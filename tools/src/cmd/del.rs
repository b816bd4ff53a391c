//! `quorate del`.
//!
//! One command visits a bounded number of keys. `--in-parts` deletes any number: it reads keys and deletes them part by part, so
//! others may see some of them gone and some not, and keys written meanwhile may stay.

use std::io::Write;

use client::{Client, ClientError, DeleteResponse, PartOutcome, RangeRequest};
use net::api::Status;

use super::{CommandError, cluster};
use crate::args::{DelCommandArgs, GlobalArgs};
use crate::limits::{PAGE_KEYS, PART_KEYS};
use crate::output::Printer;
use crate::results::print_delete;

/// Deletes a key or a range of keys.
///
/// # Errors
/// The write was refused, or nobody knows whether it was done.
pub async fn run<W: Write>(
    args: &DelCommandArgs,
    global: &GlobalArgs,
    printer: &mut Printer<W>,
) -> Result<(), CommandError> {
    let (client, origin) = cluster::connect_and_ask(global).await?;
    let (key, range_end) = args.del.span.bounds();
    let response = if args.in_parts && !range_end.is_empty() {
        delete_in_parts(&client, key, range_end).await?
    } else {
        client.delete_with(&key, Some(&range_end), args.del.prev_kv).await?
    };
    Ok(print_delete(&response, &origin, printer)?)
}

/// Deletes the keys that are found, page by page. Stops at the first failure; what was deleted before stays deleted, and the error
/// says how much that was.
pub(super) async fn delete_in_parts(
    client: &Client,
    from: Vec<u8>,
    range_end: Vec<u8>,
) -> Result<DeleteResponse, CommandError> {
    let mut total = DeleteResponse { revision: 0, deleted: 0, prev_kvs: Vec::new() };
    match delete_pages(client, from, range_end, &mut total).await {
        Ok(()) => Ok(total),
        Err(source) if total.deleted > 0 => {
            Err(CommandError::PartlyDeleted { deleted: total.deleted, revision: total.revision, source })
        }
        Err(error) => Err(error.into()),
    }
}

async fn delete_pages(
    client: &Client,
    mut from: Vec<u8>,
    range_end: Vec<u8>,
    total: &mut DeleteResponse,
) -> Result<(), ClientError> {
    loop {
        let page = client
            .range(RangeRequest {
                key: from,
                range_end: range_end.clone(),
                limit: PAGE_KEYS,
                keys_only: true,
                ..RangeRequest::default()
            })
            .await?;
        total.revision = total.revision.max(page.revision);
        let keys: Vec<Vec<u8>> = page.kvs.into_iter().map(|kv| kv.key).collect();
        for part in keys.chunks(PART_KEYS) {
            delete_part(client, part, total).await?;
        }
        match keys.last() {
            Some(last) if page.more => from = behind(last),
            _ => return Ok(()),
        }
    }
}

/// Deletes from the first of these keys to the last. Keys that were deleted before may lie between them and be too many for one
/// command: then it halves the part, down to single keys.
async fn delete_part(client: &Client, keys: &[Vec<u8>], total: &mut DeleteResponse) -> Result<(), ClientError> {
    let mut parts = vec![keys];
    while let Some(part) = parts.pop() {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        let range_end = if part.len() == 1 { Vec::new() } else { behind(last) };
        match client.delete(first, Some(&range_end)).await {
            Ok(done) => {
                total.revision = total.revision.max(done.revision);
                total.deleted += done.deleted;
            }
            Err(error) => {
                note_done(&error, total);
                if part.len() == 1 || !is_too_large(&error) {
                    return Err(error);
                }
                let (front, back) = part.split_at(part.len() / 2);
                parts.extend([back, front]);
            }
        }
    }
    Ok(())
}

/// True if a shard refused its part because of its size.
fn is_too_large(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, .. } => *status == Status::TooLarge,
        ClientError::Partial { parts } => parts.iter().any(|part| match &part.outcome {
            PartOutcome::Failed(error) => is_too_large(error),
            PartOutcome::Deleted { .. } | PartOutcome::NotBegun => false,
        }),
        _ => false,
    }
}

/// Counts what other shards deleted before one refused.
fn note_done(error: &ClientError, total: &mut DeleteResponse) {
    let ClientError::Partial { parts } = error else { return };
    for part in parts {
        if let PartOutcome::Deleted { keys, revision } = part.outcome {
            total.deleted += keys;
            total.revision = total.revision.max(revision);
        }
    }
}

/// The first key after a key.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests;
