//! Looks for inputs that break a promise, without a compiler that instruments anything: inputs in which something new was seen
//! are kept and changed further. A hunt is a function of its seed. A failing input is made smaller before it is reported.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wal::testing::SimRng;

use super::past::Past;
use super::truth::Truth;
use super::{Outcome, run};

/// Inputs that are kept.
const KEPT_MAX: usize = 4096;

/// Length of a new input. Unit: bytes.
const FRESH_BYTES_MAX: u64 = 400;

/// Longest input. Unit: bytes.
const INPUT_BYTES_MAX: usize = 2000;

/// Tries that making an input smaller may take.
const SHRINK_TRIES_MAX: usize = 3000;

/// What a hunt did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Inputs that were run.
    pub inputs_count: u64,
    /// Inputs after which everything had to heal, and did.
    pub healed_count: u64,
    /// Inputs in which the node was lied to.
    pub lied_to_count: u64,
    /// Longest time until all was level again. Unit: ticks.
    pub healed_ticks_max: usize,
    /// Different things that were seen.
    pub features_count: usize,
}

/// An input that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was broken.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
    /// A smaller one, and what it breaks.
    pub small: (Vec<u8>, String),
}

/// Inputs that showed something new, and all that they showed.
#[derive(Debug, Default)]
struct Pool {
    kept: Vec<Vec<u8>>,
    features: BTreeSet<u32>,
}

/// A search under way.
#[derive(Debug)]
pub struct Hunt {
    past: Past,
    rng: SimRng,
    /// Inputs after which everything had to heal.
    clean: Pool,
    /// Inputs in which the node was lied to. Apart, because most changes of an input lead here, and little is judged here.
    lied_to: Pool,
    report: Report,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, input, small: (small, small_what) } = self;
        write!(f, "{what}\ninput: {}\nsmaller: {}\nwhich breaks: {small_what}", hex(input), hex(small))
    }
}

impl Hunt {
    /// Begins a search.
    ///
    /// # Errors
    /// An honest cluster does not even get to the point where the nonsense begins.
    pub fn new(seed: u64) -> Result<Self, String> {
        let past = Past::new()?;
        let (clean, lied_to, report) = (Pool::default(), Pool::default(), Report::default());
        Ok(Self { past, rng: SimRng::new(seed), clean, lied_to, report })
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report
    }

    /// Tries one more input.
    ///
    /// # Errors
    /// It breaks a promise.
    pub fn try_one(&mut self) -> Result<(), Box<Failure>> {
        let input = self.next_input();
        self.try_input(&input)
    }

    /// Tries this input.
    ///
    /// # Errors
    /// It breaks a promise.
    pub fn try_input(&mut self, input: &[u8]) -> Result<(), Box<Failure>> {
        self.report.inputs_count += 1;
        let outcome = match attempt(&self.past, input) {
            Ok(outcome) => outcome,
            Err(what) => {
                let small = shrink(&self.past, input.to_vec(), what.clone());
                return Err(Box::new(Failure { what, input: input.to_vec(), small }));
            }
        };
        let pool = match outcome.truth {
            Truth::Clean => {
                self.report.healed_count += 1;
                self.report.healed_ticks_max = self.report.healed_ticks_max.max(outcome.healed_ticks);
                &mut self.clean
            }
            Truth::LiedTo => {
                self.report.lied_to_count += 1;
                &mut self.lied_to
            }
        };
        let known = pool.features.len();
        pool.features.extend(outcome.features);
        if pool.features.len() > known {
            if pool.kept.len() == KEPT_MAX {
                let at = usize::try_from(self.rng.below(KEPT_MAX as u64)).unwrap_or_default();
                pool.kept.swap_remove(at);
            }
            pool.kept.push(input.to_vec());
        }
        self.report.features_count = self.clean.features.len() + self.lied_to.features.len();
        Ok(())
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap_or_default()
    }

    fn random_bytes(&mut self, len_max: u64) -> Vec<u8> {
        let len = self.rng.below(len_max) + 2;
        (0..len).map(|_| self.rng.next_u64().to_le_bytes()[0]).collect()
    }

    /// A new input one time in four, else one that is known, changed in some places.
    fn next_input(&mut self) -> Vec<u8> {
        if self.rng.chance(1, 4) {
            return self.random_bytes(FRESH_BYTES_MAX);
        }
        let Some(mut input) = self.any_kept() else { return self.random_bytes(FRESH_BYTES_MAX) };
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    /// An input that is known: most often one after which everything had to heal.
    fn any_kept(&mut self) -> Option<Vec<u8>> {
        let is_clean = self.lied_to.kept.is_empty() || self.rng.chance(5, 6);
        let count = if is_clean { self.clean.kept.len() } else { self.lied_to.kept.len() };
        let at = self.below(count.max(1));
        let pool = if is_clean { &self.clean } else { &self.lied_to };
        assert!(pool.kept.len() <= KEPT_MAX, "{} inputs are kept", pool.kept.len());
        pool.kept.get(at).cloned()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len().max(1)).min(input.len());
        match self.below(6) {
            0 | 1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.rng.next_u64().to_le_bytes()[0];
                }
            }
            2 => {
                let more = self.random_bytes(12);
                drop(input.splice(at..at, more));
            }
            3 => {
                let end = (at + 1 + self.below(8)).min(input.len());
                drop(input.drain(at..end));
            }
            4 => {
                // The end of another one.
                let other = self.any_kept().unwrap_or_default();
                let from = self.below(other.len().max(1));
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            _ => {
                let end = (at + 1 + self.below(24)).min(input.len());
                let again = input.get(at..end).unwrap_or_default().to_vec();
                drop(input.splice(end..end, again));
            }
        }
    }
}

fn attempt(past: &Past, input: &[u8]) -> Result<Outcome, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(past, input)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a message")))
    })
}

/// Leaves out and zeroes what can be left out and zeroed while something still breaks.
fn shrink(past: &Past, input: Vec<u8>, what: String) -> (Vec<u8>, String) {
    let mut best = (input, what);
    let mut tries = 0;
    let mut size = best.0.len();
    while size > 0 {
        let mut at = 0;
        while at < best.0.len() && tries < SHRINK_TRIES_MAX {
            let end = (at + size).min(best.0.len());
            let without = [&best.0[..at], &best.0[end..]].concat();
            let mut zeroed = best.0.clone();
            zeroed[at..end].fill(0);
            let candidates = [without, zeroed];
            let is_new = |candidate: &&Vec<u8>| **candidate != best.0;
            let smaller = candidates.iter().filter(is_new).find_map(|candidate| {
                tries += 1;
                attempt(past, candidate).err().map(|what| (candidate.clone(), what))
            });
            match smaller {
                Some(smaller) if smaller.0.len() < best.0.len() => best = smaller,
                Some(smaller) => {
                    best = smaller;
                    at = end;
                }
                None => at = end,
            }
        }
        size /= 2;
    }
    best
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
