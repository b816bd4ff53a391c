//! The key-value state machine: etcd's model (MVCC, ranges, transactions) over committed entries.
//!
//! Deterministic: equal entries make equal state and equal answers on every replica. It does no I/O, knows no clock but the time
//! that entries bring, and keeps all state in memory; leases, watches and compaction are not here yet. The state is made of
//! sections (`section`): today keys with their versions.

mod answers;
pub mod batch;
mod chunks;
mod digest;
mod history;
mod index;
mod mvcc;
mod scan;
pub mod section;
mod values;

use codec::DecodeError;

pub use answers::{Answers, Budget, Change, ChangeKind, CommandRefused, KEYS_VISITED_PER_COMMAND_MAX, Place};
use api::command::{self, Command, Compare, CompareTarget, Op, Txn};
use api::response::{self, KvView, ResponseWriter};
use batch::{BATCH_HEADER_BYTES, BatchHeader, LogTime};
use chunks::KeysCursor;
use digest::Digest;
use mvcc::Mvcc;
pub use scan::Scan;
use section::{AsOf, Section, SectionKind};

use crate::types::{EntryId, Index, Lsn, Revision};

/// Reads the latest version, changes of the running transaction included.
const LATEST: Revision = Revision::new(u64::MAX);

/// A buffer for answers larger than this is not kept. Unit: bytes.
const RESPONSE_KEPT_BYTES_MAX: usize = 1 << 20;

/// Settings of a state machine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size from which on a range takes no more keys and says that there are more, each range by itself. Unit: bytes.
    pub range_bytes_limit: usize,
    /// Size over which a command's answer is not given, only that it is too large. More than any single range takes. Unit: bytes.
    pub answer_bytes_limit: usize,
    /// Keys that one command may visit, beyond which it is refused. Equal on all replicas, or they split.
    pub command_keys_limit: u64,
    /// Where keys lie in memory follows from it, and nothing that can be observed. Best one that nobody knows.
    pub hash_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            range_bytes_limit: 4 << 20,
            answer_bytes_limit: 32 << 20,
            command_keys_limit: KEYS_VISITED_PER_COMMAND_MAX,
            hash_seed: 0,
        }
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
    /// The batch has no header of this version: another version wrote it, or it was damaged before it was logged.
    #[error("the batch cannot be read: {0}")]
    Header(DecodeError),
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
        asked: Revision,
        /// The current one.
        current: Revision,
    },
    /// The bytes do not follow the format.
    #[error("malformed read: {0}")]
    Malformed(#[from] DecodeError),
}

/// The state of one shard.
#[derive(Debug)]
pub struct StateMachine {
    options: Options,
    keys: Mvcc,
    revision: Revision,
    time: LogTime,
    /// The state after the last entry that is applied whole: what is newer belongs to the entry that is being applied.
    applied: AsOf,
    /// How far the entry behind `applied` is applied.
    cursor: Cursor,
    response: Vec<u8>,
}

/// A committed entry that carries a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchEntry<'a> {
    /// Which entry it is.
    pub id: EntryId,
    /// Where its payload stands in this node's log.
    pub place: Lsn,
    /// The batch.
    pub payload: &'a [u8],
}

impl BatchEntry<'_> {
    /// Where a part of the payload stands in the log.
    fn place_of(&self, part: &[u8]) -> Place {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.payload.as_ptr() as usize);
        assert!(offset + part.len() <= self.payload.len(), "a value is a part of its entry");
        let len = u32::try_from(part.len()).expect("a value is below 4 GiB");
        Place { lsn: Lsn::new(self.place.get() + offset as u64), len }
    }
}

/// How far a state is written out, or taken into a hash.
#[derive(Clone, Debug, Default)]
pub struct ChunkCursor {
    keys: KeysCursor,
}

/// A place in a batch, between two commands.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// Bytes of the batch before it; 0 = its header was not read. Unit: bytes.
    offset: usize,
    /// Commands before it.
    position: usize,
}

/// What came of a command that is done.
struct Done {
    changed: bool,
    /// The answer, if one was wanted, is whole.
    is_whole: bool,
}

