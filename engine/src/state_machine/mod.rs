//! The key-value state machine: etcd's model (MVCC, ranges, transactions) over committed entries.
//!
//! Deterministic: equal entries make equal state and equal answers on every replica. It does no I/O, knows no clock but the time
//! that entries bring, and keeps all state in memory; leases, watches and compaction are not here yet. The state is made of
//! sections (`section`): today keys with their versions.

mod ahead;
mod answers;
pub mod batch;
mod chunks;
mod commands;
mod digest;
mod history;
mod index;
mod key;
mod mvcc;
mod order;
mod scan;
pub mod section;
mod slots;
mod values;

use codec::DecodeError;

pub use answers::{Answers, Budget, Change, ChangeKind, CommandRefused, ValuePlace};
use batch::{BATCH_HEADER_BYTES, BatchHeader, LogTime};
use chunks::KeysCursor;
use commands::{Done, Running};
use digest::Digest;
use mvcc::Mvcc;
pub use scan::Scan;
use section::{AsOf, Section, SectionKind};

use crate::limits::{
    COMMAND_ANSWER_BYTES_LIMIT, KEYS_VISITED_PER_COMMAND_MAX, RANGE_BYTES_LIMIT, RESPONSE_KEPT_BYTES_MAX,
};
use crate::types::{EntryId, Index, Lsn, Revision};

/// Reads the latest version, changes of the running transaction included.
const LATEST: Revision = Revision::new(u64::MAX);

/// Settings of a state machine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size from which on a range takes no more keys and says that there are more, each range by itself. Unit: bytes.
    pub range_bytes_limit: usize,
    /// Size over which a command's answer is not given, only that it is too large. More than any single range takes. An answer leaves in
    /// one go, and everything else waits meanwhile. Unit: bytes.
    pub answer_bytes_limit: usize,
    /// Keys that one command may visit, beyond which it is refused. Equal on all replicas, or they split.
    pub command_keys_limit: u64,
    /// Where keys lie in memory follows from it, and nothing that can be observed. Best one that nobody knows.
    pub hash_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            range_bytes_limit: RANGE_BYTES_LIMIT,
            answer_bytes_limit: COMMAND_ANSWER_BYTES_LIMIT,
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
        /// The index that was given.
        got: Index,
        /// The index expected next.
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
        /// The revision that was asked for.
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
    /// How far the entry after `applied` is applied.
    cursor: Cursor,
    /// The command at `cursor`, if it was begun.
    running: Option<Running>,
    /// The answer to it, as far as there is one.
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
    fn place_of(&self, part: &[u8]) -> ValuePlace {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.payload.as_ptr() as usize);
        assert!(offset + part.len() <= self.payload.len(), "a value is a part of its entry");
        let len = u32::try_from(part.len()).expect("a value is below 4 GiB");
        ValuePlace { lsn: Lsn::new(self.place.get() + offset as u64), len }
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

impl StateMachine {
    /// The state of a new shard: empty.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::at(options, AsOf::EMPTY)
    }

    /// A state as of the entry `origin.applied`. It is empty until `restore` has filled it.
    #[must_use]
    pub fn at(options: Options, origin: AsOf) -> Self {
        Self {
            options,
            keys: Mvcc::new(options.hash_seed),
            revision: origin.revision,
            time: origin.time,
            applied: origin,
            cursor: Cursor::default(),
            running: None,
            response: Vec::new(),
        }
    }

    /// Appends a chunk of the state as it was at `as_of`, which was this state's once; says whether it is the last one. Later
    /// entries may be applied between two calls.
    ///
    /// A chunk ends soon after `bytes_limit`, or once `keys` are used up, which goes down by 1 for each key that is visited and each
    /// further version of it; it is not 0. Keys that came later are visited, too, so that a chunk may hold nothing.
    pub fn chunk(
        &self,
        as_of: &AsOf,
        cursor: &mut ChunkCursor,
        keys: &mut u64,
        bytes_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        assert!(as_of.applied.index <= self.applied.applied.index, "a state that comes later is not here yet");
        assert!(as_of.revision <= self.applied.revision, "a state that comes earlier has no later revision");
        let start = out.len();
        out.extend_from_slice(&SectionKind::Keys.chunk_header());
        self.keys.chunk(as_of, &mut cursor.keys, keys, start.saturating_add(bytes_limit), out)
    }

    /// Takes in a chunk that another state's `chunk` wrote as of this state's origin. Call it with all chunks, in their order, before
    /// any entry is applied.
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
    /// The entry's index is not the next expected one.
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

    /// Applies commands of a batch until the budget is spent, but at least a step of one; returns true after the last command.
    /// Otherwise the next call continues the same batch. In between the state is that after some command, as if each were an entry of
    /// its own. What an unfinished command has written has the next revision, which no read can see yet. `applied_index` moves at the
    /// end.
    ///
    /// # Errors
    /// The entry's index is not the next expected one, or a command is malformed; then the state must not be used further.
    pub fn apply_slice(
        &mut self,
        entry: &BatchEntry<'_>,
        budget: &mut Budget,
        answers: &mut dyn Answers,
    ) -> Result<bool, ApplyError> {
        self.expect(entry.id.index)?;
        if self.cursor.offset == 0 {
            let header = BatchHeader::decode(entry.payload).map_err(ApplyError::Header)?;
            // A new leader's clock may show an earlier time than the last leader wrote.
            self.time = self.time.max(header.time);
            self.cursor.offset = BATCH_HEADER_BYTES;
        }
        assert!(self.cursor.offset <= entry.payload.len(), "a slice goes on with the batch of the one before");
        let mut response = std::mem::take(&mut self.response);
        let rest = entry.payload.get(self.cursor.offset..).unwrap_or_default();
        let mut may_go_on = true;
        let mut commands = ahead::commands(rest);
        while let Some(read) = commands.next(&self.keys) {
            if !may_go_on {
                self.response = response;
                return Ok(false);
            }
            let position = self.cursor.position;
            let malformed = |error| ApplyError::Malformed { position, error };
            let (batched, command) = read.map_err(malformed)?;
            let is_wanted = match &self.running {
                Some(running) => running.is_wanted(),
                None => {
                    response.clear();
                    answers.wants(position)
                }
            };
            let mut on_change = |revision, key: &[u8], value: Option<&[u8]>| {
                let kind = value.map_or(ChangeKind::Delete, |value| ChangeKind::Put { value: entry.place_of(value) });
                answers.changed(&Change { revision, key, kind });
            };
            let done = match self.go_on(&command, is_wanted.then_some(&mut response), budget, &mut on_change) {
                Ok(None) => {
                    mark!("state machine: a command takes several slices");
                    self.response = response;
                    return Ok(false);
                }
                Ok(Some(done)) => Ok(done),
                Err(refused) => Err(refused),
            };
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
        assert!(self.running.is_none(), "an entry ends with its last command");
        assert!(self.revision >= self.applied.revision, "revisions only rise");
        assert!(self.time >= self.applied.time, "the log's time never goes back");
        self.applied = AsOf { applied: id, revision: self.revision, time: self.time };
        self.cursor = Cursor { offset: 0, position: 0 };
    }
}

#[cfg(test)]
mod format_tests;
