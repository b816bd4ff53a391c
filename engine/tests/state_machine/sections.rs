//! What a state is made of: it can be written out as of an entry while later ones are applied, and read back; and the changes
//! that it tells of make the same state again.

use std::collections::BTreeMap;

use api::command::{KeyRange, Op, Txn, encode_op_command, encode_txn_command};
use api::response::{OpResponse, Response};
use engine::state_machine::batch::{self, BatchHeader, LogTime};
use engine::state_machine::{
    Answers, BatchEntry, Change, ChangeKind, ChunkCursor, CommandRefused, Options, Scan, StateMachine,
};
use engine::types::{EntryId, Index, Lsn, Revision, Term};
use wal::testing::SimRng;

use crate::ops::{op_command, put, request, whole};

/// Random histories, unless `PROPTEST_CASES` says otherwise.
const CASES: u64 = 2_000;

fn cases() -> u64 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .map_or(CASES, |cases: u64| cases.min(CASES))
}

/// Where the payload of an entry stands in the log of these tests.
fn place(index: u64) -> u64 {
    index * 10_000
}

/// Follows the changes: the present value of each key, read from the payload at the place that the change names.
#[derive(Default)]
struct Follower {
    index: u64,
    payload: Vec<u8>,
    keys: BTreeMap<Vec<u8>, (Revision, Vec<u8>)>,
    last: Revision,
}

impl Answers for Follower {
    fn wants(&mut self, _position: usize) -> bool {
        false
    }

    fn take(&mut self, _position: usize, _answer: Result<&[u8], CommandRefused>) {
        panic!("nobody waits");
    }

    fn changed(&mut self, change: &Change<'_>) {
        assert!(change.revision >= self.last, "revisions do not go back");
        self.last = change.revision;
        match change.kind {
            ChangeKind::Put { value } => {
                let offset = usize::try_from(value.lsn.get() - place(self.index)).expect("in this entry");
                let value = self.payload[offset..offset + value.len as usize].to_vec();
                self.keys.insert(change.key.to_vec(), (change.revision, value));
            }
            ChangeKind::Delete => {
                self.keys.remove(change.key).expect("what is deleted was there");
            }
        }
    }
}

fn key(rng: &mut SimRng) -> Vec<u8> {
    let mut key = vec![b'a' + u8::try_from(rng.below(4)).expect("small")];
    if rng.below(2) == 0 {
        key.push(u8::try_from(rng.below(3)).expect("small"));
    }
    key
}

/// A command that writes, one or several keys.
fn command(rng: &mut SimRng) -> Vec<u8> {
    let (first, second) = (key(rng), key(rng));
    let value = vec![b'v'; usize::try_from(rng.below(40)).expect("small")];
    let put = Op::Put { key: &first, value: &value, lease: rng.below(3), prev_kv: false };
    let range_end: &[u8] = if rng.below(2) == 0 { &[] } else { &[0] };
    let delete = Op::Delete { range: KeyRange { key: &second, range_end }, prev_kv: false };
    let mut command = Vec::new();
    // A transaction writes no key twice.
    let is_apart = !KeyRange { key: &second, range_end }.contains(&first);
    match rng.below(6) {
        0 => encode_op_command(&delete, &mut command),
        1 if is_apart => encode_txn_command(&Txn { success: vec![put, delete], ..Txn::default() }, &mut command),
        _ => encode_op_command(&put, &mut command),
    }
    .expect("a valid command");
    command
}

/// The payload of the next entry.
fn payload(index: Index, rng: &mut SimRng) -> Vec<u8> {
    let commands: Vec<_> = (0..rng.below(4)).map(|_| command(rng)).collect();
    // Times go back now and then, as those of a new leader may.
    let header = BatchHeader { time: LogTime::new(1_000 + index.get() * 10 - rng.below(30)) };
    let mut payload = Vec::new();
    batch::encode(header, commands.iter().map(Vec::as_slice), &mut payload);
    payload
}

