//! Work in slices: whatever the budgets, state and answers are those of one go; and what is refused because it would be too much.

use api::command::{KeyRange, Limits, Op, RangeOp, Txn, encode_op_command, encode_txn_command, validate};
use api::response::{OpResponse, Response};
use engine::state_machine::batch::BatchHeader;
use engine::state_machine::{Answers, Budget, CommandRefused, Options, Scan, StateMachine};
use engine::types::{Index, Revision};
use wal::testing::SimRng;

use crate::ops::{op_command, put, request, whole};
use crate::{batch_of, batch_under, delete, entry};

/// Random histories, unless `PROPTEST_CASES` says otherwise.
const CASES: u64 = 2_000;

const LIMITS: Limits = Limits { request_bytes: 8 << 20, txn_ops: 128, shard_count: 1 };

type Answer = (usize, Result<Vec<u8>, CommandRefused>);

/// Keeps the answers that it wants.
#[derive(Default)]
struct Kept {
    /// Waits for the answer to one of so many commands; 0 = for none.
    one_in: usize,
    /// Has room for so many answers before the slice ends.
    room: usize,
    taken: Vec<Answer>,
}

impl Answers for Kept {
    fn wants(&mut self, position: usize) -> bool {
        self.one_in > 0 && position.is_multiple_of(self.one_in)
    }

    fn take(&mut self, position: usize, answer: Result<&[u8], CommandRefused>) {
        self.taken.push((position, answer.map(<[u8]>::to_vec)));
    }

    fn is_full(&self) -> bool {
        self.taken.len() >= self.room
    }
}

/// Applies a batch in one go.
fn apply(machine: &mut StateMachine, commands: &[Vec<u8>]) -> Vec<Answer> {
    let index = machine.applied_index().next();
    let mut kept = Kept { one_in: 1, room: usize::MAX, taken: Vec::new() };
    // Room for large answers.
    let header = BatchHeader { answer_bytes_limit: 16 << 20, ..BatchHeader::default() };
    machine.apply_batch(&entry(index, &batch_under(header, commands)), &mut kept).expect("what is valid applies");
    kept.taken
}

fn txn_command(success: Vec<Op<'_>>) -> Vec<u8> {
    let mut command = Vec::new();
    encode_txn_command(&Txn { success, ..Txn::default() }, &mut command).expect("a valid transaction");
    validate(&command, &LIMITS).expect("a valid transaction");
    command
}

fn cases() -> u64 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

const KEYS: [&[u8]; 8] = [b"a", b"aa", b"ab", b"b", b"b\0", b"c", b"cc", b"d"];
const ENDS: [&[u8]; 6] = [b"", b"\0", b"ab", b"b", b"c", b"e"];

fn pick<'a>(rng: &mut SimRng, from: &[&'a [u8]]) -> &'a [u8] {
    from[usize::try_from(rng.below(from.len() as u64)).expect("an index")]
}

fn some_range(rng: &mut SimRng) -> RangeOp<'static> {
    RangeOp {
        range: KeyRange { key: pick(rng, &KEYS), range_end: pick(rng, &ENDS) },
        limit: rng.below(4),
        revision: if rng.chance(1, 3) { rng.below(20) } else { 0 },
        keys_only: rng.chance(1, 4),
        count_only: rng.chance(1, 6),
    }
}

fn some_op(rng: &mut SimRng) -> Op<'static> {
    match rng.below(10) {
        0..6 => Op::Put { key: pick(rng, &KEYS), value: pick(rng, &[b"", b"1", b"zzz"]), lease: 0, prev_kv: true },
        6..8 => delete(pick(rng, &KEYS), pick(rng, &ENDS)),
        _ => Op::Range(some_range(rng)),
    }
}

fn some_commands(rng: &mut SimRng) -> Vec<Vec<u8>> {
    let mut commands = Vec::new();
    for _ in 0..rng.below(6) {
        let mut command = Vec::new();
        if rng.chance(2, 3) {
            encode_op_command(&some_op(rng), &mut command).expect("valid");
        } else {
            let success = (0..rng.below(4)).map(|_| some_op(rng)).collect();
            encode_txn_command(&Txn { success, ..Txn::default() }, &mut command).expect("valid");
        }
        if validate(&command, &LIMITS).is_ok() {
            commands.push(command);
        }
    }
    commands
}

/// A read that is being answered in slices, and what it would be answered in one go when it began.
struct Running {
    request: Vec<u8>,
    scan: Scan,
    out: Vec<u8>,
    expected: Option<Vec<u8>>,
}

