//! Requests that wait for an answer: writes until their entry is applied, calls that were passed on until the leader answers. The reads
//! among them are in `reads`.
//!
//! Plain bookkeeping with deadlines in ticks. Bounded by the limits of `ReplicaOptions`, which the replica checks before it
//! adds anything. Iteration order is deterministic.

use std::collections::BTreeMap;

use super::reads::Reads;
use crate::call::{CallKind, Origin, Part};
use crate::limits::WAITERS_KEPT_MAX;
use crate::types::{EntryId, Index, NodeId};
use net::limits::ANSWER_BYTES_MAX;

/// Who waits for an answer, by what ends the wait. A deadline ends each, and so does the end of the replica.
///
/// Besides, writes wait in the queue of `Proposals` for room in the log, and calls in `HandOver` for the next leader.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Writes that were proposed: an entry is applied at their index.
    pub writes: Writes,
    /// Reads: their index is known and applied, and their last slice is done.
    pub reads: Reads,
    /// Calls that were passed on: the leader answers, or its connection is lost.
    pub relays: Relays,
}

impl Waiting {
    /// Nobody waits yet. Calls that are passed on get numbers above `relay_id_floor`.
    pub fn starting_at(relay_id_floor: u64) -> Self {
        Self { relays: Relays::starting_at(relay_id_floor), ..Self::default() }
    }

    /// True if nobody waits for an answer. A write that was answered when its time was up may still hold a place.
    pub fn owes_no_answer(&self) -> bool {
        !self.writes.has_unanswered() && self.reads.len() == 0 && self.relays.len() == 0
    }
}

/// A write whose entry is in the log, or still in the forming batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub origin: Origin,
    pub deadline_tick: u64,
    answered: bool,
}

impl Waiter {
    pub fn new(origin: Origin, deadline_tick: u64) -> Self {
        Self { origin, deadline_tick, answered: false }
    }
}

/// What became of the writes of one batch when an entry was applied at its index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The applied entry is the batch.
    Applied,
    /// Another entry was committed at its index: the batch never takes effect.
    Superseded,
}

/// Writes by the entry that carries them.
///
/// A node that lost its leadership keeps its waiters: their entries may still commit under the next leader. Only an entry
/// applied at the same index decides, so an index can hold batches of several terms.
#[derive(Debug, Default)]
pub(super) struct Writes {
    batches: BTreeMap<(Index, EntryId), Vec<Waiter>>,
    waiter_count: usize,
    /// Writes of the entry that is applied in part, in batch order.
    half_applied: Option<Vec<Waiter>>,
    pool: Vec<Vec<Waiter>>,
}

impl Writes {
    /// Number of writes without an answer that hold a place.
    pub fn len(&self) -> usize {
        self.waiter_count + self.half_applied.as_ref().map_or(0, Vec::len)
    }

    /// Keeps the writes of an entry that is applied in part, until its next slice takes them.
    pub fn keep_half_applied(&mut self, waiters: Vec<Waiter>) {
        assert!(self.half_applied.is_none(), "one entry at a time is applied in part");
        self.half_applied = Some(waiters);
    }

    /// Takes the writes of the entry that is applied in part, if one is.
    #[must_use]
    pub fn take_half_applied(&mut self) -> Option<Vec<Waiter>> {
        self.half_applied.take()
    }

    /// True if some write has got no answer yet.
    pub fn has_unanswered(&self) -> bool {
        let half_applied = self.half_applied.iter().flatten();
        self.batches.values().flatten().chain(half_applied).any(|waiter| !waiter.answered)
    }

    /// An empty vector for the waiters of the next batch.
    #[must_use]
    pub fn spare(&mut self) -> Vec<Waiter> {
        self.pool.pop().unwrap_or_default()
    }

    /// Remembers who waits for the entry `id`, in batch order.
    pub fn insert(&mut self, id: EntryId, waiters: Vec<Waiter>) {
        assert!(!waiters.is_empty(), "nobody waits for an entry without writes");
        self.waiter_count += waiters.len();
        let previous = self.batches.insert((id.index, id), waiters);
        assert!(previous.is_none(), "an entry id names one batch");
    }

