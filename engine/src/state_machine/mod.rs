//! The key-value state machine: etcd's model (MVCC, ranges, transactions) over committed entries.
//!
//! Deterministic: equal entries make equal state and equal answers on every replica. It does no I/O, knows no clock but the time
//! that entries bring, and keeps all state in memory; leases, watches and compaction are not here yet. The state is made of
//! sections (`section`, `sections`): today keys with their versions.

mod ahead;
mod answers;
pub mod batch;
mod chunks;
mod commands;
pub(crate) mod digest;
mod history;
mod index;
mod key;
mod mvcc;
mod order;
mod scan;
pub mod section;
mod sections;
mod slots;
mod values;

use codec::DecodeError;

pub use answers::{Answers, Budget, Change, ChangeKind, CommandRefused, ValuePlace};
use batch::{BATCH_HEADER_BYTES, BatchHeader, LogTime, Sender};
use commands::{Done, Made, OnChange, Running};
use digest::Digest;
use history::numbers_of_put;
pub use scan::Scan;
use section::{AsOf, Section};
use sections::Sections;
pub use sections::{ChunkCursor, Reading};

use crate::limits::{KEYS_VISITED_PER_COMMAND_MAX, RANGE_BYTES_LIMIT, RESPONSE_KEPT_BYTES_MAX};
use crate::types::{EntryId, Index, Lsn, Revision};

/// Reads the latest version, changes of the running transaction included.
const LATEST: Revision = Revision::new(u64::MAX);

/// Settings of a state machine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size from which on a range takes no more keys and says that there are more, each range by itself. Unit: bytes.
    pub range_bytes_limit: usize,
    /// Keys that one command may visit, beyond which it is refused. Equal on all replicas, or they split.
    pub command_keys_limit: u64,
    /// Where keys lie in memory follows from it, and nothing that can be observed. Best one that nobody knows.
    pub hash_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { range_bytes_limit: RANGE_BYTES_LIMIT, command_keys_limit: KEYS_VISITED_PER_COMMAND_MAX, hash_seed: 0 }
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
    /// A command has a sender, and this state keeps no answers: it would apply again what others do not.
    #[error("command {position} of the batch belongs to a session, and this version has none; upgrade this node")]
    Sender {
        /// Its place in the batch.
        position: usize,
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
    sections: Sections,
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

    /// A change that a command of the entry makes, as those who follow changes see it.
    fn change<'c>(&self, made: &Made<'c>) -> Change<'c> {
        let Made { revision, key, put, before } = *made;
        let kind = match put {
            Some((value, lease)) => {
                let numbers = before.map(|kv| (Revision::new(kv.create_revision), kv.version));
                let (create_revision, version) = numbers_of_put(numbers, revision);
                ChangeKind::Put { value: self.place_of(value), create_revision, version, lease }
            }
            None => ChangeKind::Delete,
        };
        Change { revision, key, kind, before }
    }
}

