//! The state machine against a model that is nothing but a list of every change ever made; and what etcd's users expect.

use api::command::{
    Command, CommandError, Compare, CompareResult, CompareTarget, KeyRange, Limits, Op, RangeOp, Txn, decode,
    encode_op_command, encode_txn_command, validate,
};
use api::response::{KeyValue, OpResponse, Response};
use engine::state_machine::batch::BatchHeader;
use engine::state_machine::{Answers, CommandRefused, Options, StateMachine};
use engine::types::{Index, Revision};
use wal::testing::SimRng;

use crate::ops::{op_command, put, request, whole};
use crate::{batch_of, batch_under, delete, entry};

/// Waits for no answer.
struct Nobody;

impl Answers for Nobody {
    fn wants(&mut self, _position: usize) -> bool {
        false
    }

    fn take(&mut self, position: usize, _answer: Result<&[u8], CommandRefused>) {
        panic!("an answer that nobody wants was made for command {position}");
    }
}

/// Random histories, unless `PROPTEST_CASES` says otherwise.
const CASES: u64 = 10_000;

const LIMITS: Limits = Limits { request_bytes: 1 << 20, txn_ops: 128, shard_count: 1 };

/// The state machine keeps leases already; that clients may not name any yet is the last thing that is checked.
fn is_valid(command: &[u8]) -> bool {
    matches!(validate(command, &LIMITS), Ok(_) | Err(CommandError::NoLeases { .. }))
}

/// A machine, and the index of its last entry.
struct Machine {
    machine: StateMachine,
    index: u64,
}

impl Machine {
    fn new() -> Self {
        Self { machine: StateMachine::new(Options::default()), index: 0 }
    }

    fn apply(&mut self, commands: &[Vec<u8>]) -> Vec<Response> {
        let answers = self.try_apply(commands).into_iter();
        answers.map(|answer| answer.expect("it is not refused")).collect()
    }

    fn try_apply(&mut self, commands: &[Vec<u8>]) -> Vec<Result<Response, CommandRefused>> {
        assert!(commands.iter().all(|command| is_valid(command)), "valid commands");
        let payload = batch_of(commands);
        self.index += 1;
        let mut responses = Vec::new();
        self.machine
            .apply_batch(&entry(Index::new(self.index), &payload), &mut |_, response: Result<&[u8], CommandRefused>| {
                responses.push(response.map(|response| Response::decode(response).expect("an answer decodes")));
            })
            .expect("what is valid applies");
        responses
    }

    /// Applies without anybody waiting for the answers.
    fn apply_unseen(&mut self, commands: &[Vec<u8>]) {
        let payload = batch_of(commands);
        self.index += 1;
        self.machine.apply_batch(&entry(Index::new(self.index), &payload), &mut Nobody).expect("what is valid applies");
    }

    fn op(&mut self, op: &Op<'_>) -> Response {
        self.apply(&[op_command(op)]).remove(0)
    }

    fn txn(&mut self, txn: &Txn<'_>) -> Response {
        let mut command = Vec::new();
        encode_txn_command(txn, &mut command).expect("a valid transaction");
        self.apply(&[command]).remove(0)
    }

    fn read(&self, range: &RangeOp<'_>) -> Result<Response, String> {
        let mut out = Vec::new();
        self.machine.range(&request(range), &mut out).map_err(|error| error.to_string())?;
        Ok(Response::decode(&out).expect("an answer decodes"))
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let response = self.read(&whole(key, b"")).expect("a read");
        let Some(OpResponse::Range { kvs, .. }) = response.ops.into_iter().next() else { panic!("a range answers") };
        kvs.into_iter().next()
    }
}

/// Every change ever made, in order: revision, key, and what it is from then on.
#[derive(Default)]
struct Model {
    changes: Vec<(u64, Vec<u8>, Option<KeyValue>)>,
    revision: u64,
}

