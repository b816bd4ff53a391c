//! Reads are answered in slices: one turn visits a bounded number of keys for all of them together.
//!
//! Slices go by turns to a read that has had none and to one that has begun, and begun reads take turns among themselves: a small
//! read never waits for a large one to end. Among new reads that of the asker who was answered least goes first (`turns`). The answer
//! does not depend on how a read was sliced: a read is pinned to the revision at which it began.

use net::api::Status;
use wal::Storage;

use super::Replica;
use super::event::Reply;
use super::reads::BegunRead;
use super::turns::Read;
use crate::call::{CallKind, Part, Refusal};
use crate::limits::{KEY_CHARGE_BYTES, READ_ANSWER_BYTES_PER_SLICE, READ_ANSWER_BYTES_PER_TURN};
use crate::raft::Role;
use crate::state_machine::{Budget, RangeError, Reading, Scan};

/// What reads may still do in a turn.
struct TurnLeft {
    keys: u64,
    bytes: usize,
}

impl<S: Storage> Replica<S> {
    /// Answers confirmed reads whose index is applied, as far as a turn goes. If writes got much in this turn already, the next one
    /// is for reads alone: an answer to a write may be larger than all that reads get in a turn.
    pub(super) fn serve_reads(&mut self) {
        let had_given_way = std::mem::take(&mut self.waiting.reads.gave_way);
        let is_busy = self.out.bodies_len() >= READ_ANSWER_BYTES_PER_TURN;
        if is_busy && !had_given_way && self.waiting.reads.has_ready(self.machine.applied_index()) {
            self.waiting.reads.gave_way = true;
            return;
        }
        let mut left = TurnLeft { keys: self.options.reading.keys_per_turn, bytes: READ_ANSWER_BYTES_PER_TURN };
        while left.keys > 0
            && left.bytes > 0
            && let Some(begun) = self.next_read()
        {
            self.serve_slice(begun, &mut left);
        }
    }

    /// The read whose slice is next: by turns one that has had none and one that has begun.
    fn next_read(&mut self) -> Option<BegunRead> {
        let (room, limit) = (self.options.machine.range_bytes_limit, self.options.reading.kept_bytes_limit);
        self.waiting.reads.begun.is_next = !self.waiting.reads.begun.is_next;
        let is_begun_first = self.waiting.reads.begun.is_next;
        if is_begun_first && let Some(begun) = self.waiting.reads.begun.pop(room, limit) {
            return Some(begun);
        }
        match self.waiting.reads.take_ready(self.machine.applied_index()) {
            Some(read) => Some(BegunRead { read, scan: Scan::default(), bytes: Vec::new() }),
            None => self.waiting.reads.begun.pop(room, limit),
        }
    }

    /// Ends the readings of reads that were given up. The state that is being kept is still read.
    pub(super) fn end_dropped_readings(&mut self) {
        let open_count = self.machine.readings_count();
        if open_count == 0 {
            return;
        }
        let held = || self.waiting.reads.begun.readings().chain(self.being_kept);
        if held().count() < open_count {
            let held: Vec<Reading> = held().collect();
            self.machine.keep_readings(&held);
        }
    }

    /// Makes the next slice of a read, and answers the read if that was the last one.
    fn serve_slice(&mut self, mut begun: BegunRead, left: &mut TurnLeft) {
        self.stats.read_slices += 1;
        let may_visit = left.keys.min(self.options.reading.keys_per_slice);
        assert!(may_visit >= 1, "a slice visits something");
        let mut budget = Budget { bytes: left.bytes.min(READ_ANSWER_BYTES_PER_SLICE) as u64, keys: may_visit };
        let BegunRead { read: Read { call, .. }, scan, bytes } = &mut begun;
        let is_first = bytes.is_empty();
        let start = if is_first { self.out.bodies_len() } else { 0 };
        // Most reads need one slice: their answer is written where it leaves from.
        let out = if is_first { self.out.bodies() } else { bytes };
        let before = out.len();
        let is_done = match call.kind {
            CallKind::Read | CallKind::ReadSerializable => {
                self.machine.range_slice(&call.payload, scan, out, start, &mut budget)
            }
            CallKind::Hash => Ok(self.machine.hash_slice(scan, out, &mut budget.keys)),
            CallKind::Write | CallKind::Status => unreachable!("{:?} is no read", call.kind),
        };
        assert!(out.len() >= before, "a read that fails takes back its own bytes and no others");
        assert!(budget.keys <= may_visit, "a slice visits {may_visit} keys at most");
        let made_bytes = out.len() - before;
        left.bytes = left.bytes.saturating_sub(made_bytes);
        // A read that finds nothing takes time, too.
        let visited = (may_visit - budget.keys).max(1);
        left.keys = left.keys.saturating_sub(visited);
        self.waiting.reads.turns.charge(begun.read.origin.asker(), made_bytes as u64 + visited * KEY_CHARGE_BYTES);
        let result = match is_done {
            Ok(false) => {
                mark!("replica: a read takes several turns");
                if is_first {
                    begun.bytes = self.out.bodies().split_off(start);
                }
                // A large answer gets its slices one after the other: many answers that grow at once would fill the room for them.
                let is_next_again = !is_first && budget.keys > 0;
                self.waiting.reads.begun.push(begun, is_next_again, self.options.reading.kept_bytes_limit);
                return;
            }
            Ok(true) if is_first => Ok(start..self.out.bodies_len()),
            Ok(true) => {
                left.bytes = left.bytes.saturating_sub(begun.bytes.len());
                Ok(self.out.take_body(begun.bytes))
            }
            Err(error) => Err(refusal_for_range(&error)),
        };
        if result.is_ok() && begun.read.call.kind != CallKind::ReadSerializable && self.raft.role() != Role::Leader {
            self.stats.reads_at_follower += 1;
        }
        self.reply(begun.read.origin, Reply { part: Part::Last(result), relayed: false });
    }
}

fn refusal_for_range(error: &RangeError) -> Refusal {
    let status = match error {
        RangeError::FutureRevision { .. } => Status::FutureRevision,
        RangeError::Malformed(_) => Status::Invalid,
    };
    Refusal::not_executed(status, error.to_string())
}
