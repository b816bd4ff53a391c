//! Judges what clients saw by searching for one order of all operations that explains every answer and respects real time.
//!
//! It does not trust revisions: which came first is told by values, each of which is written once, and by the times of calls and
//! returns. It knows nothing of nodes or faults, and leaves out serializable reads, which promise less (`judge` checks those).
//!
//! * What is searched for, and how: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993).
//! * Prefixes of equal steps and state are tried once: Lowe, "Testing for linearizability" (2017).
//! * Each key by itself first: Herlihy and Wing's locality, used for testing by Horn and Kroening, "Faster linearizability
//!   checking via P-compositionality" (2015). Here some operations are about several keys, so keys that are in order one by one
//!   are necessary, not sufficient; a second search takes all keys together, and gives up when it gets too long.
//!
//! Revisions are used for one thing: a swap names the write that it expects by its `mod_revision`, and that number is translated
//! into the value that some read returned with it. If none did, the swap is only known to expect that the key is there.

mod bounds;
mod explore;
mod guide;
mod problem;
#[cfg(test)]
mod tests;

use std::fmt;

use self::bounds::narrow;
use self::explore::{DeadEnd, Outcome, explore};
use self::guide::merge;
use self::problem::{ABSENT, Builder, Problem, Refusal};
use super::history::{Input, Operation};
use api::response::{OpResponse, Response};

/// Bytes of a key or value that a refutation shows, at most.
const SHOWN_BYTES_MAX: usize = 24;

/// How long to search. Unit: prefixes looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For each key by itself.
    pub key_steps: u64,
    /// For all keys together; 0 = that search is left out.
    pub shard_steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { key_steps: 2_000_000, shard_steps: 1_000_000 }
    }
}

/// What became of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order was found.
    Linearizable,
    /// There is none.
    NotLinearizable(Refutation),
    /// The limits were reached: each key that was searched to the end is in order, all of them together are not known to be.
    GaveUp {
        /// Prefixes looked at, in all.
        steps: u64,
    },
}

/// Why there is no order: how far one gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refutation {
    /// What cannot be ordered.
    pub what: String,
    /// Operations in the longest prefix of an order that was found.
    pub placed_count: usize,
    /// The last of them, in order.
    pub last: Vec<String>,
    /// What each key holds after it.
    pub state: Vec<String>,
    /// Operations of which one had to be next; none can be.
    pub stuck: Vec<String>,
}

/// Searches for an order of one shard's operations (given in any order).
///
/// Writes of unknown outcome may be anywhere in it after their call, or left out. Values must be unique: a history with a value
/// that two operations write is given up at once.
#[must_use]
pub fn judge(operations: &[&Operation], limits: Limits) -> Verdict {
    let mut builder = Builder::default();
    let mut problem = match builder.build(operations) {
        Ok(problem) => problem,
        Err(Refusal::NotUnique) => return Verdict::GaveUp { steps: 0 },
        Err(Refusal::Unexplained(at, what)) => {
            let stuck = vec![describe(operations[at as usize])];
            let refutation = Refutation { what, placed_count: 0, last: vec![], state: vec![], stuck };
            return Verdict::NotLinearizable(refutation);
        }
    };
    let mut steps = 0;
    let mut has_given_up = false;
    narrow(&mut problem);
    let by_key = problem.by_key();
    let mut orders = Vec::new();
    for (problem, name) in by_key.iter().zip(builder.key_names()) {
        let (outcome, visited) = explore(problem, limits.key_steps);
        steps += visited;
        match outcome {
            Outcome::Found(order) => orders.push(order),
            Outcome::GaveUp => has_given_up = true,
            Outcome::Refuted(dead_end) => {
                let what = format!("the operations on key {} have no order", show(name));
                return Verdict::NotLinearizable(refutation(what, &builder, problem, &dead_end, operations));
            }
        }
    }
    if !problem.is_coupled() {
        return if has_given_up { Verdict::GaveUp { steps } } else { Verdict::Linearizable };
    }
    if !has_given_up {
        problem.ranks = merge(&problem, &by_key, &orders);
    }
    let (outcome, visited) = explore(&problem, limits.shard_steps);
    match outcome {
        Outcome::Found(_) => Verdict::Linearizable,
        Outcome::GaveUp => Verdict::GaveUp { steps: steps + visited },
        Outcome::Refuted(dead_end) => {
            let what = "each key has an order, all together have none".to_owned();
            Verdict::NotLinearizable(refutation(what, &builder, &problem, &dead_end, operations))
        }
    }
}

fn refutation(
    what: String,
    builder: &Builder<'_>,
    problem: &Problem,
    dead_end: &DeadEnd,
    operations: &[&Operation],
) -> Refutation {
    let describe_all = |steps: &[u32]| {
        let of_step = |&step: &u32| describe(operations[problem.steps[step as usize].operation as usize]);
        steps.iter().map(of_step).collect()
    };
    let names = builder.key_names();
    let holds = |&key: &u32| {
        let held = match dead_end.state[key as usize] {
            ABSENT => "nothing".to_owned(),
            cell => builder.value_of(cell).map_or_else(|| "a value that nobody saw".to_owned(), show),
        };
        format!("{} = {held}", show(names[key as usize]))
    };
    Refutation {
        what,
        placed_count: dead_end.placed_count,
        last: describe_all(&dead_end.last),
        state: problem.keys.iter().map(holds).collect(),
        stuck: describe_all(&dead_end.stuck),
    }
}

/// An operation in one line.
fn describe(operation: &Operation) -> String {
    let asked = match &operation.input {
        Input::Put { key, value } => format!("put {} {}", show(key), show(value)),
        Input::Delete { key } => format!("delete {}", show(key)),
        Input::Get { key } => format!("get {}", show(key)),
        Input::GetSerializable { key } => format!("get, serializably, {}", show(key)),
        Input::List => "list".to_owned(),
        Input::Swap { key, mod_revision, value } => format!("swap {} at {mod_revision} to {}", show(key), show(value)),
        Input::PutBoth { keys: [first, second], value } => {
            format!("put {} and {} {}", show(first), show(second), show(value))
        }
    };
    let (client, called_us) = (operation.client, operation.called_us);
    match &operation.outcome {
        Some((returned_us, response)) => {
            format!("client {client}, {called_us}..{returned_us} us: {asked} -> {}", describe_answer(response))
        }
        None => format!("client {client}, {called_us}.. us: {asked} -> unknown, but seen"),
    }
}

fn describe_answer(response: &Response) -> String {
    let branch = if response.succeeded { "done" } else { "not done" };
    match response.ops.first() {
        Some(OpResponse::Delete { deleted, .. }) => format!("{deleted} deleted"),
        Some(OpResponse::Range { kvs, .. }) => {
            let shown: Vec<String> = kvs.iter().map(|kv| format!("{} = {}", show(&kv.key), show(&kv.value))).collect();
            format!("[{}]", shown.join(", "))
        }
        Some(OpResponse::Put { .. }) | None => branch.to_owned(),
    }
}

fn show(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    format!("{}{}", shown, if bytes.len() > SHOWN_BYTES_MAX { "..." } else { "" })
}

impl fmt::Display for Refutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not linearizable: {}", self.what)?;
        if self.placed_count > 0 {
            writeln!(f, "the longest prefix found has {} operations and ends with", self.placed_count)?;
            self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        if !self.state.is_empty() {
            writeln!(f, "after which the state is {}", self.state.join(", "))?;
        }
        write!(f, "and none of these can be next:")?;
        self.stuck.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