impl Model {
    fn new() -> Self {
        Self { changes: Vec::new(), revision: 1 }
    }

    fn at(&self, key: &[u8], revision: u64) -> Option<KeyValue> {
        let is_it = |change: &&(u64, Vec<u8>, Option<KeyValue>)| change.0 <= revision && change.1 == key;
        self.changes.iter().rev().find(is_it).and_then(|change| change.2.clone())
    }

    fn keys_in(&self, range: &KeyRange<'_>, revision: u64) -> Vec<KeyValue> {
        let mut keys: Vec<&Vec<u8>> = self.changes.iter().map(|change| &change.1).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().filter(|key| range.contains(key)).filter_map(|key| self.at(key, revision)).collect()
    }

    fn range(&self, op: &RangeOp<'_>, now: u64) -> OpResponse {
        let revision = if op.revision == 0 { now } else { op.revision };
        let mut kvs = self.keys_in(&op.range, revision);
        let count = kvs.len() as u64;
        let more = op.limit > 0 && count > op.limit && !op.count_only;
        if op.limit > 0 {
            kvs.truncate(usize::try_from(op.limit).expect("small"));
        }
        if op.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        if op.count_only {
            kvs.clear();
        }
        OpResponse::Range { kvs, more, count }
    }

    /// One operation of a transaction that makes revision `next` if it changes anything.
    fn op(&mut self, op: &Op<'_>, next: u64) -> OpResponse {
        match op {
            Op::Put { key, value, lease, prev_kv } => {
                let before = self.at(key, next);
                let kv = KeyValue {
                    key: key.to_vec(),
                    value: value.to_vec(),
                    create_revision: before.as_ref().map_or(next, |kv| kv.create_revision),
                    mod_revision: next,
                    version: before.as_ref().map_or(1, |kv| kv.version + 1),
                    lease: *lease,
                };
                self.changes.push((next, key.to_vec(), Some(kv)));
                OpResponse::Put { prev_kv: before.filter(|_| *prev_kv) }
            }
            Op::Delete { range, prev_kv } => {
                let gone = self.keys_in(range, next);
                self.changes.extend(gone.iter().map(|kv| (next, kv.key.clone(), None)));
                let deleted = gone.len() as u64;
                OpResponse::Delete { deleted, prev_kvs: if *prev_kv { gone } else { Vec::new() } }
            }
            Op::Range(range) => self.range(range, next),
        }
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let kv = self.at(compare.key, self.revision);
        let number = |of: fn(&KeyValue) -> u64| kv.as_ref().map_or(0, of);
        let ordering = match compare.target {
            CompareTarget::Version(wanted) => number(|kv| kv.version).cmp(&wanted),
            CompareTarget::CreateRevision(wanted) => number(|kv| kv.create_revision).cmp(&wanted),
            CompareTarget::ModRevision(wanted) => number(|kv| kv.mod_revision).cmp(&wanted),
            CompareTarget::Lease(wanted) => number(|kv| kv.lease).cmp(&wanted),
            CompareTarget::Value(wanted) => match &kv {
                Some(kv) => kv.value.as_slice().cmp(wanted),
                None => return false,
            },
        };
        compare.result.holds(ordering)
    }

    fn command(&mut self, command: &Command<'_>) -> Result<Response, CommandRefused> {
        let (succeeded, ops) = match command {
            Command::Op(op) => (true, vec![*op]),
            Command::Txn(txn) => {
                let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
                (succeeded, if succeeded { txn.success.clone() } else { txn.failure.clone() })
            }
        };
        let current = self.revision;
        for op in &ops {
            if let Op::Range(RangeOp { revision: asked, .. }) = *op
                && asked > current
            {
                let (asked, current) = (Revision::new(asked), Revision::new(current));
                return Err(CommandRefused::FutureRevision { asked, current });
            }
        }
        let (changes_before, next) = (self.changes.len(), self.revision + 1);
        let ops = ops.iter().map(|op| self.op(op, next)).collect();
        if self.changes.len() > changes_before {
            self.revision = next;
        }
        Ok(Response { revision: self.revision, succeeded, ops })
    }
}

