//! Judges what clients saw by the revisions that they were told: one order of all writes, into which every answer must fit.
//!
//! Knows operations, answers and times; nothing of nodes or faults. Writes of unknown outcome may have happened or not: where
//! their (unique) value shows up, their revision is known.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::history::{Input, Operation};
use crate::call::CallKind;
use api::response::{KeyValue, OpResponse, Response};

/// What a write did to a key: its value, or its end.
type Effect = Option<Vec<u8>>;

/// The order of writes of one shard, as far as it is known.
#[derive(Default)]
struct Order<'a> {
    /// Effects on each key by revision.
    effects: BTreeMap<&'a [u8], BTreeMap<u64, Effect>>,
    /// Writes of unknown outcome by the value that they would have written.
    unknown_values: BTreeMap<&'a [u8], &'a Operation>,
    /// Deletes of unknown outcome, and when each was called.
    unknown_deletes: BTreeMap<&'a [u8], Vec<u64>>,
}

/// Checks one shard's operations (in any order): strict order of writes, consistent with real time; linearizable reads; serializable reads
/// that never go back within a process of a node.
///
/// Every answer carries the revision that it was made at or read from, so the order of writes need not be searched for, as for
/// registers without revisions (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993): it is given, and the history
/// is linearizable if it fits. That takes linear time.
///
/// # Errors
/// The first answer that does not fit, and why.
pub fn judge(operations: &[&Operation]) -> Result<(), String> {
    let mut order = Order::default();
    for operation in operations {
        order.note(operation)?;
    }
    for operation in operations {
        order.place_unknown(operation)?;
    }
    check_real_time(operations)?;
    check_sessions(operations)?;
    operations.iter().try_for_each(|operation| order.check(operation))
}

impl Input {
    /// Keys that a successful write changes, with what it makes of them.
    fn effects(&self) -> Vec<(&[u8], Effect)> {
        match self {
            Self::Put { key, value } | Self::Swap { key, value, .. } => vec![(key, Some(value.clone()))],
            Self::Delete { key } => vec![(key, None)],
            Self::PutBoth { keys, value } => keys.iter().map(|key| (&key[..], Some(value.clone()))).collect(),
            Self::Get { .. } | Self::GetSerializable { .. } | Self::List => vec![],
        }
    }
}

/// The write changed something.
fn has_effect(input: &Input, response: &Response) -> bool {
    match input {
        Input::Put { .. } | Input::PutBoth { .. } => true,
        Input::Swap { .. } => response.succeeded,
        Input::Delete { .. } => {
            matches!(response.ops.first(), Some(OpResponse::Delete { deleted, .. }) if *deleted > 0)
        }
        Input::Get { .. } | Input::GetSerializable { .. } | Input::List => false,
    }
}

