//! What a state is made of: it can be written out as of an entry while later ones are applied, and read back; and the changes
//! that it tells of make the same state again.

use std::collections::BTreeMap;

use api::command::{KeyRange, Op, Txn, encode_op_command, encode_txn_command};
use api::response::{KeyValue, KvView, OpResponse, Response};
use engine::state_machine::batch::{self, BatchHeader, LogTime, Sender};
use engine::state_machine::section::{AsOf, CHUNK_HEADER_BYTES};
use engine::state_machine::{
    Answers, ApplyError, BatchEntry, Budget, Change, ChangeKind, ChunkCursor, CommandRefused, Options, Reading, Scan,
    StateMachine,
};
use engine::testing::LastAnswers;
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

/// Follows the changes: what each key is now, with its value read from the payload at the place that the change names.
#[derive(Default)]
struct Follower {
    index: u64,
    payload: Vec<u8>,
    keys: BTreeMap<Vec<u8>, KeyValue>,
    last: Revision,
    /// Looks away, and is told nothing meanwhile.
    is_away: bool,
}

impl Answers for Follower {
    fn wants(&mut self, _position: usize) -> bool {
        false
    }

    fn take(&mut self, _position: usize, _answer: Result<&[u8], CommandRefused>) {
        panic!("nobody waits");
    }

    fn follows_changes(&self) -> bool {
        !self.is_away
    }

    fn changed(&mut self, change: &Change<'_>) {
        assert!(!self.is_away, "whoever looks away is told nothing");
        assert!(change.revision >= self.last, "revisions do not go back");
        self.last = change.revision;
        let before = change.before.map(|kv| key_value(&kv));
        assert_eq!(before.as_ref(), self.keys.get(change.key), "what it was before");
        match change.kind {
            ChangeKind::Put { value, create_revision, version, lease } => {
                let offset = usize::try_from(value.lsn.get() - place(self.index)).expect("in this entry");
                let value = self.payload[offset..offset + value.len as usize].to_vec();
                let (create_revision, mod_revision) = (create_revision.get(), change.revision.get());
                let key = change.key.to_vec();
                let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision, version, lease };
                self.keys.insert(key, kv);
            }
            ChangeKind::Delete => {
                self.keys.remove(change.key).expect("what is deleted was there");
            }
        }
    }
}

