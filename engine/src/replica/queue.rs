//! Writes that wait on the leader until the log takes them, each within its own time.
//!
//! A write waits here while the no-op of its leader's term is not in the log, while the next segment is being prepared, and
//! while `uncommitted_bytes_limit` bytes are uncommitted. All of these pass by themselves in a healthy cluster. The queue is bounded by
//! count and bytes; beyond that the answer is `overloaded`. Order is kept: while anything waits, new writes wait behind it.
//! Nothing in here has taken effect: a write that is refused out of the queue is refused as not executed.

use std::borrow::Cow;
use std::collections::VecDeque;

use net::api::Status;
use wal::{AppendError, Storage};

use super::Replica;
use super::pending::Waiter;
use crate::call::{Call, Origin, Refusal};
use crate::limits::COMMAND_BYTES_PER_TURN;
use crate::state_machine::batch::Sender;

/// A write that is in no batch yet.
#[derive(Debug)]
struct Queued {
    waiter: Waiter,
    sender: Option<Sender>,
    command: Cow<'static, [u8]>,
}

/// Writes in the order in which they arrived.
#[derive(Debug, Default)]
pub(super) struct Queue {
    writes: VecDeque<Queued>,
    bytes: u64,
    /// The last turn ended before the log stopped taking them.
    is_ready: bool,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of their commands. Unit: bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next turn can take some out.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Adds a write after the others.
    pub fn push(&mut self, waiter: Waiter, call: Call<'static>) {
        let (sender, command) = (call.meta.sender, call.payload);
        self.bytes += command.len() as u64;
        self.writes.push_back(Queued { waiter, sender, command });
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.writes.pop_front()?;
        let command_bytes = queued.command.len() as u64;
        assert!(command_bytes <= self.bytes, "every byte that waits was counted");
        self.bytes -= command_bytes;
        Some(queued)
    }

    fn push_front(&mut self, queued: Queued) {
        self.bytes += queued.command.len() as u64;
        self.writes.push_front(queued);
    }

    /// Takes out every write whose time is up.
    #[must_use]
    pub fn expire(&mut self, now_tick: u64) -> Vec<Origin> {
        let mut expired = Vec::new();
        let bytes = &mut self.bytes;
        self.writes.retain_mut(|queued| {
            let Some(origin) = queued.waiter.expire(now_tick) else { return true };
            expired.push(origin);
            *bytes -= queued.command.len() as u64;
            false
        });
        assert!(!self.writes.is_empty() || self.bytes == 0, "an empty queue holds no bytes");
        expired
    }

    /// Takes everything out.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Origin> {
        self.bytes = 0;
        self.is_ready = false;
        self.writes.drain(..).filter_map(|queued| queued.waiter.unanswered()).collect()
    }
}

impl<S: Storage> Replica<S> {
    /// Takes writes out of the queue for as long as the log takes them.
    pub(super) fn serve_queue(&mut self) {
        self.proposals.queue.is_ready = false;
        let mut budget_bytes = COMMAND_BYTES_PER_TURN;
        while !self.proposals.queue.is_empty() && self.raft.may_propose().is_ok() && self.has_uncommitted_room() {
            if budget_bytes == 0 {
                self.proposals.queue.is_ready = true;
                return;
            }
            let Some(queued) = self.proposals.queue.pop() else { return };
            budget_bytes = budget_bytes.saturating_sub(queued.command.len() as u64);
            match self.push_write(queued.waiter, queued.sender, &queued.command) {
                Ok(()) => {}
                Err(AppendError::SegmentNotReady) if self.device.segment.shortage().is_none() => {
                    mark!("replica: the segment is full before the queue is empty");
                    self.device.segment.on_missed(self.now_tick);
                    self.proposals.queue.push_front(queued);
                    return;
                }
                Err(error) => {
                    let refusal = self.refusal_for(error);
                    if let Some(origin) = queued.waiter.unanswered() {
                        self.refuse(origin, refusal);
                    }
                }
            }
        }
    }

    /// Refuses everything that waits in the queue: it took no effect.
    pub(super) fn refuse_queue(&mut self, status: Status, message: &str) {
        for origin in self.proposals.queue.drain() {
            self.refuse(origin, Refusal::not_executed(status, message.to_owned()));
        }
    }

    /// Refuses what has waited in the queue for as long as it may.
    pub(super) fn expire_queue(&mut self) {
        for origin in self.proposals.queue.expire(self.now_tick) {
            mark!("replica: a write waits too long for room");
            let message = "the log had no room for the write in time; it was not proposed and takes no effect";
            self.refuse(origin, Refusal::not_executed(Status::Timeout, message));
        }
    }
}
