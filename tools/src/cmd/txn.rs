//! `quorate txn`.

use std::io::Write;
use std::os::unix::ffi::OsStringExt;

use client::{CompareResult, CompareTarget, Op, PutOptions, Txn};

use super::{CommandError, cluster, get};
use crate::args::{GlobalArgs, TxnArgs};
use crate::output::Printer;
use crate::results::{RangeLooks, print_txn};
use crate::txn_text::{self, Compare, Operation, Relation, Target, Transaction, TxnTextError};

const HINT: &str = "compares, a blank line, operations if they hold, a blank line, operations if not; end with ctrl-D";

/// Runs the transaction on standard input.
///
/// # Errors
/// The text is no transaction, it was refused, or nobody knows whether it was done.
pub async fn run<W: Write>(args: TxnArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<(), CommandError> {
    if args.interactive {
        eprintln!("{HINT}");
    }
    let text = String::from_utf8(cluster::read_input()?).map_err(|_| TxnTextError::NotText)?;
    let transaction = txn_text::parse(&text)?;
    let looks = [range_looks(&transaction.success), range_looks(&transaction.failure)];
    let client = cluster::connect(global).await?;
    let response = client.txn(&request(transaction)).await?;
    let [success, failure] = looks;
    let looks = if response.succeeded { success } else { failure };
    Ok(print_txn(response, &looks, printer)?)
}

/// How the answer to each operation is printed.
fn range_looks(operations: &[Operation]) -> Vec<RangeLooks> {
    let looks = |operation: &Operation| match operation {
        Operation::Get(get) => get.into(),
        Operation::Put(_) | Operation::Del(_) => RangeLooks::default(),
    };
    operations.iter().map(looks).collect()
}

fn request(transaction: Transaction) -> Txn {
    Txn {
        compares: transaction.compares.into_iter().map(compare).collect(),
        success: transaction.success.into_iter().map(operation).collect(),
        failure: transaction.failure.into_iter().map(operation).collect(),
    }
}

fn compare(compare: Compare) -> client::Compare {
    let target = match compare.target {
        Target::Version(operand) => CompareTarget::Version(operand),
        Target::CreateRevision(operand) => CompareTarget::CreateRevision(operand),
        Target::ModRevision(operand) => CompareTarget::ModRevision(operand),
        Target::Value(operand) => CompareTarget::Value(operand),
        Target::Lease(operand) => CompareTarget::Lease(operand),
    };
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
    };
    client::Compare { key: compare.key, target, result }
}

fn operation(operation: Operation) -> Op {
    match operation {
        Operation::Put(put) => Op::Put {
            key: put.key.into_vec(),
            value: put.value.unwrap_or_default().into_vec(),
            options: PutOptions { lease: put.lease, prev_kv: put.prev_kv },
        },
        Operation::Get(args) => Op::Range(get::request(&args)),
        Operation::Del(del) => {
            let (key, range_end) = del.span.bounds();
            Op::Delete { key, range_end, prev_kv: del.prev_kv }
        }
    }
}