fn key_value(kv: &KvView<'_>) -> KeyValue {
    KeyValue {
        key: kv.key.to_vec(),
        value: kv.value.to_vec(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
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
    let put = Op::Put { key: &first, value: &value, lease: rng.below(3), prev_kv: rng.chance(1, 2) };
    let range_end: &[u8] = if rng.below(2) == 0 { &[] } else { &[0] };
    let delete = Op::Delete { range: KeyRange { key: &second, range_end }, prev_kv: rng.chance(1, 2) };
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

/// A state with a section that overwrites and forgets.
fn machine_at(as_of: AsOf) -> StateMachine {
    StateMachine::at(Options::default(), as_of).with_section(Box::new(LastAnswers::default()))
}

fn new_machine() -> StateMachine {
    machine_at(AsOf::EMPTY)
}

/// One of a few sessions, or none.
fn sender(rng: &mut SimRng) -> Option<Sender> {
    Sender::new(rng.below(6), rng.below(20))
}

/// The payload of the next entry.
fn payload(index: Index, rng: &mut SimRng) -> Vec<u8> {
    let commands: Vec<_> = (0..rng.below(4)).map(|_| (sender(rng), command(rng))).collect();
    // Times go back now and then, as those of a new leader may.
    let header = BatchHeader { time: LogTime::new(1_000 + index.get() * 10 - rng.below(30)), ..BatchHeader::default() };
    let mut payload = Vec::new();
    batch::encode_sent(header, commands.iter().map(|(sender, command)| (*sender, &command[..])), &mut payload);
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
    batch::encode(
        BatchHeader { time: LogTime::new(index.get()), ..BatchHeader::default() },
        [&command[..]],
        &mut payload,
    );
    apply_to(machine, &payload, &mut |_, _: Result<&[u8], CommandRefused>| {});
}

/// Everything from the first key on, as of now.
fn all(machine: &StateMachine) -> BTreeMap<Vec<u8>, KeyValue> {
    let mut out = Vec::new();
    machine.range(&request(&whole(&[0], &[0])), &mut out).expect("a read");
    let mut response = Response::decode(&out).expect("an answer decodes");
    let Some(OpResponse::Range { kvs, .. }) = response.ops.pop() else { panic!("a range answers") };
    kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect()
}

#[test]
fn a_state_written_out_while_entries_are_applied_is_that_of_its_entry() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let mut machine = new_machine();
        (0..rng.below(30)).for_each(|_| apply(&mut machine, rng));
        let (reading, digest) = (machine.begin_reading(), machine.digest());
        let as_of = *reading.as_of();
        assert_eq!(as_of, machine.as_of(), "seed {seed}");
        let bytes_limit = usize::try_from(1 + rng.below(300)).expect("small");
        let keys_limit = 1 + rng.below(8);
        let (mut cursor, mut chunks) = (ChunkCursor::default(), Vec::new());
        loop {
            let mut chunk = Vec::new();
            let mut keys = keys_limit;
            let is_last = machine.chunk(&reading, &mut cursor, &mut keys, bytes_limit, &mut chunk);
            // A section without records is a chunk all the same.
            assert!(keys < keys_limit || chunk.len() == CHUNK_HEADER_BYTES, "seed {seed}: it visits a key");
            // One version, with its key, may come on top of the limit.
            assert!(chunk.len() <= bytes_limit + 100, "seed {seed}: a chunk has {} bytes", chunk.len());
            chunks.push(chunk);
            if is_last {
                break;
            }
            (0..rng.below(3)).for_each(|_| apply(&mut machine, rng));
        }
        assert_eq!(machine.digest_at(&reading), digest, "seed {seed}");
        let mut restored = machine_at(as_of);
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
        let mut machine = new_machine();
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
        assert!(machine.readings_count() == 0, "seed {seed}: its reading is over");
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
    let reading = machine.begin_reading();
    for key in 0..100 {
        write(&mut machine, &format!("c{key}"));
    }
    let mut cursor = ChunkCursor::default();
    let mut chunk = |_: &u64| machine.chunk(&reading, &mut cursor, &mut 10, usize::MAX, &mut Vec::new());
    // Ten versions in each, and the hundred that came later with the last five.
    assert_eq!((1..).find(&mut chunk).expect("it ends"), 13);
}

#[test]
fn changes_make_the_state_again() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed);
        let mut machine = new_machine();
        let mut follower = Follower { last: Revision::new(1), ..Follower::default() };
        for _ in 0..20 {
            let index = machine.applied_index().next();
            follower.index = index.get();
            follower.payload = payload(index, rng);
            follower.is_away = rng.chance(1, 5);
            let payload = follower.payload.clone();
            apply_to(&mut machine, &payload, &mut follower);
            if std::mem::take(&mut follower.is_away) {
                follower.keys = all(&machine);
            }
        }
        assert_eq!(all(&machine), follower.keys, "seed {seed}");
        assert!(follower.keys.is_empty() || follower.last <= machine.revision(), "seed {seed}");
    }
}

#[test]
fn chunks_that_are_damaged_or_out_of_order_are_refused_or_make_another_state() {
    let rng = &mut SimRng::new(7);
    let mut machine = new_machine();
    (0..30).for_each(|_| apply(&mut machine, rng));
    let reading = machine.begin_reading();
    let chunks = all_chunks(&machine, &reading);
    let restored = |chunks: [&[u8]; 2]| {
        let mut state = machine_at(*reading.as_of());
        chunks.into_iter().try_for_each(|chunk| state.restore(chunk)).map(|()| state.digest())
    };
    let [keys, answers] = &chunks[..] else { panic!("a chunk for each section") };
    assert!(answers.len() > CHUNK_HEADER_BYTES, "some answer is kept");
    assert_eq!(restored([keys, answers]), Ok(machine.digest()));
    for (number, chunk) in chunks.iter().enumerate() {
        let with = |other: &[u8]| restored(if number == 0 { [other, answers] } else { [keys, other] });
        for cut in 0..chunk.len() {
            // What is left out at the end of a section may be none of its records.
            let is_whole = cut == CHUNK_HEADER_BYTES && chunk.len() == cut;
            assert!(is_whole || with(&chunk[..cut]) != Ok(machine.digest()), "cut at {cut} of chunk {number}");
        }
        for at in 0..chunk.len() {
            let mut damaged = chunk.clone();
            damaged[at] ^= 1 << rng.below(8);
            assert_ne!(with(&damaged), Ok(machine.digest()), "byte {at} of chunk {number}");
        }
        let mut state = machine_at(*reading.as_of());
        state.restore(chunk).expect("sound");
        assert!(state.restore(chunk).is_err(), "the same records again");
    }
    let mut without = StateMachine::at(Options::default(), *reading.as_of());
    assert!(without.restore(answers).is_err(), "the chunk of a section that the state has not got");
}

