//! Checks of commands, batches and answers: their form, and what a state machine makes of them.

use codec::DecodeError;

use super::assert_is_about;
use crate::state_machine::batch::{self as batches, BATCH_HEADER_BYTES, BatchHeader, Batched, CommandHead};
use crate::state_machine::{ApplyError, BatchEntry, Budget, CommandRefused, Options, RangeError, StateMachine};
use crate::testing::LastAnswers;
use crate::types::{EntryId, Index, Lsn, Revision, Term, shard_of_key};
use api::command::{
    self, Command, CommandError, CommandInfo, KeyRange, Limits, Op, RangeOp, encode_op_command, encode_range,
    encode_txn_command,
};
use api::response::{KeyValue, OpResponse, Response};

/// Shards that inputs choose from.
const SHARD_COUNTS: [u32; 4] = [1, 2, 3, 8];

/// Size from which on the answers here take no more keys, small enough to be met. Unit: bytes.
const RANGE_BYTES_LIMIT: usize = 160;

/// A command, or a range request, as it enters.
///
/// The input: bits 0 and 1 of the first byte choose the number of shards, bit 2 narrow limits; the command follows.
pub fn command(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let shard_count = SHARD_COUNTS.get(usize::from(choice & 3)).copied().unwrap_or(1);
    let limits = if choice & 4 == 0 {
        Limits { request_bytes: 1 << 20, txn_ops: 128, shard_count }
    } else {
        Limits { request_bytes: 96, txn_ops: 2, shard_count }
    };
    check_command(bytes, &limits);
    check_read(bytes, &limits);
}

fn check_command(bytes: &[u8], limits: &Limits) {
    let decoded = command::decode(bytes);
    let validated = command::validate(bytes, limits);
    if bytes.len() as u64 > limits.request_bytes {
        assert_eq!(validated, Err(CommandError::TooLarge { got: bytes.len(), limit: limits.request_bytes }));
        return;
    }
    let command = match decoded {
        Ok(command) => command,
        Err(error) => {
            assert_is_about(&error, bytes.len());
            assert_eq!(validated, Err(CommandError::Malformed(error)));
            return;
        }
    };
    let mut written = Vec::new();
    let encoded = match &command {
        Command::Op(op) => encode_op_command(op, &mut written),
        Command::Txn(txn) => encode_txn_command(txn, &mut written),
    };
    match encoded {
        Ok(()) => assert_eq!(written, bytes, "{command:?}"),
        Err(CommandError::EmptyKey | CommandError::KeyTooLong { .. }) => {
            assert!(validated.is_err(), "what cannot be written was accepted: {command:?}");
        }
        Err(error) => panic!("{error}: {command:?}"),
    }
    match validated {
        Ok(info) => {
            check_accepted(&command, info, limits);
            check_applied(&command, bytes);
        }
        Err(error) => check_refused(&command, &error, limits),
    }
}

fn key_of<'a>(op: &Op<'a>) -> KeyRange<'a> {
    match *op {
        Op::Put { key, .. } => KeyRange { key, range_end: &[] },
        Op::Delete { range, .. } | Op::Range(RangeOp { range, .. }) => range,
    }
}

/// Every key that a command names.
fn keys_of<'a>(command: &Command<'a>) -> Vec<KeyRange<'a>> {
    match command {
        Command::Op(op) => vec![key_of(op)],
        Command::Txn(txn) => {
            let compares = txn.compares.iter().map(|compare| KeyRange { key: compare.key, range_end: &[] });
            compares.chain(txn.success.iter().chain(&txn.failure).map(key_of)).collect()
        }
    }
}

/// Every lease that a put names; 0 = none.
fn leases_of(command: &Command<'_>) -> Vec<u64> {
    let lease = |op: &Op<'_>| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } | Op::Range(_) => 0,
    };
    match command {
        Command::Op(op) => vec![lease(op)],
        Command::Txn(txn) => txn.success.iter().chain(&txn.failure).map(lease).collect(),
    }
}