fn apply_to(machine: &mut StateMachine, payload: &[u8], answers: &mut dyn Answers) {
    let index = machine.applied_index().next();
    let id = EntryId::new(Term::new(1 + index.get() / 7), index);
    let before = machine.time();
    machine
        .apply_batch(&BatchEntry { id, place: Lsn::new(place(index.get())), payload }, answers)
        .expect("it is valid");
    let header = BatchHeader::decode(payload).expect("a batch has one");
    assert_eq!(machine.time(), before.max(header.time));
}

/// Applies a random entry of which nobody hears.
fn apply(machine: &mut StateMachine, rng: &mut SimRng) {
    let payload = payload(machine.applied_index().next(), rng);
    apply_to(machine, &payload, &mut |_, _: Result<&[u8], CommandRefused>| {});
}

/// Puts one key with an entry of its own.
fn write(machine: &mut StateMachine, key: &str) {
    let index = machine.applied_index().next();
    let command = op_command(&put(key.as_bytes(), b"v"));
    let mut payload = Vec::new();
    batch::encode(BatchHeader { time: LogTime::new(index.get()) }, [&command[..]], &mut payload);
    apply_to(machine, &payload, &mut |_, _: Result<&[u8], CommandRefused>| {});
}

/// Everything from the first key on, as of now.
fn all(machine: &StateMachine) -> BTreeMap<Vec<u8>, (Revision, Vec<u8>)> {
    let mut out = Vec::new();
    machine.range(&request(&whole(&[0], &[0])), &mut out).expect("a read");
    let response = Response::decode(&out).expect("an answer decodes");
    let [OpResponse::Range { kvs, .. }] = &response.ops[..] else { panic!("a range answers") };
    kvs.iter().map(|kv| (kv.key.clone(), (Revision::new(kv.mod_revision), kv.value.clone()))).collect()
}

