//! What the search is given: operations, boiled down to what each needs of its keys and what it makes of them.
//!
//! Here unknown outcomes are settled as far as they can be without searching. It does not judge, but refuses what nothing could
//! explain: a value that nobody wrote, an answer that does not answer the question.

use std::collections::BTreeMap;

use crate::testing::history::{Input, Operation};
use api::response::{KeyValue, OpResponse, Response};

/// What a key holds: `ABSENT`, or the number of one value at one key.
pub(super) type Cell = u32;

/// The key is not there.
pub(super) const ABSENT: Cell = 0;

/// Nobody.
const NOBODY: u32 = u32::MAX;

/// What a step needs of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pre {
    /// Nothing.
    Any,
    /// That it is there.
    Present,
    /// Exactly this.
    Is(Cell),
}

/// What a step does with one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The key's number.
    pub key: u32,
    /// What it needs.
    pub pre: Pre,
    /// What it leaves behind; `None` = what was there.
    pub post: Option<Cell>,
}

/// An operation that certainly took effect, at one instant between two.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Its place among the operations.
    pub operation: u32,
    /// The first instant at which it may take effect. Unit: us.
    pub called_us: u64,
    /// The last one: its return, or that of somebody who saw what it wrote. Unit: us.
    pub returned_us: u64,
    /// It changes nothing.
    pub only_reads: bool,
    /// Its parts among all of them.
    parts: (u32, u32),
}

/// Writes of unknown outcome to the same keys, which nobody saw: each may have made its keys present, unseen.
#[derive(Clone, Debug)]
pub(super) struct Appear {
    /// The keys.
    pub keys: Vec<u32>,
    /// When each was called, in order. Unit: us.
    pub calls: Vec<u64>,
}

/// Steps to be ordered.
#[derive(Debug, Default)]
pub(super) struct Problem {
    /// Keys that it is about.
    pub keys: Vec<u32>,
    /// Keys of the shard.
    pub keys_count: usize,
    /// Cells of the shard.
    pub cells_count: usize,
    /// In order of their calls.
    pub steps: Vec<Step>,
    /// Parts of all steps.
    pub parts: Vec<Part>,
    /// By key: when each delete of unknown outcome was called, in order. Unit: us.
    pub vanish: Vec<Vec<u64>>,
    /// Writes of unknown outcome that nobody saw.
    pub appear: Vec<Appear>,
    /// By step, where this is about one key: the part that it was among those of all keys.
    pub origins: Vec<u32>,
    /// By step: its place in an order to be tried first. Empty = none is known.
    pub ranks: Vec<u64>,
}

impl Problem {
    /// What a step does.
    pub(super) fn parts_of(&self, step: u32) -> &[Part] {
        let (start, end) = self.steps[step as usize].parts;
        &self.parts[start as usize..end as usize]
    }

    /// What a step does, with the numbers of its parts.
    pub(super) fn numbered_parts_of(&self, step: u32) -> impl Iterator<Item = (usize, &Part)> {
        let start = self.steps[step as usize].parts.0 as usize;
        (start..).zip(self.parts_of(step))
    }

    /// Something is about several keys: to judge them one by one is not enough.
    pub(super) fn is_coupled(&self) -> bool {
        self.steps.iter().any(|step| step.parts.1 - step.parts.0 > 1)
            || self.appear.iter().any(|appear| appear.keys.len() > 1)
    }

    /// What is left of it at each key by itself.
    ///
    /// An order of all steps is an order of each key's parts, with the same instants: if a key's parts have no order, the steps
    /// have none. The converse holds if nothing is about several keys (Herlihy and Wing's locality).
    pub(super) fn by_key(&self) -> Vec<Self> {
        let mut problems: Vec<Self> = (0..self.keys_count)
            .map(|key| Self {
                keys: vec![number(key)],
                keys_count: self.keys_count,
                cells_count: self.cells_count,
                vanish: vec![Vec::new(); self.keys_count],
                ..Self::default()
            })
            .collect();
        for (numbered, step) in (0..).zip(&self.steps) {
            for (origin, part) in self.numbered_parts_of(numbered) {
                let problem = &mut problems[part.key as usize];
                let at = number(problem.parts.len());
                problem.parts.push(*part);
                problem.origins.push(number(origin));
                problem.steps.push(Step { parts: (at, at + 1), only_reads: part.post.is_none(), ..step.clone() });
            }
        }
        for (key, problem) in problems.iter_mut().enumerate() {
            problem.vanish[key].clone_from(&self.vanish[key]);
            let about_it = self.appear.iter().filter(|appear| appear.keys.contains(&number(key)));
            let mut calls: Vec<u64> = about_it.flat_map(|appear| appear.calls.iter().copied()).collect();
            calls.sort_unstable();
            if !calls.is_empty() && problem.parts.iter().any(|part| part.pre == Pre::Present) {
                problem.appear.push(Appear { keys: problem.keys.clone(), calls });
            }
        }
        problems
    }
}

