//! Clients: one operation at a time each, with timeouts and retries by the rules of the client library, all of it recorded.
//!
//! A retry is safe only when the refusal says that nothing happened; everything else ends as an unknown outcome.

use std::collections::{BTreeSet, VecDeque};

use wal::testing::SimRng;

use super::front::Attempt;
use super::plan::{Plan, pick};
use crate::call::{CallKind, Refusal};
use crate::testing::history::{Input, Operation};
use crate::testing::judge;
use crate::testing::search::{self, Limits, Verdict};
use api::command::{
    Compare, CompareResult, CompareTarget, KeyRange, Op as CommandOp, RangeOp, Txn, encode_op_command, encode_range,
    encode_txn_command,
};
use api::response::{OpResponse, Response};

/// How long the judge that searches may: a shard of a run has about a thousand operations, and all but very few need one step each.
const SEARCH_LIMITS: Limits = Limits { key_steps: 200_000, shard_steps: 20_000 };

/// What came back to a client.
#[derive(Debug)]
pub(super) enum Answer {
    /// The encoded response.
    Done(Vec<u8>),
    /// A refusal.
    Refused(Refusal),
    /// The connection broke, after the request was sent or before.
    Broken { was_sent: bool },
}

/// What a transaction of two puts does besides. The judges of histories need not know; `Extra::check` looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    Nothing,
    /// Reads the first key as of this revision, which may not exist yet.
    GetAt(u64),
    /// Counts all keys, which may be too many for one command.
    CountAll,
    /// Deletes a range that holds the key alone, up to an end that no other operation has: its bytes are known again in the log.
    DeleteTo(u64),
}

impl Extra {
    fn op<'a>(self, key: &'a [u8]) -> Option<CommandOp<'a>> {
        let range = |range, revision, count_only| {
            CommandOp::Range(RangeOp { range, limit: 0, revision, keys_only: false, count_only })
        };
        match self {
            Self::Nothing | Self::DeleteTo(_) => None,
            Self::GetAt(revision) => Some(range(KeyRange { key, range_end: &[] }, revision, false)),
            Self::CountAll => Some(range(KeyRange { key: b"\0", range_end: b"\0" }, 0, true)),
        }
    }

    /// Whether the answer to a transaction fits.
    fn check(self, response: &Response) -> Result<(), String> {
        let made = response.revision;
        match (self, response.ops.last()) {
            (Self::Nothing | Self::DeleteTo(_), _) => Ok(()),
            (Self::GetAt(asked), _) if asked >= made => {
                Err(format!("a transaction read at {asked}, which did not exist before it made {made}"))
            }
            (Self::GetAt(asked), Some(OpResponse::Range { kvs, .. })) => match kvs.first() {
                Some(kv) if asked != 0 && kv.mod_revision > asked => {
                    Err(format!("a transaction read at {asked} what was written at {}", kv.mod_revision))
                }
                _ => Ok(()),
            },
            (Self::CountAll, Some(OpResponse::Range { count, kvs, .. })) if *count >= 2 && kvs.is_empty() => Ok(()),
            (_, answer) => Err(format!("{self:?} was answered with {answer:?}")),
        }
    }
}

/// An operation, and what is left to do for it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) operation: Operation,
    extra: Extra,
    pub(super) deadline_us: u64,
    pub(super) is_open: bool,
    /// How often it arrived at a node that was there.
    pub(super) attempts_count: u64,
    /// Attempts of which a node said that they take no effect.
    pub(super) void: BTreeSet<u64>,
    /// The attempt that the client waits for.
    pub(super) last_attempt: u64,
}

impl Running {
    /// What is sent for it.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.operation.input.encode(self.extra)
    }
}

#[derive(Debug, Default)]
struct Client {
    /// Where the last answer came from.
    home: Option<usize>,
    /// The operation that waits.
    open: Option<usize>,
    /// What to do before anything is made up: operation, shard, node.
    script: VecDeque<(Input, usize, usize)>,
    /// Revision of each key that it saw last, to compare with.
    seen_revision: u64,
}

