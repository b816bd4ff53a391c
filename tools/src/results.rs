//! What client commands print: answers to requests in the three forms.
//!
//! Looks only; requests are made elsewhere. The JSON is documented in `docs/cli.md`.

use std::io::{self, Write};

use client::{DeleteResponse, KeyValue, OpResult, PutResponse, RangeResponse, TxnResponse};
use serde::Serialize;

use crate::args::{GetArgs, WriteOut};
use crate::output::{PairJson, Printer, printable};

/// Which parts of a range's answer are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeLooks {
    /// No values.
    pub keys_only: bool,
    /// No keys.
    pub values_only: bool,
    /// Only their number.
    pub count_only: bool,
}

impl From<&GetArgs> for RangeLooks {
    fn from(args: &GetArgs) -> Self {
        Self { keys_only: args.keys_only, values_only: args.print_value_only, count_only: args.count_only }
    }
}

/// Prints the answer to a put.
///
/// # Errors
/// The output cannot be written to.
pub fn print_put<W: Write>(put: &PutResponse, printer: &mut Printer<W>) -> io::Result<()> {
    match printer.form() {
        WriteOut::Simple => {
            printer.line(b"OK")?;
            put.prev_kv.iter().try_for_each(|kv| print_pair(kv, RangeLooks::default(), printer))
        }
        WriteOut::Json => printer.json(&PutJson::new(put)),
        WriteOut::Table => {
            printer.table(&["result", "revision"], vec![vec!["OK".to_owned(), put.revision.to_string()]])?;
            print_pairs_table(put.prev_kv.as_slice(), printer)
        }
    }
}

/// Prints the answer to a get.
///
/// # Errors
/// The output cannot be written to.
pub fn print_range<W: Write>(range: &RangeResponse, looks: RangeLooks, printer: &mut Printer<W>) -> io::Result<()> {
    match printer.form() {
        WriteOut::Simple if looks.count_only => printer.line(range.count.to_string().as_bytes()),
        WriteOut::Simple => range.kvs.iter().try_for_each(|kv| print_pair(kv, looks, printer)),
        WriteOut::Json => printer.json(&RangeJson::new(range)),
        WriteOut::Table if looks.count_only => printer.table(&["count"], vec![vec![range.count.to_string()]]),
        WriteOut::Table => printer.table(&PAIR_HEADER, pair_rows(&range.kvs)),
    }
}

/// Prints the answer to a del.
///
/// # Errors
/// The output cannot be written to.
pub fn print_delete<W: Write>(delete: &DeleteResponse, printer: &mut Printer<W>) -> io::Result<()> {
    match printer.form() {
        WriteOut::Simple => {
            printer.line(delete.deleted.to_string().as_bytes())?;
            delete.prev_kvs.iter().try_for_each(|kv| print_pair(kv, RangeLooks::default(), printer))
        }
        WriteOut::Json => printer.json(&DeleteJson::new(delete)),
        WriteOut::Table => {
            let row = vec![delete.deleted.to_string(), delete.revision.to_string()];
            printer.table(&["deleted", "revision"], vec![row])?;
            print_pairs_table(&delete.prev_kvs, printer)
        }
    }
}

/// Prints the answer to a transaction; `looks` are those of its operations, in their order.
///
/// # Errors
/// The output cannot be written to.
pub fn print_txn<W: Write>(txn: TxnResponse, looks: &[RangeLooks], printer: &mut Printer<W>) -> io::Result<()> {
    let revision = txn.revision;
    let answers: Vec<Answer> = txn.results.into_iter().map(|result| Answer::new(revision, result)).collect();
    let verdict = if txn.succeeded { "SUCCESS" } else { "FAILURE" };
    match printer.form() {
        WriteOut::Json => {
            let responses = answers.iter().map(OperationJson::new).collect();
            return printer.json(&TxnJson { revision, succeeded: txn.succeeded, responses });
        }
        WriteOut::Table => {
            printer.table(&["result", "revision"], vec![vec![verdict.to_owned(), revision.to_string()]])?;
        }
        WriteOut::Simple => printer.line(verdict.as_bytes())?,
    }
    for (at, answer) in answers.iter().enumerate() {
        if printer.form() == WriteOut::Simple {
            printer.line(b"")?;
        }
        match answer {
            Answer::Put(put) => print_put(put, printer)?,
            Answer::Range(range) => print_range(range, looks.get(at).copied().unwrap_or_default(), printer)?,
            Answer::Delete(delete) => print_delete(delete, printer)?,
        }
    }
    Ok(())
}

