//! The key-value state machine: etcd's model (MVCC, ranges, transactions) over committed entries.
//!
//! Deterministic: equal entries make equal state and equal answers on every replica. It does no I/O, knows no clock, and keeps
//! all state in memory; leases, watches and compaction are not here yet.

pub mod batch;
pub mod command;
mod mvcc;
pub mod response;
mod values;

use net::codec::DecodeError;

use crate::types::{Index, Revision};
use command::{Command, Compare, CompareTarget, KeyRange, Op, RangeOp, Txn};
use mvcc::Mvcc;
use response::{KvView, ResponseWriter};

/// Revision of an empty store, as in etcd.
const REVISION_EMPTY: u64 = 1;

/// Reads the latest version, changes of the running transaction included.
const LATEST: u64 = u64::MAX;

/// A buffer for answers larger than this is not kept. Unit: bytes.
const RESPONSE_KEPT_BYTES_MAX: usize = 1 << 20;

/// Settings of a state machine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size from which on a range's answer takes no more keys and says that there are more. Unit: bytes.
    pub range_bytes_limit: usize,
    /// Size over which a write's answer is not given, only that it is too large. More than any single range takes. Unit: bytes.
    pub answer_bytes_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { range_bytes_limit: 4 << 20, answer_bytes_limit: 32 << 20 }
    }
}

/// A write was done, but its answer is larger than `Options::answer_bytes_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer has over {bytes_limit} bytes")]
pub struct TooLarge {
    /// The limit. Unit: bytes.
    pub bytes_limit: usize,
}

/// Takes the answers to the commands of a batch.
pub trait Answers {
    /// Somebody waits for the answer to the command at `position`. Otherwise none is made; the state changes all the same.
    fn wants(&mut self, position: usize) -> bool;

    /// Takes the encoded answer to the command at `position`.
    fn take(&mut self, position: usize, answer: Result<&[u8], TooLarge>);
}

/// A closure takes them all.
impl<F: FnMut(usize, Result<&[u8], TooLarge>)> Answers for F {
    fn wants(&mut self, _position: usize) -> bool {
        true
    }

    fn take(&mut self, position: usize, answer: Result<&[u8], TooLarge>) {
        self(position, answer);
    }
}