/// A place in a batch, between two commands.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// Bytes of the batch before it; 0 = its header was not read. Unit: bytes.
    offset: usize,
    /// Commands before it.
    position: usize,
    /// As the batch's header says: an answer with more bytes is not given. Unit: bytes.
    answer_bytes_limit: usize,
    /// Somebody waited for the answer to the command at the cursor when it was begun.
    is_awaited: bool,
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
            sections: Sections::new(options.hash_seed),
            revision: origin.revision,
            time: origin.time,
            applied: origin,
            cursor: Cursor::default(),
            running: None,
            response: Vec::new(),
        }
    }

    /// The same with one more section, which is empty as the state is.
    #[must_use]
    pub fn with_section(mut self, section: Box<dyn Section>) -> Self {
        self.sections.add(section);
        self
    }

    /// Begins a reading of the state as of the last entry that it contains whole.
    pub fn begin_reading(&mut self) -> Reading {
        self.sections.begin_reading(&self.applied)
    }

    /// Ends a reading.
    pub fn end_reading(&mut self, reading: &Reading) {
        self.sections.end_reading(reading);
    }

    /// Ends all readings but these: whoever had the others is gone.
    pub(crate) fn keep_readings(&mut self, kept: &[Reading]) {
        self.sections.keep_readings(kept);
    }

    /// Readings that are open.
    #[must_use]
    pub const fn readings_count(&self) -> usize {
        self.sections.readings_count()
    }

    /// Appends a chunk of the state as a reading sees it; says whether it is the last one. Later entries may be applied between two
    /// calls.
    ///
    /// A chunk ends soon after `bytes_limit`, or once `keys` are used up, which goes down by 1 for each key that is visited and each
    /// further version of it; it is not 0. Keys that came later are visited, too, so that a chunk may hold nothing.
    pub fn chunk(
        &self,
        reading: &Reading,
        cursor: &mut ChunkCursor,
        keys: &mut u64,
        bytes_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let as_of = self.seen_by(reading);
        self.sections.chunk(as_of, cursor, keys, bytes_limit, out)
    }

    /// The entry as of which a reading sees this state.
    fn seen_by<'a>(&self, reading: &'a Reading) -> &'a AsOf {
        let as_of = reading.as_of();
        assert!(self.sections.are_read_by(reading), "a state is read in one of its open readings");
        assert!(as_of.applied.index <= self.applied.applied.index, "a state that comes later is not here yet");
        assert!(as_of.revision <= self.applied.revision, "a state that comes earlier has no later revision");
        as_of
    }

    /// Takes in a chunk that another state's `chunk` wrote as of this state's origin. Call it with all chunks, in their order, before
    /// any entry is applied.
    ///
    /// # Errors
    /// The bytes do not follow the format or are out of order; the state must not be used then.
    pub fn restore(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        assert!(self.cursor.offset == 0, "a state into which entries are applied takes in no other");
        self.sections.restore(chunk)
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
    pub fn state_bytes(&self) -> u64 {
        self.sections.bytes()
    }

    /// True if some section keeps the answers to commands that have a sender. Otherwise no command may have one.
    #[must_use]
    pub fn keeps_answers(&self) -> bool {
        self.sections.keep_answers()
    }

    /// A hash of the whole state as of `applied_index`, to compare replicas at equal index. Walks everything.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest_as_of(&self.applied)
    }

    /// A hash of the whole state as a reading sees it. Walks everything.
    #[must_use]
    pub fn digest_at(&self, reading: &Reading) -> u64 {
        self.digest_as_of(self.seen_by(reading))
    }

    fn digest_as_of(&self, as_of: &AsOf) -> u64 {
        let (mut digest, mut left) = (Digest::default(), u64::MAX);
        let digest = self.digest_slice(as_of, &mut ChunkCursor::default(), &mut left, &mut digest);
        digest.expect("nothing has so many keys")
    }

    /// Takes more of the state as it was at `as_of` into a hash, until `left` is used up (`Section::digest`); returns the hash if that
    /// was the last of it.
    fn digest_slice(&self, as_of: &AsOf, cursor: &mut ChunkCursor, left: &mut u64, digest: &mut Digest) -> Option<u64> {
        let is_last = self.sections.digest(as_of, cursor, left, digest);
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
            let answer_bytes_limit = header.answer_bytes_limit as usize;
            self.cursor = Cursor { offset: BATCH_HEADER_BYTES, answer_bytes_limit, ..Cursor::default() };
        }
        assert!(self.cursor.offset <= entry.payload.len(), "a slice goes on with the batch of the one before");
        let mut response = std::mem::take(&mut self.response);
        let rest = entry.payload.get(self.cursor.offset..).unwrap_or_default();
        let (mut may_go_on, is_followed) = (true, answers.follows_changes());
        let mut commands = ahead::commands(rest);
        while let Some(read) = commands.next(&self.sections.keys) {
            if !may_go_on {
                self.response = response;
                return Ok(false);
            }
            let position = self.cursor.position;
            let malformed = |error| ApplyError::Malformed { position, error };
            let (batched, command) = read.map_err(malformed)?;
            if batched.sender.is_some() && !self.sections.keep_answers() {
                return Err(ApplyError::Sender { position });
            }
            if self.running.is_none() {
                response.clear();
                self.cursor.is_awaited = answers.wants(position);
            }
            let is_wanted = self.cursor.is_awaited || batched.sender.is_some();
            let mut tell = |made: Made<'_>| answers.changed(&entry.change(&made));
            let on_change: OnChange<'_> = if is_followed { Some(&mut tell) } else { None };
            let done = match self.go_on(&command, is_wanted.then_some(&mut response), budget, on_change) {
                Ok(None) => {
                    mark!("state machine: a command takes several slices");
                    self.response = response;
                    return Ok(false);
                }
                Ok(Some(done)) => Ok(done),
                Err(refused) => Err(refused),
            };
            if is_wanted {
                self.give_answer(position, batched.sender, done, &response, answers);
            }
            let bytes_count = batched.bytes_count;
            self.cursor = Cursor { offset: self.cursor.offset + bytes_count, position: position + 1, ..self.cursor };
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

    /// Gives the answer to a command to whoever waits for it, and to the section that keeps it if it has a sender.
    fn give_answer(
        &mut self,
        position: usize,
        sender: Option<Sender>,
        done: Result<Done, CommandRefused>,
        response: &[u8],
        answers: &mut dyn Answers,
    ) {
        let bytes_limit = self.cursor.answer_bytes_limit;
        let answer = match done {
            Ok(Done { is_whole: true, .. }) => Ok(response),
            Ok(Done { changed: true, .. }) => {
                mark!("state machine: the answer to a change is too large");
                Err(CommandRefused::AnswerTooLarge { bytes_limit })
            }
            Ok(_) => Err(CommandRefused::ReadTooLarge { bytes_limit }),
            Err(refused) => Err(refused),
        };
        if let Some(sender) = sender {
            mark!("state machine: an answer is made for whoever keeps it" if !self.cursor.is_awaited);
            self.sections.take_answer(sender, answer);
        }
        if self.cursor.is_awaited {
            answers.take(position, answer);
        }
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
        self.sections.finish_entry(&self.applied);
        self.cursor = Cursor::default();
    }
}

#[cfg(test)]
mod format_tests;
