//! Reads that wait: for a leader to ask, for their read index to be confirmed, for their index to be applied, for their next slice.
//!
//! Plain bookkeeping with deadlines in ticks, bounded by the limits of `ReplicaOptions`, which the replica checks before it adds
//! anything. What a slice does is in `reading`.

use std::collections::{BTreeMap, VecDeque};

use super::turns::{Read, Turns};
use crate::call::{Origin, Ticket};
use crate::state_machine::{Reading, Scan};
use crate::types::Index;

/// Reads that wait, each in one of five stages: without a leader to ask, asked, confirmed, ready, or partly answered.
///
/// A read has *begun* once its first slice is made and its answer is not complete.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Reads whose answer is partly made.
    pub begun: BegunReads,
    /// The last turn answered no reads, because its answers to writes took too many bytes. The next turn applies nothing and answers
    /// reads first.
    pub(super) gave_way: bool,
    /// Reads that must be asked about again, because their leader was lost before it confirmed them. Oldest loss first.
    unasked: VecDeque<Read>,
    /// Reads that a leader has not confirmed yet, by Raft's number for each (`ReadId`).
    unconfirmed: BTreeMap<u64, Read>,
    /// Reads that are confirmed and wait for an index to be applied. By that index, then by Raft's number.
    confirmed: BTreeMap<(Index, u64), Read>,
    /// Reads that can be answered and have had no slice yet. Who has the next slice is decided there.
    pub(super) turns: Turns,
    last_id: u64,
}

impl Reads {
    pub fn len(&self) -> usize {
        self.unasked.len() + self.unconfirmed.len() + self.confirmed.len() + self.turns.len() + self.begun.len()
    }

    /// Adds a read and returns the number under which Raft knows it.
    pub fn insert(&mut self, read: Read) -> u64 {
        self.last_id += 1;
        let previous = self.unconfirmed.insert(self.last_id, read);
        assert!(previous.is_none(), "a number names one read");
        self.last_id
    }

    /// The read may be answered once `index` is applied: a quorum confirmed the leader after the read arrived, or the read takes this
    /// node's own state as it is.
    pub fn confirm(&mut self, id: u64, index: Index) {
        assert!(id <= self.last_id, "read {id} was never asked for");
        if let Some(read) = self.unconfirmed.remove(&id) {
            let previous = self.confirmed.insert((index, id), read);
            assert!(previous.is_none(), "a read is confirmed once");
        }
    }

    /// Removes a read that Raft gave up.
    #[must_use]
    pub fn fail(&mut self, id: u64) -> Option<Read> {
        self.unconfirmed.remove(&id)
    }

    /// Keeps a read until there is a leader to ask again.
    pub(super) fn put_aside(&mut self, read: Read) {
        self.unasked.push_back(read);
    }

    /// Takes the reads that wait for a leader to ask.
    #[must_use]
    pub(super) fn take_unasked(&mut self) -> VecDeque<Read> {
        std::mem::take(&mut self.unasked)
    }

    /// True if a read waits for a leader to ask.
    pub(super) fn has_unasked(&self) -> bool {
        !self.unasked.is_empty()
    }

    /// The lowest index above `applied` that a confirmed read waits for.
    pub(super) fn first_awaited(&self, applied: Index) -> Option<Index> {
        self.confirmed.range((applied.next(), 0)..).next().map(|((index, _), _)| *index)
    }

    /// Takes the confirmed reads that wait for an index above `applied`.
    #[must_use]
    pub(super) fn take_awaiting(&mut self, applied: Index) -> Vec<Read> {
        self.confirmed.split_off(&(applied.next(), 0)).into_values().collect()
    }

    /// True if some read can be answered or continued once entries up to `applied` are applied.
    pub fn has_ready(&self, applied: Index) -> bool {
        let has_applied = self.confirmed.first_key_value().is_some_and(|((index, _), _)| *index <= applied);
        has_applied || !self.turns.is_empty() || self.begun.len() > 0
    }

    /// Takes one read that has had no slice yet and can be answered once entries up to `applied` are applied. Call until it returns
    /// `None`.
    #[must_use]
    pub fn take_ready(&mut self, applied: Index) -> Option<Read> {
        while let Some(first) = self.confirmed.first_entry().filter(|first| first.key().0 <= applied) {
            self.turns.push(first.remove());
        }
        self.turns.pop()
    }

    /// Removes every read past its deadline that has had no slice yet, and reports who asked. `BegunReads::take_expired` takes the
    /// others.
    pub fn expire(&mut self, now_tick: u64, mut timed_out: impl FnMut(Origin)) {
        let mut keep = |read: &Read| {
            let expired = read.deadline_tick <= now_tick;
            if expired {
                timed_out(read.origin);
            }
            !expired
        };
        self.unasked.retain(|read| keep(read));
        self.unconfirmed.retain(|_, read| keep(read));
        self.confirmed.retain(|_, read| keep(read));
        self.turns.retain(keep);
        self.turns.fade(now_tick);
    }