/// A state in as few chunks as it has sections.
fn all_chunks(machine: &StateMachine, reading: &Reading) -> Vec<Vec<u8>> {
    let (mut cursor, mut chunks) = (ChunkCursor::default(), Vec::new());
    loop {
        chunks.push(Vec::new());
        let chunk = chunks.last_mut().expect("just added");
        if machine.chunk(reading, &mut cursor, &mut { u64::MAX }, usize::MAX, chunk) {
            return chunks;
        }
    }
}

#[test]
fn several_readings_see_the_states_of_their_entries_also_in_the_middle_of_an_entry() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed ^ 0x5EC7);
        let mut machine = new_machine();
        let mut readings: Vec<(Reading, u64)> = Vec::new();
        for _ in 0..20 {
            let index = machine.applied_index().next();
            let payload = payload(index, rng);
            let id = EntryId::new(Term::new(1), index);
            let entry = BatchEntry { id, place: Lsn::new(place(index.get())), payload: &payload };
            let mut hears = |_, _: Result<&[u8], CommandRefused>| {};
            while !machine.apply_slice(&entry, &mut Budget { bytes: 1, keys: 1 }, &mut hears).expect("it is valid") {
                // As of the entry before: this one is applied in part.
                if rng.chance(1, 4) {
                    let reading = machine.begin_reading();
                    assert_eq!(reading.as_of(), &machine.as_of());
                    readings.push((reading, machine.digest()));
                }
            }
            if rng.chance(1, 3) {
                readings.push((machine.begin_reading(), machine.digest()));
            }
            if !readings.is_empty() && rng.chance(1, 3) {
                let at = usize::try_from(rng.below(readings.len() as u64)).expect("small");
                machine.end_reading(&readings.swap_remove(at).0);
            }
            for (reading, digest) in &readings {
                assert_eq!(machine.digest_at(reading), *digest, "seed {seed}: {:?}", reading.as_of());
            }
        }
        for (reading, digest) in &readings {
            let mut restored = machine_at(*reading.as_of());
            all_chunks(&machine, reading).iter().for_each(|chunk| restored.restore(chunk).expect("it was written out"));
            assert_eq!(restored.digest(), *digest, "seed {seed}: {:?}", reading.as_of());
            machine.end_reading(reading);
        }
        assert!(machine.readings_count() == 0, "seed {seed}: every reading was ended");
    }
}

#[test]
#[should_panic(expected = "a state is read in one of its open readings")]
fn a_reading_of_another_state_reads_nothing() {
    let (mut one, other) = (new_machine(), new_machine());
    let reading = one.begin_reading();
    let _ = other.digest_at(&reading);
}

#[test]
fn every_replica_makes_the_answers_that_are_kept_under_the_limit_of_the_batch() {
    for seed in 0..cases() {
        let rng = &mut SimRng::new(seed ^ 0xA5);
        // One is asked by somebody, one by nobody, and one stops after every key.
        let [mut heard, mut unheard, mut slow] = [(); 3].map(|()| new_machine());
        for _ in 0..20 {
            let index = heard.applied_index().next();
            let mut payload = payload(index, rng);
            // Some of the answers are too large.
            payload[4..8].copy_from_slice(&u32::try_from(16 + rng.below(200)).expect("small").to_le_bytes());
            let entry = BatchEntry { id: EntryId::new(Term::new(1), index), place: Lsn::ZERO, payload: &payload };
            let mut hears = |_, _: Result<&[u8], CommandRefused>| {};
            heard.apply_batch(&entry, &mut hears).expect("it is valid");
            unheard.apply_batch(&entry, &mut Nobody).expect("it is valid");
            while !slow.apply_slice(&entry, &mut Budget { bytes: 1, keys: 1 }, &mut Nobody).expect("it is valid") {}
            assert_eq!([heard.digest(), slow.digest()], [unheard.digest(); 2], "seed {seed}, entry {index}");
        }
    }
}

/// Waits for no answer.
struct Nobody;

impl Answers for Nobody {
    fn wants(&mut self, _position: usize) -> bool {
        false
    }

    fn take(&mut self, _position: usize, _answer: Result<&[u8], CommandRefused>) {
        panic!("nobody waits");
    }
}

#[test]
fn a_state_without_sessions_applies_no_command_of_one() {
    let mut machine = StateMachine::new(Options::default());
    let command = op_command(&put(b"k", b"v"));
    let mut payload = Vec::new();
    batch::encode_sent(BatchHeader::default(), [(None, &command[..]), (Sender::new(1, 1), &command)], &mut payload);
    let entry = BatchEntry { id: EntryId::new(Term::new(1), Index::new(1)), place: Lsn::ZERO, payload: &payload };
    assert_eq!(machine.apply_batch(&entry, &mut Nobody), Err(ApplyError::Sender { position: 1 }));
    assert!(!machine.keeps_answers() && new_machine().keeps_answers());
}
