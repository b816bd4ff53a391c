//! Committed entries into the state machine, answers out of it.

use std::collections::VecDeque;
use std::ops::Range;

use net::api::Status;
use wal::Storage;

use super::event::{Action, Origin, Refusal, Reply};
use super::pending::{Fate, Waiter};
use super::{Fault, Replica};
use crate::log_store::{KIND_COMMANDS, KIND_NOOP};
use crate::mutation::{self, Mutation};
use crate::state_machine::{Answers, ApplyError, RangeError, TooLarge};
use crate::types::{EntryId, Index};

/// Once so many bytes of answers were made in a turn, the rest waits for the next one. Unit: bytes.
const REPLY_BYTES_PER_TURN: usize = 8 << 20;

/// Bytes of answers to one batch, beyond which its further writes are done but not answered in full. Unit: bytes.
const BATCH_REPLY_BYTES_MAX: usize = 128 << 20;

/// Answers of one batch on their way to those who wait for them.
struct Replies<'a> {
    waiters: &'a [Waiter],
    reply_bytes: &'a mut Vec<u8>,
    actions: &'a mut VecDeque<Action>,
    commands_count: usize,
}

impl Replies<'_> {
    fn push(&mut self, position: usize, result: Result<Range<usize>, Refusal>) {
        if let Some(origin) = self.waiters.get(position).and_then(Waiter::unanswered) {
            self.actions.push_back(super::requests::reply_action(origin, Reply { result, relayed: false }));
        }
    }

    fn refuse_large(&mut self, position: usize, bytes_limit: usize) {
        let message = format!(
            "the write was applied, but its answer has over {bytes_limit} bytes; ask without prev_kv or for fewer keys"
        );
        self.push(position, Err(Refusal::unknown(Status::TooLarge, message)));
    }
}

impl Answers for Replies<'_> {
    fn wants(&mut self, position: usize) -> bool {
        self.commands_count += 1;
        let is_wanted = self.waiters.get(position).and_then(Waiter::unanswered).is_some();
        if is_wanted && self.reply_bytes.len() >= BATCH_REPLY_BYTES_MAX {
            self.refuse_large(position, BATCH_REPLY_BYTES_MAX);
            return false;
        }
        is_wanted
    }

    fn take(&mut self, position: usize, answer: Result<&[u8], TooLarge>) {
        match answer {
            Ok(bytes) => {
                let start = self.reply_bytes.len();
                self.reply_bytes.extend_from_slice(bytes);
                self.push(position, Ok(start..start + bytes.len()));
            }
            Err(TooLarge { bytes_limit }) => self.refuse_large(position, bytes_limit),
        }
    }
}

impl<S: Storage> Replica<S> {
    /// Applies committed entries in order, up to the turn's budget, and answers the writes that they carry.
    pub(super) fn apply_committed(&mut self) {
        let mut budget_bytes = self.options.apply_bytes_per_turn;
        let may_apply =
            if mutation::is(Mutation::ApplyBeforeCommit) { self.log.last_id().index } else { self.raft.commit_index() };
        while self.machine.applied_index() < may_apply {
            let index = self.machine.applied_index().next();
            let entry_bytes = self.log.entry_bytes(index);
            match self.apply_entry(index) {
                Ok(id) => {
                    self.stats.entries_applied += 1;
                    self.refuse_superseded(id);
                }
                Err(fault) => {
                    self.stop_with(fault);
                    return;
                }
            }
            if entry_bytes >= budget_bytes || self.reply_bytes.len() >= REPLY_BYTES_PER_TURN {
                return;
            }
            budget_bytes -= entry_bytes;
        }
    }

