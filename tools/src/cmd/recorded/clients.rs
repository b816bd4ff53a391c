//! Clients that do everything a client can do, one operation at a time, and write down what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::response::{OpResponse, Response};
use client::{Client, ClientError, ClientOptions, Compare, CompareResult, CompareTarget, Op, OpResult, PutOptions};
use client::{RangeRequest, RangeResponse, Txn};
use engine::call::CallKind;
use engine::testing::history::{Input, Operation};
use wal::testing::SimRng;

use super::Shared;

use crate::limits::CLIENT_PAUSE_MS;
use crate::limits::{CLIENT_TIMEOUT, LARGE_BYTES_MAX, READ_ALL_WITHIN};

/// One client.
pub(super) struct Worker {
    number: usize,
    rng: SimRng,
    keys: u64,
    shared: Arc<Shared>,
    values_count: u64,
    /// Revision of the last key that it read or wrote, to compare with.
    seen_revision: u64,
}

impl Worker {
    pub(super) fn new(number: usize, seed: u64, keys: u64, shared: Arc<Shared>) -> Self {
        let rng = SimRng::new(seed ^ (number as u64 + 1) << 32);
        Self { number, rng, keys, shared, values_count: 0, seen_revision: 0 }
    }

    /// Works until everything is over.
    pub(super) async fn run(mut self) {
        let client = connect(&self.shared.endpoints).await;
        while !self.shared.is_over.load(Ordering::SeqCst) {
            let input = self.make_up();
            let node = usize::try_from(self.rng.below(self.shared.endpoints.len() as u64)).expect("few");
            let response = ask(&self.shared, &client, self.number, input, node).await;
            if let Some(revision) = response.as_ref().and_then(revision_seen) {
                self.seen_revision = revision;
            }
            let pause_ms = CLIENT_PAUSE_MS.0 + self.rng.below(CLIENT_PAUSE_MS.1 - CLIENT_PAUSE_MS.0);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    fn key(&mut self) -> Vec<u8> {
        key_name(self.rng.below(self.keys))
    }

    fn value(&mut self) -> Vec<u8> {
        self.values_count += 1;
        let mut value = format!("c{}-{}", self.number, self.values_count).into_bytes();
        // Now and then a large one, so that the log grows out of its segments.
        let bytes_max = if self.rng.chance(1, 20) { LARGE_BYTES_MAX } else { 500 };
        let length = usize::try_from(self.rng.below(bytes_max)).expect("small");
        value.resize(length.max(value.len()), b'.');
        value
    }

    fn make_up(&mut self) -> Input {
        let key = self.key();
        match self.rng.below(100) {
            0..40 => Input::Put { key, value: self.value() },
            40..48 => Input::Delete { key },
            48..70 => Input::Get { key },
            70..82 => Input::GetSerializable { key },
            82..86 => Input::List,
            86..95 => {
                let mod_revision = if self.rng.chance(1, 2) { 0 } else { self.seen_revision };
                Input::Swap { key, mod_revision, value: self.value() }
            }
            _ => {
                let other = [&key[..], b"'"].concat();
                Input::PutBoth { keys: [key, other], value: self.value() }
            }
        }
    }
}

fn key_name(number: u64) -> Vec<u8> {
    format!("k{number}").into_bytes()
}

fn revision_seen(response: &Response) -> Option<u64> {
    match response.ops.first()? {
        OpResponse::Range { kvs, .. } => kvs.first().map(|kv| kv.mod_revision),
        OpResponse::Put { .. } => Some(response.revision),
        OpResponse::Delete { .. } => None,
    }
}

async fn connect(endpoints: &[String]) -> Client {
    loop {
        let options = ClientOptions {
            endpoints: endpoints.to_vec(),
            request_timeout: CLIENT_TIMEOUT,
            ..ClientOptions::default()
        };
        match Client::connect(options).await {
            Ok(client) => return client,
            // All nodes may be down just now.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Does an operation and records it.
async fn ask(shared: &Shared, client: &Client, number: usize, input: Input, node: usize) -> Option<Response> {
    let life = || shared.lives.get(node).map_or(0, |life| life.load(Ordering::SeqCst));
    let life_before = life();
    let called_us = shared.now_us();
    let endpoint = shared.endpoints.get(node).map_or("", String::as_str);
    let result = perform(client, &input, endpoint).await;
    let returned_us = shared.now_us();
    if let Err(ClientError::Malformed { .. }) = &result {
        shared.complain(format!("an answer makes no sense: {result:?} to {input:?}"));
    }
    let is_serializable = input.kind() == CallKind::ReadSerializable;
    let process = if is_serializable { (node, life_before) } else { (0, 0) };
    let mut operation =
        Operation { client: number, shard: 0, input, called_us, process, outcome: None, is_void: false };
    match result {
        // Nobody can tell which of two processes answered.
        Ok(_) if is_serializable && life() != life_before => None,
        Ok(response) => {
            operation.outcome = Some((returned_us, response.clone()));
            shared.record(operation);
            Some(response)
        }
        Err(error) if error.may_have_taken_effect() && operation.input.kind() == CallKind::Write => {
            shared.record(operation);
            None
        }
        Err(_) => {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

async fn perform(client: &Client, input: &Input, endpoint: &str) -> Result<Response, ClientError> {
    let of_range = |range: RangeResponse| {
        let RangeResponse { revision, kvs, more, count } = range;
        Response { revision, succeeded: true, ops: vec![OpResponse::Range { kvs, more, count }] }
    };
    let get = |key: &[u8], serializable| RangeRequest { key: key.to_vec(), serializable, ..RangeRequest::default() };
    match input {
        Input::Put { key, value } => {
            let put = client.put(key, value).await?;
            Ok(Response { revision: put.revision, succeeded: true, ops: vec![OpResponse::Put { prev_kv: None }] })
        }
        Input::Delete { key } => {
            let done = client.delete(key, None).await?;
            let ops = vec![OpResponse::Delete { deleted: done.deleted, prev_kvs: done.prev_kvs }];
            Ok(Response { revision: done.revision, succeeded: true, ops })
        }
        Input::Get { key } => client.range(get(key, false)).await.map(of_range),
        Input::GetSerializable { key } => client.range_on(endpoint, get(key, true)).await.map(of_range),
        Input::List => {
            let all = RangeRequest { key: vec![0], range_end: vec![0], ..RangeRequest::default() };
            client.range(all).await.map(of_range)
        }
        Input::Swap { key, mod_revision, value } => {
            let target = CompareTarget::ModRevision(*mod_revision);
            let txn = Txn {
                compares: vec![Compare { key: key.clone(), target, result: CompareResult::Equal }],
                success: vec![put_op(key, value)],
                failure: vec![Op::Range(get(key, false))],
            };
            transact(client, &txn).await
        }
        Input::PutBoth { keys, value } => {
            let success = keys.iter().map(|key| put_op(key, value)).collect();
            transact(client, &Txn { success, ..Txn::default() }).await
        }
    }
}

fn put_op(key: &[u8], value: &[u8]) -> Op {
    Op::Put { key: key.to_vec(), value: value.to_vec(), options: PutOptions::default() }
}

async fn transact(client: &Client, txn: &Txn) -> Result<Response, ClientError> {
    let done = client.txn(txn).await?;
    let of_result = |result| match result {
        OpResult::Put(prev_kv) => OpResponse::Put { prev_kv },
        OpResult::Delete { deleted, prev_kvs } => OpResponse::Delete { deleted, prev_kvs },
        OpResult::Range { kvs, more, count } => OpResponse::Range { kvs, more, count },
    };
    let ops = done.results.into_iter().map(of_result).collect();
    Ok(Response { revision: done.revision, succeeded: done.succeeded, ops })
}

/// Reads every key from every node, linearizably and not, into the history: what was acknowledged must be there. The nodes
/// agree and nothing is wrong any more, so what can't be read counts as lost.
pub(in crate::cmd) async fn read_everything(shared: &Shared, keys: u64) {
    for (node, endpoint) in shared.endpoints.iter().enumerate() {
        let reading = async {
            // It knows no other node to ask first.
            let client = connect(std::slice::from_ref(endpoint)).await;
            read_until_answered(shared, &client, Input::List, node).await;
            for key in (0..keys).map(key_name) {
                let other = [&key[..], b"'"].concat();
                for key in [key, other] {
                    read_until_answered(shared, &client, Input::GetSerializable { key: key.clone() }, node).await;
                    read_until_answered(shared, &client, Input::Get { key }, node).await;
                }
            }
        };
        if tokio::time::timeout(READ_ALL_WITHIN, reading).await.is_err() {
            let within_s = READ_ALL_WITHIN.as_secs();
            shared.complain(format!("not everything could be read from {endpoint} within {within_s} s"));
        }
    }
}

async fn read_until_answered(shared: &Shared, client: &Client, input: Input, node: usize) {
    while ask(shared, client, usize::MAX, input.clone(), node).await.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