/// All clients, and the history of what they did.
#[derive(Debug)]
pub(super) struct Clients {
    rng: SimRng,
    /// Chooses what transactions do besides.
    extra_rng: SimRng,
    clients: Vec<Client>,
    operations: Vec<Running>,
    /// No new operations but scripted ones.
    is_finishing: bool,
    values_count: u64,
    attempts_count: u64,
    shards: u64,
    keys: u64,
}

impl Clients {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            rng: SimRng::new(plan.seed ^ 0xC11E),
            extra_rng: SimRng::new(plan.seed ^ 0xE842),
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            operations: Vec::new(),
            is_finishing: false,
            values_count: 0,
            attempts_count: 0,
            shards: plan.shards.into(),
            keys: plan.keys,
        }
    }

    /// From now on nothing new is begun.
    pub(super) fn finish(&mut self) {
        self.is_finishing = true;
    }

    pub(super) fn are_idle(&self) -> bool {
        self.clients.iter().all(|client| client.open.is_none() && client.script.is_empty())
    }

    pub(super) fn open_count(&self) -> usize {
        self.clients.iter().filter(|client| client.open.is_some()).count()
    }

    /// Has the first client read every key from every node, linearizably and not. Returns who is to begin.
    pub(super) fn read_all(&mut self, nodes: usize) -> usize {
        let client = &mut self.clients[0];
        for shard in 0..usize::try_from(self.shards).expect("few") {
            for node in 0..nodes {
                client.script.push_back((Input::List, shard, node));
                for key in 0..self.keys {
                    client.script.push_back((Input::GetSerializable { key: key_name(key) }, shard, node));
                    client.script.push_back((Input::Get { key: key_name(key) }, shard, node));
                }
            }
        }
        0
    }

    /// A client that waits for nothing is to write to one node and then to read the same from another. Returns who, if there is one.
    pub(super) fn lure(&mut self, shard: usize, writes_to: usize, reads_from: usize) -> Option<usize> {
        let number = self.clients.iter().position(|client| client.open.is_none() && client.script.is_empty())?;
        let (key, value) = (self.key(), self.value(0));
        let script = &mut self.clients[number].script;
        script.push_back((Input::Put { key: key.clone(), value }, shard, writes_to));
        script.push_back((Input::Get { key }, shard, reads_from));
        Some(number)
    }

    /// A client has begun everything that was laid down for it.
    pub(super) fn has_begun_script(&self, client: usize) -> bool {
        self.clients[client].script.is_empty()
    }

    /// A write of a shard that was begun since then has been answered.
    pub(super) fn has_written_since(&self, shard: usize, since_us: u64) -> bool {
        let recent = self.operations.iter().rev().map(|running| &running.operation);
        recent
            .take_while(|operation| operation.called_us >= since_us)
            .any(|operation| operation.shard == shard && operation.outcome.is_some() && operation.input.kind().writes())
    }

    fn key(&mut self) -> Vec<u8> {
        key_name(self.rng.below(self.keys))
    }

    fn value(&mut self, bytes_max: u64) -> Vec<u8> {
        self.values_count += 1;
        let mut value = format!("v{}", self.values_count).into_bytes();
        let length = usize::try_from(self.rng.below(bytes_max + 1)).expect("small");
        value.resize(length.max(value.len()), b'.');
        value
    }

    fn make_up(&mut self, client: usize, value_bytes: u64) -> (Input, usize) {
        let shard = usize::try_from(self.rng.below(self.shards)).expect("few");
        let key = self.key();
        let input = match self.rng.below(100) {
            0..40 => Input::Put { key, value: self.value(value_bytes) },
            40..50 => Input::Delete { key },
            50..70 => Input::Get { key },
            70..80 => Input::GetSerializable { key },
            80..85 => Input::List,
            85..95 => {
                let mod_revision = pick(&mut self.rng, &[0, self.clients[client].seen_revision]);
                Input::Swap { key, mod_revision, value: self.value(value_bytes) }
            }
            _ => {
                let other = self.key();
                let keys = if other == key { [key.clone(), [&key[..], b"'"].concat()] } else { [key, other] };
                Input::PutBoth { keys, value: self.value(value_bytes) }
            }
        };
        (input, shard)
    }

    fn extra(&mut self, client: usize, input: &Input) -> Extra {
        let seen = self.clients[client].seen_revision;
        match input {
            Input::PutBoth { .. } => match self.extra_rng.below(4) {
                0 => Extra::Nothing,
                1 => Extra::GetAt(seen.saturating_sub(self.extra_rng.below(4))),
                2 => Extra::GetAt(seen + 1 + self.extra_rng.below(8)),
                _ => Extra::CountAll,
            },
            Input::Delete { .. } if self.extra_rng.chance(1, 2) => Extra::DeleteTo(self.operations.len() as u64),
            _ => Extra::Nothing,
        }
    }

    /// What an operation asks a node for.
    pub(super) fn kind(&self, op: u64) -> CallKind {
        self.operations[usize::try_from(op).expect("small")].operation.input.kind()
    }

    /// A client begins its next operation: the one laid down for it, or one that is made up. Returns its number and when the client
    /// gives up; nothing if it waits for an answer, or is to begin nothing more.
    pub(super) fn begin(&mut self, client: usize, plan: &Plan, now_us: u64) -> Option<(u64, u64)> {
        if self.clients[client].open.is_some() {
            return None;
        }
        let scripted = self.clients[client].script.pop_front();
        let (input, shard) = match scripted {
            Some((input, shard, node)) => {
                self.clients[client].home = Some(node);
                (input, shard)
            }
            None if self.is_finishing => return None,
            None => self.make_up(client, plan.value_bytes),
        };
        let number = self.operations.len();
        let deadline_us = now_us + plan.timeout_us;
        let called_us = now_us;
        let operation = Operation { client, shard, input, called_us, process: (0, 0), outcome: None, is_void: false };
        let extra = self.extra(client, &operation.input);
        self.operations.push(Running {
            operation,
            extra,
            deadline_us,
            is_open: true,
            attempts_count: 0,
            void: BTreeSet::new(),
            last_attempt: 0,
        });
        self.clients[client].open = Some(number);
        Some((number as u64, deadline_us))
    }

    /// An operation is over for its client. Returns who that is.
    pub(super) fn close(&mut self, op: u64) -> usize {
        let running = self.running(op);
        running.is_open = false;
        let client = running.operation.client;
        self.clients[client].open = None;
        client
    }

    /// Where a client asks first.
    pub(super) fn home(&self, client: usize) -> Option<usize> {
        self.clients[client].home
    }

    /// Whose operation it is.
    pub(super) fn client_of(&self, op: u64) -> usize {
        self.operations[usize::try_from(op).expect("small")].operation.client
    }

    /// Another attempt at an operation.
    pub(super) fn attempt(&mut self, op: u64) -> Attempt {
        self.attempts_count += 1;
        let number = self.attempts_count;
        assert!(self.running(op).last_attempt < number, "attempts are numbered in their order");
        self.running(op).last_attempt = number;
        Attempt { op, number }
    }

    /// A client asks anybody from now on.
    pub(super) fn leave_home(&mut self, client: usize) {
        self.clients[client].home = None;
    }

    /// Nothing new is begun but what was laid down.
    pub(super) fn is_finishing(&self) -> bool {
        self.is_finishing
    }

    pub(super) fn running(&mut self, op: u64) -> &mut Running {
        &mut self.operations[usize::try_from(op).expect("small")]
    }
}

