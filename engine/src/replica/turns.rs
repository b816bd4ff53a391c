//! Decides whose read is begun next: that of the asker who was answered least lately.
//!
//! One asker (a client's connection, a peer) may send thousands of reads with large answers at once. Served in the order of arrival,
//! everybody else would wait for all of them. So an asker is charged for what it is answered, and its charge fades with time. The asker
//! with the lowest charge goes first; askers with equal charges take turns. This knows nothing of what is read, and bounds nothing: the
//! replica does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::call::{Asker, Call, Origin};
use crate::limits::{ASKERS_KEPT_MAX, CHARGE_FADES_EVERY_TICKS, CHARGE_FORGOTTEN_BYTES};

/// A read.
#[derive(Debug)]
pub(super) struct Read {
    pub origin: Origin,
    pub deadline_tick: u64,
    pub call: Call<'static>,
}

/// Reads that can be answered and have had no slice yet, by asker.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: BTreeMap<Asker, Line>,
    /// Askers with a read that waits: the least charged first, then the one that has waited longest for a turn.
    order: BTreeSet<(u64, u64, Asker)>,
    len: usize,
    last_number: u64,
    /// When all charges were last halved.
    faded_tick: u64,
}

/// The reads of one asker, in their order, and what it was charged.
#[derive(Debug, Default)]
struct Line {
    reads: VecDeque<Read>,
    /// Unit: bytes.
    charged: u64,
    /// Its place among those with the same charge.
    number: u64,
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a read after the others of its asker.
    pub(super) fn push(&mut self, read: Read) {
        let asker = read.origin.asker();
        let line = self.lines.entry(asker).or_default();
        if line.reads.is_empty() {
            self.last_number += 1;
            line.number = self.last_number;
            self.order.insert((line.charged, line.number, asker));
        }
        line.reads.push_back(read);
        self.len += 1;
    }

    /// Takes the read whose turn it is.
    #[must_use]
    pub(super) fn pop(&mut self) -> Option<Read> {
        let (charged, _, asker) = self.order.pop_first()?;
        let line = self.lines.get_mut(&asker).expect("whoever has a turn has a line");
        let read = line.reads.pop_front().expect("whoever has a turn has a read");
        self.len -= 1;
        if !line.reads.is_empty() {
            self.last_number += 1;
            line.number = self.last_number;
            self.order.insert((charged, line.number, asker));
        } else if charged == 0 && self.lines.len() > ASKERS_KEPT_MAX {
            self.lines.remove(&asker);
        }
        Some(read)
    }

    /// Charges an asker for what it was answered. Unit: bytes.
    pub(super) fn charge(&mut self, asker: Asker, bytes: u64) {
        if self.lines.len() >= ASKERS_KEPT_MAX && !self.lines.contains_key(&asker) {
            return;
        }
        let line = self.lines.entry(asker).or_default();
        let charged = line.charged.saturating_add(bytes);
        if !line.reads.is_empty() {
            self.order.remove(&(line.charged, line.number, asker));
            self.order.insert((charged, line.number, asker));
        }
        line.charged = charged;
    }

    /// Halves all charges from time to time, and forgets askers whose charge is small and who have no read that waits.
    pub(super) fn fade(&mut self, now_tick: u64) {
        if now_tick < self.faded_tick + CHARGE_FADES_EVERY_TICKS {
            return;
        }
        self.faded_tick = now_tick;
        self.lines.retain(|_, line| {
            line.charged /= 2;
            !line.reads.is_empty() || line.charged >= CHARGE_FORGOTTEN_BYTES
        });
        self.put_in_order();
    }

