//! The search itself: orders that respect real time, tried depth first, and what has failed before is not tried again.
//!
//! Knows steps, what each needs and what each makes of its keys; nothing of operations, requests or answers (`problem`).

use std::collections::BTreeMap;

use super::problem::{ABSENT, Cell, Part, Pre, Problem};

/// Steps of the found prefix that a dead end shows, at most.
const SHOWN_MAX: usize = 8;

/// A present value that nobody has yet to see: any two such states allow the same.
const SPENT: Cell = Cell::MAX;

/// How a search ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An order was found.
    Found(Vec<Placed>),
    /// There is none.
    Refuted(DeadEnd),
    /// The limit was reached.
    GaveUp,
}

/// An element of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// A step.
    Step(u32),
    /// An operation of unknown outcome that nobody asks for by name.
    Unasked,
}

/// The longest prefix of an order that was found, and what could not follow it.
#[derive(Debug, Default)]
pub(super) struct DeadEnd {
    /// Steps in the prefix.
    pub placed_count: usize,
    /// The last ones, in order.
    pub last: Vec<u32>,
    /// What each key holds after it.
    pub state: Vec<Cell>,
    /// Steps of which one had to be next.
    pub stuck: Vec<u32>,
}

/// What may come next in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Move {
    /// A step.
    Place(u32),
    /// A delete of unknown outcome takes effect on a key.
    Vanish(u32),
    /// A write of unknown outcome that nobody saw takes effect: one of a group.
    Appear(u32),
}

/// What takes a change back.
#[derive(Clone, Copy, Debug)]
enum Undo {
    /// A step was placed; the highest step placed before.
    Lift(u32, u32),
    /// A key held this.
    State(u32, Cell),
    /// A delete of unknown outcome was used up.
    Vanish(u32),
    /// A write of unknown outcome was used up.
    Appear(u32),
}

/// A prefix whose continuations are being tried.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Length of the trail at this prefix.
    trail_len: usize,
    /// Its moves start here in the stack of moves; those tried are taken off.
    moves_start: usize,
    /// Its place in what is remembered.
    number: usize,
    /// Keys of the move that is being tried.
    chosen: Keys,
    /// Keys because of which the moves so far have failed.
    conflict: Keys,
}

/// A set of keys, one bit each. Where there are more keys than bits some share one, which makes sets larger: that is safe.
type Keys = u128;

fn bit(key: u32) -> Keys {
    1 << (key % Keys::BITS)
}

/// Looks for an order of all steps.
///
/// Calls and returns form one doubly linked list in order of time, in which only what is not yet placed is left (Wing and Gong
/// 1993, in Lowe's form); what may come next stands before the first return. Prefixes of equal steps and equal state have
/// equal futures, so each is tried once (Lowe 2017). Three rules keep good histories near linear:
///
/// * A step that only reads and holds now is placed now: no continuation needs it later.
/// * A value is written once. One that some step has still to see is not overwritten: it would never come back.
/// * Values that nobody has still to see are the same in what is remembered.
/// * Each failure is put down to some keys: steps that had to be next needed something else there. Until some move about one of
///   these keys is changed, all fails again; so the others are not tried (backjumping, as in constraint solving).
///
/// Returns how it ended and how many prefixes it looked at.
pub(super) fn explore(problem: &Problem, steps_limit: u64) -> (Outcome, u64) {
    let mut explorer = Explorer::new(problem);
    let outcome = explorer.run(steps_limit);
    (outcome, explorer.visited_count)
}

struct Explorer<'a> {
    problem: &'a Problem,
    /// Links of calls (entry = step), returns (entry = count + step) and the head (entry = twice the count).
    next: Vec<u32>,
    previous: Vec<u32>,
    /// What each key holds.
    state: Vec<Cell>,
    /// By cell: steps not yet placed that need to see it.
    awaited: Vec<u32>,
    vanished: Vec<u32>,
    appeared: Vec<u32>,
    placed_count: usize,
    /// One more than the highest step placed.
    placed_end: u32,
    trail: Vec<Undo>,
    frames: Vec<Frame>,
    moves: Vec<Move>,
    /// Steps that may be next by real time, whether or not the state allows it.
    candidates: Vec<u32>,
    /// Prefixes looked at, by number.
    seen: BTreeMap<Box<[u32]>, usize>,
    /// By that number: the keys because of which a prefix has no continuation.
    conflicts: Vec<Keys>,
    scratch: Vec<u32>,
    dead_end: DeadEnd,
    visited_count: u64,
}