/// Told of every change: its revision, the key, and the value, or none if the key was deleted.
type OnChange<'a> = &'a mut dyn FnMut(Revision, &[u8], Option<&[u8]>);

impl StateMachine {
    /// The state of a new shard: empty.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::at(options, AsOf::EMPTY)
    }

    /// A state that begins behind an entry, to be filled by `restore`. It is empty until then.
    #[must_use]
    pub fn at(options: Options, origin: AsOf) -> Self {
        Self {
            options,
            keys: Mvcc::new(options.hash_seed),
            revision: origin.revision,
            time: origin.time,
            applied: origin,
            cursor: Cursor::default(),
            response: Vec::new(),
        }
    }

    /// Appends a chunk of the state as it was at `as_of`, which was this state's once; says whether it is the last one. Later
    /// entries may be applied between two calls. A chunk ends soon after `bytes_limit`, but holds at least one version of a key.
    pub fn chunk(&self, as_of: &AsOf, cursor: &mut ChunkCursor, bytes_limit: usize, out: &mut Vec<u8>) -> bool {
        assert!(as_of.applied.index <= self.applied.applied.index, "a state that comes later is not here yet");
        assert!(as_of.revision <= self.applied.revision, "a state that comes earlier has no later revision");
        let start = out.len();
        out.extend_from_slice(&SectionKind::Keys.chunk_header());
        self.keys.chunk(as_of, &mut cursor.keys, start.saturating_add(bytes_limit), out)
    }

    /// Takes in a chunk that `chunk` wrote of another state as of this one's origin; all of them, in their order, before any entry
    /// is applied.
    ///
    /// # Errors
    /// The bytes do not follow the format or are out of order; the state must not be used then.
    pub fn restore(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        assert!(self.cursor.offset == 0, "a state into which entries are applied takes in no other");
        match SectionKind::of_chunk(chunk)? {
            (SectionKind::Keys, rest) => self.keys.restore(rest),
        }
    }

    /// What this state is after the last entry that it contains whole.
    #[must_use]
    pub const fn as_of(&self) -> AsOf {
        self.applied
    }

    /// The last entry applied.
    #[must_use]
    pub const fn applied_index(&self) -> Index {
        self.applied.applied.index
    }

    /// The current revision: that of the last command applied, which may belong to an entry that is applied in part.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The log's time, as far as entries have brought it.
    #[must_use]
    pub const fn time(&self) -> LogTime {
        self.time
    }

    /// Estimated size of the state. Unit: bytes.
    #[must_use]
    pub const fn state_bytes(&self) -> u64 {
        self.keys.bytes()
    }

    /// A hash of the whole state as of `applied_index`, to compare replicas at equal index. Walks everything.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest_at(&self.applied)
    }

    /// A hash of the whole state as it was at `as_of`. Walks everything.
    #[must_use]
    pub fn digest_at(&self, as_of: &AsOf) -> u64 {
        let (mut digest, mut left) = (Digest::default(), u64::MAX);
        let digest = self.digest_slice(as_of, &mut ChunkCursor::default(), &mut left, &mut digest);
        digest.expect("nothing has so many keys")
    }

    /// Takes more of the state as it was at `as_of` into a hash, until `left` is used up (`Section::digest`); returns the hash if that
    /// was the last of it.
    fn digest_slice(&self, as_of: &AsOf, cursor: &mut ChunkCursor, left: &mut u64, digest: &mut Digest) -> Option<u64> {
        let is_last = self.keys.digest(as_of, &mut cursor.keys, left, digest);
        is_last.then(|| digest.get() ^ as_of.revision.get().rotate_left(32) ^ as_of.time.get().rotate_left(16))
    }

    /// Applies an entry that carries nothing.
    ///
    /// # Errors
    /// It is not the entry that is due.
    pub fn apply_noop(&mut self, id: EntryId) -> Result<(), ApplyError> {
        self.expect(id.index)?;
        assert!(self.cursor.offset == 0, "an entry is applied to its end before the next one is begun");
        self.finish_entry(id);
        Ok(())
    }

    /// Applies a batch in one go; `answers` gets the answers that it wants.
    ///
    /// # Errors
    /// As for `apply_slice`.
    pub fn apply_batch(&mut self, entry: &BatchEntry<'_>, answers: &mut dyn Answers) -> Result<(), ApplyError> {
        let mut budget = Budget::UNLIMITED;
        while !self.apply_slice(entry, &mut budget, answers)? {}
        Ok(())
    }

    /// Applies commands of a batch, at least one if any is left, until the budget is spent; says whether that was the last.
    /// Otherwise the next call goes on with the same batch. In between the state is that after some command, as if each were an
    /// entry of its own; `applied_index` moves at the end.
    ///
    /// # Errors
    /// It is not the entry that is due, or a command is malformed; then the state must not be used further.
    pub fn apply_slice(
        &mut self,
        entry: &BatchEntry<'_>,
        budget: &mut Budget,
        answers: &mut dyn Answers,
    ) -> Result<bool, ApplyError> {
        self.expect(entry.id.index)?;
        if self.cursor.offset == 0 {
            let header = BatchHeader::decode(entry.payload).map_err(ApplyError::Header)?;
            // A new leader's clock may stand behind what the last one wrote.
            self.time = self.time.max(header.time);
            self.cursor.offset = BATCH_HEADER_BYTES;
        }
        assert!(self.cursor.offset <= entry.payload.len(), "a slice goes on with the batch of the one before");
        let mut response = std::mem::take(&mut self.response);
        let rest = entry.payload.get(self.cursor.offset..).unwrap_or_default();
        let mut may_go_on = true;
        for batched in batch::commands(rest) {
            if !may_go_on {
                self.response = response;
                return Ok(false);
            }
            let position = self.cursor.position;
            let malformed = |error| ApplyError::Malformed { position, error };
            let batched = batched.map_err(malformed)?;
            let command = command::decode(batched.command).map_err(malformed)?;
            let is_wanted = answers.wants(position);
            response.clear();
            let mut on_change = |revision, key: &[u8], value: Option<&[u8]>| {
                let kind = value.map_or(ChangeKind::Delete, |value| ChangeKind::Put { value: entry.place_of(value) });
                answers.changed(&Change { revision, key, kind });
            };
            let done = self.apply(&command, is_wanted.then_some(&mut response), budget, &mut on_change);
            if is_wanted {
                let bytes_limit = self.options.answer_bytes_limit;
                let answer = match done {
                    Ok(Done { is_whole: true, .. }) => Ok(&response[..]),
                    Ok(Done { changed: true, .. }) => {
                        mark!("state machine: the answer to a change is too large");
                        Err(CommandRefused::AnswerTooLarge { bytes_limit })
                    }
                    Ok(_) => Err(CommandRefused::ReadTooLarge { bytes_limit }),
                    Err(refused) => Err(refused),
                };
                answers.take(position, answer);
            }
            let bytes_count = batched.bytes_count;
            self.cursor = Cursor { offset: self.cursor.offset + bytes_count, position: position + 1 };
            budget.spend(bytes_count as u64, 0);
            may_go_on = !budget.is_spent() && !answers.is_full();
        }
        if response.capacity() > RESPONSE_KEPT_BYTES_MAX {
            response = Vec::new();
        }
        self.response = response;
        self.finish_entry(entry.id);
        Ok(true)
    }

    fn expect(&self, index: Index) -> Result<(), ApplyError> {
        let expected = self.applied_index().next();
        if index == expected { Ok(()) } else { Err(ApplyError::OutOfOrder { got: index, expected }) }
    }

    fn finish_entry(&mut self, id: EntryId) {
        assert!(id.index == self.applied_index().next(), "entries are applied in their order");
        assert!(self.revision >= self.applied.revision, "revisions only rise");
        assert!(self.time >= self.applied.time, "the log's time never goes back");
        self.applied = AsOf { applied: id, revision: self.revision, time: self.time };
        self.cursor = Cursor { offset: 0, position: 0 };
    }

    /// Does a command and writes its answer, if one is wanted.
    ///
    /// # Errors
    /// It is refused; nothing was done.
    fn apply(
        &mut self,
        command: &Command<'_>,
        out: Option<&mut Vec<u8>>,
        budget: &mut Budget,
        on_change: OnChange<'_>,
    ) -> Result<Done, CommandRefused> {
        let (succeeded, ops) = match command {
            Command::Op(op) => (true, std::slice::from_ref(op)),
            Command::Txn(Txn { compares, success, failure }) => {
                budget.spend(0, compares.len() as u64);
                let holds = compares.iter().all(|compare| self.holds(compare));
                mark!("state machine: a compare does not hold" if !holds);
                (holds, if holds { &success[..] } else { &failure[..] })
            }
        };
        self.check(ops, budget)?;
        let mut writer = out.map(|out| ResponseWriter::begin(out, self.options.answer_bytes_limit));
        // A transaction takes the next revision only if it changes something.
        let revision = self.revision.next();
        let mut changed = false;
        for op in ops {
            changed |= self.apply_op(op, revision, &mut writer, on_change);
        }
        if changed {
            self.revision = revision;
        }
        let is_whole = writer.is_none_or(|writer| writer.finish(self.revision.get(), succeeded));
        Ok(Done { changed, is_whole })
    }

    /// Decides, before anything of a command is done, whether all of it can be; as in etcd, for the branch that is taken. Looks at
    /// the command and the state alone: every replica must come to the same.
    fn check(&self, ops: &[Op<'_>], budget: &mut Budget) -> Result<(), CommandRefused> {
        let limit = self.options.command_keys_limit;
        let mut keys_count = 0;
        for op in ops {
            let range = match op {
                // The revision that the transaction itself makes does not exist yet either.
                Op::Range(range) if range.revision > self.revision.get() => {
                    let (asked, current) = (Revision::new(range.revision), self.revision);
                    mark!("state machine: a transaction reads a revision that does not exist");
                    return Err(CommandRefused::FutureRevision { asked, current });
                }
                Op::Range(range) => Some(&range.range),
                Op::Delete { range, .. } => Some(range),
                Op::Put { .. } => None,
            };
            keys_count += match range {
                Some(range) if !range.is_single() => self.keys.count_visits(range, limit + 1 - keys_count.min(limit)),
                _ => 1,
            };
        }
        budget.spend(0, keys_count);
        if keys_count > limit {
            mark!("state machine: a command visits too many keys");
            return Err(CommandRefused::TooManyKeys { limit });
        }
        Ok(())
    }

    /// Does one operation; says whether it changed something.
    fn apply_op(
        &mut self,
        op: &Op<'_>,
        revision: Revision,
        writer: &mut Option<ResponseWriter<'_>>,
        on_change: OnChange<'_>,
    ) -> bool {
        match op {
            Op::Put { key, value, lease, prev_kv } => {
                if let Some(writer) = writer {
                    let place = writer.begin_op();
                    let previous = if *prev_kv { self.keys.get(key, LATEST) } else { None };
                    if let Some(kv) = &previous {
                        writer.kv(kv);
                    }
                    writer.end_op(place, response::OP_PUT, false, u32::from(previous.is_some()), 0);
                }
                self.keys.put(key, value, *lease, revision);
                on_change(revision, key, Some(value));
                true
            }
            Op::Delete { range, prev_kv } => {
                let place = writer.as_mut().map(ResponseWriter::begin_op);
                let mut shown = writer.as_mut().filter(|_| *prev_kv);
                let deleted_count = self.keys.delete(range, revision, |kv| {
                    on_change(revision, kv.key, None);
                    if let Some(writer) = &mut shown {
                        writer.kv(kv);
                    }
                });
                if let (Some(place), Some(writer)) = (place, writer) {
                    let kvs_count = if *prev_kv { deleted_count } else { 0 };
                    let kvs_count = u32::try_from(kvs_count).expect("fewer than 2^32 keys");
                    writer.end_op(place, response::OP_DELETE, false, kvs_count, deleted_count);
                }
                deleted_count > 0
            }
            Op::Range(range) => {
                if let Some(writer) = writer {
                    let asked = Revision::new(range.revision);
                    let at = if range.revision == 0 || asked > self.revision { LATEST } else { asked };
                    self.write_range(range, at, writer);
                }
                false
            }
        }
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let found = self.keys.get(compare.key, LATEST);
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
}

#[cfg(test)]
mod format_tests;
