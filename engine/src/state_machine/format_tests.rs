//! Commands and answers against their document: tables, golden bytes and code must agree. Then random ones, and random bytes.
//!
//! `PROPTEST_CASES` sets the number of cases.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index as Choice;

use super::batch::{self, BATCH_HEADER_BYTES, BATCH_VERSION, BatchHeader, CommandHead, LogTime, Sender};
use super::section::CHUNK_HEADER_BYTES;
use super::{BatchEntry, ChunkCursor, CommandRefused, Options, StateMachine};
use crate::doc_table::{COMMAND_DOC, STATE_DOC, numbers, values};
use crate::limits::KEYS_VISITED_PER_COMMAND_MAX;
use crate::testing::fuzz;
use crate::types::{EntryId, Index, Lsn, Term};
use api::command::{
    COMMAND_VERSION, Command, Compare, CompareResult, CompareTarget, KEY_BYTES_MAX, KeyRange, Op, RangeOp, Txn, decode,
    decode_range, encode_op_command, encode_range, encode_txn_command,
};
use api::response::{KeyValue, OpResponse, Response};

/// Cases unless the environment says otherwise.
const CASES_DEFAULT: u32 = 10_000;

/// Length of a command's header. Unit: bytes.
const HEADER_BYTES: usize = 8;

fn golden(name: &str) -> Vec<u8> {
    COMMAND_DOC.golden(name)
}

fn op_command(op: &Op<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_op_command(op, &mut bytes).expect("a sound operation");
    bytes
}

fn txn_command(txn: &Txn<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_txn_command(txn, &mut bytes).expect("a sound transaction");
    bytes
}

/// The header of the golden batches.
const HEADER: BatchHeader = BatchHeader { time: LogTime::new(1_500), answer_bytes_limit: 8 << 20 };

fn batch_of(commands: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    batch::encode(HEADER, commands.iter().map(Vec::as_slice), &mut payload);
    payload
}

const K: KeyRange<'static> = KeyRange { key: b"k", range_end: b"" };

fn a_put() -> Op<'static> {
    Op::Put { key: b"k", value: b"v", lease: 7, prev_kv: true }
}

fn a_delete() -> Op<'static> {
    Op::Delete { range: KeyRange { range_end: b"l", ..K }, prev_kv: true }
}

fn a_range() -> Op<'static> {
    let range = KeyRange { key: b"a", range_end: &[0] };
    Op::Range(RangeOp { range, limit: 1, revision: 4, keys_only: true, count_only: false })
}

fn a_range_request() -> RangeOp<'static> {
    let range = KeyRange { key: b"l", ..K };
    RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: true }
}

fn a_transaction() -> Txn<'static> {
    let compare = |target, result| Compare { key: b"k", target, result };
    let range = KeyRange { range_end: &[0], ..K };
    Txn {
        compares: vec![
            compare(CompareTarget::Version(1), CompareResult::Equal),
            compare(CompareTarget::CreateRevision(1), CompareResult::Greater),
            compare(CompareTarget::ModRevision(3), CompareResult::Less),
            compare(CompareTarget::Value(b"w"), CompareResult::NotEqual),
            compare(CompareTarget::Lease(7), CompareResult::Equal),
        ],
        success: vec![
            Op::Put { key: b"l", value: b"w", lease: 0, prev_kv: false },
            Op::Range(RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false }),
        ],
        failure: vec![Op::Delete { range: K, prev_kv: false }],
    }
}

fn a_transaction_that_fails() -> Txn<'static> {
    let target = CompareTarget::Value(b"x");
    Txn {
        compares: vec![Compare { key: b"l", target, result: CompareResult::Greater }],
        success: Vec::new(),
        failure: vec![Op::Put { key: b"l", value: b"x", lease: 0, prev_kv: true }],
    }
}

/// The commands of the document in its order.
fn commands() -> [(&'static str, Command<'static>); 5] {
    [
        ("A put", Command::Op(a_put())),
        ("A transaction", Command::Txn(a_transaction())),
        ("A transaction that fails", Command::Txn(a_transaction_that_fails())),
        ("A delete", Command::Op(a_delete())),
        ("A range", Command::Op(a_range())),
    ]
}

fn encoded(command: &Command<'_>) -> Vec<u8> {
    match command {
        Command::Op(op) => op_command(op),
        Command::Txn(txn) => txn_command(txn),
    }
}