#[test]
fn a_state_written_out_while_entries_are_applied_is_that_of_its_entry() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let mut machine = StateMachine::new(Options::default());
        (0..rng.below(30)).for_each(|_| apply(&mut machine, rng));
        let (as_of, digest) = (machine.as_of(), machine.digest());
        let bytes_limit = usize::try_from(1 + rng.below(300)).expect("small");
        let keys_limit = 1 + rng.below(8);
        let (mut cursor, mut chunks) = (ChunkCursor::default(), Vec::new());
        loop {
            let mut chunk = Vec::new();
            let mut keys = keys_limit;
            let is_last = machine.chunk(&as_of, &mut cursor, &mut keys, bytes_limit, &mut chunk);
            assert!(keys < keys_limit || is_last, "seed {seed}: it visits a key");
            // One version, with its key, may come on top of the limit.
            assert!(chunk.len() <= bytes_limit + 100, "seed {seed}: a chunk has {} bytes", chunk.len());
            chunks.push(chunk);
            if is_last {
                break;
            }
            (0..rng.below(3)).for_each(|_| apply(&mut machine, rng));
        }
        assert_eq!(machine.digest_at(&as_of), digest, "seed {seed}");
        let mut restored = StateMachine::at(Options::default(), as_of);
        chunks.iter().for_each(|chunk| restored.restore(chunk).expect("what was written out"));
        assert_eq!((restored.as_of(), restored.digest()), (as_of, digest), "seed {seed}");
        // Both go on alike from there, if nothing was applied meanwhile.
        if machine.as_of() == as_of {
            let payload = payload(as_of.applied.index.next(), rng);
            for state in [&mut machine, &mut restored] {
                apply_to(state, &payload, &mut |_, _: Result<&[u8], CommandRefused>| {});
            }
            assert_eq!(
                (restored.digest(), restored.state_bytes()),
                (machine.digest(), machine.state_bytes()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_hash_taken_in_slices_while_entries_are_applied_is_that_of_its_entry() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let mut machine = StateMachine::new(Options::default());
        (0..rng.below(30)).for_each(|_| apply(&mut machine, rng));
        let (as_of, digest) = (machine.as_of(), machine.digest());
        let (mut scan, mut out) = (Scan::default(), Vec::new());
        let keys_per_slice = 1 + rng.below(20);
        loop {
            let mut keys = keys_per_slice;
            let is_last = machine.hash_slice(&mut scan, &mut out, &mut keys);
            assert!(is_last || keys == 0, "seed {seed}: a slice ends when it has used up its keys");
            assert!(is_last || out.is_empty(), "seed {seed}: the answer comes with the last slice");
            if is_last {
                break;
            }
            (0..rng.below(3)).for_each(|_| apply(&mut machine, rng));
        }
        let expected = [as_of.revision.get(), as_of.applied.index.get(), digest];
        assert_eq!(out, expected.map(u64::to_le_bytes).concat(), "seed {seed}");
    }
}

#[test]
fn a_slice_of_a_hash_passes_over_a_bounded_number_of_keys_that_came_later() {
    let mut machine = StateMachine::new(Options::default());
    write(&mut machine, "a");
    write(&mut machine, "b");
    let (mut scan, mut out) = (Scan::default(), Vec::new());
    assert!(!machine.hash_slice(&mut scan, &mut out, &mut 1));
    for key in 0..100 {
        write(&mut machine, &format!("c{key}"));
    }
    // Ten keys in each: the other one, and the hundred that came later.
    let slices = (1..).find(|_| machine.hash_slice(&mut scan, &mut out, &mut 10)).expect("it ends");
    assert_eq!(slices, 11);
}

#[test]
fn a_chunk_passes_over_a_bounded_number_of_keys_that_came_later_and_holds_a_bounded_number_of_versions() {
    let mut machine = StateMachine::new(Options::default());
    (0..25).for_each(|_| write(&mut machine, "a"));
    let as_of = machine.as_of();
    for key in 0..100 {
        write(&mut machine, &format!("c{key}"));
    }
    let mut cursor = ChunkCursor::default();
    let mut chunk = |_: &u64| machine.chunk(&as_of, &mut cursor, &mut 10, usize::MAX, &mut Vec::new());
    // Ten versions in each, and the hundred that came later with the last five.
    assert_eq!((1..).find(&mut chunk).expect("it ends"), 13);
}

#[test]
fn changes_make_the_state_again() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let mut machine = StateMachine::new(Options::default());
        let mut follower = Follower { last: Revision::new(1), ..Follower::default() };
        for _ in 0..20 {
            let index = machine.applied_index().next();
            follower.index = index.get();
            follower.payload = payload(index, rng);
            let payload = follower.payload.clone();
            apply_to(&mut machine, &payload, &mut follower);
        }
        assert_eq!(all(&machine), follower.keys, "seed {seed}");
        assert!(follower.keys.is_empty() || follower.last <= machine.revision(), "seed {seed}");
    }
}

#[test]
fn chunks_that_are_damaged_or_out_of_order_are_refused_or_make_another_state() {
    let rng = &mut SimRng::new(7);
    let mut machine = StateMachine::new(Options::default());
    (0..30).for_each(|_| apply(&mut machine, rng));
    let as_of = machine.as_of();
    let mut chunk = Vec::new();
    assert!(machine.chunk(&as_of, &mut ChunkCursor::default(), &mut { u64::MAX }, usize::MAX, &mut chunk));
    let restored = |bytes: &[u8]| {
        let mut state = StateMachine::at(Options::default(), as_of);
        state.restore(bytes).map(|()| state.digest())
    };
    assert_eq!(restored(&chunk), Ok(machine.digest()));
    for cut in 0..chunk.len() {
        assert_ne!(restored(&chunk[..cut]), Ok(machine.digest()), "cut at {cut}");
    }
    for at in 0..chunk.len() {
        let mut damaged = chunk.clone();
        damaged[at] ^= 1 << rng.below(8);
        assert_ne!(restored(&damaged), Ok(machine.digest()), "byte {at}");
    }
    let mut state = StateMachine::at(Options::default(), as_of);
    state.restore(&chunk).expect("sound");
    assert!(state.restore(&chunk).is_err(), "the same keys again");
}
