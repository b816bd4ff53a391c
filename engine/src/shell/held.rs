//! Reads of one client's connection: how many are under way, and which are held back until it has taken some of its answers.
//!
//! A read is a few bytes and its answer may be megabytes. So reads are brought to their shards only as long as their answers, by
//! what the last ones took, have room beside those that wait for the client. The others are held back here, in their order, and
//! what they hold counts against a bound of the core. Nothing here knows what a read asks for, or looks at a clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::limits::{
    ANSWER_EXPECTED_BYTES_FIRST, ANSWER_EXPECTED_BYTES_MIN, ANSWER_EXPECTED_SHARE, HELD_BYTES_MAX, HELD_CORE_BYTES_MAX,
    HELD_READ_BYTES,
};
use crate::call::Call;

/// Bytes that the reads which are held back on one core take.
pub(super) type HeldTotal = Rc<Cell<usize>>;

/// A read that is held back.
#[derive(Debug)]
pub(super) struct Held {
    /// The client's number for it.
    pub(super) id: u64,
    /// Its time is over then.
    pub(super) deadline: Instant,
    pub(super) call: Call<'static>,
    /// Its answer found no room before: it waits until there is some on its core.
    pub(super) needs_room: bool,
}

impl Held {
    fn bytes(&self) -> usize {
        HELD_READ_BYTES + self.call.payload.len()
    }
}

/// The reads of one connection.
#[derive(Debug)]
pub(super) struct Reads {
    /// Reads that a shard has and has not answered.
    under_way: Cell<usize>,
    /// What an answer to a read takes, by the last ones. Unit: bytes.
    expected_bytes: Cell<usize>,
    held: RefCell<VecDeque<Held>>,
    /// What `held` takes. Unit: bytes.
    held_bytes: Cell<usize>,
    total: HeldTotal,
}

impl Reads {
    /// No read. `total` is the core's.
    pub(super) fn new(total: HeldTotal) -> Self {
        Self {
            under_way: Cell::new(0),
            expected_bytes: Cell::new(ANSWER_EXPECTED_BYTES_FIRST),
            held: RefCell::default(),
            held_bytes: Cell::new(0),
            total,
        }
    }

    /// One more read may be brought to its shard while `queued_bytes` of answers wait for the client, of `limit_bytes`.
    pub(super) fn may_begin(&self, queued_bytes: usize, limit_bytes: usize) -> bool {
        let under_way = self.under_way.get();
        let expected = self.expected_bytes.get().saturating_mul(under_way + 1);
        (under_way == 0 && queued_bytes == 0) || queued_bytes.saturating_add(expected) <= limit_bytes
    }

    /// Reads that a shard has and has not answered.
    pub(super) const fn under_way(&self) -> usize {
        self.under_way.get()
    }

    /// A read is brought to its shard.
    pub(super) fn began(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    /// It was answered with so many bytes. A refusal counts as an answer without any.
    pub(super) fn ended(&self, bytes: usize) {
        assert!(self.under_way.get() > 0, "a read that ends has begun");
        self.under_way.set(self.under_way.get() - 1);
        let before = self.expected_bytes.get();
        let expected = before - before / ANSWER_EXPECTED_SHARE + bytes / ANSWER_EXPECTED_SHARE;
        self.expected_bytes.set(expected.max(ANSWER_EXPECTED_BYTES_MIN));
    }

    /// Holds a read back; gives it back if there is no room for more of them on this core.
    pub(super) fn hold(&self, read: Held) -> Result<(), Held> {
        let bytes = read.bytes();
        if self.total.get() + bytes > HELD_CORE_BYTES_MAX {
            return Err(read);
        }
        self.count(self.held_bytes.get() + bytes);
        self.held.borrow_mut().push_back(read);
        Ok(())
    }

    /// Takes the read that has been held back for longest, of those that need no room on their core if it has none.
    pub(super) fn take(&self, core_has_room: bool) -> Option<Held> {
        let place = self.place_of_next(core_has_room)?;
        let read = self.held.borrow_mut().remove(place)?;
        self.count(self.held_bytes.get() - read.bytes());
        Some(read)
    }

    /// There is one to take.
    pub(super) fn has_next(&self, core_has_room: bool) -> bool {
        self.place_of_next(core_has_room).is_some()
    }

    fn place_of_next(&self, core_has_room: bool) -> Option<usize> {
        self.held.borrow().iter().position(|read| core_has_room || !read.needs_room)
    }

    /// Takes those whose time is over.
    pub(super) fn take_late(&self, now: Instant) -> Vec<Held> {
        let mut held = self.held.borrow_mut();
        let (late, waiting): (VecDeque<_>, _) = held.drain(..).partition(|read| read.deadline <= now);
        *held = waiting;
        self.count(held.iter().map(Held::bytes).sum());
        late.into()
    }

    /// When the first of them must be taken.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.held.borrow().iter().map(|read| read.deadline).min()
    }

