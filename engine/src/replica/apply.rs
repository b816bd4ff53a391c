//! Committed entries into the state machine, answers out of it.

use net::api::Status;
use wal::Storage;

use super::event::Reply;
use super::outbox::Outbox;
use super::own::OwnParts;
use super::pending::{Fate, Waiter};
use super::{Fault, Replica};
use crate::call::{Part, Refusal};
use crate::entries_error::EntriesError;
use crate::limits::WRITE_ANSWER_BYTES_PER_TURN;
use crate::log_store::{FormError, KIND_COMMANDS, KIND_MEMBERS, KIND_NOOP};
use crate::state_machine::{Answers, ApplyError, BatchEntry, Budget, CommandRefused};
use crate::types::{EntryId, Index};
use crate::wire::WireEntry;

/// Answers of one batch on their way to those who wait for them.
struct BatchAnswers<'a> {
    waiters: &'a mut [Waiter],
    out: &'a mut Outbox,
    own: &'a mut OwnParts,
    /// Commands applied so far, of the whole batch.
    applied_count: usize,
    /// Commands applied in this slice.
    commands_count: usize,
}

impl Answers for BatchAnswers<'_> {
    fn wants(&mut self, position: usize) -> bool {
        self.applied_count = position + 1;
        self.commands_count += 1;
        self.waiters.get(position).and_then(Waiter::unanswered).is_some()
    }

    fn take(&mut self, position: usize, answer: Result<&[u8], CommandRefused>) {
        let result = answer.map_err(|refused| refusal_for_command(&refused)).map(|bytes| self.out.keep_body(bytes));
        if let Some(origin) = self.waiters.get_mut(position).and_then(Waiter::take_origin) {
            self.out.reply(origin, Reply { part: Part::Last(result), relayed: false }, self.own);
        }
    }

    fn is_full(&self) -> bool {
        self.out.bodies_len() >= WRITE_ANSWER_BYTES_PER_TURN
    }
}

impl<S: Storage> Replica<S> {
    /// Applies committed entries in order, up to the turn's budget, and answers the writes that they carry. An entry may take
    /// several turns; whatever is read in between sees the commands up to some point of it.
    pub(super) fn apply_committed(&mut self) {
        if self.read_in.is_waiting() || self.waiting.reads.gave_way {
            return;
        }
        let mut budget = Budget { bytes: self.options.apply_bytes_per_turn, keys: self.options.apply_keys_per_turn };
        let may_apply = self.may_apply();
        self.stats.apply_slices += u64::from(self.machine.applied_index() < may_apply);
        while self.machine.applied_index() < may_apply {
            let index = self.machine.applied_index().next();
            if !self.may_look_at(index, may_apply) {
                return;
            }
            match self.apply_entry(index, &mut budget) {
                Ok(Some(id)) => {
                    assert!(id.index == index && self.machine.applied_index() == index, "{id} was applied as {index}");
                    self.stats.entries_applied += 1;
                    self.refuse_superseded(id);
                }
                Ok(None) => return,
                Err(fault) => {
                    self.stop_with(fault);
                    return;
                }
            }
            if budget.is_spent() || self.out.bodies_len() >= WRITE_ANSWER_BYTES_PER_TURN {
                return;
            }
        }
    }