impl Running {
    fn new(range: &RangeOp<'_>) -> Self {
        Self { request: request(range), scan: Scan::default(), out: b"before".to_vec(), expected: None }
    }

    /// Does a slice; says whether it was the last.
    fn go_on(&mut self, machine: &StateMachine, mut budget: Budget) -> bool {
        if self.expected.is_none() {
            let mut expected = b"before".to_vec();
            if let Err(error) = machine.range(&self.request, &mut expected) {
                let refused = machine.range_slice(&self.request, &mut self.scan, &mut self.out, 6, &mut budget);
                assert_eq!((refused, &self.out[..]), (Err(error), &b"before"[..]));
                return true;
            }
            self.expected = Some(expected);
        }
        let given = budget;
        let is_done = machine.range_slice(&self.request, &mut self.scan, &mut self.out, 6, &mut budget);
        let is_done = is_done.expect("it was not refused at first");
        assert!(is_done || budget.is_spent(), "it stopped with {budget:?} of {given:?} left");
        assert!(self.scan.is_begun());
        if is_done {
            assert_eq!(Some(&self.out), self.expected.as_ref(), "it is answered as in one go");
        }
        is_done
    }
}

#[test]
fn slices_of_any_size_make_the_same_state_and_the_same_answers() {
    let (mut slices, mut resumed, mut in_a_command) = (0, 0, 0);
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let options = Options { command_keys_limit: 1 + rng.below(12), ..Options::default() };
        let mut whole = StateMachine::new(options);
        let mut sliced = StateMachine::new(options);
        let mut running: Vec<Running> = Vec::new();
        for number in 1..=1 + rng.below(8) {
            let index = Index::new(number);
            let commands = some_commands(rng);
            let payload = batch_of(&commands);
            let expected = apply(&mut whole, &commands);
            let one_in = usize::try_from(rng.below(3)).expect("small");
            let mut taken = Vec::new();
            let before = (sliced.applied_index(), sliced.digest());
            loop {
                let at_first = sliced.revision();
                let mut budget = Budget { bytes: 1 + rng.below(80), keys: 1 + rng.below(9) };
                let mut kept =
                    Kept { one_in, room: usize::try_from(1 + rng.below(3)).expect("small"), taken: Vec::new() };
                let is_done = sliced.apply_slice(&entry(index, &payload), &mut budget, &mut kept).expect("it is valid");
                in_a_command += u64::from(one_in == 1 && kept.taken.is_empty() && !is_done);
                assert!(one_in != 1 || !kept.taken.is_empty() || sliced.revision() == at_first, "seed {seed}");
                taken.append(&mut kept.taken);
                slices += 1;
                // Nothing of a command that is not done is seen: the other machine has its revisions whole.
                assert_eq!(all_keys(&sliced, sliced.revision()), all_keys(&whole, sliced.revision()), "seed {seed}");
                // Reads go on between the commands of one entry.
                running.push(Running::new(&some_range(rng)));
                running.retain_mut(|read| {
                    resumed += u64::from(read.scan.is_begun());
                    !read.go_on(&sliced, Budget { bytes: 1 + rng.below(200), keys: 1 + rng.below(3) })
                });
                if is_done {
                    break;
                }
                assert_eq!((sliced.applied_index(), sliced.digest()), before, "seed {seed}: the entry is not complete");
            }
            let wanted = |answer: &&Answer| one_in > 0 && answer.0.is_multiple_of(one_in);
            assert_eq!(taken, expected.iter().filter(wanted).cloned().collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(sliced.applied_index(), index);
            assert_eq!((sliced.digest(), sliced.revision()), (whole.digest(), whole.revision()), "seed {seed}");
            assert_eq!(sliced.state_bytes(), whole.state_bytes(), "seed {seed}");
        }
        while !running.is_empty() {
            running.retain_mut(|read| !read.go_on(&sliced, Budget { bytes: 1, keys: 1 }));
        }
    }
    assert!(slices > cases() * 5 && resumed > cases() / 2, "{slices} slices, {resumed} of reads that went on");
    assert!(in_a_command > cases() / 10, "{in_a_command} slices ended in a command");
}

/// What is there at a revision.
fn all_keys(machine: &StateMachine, revision: Revision) -> Vec<OpResponse> {
    let mut out = Vec::new();
    let all = RangeOp { revision: revision.get(), ..whole(b"\0", b"\0") };
    machine.range(&request(&all), &mut out).expect("a revision that exists");
    Response::decode(&out).expect("it decodes").ops
}