/// A committed entry cannot be applied. The replica stops: applying something else would split the replicas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Entries are applied in order.
    #[error("entry {got} was to be applied, {expected} is due")]
    OutOfOrder {
        /// As given.
        got: Index,
        /// As due.
        expected: Index,
    },
    /// A command does not follow the format: another version wrote it, or it was damaged before it was logged.
    #[error("command {position} of the batch is malformed: {error}")]
    Malformed {
        /// Its place in the batch.
        position: usize,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// A read cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The revision does not exist yet.
    #[error("required revision {asked} is a future revision, the current one is {current}")]
    FutureRevision {
        /// As asked for.
        asked: u64,
        /// The current one.
        current: u64,
    },
    /// The bytes do not follow the format.
    #[error("malformed read: {0}")]
    Malformed(#[from] DecodeError),
}

/// The state of one shard.
#[derive(Debug)]
pub struct StateMachine {
    options: Options,
    mvcc: Mvcc,
    revision: u64,
    applied_index: Index,
    response: Vec<u8>,
}

impl StateMachine {
    /// Empty state.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            mvcc: Mvcc::default(),
            revision: REVISION_EMPTY,
            applied_index: Index::ZERO,
            response: Vec::new(),
        }
    }

    /// The last entry applied.
    #[must_use]
    pub const fn applied_index(&self) -> Index {
        self.applied_index
    }

    /// The current revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision::new(self.revision)
    }

    /// Estimated size of the state. Unit: bytes.
    #[must_use]
    pub const fn state_bytes(&self) -> u64 {
        self.mvcc.bytes()
    }

    /// A hash of the whole state, to compare replicas at equal index. Walks everything.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.mvcc.digest() ^ self.revision.rotate_left(32)
    }

    /// Applies an entry that carries nothing.
    ///
    /// # Errors
    /// It is not the entry that is due.
    pub fn apply_noop(&mut self, index: Index) -> Result<(), ApplyError> {
        self.expect(index)?;
        self.applied_index = index;
        Ok(())
    }

    /// Applies a batch; `answers` gets the answers that it wants.
    ///
    /// # Errors
    /// It is not the entry that is due, or a command is malformed; then the state must not be used further.
    pub fn apply_batch(&mut self, index: Index, payload: &[u8], answers: &mut dyn Answers) -> Result<(), ApplyError> {
        self.expect(index)?;
        let mut response = std::mem::take(&mut self.response);
        for (position, bytes) in batch::commands(payload).enumerate() {
            let command = bytes.and_then(command::decode).map_err(|error| ApplyError::Malformed { position, error })?;
            response.clear();
            if !answers.wants(position) {
                self.apply(&command, None);
                continue;
            }
            let bytes_limit = self.options.answer_bytes_limit;
            let is_whole = self.apply(&command, Some(&mut response));
            answers.take(position, if is_whole { Ok(&response) } else { Err(TooLarge { bytes_limit }) });
        }
        if response.capacity() > RESPONSE_KEPT_BYTES_MAX {
            response = Vec::new();
        }
        self.response = response;
        self.applied_index = index;
        Ok(())
    }

    fn expect(&self, index: Index) -> Result<(), ApplyError> {
        let expected = self.applied_index.next();
        if index == expected { Ok(()) } else { Err(ApplyError::OutOfOrder { got: index, expected }) }
    }

    /// Does a command and writes its answer, if one is wanted; says whether the answer is whole.
    fn apply(&mut self, command: &Command<'_>, out: Option<&mut Vec<u8>>) -> bool {
        let mut writer = out.map(|out| ResponseWriter::begin(out, self.options.answer_bytes_limit));
        // A transaction takes the next revision only if it changes something.
        let revision = self.revision + 1;
        let mut changed = false;
        let succeeded = match command {
            Command::Op(op) => {
                changed |= self.apply_op(op, revision, &mut writer);
                true
            }
            Command::Txn(Txn { compares, success, failure }) => {
                let holds = compares.iter().all(|compare| self.holds(compare));
                for op in if holds { success } else { failure } {
                    changed |= self.apply_op(op, revision, &mut writer);
                }
                holds
            }
        };
        if changed {
            self.revision = revision;
        }
        writer.is_none_or(|writer| writer.finish(self.revision, succeeded))
    }

    /// Does one operation; says whether it changed something.
    fn apply_op(&mut self, op: &Op<'_>, revision: u64, writer: &mut Option<ResponseWriter<'_>>) -> bool {
        match op {
            Op::Put { key, value, lease, prev_kv } => {
                if let Some(writer) = writer {
                    let place = writer.begin_op();
                    let previous = if *prev_kv { self.mvcc.get(key, LATEST) } else { None };
                    if let Some(kv) = &previous {
                        writer.kv(kv);
                    }
                    writer.end_op(place, response::OP_PUT, false, u32::from(previous.is_some()), 0);
                }
                self.mvcc.put(key, value, *lease, revision);
                true
            }
            Op::Delete { range, prev_kv } => {
                let keys: Vec<Box<[u8]>> = self.mvcc.range(range, LATEST).map(|kv| kv.key.into()).collect();
                if let Some(writer) = writer {
                    let place = writer.begin_op();
                    if *prev_kv {
                        self.mvcc.range(range, LATEST).for_each(|kv| writer.kv(&kv));
                    }
                    let kvs_count = if *prev_kv { keys.len() } else { 0 };
                    let kvs_count = u32::try_from(kvs_count).expect("fewer than 2^32 keys");
                    writer.end_op(place, response::OP_DELETE, false, kvs_count, keys.len() as u64);
                }
                for key in &keys {
                    self.mvcc.delete(key, revision);
                }
                !keys.is_empty()
            }
            Op::Range(range) => {
                if let Some(writer) = writer {
                    let place = writer.begin_op();
                    let at =
                        if range.revision == 0 || range.revision > self.revision { LATEST } else { range.revision };
                    self.write_range(range, at, place, writer);
                }
                false
            }
        }
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let found = self.mvcc.get(compare.key, LATEST);
        let number = |of: fn(&KvView<'_>) -> u64| found.as_ref().map_or(0, of);
        let ordering = match compare.target {
            CompareTarget::Version(operand) => number(|kv| kv.version).cmp(&operand),
            CompareTarget::CreateRevision(operand) => number(|kv| kv.create_revision).cmp(&operand),
            CompareTarget::ModRevision(operand) => number(|kv| kv.mod_revision).cmp(&operand),
            CompareTarget::Lease(operand) => number(|kv| kv.lease).cmp(&operand),
            // As in etcd: a key that is not there has no value to compare.
            CompareTarget::Value(operand) => match &found {
                Some(kv) => kv.value.cmp(operand),
                None => return false,
            },
        };
        compare.result.holds(ordering)
    }

    /// Answers a read, appending to `out`.
    ///
    /// # Errors
    /// The revision does not exist, or the bytes are malformed; then `out` is as it was.
    pub fn range(&self, request: &[u8], out: &mut Vec<u8>) -> Result<(), RangeError> {
        let request = command::decode_range(request)?;
        if request.revision > self.revision {
            return Err(RangeError::FutureRevision { asked: request.revision, current: self.revision });
        }
        let at = if request.revision == 0 { LATEST } else { request.revision };
        // A single range ends at its own limit, with `more` set.
        let mut writer = ResponseWriter::begin(out, usize::MAX);
        let place = writer.begin_op();
        self.write_range(&request, at, place, &mut writer);
        writer.finish(self.revision, true);
        Ok(())
    }

    fn write_range(&self, request: &RangeOp<'_>, at: u64, place: usize, writer: &mut ResponseWriter<'_>) {
        let limit = if request.limit == 0 { u64::MAX } else { request.limit };
        let mut kvs_count: u32 = 0;
        let mut count: u64 = 0;
        let mut full = false;
        let mut write = |kv: KvView<'_>| {
            count += 1;
            full |= u64::from(kvs_count) >= limit || writer.len() >= self.options.range_bytes_limit;
            if !request.count_only && !full {
                writer.kv(&if request.keys_only { KvView { value: &[], ..kv } } else { kv });
                kvs_count += 1;
            }
        };
        let KeyRange { key, .. } = request.range;
        if request.range.is_single() {
            self.mvcc.get(key, at).into_iter().for_each(&mut write);
        } else {
            self.mvcc.range(&request.range, at).for_each(&mut write);
        }
        let more = !request.count_only && count > u64::from(kvs_count);
        writer.end_op(place, response::OP_RANGE, more, kvs_count, count);
    }
}

#[cfg(test)]
mod format_tests;
