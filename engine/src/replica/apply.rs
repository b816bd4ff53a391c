//! Committed entries into the state machine, answers out of it.

use net::api::Status;
use wal::Storage;

use super::event::{Origin, Refusal, Reply};
use super::pending::Fate;
use super::{Fault, Replica};
use crate::log_store::{KIND_COMMANDS, KIND_NOOP};
use crate::mutation::{self, Mutation};
use crate::state_machine::{ApplyError, RangeError};
use crate::types::{EntryId, Index};

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
            if entry_bytes >= budget_bytes {
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
                let reply_bytes = &mut self.reply_bytes;
                let actions = &mut self.actions;
                let mut commands_count = 0;
                self.machine
                    .apply_batch(index, entry.payload(), &mut |position, response| {
                        commands_count += 1;
                        if let Some(origin) = waiters.get(position).and_then(super::Waiter::unanswered) {
                            let start = reply_bytes.len();
                            reply_bytes.extend_from_slice(response);
                            let reply = Reply { result: Ok(start..reply_bytes.len()), relayed: false };
                            actions.push_back(super::requests::reply_action(origin, reply));
                        }
                    })
                    .map_err(apply_fault)?;
                self.stats.commands_applied += commands_count;
                self.writes.recycle(waiters);
                for waiters in superseded {
                    self.refuse_waiters(waiters);
                }
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

    fn refuse_waiters(&mut self, waiters: Vec<super::Waiter>) {
        for origin in waiters.iter().filter_map(super::Waiter::unanswered) {
            let message = "another leader's entry took the write's place in the log; try again";
            self.refuse(origin, Refusal::not_executed(Status::Unavailable, message));
        }
        self.writes.recycle(waiters);
    }

    /// Answers the confirmed reads whose index is applied.
    pub(super) fn serve_reads(&mut self) {
        while let Some(read) = self.reads.take_ready(self.machine.applied_index()) {
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