    /// Reads that are held back.
    pub(super) fn held_count(&self) -> usize {
        self.held.borrow().len()
    }

    /// What they take. Unit: bytes.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// There is room for what else the client may ask for.
    pub(super) fn has_room(&self) -> bool {
        self.held_bytes.get() <= HELD_BYTES_MAX
    }

    fn count(&self, bytes: usize) {
        self.total.set(self.total.get() - self.held_bytes.replace(bytes) + bytes);
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::limits::READ_PAUSE_BYTES;
    use super::*;
    use crate::call::CallKind;
    use crate::types::ShardId;

    fn held(id: u64, deadline: Instant, payload: usize) -> Held {
        let call = Call::borrowed(ShardId::new(0), CallKind::Read, 90, &vec![7; payload]).into_owned();
        Held { id, deadline, call, needs_room: false }
    }

    /// Begins as many reads as may be under way.
    fn begin_all(reads: &Reads, queued_bytes: usize) -> usize {
        let mut count = 0;
        while reads.may_begin(queued_bytes, READ_PAUSE_BYTES) {
            reads.began();
            count += 1;
        }
        count
    }

    #[test]
    fn few_reads_are_begun_until_their_answers_are_known_to_be_small() {
        let reads = Reads::new(HeldTotal::default());
        let first = begin_all(&reads, 0);
        assert_eq!(first, READ_PAUSE_BYTES / ANSWER_EXPECTED_BYTES_FIRST);
        (0..first).for_each(|_| reads.ended(100));
        (0..begin_all(&reads, 0)).for_each(|_| reads.ended(100));
        assert_eq!(begin_all(&reads, 0), READ_PAUSE_BYTES / ANSWER_EXPECTED_BYTES_MIN, "after two rounds");
    }

    #[test]
    fn whoever_takes_no_large_answers_has_no_further_reads_begun() {
        const LARGE: usize = 1_400_000;
        let reads = Reads::new(HeldTotal::default());
        let first = begin_all(&reads, 0);
        (0..first).for_each(|_| reads.ended(LARGE));
        assert_eq!(begin_all(&reads, first * LARGE), 0);
        let next = begin_all(&reads, 0);
        assert!((1..=4).contains(&next), "{next}");
        (0..next).for_each(|_| reads.ended(LARGE));
        assert!(reads.may_begin(0, 0), "one is always begun for a client that has taken everything");
    }

    #[test]
    fn what_is_held_back_leaves_in_its_order_or_when_its_time_is_over() {
        let (total, now) = (HeldTotal::default(), Instant::now());
        let reads = Reads::new(Rc::clone(&total));
        for id in 0..4 {
            reads.hold(held(id, now + Duration::from_secs(id % 2), 10)).expect("room");
        }
        assert_eq!((reads.held_count(), total.get()), (4, 4 * (HELD_READ_BYTES + 10)));
        assert_eq!(reads.first_deadline(), Some(now));
        assert_eq!(reads.take_late(now).iter().map(|read| read.id).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((reads.take(true).map(|read| read.id), total.get()), (Some(1), HELD_READ_BYTES + 10));
        drop(reads);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn those_that_need_room_on_their_core_let_others_pass_until_there_is_some() {
        let now = Instant::now();
        let reads = Reads::new(HeldTotal::default());
        for id in 0..4 {
            reads.hold(Held { needs_room: id % 2 == 0, ..held(id, now, 10) }).expect("room");
        }
        let next = |core_has_room| reads.take(core_has_room).map(|read| read.id);
        assert_eq!([next(false), next(true), next(false), next(false)], [Some(1), Some(0), Some(3), None]);
        assert!(!reads.has_next(false) && reads.has_next(true));
    }

    #[test]
    fn one_connection_fills_its_own_room_and_all_together_that_of_the_core() {
        let (total, now) = (HeldTotal::default(), Instant::now());
        let reads = Reads::new(Rc::clone(&total));
        while reads.has_room() {
            reads.hold(held(1, now, 1_000)).expect("room");
        }
        assert!(total.get() <= HELD_BYTES_MAX + HELD_READ_BYTES + 1_000);
        let others = Reads::new(Rc::clone(&total));
        while others.hold(held(2, now, 1_000)).is_ok() {}
        assert!((HELD_CORE_BYTES_MAX - 2_000..=HELD_CORE_BYTES_MAX).contains(&total.get()));
        assert!(reads.take(true).is_some() && others.hold(held(2, now, 1_000)).is_ok(), "what leaves makes room");
    }
}