    /// Takes the writes of one batch whose fate is known once the entry `applied` is applied. Call until it returns `None`.
    #[must_use]
    pub fn take_decided(&mut self, applied: EntryId) -> Option<(Fate, Vec<Waiter>)> {
        let first = self.batches.first_entry()?;
        let (index, id) = *first.key();
        if index > applied.index {
            return None;
        }
        assert!(index == id.index, "a batch waits at its own index");
        let waiters = first.remove();
        assert!(waiters.len() <= self.waiter_count, "every write that waits was counted");
        self.waiter_count -= waiters.len();
        Some((if id == applied { Fate::Applied } else { Fate::Superseded }, waiters))
    }

    /// Gives a taken vector back for reuse.
    pub fn recycle(&mut self, mut waiters: Vec<Waiter>) {
        if self.pool.len() < WAITERS_KEPT_MAX {
            waiters.clear();
            self.pool.push(waiters);
        }
    }

    /// Marks every write whose time is up as answered and reports it. Its place is kept until its entry is decided.
    pub fn expire(&mut self, now_tick: u64, timed_out: impl FnMut(Origin)) {
        let waiters = self.half_applied.iter_mut().chain(self.batches.values_mut()).flatten();
        waiters.filter_map(|waiter| waiter.expire(now_tick)).for_each(timed_out);
    }

    /// Marks every write of an entry after `index` as answered and reports it. Its place is kept until its entry is decided.
    pub(super) fn give_up_after(&mut self, index: Index, given_up: impl FnMut(Origin)) {
        let waiters = self.batches.iter_mut().filter(|((at, _), _)| *at > index).flat_map(|(_, waiters)| waiters);
        waiters.filter_map(Waiter::take_origin).for_each(given_up);
    }

    /// Takes everything, for a replica that stops.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Origin> {
        let waiter_count = self.batches.values().map(Vec::len).sum::<usize>();
        assert!(waiter_count == self.waiter_count, "{waiter_count} writes wait, {} were counted", self.waiter_count);
        self.waiter_count = 0;
        let batches = std::mem::take(&mut self.batches).into_values();
        let half_applied = self.half_applied.take();
        half_applied
            .into_iter()
            .chain(batches)
            .flatten()
            .filter(|waiter| !waiter.answered)
            .map(|waiter| waiter.origin)
            .collect()
    }
}

impl Waiter {
    /// Who waits for the answer, unless a timeout was already sent.
    pub fn unanswered(&self) -> Option<Origin> {
        (!self.answered).then_some(self.origin)
    }

    /// Who waits for the answer, unless one was already sent. Marks the write as answered.
    #[must_use]
    pub fn take_origin(&mut self) -> Option<Origin> {
        let origin = self.unanswered();
        self.answered = true;
        origin
    }

    /// Marks the write as answered if its time is up and says whom to tell. Its place in the batch is kept.
    pub fn expire(&mut self, now_tick: u64) -> Option<Origin> {
        let expires = !self.answered && self.deadline_tick <= now_tick;
        self.answered |= expires;
        expires.then_some(self.origin)
    }
}

/// A call that this node passed on to the leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    pub origin: Origin,
    pub to: NodeId,
    pub kind: CallKind,
    pub deadline_tick: u64,
    /// Bytes of its answer that have come. Unit: bytes.
    pub answer_bytes: usize,
}

/// Calls passed on to the leader, by this node's number for them.
#[derive(Debug, Default)]
pub(super) struct Relays {
    waiting: BTreeMap<u64, Relayed>,
    last_id: u64,
}

