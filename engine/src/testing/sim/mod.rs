//! The cluster simulator: real replicas, logs and state machines; simulated time, disks, links and clients.
//!
//! A run is a function of its seed. It has a phase of faults, in which only safety is asked for, and a phase without, in which the
//! cluster must converge and answer everything. What is simulated: time and its speed on each node (`world`), connections (`network`),
//! processes and disks (`host`, on the log's own `SimStorage`; `durable` reads what they hold for good), the other files of a data
//! directory (`directory`, `files`), desks (`front`), clients (`clients`). Faults (`faults`, `ambush`, `minority`, `starve`, `handover`,
//! `wipe`, `lost_files`, `tampering`, `hung_core`), a node that joins (`joining`) and the course of a run (`course`, `put_back`,
//! `second_leader`, `second_life`) act on the world from outside. What is checked on the way: `checks`; afterwards: the judges of
//! histories in the module above. It does not simulate threads or memory.

mod ambush;
mod beats;
mod checks;
mod clients;
mod course;
mod damage;
mod directory;
mod durable;
mod faults;
mod files;
mod front;
mod handover;
mod host;
mod hung_core;
mod joining;
mod keeping;
mod kept_state;
mod lost_files;
mod marks;
mod minority;
mod network;
mod plan;
mod put_back;
mod recovery;
mod replaced;
mod second_leader;
mod second_life;
mod starve;
mod tampering;
mod trace;
mod verdict;
mod wipe;
mod world;

pub use verdict::{Failure, Report};

use std::panic::{AssertUnwindSafe, catch_unwind};

use plan::Plan;
use trace::Trace;
use world::World;

/// What of a run is not in its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep every event for `Failure::trace`, not only the last ones.
    pub keep_trace: bool,
}

/// Runs the cluster that belongs to a seed.
///
/// # Errors
/// A promise was broken, or the product panicked: what, when, and what led to it.
pub fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    // What this thread did before is no part of this run.
    drop(wal::testing::marks::take());
    let plan = Plan::from_seed(seed);
    let mut world = World::new(plan, Trace::new(options.keep_trace));
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match outcome {
        Ok(Ok(())) => {
            let marks = wal::testing::marks::take().into_iter().map(|name| (name, 1)).collect();
            return Ok(Report { marks, ..world.report() });
        }
        Ok(Err(what)) => what,
        Err(panic) => panic_message(panic.as_ref()),
    };
    Err(world.failure(what))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a message"))
}
