//! `quorate status`: every endpoint and shard on one row. Endpoints are asked at the same time.

use std::io::Write;

use client::{ClientError, ShardStatus};
use serde::Serialize;

use super::{CommandError, cluster};
use crate::args::{GlobalArgs, WriteOut};
use crate::output::Printer;

/// One row. Ids are 16 hexadecimal digits, as in logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    endpoint: String,
    name: String,
    node_id: String,
    shard: u32,
    role: String,
    leader: String,
    term: u64,
    last_index: u64,
    persisted_index: u64,
    commit_index: u64,
    applied_index: u64,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    under_repair: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_data: Option<String>,
}

const HEADER: [&str; 12] = [
    "endpoint",
    "name",
    "node_id",
    "shard",
    "role",
    "leader",
    "term",
    "last_index",
    "persisted_index",
    "commit_index",
    "applied_index",
    "revision",
];

/// Prints the state of every endpoint that answers. Returns true if all did.
///
/// # Errors
/// The output cannot be written to.
pub async fn run<W: Write>(global: &GlobalArgs, printer: &mut Printer<W>) -> Result<bool, CommandError> {
    let asked = cluster::ask_each(global, |endpoint, global| async move { status_of(&endpoint, &global).await });
    let mut all_answered = true;
    let mut rows = Vec::new();
    for (endpoint, answer) in asked.await {
        match answer {
            Ok(shards) => rows.extend(shards.into_iter().map(|shard| Row::new(&endpoint, shard))),
            Err(error) => {
                all_answered = false;
                eprintln!("error: {}", about(&endpoint, &error));
            }
        }
    }
    print(&rows, printer)?;
    for row in &rows {
        for what in row.troubles() {
            eprintln!("note: {} shard {}: {what}", row.name, row.shard);
        }
    }
    Ok(all_answered)
}

/// What is said of an endpoint that did not answer. Most errors name it themselves.
pub(super) fn about(endpoint: &str, error: &ClientError) -> String {
    let text = error.to_string();
    let authority = endpoint.trim().trim_start_matches("http://").trim_end_matches('/');
    if text.contains(authority) { text } else { format!("{endpoint}: {text}") }
}

async fn status_of(endpoint: &str, global: &GlobalArgs) -> Result<Vec<ShardStatus>, ClientError> {
    let client = cluster::connect_to_one(endpoint.to_owned(), global).await?;
    client.status(endpoint).await
}

fn print<W: Write>(rows: &[Row], printer: &mut Printer<W>) -> std::io::Result<()> {
    match printer.form() {
        WriteOut::Json => printer.json(&rows),
        WriteOut::Fields => rows.iter().try_for_each(|row| printer.fields_of(row)),
        WriteOut::Table => printer.table(&HEADER, rows.iter().map(|row| row.cells().to_vec()).collect()),
        WriteOut::Simple => rows.iter().try_for_each(|row| printer.line(row.cells().join(", ").as_bytes())),
    }
}

impl Row {
    fn new(endpoint: &str, status: ShardStatus) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            name: status.name,
            node_id: format!("{:016x}", status.node_id),
            shard: status.shard,
            role: status.role,
            leader: format!("{:016x}", status.leader),
            term: status.term,
            last_index: status.last_index,
            persisted_index: status.persisted_index,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            revision: status.revision,
            stopped: status.stopped,
            under_repair: status.under_repair,
            new: status.new,
            lost_data: status.lost_data,
        }
    }

    /// What is wrong there, in words.
    fn troubles(&self) -> impl Iterator<Item = String> {
        let under_repair = self.under_repair.as_ref().map(|what| format!("under repair: {what}"));
        [under_repair, self.new.clone(), self.lost_data.clone()].into_iter().flatten()
    }

    fn cells(&self) -> [String; HEADER.len()] {
        [
            self.endpoint.clone(),
            self.name.clone(),
            self.node_id.clone(),
            self.shard.to_string(),
            self.role.clone(),
            self.leader.clone(),
            self.term.to_string(),
            self.last_index.to_string(),
            self.persisted_index.to_string(),
            self.commit_index.to_string(),
            self.applied_index.to_string(),
            self.revision.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let status = ShardStatus {
            stopped: None,
            under_repair: None,
            new: None,
            lost_data: None,
            name: "a".to_owned(),
            node_id: 0xab,
            shard: 1,
            role: "leader".to_owned(),
            leader: 0xab,
            term: 2,
            last_index: 9,
            persisted_index: 8,
            commit_index: 7,
            applied_index: 6,
            revision: 5,
        };
        Row::new("127.0.0.1:2379", status)
    }

    fn printed(form: WriteOut) -> String {
        let mut out = Vec::new();
        print(&[row()], &mut Printer::new(form, &mut out)).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_endpoint_is_named_once() {
        let unknown = |reason: &str| ClientError::Unknown { reason: reason.to_owned() };
        for (endpoint, error, is_named) in [
            ("127.0.0.1:1", unknown("127.0.0.1:1: nothing listens there"), true),
            ("http://127.0.0.1:1/", unknown("127.0.0.1:1: nothing listens there"), true),
            ("127.0.0.1:1", unknown("no answer in time"), false),
        ] {
            let said = about(endpoint, &error);
            assert_eq!(said.matches("127.0.0.1:1").count(), 1, "{said}");
            assert_eq!(said == error.to_string(), is_named, "{said}");
        }
    }

    #[test]
    fn json_has_every_field_in_the_order_of_the_documentation() {
        assert_eq!(
            printed(WriteOut::Json),
            "[{\"endpoint\":\"127.0.0.1:2379\",\"name\":\"a\",\"node_id\":\"00000000000000ab\",\"shard\":1,\
             \"role\":\"leader\",\"leader\":\"00000000000000ab\",\"term\":2,\"last_index\":9,\"persisted_index\":8,\
             \"commit_index\":7,\"applied_index\":6,\"revision\":5}]\n"
        );
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let line = "127.0.0.1:2379, a, 00000000000000ab, 1, leader, 00000000000000ab, 2, 9, 8, 7, 6, 5\n";
        assert_eq!(printed(WriteOut::Simple), line);
        assert!(printed(WriteOut::Table).contains("persisted_index"));
    }
}
