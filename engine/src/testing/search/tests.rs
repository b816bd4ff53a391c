//! Histories that have an order and histories that have none; made-up ones, judged against trying everything.

use std::collections::BTreeMap;

use wal::testing::SimRng;

use super::{Limits, Verdict, describe, judge};
use crate::testing::history::{Input, Operation};
use api::response::{KeyValue, OpResponse, Response};

/// A key's value and the revision of its write.
type State = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// A history as it can be read.
fn lines(operations: &[Operation]) -> String {
    operations.iter().map(describe).collect::<Vec<_>>().join("\n")
}

fn verdict(operations: &[Operation]) -> Verdict {
    judge(&operations.iter().collect::<Vec<_>>(), Limits::default())
}

#[track_caller]
fn assert_good(operations: &[Operation]) {
    assert_eq!(verdict(operations), Verdict::Linearizable, "{}", lines(operations));
}

#[track_caller]
fn assert_bad(operations: &[Operation], what: &str) {
    match verdict(operations) {
        Verdict::NotLinearizable(refutation) => {
            let text = refutation.to_string();
            assert!(text.contains(what), "{what:?} is not in: {text}");
        }
        verdict => panic!("{verdict:?}: {}", lines(operations)),
    }
}

fn input_put(key: &str, value: &str) -> Input {
    Input::Put { key: key.into(), value: value.into() }
}

fn input_get(key: &str) -> Input {
    Input::Get { key: key.into() }
}

fn input_delete(key: &str) -> Input {
    Input::Delete { key: key.into() }
}

fn input_swap(key: &str, mod_revision: u64, value: &str) -> Input {
    Input::Swap { key: key.into(), mod_revision, value: value.into() }
}

fn input_put_both(first: &str, second: &str, value: &str) -> Input {
    Input::PutBoth { keys: [first.into(), second.into()], value: value.into() }
}

/// An operation of unknown outcome.
fn lost(called_us: u64, input: Input) -> Operation {
    Operation { client: 0, shard: 0, input, called_us, process: (0, 0), outcome: None, is_void: false }
}

fn answered(called_us: u64, returned_us: u64, input: Input, succeeded: bool, answer: OpResponse) -> Operation {
    // The revision of an answer must not matter.
    let response = Response { revision: 77, succeeded, ops: vec![answer] };
    Operation { outcome: Some((returned_us, response)), ..lost(called_us, input) }
}

fn kv(key: &[u8], value: &[u8], mod_revision: u64) -> KeyValue {
    KeyValue { key: key.to_vec(), value: value.to_vec(), create_revision: 0, mod_revision, version: 0, lease: 0 }
}

fn range(kvs: Vec<KeyValue>) -> OpResponse {
    let count = kvs.len() as u64;
    OpResponse::Range { kvs, more: false, count }
}

/// A write that was done.
fn done(called_us: u64, returned_us: u64, input: Input) -> Operation {
    answered(called_us, returned_us, input, true, OpResponse::Put { prev_kv: None })
}

/// A get and what it found, with its `mod_revision`.
fn got(called_us: u64, returned_us: u64, key: &str, found: Option<(&str, u64)>) -> Operation {
    let kvs = found.iter().map(|(value, revision)| kv(key.as_bytes(), value.as_bytes(), *revision)).collect();
    answered(called_us, returned_us, input_get(key), true, range(kvs))
}

fn deleted(called_us: u64, returned_us: u64, key: &str, deleted: u64) -> Operation {
    answered(called_us, returned_us, input_delete(key), true, OpResponse::Delete { deleted, prev_kvs: vec![] })
}

fn listed(called_us: u64, returned_us: u64, found: &[(&str, &str)]) -> Operation {
    let kvs = found.iter().map(|(key, value)| kv(key.as_bytes(), value.as_bytes(), 0)).collect();
    answered(called_us, returned_us, Input::List, true, range(kvs))
}