/// What the document's name for a command is in the name of its answer.
fn answer_to(name: &str) -> String {
    format!("The answer to {}", name.replacen("A ", "the ", 1))
}

#[test]
fn golden_commands_are_what_the_code_writes_and_reads() {
    for (name, command) in commands() {
        assert_eq!(encoded(&command), golden(name), "{name}");
        assert_eq!(decode(&golden(name)), Ok(command), "{name}");
    }
    let mut request = Vec::new();
    encode_range(&a_range_request(), &mut request).expect("a sound range");
    assert_eq!(request, golden("A range request"));
    assert_eq!(decode_range(&request), Ok(a_range_request()));
    let both = [op_command(&a_put()), op_command(&a_delete())];
    assert_eq!(batch_of(&both), golden("A batch"));
    let read: Result<Vec<_>, _> = batch::commands_of(&golden("A batch"))
        .expect("its header")
        .map(|item| item.map(|item| item.command.to_vec()))
        .collect();
    assert_eq!(read, Ok(both.to_vec()));
    assert_eq!(BatchHeader::decode(&golden("A batch")), Ok(HEADER));
    assert_eq!(COMMAND_DOC.all_golden("Golden bytes").len(), 2 * commands().len() + 3, "every block is checked");
}

#[test]
fn golden_answers_are_what_the_state_machine_says() {
    let mut state = StateMachine::new(Options::default());
    for (index, (name, command)) in (1..).zip(commands()) {
        let mut answers = Vec::new();
        let payload = batch_of(&[encoded(&command)]);
        let mut on_answer =
            |_, answer: Result<&[u8], CommandRefused>| answers.push(answer.expect("a small answer").to_vec());
        let id = EntryId::new(Term::new(1), Index::new(index));
        let entry = BatchEntry { id, place: Lsn::ZERO, payload: &payload };
        state.apply_batch(&entry, &mut on_answer).expect("a sound batch");
        assert_eq!(answers, [golden(&answer_to(name))], "{name} was answered {:?}", Response::decode(&answers[0]));
    }
    let mut answer = Vec::new();
    state.range(&golden("A range request"), &mut answer).expect("a sound read");
    assert_eq!(answer, golden(&answer_to("A range request")));
    let mut chunk = Vec::new();
    let reading = state.begin_reading();
    assert!(state.chunk(&reading, &mut ChunkCursor::default(), &mut { u64::MAX }, usize::MAX, &mut chunk));
    let [(_, expected)] = &STATE_DOC.all_golden("Golden bytes")[..] else { panic!("one block") };
    assert_eq!(&chunk, expected);
    let mut restored = StateMachine::at(Options::default(), state.as_of());
    restored.restore(expected).expect("a sound chunk");
    assert_eq!((restored.digest(), restored.state_bytes()), (state.digest(), state.state_bytes()));
}

#[test]
fn the_document_of_chunks_is_what_the_code_does() {
    let end = |heading: &str| STATE_DOC.layout(heading).last().expect("a field").1.end;
    assert_eq!(end("Chunk"), CHUNK_HEADER_BYTES);
    assert_eq!(STATE_DOC.numbers("Sections"), [(1, "keys".to_owned())]);
    assert_eq!(end("Key"), 8);
    assert_eq!(end("Version"), 40);
}

#[test]
fn golden_answers_are_read_back() {
    let pair = |key: &[u8], value: &[u8], create_revision, mod_revision, version, lease| KeyValue {
        key: key.to_vec(),
        value: value.to_vec(),
        create_revision,
        mod_revision,
        version,
        lease,
    };
    let (k, l) = (pair(b"k", b"v", 2, 2, 1, 7), pair(b"l", b"w", 3, 3, 1, 0));
    let put = |prev_kv| OpResponse::Put { prev_kv };
    let range = |kvs: &[&KeyValue], more, count| OpResponse::Range {
        kvs: kvs.iter().map(|&kv| kv.clone()).collect(),
        more,
        count,
    };
    let rows = [
        ("A put", 2, true, vec![put(None)]),
        ("A transaction", 3, true, vec![put(None), range(&[&k, &l], false, 2)]),
        ("A transaction that fails", 4, false, vec![put(Some(l))]),
        ("A delete", 5, true, vec![OpResponse::Delete { deleted: 1, prev_kvs: vec![k.clone()] }]),
        ("A range", 5, true, vec![range(&[&KeyValue { value: Vec::new(), ..k }], true, 2)]),
        ("A range request", 5, true, vec![range(&[], false, 1)]),
    ];
    for (name, revision, succeeded, ops) in rows {
        assert_eq!(Response::decode(&golden(&answer_to(name))), Ok(Response { revision, succeeded, ops }), "{name}");
    }
}