#[test]
fn no_slice_visits_more_keys_or_makes_more_bytes_than_a_step_beyond_its_budget() {
    const KEYS: u64 = 3_000;
    let mut machine = StateMachine::new(Options::default());
    let value = [7; 100];
    for first in (0..KEYS).step_by(100) {
        let keys: Vec<_> = (first..first + 100).map(|number| format!("k{number:05}").into_bytes()).collect();
        apply(&mut machine, &keys.iter().map(|key| op_command(&put(key, &value))).collect::<Vec<_>>());
    }
    /// Counts what is seen of deleted keys.
    #[derive(Default)]
    struct Seen {
        changes: usize,
        answer: Option<Result<Vec<u8>, CommandRefused>>,
    }
    impl Answers for Seen {
        fn wants(&mut self, _position: usize) -> bool {
            true
        }
        fn take(&mut self, _position: usize, answer: Result<&[u8], CommandRefused>) {
            self.answer = Some(answer.map(<[u8]>::to_vec));
        }
        fn changed(&mut self, _change: &engine::state_machine::Change<'_>) {
            self.changes += 1;
        }
    }
    let all = Op::Range(whole(b"k", b"l"));
    let commands =
        [txn_command(vec![all, all, delete(b"k", b"k00100"), put(b"x", &value)]), op_command(&delete(b"k", b"l"))];
    for (command, expected_slices, deleted) in [(&commands[0], 60, 100), (&commands[1], 29, KEYS - 100)] {
        let payload = batch_of(std::slice::from_ref(command));
        let index = machine.applied_index().next();
        let revision = machine.revision();
        let (mut slices, mut seen) = (0, Seen::default());
        loop {
            slices += 1;
            let before = seen.changes;
            let mut budget = Budget { bytes: 1 << 20, keys: 100 };
            let is_done = machine.apply_slice(&entry(index, &payload), &mut budget, &mut seen).expect("it is valid");
            assert!(seen.changes - before <= 101, "{} keys in one slice", seen.changes - before);
            if is_done {
                break;
            }
            assert!(seen.answer.is_none() && machine.revision() == revision);
        }
        assert!(slices >= expected_slices, "{slices} slices");
        let answer = seen.answer.take().expect("an answer").expect("it is not too large");
        let response = Response::decode(&answer).expect("it decodes");
        let of_delete = response.ops.iter().find_map(|op| match op {
            OpResponse::Delete { deleted, prev_kvs } => Some((*deleted, prev_kvs.len() as u64)),
            _ => None,
        });
        assert_eq!(of_delete, Some((deleted, deleted)));
        assert_eq!((machine.revision(), response.revision), (revision.next(), revision.next().get()));
    }
}

#[test]
fn a_transaction_that_reads_the_future_fails_as_a_whole() {
    let mut machine = StateMachine::new(Options::default());
    apply(&mut machine, &[op_command(&put(b"k", b"1"))]);
    let at = |revision| Op::Range(RangeOp { revision, ..whole(b"k", b"") });
    let digest_of = |machine: &StateMachine| (machine.digest(), machine.revision().get(), machine.state_bytes());
    let before = digest_of(&machine);
    // The current revision is 2; the transaction would make revision 3, which does not exist when it is checked.
    for asked in [3, 4, u64::MAX] {
        let commands = [txn_command(vec![put(b"k", b"2"), at(asked)]), op_command(&at(asked))];
        let expected = Err(CommandRefused::FutureRevision { asked: Revision::new(asked), current: Revision::new(2) });
        for (_, answer) in apply(&mut machine, &commands) {
            assert_eq!(answer, expected);
        }
        assert_eq!(digest_of(&machine).1, before.1);
    }
    assert_eq!((digest_of(&machine).1, digest_of(&machine).2), (before.1, before.2));
    // The branch that is not taken does not count, as in etcd.
    let mut command = Vec::new();
    let txn = Txn { success: vec![put(b"k", b"2")], failure: vec![at(99)], ..Txn::default() };
    encode_txn_command(&txn, &mut command).expect("valid");
    let answers = apply(&mut machine, &[command, txn_command(vec![put(b"k", b"3"), at(3)])]);
    let mut values = answers.into_iter().map(|(_, answer)| Response::decode(&answer.expect("done")).expect("decodes"));
    let last = values.next_back().expect("two answers");
    let Some(OpResponse::Range { kvs, .. }) = last.ops.last() else { panic!("{last:?}") };
    assert_eq!((kvs[0].value.as_slice(), last.revision), (&b"2"[..], 4), "as it was before the transaction");
}