const KEYS: [&[u8]; 6] = [b"a", b"aa", b"ab", b"b", b"b\0", b"c"];
const ENDS: [&[u8]; 5] = [b"", b"\0", b"ab", b"b", b"c"];

fn pick<'a>(rng: &mut SimRng, from: &[&'a [u8]]) -> &'a [u8] {
    from[usize::try_from(rng.below(from.len() as u64)).expect("an index")]
}

fn some_range(rng: &mut SimRng, revision_max: u64) -> RangeOp<'static> {
    RangeOp {
        range: KeyRange { key: pick(rng, &KEYS), range_end: pick(rng, &ENDS) },
        limit: rng.below(4),
        revision: if rng.chance(1, 3) { rng.below(revision_max + 1) } else { 0 },
        keys_only: rng.chance(1, 4),
        count_only: rng.chance(1, 6),
    }
}

fn some_put(rng: &mut SimRng, key: &'static [u8]) -> Op<'static> {
    Op::Put { key, value: pick(rng, &[b"", b"1", b"22", b"zzz"]), lease: rng.below(3), prev_kv: rng.chance(1, 2) }
}

fn some_op(rng: &mut SimRng) -> Op<'static> {
    match rng.below(10) {
        0..5 => {
            let key = pick(rng, &KEYS);
            some_put(rng, key)
        }
        5..8 => {
            let range = KeyRange { key: pick(rng, &KEYS), range_end: pick(rng, &ENDS) };
            Op::Delete { range, prev_kv: rng.chance(1, 2) }
        }
        // Some of them in the future, sometimes by one.
        _ => Op::Range(some_range(rng, 12)),
    }
}

fn some_compare(rng: &mut SimRng) -> Compare<'static> {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let number = rng.below(5);
    let target = match rng.below(5) {
        0 => CompareTarget::Version(number),
        1 => CompareTarget::CreateRevision(number),
        2 => CompareTarget::ModRevision(number),
        3 => CompareTarget::Lease(number),
        _ => CompareTarget::Value(pick(rng, &[b"", b"1", b"22", b"zzz"])),
    };
    let result = [Equal, Greater, Less, NotEqual][usize::try_from(rng.below(4)).expect("an index")];
    Compare { key: pick(rng, &KEYS), target, result }
}

fn some_command(rng: &mut SimRng) -> Vec<u8> {
    let mut command = Vec::new();
    if rng.chance(2, 3) {
        encode_op_command(&some_op(rng), &mut command).expect("valid");
        return command;
    }
    let mut branch = || -> Vec<Op<'static>> { (0..rng.below(4)).map(|_| some_op(rng)).collect() };
    let (success, failure) = (branch(), branch());
    let compares = (0..rng.below(3)).map(|_| some_compare(rng)).collect();
    encode_txn_command(&Txn { compares, success, failure }, &mut command).expect("valid");
    command
}

fn cases() -> u64 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

#[test]
fn it_does_what_a_list_of_changes_does() {
    let mut accepted: u64 = 0;
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let (mut machine, mut replayed, mut model) = (Machine::new(), Machine::new(), Model::new());
        for _ in 0..1 + rng.below(8) {
            let commands: Vec<Vec<u8>> = (0..1 + rng.below(4)).map(|_| some_command(rng)).collect();
            // What is refused (a key written twice in a transaction) is not part of the batch.
            let commands: Vec<_> = commands.into_iter().filter(|bytes| is_valid(bytes)).collect();
            accepted += commands.len() as u64;
            let expected: Vec<Result<Response, CommandRefused>> =
                commands.iter().map(|bytes| model.command(&decode(bytes).expect("encoded above"))).collect();
            assert_eq!(machine.try_apply(&commands), expected, "seed {seed}");
            // The same commands, each an entry of its own, make the same state.
            for command in commands {
                replayed.try_apply(&[command]);
            }
            let range = some_range(rng, model.revision);
            let read = machine.read(&range).expect("not in the future");
            assert_eq!(read.ops, vec![model.range(&range, model.revision)], "seed {seed}, {range:?}");
            assert_eq!(read.revision, model.revision, "seed {seed}");
        }
        assert_eq!(machine.machine.digest(), replayed.machine.digest(), "seed {seed}");
    }
    assert!(accepted > cases() * 5, "most commands are valid: {accepted}");
}

