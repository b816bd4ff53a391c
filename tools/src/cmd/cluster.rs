//! The way to the cluster: a client with the options of the command line, and what several commands need of it.

use std::future::Future;
use std::io::{self, Read};
use std::time::Duration;

use api::call::CallKind;
use client::{Client, ClientError, ClientOptions, ShardStatus};
use net::client::{Kind, Options, Target};
use net::frame::FrameKind;

use super::CommandError;
use crate::args::GlobalArgs;

/// The node that answers, and its cluster: what etcd's answers have in their headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The cluster.
    pub(crate) cluster_id: u64,
    /// The shards of the node that answered.
    pub(crate) shards: Vec<ShardStatus>,
}

impl Origin {
    /// Asks the first of these endpoints that answers.
    pub(super) async fn ask(endpoints: Vec<String>, global: &GlobalArgs) -> Result<Self, ClientError> {
        let (connect_timeout, silence_limit) = (global.dial_timeout(), global.keepalive_timeout);
        let options = Options { endpoints, connect_timeout, silence_limit, ..Options::default() };
        let client = net::client::Client::connect(options).await?;
        let row = CallKind::Status.row();
        let kind = Kind { number: FrameKind::new(row.number), writes: row.writes, lasts: row.lasts };
        // Any node answers a request for its status by itself.
        let answer = client.request(Target::Leader, kind, 0, &[], global.command_timeout).await?;
        let shards = serde_json::from_slice(&answer);
        let shards = shards.map_err(|error| ClientError::Malformed { reason: error.to_string() })?;
        Ok(Self { cluster_id: client.info().cluster_id, shards })
    }

    /// Id of the node; 0 = no node was asked.
    pub(crate) fn member_id(&self) -> u64 {
        self.shards.first().map_or(0, |shard| shard.node_id)
    }

    /// The highest term of its shards.
    pub(crate) fn term(&self) -> u64 {
        self.shards.iter().map(|shard| shard.term).max().unwrap_or_default()
    }
}

/// Connects to the first endpoint that answers. It takes at most half of the command's time.
pub async fn connect(global: &GlobalArgs) -> Result<Client, ClientError> {
    connect_to(global.endpoint_texts(), global).await
}

/// Connects, and asks a node for its ids if the form of the output shows them.
///
/// It asks before the command's own request. So a write that was done is never reported as failed because this question failed.
pub(super) async fn connect_and_ask(global: &GlobalArgs) -> Result<(Client, Origin), ClientError> {
    let client = connect(global).await?;
    let is_asked = global.write_out.is_for_programs();
    let origin = if is_asked { Origin::ask(global.endpoint_texts(), global).await? } else { Origin::default() };
    Ok((client, origin))
}

/// Connects to one endpoint and no other.
pub async fn connect_to_one(endpoint: String, global: &GlobalArgs) -> Result<Client, ClientError> {
    connect_to(vec![endpoint], global).await
}

async fn connect_to(endpoints: Vec<String>, global: &GlobalArgs) -> Result<Client, ClientError> {
    Client::connect(options(endpoints, global.command_timeout, global)).await
}

/// Options of a client of these endpoints.
pub(super) fn options(endpoints: Vec<String>, request_timeout: Duration, global: &GlobalArgs) -> ClientOptions {
    let (connect_timeout, silence_limit) = (global.dial_timeout(), global.keepalive_timeout);
    ClientOptions { endpoints, request_timeout, connect_timeout, silence_limit, ..ClientOptions::default() }
}

/// Asks each endpoint by itself, all at the same time. Answers come in the order of the endpoints.
pub(super) async fn ask_each<T, F>(global: &GlobalArgs, ask: impl Fn(String, GlobalArgs) -> F) -> Vec<(String, T)>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let begin = |endpoint: String| (tokio::spawn(ask(endpoint.clone(), global.clone())), endpoint);
    let asked: Vec<_> = global.endpoint_texts().into_iter().map(begin).collect();
    let mut answers = Vec::new();
    for (task, endpoint) in asked {
        match task.await {
            Ok(answer) => answers.push((endpoint, answer)),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    answers
}

/// Everything on standard input.
pub fn read_input() -> Result<Vec<u8>, CommandError> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input).map_err(CommandError::Input)?;
    Ok(input)
}
