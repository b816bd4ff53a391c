//! What this leader puts into its log: the no-op that opens its term, then batches of commands.
//!
//! A batch is formed in place, in the log's segment. The commands that arrive in one turn share one. While `pipeline_batches_limit` of
//! this leader's entries are uncommitted, the batch stays open for more writes, up to `batch_bytes_target`. Writes wait in `queue` while
//! the log has no room for them or too much is uncommitted.
//!
//! A batch has three limits. From `batch_bytes_target` on it does not wait for the pipeline. From `BATCH_BYTES_MAX` on it takes no further
//! command. `AppendError::BatchFull` says that the segment has no room for the next command.

use net::api::Status;
use wal::{AppendError, EntryHeader, Storage};

use super::Replica;
use super::clock::LogClock;
use super::pending::Waiter;
use super::queue::Queue;
use crate::call::{Call, Origin, Refusal};
use crate::limits::BATCH_BYTES_MAX;
use crate::log_store::{KIND_COMMANDS, KIND_NOOP};
use crate::raft::Role;
use crate::state_machine::batch::{BatchHeader, CommandHead, LogTime, Sender};
use crate::types::EntryId;

/// What this leader puts into its log.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    pub next: NextEntry,
    /// Writes that are in no batch yet.
    pub queue: Queue,
    /// The time of its entries.
    pub clock: LogClock,
}

/// The entry that this leader appends next.
#[derive(Debug, Default)]
pub(super) enum NextEntry {
    /// None is begun.
    #[default]
    Idle,
    /// The no-op that opens the term, which is not in the log yet. Nothing else is proposed before it.
    Noop(EntryId),
    /// A batch that is being formed in the log.
    Batch(Batch),
}

/// A batch that is being formed.
#[derive(Debug)]
pub(super) struct Batch {
    /// One waiter for each command, in the batch's order. Never empty.
    waiters: Vec<Waiter>,
}

impl Proposals {
    /// Writes that are in no entry of the log yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.next.batch().map_or(0, |batch| batch.waiters.len()) + self.queue.len()
    }

    /// Marks the writes of the forming batch whose time is up as answered, and reports them.
    pub fn expire_batch(&mut self, now_tick: u64, timed_out: impl FnMut(Origin)) {
        if let NextEntry::Batch(batch) = &mut self.next {
            batch.waiters.iter_mut().filter_map(|waiter| waiter.expire(now_tick)).for_each(timed_out);
        }
    }

    /// Takes the batch that is being formed, if there is one.
    #[must_use]
    pub fn take_batch(&mut self) -> Option<Vec<Waiter>> {
        match std::mem::take(&mut self.next) {
            NextEntry::Batch(batch) => Some(batch.waiters),
            next => {
                self.next = next;
                None
            }
        }
    }
}

impl NextEntry {
    /// The batch that is being formed.
    #[must_use]
    pub const fn batch(&self) -> Option<&Batch> {
        match self {
            Self::Batch(batch) => Some(batch),
            Self::Idle | Self::Noop(_) => None,
        }
    }
}

impl<S: Storage> Replica<S> {
    /// Adds a write to the forming batch, or lets it wait until that is possible.
    pub(super) fn propose(&mut self, origin: Origin, call: Call<'_>) {
        assert!(self.raft.may_propose().is_ok(), "only a leader takes writes");
        if let Some(refusal) = self.refuse_write(&call.payload) {
            self.refuse(origin, refusal);
            return;
        }
        let waiter = Waiter::new(origin, self.deadline_of(&call.meta));
        if self.proposals.queue.is_empty() && self.has_uncommitted_room() {
            match self.push_write(waiter, call.meta.sender, &call.payload) {
                Ok(()) => return,
                // The next segment is being prepared: the write waits in the queue below.
                Err(AppendError::SegmentNotReady) if self.device.segment.shortage().is_none() => {
                    self.device.segment.on_missed(self.now_tick);
                }
                Err(error) => {
                    let refusal = self.refusal_for(error);
                    self.refuse(origin, refusal);
                    return;
                }
            }
        }
        let queued_bytes = self.proposals.queue.bytes();
        if queued_bytes + call.payload.len() as u64 > self.options.queued_write_bytes_limit {
            mark!("replica: too many bytes of writes wait for room");
            self.stats.refused_overloaded += 1;
            let message =
                format!("{queued_bytes} bytes of writes wait for room in the log already; slow down and try again");
            self.refuse(origin, Refusal::not_executed(Status::Overloaded, message));
            return;
        }
        mark!("replica: a write waits for room");
        self.stats.writes_queued += 1;
        self.proposals.queue.push(waiter, call.into_owned());
    }