impl<'a> Order<'a> {
    /// Takes in a write whose outcome is known, or what an unknown one might have done.
    fn note(&mut self, operation: &'a Operation) -> Result<(), String> {
        match &operation.outcome {
            Some((_, response)) if has_effect(&operation.input, response) => {
                for (key, effect) in operation.input.effects() {
                    self.insert(key, response.revision, effect)?;
                }
            }
            None if !operation.is_void => {
                for (key, effect) in operation.input.effects() {
                    match effect {
                        Some(_) => drop(self.unknown_values.insert(value_of(&operation.input), operation)),
                        None => self.unknown_deletes.entry(key).or_default().push(operation.called_us),
                    }
                }
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn insert(&mut self, key: &'a [u8], revision: u64, effect: Effect) -> Result<(), String> {
        match self.effects.entry(key).or_default().insert(revision, effect.clone()) {
            Some(known) if known != effect => Err(format!("two writes of {} have revision {revision}", show(key))),
            _ => Ok(()),
        }
    }

    /// An answer that shows the value of a write of unknown outcome tells that it happened, and at which revision.
    fn place_unknown(&mut self, operation: &Operation) -> Result<(), String> {
        for kv in operation.outcome.iter().flat_map(|(_, response)| kvs(response)) {
            if let Some(&writer) = self.unknown_values.get(&kv.value[..]) {
                for (key, effect) in writer.input.effects() {
                    self.insert(key, kv.mod_revision, effect)?;
                }
            }
        }
        Ok(())
    }

    /// Whether an answer fits the order of writes.
    fn check(&self, operation: &Operation) -> Result<(), String> {
        let Some((returned_us, response)) = &operation.outcome else { return Ok(()) };
        let at = response.revision;
        let absent = |key: &[u8]| self.check_absent(key, at, *returned_us);
        let verdict = match &operation.input {
            Input::Get { key } | Input::GetSerializable { key } => match kvs(response).next() {
                Some(kv) => self.check_present(kv, at),
                None => absent(key),
            },
            Input::List => self.check_list(response, at, *returned_us),
            Input::Delete { key } if !has_effect(&operation.input, response) => absent(key),
            Input::Swap { key, mod_revision, .. } if response.succeeded => {
                self.check_swapped(key, *mod_revision, at, *returned_us)
            }
            Input::Swap { key, mod_revision, .. } => match kvs(response).next() {
                Some(kv) if kv.mod_revision == *mod_revision => {
                    Err("was not done although it compared equal".to_owned())
                }
                Some(kv) => self.check_present(kv, at),
                None if *mod_revision == 0 => Err("was not done although the key was absent".to_owned()),
                None => absent(key),
            },
            Input::Put { .. } | Input::Delete { .. } | Input::PutBoth { .. } => Ok(()),
        };
        verdict.map_err(|what| {
            let (client, called_us) = (operation.client, operation.called_us);
            format!("client {client} at {called_us}..{returned_us} us: {:?} at revision {at}: {what}", operation.input)
        })
    }

    /// What was read is what the last write up to the revision wrote.
    fn check_present(&self, kv: &KeyValue, at: u64) -> Result<(), String> {
        let key = show(&kv.key);
        if kv.mod_revision > at {
            return Err(format!("{key} was changed at {}, after the state that was read", kv.mod_revision));
        }
        let effects = self.effects.get(&kv.key[..]);
        let written = effects.and_then(|effects| effects.get(&kv.mod_revision));
        if written != Some(&Some(kv.value.clone())) {
            return Err(format!("{key} has a value at {} that nobody wrote there", kv.mod_revision));
        }
        match effects.and_then(|effects| effects.range((Bound::Excluded(kv.mod_revision), Bound::Included(at))).next())
        {
            Some((later, _)) => Err(format!("{key} was read as of {}, but was changed at {later}", kv.mod_revision)),
            None => Ok(()),
        }
    }

    /// The key was never written up to the revision, or was deleted since.
    fn check_absent(&self, key: &[u8], at: u64, returned_us: u64) -> Result<(), String> {
        let last = self.effects.get(key).and_then(|effects| effects.range(..=at).next_back());
        match last {
            Some((written, Some(_))) if !self.may_be_deleted(key, returned_us) => {
                Err(format!("{} is absent, but was written at {written} and not deleted", show(key)))
            }
            _ => Ok(()),
        }
    }

    fn may_be_deleted(&self, key: &[u8], before_us: u64) -> bool {
        self.unknown_deletes.get(key).is_some_and(|called| called.iter().any(|called_us| *called_us < before_us))
    }

    fn may_be_written(&self, key: &[u8], before_us: u64) -> bool {
        self.unknown_values.values().any(|operation| {
            operation.called_us < before_us && operation.input.effects().iter().any(|(written, _)| *written == key)
        })
    }

    fn check_list(&self, response: &Response, at: u64, returned_us: u64) -> Result<(), String> {
        for kv in kvs(response) {
            self.check_present(kv, at)?;
        }
        for key in self.effects.keys() {
            if kvs(response).all(|kv| kv.key != *key) {
                self.check_absent(key, at, returned_us)?;
            }
        }
        Ok(())
    }

    /// Right before a successful swap the key had the revision that was asked for.
    fn check_swapped(&self, key: &[u8], mod_revision: u64, at: u64, returned_us: u64) -> Result<(), String> {
        let last = self.effects.get(key).and_then(|effects| effects.range(..at).next_back());
        match last {
            Some((written, Some(_))) if *written == mod_revision => Ok(()),
            Some((_, Some(_))) if mod_revision == 0 && self.may_be_deleted(key, returned_us) => Ok(()),
            None | Some((_, None)) if mod_revision == 0 => Ok(()),
            // Nobody ever read what a write of unknown outcome left there.
            last if last.is_none_or(|(written, _)| *written < mod_revision)
                && mod_revision < at
                && self.may_be_written(key, returned_us) =>
            {
                Ok(())
            }
            last => Err(format!("swapped {} at {mod_revision}, but before there was {last:?}", show(key))),
        }
    }
}

/// Whatever returned before an operation was called precedes it.
fn check_real_time(operations: &[&Operation]) -> Result<(), String> {
    let is_linearizable = |operation: &&&Operation| operation.input.kind() != CallKind::ReadSerializable;
    let mut by_call: Vec<(&Operation, u64, &Response)> = operations
        .iter()
        .filter(is_linearizable)
        .filter_map(|operation| {
            operation.outcome.as_ref().map(|(returned, response)| (*operation, *returned, response))
        })
        .collect();
    let mut by_return: Vec<(u64, u64)> =
        by_call.iter().map(|(_, returned_us, response)| (*returned_us, response.revision)).collect();
    by_call.sort_by_key(|(operation, ..)| operation.called_us);
    by_return.sort_unstable();
    let mut returned = by_return.into_iter().peekable();
    let mut floor = 0;
    for (operation, _, response) in by_call {
        while let Some((_, revision)) = returned.next_if(|(returned_us, _)| *returned_us < operation.called_us) {
            floor = floor.max(revision);
        }
        let is_after =
            if has_effect(&operation.input, response) { response.revision > floor } else { response.revision >= floor };
        if !is_after {
            let (client, called_us, at) = (operation.client, operation.called_us, response.revision);
            return Err(format!(
                "stale: client {client} called {:?} at {called_us} us, after revision {floor} was answered, and got {at}",
                operation.input
            ));
        }
    }
    Ok(())
}

/// A process of a node never shows a client an older state than before.
fn check_sessions(operations: &[&Operation]) -> Result<(), String> {
    let mut last: BTreeMap<(usize, (usize, u64)), u64> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.input.kind() == CallKind::ReadSerializable) {
        let Some((_, response)) = &operation.outcome else { continue };
        let floor = last.entry((operation.client, operation.process)).or_default();
        if response.revision < *floor {
            return Err(format!(
                "client {} read revision {} after {floor} from one process",
                operation.client, response.revision
            ));
        }
        *floor = response.revision;
    }
    Ok(())
}

fn kvs(response: &Response) -> impl Iterator<Item = &KeyValue> {
    response.ops.iter().flat_map(|op| match op {
        OpResponse::Range { kvs, .. } => &kvs[..],
        OpResponse::Put { .. } | OpResponse::Delete { .. } => &[],
    })
}

fn value_of(input: &Input) -> &[u8] {
    match input {
        Input::Put { value, .. } | Input::Swap { value, .. } | Input::PutBoth { value, .. } => value,
        Input::Delete { .. } | Input::Get { .. } | Input::GetSerializable { .. } | Input::List => &[],
    }
}

fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