#[test]
fn a_read_returns_the_last_write_or_one_beside_it() {
    let writes = [done(0, 10, input_put("k", "a")), done(20, 30, input_put("k", "b"))];
    let with = |read: Operation| [&writes[..], &[read]].concat();
    assert_good(&[]);
    assert_good(&with(got(40, 50, "k", Some(("b", 3)))));
    assert_good(&with(got(25, 50, "k", Some(("a", 2)))));
    assert_good(&with(got(30, 50, "k", Some(("a", 2)))));
    assert_good(&with(got(0, 50, "k", None)));
    assert_bad(&with(got(31, 50, "k", Some(("a", 2)))), "no order");
    assert_bad(&with(got(11, 19, "k", None)), "the state is k = a");
    assert_bad(&with(got(0, 19, "k", Some(("b", 3)))), "not yet asked for");
    assert_bad(&with(got(40, 50, "k", Some(("c", 4)))), "nobody wrote");
    // Two reads, one after the other, see two concurrent writes in one order.
    let writes = [done(0, 100, input_put("k", "a")), done(0, 100, input_put("k", "b"))];
    let reads = [got(10, 20, "k", Some(("a", 2))), got(30, 40, "k", Some(("b", 3)))];
    assert_good(&[&writes[..], &reads[..]].concat());
    assert_bad(&[&writes[..], &reads[..], &[got(50, 60, "k", Some(("a", 2)))]].concat(), "no order");
}

#[test]
fn a_lost_write_is_found_missing() {
    let history = [done(0, 10, input_put("k", "a")), got(20, 30, "k", None)];
    assert_bad(&history, "k = a");
    // Refused or void writes are none.
    let void = Operation { is_void: true, ..lost(0, input_put("k", "a")) };
    assert_good(&[void.clone(), got(20, 30, "k", None)]);
    assert_bad(&[void, got(20, 30, "k", Some(("a", 2)))], "nobody wrote");
}

#[test]
fn deletes_tell_whether_the_key_was_there() {
    let put = done(0, 10, input_put("k", "a"));
    assert_good(&[put.clone(), deleted(20, 30, "k", 1), deleted(40, 50, "k", 0), got(60, 70, "k", None)]);
    assert_bad(&[deleted(20, 30, "k", 1)], "delete k -> 1 deleted");
    assert_bad(&[put.clone(), deleted(20, 30, "k", 1), deleted(40, 50, "k", 1)], "no order");
    assert_bad(&[put.clone(), deleted(20, 30, "k", 0)], "no order");
    assert_bad(&[put.clone(), deleted(20, 30, "k", 2)], "one or none");
    // A write or a delete that nobody heard of explains it.
    assert_good(&[put.clone(), deleted(20, 30, "k", 1), lost(5, input_put("k", "b")), deleted(40, 50, "k", 1)]);
    assert_good(&[put.clone(), lost(5, input_delete("k")), deleted(20, 30, "k", 0)]);
    // But each explains it once, and not before it was asked for.
    let once = [put.clone(), lost(5, input_put("k", "b")), deleted(20, 30, "k", 1), deleted(40, 50, "k", 1)];
    assert_bad(&[&once[..], &[deleted(60, 70, "k", 1)]].concat(), "no order");
    assert_bad(&[put.clone(), deleted(20, 30, "k", 1), deleted(40, 50, "k", 1), lost(60, input_put("k", "b"))], "");
    assert_bad(&[put, lost(31, input_delete("k")), deleted(20, 30, "k", 0)], "no order");
}

#[test]
fn two_swaps_cannot_both_find_one_value() {
    let (put, read) = (done(0, 10, input_put("k", "a")), got(20, 30, "k", Some(("a", 2))));
    let swap = |value| done(40, 50, input_swap("k", 2, value));
    assert_good(&[put.clone(), read.clone(), swap("b"), got(60, 70, "k", Some(("b", 3)))]);
    assert_bad(&[put.clone(), read.clone(), swap("b"), swap("c")], "no order");
    let failed = |found, revision| {
        let answer = range(vec![kv(b"k", found, revision)]);
        answered(40, 60, input_swap("k", 2, "c"), false, answer)
    };
    assert_good(&[put.clone(), read.clone(), swap("b"), failed(b"b", 3)]);
    assert_bad(&[put.clone(), read.clone(), swap("b"), failed(b"a", 2)], "although the key held");
    // A revision that nobody read stands for any value, but for one.
    assert_good(&[put.clone(), swap("b")]);
    assert_good(&[put.clone(), swap("b"), swap("c")]);
    assert_bad(&[swap("b")], "no order");
    // Nobody may create a key twice.
    let create = |value| done(40, 50, input_swap("k", 0, value));
    assert_bad(&[create("b"), create("c")], "no order");
    assert_good(&[create("b"), create("c"), lost(40, input_delete("k"))]);
    // One write of two keys has one revision: it names either.
    let both = done(0, 10, input_put_both("k", "l", "a"));
    assert_good(&[both.clone(), read.clone(), done(40, 50, input_swap("l", 2, "b"))]);
    assert_bad(&[both, read, done(32, 35, input_put("l", "c")), done(40, 50, input_swap("l", 2, "b"))], "no order");
}