    /// Adds a write to the forming batch, closing the one before it if that is full or large. On an error nothing
    /// of it is in the log.
    pub(super) fn push_write(
        &mut self,
        waiter: Waiter,
        sender: Option<Sender>,
        command: &[u8],
    ) -> Result<(), AppendError> {
        assert!(waiter.unanswered().is_some(), "a write that was answered is not proposed");
        let head = CommandHead::new(command, sender);
        let head = head.as_bytes();
        if self.log.batch_bytes() >= BATCH_BYTES_MAX {
            self.close_batch();
        }
        if let NextEntry::Batch(batch) = &mut self.proposals.next {
            match self.log.batch_push(&[head, command]) {
                Ok(()) => {
                    batch.waiters.push(waiter);
                    self.stats.writes_proposed += 1;
                    return Ok(());
                }
                Err(AppendError::BatchFull) => self.close_batch(),
                Err(error) => return Err(error),
            }
        }
        // The no-op that opens the term comes before the first batch.
        self.append_noop();
        if matches!(self.proposals.next, NextEntry::Noop(_)) {
            return Err(AppendError::SegmentNotReady);
        }
        let id = self.raft.next_entry_id(&self.log);
        assert!(
            id.index == self.log.last_id().index.next() && id.term == self.raft.term(),
            "{id} is not the next entry"
        );
        let time = self.proposals.clock.now(id.term, self.now_tick, self.options.tick_ms);
        assert!(time >= self.machine.time(), "the log's time never goes back");
        let header = BatchHeader { time, answer_bytes_limit: self.options.answer_bytes_limit }.encode();
        self.log.begin_batch(id, KIND_COMMANDS, header.len() + head.len() + command.len())?;
        // `begin_batch` made sure of the room.
        if let Err(error) = self.log.batch_push(&[&header, head, command]) {
            self.log.abandon_batch();
            return Err(error);
        }
        let mut waiters = self.waiting.writes.spare();
        waiters.push(waiter);
        self.proposals.next = NextEntry::Batch(Batch { waiters });
        self.stats.writes_proposed += 1;
        Ok(())
    }

    /// What to answer to a write that the log does not take. An error of the log itself stops this replica (`latch`).
    pub(super) fn refusal_for(&mut self, error: AppendError) -> Refusal {
        match error {
            AppendError::SegmentNotReady => match self.device.segment.shortage() {
                Some(reason) => {
                    Refusal::not_executed(Status::NoSpace, format!("the leader cannot prepare a log segment: {reason}"))
                }
                None => {
                    self.stats.refused_overloaded += 1;
                    Refusal::not_executed(
                        Status::Overloaded,
                        "the log waits for its next segment; slow down and try again",
                    )
                }
            },
            AppendError::TooLarge { .. } => Refusal::not_executed(Status::TooLarge, error.to_string()),
            error => {
                let message = error.to_string();
                self.latch(&error);
                Refusal::not_executed(Status::Internal, message)
            }
        }
    }

    /// Closes the forming batch if the pipeline has room for it, or if it has reached its target size.
    pub(super) fn close_batch_if_due(&mut self) {
        if self.proposals.next.batch().is_some()
            && (self.pipeline_has_room() || self.log.batch_bytes() >= self.options.batch_bytes_target)
        {
            self.close_batch();
        }
    }