/// An accepted command's keys are keys, and on the shard that was named.
fn check_accepted(command: &Command<'_>, info: CommandInfo, limits: &Limits) {
    let keys = keys_of(command);
    assert!(leases_of(command).iter().all(|lease| *lease == 0), "there are no leases: {command:?}");
    assert!(info.shard.is_none_or(|shard| shard.get() < limits.shard_count), "{info:?} of {limits:?}");
    for range in &keys {
        assert!(!range.key.is_empty() && range.key.len() <= command::KEY_BYTES_MAX, "{range:?}");
        match info.shard {
            Some(shard) => assert_eq!(shard_of_key(range.key, limits.shard_count), shard, "{range:?}"),
            None => assert!(!range.is_single() && keys.len() == 1, "{command:?} names no shard"),
        }
        assert!(range.is_single() || limits.shard_count == 1 || info.shard.is_none(), "{range:?} on one shard only");
    }
    let Command::Txn(txn) = command else { return };
    for ops in [&txn.success, &txn.failure] {
        assert!(ops.len() <= limits.txn_ops as usize && txn.compares.len() <= limits.txn_ops as usize);
        for (at, op) in ops.iter().enumerate() {
            let Op::Put { key, .. } = op else { continue };
            let others = ops.iter().enumerate().filter(|(other, _)| *other != at);
            let writes = others.filter(|(_, other)| !matches!(other, Op::Range(_)) && key_of(other).contains(key));
            assert_eq!(writes.count(), 0, "{key:?} is written twice");
        }
    }
}

/// A refusal tells the truth.
fn check_refused(command: &Command<'_>, error: &CommandError, limits: &Limits) {
    let keys = keys_of(command);
    let is_txn = matches!(command, Command::Txn(_));
    let is_true = match error {
        CommandError::EmptyKey => keys.iter().any(|range| range.key.is_empty()),
        CommandError::KeyTooLong { got } => keys.iter().any(|range| range.key.len() == *got),
        CommandError::TooManyOps { got, limit } => is_txn && *got > *limit as usize && *limit == limits.txn_ops,
        CommandError::DuplicateKey { .. } => is_txn && keys.len() > 1,
        CommandError::SeveralShards { first, second } => is_txn && first != second,
        CommandError::RangeInTxn { shard_count } => is_txn && *shard_count == limits.shard_count && *shard_count > 1,
        CommandError::NoLeases { lease } => leases_of(command).contains(lease) && *lease != 0,
        CommandError::Malformed(_) | CommandError::TooLarge { .. } => false,
    };
    assert!(is_true, "{error} said of {command:?}");
}

/// Entries for a state machine, and what it answered.
struct Machine {
    state: StateMachine,
    answers: Vec<Result<Vec<u8>, CommandRefused>>,
}

impl Machine {
    /// A few keys, one of them deleted again: revision 6.
    fn prepared() -> Self {
        let mut machine = Self {
            state: StateMachine::new(Options { range_bytes_limit: RANGE_BYTES_LIMIT, ..Options::default() })
                .with_section(Box::new(LastAnswers::default())),
            answers: Vec::new(),
        };
        for (key, value) in [("a", "1"), ("ab", "2"), ("b", "3"), ("c", "4")] {
            let put = Op::Put { key: key.as_bytes(), value: value.as_bytes(), lease: 7, prev_kv: false };
            machine.apply_op(&put);
        }
        machine.apply_op(&Op::Delete { range: KeyRange { key: b"c", range_end: &[] }, prev_kv: true });
        machine.answers.clear();
        machine
    }

    fn apply_op(&mut self, op: &Op<'_>) {
        let mut command = Vec::new();
        encode_op_command(op, &mut command).expect("a sound operation");
        self.apply(&batch_of(BatchHeader::default(), &[&command])).expect("a sound batch");
    }

    /// Applies a payload as the next entry.
    fn apply(&mut self, payload: &[u8]) -> Result<(), ApplyError> {
        let entry = entry(self.state.applied_index().next(), payload);
        let answers = &mut self.answers;
        self.state.apply_batch(&entry, &mut |_, answer: Result<&[u8], CommandRefused>| {
            answers.push(answer.map(<[u8]>::to_vec));
        })
    }

