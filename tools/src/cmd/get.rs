//! `quorate get`.
//!
//! An answer has a largest size; a range that does not fit is read in several pages, each shard as of one revision. Nodes answer in the
//! order of keys; for any other order the whole range is read and sorted here.

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
    let pages = match endpoint {
        Some(endpoint) => client.range_pages_on(endpoint, request(args))?,
        None => client.range_pages(request(args)),
    };
    pages.collect().await
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