impl Relays {
    /// Starts numbering after `floor`, so that an answer to a request of an earlier life of this node matches none of ours.
    pub fn starting_at(floor: u64) -> Self {
        Self { waiting: BTreeMap::new(), last_id: floor }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn insert(&mut self, relayed: Relayed) -> u64 {
        self.last_id += 1;
        let previous = self.waiting.insert(self.last_id, relayed);
        assert!(previous.is_none(), "a number names one request");
        self.last_id
    }

    /// Takes the request `id` if it was relayed to `from`, or to anyone if `from` is `None`.
    #[must_use]
    pub fn take(&mut self, id: u64, from: Option<NodeId>) -> Option<Relayed> {
        let relayed = self.waiting.get(&id)?;
        if from.is_some_and(|from| from != relayed.to) {
            return None;
        }
        self.waiting.remove(&id)
    }

    /// The call that a part of an answer is for. It is removed with the last part, or once the answer has too many bytes.
    pub fn next_part(&mut self, id: u64, from: NodeId, part: &Part<&[u8]>) -> Option<Relayed> {
        let relayed = self.waiting.get_mut(&id).filter(|relayed| relayed.to == from)?;
        relayed.answer_bytes += part.as_ref().bytes().map_or(0, |bytes| bytes.len());
        let relayed = *relayed;
        if matches!(part, Part::Last(_)) || relayed.answer_bytes > ANSWER_BYTES_MAX {
            self.waiting.remove(&id);
        }
        Some(relayed)
    }

    /// Takes everything that was relayed to `node`.
    #[must_use]
    pub fn take_all_to(&mut self, node: NodeId) -> Vec<Relayed> {
        self.waiting.extract_if(.., |_, relayed| relayed.to == node).map(|(_, relayed)| relayed).collect()
    }

    /// Takes everything that was relayed to anybody but `node`.
    #[must_use]
    pub fn take_all_but_to(&mut self, node: Option<NodeId>) -> Vec<Relayed> {
        self.waiting.extract_if(.., |_, relayed| Some(relayed.to) != node).map(|(_, relayed)| relayed).collect()
    }

    /// Takes everything whose time is up.
    #[must_use]
    pub fn take_expired(&mut self, now_tick: u64) -> Vec<Relayed> {
        self.waiting
            .extract_if(.., |_, relayed| relayed.deadline_tick <= now_tick)
            .map(|(_, relayed)| relayed)
            .collect()
    }

    /// Takes everything, for a replica that stops.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Relayed> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Ticket;
    use crate::types::Term;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term::new(term), Index::new(index))
    }

    fn waiter(ticket: u64, deadline_tick: u64) -> Waiter {
        Waiter::new(Origin::Local(Ticket(ticket)), deadline_tick)
    }

    #[test]
    fn an_applied_entry_decides_every_batch_at_its_index() {
        let mut writes = Writes::default();
        writes.insert(id(1, 5), vec![waiter(1, 100)]);
        writes.insert(id(3, 5), vec![waiter(2, 100), waiter(3, 100)]);
        writes.insert(id(3, 6), vec![waiter(4, 100)]);
        assert_eq!(writes.len(), 4);

        let (fate, waiters) = writes.take_decided(id(3, 5)).expect("the batch of term 1 is decided");
        assert_eq!((fate, waiters.len()), (Fate::Superseded, 1));
        let (fate, waiters) = writes.take_decided(id(3, 5)).expect("the batch of term 3 is decided");
        assert_eq!((fate, waiters.len()), (Fate::Applied, 2));
        assert!(writes.take_decided(id(3, 5)).is_none());
        assert_eq!(writes.len(), 1);
    }

    #[test]
    fn a_timed_out_write_is_answered_once_and_keeps_its_place() {
        let mut writes = Writes::default();
        writes.insert(id(1, 1), vec![waiter(1, 10), waiter(2, 20)]);
        let mut expired = Vec::new();
        writes.expire(10, |origin| expired.push(origin));
        writes.expire(11, |origin| expired.push(origin));
        assert_eq!(expired, vec![Origin::Local(Ticket(1))]);
        let (_, waiters) = writes.take_decided(id(1, 1)).expect("decided");
        let unanswered: Vec<_> = waiters.iter().filter_map(Waiter::unanswered).collect();
        assert_eq!(unanswered, vec![Origin::Local(Ticket(2))]);
    }

    #[test]
    fn a_relay_reply_counts_only_from_the_node_it_was_relayed_to() {
        let mut relays = Relays::starting_at(1000);
        let to = NodeId::new(2);
        let id = relays.insert(Relayed {
            origin: Origin::Local(Ticket(1)),
            to,
            kind: CallKind::Write,
            deadline_tick: 5,
            answer_bytes: 0,
        });
        assert!(id > 1000);
        assert!(relays.take(id, Some(NodeId::new(3))).is_none());
        assert!(relays.take(id, Some(to)).is_some());
        assert_eq!(relays.len(), 0);
    }
}