    /// Applies one entry, or goes on with it; `None` if the budget did not last to its end. Its writes are answered in the order
    /// of the batch.
    fn apply_entry(&mut self, index: Index, budget: &mut Budget) -> Result<Option<EntryId>, Fault> {
        let read_fault = |reason: String| Fault::Read { index, reason };
        let entry = self
            .log
            .entry(index)
            .map_err(|error| read_fault(error.to_string()))?
            .ok_or_else(|| read_fault("the log does not hold it".to_owned()))?;
        let id = entry.id();
        let apply_fault = |error: ApplyError| Fault::Apply { index, reason: error.to_string() };
        match entry.kind() {
            // What it says of the members has been in force since it was appended.
            KIND_NOOP | KIND_MEMBERS => {
                self.machine.apply_noop(id).map_err(apply_fault)?;
                budget.spend(self.log.entry_bytes(index), 1);
                Ok(Some(id))
            }
            KIND_COMMANDS => {
                let place =
                    self.log.payload_place(index).ok_or_else(|| read_fault("its place is not known".to_owned()))?;
                let batch = BatchEntry { id, place, payload: entry.payload() };
                // Batches of other terms at or before this index are refused below; this one is answered here.
                let mut superseded = Vec::new();
                let mut waiters = self.waiting.writes.take_half_applied().unwrap_or_default();
                while let Some((fate, taken)) = self.waiting.writes.take_decided(id) {
                    match fate {
                        Fate::Applied => waiters = taken,
                        Fate::Superseded => superseded.push(taken),
                    }
                }
                let mut replies = BatchAnswers {
                    waiters: &mut waiters,
                    out: &mut self.out,
                    own: &mut self.own,
                    applied_count: 0,
                    commands_count: 0,
                };
                let applied = self.machine.apply_slice(&batch, budget, &mut replies);
                let applied_count = replies.applied_count;
                self.stats.commands_applied += replies.commands_count as u64;
                for waiters in superseded {
                    self.refuse_waiters(waiters);
                }
                if applied == Ok(false) {
                    mark!("replica: an entry takes several turns");
                    self.waiting.writes.keep_half_applied(waiters);
                    return Ok(None);
                }
                // Whoever got no answer waits at a command that was not applied, or at none.
                self.refuse_unapplied(waiters, applied_count);
                applied.map_err(apply_fault)?;
                Ok(Some(id))
            }
            kind => {
                let reason = format!("its kind {kind:?} is unknown to this version; upgrade this node");
                Err(Fault::Apply { index, reason })
            }
        }
    }

    /// Looks for commands of sessions among a leader's entries. A state that keeps no answers would apply again what those of other nodes
    /// do not.
    ///
    /// # Errors
    /// There is one, and this state keeps no answers.
    pub(super) fn check_senders<'a>(&self, entries: Vec<WireEntry<'a>>) -> Result<Vec<WireEntry<'a>>, EntriesError> {
        match entries.iter().find(|entry| entry.has_senders) {
            Some(entry) if !self.machine.keeps_answers() => {
                Err(EntriesError::Form { index: entry.id().index, error: FormError::Sender })
            }
            _ => Ok(entries),
        }
    }

    /// Refuses writes at whose index another entry was committed: they certainly took no effect.
    fn refuse_superseded(&mut self, applied: EntryId) {
        while let Some((_, waiters)) = self.waiting.writes.take_decided(applied) {
            self.refuse_waiters(waiters);
        }
    }

    /// Refuses the writes of a batch that could not be applied to its end: it is committed, so other nodes may apply it.
    fn refuse_unapplied(&mut self, waiters: Vec<Waiter>, applied_count: usize) {
        for origin in waiters.iter().skip(applied_count).filter_map(Waiter::unanswered) {
            let message = "this node cannot apply the write, which is committed; it may take effect on other nodes";
            self.refuse(origin, Refusal::unknown(Status::Internal, message));
        }
        self.waiting.writes.recycle(waiters);
    }

    fn refuse_waiters(&mut self, waiters: Vec<Waiter>) {
        for origin in waiters.iter().filter_map(Waiter::unanswered) {
            mark!("replica: another leader's entry took a write's place");
            let message = "another leader's entry took the write's place in the log; try again";
            self.refuse(origin, Refusal::not_executed(Status::Unavailable, message));
        }
        self.waiting.writes.recycle(waiters);
    }
}

fn refusal_for_command(refused: &CommandRefused) -> Refusal {
    let message = refused.to_string();
    match refused {
        CommandRefused::FutureRevision { .. } => Refusal::not_executed(Status::FutureRevision, message),
        CommandRefused::TooManyKeys { .. } | CommandRefused::ReadTooLarge { .. } => {
            Refusal::not_executed(Status::TooLarge, message)
        }
        CommandRefused::AnswerTooLarge { .. } => Refusal::unknown(Status::TooLarge, message),
    }
}