#[test]
fn two_keys_are_written_at_once() {
    let both = done(0, 100, input_put_both("k", "l", "a"));
    assert_good(&[both.clone(), listed(10, 20, &[("k", "a"), ("l", "a")])]);
    assert_good(&[both.clone(), listed(10, 20, &[])]);
    assert_bad(&[both.clone(), listed(10, 20, &[("k", "a")])], "each key has an order");
    // A write that nobody heard of is seen whole, too.
    let lost_both = lost(0, input_put_both("k", "l", "a"));
    assert_bad(&[lost_both.clone(), listed(10, 20, &[("l", "a")])], "each key has an order");
    assert_bad(&[lost_both, got(10, 20, "k", Some(("a", 2))), got(30, 40, "l", None)], "no order");
    // Two keys in turn: no list may have been later at one key and earlier at the other.
    let writes = [done(0, 100, input_put("k", "a")), done(0, 100, input_put("l", "b"))];
    let lists = [listed(0, 100, &[("k", "a")]), listed(0, 100, &[("l", "b")])];
    assert_bad(&[&writes[..], &lists[..]].concat(), "each key has an order");
    assert_good(&[&writes[..], &lists[..1]].concat());
    assert_bad(&[listed(0, 100, &[("l", "b"), ("k", "a")]), writes[0].clone(), writes[1].clone()], "not in order");
}

#[test]
fn writes_of_unknown_outcome_happen_late_once_or_never() {
    let (put, late) = (done(10, 20, input_put("k", "a")), lost(0, input_put("k", "b")));
    let read = |at, value| got(at, at + 5, "k", Some((value, 2)));
    assert_good(&[put.clone(), late.clone(), read(30, "a"), read(1000, "a")]);
    assert_good(&[put.clone(), late.clone(), read(30, "a"), read(1000, "b"), read(1010, "b")]);
    assert_bad(&[put.clone(), late.clone(), read(30, "b"), read(40, "a")], "no order");
    // Shows up, is overwritten, shows up again.
    let other = done(40, 50, input_put("k", "c"));
    assert_good(&[put.clone(), late.clone(), read(30, "b"), other.clone(), read(60, "c")]);
    assert_bad(&[put.clone(), late.clone(), read(30, "b"), other.clone(), read(60, "c"), read(70, "b")], "no order");
    assert_bad(&[put.clone(), late.clone(), read(30, "b"), other, read(60, "b")], "no order");
    // A swap that nobody heard of shows that what it found had been there.
    let swap = lost(0, input_swap("k", 2, "c"));
    let shown = got(25, 26, "k", Some(("b", 2)));
    assert_good(&[put.clone(), late.clone(), shown.clone(), swap.clone(), read(40, "c")]);
    let back =
        [put.clone(), late.clone(), swap.clone(), got(40, 50, "k", Some(("c", 3))), got(60, 70, "k", Some(("b", 2)))];
    assert_bad(&back, "no order");
    assert_bad(&[put, late, shown, swap, read(40, "c"), deleted(50, 51, "k", 1), deleted(52, 53, "k", 1)], "no order");
}

#[test]
fn a_write_of_two_keys_that_nobody_saw_may_still_be_what_was_deleted() {
    let both = lost(0, input_put_both("k", "l", "a"));
    assert_good(&[both.clone(), deleted(10, 20, "k", 1), deleted(30, 40, "l", 1)]);
    // The write came before what is now at the one key, so it had to be at the other when that was read.
    let history = [both, done(5, 10, input_put("k", "b")), got(5, 30, "k", Some(("b", 2)))];
    assert_good(&[&history[..], &[deleted(40, 50, "l", 1), got(60, 70, "k", Some(("b", 2)))]].concat());
    let absent = got(20, 30, "l", None);
    let tail = [absent, deleted(40, 50, "l", 1), got(60, 70, "k", Some(("b", 2)))];
    assert_bad(&[&history[..], &tail[..]].concat(), "each key has an order");
}