#[test]
fn every_range_of_a_transaction_has_a_limit_of_its_own_and_never_looks_empty() {
    let mut machine = StateMachine::new(Options::default());
    let value = vec![b'v'; 1_500_000];
    for key in [b"a", b"b", b"c", b"d", b"e"] {
        apply(&mut machine, &[op_command(&put(key, &value))]);
    }
    let gets = |keys: &[&'static [u8]]| keys.iter().map(|key| Op::Range(whole(key, b""))).collect();
    let kvs_of = |machine: &mut StateMachine, command| {
        let (_, answer) = apply(machine, &[command]).remove(0);
        let response = Response::decode(&answer.expect("it is answered")).expect("it decodes");
        let kvs_of = |op: &OpResponse| match op {
            OpResponse::Range { kvs, more, count } => (kvs.len(), *more, *count),
            other => panic!("{other:?}"),
        };
        response.ops.iter().map(kvs_of).collect::<Vec<_>>()
    };
    let found = kvs_of(&mut machine, txn_command(gets(&[b"a", b"b", b"c", b"d", b"e"])));
    assert_eq!(found, [(1, false, 1); 5]);
    // Three reach 4 MiB, whatever was answered before.
    let ranges = vec![Op::Range(whole(b"a", b"z")), Op::Range(whole(b"a", b"z"))];
    assert_eq!(kvs_of(&mut machine, txn_command(ranges)), [(3, true, 5); 2]);
    // Together they may be too large: nothing was changed, or it is said that it was.
    let many = || vec![Op::Range(whole(b"a", b"z")); 8];
    let answers = apply(&mut machine, &[txn_command(many())]);
    assert!(matches!(answers[0].1, Err(CommandRefused::ReadTooLarge { .. })), "{:?}", answers[0].1.as_ref().err());
    let revision = machine.revision();
    let answers = apply(&mut machine, &[txn_command([many(), vec![put(b"k", b"v")]].concat())]);
    assert!(matches!(answers[0].1, Err(CommandRefused::AnswerTooLarge { .. })));
    assert_eq!(machine.revision().get(), revision.get() + 1, "and it was done");

    // A single key is answered whatever its size.
    let mut small = StateMachine::new(Options { range_bytes_limit: 10, ..Options::default() });
    apply(&mut small, &[op_command(&put(b"a", &value)), op_command(&put(b"b", b"1"))]);
    assert_eq!(kvs_of(&mut small, txn_command(vec![Op::Range(whole(b"a", b"z"))])), [(1, true, 2)]);
    let mut out = Vec::new();
    small.range(&request(&whole(b"a", b"z")), &mut out).expect("a read");
    assert!(out.len() > value.len());
}

#[test]
fn a_command_that_visits_too_many_keys_is_refused_before_anything_is_done() {
    let mut machine = StateMachine::new(Options { command_keys_limit: 3, ..Options::default() });
    let keys = [b"a", b"b", b"c", b"d"];
    apply(&mut machine, &keys.map(|key| op_command(&put(key, b"v"))));
    let refused = Err(CommandRefused::TooManyKeys { limit: 3 });
    let count = |key, end| Op::Range(RangeOp { count_only: true, ..whole(key, end) });
    let before = (machine.revision(), machine.state_bytes());
    for command in [
        op_command(&delete(b"a", b"z")),
        op_command(&delete(b"a", b"\0")),
        op_command(&count(b"a", b"z")),
        txn_command(vec![put(b"k", b"v"), count(b"a", b"d")]),
        txn_command(vec![count(b"a", b"b"), count(b"a", b"b"), count(b"a", b"b"), count(b"a", b"b")]),
    ] {
        assert_eq!(apply(&mut machine, &[command])[0].1, refused);
        assert_eq!((machine.revision(), machine.state_bytes()), before);
    }
    for command in [op_command(&delete(b"a", b"d")), txn_command(vec![put(b"k", b"v"), count(b"a", b"c")])] {
        apply(&mut machine, &[command])[0].1.as_ref().expect("within the limit");
    }
    // Keys that were deleted are visited all the same.
    assert_eq!(apply(&mut machine, &[op_command(&count(b"a", b"z"))])[0].1, refused);
}