fn key_name(number: u64) -> Vec<u8> {
    format!("k{number}").into_bytes()
}

impl Input {
    fn encode(&self, extra: Extra) -> Vec<u8> {
        let mut out = Vec::new();
        let single = |key| KeyRange { key, range_end: &[] };
        let get = |range| RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false };
        let put = |key, value| CommandOp::Put { key, value, lease: 0, prev_kv: false };
        let encoded = match self {
            Self::Put { key, value } => encode_op_command(&put(key, value), &mut out),
            Self::Delete { key } => {
                let end = match extra {
                    Extra::DeleteTo(number) => [key, &b"\0"[..], &number.to_be_bytes()].concat(),
                    _ => Vec::new(),
                };
                let range = KeyRange { key, range_end: &end };
                encode_op_command(&CommandOp::Delete { range, prev_kv: false }, &mut out)
            }
            Self::Get { key } | Self::GetSerializable { key } => encode_range(&get(single(key)), &mut out),
            Self::List => encode_range(&get(KeyRange { key: b"\0", range_end: b"\0" }), &mut out),
            Self::Swap { key, mod_revision, value } => {
                let target = CompareTarget::ModRevision(*mod_revision);
                let txn = Txn {
                    compares: vec![Compare { key, target, result: CompareResult::Equal }],
                    success: vec![put(key, value)],
                    failure: vec![CommandOp::Range(get(single(key)))],
                };
                encode_txn_command(&txn, &mut out)
            }
            Self::PutBoth { keys, value } => {
                let puts = keys.iter().map(|key| put(key, value));
                let success = puts.chain(extra.op(&keys[0])).collect();
                encode_txn_command(&Txn { success, ..Txn::default() }, &mut out)
            }
        };
        encoded.expect("operations made up here are valid");
        out
    }
}

