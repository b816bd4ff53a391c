//! Giving leadership away, and what happens to requests meanwhile.
//!
//! While a transfer is under way nothing is proposed. Requests that arrive wait here, in bounded number, until the next leader
//! is known, and then go on to it; if the transfer is given up they are served here. None of them has taken effect, so they can
//! be refused at any time. Raft decides who leads; this module starts nothing by itself.

use std::collections::VecDeque;

use net::api::Status;
use wal::Storage;

use super::Replica;
use super::event::{Event, Remark};
use crate::call::{Call, Origin, Refusal};
use crate::limits::{HANDOVER_BYTES_MAX, HANDOVER_LEN_MAX};
use crate::raft::{HandOverEnd, LeadershipStep};
use crate::types::NodeId;

/// A request that waits for the next leader.
#[derive(Debug)]
struct HeldCall {
    origin: Origin,
    deadline_tick: u64,
    call: Call<'static>,
}

/// What a replica remembers for hand-overs.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    held: VecDeque<HeldCall>,
    /// Sum of their payloads. Unit: bytes.
    held_bytes: usize,
    /// Until this tick the leader to which this node handed over is expected to show up.
    expects_leader_until_tick: u64,
    /// No request is taken any more.
    is_closed: bool,
}

impl HandOver {
    /// From here on every new request is refused. What was taken before still gets its answer.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// True if no request is taken any more.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// True if no request waits for another leader.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Panics if more requests wait than the limits allow.
    pub fn assert_bounds(&self) {
        assert!(self.held.len() <= HANDOVER_LEN_MAX, "{} requests wait for another leader", self.held.len());
        assert!(self.held_bytes <= HANDOVER_BYTES_MAX, "{} bytes of requests wait for another leader", self.held_bytes);
        assert!(!self.held.is_empty() || self.held_bytes == 0, "no request waits, and {} bytes do", self.held_bytes);
    }
}

impl<S: Storage> Replica<S> {
    /// Looks for another leader until there is one.
    pub(super) fn on_hand_over(&mut self) {
        if self.raft.hand_over_leadership(&self.log).is_ok() {
            self.after_raft();
        }
    }

    /// Gives leadership to a node if it can hold it.
    pub(super) fn on_transfer(&mut self, to: NodeId) {
        match self.raft.transfer_leader(to, &self.log) {
            Ok(()) => self.after_raft(),
            Err(error) => self.tell(Remark::NoTransfer { to, error }),
        }
    }

    /// Whether everybody who asked this replica was answered.
    #[must_use]
    pub fn owes_no_answer(&self) -> bool {
        self.proposals.len() == 0 && self.waiting.owes_no_answer() && self.hand_over.is_empty()
    }

    /// Counts a step and tells of it.
    pub(super) fn note_leadership_step(&mut self, step: LeadershipStep) {
        match step {
            LeadershipStep::Begun { .. } => self.stats.hand_overs_begun += 1,
            LeadershipStep::Ended { end: HandOverEnd::Done, .. } => self.stats.hand_overs_done += 1,
            LeadershipStep::Ended { .. } => self.stats.hand_overs_given_up += 1,
            LeadershipStep::Elected { .. } => self.stats.elections_won += 1,
            LeadershipStep::Told { .. } | LeadershipStep::Campaigning { .. } | LeadershipStep::Opened { .. } => {}
        }
        self.tell(Remark::Leadership(step));
    }

    /// Refuses a call if this replica takes none any more. Returns true if it did.
    #[must_use]
    pub(super) fn refuse_when_closed(&mut self, origin: Origin) -> bool {
        if self.hand_over.is_closed {
            mark!("replica: a node that stops refuses a request");
            let message = "this node is shutting down; ask another";
            self.refuse(origin, Refusal::not_executed(Status::ShuttingDown, message));
        }
        self.hand_over.is_closed
    }

    /// Tells Raft how this node is.
    pub(super) fn note_own_health(&mut self) {
        let (now_tick, limit_ticks) = (self.now_tick, self.options.slow_disk_ticks);
        let keeps_up = self.device.watch.keeps_up(now_tick, limit_ticks);
        let has_room = self.device.segment.has_room(now_tick, limit_ticks);
        self.raft.note_health(self.machine.applied_index(), has_room, keeps_up);
    }

    /// Part of a turn: closes the batch of a leader that hands over, and lets requests that waited go on.
    pub(super) fn proceed_with_hand_over(&mut self) {
        if self.raft.transfer().is_some() {
            self.hand_over.expects_leader_until_tick = self.now_tick + u64::from(self.options.raft.election_ticks);
            if self.proposals.next.batch().is_some() {
                // Nothing is proposed from here on, so this is the leader's last entry.
                self.close_batch();
                self.raft.proceed_with_transfer(&self.log);
                self.after_raft();
            }
        }
        if !self.hand_over.held.is_empty() && !self.expects_leader() {
            mark!("replica: requests go on after a hand-over");
            let held = std::mem::take(&mut self.hand_over.held);
            self.hand_over.held_bytes = 0;
            for HeldCall { origin, deadline_tick, mut call } in held {
                call.meta.timeout_ms = self.ms_until(deadline_tick);
                // Each goes through `on_call` again: one of them may be what stops this replica.
                self.on_event(Event::Call { origin, call });
            }
        }
    }

    /// True if a transfer is under way here, or was until just now and its receiver has not shown itself yet.
    fn expects_leader(&self) -> bool {
        self.raft.transfer().is_some()
            || (self.raft.leader().is_none() && self.now_tick < self.hand_over.expects_leader_until_tick)
    }

    /// True if a call may wait for the next leader: one is expected, and there is room.
    #[must_use]
    pub(super) fn may_hold(&self, call: &Call<'_>) -> bool {
        let bytes = self.hand_over.held_bytes + call.payload.len();
        self.expects_leader() && self.hand_over.held.len() < HANDOVER_LEN_MAX && bytes <= HANDOVER_BYTES_MAX
    }

    /// Keeps a call for the next leader.
    pub(super) fn hold(&mut self, origin: Origin, call: Call<'_>) {
        self.hand_over.held_bytes += call.payload.len();
        let deadline_tick = self.deadline_of(&call.meta);
        self.hand_over.held.push_back(HeldCall { origin, deadline_tick, call: call.into_owned() });
    }

    /// Refuses the requests that waited for the next leader for too long.
    pub(super) fn expire_held(&mut self) {
        let now_tick = self.now_tick;
        let (expired, kept) = std::mem::take(&mut self.hand_over.held)
            .into_iter()
            .partition::<VecDeque<_>, _>(|held| held.deadline_tick <= now_tick);
        self.hand_over.held = kept;
        mark!("replica: a request waited for a leader that did not come" if !expired.is_empty());
        let message = self.with_lost_nodes("no new leader showed itself in time");
        self.refuse_held(expired, Status::Timeout, &message);
    }

    /// Refuses all requests that wait for the next leader.
    pub(super) fn drain_held(&mut self, status: Status, message: &str) {
        let held = std::mem::take(&mut self.hand_over.held);
        self.refuse_held(held, status, message);
    }

    fn refuse_held(&mut self, held: VecDeque<HeldCall>, status: Status, message: &str) {
        for HeldCall { origin, call, .. } in held {
            assert!(call.payload.len() <= self.hand_over.held_bytes, "every byte that waits was counted");
            self.hand_over.held_bytes -= call.payload.len();
            self.refuse(origin, Refusal::not_executed(status, message.to_owned()));
        }
    }
}
