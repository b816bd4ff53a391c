//! Reads are answered in slices: one turn visits a bounded number of keys for all of them together.
//!
//! Reads that were not begun and those that were take turns, and the latter go round: a small read never waits for a large one to
//! end. What a read is answered does not depend on how it was sliced: it is pinned to the revision at which it began.

use std::collections::VecDeque;

use net::api::Status;
use wal::Storage;

use super::Replica;
use super::event::{Origin, Refusal, Reply};
use super::pending::Read;
use crate::state_machine::{RangeError, Scan};

/// Once so many bytes of answers to reads were made in a turn, the rest waits for the next one. Theirs alone, so that writes with
/// large answers don't keep them waiting. Unit: bytes.
const READ_BYTES_PER_TURN: usize = 8 << 20;

/// A read, how far it came, and its answer up to there.
#[derive(Debug)]
struct BegunRead {
    read: Read,
    scan: Scan,
    bytes: Vec<u8>,
}

/// Reads that one slice was not enough for.
#[derive(Debug, Default)]
pub(super) struct BegunReads {
    /// In the order of their next slices.
    open: VecDeque<BegunRead>,
    /// Bytes of the answers of `open`. Unit: bytes.
    kept_bytes: usize,
    /// Reads that gave up what they had for want of room; they begin anew when there is some.
    parked: VecDeque<Read>,
    /// The next slice belongs to one of these, not to a read that was not begun.
    is_next: bool,
}

impl BegunReads {
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.parked.len()
    }

    /// Takes the read whose slice is next. `room_bytes` is what must be free for a parked one to begin anew.
    fn pop(&mut self, room_bytes: usize, kept_bytes_limit: usize) -> Option<BegunRead> {
        let has_room = self.open.is_empty() || self.kept_bytes.saturating_add(room_bytes) <= kept_bytes_limit;
        if has_room && let Some(read) = self.parked.pop_front() {
            return Some(BegunRead { read, scan: Scan::default(), bytes: Vec::new() });
        }
        let begun = self.open.pop_front()?;
        self.kept_bytes -= begun.bytes.len();
        Some(begun)
    }

    /// Takes back a read that is not done. One that finds no room for its bytes loses them, unless it is the only one.
    fn push(&mut self, begun: BegunRead, kept_bytes_limit: usize) {
        let kept_bytes = self.kept_bytes + begun.bytes.len();
        if kept_bytes > kept_bytes_limit && !self.open.is_empty() {
            self.parked.push_back(begun.read);
            return;
        }
        self.kept_bytes = kept_bytes;
        self.open.push_back(begun);
    }

    /// Takes every read whose time is up.
    pub(super) fn take_expired(&mut self, now_tick: u64) -> Vec<Origin> {
        let mut expired = Vec::new();
        let mut keeps = |read: &Read| {
            let is_expired = read.deadline_tick <= now_tick;
            if is_expired {
                expired.push(read.origin);
            }
            !is_expired
        };
        self.open.retain(|begun| keeps(&begun.read));
        self.parked.retain(&mut keeps);
        self.kept_bytes = self.open.iter().map(|begun| begun.bytes.len()).sum();
        expired
    }

    /// Takes everything, for a replica that stops.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Origin> {
        let Self { open, parked, .. } = std::mem::take(self);
        open.into_iter().map(|begun| begun.read.origin).chain(parked.into_iter().map(|read| read.origin))
    }
}

/// What reads may still do in a turn.
struct TurnLeft {
    keys: u64,
    bytes: usize,
}

impl<S: Storage> Replica<S> {
    /// Answers confirmed reads whose index is applied, as far as a turn goes.
    pub(super) fn serve_reads(&mut self) {
        let mut left = TurnLeft { keys: self.options.reading.keys_per_turn.max(1), bytes: READ_BYTES_PER_TURN };
        while left.keys > 0
            && left.bytes > 0
            && let Some(begun) = self.next_read()
        {
            self.serve_slice(begun, &mut left);
        }
    }

    /// The read whose slice is next: by turns one that was not begun and one that was.
    fn next_read(&mut self) -> Option<BegunRead> {
        let (room, limit) = (self.options.machine.range_bytes_limit, self.options.reading.kept_bytes_limit);
        self.reads.begun.is_next = !self.reads.begun.is_next;
        let is_begun_first = self.reads.begun.is_next;
        if is_begun_first && let Some(begun) = self.reads.begun.pop(room, limit) {
            return Some(begun);
        }
        match self.reads.take_ready(self.machine.applied_index()) {
            Some(read) => Some(BegunRead { read, scan: Scan::default(), bytes: Vec::new() }),
            None => self.reads.begun.pop(room, limit),
        }
    }

    /// Goes on with a read, and answers it if that was the last of it.
    fn serve_slice(&mut self, mut begun: BegunRead, left: &mut TurnLeft) {
        let may_visit = left.keys.min(self.options.reading.keys_per_slice.max(1));
        let mut keys = may_visit;
        let is_first = begun.bytes.is_empty();
        let start = if is_first { self.reply_bytes.len() } else { 0 };
        // Most reads need one slice: their answer is written where it leaves from.
        let out = if is_first { &mut self.reply_bytes } else { &mut begun.bytes };
        let before = out.len();
        let is_done = self.machine.range_slice(&begun.read.payload, &mut begun.scan, out, start, &mut keys);
        left.bytes = left.bytes.saturating_sub(out.len() - before);
        // Also a read that finds nothing takes its time.
        left.keys = left.keys.saturating_sub((may_visit - keys).max(1));
        let result = match is_done {
            Ok(false) => {
                if is_first {
                    begun.bytes = self.reply_bytes.split_off(start);
                }
                self.reads.begun.push(begun, self.options.reading.kept_bytes_limit);
                return;
            }
            Ok(true) if is_first => Ok(start..self.reply_bytes.len()),
            Ok(true) => Ok(self.keep_body(&begun.bytes)),
            Err(error) => Err(refusal_for_range(&error)),
        };
        self.reply(begun.read.origin, Reply { result, relayed: false });
    }
}

fn refusal_for_range(error: &RangeError) -> Refusal {
    let status = match error {
        RangeError::FutureRevision { .. } => Status::FutureRevision,
        RangeError::Malformed(_) => Status::Invalid,
    };
    Refusal::not_executed(status, error.to_string())
}
