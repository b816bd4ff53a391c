//! `quorate endpoint health` and `quorate endpoint status`, as etcdctl has them: one look at each endpoint.
//!
//! Nodes tell clients neither their version nor the size of their state: those columns say `unknown`. `quorate status` shows more.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use client::{ClientError, RangeRequest, ShardStatus};
use serde::Serialize;

use super::cluster::{self, Origin};
use super::{CommandError, status};
use crate::args::{GlobalArgs, WriteOut};
use crate::output::{FieldValue, Printer};
use crate::results::HeaderJson;

/// Stands in a column whose value no node tells.
const UNKNOWN: &str = "unknown";

/// The key that `health` reads, as in etcdctl. It need not exist.
const HEALTH_KEY: &[u8] = b"health";

/// `endpoint`.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum EndpointCommand {
    /// Ask each endpoint for a read that needs a majority
    Health,
    /// Show the state of each endpoint, as etcdctl does
    Status,
    /// Not built yet
    #[command(hide = true)]
    Hashkv {
        /// As of this revision
        #[arg(long)]
        rev: Option<u64>,
    },
}

/// Flags of both.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Not built yet: all members of the cluster
    #[arg(long, global = true, hide = true)]
    cluster: bool,
    #[command(subcommand)]
    command: EndpointCommand,
}

/// How one endpoint is.
#[derive(Debug, Serialize)]
struct Health {
    endpoint: String,
    health: bool,
    took: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What one endpoint said of one of its shards.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(rename = "Status")]
    status: StatusJson,
}

/// The fields that etcd's answer has, as far as they are known, and the shard.
#[derive(Debug, Serialize)]
struct StatusJson {
    header: HeaderJson,
    leader: u64,
    #[serde(rename = "raftIndex")]
    raft_index: u64,
    #[serde(rename = "raftTerm")]
    raft_term: u64,
    #[serde(rename = "raftAppliedIndex")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    shard: u32,
}

const STATUS_HEADER: [&str; 11] = [
    "endpoint",
    "ID",
    "version",
    "db size",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "shard",
];

/// Asks all endpoints at the same time. Returns true if all of them answered and are healthy.
///
/// # Errors
/// What was asked for is not built yet, or the output cannot be written to.
pub(crate) async fn run<W: Write>(
    args: &Args,
    global: &GlobalArgs,
    printer: &mut Printer<W>,
) -> Result<bool, CommandError> {
    if args.cluster {
        let why = "nodes do not tell who the members are; name all of them in --endpoints";
        return Err(CommandError::NotBuilt { what: "--cluster".to_owned(), why });
    }
    match args.command {
        EndpointCommand::Health => health(global, printer).await,
        EndpointCommand::Status => statuses(global, printer).await,
        EndpointCommand::Hashkv { rev: _ } => {
            let why = "quorate status shows how far each node has applied";
            Err(CommandError::NotBuilt { what: "quorate endpoint hashkv".to_owned(), why })
        }
    }
}

async fn health<W: Write>(global: &GlobalArgs, printer: &mut Printer<W>) -> Result<bool, CommandError> {
    let asked = cluster::ask_each(global, |endpoint, global| async move {
        let started = Instant::now();
        let answer = read_through(&endpoint, &global).await;
        (started.elapsed(), answer)
    });
    let mut found = Vec::new();
    for (endpoint, (took, answer)) in asked.await {
        let error = answer.err().map(|error| status::about(&endpoint, &error));
        found.push(Health { endpoint, health: error.is_none(), took: took_text(took), error });
    }
    print_health(&found, printer)?;
    let all_well = found.iter().all(|health| health.health);
    if !all_well {
        printer.flush()?;
        eprintln!("error: unhealthy cluster");
    }
    Ok(all_well)
}

/// Reads from every shard through this endpoint. The read is linearizable: a majority has to confirm it.
async fn read_through(endpoint: &str, global: &GlobalArgs) -> Result<(), ClientError> {
    let client = cluster::connect_to_one(endpoint.to_owned(), global).await?;
    let range_end = [HEALTH_KEY, &[0]].concat();
    let request =
        RangeRequest { key: HEALTH_KEY.to_vec(), range_end, count_only: true, limit: 1, ..RangeRequest::default() };
    client.range_on(endpoint, request).await.map(drop)
}

/// A time as Go prints it, to the microsecond.
fn took_text(took: Duration) -> String {
    format!("{:?}", Duration::from_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)))
}