    /// Removes the reads of these tickets, whose clients are gone, and returns who asked. `tickets` must be sorted.
    #[must_use]
    pub(super) fn take_left(&mut self, tickets: &[Ticket]) -> Vec<Origin> {
        let is_abandoned =
            |read: &Read| matches!(read.origin, Origin::Local(ticket) if tickets.binary_search(&ticket).is_ok());
        let mut gone = self.begun.take_if(is_abandoned);
        let mut keep = |read: &Read| {
            let is_gone = is_abandoned(read);
            if is_gone {
                gone.push(read.origin);
            }
            !is_gone
        };
        self.unasked.retain(&mut keep);
        self.unconfirmed.retain(|_, read| keep(read));
        self.confirmed.retain(|_, read| keep(read));
        self.turns.retain(keep);
        gone
    }

    /// Takes everything, for a replica that stops.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Origin> {
        let unasked = self.take_unasked().into_iter();
        let unconfirmed = std::mem::take(&mut self.unconfirmed).into_values();
        let confirmed = std::mem::take(&mut self.confirmed).into_values();
        let waiting = unasked.chain(unconfirmed).chain(confirmed).chain(self.turns.drain()).map(|read| read.origin);
        waiting.chain(self.begun.drain()).collect()
    }
}

/// A read whose answer is partly made.
#[derive(Debug)]
pub(super) struct BegunRead {
    pub read: Read,
    /// How far the read has come.
    pub scan: Scan,
    /// The answer up to there, encoded.
    pub bytes: Vec<u8>,
}

/// Reads that need more than one slice.
#[derive(Debug, Default)]
pub(super) struct BegunReads {
    /// In the order of their next slices.
    open: VecDeque<BegunRead>,
    /// Bytes of the answers of `open`. Unit: bytes.
    kept_bytes: usize,
    /// Reads whose partial answer was dropped because too many bytes were kept. They start again when there is room.
    parked: VecDeque<Read>,
    /// True if the next slice belongs to one of these; false if it belongs to a read that has had none.
    pub is_next: bool,
}

impl BegunReads {
    /// What they read the state by, as far as they have begun a reading of it.
    pub fn readings(&self) -> impl Iterator<Item = Reading> {
        self.open.iter().filter_map(|begun| begun.scan.reading())
    }

    pub(super) fn len(&self) -> usize {
        self.open.len() + self.parked.len()
    }

    /// Takes the read whose slice is next. A parked read starts again only if `room_bytes` more may be kept: the largest answer that a
    /// range can have.
    #[must_use]
    pub(super) fn pop(&mut self, room_bytes: usize, kept_bytes_limit: usize) -> Option<BegunRead> {
        let has_room = self.open.is_empty() || self.kept_bytes.saturating_add(room_bytes) <= kept_bytes_limit;
        if has_room && let Some(read) = self.parked.pop_front() {
            return Some(BegunRead { read, scan: Scan::default(), bytes: Vec::new() });
        }
        let begun = self.open.pop_front()?;
        assert!(begun.bytes.len() <= self.kept_bytes, "every byte that is kept was counted");
        self.kept_bytes -= begun.bytes.len();
        assert!(!self.open.is_empty() || self.kept_bytes == 0, "without open reads nothing is kept");
        Some(begun)
    }

    /// Puts back a read that is not complete, as the next one or as the last. If there is no room for its partial answer, and it is
    /// not the only one, it loses that answer.
    pub(super) fn push(&mut self, begun: BegunRead, is_next_again: bool, kept_bytes_limit: usize) {
        assert!(begun.scan.is_begun(), "a read that is gone on with was begun");
        let kept_bytes = self.kept_bytes + begun.bytes.len();
        if kept_bytes > kept_bytes_limit && !self.open.is_empty() {
            mark!("replica: a read gives up what it has");
            self.parked.push_back(begun.read);
            return;
        }
        self.kept_bytes = kept_bytes;
        if is_next_again {
            self.open.push_front(begun);
        } else {
            self.open.push_back(begun);
        }
    }

    /// Takes every read whose time is up.
    #[must_use]
    pub(super) fn take_expired(&mut self, now_tick: u64) -> Vec<Origin> {
        self.take_if(|read| read.deadline_tick <= now_tick)
    }

    /// Takes every read of which this is true.
    #[must_use]
    fn take_if(&mut self, is_taken: impl Fn(&Read) -> bool) -> Vec<Origin> {
        let mut taken = Vec::new();
        let mut keeps = |read: &Read| {
            let is_taken = is_taken(read);
            if is_taken {
                taken.push(read.origin);
            }
            !is_taken
        };
        self.open.retain(|begun| keeps(&begun.read));
        self.parked.retain(&mut keeps);
        self.kept_bytes = self.open.iter().map(|begun| begun.bytes.len()).sum();
        taken
    }

    /// Takes everything, for a replica that stops.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Origin> {
        let Self { open, parked, .. } = std::mem::take(self);
        open.into_iter().map(|begun| begun.read.origin).chain(parked.into_iter().map(|read| read.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, CallKind, Ticket};
    use crate::types::ShardId;

    #[test]
    fn a_read_waits_for_its_round_and_then_for_its_index() {
        let mut reads = Reads::default();
        let call = Call::borrowed(ShardId::new(0), CallKind::Read, 90, &[]);
        let read = Read { origin: Origin::Local(Ticket(1)), deadline_tick: 9, call };
        let id = reads.insert(read);
        assert!(reads.take_ready(Index::new(100)).is_none());
        reads.confirm(id, Index::new(7));
        assert!(reads.take_ready(Index::new(6)).is_none());
        assert!(reads.take_ready(Index::new(7)).is_some());
        assert_eq!(reads.len(), 0);
    }
}
