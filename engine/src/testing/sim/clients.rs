//! Clients: one operation at a time each, with timeouts and retries by the rules of the client library, all of it recorded.
//!
//! A retry is safe only when the refusal says that nothing happened; everything else ends as an unknown outcome.

use std::collections::VecDeque;

use net::api::{Executed, Status};
use wal::testing::SimRng;

use super::plan::{Plan, between, pick};
use super::world::{Event, Place, World};
use crate::replica::{self, Origin, Refusal, Request, RequestKind, Ticket};
use crate::testing::history::{Input, Operation};
use crate::testing::judge;
use crate::testing::search::{self, Limits, Verdict};
use api::command::{
    Compare, CompareResult, CompareTarget, KeyRange, Op as CommandOp, RangeOp, Txn, encode_op_command, encode_range,
    encode_txn_command,
};
use api::response::{OpResponse, Response};

/// Pause before an operation that was refused is tried again. Unit: us.
const RETRY_US: (u64, u64) = (5_000, 100_000);

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
}

impl Extra {
    fn op<'a>(self, key: &'a [u8]) -> Option<CommandOp<'a>> {
        let range = |range, revision, count_only| {
            CommandOp::Range(RangeOp { range, limit: 0, revision, keys_only: false, count_only })
        };
        match self {
            Self::Nothing => None,
            Self::GetAt(revision) => Some(range(KeyRange { key, range_end: &[] }, revision, false)),
            Self::CountAll => Some(range(KeyRange { key: b"\0", range_end: b"\0" }, 0, true)),
        }
    }

    /// Whether the answer to a transaction fits.
    fn check(self, response: &Response) -> Result<(), String> {
        let made = response.revision;
        match (self, response.ops.last()) {
            (Self::Nothing, _) => Ok(()),
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
struct Running {
    operation: Operation,
    extra: Extra,
    deadline_us: u64,
    is_open: bool,
    /// How often it arrived at a node that was there.
    attempts_count: u64,
    /// How often a node said that it took no effect.
    void_count: u64,
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
            _ => Extra::Nothing,
        }
    }

    /// What an operation asks a node for.
    pub(super) fn kind(&self, op: u64) -> RequestKind {
        self.operations[usize::try_from(op).expect("small")].operation.input.kind()
    }

    fn running(&mut self, op: u64) -> &mut Running {
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
                encode_op_command(&CommandOp::Delete { range: single(key), prev_kv: false }, &mut out)
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

impl World {
    /// A client begins its next operation.
    pub(super) fn ask(&mut self, client: usize) {
        if self.clients.clients[client].open.is_some() {
            return;
        }
        let scripted = self.clients.clients[client].script.pop_front();
        let (input, shard) = match scripted {
            Some((input, shard, node)) => {
                self.clients.clients[client].home = Some(node);
                (input, shard)
            }
            None if self.clients.is_finishing => return,
            None => self.clients.make_up(client, self.plan.value_bytes),
        };
        let number = self.clients.operations.len();
        let deadline_us = self.now_us + self.plan.timeout_us;
        let called_us = self.now_us;
        let operation = Operation { client, shard, input, called_us, process: (0, 0), outcome: None, is_void: false };
        let extra = self.clients.extra(client, &operation.input);
        self.clients.operations.push(Running {
            operation,
            extra,
            deadline_us,
            is_open: true,
            attempts_count: 0,
            void_count: 0,
        });
        self.clients.clients[client].open = Some(number);
        let op = number as u64;
        self.schedule_at(deadline_us, Event::GiveUp { op });
        self.send_request(op, 0);
    }

    fn send_request(&mut self, op: u64, pause_us: u64) {
        let operation = &self.clients.running(op).operation;
        let (client, shard) = (operation.client, operation.shard);
        let host = match self.clients.clients[client].home {
            Some(home) if !self.rng.chance(1, 10) || self.clients.is_finishing => home,
            _ => usize::try_from(self.rng.below(self.plan.nodes as u64)).expect("few"),
        };
        let (low, high) = self.plan.delay_us;
        let delay_us = pause_us + between(&mut self.rng, low, high);
        self.schedule(delay_us, Event::Arrive { op, at: Place { host, shard } });
    }

    /// A request arrives, even if nobody waits for it any more.
    pub(super) fn arrive(&mut self, op: u64, at: Place) -> Result<(), String> {
        if !self.hosts[at.host].is_up {
            let delay_us = between(&mut self.rng, 10, 5_000);
            self.schedule(delay_us, Event::Answer { op, answer: Answer::Broken { was_sent: false } });
            return Ok(());
        }
        let life = self.hosts[at.host].life;
        let running = self.clients.running(op);
        running.attempts_count += 1;
        let Running { operation, extra, .. } = running;
        operation.process = (at.host, life);
        let (kind, payload) = (operation.input.kind(), operation.input.encode(*extra));
        let timeout_ticks = self.plan.timeout_us.div_ceil(self.plan.tick_us);
        self.hosts[at.host].shards[at.shard].waiting.insert(op);
        let origin = Origin::Local(Ticket(op));
        self.deliver(at, replica::Event::Request(Request { origin, kind, timeout_ticks, payload: &payload }))
    }

    /// A replica answered; the answer is on its way to the client.
    pub(super) fn reply(&mut self, at: Place, op: u64, result: Result<Vec<u8>, Refusal>) -> Result<(), String> {
        if !self.hosts[at.host].shards[at.shard].waiting.remove(&op) {
            let number = at.host + 1;
            return Err(format!("node {number} answers operation {op} a second time: {result:?}"));
        }
        // What every replica refuses alike when it applies the entry is in the log, and takes no effect there.
        let is_in_no_log = |refusal: &Refusal| {
            refusal.executed == Executed::No
                && refusal.status != Status::FutureRevision
                && refusal.status != Status::TooLarge
        };
        if result.as_ref().is_err_and(is_in_no_log) {
            self.clients.running(op).void_count += 1;
        }
        let answer = match result {
            Ok(body) => Answer::Done(body),
            Err(refusal) => Answer::Refused(refusal),
        };
        let (low, high) = self.plan.delay_us;
        let delay_us = between(&mut self.rng, low, high);
        self.schedule(delay_us, Event::Answer { op, answer });
        Ok(())
    }

    pub(super) fn answer(&mut self, op: u64, answer: Answer) {
        let now_us = self.now_us;
        let running = self.clients.running(op);
        if !running.is_open {
            return;
        }
        let operation = &mut running.operation;
        let client = operation.client;
        let is_write = operation.input.kind() == RequestKind::Write;
        match answer {
            Answer::Done(body) => {
                let response = Response::decode(&body).expect("a replica's answer decodes");
                operation.outcome = Some((now_us, response));
                let home = operation.process.0;
                self.clients.note_answer(op, home);
                self.report.answered_count += 1;
                self.close(op);
            }
            Answer::Broken { was_sent: true } if is_write => {
                self.report.unknown_count += 1;
                self.clients.clients[client].home = None;
                self.close(op);
            }
            Answer::Broken { .. } => self.retry(op),
            Answer::Refused(refusal) if refusal.is_safe_to_retry() => self.retry(op),
            Answer::Refused(refusal) => {
                let is_void = refusal.executed == Executed::No;
                operation.is_void = is_void;
                *(if is_void { &mut self.report.refused_count } else { &mut self.report.unknown_count }) += 1;
                self.clients.clients[client].home = None;
                self.close(op);
            }
        }
    }

    /// Tries again elsewhere, while there is time.
    fn retry(&mut self, op: u64) {
        let client = self.clients.running(op).operation.client;
        // Everything that is asked at the end is asked at one node.
        if !self.clients.is_finishing {
            self.clients.clients[client].home = None;
        }
        let delay_us = between(&mut self.rng, RETRY_US.0, RETRY_US.1);
        if self.now_us + delay_us < self.clients.running(op).deadline_us {
            self.send_request(op, delay_us);
        }
    }

    /// The client has waited enough: an operation that nobody may carry out any more had no effect, else it is unknown.
    pub(super) fn give_up(&mut self, op: u64) {
        if self.clients.running(op).is_open {
            self.report.unknown_count += 1;
            let client = self.clients.running(op).operation.client;
            self.clients.clients[client].home = None;
            self.close(op);
        }
    }

    fn close(&mut self, op: u64) {
        let running = self.clients.running(op);
        running.is_open = false;
        let client = running.operation.client;
        self.clients.clients[client].open = None;
        let (low, high) = if self.clients.is_finishing { (1, 100) } else { self.plan.think_us };
        let delay_us = between(&mut self.rng, low, high);
        self.schedule(delay_us, Event::Ask { client });
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
            })
            .map(|running| (running.operation.input.encode(running.extra), running.attempts_count - running.void_count))
    }

    fn note_answer(&mut self, op: u64, home: usize) {
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