    /// Applies a payload as the next entry, one command in each slice.
    fn apply_slowly(&mut self, payload: &[u8]) -> Result<(), ApplyError> {
        let entry = entry(self.state.applied_index().next(), payload);
        let answers = &mut self.answers;
        let mut take = |_, answer: Result<&[u8], CommandRefused>| answers.push(answer.map(<[u8]>::to_vec));
        while !self.state.apply_slice(&entry, &mut Budget { bytes: 1, keys: 1 }, &mut take)? {}
        Ok(())
    }
}

fn entry(index: Index, payload: &[u8]) -> BatchEntry<'_> {
    BatchEntry { id: EntryId::new(Term::new(1), index), place: Lsn::ZERO, payload }
}

fn batch_of(header: BatchHeader, commands: &[&[u8]]) -> Vec<u8> {
    let mut payload = Vec::new();
    batches::encode(header, commands.iter().copied(), &mut payload);
    payload
}

/// What validates applies, twice, and makes the same state and the same answers whether in one entry or in two.
fn check_applied(command: &Command<'_>, bytes: &[u8]) {
    let (mut once, mut twice) = (Machine::prepared(), Machine::prepared());
    once.apply_slowly(&batch_of(BatchHeader::default(), &[bytes, bytes])).expect("what validates applies");
    let mut revision = twice.state.revision();
    for _ in 0..2 {
        twice.apply(&batch_of(BatchHeader::default(), &[bytes])).expect("what validates applies");
        let answer = match twice.answers.last().expect("an answer") {
            Ok(answer) => answer,
            Err(refused) => {
                check_not_done(command, refused, revision);
                assert_eq!(twice.state.revision(), revision, "{command:?}");
                continue;
            }
        };
        let response = Response::decode(answer).expect("an answer follows the format");
        assert_eq!(&written(&response), answer, "{response:?}");
        let is_changed = check_answer(command, &response);
        let expected = revision.get() + u64::from(is_changed);
        assert_eq!((twice.state.revision().get(), response.revision), (expected, expected), "{response:?}");
        revision = twice.state.revision();
    }
    assert_eq!(once.answers, twice.answers);
    assert_eq!((once.state.digest(), once.state.state_bytes()), (twice.state.digest(), twice.state.state_bytes()));
}

/// What is refused asked for a revision that did not exist.
fn check_not_done(command: &Command<'_>, refused: &CommandRefused, revision: Revision) {
    let CommandRefused::FutureRevision { asked, current } = *refused else {
        panic!("{command:?} was refused: {refused}");
    };
    assert!(asked > revision && current == revision, "{refused} at {revision}");
    let asks = |op: &Op<'_>| matches!(op, Op::Range(range) if range.revision == asked.get());
    let is_asked = match command {
        Command::Op(op) => asks(op),
        Command::Txn(txn) => txn.success.iter().chain(&txn.failure).any(asks),
    };
    assert!(is_asked, "{command:?}: {refused}");
}

/// The answer has the shape that was asked for; says whether it tells of a change.
fn check_answer(command: &Command<'_>, response: &Response) -> bool {
    let ops = match command {
        Command::Op(op) => {
            assert!(response.succeeded);
            vec![*op]
        }
        Command::Txn(txn) if response.succeeded => txn.success.clone(),
        Command::Txn(txn) => {
            assert!(!txn.compares.is_empty(), "nothing was compared, and did not hold");
            txn.failure.clone()
        }
    };
    assert_eq!(ops.len(), response.ops.len(), "{response:?}");
    let mut is_changed = false;
    for (op, answer) in ops.iter().zip(&response.ops) {
        match (op, answer) {
            (Op::Put { key, prev_kv: wanted, .. }, OpResponse::Put { prev_kv }) => {
                assert!(prev_kv.as_ref().is_none_or(|kv| *wanted && kv.key == *key), "{answer:?}");
                is_changed = true;
            }
            (Op::Delete { range, prev_kv: wanted }, OpResponse::Delete { deleted, prev_kvs }) => {
                assert_eq!(prev_kvs.len() as u64, if *wanted { *deleted } else { 0 });
                assert!(prev_kvs.iter().all(|kv| range.contains(&kv.key)), "{answer:?}");
                is_changed |= *deleted > 0;
            }
            (Op::Range(range), OpResponse::Range { kvs, more, count }) => check_range(range, kvs, *more, *count),
            _ => panic!("{op:?} was answered with {answer:?}"),
        }
    }
    is_changed
}