    /// Drops the reads for which `keeps` returns false.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&Read) -> bool) {
        if self.is_empty() {
            return;
        }
        self.lines.values_mut().for_each(|line| line.reads.retain(&mut keeps));
        self.len = self.lines.values().map(|line| line.reads.len()).sum();
        self.put_in_order();
    }

    /// Takes everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Read> {
        std::mem::take(self).lines.into_values().flat_map(|line| line.reads)
    }

    fn put_in_order(&mut self) {
        let waiting = self.lines.iter().filter(|(_, line)| !line.reads.is_empty());
        self.order = waiting.map(|(asker, line)| (line.charged, line.number, *asker)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{CallKind, TICKET_NUMBER_BITS, Ticket};
    use crate::types::ShardId;

    fn read(asker: u64, number: u64) -> Read {
        let call = Call::borrowed(ShardId::new(0), CallKind::Read, 90, &[]);
        let ticket = Ticket(asker << TICKET_NUMBER_BITS | number);
        Read { origin: Origin::Local(ticket), deadline_tick: number, call }
    }

    /// Takes a read and charges it; says whose it was and which.
    fn serve(turns: &mut Turns, bytes: u64) -> Option<(u64, u64)> {
        let read = turns.pop()?;
        turns.charge(read.origin.asker(), bytes);
        let Origin::Local(ticket) = read.origin else { unreachable!("none came from elsewhere") };
        Some((ticket.0 >> TICKET_NUMBER_BITS, read.deadline_tick))
    }

    #[test]
    fn whoever_was_answered_little_goes_before_those_who_were_answered_much_and_goes_on_asking() {
        let mut turns = Turns::default();
        for asker in 1..=300 {
            (0..16).for_each(|number| turns.push(read(asker, number)));
        }
        for asker in 1..=300 {
            assert_eq!(serve(&mut turns, 1_400_000), Some((asker, 0)), "each has a turn before anybody has two");
        }
        for number in 0..1_000 {
            turns.push(read(999, number));
            assert_eq!(serve(&mut turns, 1_000), Some((999, number)), "the small read waits for nobody");
            if number % 100 == 0 {
                assert!(serve(&mut turns, 1_400_000).is_some());
            }
        }
    }

    #[test]
    fn those_who_ask_alike_have_their_turns_one_after_the_other() {
        let mut turns = Turns::default();
        for asker in [1, 2, 3] {
            (0..3).for_each(|number| turns.push(read(asker, number)));
        }
        let served: Vec<_> = std::iter::from_fn(|| serve(&mut turns, 100)).collect();
        let expected: Vec<_> = (0..3).flat_map(|number| [1, 2, 3].map(|asker| (asker, number))).collect();
        assert_eq!(served, expected);
        assert!(turns.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn charges_fade_and_whoever_asks_for_nothing_is_forgotten() {
        let mut turns = Turns::default();
        turns.push(read(1, 0));
        assert!(serve(&mut turns, 64 * CHARGE_FORGOTTEN_BYTES).is_some());
        for tick in 1..7 {
            turns.fade(tick * CHARGE_FADES_EVERY_TICKS - 1);
            turns.fade(tick * CHARGE_FADES_EVERY_TICKS);
            assert_eq!(turns.lines.len(), 1, "tick {tick}");
        }
        turns.fade(7 * CHARGE_FADES_EVERY_TICKS);
        assert!(turns.lines.is_empty());
        turns.push(read(1, 1));
        turns.fade(100 * CHARGE_FADES_EVERY_TICKS);
        assert_eq!((turns.len(), serve(&mut turns, 0)), (1, Some((1, 1))), "whoever waits is not forgotten");
    }

    #[test]
    fn reads_whose_time_is_up_leave_and_nobody_has_a_turn_without_a_read() {
        let mut turns = Turns::default();
        for asker in [1, 2] {
            (0..4).for_each(|number| turns.push(read(asker, number)));
        }
        turns.retain(|read| read.deadline_tick >= 3 && read.origin.asker() == self::read(2, 0).origin.asker());
        assert_eq!((turns.len(), turns.order.len()), (1, 1));
        assert_eq!(serve(&mut turns, 1), Some((2, 3)));
        assert_eq!(serve(&mut turns, 1), None);
        (0..4).for_each(|number| turns.push(read(3, number)));
        assert_eq!(turns.drain().count(), 4);
        assert!(turns.is_empty());
    }

    #[test]
    fn no_more_askers_are_remembered_than_there_is_room_for() {
        let mut turns = Turns::default();
        for asker in 0..3 * ASKERS_KEPT_MAX as u64 {
            turns.push(read(asker, 0));
            assert!(serve(&mut turns, 1_400_000).is_some());
        }
        assert!(turns.lines.len() <= ASKERS_KEPT_MAX + 1);
    }
}
