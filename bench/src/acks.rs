//! What became of every write a worker sent, kept as ranges of sequence numbers.
//!
//! A worker of a closed loop has one write in flight and numbers its writes 0, 1, 2, … so outcomes arrive in order and
//! the acknowledged ones form long runs: memory grows with the number of failures, not of writes. It does not know keys
//! or values; `keys` maps (worker, sequence) to them and `check` compares them with what a node holds.

/// A set of sequence numbers that only grows at its end.
///
/// Invariant: ranges are non-empty, ascending, and neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceSet {
    ranges: Vec<SequenceRange>,
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SequenceRange {
    first: u64,
    /// One past the last.
    end: u64,
}

impl SequenceSet {
    /// Adds `sequence`, which must be above everything added before.
    ///
    /// # Panics
    /// When it is not: the worker would have mixed up its own numbering.
    pub fn push(&mut self, sequence: u64) {
        match self.ranges.last_mut() {
            Some(last) if last.end == sequence => last.end += 1,
            Some(last) => {
                assert!(sequence > last.end, "sequence {sequence} after {}", last.end);
                self.ranges.push(SequenceRange { first: sequence, end: sequence + 1 });
            }
            None => self.ranges.push(SequenceRange { first: sequence, end: sequence + 1 }),
        }
        self.count += 1;
    }

    /// Whether `sequence` was added.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        let following = self.ranges.partition_point(|range| range.first <= sequence);
        following.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|range| sequence < range.end)
    }

    /// How many sequence numbers are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many separate runs they form; memory is proportional to this.
    #[cfg(test)]
    fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The highest, if there is one.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.end - 1)
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges.iter().flat_map(|range| range.first..range.end)
    }
}

/// Outcomes of one worker's writes.
///
/// Invariant: `acknowledged` and `unknown` are disjoint and below `sent_count`; every other number below it was refused,
/// which promises that the write took no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerWrites {
    /// Writes sent; their sequence numbers are `0..sent_count`.
    pub sent_count: u64,
    /// Writes the cluster acknowledged: they must be there.
    pub acknowledged: SequenceSet,
    /// Writes whose outcome is unknown: they may be there.
    pub unknown: SequenceSet,
}

/// Outcomes of all writes of a load, by worker number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadWrites {
    /// Index: worker number.
    pub workers: Vec<WorkerWrites>,
}

impl LoadWrites {
    /// Writes acknowledged by all workers together.
    #[must_use]
    pub fn acknowledged_count(&self) -> u64 {
        self.workers.iter().map(|worker| worker.acknowledged.count()).sum()
    }

    /// Writes of unknown outcome of all workers together.
    #[must_use]
    pub fn unknown_count(&self) -> u64 {
        self.workers.iter().map(|worker| worker.unknown.count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_equals_the_plain_set_of_what_was_pushed(steps in prop::collection::vec(0u64..4, 0..300)) {
            let mut set = SequenceSet::default();
            let mut model = BTreeSet::new();
            let mut sequence = 0;
            for step in steps {
                sequence += step;
                set.push(sequence);
                model.insert(sequence);
                sequence += 1;
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!((set.count(), set.last()), (model.len() as u64, model.last().copied()));
            for probe in 0..sequence + 3 {
                prop_assert_eq!(set.contains(probe), model.contains(&probe));
            }
            let runs = model.iter().filter(|&&first| first == 0 || !model.contains(&(first - 1))).count();
            prop_assert_eq!(set.range_count(), runs);
        }
    }

    #[test]
    fn a_million_acknowledgements_in_order_are_one_range() {
        let mut set = SequenceSet::default();
        (0..1_000_000).for_each(|sequence| set.push(sequence));
        assert_eq!((set.range_count(), set.count()), (1, 1_000_000));
    }

    #[test]
    #[should_panic(expected = "sequence 3 after 6")]
    fn a_sequence_out_of_order_is_refused() {
        let mut set = SequenceSet::default();
        set.push(5);
        set.push(3);
    }
}