fn print_health<W: Write>(found: &[Health], printer: &mut Printer<W>) -> io::Result<()> {
    match printer.form() {
        WriteOut::Json => printer.json(&found),
        WriteOut::Table => {
            let row = |health: &Health| {
                let Health { endpoint, health, took, error } = health;
                vec![endpoint.clone(), health.to_string(), took.clone(), error.clone().unwrap_or_default()]
            };
            printer.table(&["endpoint", "health", "took", "error"], found.iter().map(row).collect())
        }
        WriteOut::Fields => found.iter().try_for_each(|health| {
            printer.fields(&[
                ("Endpoint", FieldValue::Text(&health.endpoint)),
                ("Health", FieldValue::Word(&health.health.to_string())),
                ("Took", FieldValue::Word(&health.took)),
                ("Error", FieldValue::Word(health.error.as_deref().unwrap_or_default())),
            ])?;
            printer.line(b"")
        }),
        WriteOut::Simple => found.iter().try_for_each(|Health { endpoint, took, error, .. }| match error {
            None => printer
                .line(format!("{endpoint} is healthy: successfully committed proposal: took = {took}").as_bytes()),
            Some(error) => {
                // As etcdctl: what is not well is said on standard error.
                eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                Ok(())
            }
        }),
    }
}

async fn statuses<W: Write>(global: &GlobalArgs, printer: &mut Printer<W>) -> Result<bool, CommandError> {
    let asked = cluster::ask_each(global, |endpoint, global| async move { status_of(&endpoint, &global).await });
    let mut all_answered = true;
    let mut found = Vec::new();
    for (endpoint, answer) in asked.await {
        match answer {
            Ok((cluster_id, shards)) => {
                found.extend(shards.into_iter().map(|shard| Status::new(&endpoint, cluster_id, &shard)));
            }
            Err(error) => {
                all_answered = false;
                eprintln!("error: {}", status::about(&endpoint, &error));
            }
        }
    }
    print_statuses(&found, printer)?;
    Ok(all_answered)
}

/// The cluster of an endpoint, and its shards.
async fn status_of(endpoint: &str, global: &GlobalArgs) -> Result<(u64, Vec<ShardStatus>), ClientError> {
    let origin = Origin::ask(vec![endpoint.to_owned()], global).await?;
    Ok((origin.cluster_id, origin.shards))
}

impl Status {
    fn new(endpoint: &str, cluster_id: u64, shard: &ShardStatus) -> Self {
        let header =
            HeaderJson { cluster_id, member_id: shard.node_id, revision: shard.revision, raft_term: shard.term };
        let errors = [&shard.stopped, &shard.under_repair, &shard.new, &shard.lost_data];
        let status = StatusJson {
            header,
            leader: shard.leader,
            raft_index: shard.last_index,
            raft_term: shard.term,
            raft_applied_index: shard.applied_index,
            errors: errors.into_iter().flatten().cloned().collect(),
            is_learner: shard.role == "learner",
            shard: shard.shard,
        };
        Self { endpoint: endpoint.to_owned(), status }
    }

    fn is_leader(&self) -> bool {
        self.status.leader == self.status.header.member_id
    }

    fn cells(&self) -> Vec<String> {
        let StatusJson { header, raft_index, raft_term, raft_applied_index, errors, is_learner, shard, .. } =
            &self.status;
        vec![
            self.endpoint.clone(),
            format!("{:x}", header.member_id),
            UNKNOWN.to_owned(),
            UNKNOWN.to_owned(),
            self.is_leader().to_string(),
            is_learner.to_string(),
            raft_term.to_string(),
            raft_index.to_string(),
            raft_applied_index.to_string(),
            errors.join(", "),
            shard.to_string(),
        ]
    }
}

fn print_statuses<W: Write>(found: &[Status], printer: &mut Printer<W>) -> io::Result<()> {
    // With one shard the rows are those of etcdctl.
    let columns = STATUS_HEADER.len() - usize::from(found.iter().all(|status| status.status.shard == 0));
    let cells = |status: &Status| status.cells()[..columns].to_vec();
    match printer.form() {
        WriteOut::Json => printer.json(&found),
        WriteOut::Table => printer.table(&STATUS_HEADER[..columns], found.iter().map(cells).collect()),
        WriteOut::Simple => found.iter().try_for_each(|status| printer.line(cells(status).join(", ").as_bytes())),
        WriteOut::Fields => found.iter().try_for_each(|status| {
            let Status { endpoint, status } = status;
            status.header.print_fields(printer)?;
            printer.fields(&[
                ("Leader", FieldValue::Number(status.leader)),
                ("IsLearner", FieldValue::Word(&status.is_learner.to_string())),
                ("RaftIndex", FieldValue::Number(status.raft_index)),
                ("RaftAppliedIndex", FieldValue::Number(status.raft_applied_index)),
                ("Errors", FieldValue::Word(&format!("[{}]", status.errors.join(" ")))),
                ("Endpoint", FieldValue::Text(endpoint)),
                ("Shard", FieldValue::Number(status.shard.into())),
            ])?;
            printer.line(b"")
        }),
    }
}
