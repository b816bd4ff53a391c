//! The way to the cluster: a client with the options of the command line, and what several commands need of it.

use std::io::{self, Read};

use client::{Client, ClientError, ClientOptions};

use crate::args::GlobalArgs;

use super::CommandError;

/// Connects to the first endpoint that answers.
///
/// Trying them all takes at most half of the command's time, so that one that hangs does not use it up.
pub async fn connect(global: &GlobalArgs) -> Result<Client, ClientError> {
    let endpoints = global.endpoint_texts();
    let tries = u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
    let connect_timeout = global.command_timeout / 2 / tries;
    connect_to(endpoints, connect_timeout, global).await
}

/// Connects to one endpoint and no other.
pub async fn connect_to_one(endpoint: String, global: &GlobalArgs) -> Result<Client, ClientError> {
    connect_to(vec![endpoint], global.command_timeout / 2, global).await
}

async fn connect_to(
    endpoints: Vec<String>,
    connect_timeout: std::time::Duration,
    global: &GlobalArgs,
) -> Result<Client, ClientError> {
    let request_timeout = global.command_timeout;
    Client::connect(ClientOptions { endpoints, request_timeout, connect_timeout, connections_per_endpoint: 1 }).await
}

/// Everything on standard input.
pub fn read_input() -> Result<Vec<u8>, CommandError> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input).map_err(CommandError::Input)?;
    Ok(input)
}