#[test]
fn revisions_and_versions_count_as_in_etcd() {
    let mut machine = Machine::new();
    assert_eq!(machine.machine.revision().get(), 1, "an empty store is at revision 1");
    assert_eq!(machine.op(&put(b"k", b"1")).revision, 2);
    assert_eq!(machine.op(&put(b"k", b"2")).revision, 3);
    let kv = machine.get(b"k").expect("there");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    assert_eq!(machine.op(&delete(b"missing", b"")).revision, 3, "deleting nothing changes nothing");
    assert_eq!(machine.op(&delete(b"k", b"")).revision, 4);
    assert_eq!(machine.op(&put(b"k", b"3")).revision, 5);
    let kv = machine.get(b"k").expect("there again");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn a_transaction_has_one_revision_and_none_if_it_changes_nothing() {
    let mut machine = Machine::new();
    let success = vec![put(b"a", b"1"), put(b"b", b"2"), Op::Range(whole(b"a", b""))];
    let response = machine.txn(&Txn { success, ..Txn::default() });
    assert_eq!(response.revision, 2);
    let mods = [b"a", b"b"].map(|key| machine.get(key).expect("there").mod_revision);
    assert_eq!(mods, [2, 2]);
    let Some(OpResponse::Range { kvs, .. }) = response.ops.last() else { panic!("the read answers") };
    assert_eq!(kvs[0].value, b"1", "reads see what the transaction wrote before them");
    let reads = vec![Op::Range(whole(b"a", b""))];
    assert_eq!(machine.txn(&Txn { success: reads, ..Txn::default() }).revision, 2);
}

#[test]
fn compares_with_a_missing_key_see_zeros_and_no_value() {
    let mut machine = Machine::new();
    let mut holds = |target| {
        let compares = vec![Compare { key: b"missing", target, result: CompareResult::Equal }];
        machine.txn(&Txn { compares, ..Txn::default() }).succeeded
    };
    assert!(holds(CompareTarget::Version(0)) && holds(CompareTarget::CreateRevision(0)));
    assert!(holds(CompareTarget::ModRevision(0)) && holds(CompareTarget::Lease(0)));
    assert!(!holds(CompareTarget::Value(b"")), "a key that is not there has no value, not an empty one");
}

#[test]
fn a_put_with_a_lease_is_refused_alone_and_in_a_transaction_and_compares_may_name_one() {
    let leased = Op::Put { key: b"k", value: b"v", lease: 0x1f, prev_kv: false };
    let refused = Err(CommandError::NoLeases { lease: 0x1f });
    let mut command = Vec::new();
    encode_op_command(&leased, &mut command).expect("encodes");
    assert_eq!(validate(&command, &LIMITS), refused);
    for txn in [Txn { success: vec![leased], ..Txn::default() }, Txn { failure: vec![leased], ..Txn::default() }] {
        let mut command = Vec::new();
        encode_txn_command(&txn, &mut command).expect("encodes");
        assert_eq!(validate(&command, &LIMITS), refused);
    }
    let target = CompareTarget::Lease(0x1f);
    let compares = vec![Compare { key: b"k", target, result: CompareResult::Equal }];
    let mut command = Vec::new();
    encode_txn_command(&Txn { compares, ..Txn::default() }, &mut command).expect("encodes");
    validate(&command, &LIMITS).expect("the key has no lease, which may be asked");
}

#[test]
fn a_key_written_twice_in_a_transaction_is_refused() {
    let mut command = Vec::new();
    let success = vec![put(b"k", b"1"), put(b"k", b"2")];
    encode_txn_command(&Txn { success, ..Txn::default() }, &mut command).expect("encodes");
    let error = validate(&command, &LIMITS).expect_err("as in etcd").to_string();
    assert!(error.contains("duplicate key"), "{error}");
}

#[test]
fn the_past_can_be_read_and_the_future_cannot() {
    let mut machine = Machine::new();
    machine.op(&put(b"k", b"old"));
    machine.op(&put(b"k", b"new"));
    machine.op(&delete(b"k", b""));
    let at = |revision| machine.read(&RangeOp { revision, ..whole(b"k", b"") });
    let value = |revision| match at(revision).expect("in the past").ops.remove(0) {
        OpResponse::Range { kvs, .. } => kvs.into_iter().next().map(|kv| kv.value),
        other => panic!("{other:?}"),
    };
    assert_eq!([value(2), value(3), value(4)], [Some(b"old".to_vec()), Some(b"new".to_vec()), None]);
    assert!(at(5).expect_err("in the future").contains("future revision"));
}

#[test]
fn state_does_not_depend_on_who_waits_for_answers() {
    for seed in 0..cases() / 10 {
        let mut rng = SimRng::new(seed);
        let (mut heard, mut unheard) = (Machine::new(), Machine::new());
        for _ in 0..20 {
            let commands: Vec<Vec<u8>> = (0..=rng.below(4)).map(|_| some_command(&mut rng)).collect();
            let commands: Vec<_> = commands.into_iter().filter(|bytes| is_valid(bytes)).collect();
            heard.try_apply(&commands);
            unheard.apply_unseen(&commands);
            assert_eq!(heard.machine.digest(), unheard.machine.digest(), "seed {seed}");
        }
    }
}

#[test]
fn an_answer_over_the_limit_is_told_and_the_write_is_done() {
    let header = BatchHeader { answer_bytes_limit: 1_000, ..BatchHeader::default() };
    let mut machine = Machine { machine: StateMachine::new(Options::default()), index: 0 };
    let value = [b'v'; 300];
    for key in [b"a", b"b", b"c", b"d"] {
        machine.op(&put(key, &value));
    }
    let mut command = Vec::new();
    let all = Op::Delete { range: KeyRange { key: b"a", range_end: b"z" }, prev_kv: true };
    encode_op_command(&all, &mut command).expect("a valid operation");
    let payload = batch_under(header, &[command]);
    let mut answers = Vec::new();
    let mut take = |position, answer: Result<&[u8], CommandRefused>| answers.push((position, answer.map(<[u8]>::len)));
    machine.machine.apply_batch(&entry(Index::new(5), &payload), &mut take).expect("a valid batch");
    assert_eq!(answers, [(0, Err(CommandRefused::AnswerTooLarge { bytes_limit: 1_000 }))]);
    machine.index = 5;
    assert_eq!(machine.get(b"a"), None);
    // Three of them fit.
    for key in [b"a", b"b", b"c"] {
        machine.op(&put(key, &value[..200]));
    }
    let mut command = Vec::new();
    encode_op_command(&all, &mut command).expect("a valid operation");
    let payload = batch_under(header, &[command]);
    let mut answers = Vec::new();
    let mut take = |_, answer: Result<&[u8], CommandRefused>| answers.push(answer.map(Response::decode));
    machine.machine.apply_batch(&entry(Index::new(9), &payload), &mut take).expect("a valid batch");
    let [Ok(Ok(response))] = &answers[..] else { panic!("{answers:?}") };
    let [OpResponse::Delete { deleted: 3, prev_kvs }] = &response.ops[..] else { panic!("three are deleted") };
    assert_eq!(prev_kvs.len(), 3);
}