impl<'a> Explorer<'a> {
    fn new(problem: &'a Problem) -> Self {
        let count = problem.steps.len();
        let number = |n: usize| u32::try_from(n).expect("fewer than 2^31 operations");
        let mut events: Vec<(u64, u32)> = Vec::with_capacity(2 * count);
        for (at, step) in problem.steps.iter().enumerate() {
            events.push((step.called_us, number(at)));
            events.push((step.returned_us, number(count + at)));
        }
        // At one instant calls come first: what touches is concurrent.
        events.sort_unstable();
        let head = number(2 * count);
        let mut next = vec![head; 2 * count + 1];
        let mut previous = next.clone();
        let mut last = head;
        for &(_, entry) in &events {
            next[last as usize] = entry;
            previous[entry as usize] = last;
            last = entry;
        }
        previous[head as usize] = last;
        let mut awaited = vec![0; problem.cells_count];
        for part in &problem.parts {
            if let Pre::Is(cell) = part.pre {
                awaited[cell as usize] += 1;
            }
        }
        Self {
            problem,
            next,
            previous,
            state: vec![ABSENT; problem.keys_count],
            awaited,
            vanished: vec![0; problem.keys_count],
            appeared: vec![0; problem.appear.len()],
            placed_count: 0,
            placed_end: 0,
            trail: Vec::new(),
            frames: Vec::new(),
            moves: Vec::new(),
            candidates: Vec::new(),
            seen: BTreeMap::new(),
            conflicts: Vec::new(),
            scratch: Vec::new(),
            dead_end: DeadEnd::default(),
            visited_count: 0,
        }
    }

    fn run(&mut self, steps_limit: u64) -> Outcome {
        loop {
            self.visited_count += 1;
            let horizon_us = self.absorb();
            if self.placed_count == self.problem.steps.len() {
                return Outcome::Found(self.order());
            }
            if self.visited_count > steps_limit {
                return Outcome::GaveUp;
            }
            let failed = match self.remember() {
                Err(number) => Some(self.conflicts[number]),
                Ok(number) => {
                    self.enter(number, horizon_us);
                    None
                }
            };
            if !self.back_up(failed) {
                return Outcome::Refuted(std::mem::take(&mut self.dead_end));
            }
            let chosen = self.moves.pop().expect("the prefix has moves left");
            let keys = self.keys_of(chosen);
            if let Some(frame) = self.frames.last_mut() {
                frame.chosen = keys;
            }
            self.make(chosen);
        }
    }

    /// A new prefix is to be continued.
    fn enter(&mut self, number: usize, horizon_us: u64) {
        let moves_start = self.moves.len();
        self.push_moves(horizon_us);
        if self.moves.len() == moves_start {
            self.note_dead_end();
        }
        let conflict = self.blocked();
        self.frames.push(Frame { trail_len: self.trail.len(), moves_start, number, chosen: 0, conflict });
    }

    /// Goes back to the deepest prefix that has a move left which could matter. Returns false if there is none.
    fn back_up(&mut self, mut failed: Option<Keys>) -> bool {
        while let Some(frame) = self.frames.last_mut() {
            let mut is_hopeless = false;
            if let Some(conflict) = failed {
                is_hopeless = conflict & frame.chosen == 0;
                frame.conflict = if is_hopeless { conflict } else { frame.conflict | conflict };
            }
            if !is_hopeless && self.moves.len() > frame.moves_start {
                let trail_len = frame.trail_len;
                self.undo(trail_len);
                return true;
            }
            self.moves.truncate(frame.moves_start);
            self.conflicts[frame.number] = frame.conflict;
            failed = Some(frame.conflict);
            self.frames.pop();
        }
        false
    }

    /// Keys because of which steps that may be next by real time are not allowed: one for each of them.
    fn blocked(&self) -> Keys {
        let mut blocked: Keys = 0;
        for &step in &self.candidates {
            let mut failing = self.problem.parts_of(step).iter().filter(|part| !self.is_part_allowed(part));
            if let Some(first) = failing.next()
                && blocked & bit(first.key) == 0
                && failing.all(|part| blocked & bit(part.key) == 0)
            {
                blocked |= bit(first.key);
            }
        }
        // Writes of unknown outcome to several keys tie these together.
        loop {
            let before = blocked;
            for appear in self.problem.appear.iter().filter(|appear| appear.keys.len() > 1) {
                let keys = appear.keys.iter().fold(0, |keys, &key| keys | bit(key));
                blocked |= if blocked & keys == 0 { 0 } else { keys };
            }
            if blocked == before {
                return blocked;
            }
        }
    }

    fn keys_of(&self, chosen: Move) -> Keys {
        match chosen {
            Move::Place(step) => self.problem.parts_of(step).iter().fold(0, |keys, part| keys | bit(part.key)),
            Move::Vanish(key) => bit(key),
            Move::Appear(group) => {
                self.problem.appear[group as usize].keys.iter().fold(0, |keys, &key| keys | bit(key))
            }
        }
    }

