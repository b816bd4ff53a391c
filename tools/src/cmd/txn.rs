//! `quorate txn`.

use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStringExt;

use client::{CompareResult, CompareTarget, Op, PutOptions, Txn};

use super::{CommandError, cluster, get};
use crate::args::{GlobalArgs, TxnArgs};
use crate::output::Printer;
use crate::results::{RangeLooks, print_txn};
use crate::txn_text::{self, Compare, Operation, Reader, Relation, Target, Transaction, TxnTextError};

/// `-i` prints these before the three parts. They are etcdctl's own lines: programs that drive it wait for them.
const PROMPTS: [&str; 3] = ["compares:", "success requests (get, put, del):", "failure requests (get, put, del):"];

/// Runs the transaction on standard input.
///
/// # Errors
/// The text is no transaction, it was refused, or nobody knows whether it was done.
pub async fn run<W: Write>(args: TxnArgs, global: &GlobalArgs, printer: &mut Printer<W>) -> Result<(), CommandError> {
    let transaction = if args.interactive {
        converse(io::stdin().lock(), printer)?
    } else {
        let text = String::from_utf8(cluster::read_input()?).map_err(|_| TxnTextError::NotText)?;
        txn_text::parse(&text)?
    };
    let looks = [range_looks(&transaction.success), range_looks(&transaction.failure)];
    let (client, origin) = cluster::connect_and_ask(global).await?;
    let response = client.txn(&request(transaction)).await?;
    let [success, failure] = looks;
    let looks = if response.succeeded { success } else { failure };
    Ok(print_txn(response, &origin, &looks, printer)?)
}

/// Reads a transaction line by line and prompts for each part. A wrong line is refused at once. The third blank line ends the reading;
/// whoever ends the input before it wants nothing done.
fn converse<W: Write>(mut input: impl BufRead, printer: &mut Printer<W>) -> Result<Transaction, CommandError> {
    let mut reader = Reader::default();
    let mut prompted = 0;
    while let Some(prompt) = PROMPTS.get(reader.part()) {
        if prompted == reader.part() {
            printer.line(prompt.as_bytes())?;
            printer.flush()?;
            prompted += 1;
        }
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(CommandError::Input)? == 0 {
            return Err(TxnTextError::NotEnded.into());
        }
        reader.take(std::str::from_utf8(&line).map_err(|_| TxnTextError::NotText)?)?;
    }
    Ok(reader.finish()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::WriteOut;

    /// Returns the output while `text` is typed, the transaction or its error, and the input that was left.
    fn typed(text: &str) -> (String, Result<Transaction, String>, String) {
        let (mut out, mut input) = (Vec::new(), text.as_bytes());
        let mut printer = Printer::new(WriteOut::Simple, &mut out);
        let read = converse(&mut input, &mut printer).map_err(|error| error.to_string());
        (String::from_utf8(out).expect("text"), read, String::from_utf8_lossy(input).into_owned())
    }

    #[test]
    fn three_prompts_and_the_third_blank_line_ends_it() {
        let (said, read, rest) = typed("mod(\"a\") > \"0\"\n\nput a 1\nget a\n\n\nnot read\n");
        assert_eq!(said, "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n");
        let transaction = read.expect("a transaction");
        assert_eq!((transaction.compares.len(), transaction.success.len(), transaction.failure.len()), (1, 2, 0));
        assert_eq!(rest, "not read\n");
    }

    #[test]
    fn a_wrong_line_ends_it_at_once() {
        let (said, read, rest) = typed("mod(a) > \"0\"\n\nput a 1\n");
        assert_eq!((said.as_str(), rest.as_str()), ("compares:\n", "\nput a 1\n"));
        assert!(read.expect_err("no compare").contains("line 1: "));
    }

    #[test]
    fn whoever_leaves_before_the_third_blank_line_changes_nothing() {
        for text in ["", "\n", "\nput a 1", "\nput a 1\n", "mod(\"a\") > \"0\"\n\nput a 1\n\n", "\n\nput a 1\n"] {
            let (_, read, _) = typed(text);
            assert!(read.as_ref().is_err_and(|error| error.contains("nothing was changed")), "{text:?}: {read:?}");
        }
    }
}