fn check_range(range: &RangeOp<'_>, kvs: &[KeyValue], more: bool, count: u64) {
    assert!(kvs.is_sorted_by(|one, other| one.key < other.key), "{kvs:?}");
    assert!(kvs.iter().all(|kv| range.range.contains(&kv.key)), "{kvs:?} of {range:?}");
    assert!(!range.keys_only || kvs.iter().all(|kv| kv.value.is_empty()), "{kvs:?} of {range:?}");
    assert!(range.limit == 0 || kvs.len() as u64 <= range.limit, "{kvs:?} of {range:?}");
    assert!(!range.range.is_single() || count <= 1, "{count} of one key");
    if range.count_only {
        assert!(kvs.is_empty() && !more);
    } else {
        assert_eq!(more, count > kvs.len() as u64, "{count} of {range:?}");
    }
}

/// A range request is answered, or refused for what is wrong with it.
fn check_read(bytes: &[u8], limits: &Limits) {
    let validated = command::validate_range(bytes, limits);
    let range = match command::decode_range(bytes) {
        Ok(range) => range,
        Err(error) => {
            assert_is_about(&error, bytes.len());
            assert!(validated.is_err());
            let (state, mut out) = (StateMachine::new(Options::default()), Vec::new());
            assert_eq!(state.range(bytes, &mut out), Err(RangeError::Malformed(error)));
            assert!(out.is_empty(), "a refusal and an answer");
            return;
        }
    };
    assert!(command::decode(bytes).is_err(), "a command and a read at once");
    let mut request = Vec::new();
    match encode_range(&range, &mut request) {
        Ok(()) => assert_eq!(request, bytes, "{range:?}"),
        Err(_) => assert!(validated.is_err(), "what cannot be written was accepted: {range:?}"),
    }
    let state = Machine::prepared().state;
    let (current, mut out) = (state.revision().get(), b"in front".to_vec());
    let result = state.range(bytes, &mut out);
    let answer = out.strip_prefix(b"in front".as_slice()).expect("an answer is appended");
    if range.revision > current {
        let (asked, current) = (Revision::new(range.revision), Revision::new(current));
        assert_eq!(result, Err(RangeError::FutureRevision { asked, current }));
        assert!(answer.is_empty(), "a refusal and an answer");
        return;
    }
    assert_eq!(result, Ok(()));
    let response = Response::decode(answer).expect("an answer follows the format");
    assert_eq!(written(&response), answer, "{response:?}");
    assert_eq!(response.revision, current);
    match response.ops.as_slice() {
        [OpResponse::Range { kvs, more, count }] => {
            check_range(&range, kvs, *more, *count);
            let at = if range.revision == 0 { current } else { range.revision };
            assert!(kvs.iter().all(|kv| kv.create_revision <= kv.mod_revision && kv.mod_revision <= at), "{kvs:?}");
        }
        ops => panic!("a read was answered with {ops:?}"),
    }
}