    /// Applies one entry. Its writes are answered in the order of the batch.
    fn apply_entry(&mut self, index: Index) -> Result<EntryId, Fault> {
        let read_fault = |reason: String| Fault::Read { index, reason };
        let entry = self
            .log
            .entry(index)
            .map_err(|error| read_fault(error.to_string()))?
            .ok_or_else(|| read_fault("the log does not hold it".to_owned()))?;
        let id = entry.id();
        let apply_fault = |error: ApplyError| Fault::Apply { index, reason: error.to_string() };
        match entry.kind() {
            KIND_NOOP => {
                self.machine.apply_noop(index).map_err(apply_fault)?;
            }
            KIND_COMMANDS => {
                let mut waiters = Vec::new();
                // Batches of older terms at or before this index are refused by the caller; this one is answered here.
                let mut superseded = Vec::new();
                while let Some((fate, taken)) = self.writes.take_decided(id) {
                    match fate {
                        Fate::Applied => waiters = taken,
                        Fate::Superseded => superseded.push(taken),
                    }
                }
                let mut replies = Replies {
                    waiters: &waiters,
                    reply_bytes: &mut self.reply_bytes,
                    actions: &mut self.actions,
                    commands_count: 0,
                };
                let applied = self.machine.apply_batch(index, entry.payload(), &mut replies);
                let commands_count = replies.commands_count;
                self.stats.commands_applied += commands_count as u64;
                for waiters in superseded {
                    self.refuse_waiters(waiters);
                }
                // Whoever got no answer waits at a command that was not applied, or at none.
                self.refuse_unapplied(waiters, commands_count);
                applied.map_err(apply_fault)?;
            }
            kind => {
                let reason = format!("its kind {kind:?} is unknown to this version; upgrade this node");
                return Err(Fault::Apply { index, reason });
            }
        }
        Ok(id)
    }

    /// Refuses writes at whose index another entry was committed: they certainly took no effect.
    fn refuse_superseded(&mut self, applied: EntryId) {
        while let Some((_, waiters)) = self.writes.take_decided(applied) {
            self.refuse_waiters(waiters);
        }
    }

    /// Refuses the writes of a batch that could not be applied to its end: it is committed, so other nodes may apply it.
    fn refuse_unapplied(&mut self, waiters: Vec<Waiter>, applied_count: usize) {
        for origin in waiters.iter().skip(applied_count).filter_map(Waiter::unanswered) {
            let message = "this node cannot apply the write, which is committed; it may take effect on other nodes";
            self.refuse(origin, Refusal::unknown(Status::Internal, message));
        }
        self.writes.recycle(waiters);
    }

    fn refuse_waiters(&mut self, waiters: Vec<Waiter>) {
        for origin in waiters.iter().filter_map(Waiter::unanswered) {
            let message = "another leader's entry took the write's place in the log; try again";
            self.refuse(origin, Refusal::not_executed(Status::Unavailable, message));
        }
        self.writes.recycle(waiters);
    }

    /// Answers the confirmed reads whose index is applied.
    pub(super) fn serve_reads(&mut self) {
        // What is left waits for the next turn: all reads of a round become ready at once, each may be answered with megabytes.
        // The limit is theirs alone, so that writes with large answers don't keep them waiting.
        let limit = self.reply_bytes.len() + REPLY_BYTES_PER_TURN;
        while self.reply_bytes.len() < limit
            && let Some(read) = self.reads.take_ready(self.machine.applied_index())
        {
            self.serve_read(read.origin, &read.payload);
        }
    }

    /// Answers a read from the state as it is.
    pub(super) fn serve_read(&mut self, origin: Origin, payload: &[u8]) {
        let start = self.reply_bytes.len();
        let result = match self.machine.range(payload, &mut self.reply_bytes) {
            Ok(()) => Ok(start..self.reply_bytes.len()),
            Err(error) => {
                self.reply_bytes.truncate(start);
                Err(refusal_for_range(&error))
            }
        };
        self.reply(origin, Reply { result, relayed: false });
    }
}

fn refusal_for_range(error: &RangeError) -> Refusal {
    let status = match error {
        RangeError::FutureRevision { .. } => Status::FutureRevision,
        RangeError::Malformed(_) => Status::Invalid,
    };
    Refusal::not_executed(status, error.to_string())
}