    /// Places whatever only reads and holds; collects what else may be next. Returns the first return that is left.
    fn absorb(&mut self) -> u64 {
        let count = self.problem.steps.len();
        let mut last = 2 * count;
        self.candidates.clear();
        loop {
            let entry = self.next[last] as usize;
            if entry >= count {
                return self.problem.steps.get(entry - count).map_or(u64::MAX, |step| step.returned_us);
            }
            let step = self.next[last];
            if self.problem.steps[entry].only_reads && self.is_allowed(step) {
                self.lift(step);
            } else {
                self.candidates.push(step);
                last = entry;
            }
        }
    }

    /// Whether this prefix is new: what is placed, told by the last step placed and those before it that are not, and what
    /// the state allows. Returns its number; as an error if it is not new.
    fn remember(&mut self) -> Result<usize, usize> {
        let key = &mut self.scratch;
        key.clear();
        key.extend([self.placed_end, 0]);
        key.extend(self.candidates.iter().take_while(|&&step| step < self.placed_end));
        key[1] = u32::try_from(key.len()).expect("few at a time");
        for &at in &self.problem.keys {
            let cell = self.state[at as usize];
            let is_spent = cell != ABSENT && (cell == SPENT || self.awaited[cell as usize] == 0);
            key.push(if is_spent { SPENT } else { cell });
            if !self.problem.vanish[at as usize].is_empty() {
                key.push(self.vanished[at as usize]);
            }
        }
        key.extend(&self.appeared);
        if let Some(&number) = self.seen.get(&key[..]) {
            return Err(number);
        }
        let number = self.conflicts.len();
        self.conflicts.push(0);
        self.seen.insert(key.as_slice().into(), number);
        Ok(number)
    }

    /// Collects the moves of this prefix, the most promising last.
    fn push_moves(&mut self, horizon_us: u64) {
        let start = self.moves.len();
        for (group, appear) in self.problem.appear.iter().enumerate() {
            let is_left = appear.calls.get(self.appeared[group] as usize).is_some_and(|call_us| *call_us <= horizon_us);
            let is_free = appear.keys.iter().all(|&key| self.may_overwrite(key, Pre::Any));
            let is_of_use = match appear.keys[..] {
                [key] => self.state[key as usize] == ABSENT && self.is_wanted(key, Pre::Present),
                _ => appear.keys.iter().any(|&key| self.state[key as usize] == ABSENT),
            };
            if is_left && is_free && is_of_use {
                self.moves.push(Move::Appear(u32::try_from(group).expect("few")));
            }
        }
        for &key in &self.problem.keys {
            let at = key as usize;
            let is_left =
                self.problem.vanish[at].get(self.vanished[at] as usize).is_some_and(|call_us| *call_us <= horizon_us);
            if is_left
                && self.state[at] != ABSENT
                && self.may_overwrite(key, Pre::Any)
                && self.is_wanted(key, Pre::Is(ABSENT))
            {
                self.moves.push(Move::Vanish(key));
            }
        }
        for at in 0..self.candidates.len() {
            let step = self.candidates[at];
            if self.is_allowed(step) {
                self.moves.push(Move::Place(step));
            }
        }
        let mut moves = self.moves.split_off(start);
        moves.sort_by_cached_key(|chosen| std::cmp::Reverse(self.rank(*chosen)));
        self.moves.append(&mut moves);
    }

    /// Lower is tried earlier. With a guide: what comes first in it, and what an unknown outcome explains, when that is due.
    /// Without: what nobody sees goes under what is there, then what must be placed soonest, and unknown outcomes last.
    fn rank(&self, chosen: Move) -> (bool, u64, Move) {
        let ranks = &self.problem.ranks;
        let due = |keys: &[u32], pre: Pre| {
            let wants = |&&step: &&u32| {
                self.problem.parts_of(step).iter().any(|part| keys.contains(&part.key) && part.pre == pre)
            };
            let guided = |&step: &u32| ranks.get(step as usize).copied();
            self.candidates.iter().filter(wants).filter_map(guided).min().unwrap_or(u64::MAX)
        };
        match chosen {
            Move::Place(step) if !ranks.is_empty() => (true, ranks[step as usize], chosen),
            Move::Place(step) => (!self.is_unseen(step), self.problem.steps[step as usize].returned_us, chosen),
            Move::Vanish(key) => (true, due(&[key], Pre::Is(ABSENT)), chosen),
            Move::Appear(group) => (true, due(&self.problem.appear[group as usize].keys, Pre::Present), chosen),
        }
    }

    /// It may as well come right now: nobody has to see what it writes, nor what it overwrites.
    fn is_unseen(&self, step: u32) -> bool {
        self.problem.parts_of(step).iter().all(|part| {
            part.pre == Pre::Any
                && self.state[part.key as usize] != ABSENT
                && part.post.is_some_and(|cell| self.awaited[cell as usize] == 0)
        })
    }