/// The fields that the document lays out hold these numbers.
fn assert_fields(heading: &str, bytes: &[u8], expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|&(name, number)| (name.to_owned(), number)).collect();
    assert_eq!(values(bytes, &COMMAND_DOC.layout(heading)), expected, "{heading}");
}

#[test]
fn documented_layouts_are_the_ones_in_the_code() {
    let documented: Vec<_> = COMMAND_DOC.table("Limits").into_iter().map(|row| row[..2].join(" ")).collect();
    let limits = [
        format!("COMMAND_VERSION {COMMAND_VERSION}"),
        format!("BATCH_VERSION {BATCH_VERSION}"),
        format!("BATCH_HEADER_BYTES {BATCH_HEADER_BYTES}"),
        format!("KEY_BYTES_MAX {KEY_BYTES_MAX}"),
        format!("KEYS_VISITED_PER_COMMAND_MAX {KEYS_VISITED_PER_COMMAND_MAX}"),
    ];
    assert_eq!(documented, limits);
    let bytes = golden("A transaction");
    assert_fields("Command", &bytes, &[("version", 1), ("kind", 2), ("reserved", 0)]);
    let counts = [("compares", 5), ("success", 2), ("failure", 1), ("reserved", 0)];
    assert_fields("Transaction", &bytes[HEADER_BYTES..], &counts);
    let mut txn = Txn::default();
    txn.compares.push(Compare { key: b"key", target: CompareTarget::Value(b"value"), result: CompareResult::Less });
    let fields = [("target", 4), ("result", 3), ("key_len", 3), ("value_len", 5), ("number", 0)];
    assert_fields("Compare", &txn_command(&txn)[2 * HEADER_BYTES..], &fields);
    let range = KeyRange { key: b"key", range_end: b"range" };
    let op = Op::Range(RangeOp { range, limit: 258, revision: 772, keys_only: true, count_only: true });
    let fields = [("kind", 3), ("flags", 3), ("key_len", 3), ("tail_len", 5), ("number", 258), ("revision", 772)];
    assert_fields("Operation", &op_command(&op)[HEADER_BYTES..], &fields);
    let put = Op::Put { key: b"key", value: b"", lease: 258, prev_kv: true };
    let behind = &op_command(&put)[HEADER_BYTES + 16..];
    assert_eq!(behind, b"key", "only a range has a revision");
    let bytes = golden("The answer to the transaction");
    assert_fields("Answer", &bytes, &[("revision", 3), ("succeeded", 1), ("reserved", 0), ("count", 2)]);
    let range = [("kind", 3), ("flags", 0), ("reserved", 0), ("pairs", 2), ("number", 2)];
    assert_fields("Answer to an operation", &bytes[32..], &range);
    let pair =
        [("create_revision", 2), ("mod_revision", 2), ("version", 1), ("lease", 7), ("key_len", 1), ("value_len", 1)];
    assert_fields("Pair", &bytes[48..], &pair);
}

#[test]
fn the_documented_batch_is_the_one_in_the_code() {
    let bytes = golden("A batch");
    assert_fields(
        "Batch",
        &bytes,
        &[("version", BATCH_VERSION.into()), ("reserved", 0), ("answer_bytes_limit", 8 << 20), ("time", 1_500)],
    );
    let head = CommandHead::new(b"abc", Sender::new(258, 772));
    let fields = [("command_len", 3), ("flags", 1), ("session", 258), ("sequence", 772)];
    assert_fields("Head of a command", head.as_bytes(), &fields);
}

