//! `quorate get`.
//!
//! An answer has a largest size; a range that does not fit is read in several pieces, of one revision where all keys are in
//! one shard. Nodes answer in the order of keys; for any other order the whole range is read and sorted here.

mod arranging;

use std::io::Write;

use client::{Client, ClientError, RangeRequest, RangeResponse};

use arranging::{arrange, needs_all, needs_values};

use super::{CommandError, cluster};
use crate::args::{Consistency, GetArgs, GlobalArgs};
use crate::output::Printer;
use crate::results::print_range;

/// Reads a key or a range of keys.
///
/// # Errors
/// The read was refused, or had no answer.
pub async fn run<W: Write>(args: &GetArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<(), CommandError> {
    let (client, origin) = cluster::connect_and_ask(global).await?;
    let mut response = match args.consistency {
        Consistency::Linearizable => read_all(&client, None, args).await?,
        Consistency::Serializable => read_serializable(&client, &global.endpoint_texts(), args).await?,
    };
    if needs_all(args) {
        arrange(&mut response, args);
    }
    Ok(print_range(&response, &origin, args.into(), printer)?)
}

/// Reads what a node has: the first of the endpoints that answers, and all of it from that one.
async fn read_serializable(
    client: &Client,
    endpoints: &[String],
    args: &GetArgs,
) -> Result<RangeResponse, ClientError> {
    let mut result = Err(ClientError::Endpoints { reason: "no endpoint was given".to_owned() });
    for endpoint in endpoints {
        result = read_all(client, Some(endpoint), args).await;
        if !matches!(result, Err(ClientError::Unavailable { .. } | ClientError::Unknown { .. })) {
            break;
        }
    }
    result
}

async fn read_all(client: &Client, endpoint: Option<&str>, args: &GetArgs) -> Result<RangeResponse, ClientError> {
    let mut request = request(args);
    let whole_limit = request.limit;
    let mut all = read(client, endpoint, &request).await?;
    while let Some((key, limit)) = next_piece(&all, whole_limit) {
        if client.shard_count() == 1 {
            request.revision = all.revision;
        }
        (request.key, request.limit) = (key, limit);
        let piece = read(client, endpoint, &request).await?;
        all.more = piece.more;
        if piece.kvs.is_empty() {
            break;
        }
        all.kvs.extend(piece.kvs);
    }
    Ok(all)
}

async fn read(client: &Client, endpoint: Option<&str>, request: &RangeRequest) -> Result<RangeResponse, ClientError> {
    match endpoint {
        Some(endpoint) => client.range_on(endpoint, request.clone()).await,
        None => client.range(request.clone()).await,
    }
}

/// The request of the command, also as an operation of a transaction.
pub fn request(args: &GetArgs) -> RangeRequest {
    let (key, range_end) = args.span.bounds();
    RangeRequest {
        key,
        range_end,
        limit: if needs_all(args) { 0 } else { args.limit },
        revision: args.rev,
        keys_only: args.keys_only && !needs_values(args),
        count_only: args.count_only,
        serializable: args.consistency == Consistency::Serializable,
    }
}

/// Where to read on and how many keys, if something is missing; `limit` 0 = no limit.
fn next_piece(so_far: &RangeResponse, limit: u64) -> Option<(Vec<u8>, u64)> {
    let found = so_far.kvs.len() as u64;
    let left = limit.saturating_sub(found);
    if !so_far.more || limit > 0 && left == 0 {
        return None;
    }
    let mut key = so_far.kvs.last()?.key.clone();
    // The first key after it in byte order.
    key.push(0);
    Some((key, left))
}

#[cfg(test)]
mod tests {
    use client::KeyValue;

    use super::*;

    fn found(keys: &[&str], more: bool) -> RangeResponse {
        let kv = |key: &&str| KeyValue {
            key: key.as_bytes().to_vec(),
            value: Vec::new(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        RangeResponse { revision: 5, kvs: keys.iter().map(kv).collect(), more, count: 9 }
    }

    #[test]
    fn reading_goes_on_behind_the_last_key_until_limit_or_end() {
        assert_eq!(next_piece(&found(&["a", "b"], true), 0), Some((b"b\0".to_vec(), 0)));
        assert_eq!(next_piece(&found(&["a", "b"], true), 5), Some((b"b\0".to_vec(), 3)));
        assert_eq!(next_piece(&found(&["a", "b"], true), 2), None);
        assert_eq!(next_piece(&found(&["a", "b"], false), 0), None);
        assert_eq!(next_piece(&found(&[], true), 0), None);
    }
}
