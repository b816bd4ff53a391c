//! What client commands print: answers to requests in each form.
//!
//! Looks only; requests are made elsewhere. JSON and fields are etcdctl's; `docs/cli.md` documents them.

mod json;

use std::io::{self, Write};

use client::{DeleteResponse, KeyValue, OpResult, PutResponse, RangeResponse, TxnResponse};

use crate::args::{GetArgs, WriteOut};
use crate::cmd::Origin;
use crate::output::{FieldValue, Printer, printable};

pub(crate) use json::HeaderJson;
use json::{DeleteJson, OperationJson, PutJson, RangeJson, TxnJson};

/// Which parts of a range's answer are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeLooks {
    /// No keys.
    pub values_only: bool,
    /// Only their number.
    pub count_only: bool,
}

impl From<&GetArgs> for RangeLooks {
    fn from(args: &GetArgs) -> Self {
        Self { values_only: args.print_value_only, count_only: args.count_only }
    }
}

/// Prints the answer to a put.
///
/// # Errors
/// The output cannot be written to.
pub fn print_put<W: Write>(put: &PutResponse, origin: &Origin, printer: &mut Printer<W>) -> io::Result<()> {
    let header = HeaderJson::new(origin, put.revision);
    match printer.form() {
        WriteOut::Simple => {
            printer.line(b"OK")?;
            put.prev_kv.iter().try_for_each(|kv| print_pair(kv, RangeLooks::default(), printer))
        }
        WriteOut::Json => printer.json(&PutJson::new(header, put)),
        WriteOut::Fields => {
            header.print_fields(printer)?;
            put.prev_kv.iter().try_for_each(|kv| print_pair_fields("Prev", kv, printer))
        }
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
pub fn print_range<W: Write>(
    range: &RangeResponse,
    origin: &Origin,
    looks: RangeLooks,
    printer: &mut Printer<W>,
) -> io::Result<()> {
    let header = HeaderJson::new(origin, range.revision);
    match printer.form() {
        WriteOut::Simple if looks.count_only => printer.line(range.count.to_string().as_bytes()),
        WriteOut::Simple => range.kvs.iter().try_for_each(|kv| print_pair(kv, looks, printer)),
        WriteOut::Json => printer.json(&RangeJson::new(header, range)),
        WriteOut::Fields => {
            header.print_fields(printer)?;
            range.kvs.iter().try_for_each(|kv| print_pair_fields("", kv, printer))?;
            let more = range.more.to_string();
            printer.fields(&[("More", FieldValue::Word(&more)), ("Count", FieldValue::Number(range.count))])
        }
        WriteOut::Table if looks.count_only => printer.table(&["count"], vec![vec![range.count.to_string()]]),
        WriteOut::Table => print_pairs(&range.kvs, printer),
    }
}

/// Prints the answer to a del.
///
/// # Errors
/// The output cannot be written to.
pub fn print_delete<W: Write>(delete: &DeleteResponse, origin: &Origin, printer: &mut Printer<W>) -> io::Result<()> {
    let header = HeaderJson::new(origin, delete.revision);
    match printer.form() {
        WriteOut::Simple => {
            printer.line(delete.deleted.to_string().as_bytes())?;
            delete.prev_kvs.iter().try_for_each(|kv| print_pair(kv, RangeLooks::default(), printer))
        }
        WriteOut::Json => printer.json(&DeleteJson::new(header, delete)),
        WriteOut::Fields => {
            header.print_fields(printer)?;
            printer.fields(&[("Deleted", FieldValue::Number(delete.deleted))])?;
            delete.prev_kvs.iter().try_for_each(|kv| print_pair_fields("Prev", kv, printer))
        }
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
pub fn print_txn<W: Write>(
    txn: TxnResponse,
    origin: &Origin,
    looks: &[RangeLooks],
    printer: &mut Printer<W>,
) -> io::Result<()> {
    let revision = txn.revision;
    let header = HeaderJson::new(origin, revision);
    let answers: Vec<Answer> = txn.results.into_iter().map(|result| Answer::new(revision, result)).collect();
    let verdict = if txn.succeeded { "SUCCESS" } else { "FAILURE" };
    match printer.form() {
        WriteOut::Json => {
            let responses = answers.iter().map(OperationJson::new).collect();
            return printer.json(&TxnJson::new(header, txn.succeeded, responses));
        }
        WriteOut::Table => {
            printer.table(&["result", "revision"], vec![vec![verdict.to_owned(), revision.to_string()]])?;
        }
        WriteOut::Fields => {
            header.print_fields(printer)?;
            printer.fields(&[("Succeeded", FieldValue::Word(&txn.succeeded.to_string()))])?;
        }
        WriteOut::Simple => printer.line(verdict.as_bytes())?,
    }
    // As in etcd, the header says who answered, and those of the operations do not repeat it.
    let nobody = Origin::default();
    for (at, answer) in answers.iter().enumerate() {
        if printer.form() == WriteOut::Simple {
            printer.line(b"")?;
        }
        match answer {
            Answer::Put(put) => print_put(put, &nobody, printer)?,
            Answer::Range(range) => print_range(range, &nobody, looks.get(at).copied().unwrap_or_default(), printer)?,
            Answer::Delete(delete) => print_delete(delete, &nobody, printer)?,
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

/// Key and value on lines of their own; where there is no value, its line is empty, as with etcdctl.
fn print_pair<W: Write>(kv: &KeyValue, looks: RangeLooks, printer: &mut Printer<W>) -> io::Result<()> {
    if !looks.values_only {
        printer.bytes_line(&kv.key)?;
    }
    printer.bytes_line(&kv.value)
}

fn print_pair_fields<W: Write>(prefix: &str, kv: &KeyValue, printer: &mut Printer<W>) -> io::Result<()> {
    let name = |name: &str| format!("{prefix}{name}");
    let lease = if printer.is_hex() { format!("{:016x}", kv.lease) } else { kv.lease.to_string() };
    printer.fields(&[
        (&name("Key"), FieldValue::Bytes(&kv.key)),
        (&name("CreateRevision"), FieldValue::Number(kv.create_revision)),
        (&name("ModRevision"), FieldValue::Number(kv.mod_revision)),
        (&name("Version"), FieldValue::Number(kv.version)),
        (&name("Value"), FieldValue::Bytes(&kv.value)),
        (&name("Lease"), FieldValue::Word(&lease)),
    ])
}

const PAIR_HEADER: [&str; 6] = ["key", "value", "create_revision", "mod_revision", "version", "lease"];

/// A second table, if there is anything in it.
fn print_pairs_table<W: Write>(kvs: &[KeyValue], printer: &mut Printer<W>) -> io::Result<()> {
    if kvs.is_empty() { Ok(()) } else { print_pairs(kvs, printer) }
}

fn print_pairs<W: Write>(kvs: &[KeyValue], printer: &mut Printer<W>) -> io::Result<()> {
    let is_hex = printer.is_hex();
    let row = |kv: &KeyValue| {
        vec![
            printable(&kv.key, is_hex),
            printable(&kv.value, is_hex),
            kv.create_revision.to_string(),
            kv.mod_revision.to_string(),
            kv.version.to_string(),
            format!("{:016x}", kv.lease),
        ]
    };
    printer.table(&PAIR_HEADER, kvs.iter().map(row).collect())
}

#[cfg(test)]
mod tests;