    /// Some step that may be next needs this of a key.
    fn is_wanted(&self, key: u32, pre: Pre) -> bool {
        let wants = |&step: &u32| self.problem.parts_of(step).iter().any(|part| part.key == key && part.pre == pre);
        self.candidates.iter().any(wants)
    }

    /// The state is what the step needs, and it destroys nothing that is needed later.
    fn is_allowed(&self, step: u32) -> bool {
        self.problem.parts_of(step).iter().all(|part| self.is_part_allowed(part))
    }

    fn is_part_allowed(&self, part: &Part) -> bool {
        let cell = self.state[part.key as usize];
        let holds = match part.pre {
            Pre::Any => true,
            Pre::Present => cell != ABSENT,
            Pre::Is(needed) => cell == needed,
        };
        holds && (part.post.is_none() || self.may_overwrite(part.key, part.pre))
    }

    /// Nobody but the overwriter has still to see what the key holds.
    fn may_overwrite(&self, key: u32, pre: Pre) -> bool {
        let cell = self.state[key as usize];
        cell == ABSENT || cell == SPENT || self.awaited[cell as usize] == u32::from(pre == Pre::Is(cell))
    }

    fn make(&mut self, chosen: Move) {
        match chosen {
            Move::Place(step) => self.lift(step),
            Move::Vanish(key) => {
                self.set(key, ABSENT);
                self.vanished[key as usize] += 1;
                self.trail.push(Undo::Vanish(key));
            }
            Move::Appear(group) => {
                for &key in &self.problem.appear[group as usize].keys {
                    self.set(key, SPENT);
                }
                self.appeared[group as usize] += 1;
                self.trail.push(Undo::Appear(group));
            }
        }
    }

    fn set(&mut self, key: u32, cell: Cell) {
        let before = std::mem::replace(&mut self.state[key as usize], cell);
        self.trail.push(Undo::State(key, before));
    }

    /// Places a step: takes it out of the list, and does what it does.
    fn lift(&mut self, step: u32) {
        let problem = self.problem;
        for part in problem.parts_of(step) {
            if let Pre::Is(cell) = part.pre {
                self.awaited[cell as usize] -= 1;
            }
            if let Some(cell) = part.post {
                self.set(part.key, cell);
            }
        }
        for entry in [step as usize, problem.steps.len() + step as usize] {
            let (before, after) = (self.previous[entry], self.next[entry]);
            self.next[before as usize] = after;
            self.previous[after as usize] = before;
        }
        self.trail.push(Undo::Lift(step, self.placed_end));
        self.placed_end = self.placed_end.max(step + 1);
        self.placed_count += 1;
    }

    /// Takes back whatever was done since the trail had this length.
    fn undo(&mut self, trail_len: usize) {
        let problem = self.problem;
        for done in self.trail.drain(trail_len..).rev() {
            match done {
                Undo::State(key, cell) => self.state[key as usize] = cell,
                Undo::Vanish(key) => self.vanished[key as usize] -= 1,
                Undo::Appear(group) => self.appeared[group as usize] -= 1,
                Undo::Lift(step, placed_end) => {
                    self.placed_end = placed_end;
                    self.placed_count -= 1;
                    for entry in [problem.steps.len() + step as usize, step as usize] {
                        let (before, after) = (self.previous[entry], self.next[entry]);
                        let entry = u32::try_from(entry).expect("fewer than 2^31 operations");
                        self.next[before as usize] = entry;
                        self.previous[after as usize] = entry;
                    }
                    for part in problem.parts_of(step) {
                        if let Pre::Is(cell) = part.pre {
                            self.awaited[cell as usize] += 1;
                        }
                    }
                }
            }
        }
    }

    /// What was placed.
    fn order(&self) -> Vec<Placed> {
        let placed = self.trail.iter().filter_map(|done| match done {
            Undo::Lift(step, _) => Some(Placed::Step(*step)),
            Undo::Vanish(_) | Undo::Appear(_) => Some(Placed::Unasked),
            Undo::State(..) => None,
        });
        placed.collect()
    }

    fn note_dead_end(&mut self) {
        if self.placed_count < self.dead_end.placed_count {
            return;
        }
        let placed = self.trail.iter().rev().filter_map(|done| match done {
            Undo::Lift(step, _) => Some(*step),
            Undo::State(..) | Undo::Vanish(_) | Undo::Appear(_) => None,
        });
        let mut last: Vec<u32> = placed.take(SHOWN_MAX).collect();
        last.reverse();
        let (state, stuck) = (self.state.clone(), self.candidates.clone());
        self.dead_end = DeadEnd { placed_count: self.placed_count, last, state, stuck };
    }
}
