//! The way to the cluster: a client with the options of the command line, and what several commands need of it.

use std::io::{self, Read};

use client::{Client, ClientError, ClientOptions};

use crate::args::GlobalArgs;

use super::CommandError;

/// Connects to the first endpoint that answers. It takes at most half of the command's time.
pub async fn connect(global: &GlobalArgs) -> Result<Client, ClientError> {
    connect_to(global.endpoint_texts(), global).await
}

/// Connects to one endpoint and no other.
pub async fn connect_to_one(endpoint: String, global: &GlobalArgs) -> Result<Client, ClientError> {
    connect_to(vec![endpoint], global).await
}

async fn connect_to(endpoints: Vec<String>, global: &GlobalArgs) -> Result<Client, ClientError> {
    let request_timeout = global.command_timeout;
    let connect_timeout = request_timeout / 2;
    let silence_limit = global.keepalive_timeout;
    let options =
        ClientOptions { endpoints, request_timeout, connect_timeout, silence_limit, ..ClientOptions::default() };
    Client::connect(options).await
}

/// Everything on standard input.
pub fn read_input() -> Result<Vec<u8>, CommandError> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input).map_err(CommandError::Input)?;
    Ok(input)
}