/// The answer to one operation of a transaction, with the transaction's revision.
enum Answer {
    Put(PutResponse),
    Range(RangeResponse),
    Delete(DeleteResponse),
}

impl Answer {
    fn new(revision: u64, result: OpResult) -> Self {
        match result {
            OpResult::Put(prev_kv) => Self::Put(PutResponse { revision, prev_kv }),
            OpResult::Range { kvs, more, count } => Self::Range(RangeResponse { revision, kvs, more, count }),
            OpResult::Delete { deleted, prev_kvs } => Self::Delete(DeleteResponse { revision, deleted, prev_kvs }),
        }
    }
}

/// Key and value on lines of their own.
fn print_pair<W: Write>(kv: &KeyValue, looks: RangeLooks, printer: &mut Printer<W>) -> io::Result<()> {
    if !looks.values_only {
        printer.line(&kv.key)?;
    }
    if !looks.keys_only {
        printer.line(&kv.value)?;
    }
    Ok(())
}

const PAIR_HEADER: [&str; 6] = ["key", "value", "create_revision", "mod_revision", "version", "lease"];

/// A second table, if there is anything in it.
fn print_pairs_table<W: Write>(kvs: &[KeyValue], printer: &mut Printer<W>) -> io::Result<()> {
    if kvs.is_empty() { Ok(()) } else { printer.table(&PAIR_HEADER, pair_rows(kvs)) }
}

fn pair_rows(kvs: &[KeyValue]) -> Vec<Vec<String>> {
    let row = |kv: &KeyValue| {
        vec![
            printable(&kv.key),
            printable(&kv.value),
            kv.create_revision.to_string(),
            kv.mod_revision.to_string(),
            kv.version.to_string(),
            format!("{:016x}", kv.lease),
        ]
    };
    kvs.iter().map(row).collect()
}

fn pair_json(kv: &KeyValue) -> PairJson {
    PairJson::new(&kv.key, &kv.value, (kv.create_revision, kv.mod_revision), kv.version, kv.lease)
}

#[derive(Serialize)]
struct PutJson {
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<PairJson>,
}

#[derive(Serialize)]
struct RangeJson {
    revision: u64,
    count: u64,
    more: bool,
    kvs: Vec<PairJson>,
}

#[derive(Serialize)]
struct DeleteJson {
    revision: u64,
    deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<PairJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum OperationJson {
    Put(PutJson),
    Get(RangeJson),
    Del(DeleteJson),
}

#[derive(Serialize)]
struct TxnJson {
    revision: u64,
    succeeded: bool,
    responses: Vec<OperationJson>,
}

impl PutJson {
    fn new(put: &PutResponse) -> Self {
        Self { revision: put.revision, prev_kv: put.prev_kv.as_ref().map(pair_json) }
    }
}

impl RangeJson {
    fn new(range: &RangeResponse) -> Self {
        let kvs = range.kvs.iter().map(pair_json).collect();
        Self { revision: range.revision, count: range.count, more: range.more, kvs }
    }
}

impl DeleteJson {
    fn new(delete: &DeleteResponse) -> Self {
        let prev_kvs = delete.prev_kvs.iter().map(pair_json).collect();
        Self { revision: delete.revision, deleted: delete.deleted, prev_kvs }
    }
}

impl OperationJson {
    fn new(answer: &Answer) -> Self {
        match answer {
            Answer::Put(put) => Self::Put(PutJson::new(put)),
            Answer::Range(range) => Self::Get(RangeJson::new(range)),
            Answer::Delete(delete) => Self::Del(DeleteJson::new(delete)),
        }
    }
}

#[cfg(test)]
mod tests;