    fn pipeline_has_room(&self) -> bool {
        // Every entry of this leader counts, also one that is no batch. Earlier leaders' entries do not: this leader may not know yet
        // which of them are committed.
        let uncommitted = self.log.last_id().index.next().get().saturating_sub(self.raft.first_own_uncommitted().get());
        uncommitted < self.options.pipeline_batches_limit as u64
    }

    /// True if fewer than `uncommitted_bytes_limit` bytes of this leader's own entries are uncommitted. What earlier terms left in the log
    /// does not count: a leader that just started has not heard yet how much of it is committed.
    pub(super) fn has_uncommitted_room(&self) -> bool {
        self.log.bytes_from(self.raft.first_own_uncommitted()) < self.options.uncommitted_bytes_limit
    }

    /// Hands the forming batch to Raft: the entry is complete in the log and leaves for the followers now.
    pub(super) fn close_batch(&mut self) {
        let Some(waiters) = self.proposals.take_batch() else { return };
        match self.log.finish_batch() {
            Ok(id) => {
                assert!(id == self.log.last_id(), "a batch that is closed is the log's last entry");
                self.stats.batches_closed += 1;
                self.waiting.writes.insert(id, waiters);
                self.raft.on_appended(&self.log);
                self.after_raft();
            }
            Err(error) => {
                // Stopping the replica answers these waiters, too.
                self.proposals.next = NextEntry::Batch(Batch { waiters });
                self.latch(&error);
            }
        }
    }

    /// Drops the forming batch and refuses its writes as not executed. Writes that were answered with a timeout are not answered again.
    pub(super) fn abandon_batch(&mut self) {
        let Some(waiters) = self.proposals.take_batch() else { return };
        self.log.abandon_batch();
        for origin in waiters.iter().filter_map(Waiter::unanswered) {
            let message = "this node lost its leadership before it proposed the write; try again";
            self.refuse(origin, Refusal::not_executed(Status::Unavailable, message));
        }
        self.waiting.writes.recycle(waiters);
    }

    /// The time that an entry would have which this leader made now. It goes on while nothing is proposed.
    #[must_use]
    pub fn log_time(&self) -> Option<LogTime> {
        let leads = self.raft.role() == Role::Leader && self.standing.is_running();
        leads.then(|| self.proposals.clock.now(self.raft.term(), self.now_tick, self.options.tick_ms))
    }

    /// This node just became the leader: its clock begins to run, and the entry that opens its term comes first.
    pub(super) fn open_term(&mut self, noop: EntryId) {
        assert!(self.proposals.next.batch().is_none(), "no batch outlives the leadership that it belongs to");
        self.proposals.clock.begin(noop.term, self.machine.time(), self.now_tick);
        self.proposals.next = NextEntry::Noop(noop);
        self.append_noop();
    }

    /// Appends the no-op that opens this leader's term as soon as the log has room for it.
    pub(super) fn append_noop(&mut self) {
        let NextEntry::Noop(id) = self.proposals.next else { return };
        if self.raft.role() != Role::Leader || self.raft.term() != id.term {
            self.proposals.next = NextEntry::Idle;
            return;
        }
        if self.raft.transfer().is_some_and(|transfer| transfer.told_at.is_some()) {
            // The successor was told that it has the whole log; if it does not take over, a later turn tries again.
            return;
        }
        let header = EntryHeader::new(id, KIND_NOOP, &[]);
        match self.log.append_entry(&header, &[]) {
            Ok(_) => {
                self.proposals.next = NextEntry::Idle;
                self.raft.on_appended(&self.log);
                self.after_raft();
            }
            // The next turn tries again; until then nothing can be proposed either.
            Err(AppendError::SegmentNotReady) => {
                mark!("replica: there is no room for a term's first entry");
                self.device.segment.on_missed(self.now_tick);
            }
            Err(error) => self.latch(&error),
        }
    }
}
