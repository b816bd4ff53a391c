//! Merges the orders that were found for each key into one that the search over all keys tries first.
//!
//! A guess, not a proof: keys were ordered without regard to each other, and where their orders contradict, this picks one.

use std::collections::BTreeSet;

use super::explore::Placed;
use super::problem::Problem;

/// What was found for one key: its writes number stretches of time, in each of which some steps read.
#[derive(Default)]
struct KeyOrder {
    /// Reads of each stretch that are not yet placed.
    reads_left: Vec<u32>,
    /// The stretch begins without a step: with a write of unknown outcome.
    is_unasked: Vec<bool>,
    /// The stretch that was reached.
    current: usize,
}

impl KeyOrder {
    fn is_ready(&self, stretch: usize, only_reads: bool) -> bool {
        let is_next = stretch == self.current + 1 && self.reads_left[self.current] == 0;
        stretch <= self.current || (is_next && !only_reads)
    }

    fn place(&mut self, stretch: usize, only_reads: bool) {
        if only_reads {
            self.reads_left[stretch] -= 1;
        } else {
            self.current = self.current.max(stretch);
        }
        self.pass_unasked();
    }

    fn pass_unasked(&mut self) {
        while self.reads_left[self.current] == 0 && self.is_unasked.get(self.current + 1) == Some(&true) {
            self.current += 1;
        }
    }
}

/// The place of each step in one order of all of them. `orders` are those of the keys, `problems` what they are orders of.
pub(super) fn merge(problem: &Problem, problems: &[Problem], orders: &[Vec<Placed>]) -> Vec<u64> {
    let mut stretches = vec![0; problem.parts.len()];
    let mut keys: Vec<KeyOrder> = Vec::with_capacity(orders.len());
    for (by_key, order) in problems.iter().zip(orders) {
        let mut key = KeyOrder { reads_left: vec![0], is_unasked: vec![false], current: 0 };
        for placed in order {
            let step = match placed {
                Placed::Step(step) => Some(*step),
                Placed::Unasked => None,
            };
            let only_reads = step.is_some_and(|step| by_key.steps[step as usize].only_reads);
            if !only_reads {
                key.reads_left.push(0);
                key.is_unasked.push(step.is_none());
            }
            if let Some(step) = step {
                let stretch = key.reads_left.len() - 1;
                key.reads_left[stretch] += u32::from(only_reads);
                stretches[by_key.origins[step as usize] as usize] = stretch;
            }
        }
        key.pass_unasked();
        keys.push(key);
    }
    let mut ranks = vec![0; problem.steps.len()];
    let mut open: BTreeSet<(u64, u32)> = BTreeSet::new();
    let mut waiting = (0..).zip(&problem.steps).peekable();
    for rank in 0..problem.steps.len() as u64 {
        let is_concurrent = |open: &BTreeSet<(u64, u32)>, called_us: u64| {
            open.first().is_none_or(|(returned_us, _)| called_us <= *returned_us)
        };
        while let Some((step, next)) = waiting.next_if(|(_, next)| is_concurrent(&open, next.called_us)) {
            open.insert((next.returned_us, step));
        }
        let is_ready = |&&(_, step): &&(u64, u32)| {
            problem
                .numbered_parts_of(step)
                .all(|(number, part)| keys[part.key as usize].is_ready(stretches[number], part.post.is_none()))
        };
        let Some(&chosen) = open.iter().find(is_ready).or_else(|| open.first()) else { break };
        open.remove(&chosen);
        let (_, step) = chosen;
        for (number, part) in problem.numbered_parts_of(step) {
            keys[part.key as usize].place(stretches[number], part.post.is_none());
        }
        ranks[step as usize] = rank;
    }
    ranks
}