/// Why there is nothing to search.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nothing explains an operation: its place among the operations, and why.
    Unexplained(u32, String),
    /// A value is written by two operations; histories promise that none is.
    NotUnique,
}

/// An operation on the way to becoming a step.
struct Draft {
    step: Step,
    /// It certainly took effect.
    is_sure: bool,
}

/// Boils operations down.
#[derive(Default)]
pub(super) struct Builder<'a> {
    /// Keys by name.
    keys: BTreeMap<&'a [u8], u32>,
    /// Cells by key and value.
    cells: BTreeMap<(u32, &'a [u8]), Cell>,
    /// What was read together with a `mod_revision` that some swap asks for; `None` if that is not one value.
    identified: BTreeMap<u64, Option<&'a [u8]>>,
    drafts: Vec<Draft>,
    parts: Vec<Part>,
    /// By cell: the draft that writes it.
    writers: Vec<u32>,
}

impl<'a> Builder<'a> {
    /// The steps of one shard's operations.
    ///
    /// # Errors
    /// Nothing can explain some answer, or the history is none.
    pub(super) fn build(&mut self, operations: &[&'a Operation]) -> Result<Problem, Refusal> {
        self.writers.push(NOBODY);
        self.identify(operations);
        self.name_keys(operations);
        for (at, operation) in operations.iter().enumerate().filter(|(_, operation)| !operation.is_void) {
            self.draft(number(at), operation)?;
        }
        self.settle()?;
        Ok(self.finish())
    }

    /// Names of the keys, by number.
    pub(super) fn key_names(&self) -> Vec<&'a [u8]> {
        let mut names: Vec<(u32, &[u8])> = self.keys.iter().map(|(&name, &key)| (key, name)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// A cell's value.
    pub(super) fn value_of(&self, cell: Cell) -> Option<&'a [u8]> {
        self.cells.iter().find(|(_, known)| **known == cell).map(|(&(_, value), _)| value)
    }

    /// Which write a swap means by a `mod_revision`: the one whose value was read together with it. That, and nothing about
    /// order, is all that is taken from revisions.
    fn identify(&mut self, operations: &[&'a Operation]) {
        for operation in operations {
            if let Input::Swap { mod_revision, .. } = operation.input
                && mod_revision != 0
            {
                self.identified.insert(mod_revision, None);
            }
        }
        let mut is_ambiguous: BTreeMap<u64, bool> = BTreeMap::new();
        for kv in operations.iter().flat_map(|operation| answered_kvs(operation)) {
            if let Some(value) = self.identified.get_mut(&kv.mod_revision) {
                let differs = value.is_some_and(|known| known != kv.value);
                *is_ambiguous.entry(kv.mod_revision).or_default() |= differs;
                *value = Some(&kv.value);
            }
        }
        for (revision, _) in is_ambiguous.into_iter().filter(|(_, differs)| *differs) {
            self.identified.insert(revision, None);
        }
    }

    /// Numbers all keys first: a list is about those that it does not show, too.
    fn name_keys(&mut self, operations: &[&'a Operation]) {
        for operation in operations {
            let asked: &[Vec<u8>] = match &operation.input {
                Input::Put { key, .. } | Input::Delete { key } | Input::Get { key } | Input::Swap { key, .. } => {
                    std::slice::from_ref(key)
                }
                Input::PutBoth { keys, .. } => keys,
                Input::List | Input::GetSerializable { .. } => &[],
            };
            for key in asked {
                self.key(key);
            }
            if operation.input == Input::List {
                for kv in answered_kvs(operation) {
                    self.key(&kv.key);
                }
            }
        }
    }

    fn key(&mut self, name: &'a [u8]) -> u32 {
        let next = number(self.keys.len());
        *self.keys.entry(name).or_insert(next)
    }

    fn cell(&mut self, key: u32, value: &'a [u8]) -> Cell {
        let next = number(self.writers.len());
        let cell = *self.cells.entry((key, value)).or_insert(next);
        if cell == next {
            self.writers.push(NOBODY);
        }
        cell
    }

    /// Takes in an operation.
    fn draft(&mut self, at: u32, operation: &'a Operation) -> Result<(), Refusal> {
        let start = number(self.parts.len());
        if let Some((_, response)) = &operation.outcome {
            let explained = self.push_known(&operation.input, response);
            explained.map_err(|what| Refusal::Unexplained(at, what.to_owned()))?;
        } else {
            self.push_unknown(&operation.input);
        }
        let parts = (start, number(self.parts.len()));
        if parts.0 == parts.1 {
            return Ok(());
        }
        let draft = number(self.drafts.len());
        let mut only_reads = true;
        for part in &self.parts[start as usize..] {
            only_reads &= part.post.is_none();
            let Some(cell) = part.post.filter(|cell| *cell != ABSENT) else { continue };
            let writer = &mut self.writers[cell as usize];
            if *writer != NOBODY && *writer != draft {
                return Err(Refusal::NotUnique);
            }
            *writer = draft;
        }
        let returned_us = operation.outcome.as_ref().map_or(u64::MAX, |(returned_us, _)| *returned_us);
        let step = Step { operation: at, called_us: operation.called_us, returned_us, only_reads, parts };
        self.drafts.push(Draft { step, is_sure: operation.outcome.is_some() });
        Ok(())
    }

    fn push(&mut self, key: u32, pre: Pre, post: Option<Cell>) {
        self.parts.push(Part { key, pre, post });
    }

    /// What an operation did, by its answer.
    fn push_known(&mut self, input: &'a Input, response: &'a Response) -> Result<(), &'static str> {
        match input {
            Input::Put { .. } | Input::PutBoth { .. } => self.push_unknown(input),
            Input::Delete { key } => {
                let key = self.key(key);
                match response.ops.first() {
                    Some(OpResponse::Delete { deleted: 0, .. }) => self.push(key, Pre::Is(ABSENT), None),
                    Some(OpResponse::Delete { deleted: 1, .. }) => self.push(key, Pre::Present, Some(ABSENT)),
                    _ => return Err("a delete of one key deletes one or none"),
                }
            }
            Input::Get { key } => self.push_read(key, response)?,
            Input::Swap { .. } if response.succeeded => self.push_unknown(input),
            Input::Swap { key, mod_revision, .. } => {
                self.push_read(key, response)?;
                let condition = self.condition(key, *mod_revision);
                if self.parts.last().is_some_and(|part| part.pre == condition) {
                    return Err("it was not done, although the key held what it asked for");
                }
            }
            Input::List => self.push_list(response)?,
            Input::GetSerializable { .. } => {}
        }
        Ok(())
    }

    /// What an operation does if it takes effect and, being a swap, succeeds.
    fn push_unknown(&mut self, input: &'a Input) {
        match input {
            Input::Put { key, value } => self.push_write(key, Pre::Any, value),
            Input::PutBoth { keys: [first, second], value } => {
                self.push_write(first, Pre::Any, value);
                if first != second {
                    self.push_write(second, Pre::Any, value);
                }
            }
            Input::Swap { key, mod_revision, value } => {
                let condition = self.condition(key, *mod_revision);
                self.push_write(key, condition, value);
            }
            Input::Delete { key } => {
                let key = self.key(key);
                self.push(key, Pre::Present, Some(ABSENT));
            }
            Input::Get { .. } | Input::GetSerializable { .. } | Input::List => {}
        }
    }

    fn push_write(&mut self, key: &'a [u8], pre: Pre, value: &'a [u8]) {
        let key = self.key(key);
        let cell = self.cell(key, value);
        self.push(key, pre, Some(cell));
    }

    fn push_read(&mut self, name: &'a [u8], response: &'a Response) -> Result<(), &'static str> {
        let key = self.key(name);
        let cell = match kvs(response) {
            [] => ABSENT,
            [kv] if kv.key == name => self.cell(key, &kv.value),
            _ => return Err("a read of one key is answered with others"),
        };
        self.push(key, Pre::Is(cell), None);
        Ok(())
    }

    fn push_list(&mut self, response: &'a Response) -> Result<(), &'static str> {
        let shown = kvs(response);
        if !shown.is_sorted_by(|a, b| a.key < b.key) {
            return Err("the keys of a list are not in order");
        }
        // One that was cut short says nothing of the keys after its last.
        let is_cut = matches!(response.ops.first(), Some(OpResponse::Range { more: true, .. }));
        let last = shown.last().map_or(&[][..], |kv| &kv.key);
        let keys: Vec<(&[u8], u32)> = self.keys.iter().map(|(&name, &key)| (name, key)).collect();
        let mut shown = shown.iter().peekable();
        for (name, key) in keys {
            match shown.next_if(|kv| kv.key == name) {
                Some(kv) => {
                    let cell = self.cell(key, &kv.value);
                    self.push(key, Pre::Is(cell), None);
                }
                None if is_cut && name > last => {}
                None => self.push(key, Pre::Is(ABSENT), None),
            }
        }
        Ok(())
    }

    /// What a swap asks for, as a value. If nobody read it, all that is known is that it was there.
    fn condition(&mut self, key: &'a [u8], mod_revision: u64) -> Pre {
        let key = self.key(key);
        match self.identified.get(&mod_revision).copied().flatten() {
            _ if mod_revision == 0 => Pre::Is(ABSENT),
            Some(value) => Pre::Is(self.cell(key, value)),
            None => Pre::Present,
        }
    }

    /// Whoever wrote what a sure step saw took effect, and before that step's end.
    fn settle(&mut self) -> Result<(), Refusal> {
        let mut open: Vec<usize> = (0..self.drafts.len()).filter(|&at| self.drafts[at].is_sure).collect();
        while let Some(at) = open.pop() {
            let Step { operation, returned_us, parts: (start, end), .. } = self.drafts[at].step;
            for part in &self.parts[start as usize..end as usize] {
                let Pre::Is(cell) = part.pre else { continue };
                if cell == ABSENT {
                    continue;
                }
                let writer = self.writers[cell as usize];
                let Some(draft) = self.drafts.get_mut(writer as usize) else {
                    return Err(Refusal::Unexplained(operation, "nobody wrote what it saw".to_owned()));
                };
                if draft.step.called_us > returned_us {
                    return Err(Refusal::Unexplained(operation, "what it saw was not yet asked for".to_owned()));
                }
                if !draft.is_sure || draft.step.returned_us > returned_us {
                    draft.is_sure = true;
                    draft.step.returned_us = draft.step.returned_us.min(returned_us);
                    open.push(writer as usize);
                }
            }
        }
        Ok(())
    }

    /// Sure steps in order of their calls, and of the others whatever could matter.
    ///
    /// A write that nobody saw and that need not have happened matters only by making a key present that was not: right before
    /// a step that needs just that (`Pre::Present`). Taken out of an order anywhere else, it leaves an order: steps that need an
    /// exact state cannot follow it, and other writes overwrite it. If no sure step needs presence of one of its keys, or if it
    /// is a swap, which succeeds on a key that is there, it is left out for good. Those that are left differ only in when they
    /// were called; so do deletes that need not have happened, which matter only right before a step that needs absence. Of such
    /// operations the earliest may always be taken first, and so their number is all that the search remembers.
    fn finish(&mut self) -> Problem {
        let keys_count = self.keys.len();
        let mut vanish = vec![Vec::new(); keys_count];
        let mut appear: BTreeMap<Vec<u32>, Vec<u64>> = BTreeMap::new();
        let mut needs_presence = vec![false; keys_count];
        let parts_of = |step: &Step| &self.parts[step.parts.0 as usize..step.parts.1 as usize];
        for draft in self.drafts.iter().filter(|draft| draft.is_sure) {
            for part in parts_of(&draft.step).iter().filter(|part| part.pre == Pre::Present) {
                needs_presence[part.key as usize] = true;
            }
        }
        for Draft { step, .. } in self.drafts.iter().filter(|draft| !draft.is_sure) {
            let parts = parts_of(step);
            match parts[0] {
                Part { key, post: Some(ABSENT), .. } => vanish[key as usize].push(step.called_us),
                Part { pre: Pre::Any | Pre::Is(ABSENT), .. } => {
                    if parts.iter().any(|part| needs_presence[part.key as usize]) {
                        let mut keys: Vec<u32> = parts.iter().map(|part| part.key).collect();
                        keys.sort_unstable();
                        appear.entry(keys).or_default().push(step.called_us);
                    }
                }
                Part { .. } => {}
            }
        }
        vanish.iter_mut().for_each(|calls| calls.sort_unstable());
        let sorted = |(keys, mut calls): (_, Vec<u64>)| {
            calls.sort_unstable();
            Appear { keys, calls }
        };
        let appear = appear.into_iter().map(sorted).collect();
        let mut steps: Vec<Step> =
            self.drafts.drain(..).filter(|draft| draft.is_sure).map(|draft| draft.step).collect();
        steps.sort_by_key(|step| step.called_us);
        let mut parts = Vec::with_capacity(self.parts.len());
        for step in &mut steps {
            let start = number(parts.len());
            parts.extend_from_slice(&self.parts[step.parts.0 as usize..step.parts.1 as usize]);
            step.parts = (start, number(parts.len()));
        }
        let keys = (0..number(keys_count)).collect();
        let cells_count = self.writers.len();
        Problem { keys, keys_count, cells_count, steps, parts, vanish, appear, ..Problem::default() }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^31 operations")
}

/// Keys and values that an operation was answered with.
fn answered_kvs(operation: &Operation) -> impl Iterator<Item = &KeyValue> {
    operation.outcome.iter().flat_map(|(_, response)| kvs(response))
}

fn kvs(response: &Response) -> &[KeyValue] {
    match response.ops.first() {
        Some(OpResponse::Range { kvs, .. }) => kvs,
        Some(OpResponse::Put { .. } | OpResponse::Delete { .. }) | None => &[],
    }
}