impl Clients {
    /// Writes whose bytes no other operation has, and how often each may take effect at most: as often as it was sent without
    /// being told that it did not.
    pub(super) fn writes_with_limits(&self, shard: usize) -> impl Iterator<Item = (Vec<u8>, u64)> {
        let writes = self.operations.iter().filter(move |running| running.operation.shard == shard);
        writes
            .filter(|running| {
                let input = &running.operation.input;
                matches!(input, Input::Put { .. } | Input::PutBoth { .. } | Input::Swap { .. })
                    || matches!(running.extra, Extra::DeleteTo(_))
            })
            .map(|running| {
                (running.operation.input.encode(running.extra), running.attempts_count - running.void.len() as u64)
            })
    }

    pub(super) fn note_answer(&mut self, op: u64, home: usize) {
        let operation = &self.operations[usize::try_from(op).expect("small")].operation;
        let client = operation.client;
        let seen = operation.outcome.as_ref().and_then(|(_, response)| match response.ops.first() {
            Some(OpResponse::Range { kvs, .. }) => kvs.first().map(|kv| kv.mod_revision),
            Some(OpResponse::Put { .. }) => Some(response.revision),
            _ => None,
        });
        let client = &mut self.clients[client];
        client.home = Some(home);
        client.seen_revision = seen.unwrap_or(client.seen_revision);
    }

    /// Whether everything that clients were told fits together, by both judges. Returns in how many shards the one that
    /// searches gave up.
    pub(super) fn judge(&self) -> Result<u64, String> {
        let mut given_up_count = 0;
        for shard in 0..usize::try_from(self.shards).expect("few") {
            for Running { operation, extra, .. } in self.operations.iter().filter(|op| op.operation.shard == shard) {
                if let Some((_, response)) = &operation.outcome {
                    extra.check(response).map_err(|what| format!("shard {shard}: {what}"))?;
                }
            }
            let operations: Vec<&Operation> =
                self.operations.iter().map(|running| &running.operation).filter(|op| op.shard == shard).collect();
            judge::judge(&operations).map_err(|what| format!("shard {shard}: {what}"))?;
            match search::judge(&operations, SEARCH_LIMITS) {
                Verdict::Linearizable => {}
                Verdict::GaveUp { .. } => given_up_count += 1,
                Verdict::NotLinearizable(refutation) => return Err(format!("shard {shard}: {refutation}")),
            }
        }
        Ok(given_up_count)
    }
}