/// The payload of an entry: any bytes, as if the gateway had let them pass.
pub fn batch(data: &[u8]) {
    let header = match BatchHeader::decode(data) {
        Ok(header) => header,
        Err(error) => {
            assert_is_about(&error, data.len());
            let mut machine = Machine::prepared();
            assert_eq!(machine.apply(data), Err(ApplyError::Header(error)));
            assert_eq!(machine.state.digest(), Machine::prepared().state.digest());
            return;
        }
    };
    let mut commands: Vec<Batched<'_>> = Vec::new();
    let mut failure = None;
    for command in batches::commands(&data[BATCH_HEADER_BYTES..]) {
        assert_eq!(failure, None, "nothing follows an error");
        match command {
            Ok(command) => commands.push(command),
            Err(error) => failure = Some(error),
        }
    }
    let mut whole = header.encode().to_vec();
    for Batched { command, sender, bytes_count } in &commands {
        let before = whole.len();
        whole.extend_from_slice(CommandHead::new(command, *sender).as_bytes());
        whole.extend_from_slice(command);
        assert_eq!(whole.len() - before, *bytes_count);
    }
    match failure {
        None => assert_eq!(whole, data, "{commands:?}"),
        Some(error) => {
            assert!(data.starts_with(&whole) && data.len() > whole.len());
            assert_is_about(&error, data.len() - whole.len());
        }
    }
    check_batch_applied(data, header, &commands, failure);
}

/// A batch is applied up to its first mistake, which is named; one entry or many make no difference.
fn check_batch_applied(data: &[u8], header: BatchHeader, commands: &[Batched<'_>], failure: Option<DecodeError>) {
    let errors = commands.iter().map(|batched| command::decode(batched.command).err());
    let mistake =
        errors.chain([failure]).enumerate().find_map(|(position, error)| error.map(|error| (position, error)));
    let sound = mistake.map_or(commands.len(), |(position, _)| position);
    let mut machine = Machine::prepared();
    let due = machine.state.applied_index().next();
    let mut refuse = |_, _: Result<&[u8], CommandRefused>| panic!("an entry out of order was answered");
    let early = machine.state.apply_batch(&entry(due.next(), data), &mut refuse);
    assert_eq!(early, Err(ApplyError::OutOfOrder { got: due.next(), expected: due }));
    let expected = mistake.map_or(Ok(()), |(position, error)| Err(ApplyError::Malformed { position, error }));
    assert_eq!(machine.apply(data), expected);
    assert_eq!(machine.answers.len(), sound, "one answer to each command");
    let mut apart = Machine::prepared();
    // An entry of its own for each command; one without commands brings the time.
    apart.apply(&batch_of(header, &[])).expect("it is sound");
    for batched in commands.iter().take(sound) {
        let mut payload = Vec::new();
        batches::encode_sent(header, [(batched.sender, batched.command)], &mut payload);
        apart.apply(&payload).expect("it is sound");
    }
    assert_eq!(machine.answers, apart.answers);
    // An entry that is not complete is not part of the digest.
    let digest = if expected.is_ok() { apart.state.digest() } else { Machine::prepared().state.digest() };
    assert_eq!((machine.state.digest(), machine.state.revision()), (digest, apart.state.revision()));
    let applied = if expected.is_ok() { due } else { Index::new(due.get() - 1) };
    assert_eq!(machine.state.applied_index(), applied);
}

/// An answer as a client reads it.
pub fn response(data: &[u8]) {
    match Response::decode(data) {
        Ok(response) => assert_eq!(written(&response), data, "{response:?}"),
        Err(error) => assert_is_about(&error, data.len()),
    }
}

/// An answer as `docs/format/command.md` has it.
fn written(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&response.revision.to_le_bytes());
    out.extend_from_slice(&[response.succeeded.into(), 0, 0, 0]);
    out.extend_from_slice(&length(response.ops.len()));
    for op in &response.ops {
        let (kind, more, kvs, number) = match op {
            OpResponse::Put { prev_kv } => (1, false, prev_kv.as_slice(), 0),
            OpResponse::Delete { deleted, prev_kvs } => (2, false, prev_kvs.as_slice(), *deleted),
            OpResponse::Range { kvs, more, count } => (3, *more, kvs.as_slice(), *count),
        };
        out.extend_from_slice(&[kind, more.into(), 0, 0]);
        out.extend_from_slice(&length(kvs.len()));
        out.extend_from_slice(&number.to_le_bytes());
        for kv in kvs {
            for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&length(kv.key.len()));
            out.extend_from_slice(&length(kv.value.len()));
            out.extend_from_slice(&kv.key);
            out.extend_from_slice(&kv.value);
        }
    }
    out
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("inputs are small").to_le_bytes()
}