/// The values of the byte at `at` that are accepted, each with what is read.
fn accepted<T>(bytes: &[u8], at: usize, read: impl Fn(Command<'_>) -> T) -> Vec<(u64, T)> {
    let with_byte = |byte: u8| {
        let mut changed = bytes.to_vec();
        changed[at] = byte;
        decode(&changed).ok().map(|command| (u64::from(byte), read(command)))
    };
    (0..=u8::MAX).filter_map(with_byte).collect()
}

/// The name of a variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

fn as_op(command: Command<'_>) -> String {
    match command {
        Command::Op(op) => variant(&op),
        Command::Txn(_) => panic!("a transaction"),
    }
}

fn flags_of(command: Command<'_>) -> BTreeSet<&'static str> {
    let (Command::Op(op), mut flags) = (command, BTreeSet::new()) else { panic!("a transaction") };
    match op {
        Op::Put { prev_kv, .. } | Op::Delete { prev_kv, .. } => flags.extend(prev_kv.then_some("PREV_KV")),
        Op::Range(range) => {
            flags.extend(range.keys_only.then_some("KEYS_ONLY"));
            flags.extend(range.count_only.then_some("COUNT_ONLY"));
        }
    }
    flags
}

#[test]
fn documented_kinds_are_all_there_are() {
    assert_eq!(accepted(&golden("A put"), 0, |_| ()), [(1, ())]);
    let kinds = numbers(&COMMAND_DOC.tables("Command")[1]);
    assert_eq!(kinds, [(1, "one operation".to_owned()), (2, "a transaction".to_owned())]);
    assert_eq!(accepted(&golden("A put"), 1, |command| variant(&command)), [(1, "Op".to_owned())]);
    assert_eq!(accepted(&txn_command(&Txn::default()), 1, |command| variant(&command)), [(2, "Txn".to_owned())]);
    // A put without a lease is a delete but for its kind, and what is long enough is a range.
    let key = KeyRange { key: &[1; 20], range_end: &[] };
    let mut ops = accepted(&op_command(&Op::Delete { range: key, prev_kv: false }), HEADER_BYTES, as_op);
    ops.extend(accepted(&golden("A range"), HEADER_BYTES, as_op));
    assert_eq!(COMMAND_DOC.numbers("Operations"), ops);
    for (name, kind) in [("A put", "1"), ("A delete", "2"), ("A range", "3")] {
        let mut expected = vec![(0, BTreeSet::new())];
        let rows = COMMAND_DOC.table("Flags");
        let bits = rows.iter().filter(|row| row[0] == kind);
        for (bit, flag) in bits.map(|row| (row[1].parse::<u64>().expect("a bit"), row[2].as_str())) {
            for at in 0..expected.len() {
                let (bits, mut flags) = expected[at].clone();
                flags.insert(flag);
                expected.push((bits | bit, flags));
            }
        }
        assert_eq!(accepted(&golden(name), HEADER_BYTES + 1, flags_of), expected, "{name}");
    }
}

#[test]
fn documented_targets_and_results_are_all_there_are() {
    let compare_of = |command: Command<'_>| match command {
        Command::Txn(txn) => (variant(&txn.compares[0].target), variant(&txn.compares[0].result)),
        Command::Op(_) => panic!("an operation"),
    };
    let compare = Compare { key: b"k", target: CompareTarget::Version(0), result: CompareResult::Equal };
    let bytes = txn_command(&Txn { compares: vec![compare], ..Txn::default() });
    let first = |(number, (target, _))| (number, target);
    let targets: Vec<_> = accepted(&bytes, 2 * HEADER_BYTES, compare_of).into_iter().map(first).collect();
    assert_eq!(COMMAND_DOC.numbers("Targets"), targets);
    let second = |(number, (_, result))| (number, result);
    let results: Vec<_> = accepted(&bytes, 2 * HEADER_BYTES + 1, compare_of).into_iter().map(second).collect();
    assert_eq!(COMMAND_DOC.numbers("Results"), results);
}

#[test]
fn every_reserved_byte_is_zero() {
    let put = golden("A put");
    (2..HEADER_BYTES).for_each(|at| assert_eq!(accepted(&put, at, |_| ()).len(), 1, "byte {at}"));
    let txn = golden("A transaction");
    (14..16).for_each(|at| assert_eq!(accepted(&txn, at, |_| ()).len(), 1, "byte {at}"));
    let answer = golden("The answer to the put");
    for at in [8, 9, 10, 11, 17, 18, 19, 24, 31] {
        for bit in 1..8 {
            let mut changed = answer.clone();
            changed[at] ^= 1 << bit;
            assert!(Response::decode(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
}

/// Bytes of a key or a value, often ones that others are equal to.
fn text(min: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(b'a'..=b'c', min..=min + 1),
        1 => prop::collection::vec(any::<u8>(), min..20),
    ]
}

/// An operation's parts: kind, key, what follows it, number, revision, flags.
type OpParts = (u8, Vec<u8>, Vec<u8>, u64, u64, (bool, bool));

fn op_parts() -> impl Strategy<Value = OpParts> {
    (1..=3u8, text(1), prop_oneof![text(0), Just(vec![0])], any::<u64>(), any::<u64>(), any::<(bool, bool)>())
}

fn op((kind, key, tail, number, revision, flags): &OpParts) -> Op<'_> {
    let range = KeyRange { key, range_end: tail };
    match kind {
        1 => Op::Put { key, value: tail, lease: *number, prev_kv: flags.0 },
        2 => Op::Delete { range, prev_kv: flags.0 },
        _ => {
            let (keys_only, count_only) = *flags;
            Op::Range(RangeOp { range, limit: *number, revision: *revision, keys_only, count_only })
        }
    }
}

/// A compare's parts: target, result, key, operand.
type CompareParts = (u8, u8, Vec<u8>, u64, Vec<u8>);

fn compare((target, result, key, number, value): &CompareParts) -> Compare<'_> {
    let target = match target {
        0 => CompareTarget::Version(*number),
        1 => CompareTarget::CreateRevision(*number),
        2 => CompareTarget::ModRevision(*number),
        3 => CompareTarget::Value(value),
        _ => CompareTarget::Lease(*number),
    };
    let results = [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];
    Compare { key, target, result: results[usize::from(*result)] }
}

type CommandParts = (Vec<CompareParts>, Vec<OpParts>, Vec<OpParts>);

fn command_parts() -> impl Strategy<Value = CommandParts> {
    let compare = (0..5u8, 0..4u8, text(1), prop_oneof![0..9u64, any::<u64>()], text(0));
    let ops = || prop::collection::vec(op_parts(), 0..4);
    (prop::collection::vec(compare, 0..4), ops(), ops())
}

fn command((compares, success, failure): &CommandParts) -> Command<'_> {
    match (compares.as_slice(), success.as_slice()) {
        ([], [only]) if failure.is_empty() => Command::Op(op(only)),
        _ => Command::Txn(Txn {
            compares: compares.iter().map(compare).collect(),
            success: success.iter().map(op).collect(),
            failure: failure.iter().map(op).collect(),
        }),
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES_DEFAULT);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn commands_are_read_as_they_were_written(parts in command_parts(), choice in any::<u8>(), cut in any::<Choice>()) {
        let command = command(&parts);
        let bytes = encoded(&command);
        prop_assert_eq!(decode(&bytes), Ok(command));
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        fuzz::command(&[&[choice], bytes.as_slice()].concat());
    }

    #[test]
    fn damaged_commands_break_nothing(
        parts in command_parts(), choice in any::<u8>(), at in any::<Choice>(), byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&command(&parts));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fuzz::command(&[&[choice], bytes.as_slice()].concat());
        fuzz::batch(&batch_of(&[golden("A put"), bytes]));
    }

    #[test]
    fn batches_apply_as_their_commands_do(parts in prop::collection::vec(command_parts(), 0..4), cut in any::<Choice>()) {
        let commands: Vec<_> = parts.iter().map(|parts| encoded(&command(parts))).collect();
        let payload = batch_of(&commands);
        fuzz::batch(&payload);
        fuzz::batch(&payload[..cut.index(payload.len() + 1)]);
    }

    #[test]
    fn reads_and_answers_are_what_they_are_or_refused(parts in op_parts(), at in any::<Choice>(), byte in any::<u8>()) {
        let mut bytes = op_command(&op(&parts)).split_off(HEADER_BYTES);
        fuzz::command(&[&[0], bytes.as_slice()].concat());
        let place = at.index(bytes.len());
        bytes[place] = byte;
        fuzz::command(&[&[0], bytes.as_slice()].concat());
        let mut answer = golden("The answer to the transaction");
        let place = at.index(answer.len());
        answer[place] = byte;
        fuzz::response(&answer);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        fuzz::command(&bytes);
        fuzz::batch(&bytes);
        fuzz::response(&bytes);
    }
}