#[test]
fn a_history_that_writes_a_value_twice_is_not_judged() {
    let history = [done(0, 10, input_put("k", "a")), done(20, 30, input_put("k", "a"))];
    assert_eq!(verdict(&history), Verdict::GaveUp { steps: 0 });
}

/// What a made-up history is like.
#[derive(Clone, Copy)]
struct Shape {
    operations: u64,
    clients: u64,
    keys: u64,
    /// Of a hundred.
    unknown: u64,
    /// Longest time from a call to the effect, and from there to the return. Unit: us.
    window_us: u64,
    /// Longest pause of a client. Unit: us.
    pause_us: u64,
}

/// Makes up what clients with windows that overlap would be told by a store that does one thing at a time.
fn make_up(rng: &mut SimRng, shape: Shape) -> Vec<Operation> {
    let mut free_at_us = vec![0; usize::try_from(shape.clients).expect("few")];
    let mut planned: Vec<(u64, Operation)> = Vec::new();
    for number in 0..shape.operations {
        let client = usize::try_from(rng.below(shape.clients)).expect("few");
        let called_us = free_at_us[client] + rng.below(shape.pause_us);
        let mut effect_us = called_us + rng.below(shape.window_us);
        let returned_us = effect_us + rng.below(shape.window_us);
        free_at_us[client] = returned_us + 1;
        let input = make_up_input(rng, shape, number);
        let mut operation = Operation { client, ..lost(called_us, input) };
        if rng.below(100) < shape.unknown {
            effect_us += rng.below(3) * shape.window_us * 5;
        } else {
            let response = Response { revision: 0, succeeded: true, ops: vec![] };
            operation.outcome = Some((returned_us, response));
        }
        planned.push((effect_us, operation));
    }
    planned.sort_by_key(|(effect_us, _)| *effect_us);
    let mut state = State::new();
    let mut revision = 1;
    let mut history: Vec<Operation> = planned.into_iter().map(|(_, operation)| operation).collect();
    for operation in &mut history {
        if let Input::Swap { key, mod_revision, .. } = &mut operation.input {
            // About what it finds, or something else.
            *mod_revision = match rng.below(4) {
                0 => 0,
                1 => rng.below(revision + 1),
                _ => state.get(key).map_or(0, |(_, revision)| *revision),
            };
        }
        if operation.outcome.is_none() && rng.chance(1, 3) {
            continue;
        }
        let response = perform(&mut state, &mut revision, &operation.input, rng.below(1000));
        if let Some((_, answer)) = &mut operation.outcome {
            *answer = response;
        }
    }
    history
}

fn make_up_input(rng: &mut SimRng, shape: Shape, number: u64) -> Input {
    let name = |key: u64| format!("k{key}").into_bytes();
    let at = rng.below(shape.keys);
    let (key, value) = (name(at), format!("v{number}").into_bytes());
    match rng.below(100) {
        0..25 => Input::Put { key, value },
        25..40 => Input::Delete { key },
        40..65 => Input::Get { key },
        65..70 => Input::List,
        70..90 => Input::Swap { key, mod_revision: 0, value },
        _ => Input::PutBoth { keys: [key, name((at + 1) % (shape.keys + 1))], value },
    }
}

/// Does an operation; `stamp` is the revision that the answer claims.
fn perform(state: &mut State, revision: &mut u64, input: &Input, stamp: u64) -> Response {
    let find = |state: &State, key: &Vec<u8>| {
        let found = state.get(key).map(|(value, revision)| kv(key, value, *revision));
        range(found.into_iter().collect())
    };
    let next = *revision + 1;
    let mut write = |state: &mut State, key: &Vec<u8>, value: &Vec<u8>| {
        *revision = next;
        state.insert(key.clone(), (value.clone(), next));
        OpResponse::Put { prev_kv: None }
    };
    let mut succeeded = true;
    let ops = match input {
        Input::Put { key, value } => vec![write(state, key, value)],
        Input::PutBoth { keys, value } => keys.iter().map(|key| write(state, key, value)).collect(),
        Input::Delete { key } => {
            let deleted = u64::from(state.remove(key).is_some());
            vec![OpResponse::Delete { deleted, prev_kvs: vec![] }]
        }
        Input::Get { key } | Input::GetSerializable { key } => vec![find(state, key)],
        Input::List => vec![range(state.iter().map(|(key, (value, at))| kv(key, value, *at)).collect())],
        Input::Swap { key, mod_revision, value } => {
            succeeded = state.get(key).map_or(0, |(_, at)| *at) == *mod_revision;
            vec![if succeeded { write(state, key, value) } else { find(state, key) }]
        }
    };
    Response { revision: stamp, succeeded, ops }
}

