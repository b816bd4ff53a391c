//! Narrows the times between which steps can have taken effect, by what follows without a search.
//!
//! Narrowing is sound, not complete: every order that explains the history fits, others may, too. It is what makes the search over
//! all keys short: a step about several keys is narrowed by what happened at each of them.

use super::problem::{ABSENT, Cell, Pre, Problem};

/// Times that narrowing goes over everything, at most. Unit: rounds.
const ROUNDS_MAX: usize = 4;

/// A value with those that saw it: from its write to the last of them nothing else is written there.
struct Block {
    cell: Cell,
    writer: usize,
    /// The last of them was not before this. Unit: us.
    seen_from_us: u64,
}

struct Bounds {
    /// By step: it took effect then or later. Unit: us.
    from_us: Vec<u64>,
    /// By step: it took effect then or earlier. Unit: us.
    to_us: Vec<u64>,
    has_changed: bool,
}

impl Bounds {
    fn raise(&mut self, step: usize, from_us: u64) {
        self.has_changed |= from_us > self.from_us[step];
        self.from_us[step] = self.from_us[step].max(from_us);
    }

    fn lower(&mut self, step: usize, to_us: u64) {
        self.has_changed |= to_us < self.to_us[step];
        self.to_us[step] = self.to_us[step].min(to_us);
    }
}

/// Narrows the bounds of all steps. If nothing is left of some, there is no order; then all is left as it was, for the search to
/// show where it ends.
pub(super) fn narrow(problem: &mut Problem) {
    let mut bounds = Bounds {
        from_us: problem.steps.iter().map(|step| step.called_us).collect(),
        to_us: problem.steps.iter().map(|step| step.returned_us).collect(),
        has_changed: true,
    };
    let mut writers = vec![usize::MAX; problem.cells_count];
    let mut writes: Vec<Vec<usize>> = vec![Vec::new(); problem.keys_count];
    let mut reads: Vec<(u32, Cell, usize)> = Vec::new();
    for (at, numbered) in (0..problem.steps.len()).zip(0..) {
        for part in problem.parts_of(numbered) {
            if let Pre::Is(cell) = part.pre
                && cell != ABSENT
            {
                reads.push((part.key, cell, at));
            }
            if let Some(cell) = part.post {
                writers[cell as usize] = at;
                writes[part.key as usize].push(at);
            }
        }
    }
    reads.sort_unstable();
    for _ in 0..ROUNDS_MAX {
        if !std::mem::take(&mut bounds.has_changed) {
            break;
        }
        for &(_, cell, reader) in &reads {
            let writer = writers[cell as usize];
            bounds.raise(reader, bounds.from_us[writer]);
            bounds.lower(writer, bounds.to_us[reader]);
        }
        for at_key in reads.chunk_by(|a, b| a.0 == b.0) {
            narrow_key(&mut bounds, &writes[at_key[0].0 as usize], at_key, &writers);
        }
    }
    if bounds.from_us.iter().zip(&bounds.to_us).any(|(from_us, to_us)| from_us > to_us) {
        return;
    }
    for (at, step) in problem.steps.iter_mut().enumerate() {
        (step.called_us, step.returned_us) = (bounds.from_us[at], bounds.to_us[at]);
    }
    problem.steps.sort_by_key(|step| step.called_us);
}

/// Another write of the key comes before a block or after it. If it cannot be before all of it, it is after all of it, and the
/// other way round.
fn narrow_key(bounds: &mut Bounds, writes: &[usize], reads: &[(u32, Cell, usize)], writers: &[usize]) {
    let mut blocks: Vec<Block> = Vec::new();
    for seen in reads.chunk_by(|a, b| a.1 == b.1) {
        let seen_from_us = seen.iter().map(|(.., reader)| bounds.from_us[*reader]).max().unwrap_or(0);
        let cell = seen[0].1;
        blocks.push(Block { cell, writer: writers[cell as usize], seen_from_us });
    }
    // Writes after a block's: they are after its reads.
    let after = least_after(writes.iter().map(|&write| (bounds.from_us[write], bounds.to_us[write])));
    for (block, seen) in blocks.iter().zip(reads.chunk_by(|a, b| a.1 == b.1)) {
        debug_assert_eq!(block.cell, seen[0].1);
        let to_us = after.beyond(bounds.to_us[block.writer]);
        seen.iter().for_each(|(.., reader)| bounds.lower(*reader, to_us));
    }
    let before = greatest_before(blocks.iter().map(|block| (bounds.to_us[block.writer], block.seen_from_us)));
    writes.iter().for_each(|&write| bounds.raise(write, before.below(bounds.from_us[write])));
    // Writes before a block's last read: they are before its write.
    let before = greatest_before(writes.iter().map(|&write| (bounds.to_us[write], bounds.from_us[write])));
    blocks.iter().for_each(|block| bounds.raise(block.writer, before.below(block.seen_from_us)));
    let after = least_after(blocks.iter().map(|block| (block.seen_from_us, bounds.to_us[block.writer])));
    writes.iter().for_each(|&write| bounds.lower(write, after.beyond(bounds.to_us[write])));
}

/// Pairs in order of their first, with the least or greatest second among those from there on or up to there.
struct Extremes(Vec<(u64, u64)>);

fn least_after(pairs: impl Iterator<Item = (u64, u64)>) -> Extremes {
    let mut sorted: Vec<(u64, u64)> = pairs.collect();
    sorted.sort_unstable();
    let mut least = u64::MAX;
    for (_, second) in sorted.iter_mut().rev() {
        least = least.min(*second);
        *second = least;
    }
    Extremes(sorted)
}

fn greatest_before(pairs: impl Iterator<Item = (u64, u64)>) -> Extremes {
    let mut sorted: Vec<(u64, u64)> = pairs.collect();
    sorted.sort_unstable();
    let mut greatest = 0;
    for (_, second) in &mut sorted {
        greatest = greatest.max(*second);
        *second = greatest;
    }
    Extremes(sorted)
}

impl Extremes {
    /// The least second of those with a greater first.
    fn beyond(&self, first: u64) -> u64 {
        let at = self.0.partition_point(|pair| pair.0 <= first);
        self.0.get(at).map_or(u64::MAX, |pair| pair.1)
    }

    /// The greatest second of those with a lesser first.
    fn below(&self, first: u64) -> u64 {
        let at = self.0.partition_point(|pair| pair.0 < first);
        self.0[..at].last().map_or(0, |pair| pair.1)
    }
}