const SHAPE: Shape = Shape { operations: 300, clients: 6, keys: 3, unknown: 10, window_us: 60, pause_us: 10 };

#[test]
fn what_one_store_answered_is_linearizable() {
    for seed in 0..400 {
        let mut rng = SimRng::new(seed);
        let (clients, unknown) = (2 + rng.below(12), rng.below(30));
        let history = make_up(&mut rng, Shape { clients, unknown, ..SHAPE });
        assert_eq!(verdict(&history), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn what_was_overwritten_before_is_not_read_again() {
    let mut mutated_count = 0;
    for seed in 0..400 {
        let mut history = make_up(&mut SimRng::new(seed), SHAPE);
        // A read, and two puts before it, one after the other.
        let puts: Vec<(Vec<u8>, Vec<u8>, u64, u64)> = history
            .iter()
            .filter_map(|operation| match (&operation.input, &operation.outcome) {
                (Input::Put { key, value }, Some((returned_us, _))) => {
                    Some((key.clone(), value.clone(), operation.called_us, *returned_us))
                }
                _ => None,
            })
            .collect();
        for operation in history.iter_mut().rev() {
            let (Input::Get { key }, Some((_, response))) = (&operation.input, &mut operation.outcome) else {
                continue;
            };
            let later = puts.iter().filter(|put| put.0 == *key && put.3 < operation.called_us).max_by_key(|put| put.2);
            let older = later.and_then(|later| puts.iter().rev().find(|put| put.0 == *key && put.3 < later.2));
            if let Some(older) = older {
                response.ops = vec![range(vec![kv(key, &older.1, u64::MAX)])];
                mutated_count += 1;
                break;
            }
        }
        if mutated_count > seed {
            assert_bad(&history, "no order");
        }
    }
    assert_eq!(mutated_count, 400);
}

#[test]
fn long_histories_take_about_a_step_for_each_operation() {
    let shape = Shape { operations: 30_000, clients: 16, keys: 16, unknown: 5, window_us: 60, pause_us: 300 };
    for seed in 0..2 {
        let history = make_up(&mut SimRng::new(seed), shape);
        let operations: Vec<&Operation> = history.iter().collect();
        let limits = Limits { key_steps: 6_000, shard_steps: 60_000 };
        assert_eq!(judge(&operations, limits), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn clients_that_never_pause_do_not_exhaust_it() {
    let shape = Shape { operations: 1_000, clients: 16, keys: 16, unknown: 5, window_us: 60, pause_us: 10 };
    for seed in 0..30 {
        let history = make_up(&mut SimRng::new(seed), shape);
        assert_eq!(verdict(&history), Verdict::Linearizable, "seed {seed}");
    }
}

/// Tries every order and every choice of operations of unknown outcome.
fn try_everything(open: &[&Operation], state: &BTreeMap<Vec<u8>, Vec<u8>>, values: &BTreeMap<u64, Vec<u8>>) -> bool {
    let known = open.iter().filter_map(|operation| operation.outcome.as_ref());
    let Some(first_return_us) = known.map(|(returned_us, _)| *returned_us).min() else { return true };
    (0..open.len()).any(|at| {
        let mut rest = open.to_vec();
        let operation = rest.remove(at);
        let mut state = state.clone();
        operation.called_us <= first_return_us
            && does(operation, &mut state, values)
            && try_everything(&rest, &state, values)
    })
}

/// Does an operation, if its answer allows it.
fn does(operation: &Operation, state: &mut BTreeMap<Vec<u8>, Vec<u8>>, values: &BTreeMap<u64, Vec<u8>>) -> bool {
    let response = operation.outcome.as_ref().map(|(_, response)| response);
    let shown: Option<Vec<(&Vec<u8>, &Vec<u8>)>> = response.map(|response| match &response.ops[0] {
        OpResponse::Range { kvs, .. } => kvs.iter().map(|kv| (&kv.key, &kv.value)).collect(),
        OpResponse::Put { .. } | OpResponse::Delete { .. } => vec![],
    });
    match &operation.input {
        Input::Put { key, value } => drop(state.insert(key.clone(), value.clone())),
        Input::PutBoth { keys, value } => keys.iter().for_each(|key| drop(state.insert(key.clone(), value.clone()))),
        Input::Delete { key } => {
            let was_there = u64::from(state.remove(key).is_some());
            return response.is_none_or(
                |response| matches!(response.ops[0], OpResponse::Delete { deleted, .. } if deleted == was_there),
            );
        }
        Input::Get { key } => {
            let found: Vec<_> = state.get_key_value(key).into_iter().collect();
            return shown.is_none_or(|shown| shown == found);
        }
        Input::List => return shown.is_none_or(|shown| shown == state.iter().collect::<Vec<_>>()),
        Input::Swap { key, mod_revision, value } => {
            let found: Vec<_> = state.get_key_value(key).into_iter().collect();
            // Whether it holds; unknown for a revision that nobody read, on a key that is there.
            let holds = match (*mod_revision, values.get(mod_revision)) {
                (0, _) => Some(found.is_empty()),
                (_, Some(value)) => Some(state.get(key) == Some(value)),
                (_, None) => found.is_empty().then_some(false),
            };
            match response.map(|response| response.succeeded) {
                Some(false) => return holds != Some(true) && shown == Some(found),
                Some(true) | None if holds == Some(false) => return response.is_none(),
                Some(true) | None => drop(state.insert(key.clone(), value.clone())),
            }
        }
        Input::GetSerializable { .. } => {}
    }
    true
}

/// Changes an answer a little.
fn spoil(rng: &mut SimRng, history: &mut [Operation]) {
    let at = usize::try_from(rng.below(history.len() as u64)).expect("few");
    let any_value = format!("v{}", rng.below(history.len() as u64)).into_bytes();
    let Some((_, response)) = &mut history[at].outcome else { return };
    match &mut response.ops[0] {
        OpResponse::Range { kvs, .. } if kvs.is_empty() || rng.chance(1, 3) => {
            let revision = 2 + rng.below(6);
            *kvs = if kvs.is_empty() { vec![kv(b"k0", &any_value, revision)] } else { vec![] };
        }
        OpResponse::Range { kvs, .. } => kvs[0].value = any_value,
        OpResponse::Delete { deleted, .. } => *deleted = 1 - *deleted,
        OpResponse::Put { .. } => {
            if let Input::Swap { mod_revision, .. } = &mut history[at].input {
                *mod_revision = rng.below(6);
            }
        }
    }
}

#[test]
fn it_agrees_with_trying_everything() {
    let mut good_count = 0;
    for seed in 0..10_000 {
        let mut rng = SimRng::new(seed);
        let operations = 2 + rng.below(5);
        let shape = Shape { operations, clients: 4, keys: 1 + rng.below(2), unknown: 35, window_us: 12, pause_us: 10 };
        let mut history = make_up(&mut rng, shape);
        for _ in 0..rng.below(3) {
            spoil(&mut rng, &mut history);
        }
        let mut values: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut ambiguous = Vec::new();
        for (_, response) in history.iter().filter_map(|operation| operation.outcome.as_ref()) {
            let OpResponse::Range { kvs, .. } = &response.ops[0] else { continue };
            for kv in kvs {
                let known = values.entry(kv.mod_revision).or_insert_with(|| kv.value.clone());
                if *known != kv.value {
                    ambiguous.push(kv.mod_revision);
                }
            }
        }
        values.retain(|revision, _| !ambiguous.contains(revision));
        let open: Vec<&Operation> = history.iter().collect();
        let is_good = try_everything(&open, &BTreeMap::new(), &values);
        good_count += u64::from(is_good);
        let verdict = verdict(&history);
        let agrees = match verdict {
            Verdict::Linearizable => is_good,
            Verdict::NotLinearizable(_) => !is_good,
            Verdict::GaveUp { .. } => false,
        };
        assert!(agrees, "seed {seed}: {is_good}, but {verdict:#?}\n{}", lines(&history));
    }
    assert!((2_000..8_000).contains(&good_count), "{good_count}");
}
