//! Every planted bug is found by the simulator: a bug that it cannot find is a hole in it.
//!
//! Prints the table that `docs/durability.md` shows. Rare bugs take minutes and are looked for only with `QUORATE_MUTATIONS=all`;
//! `QUORATE_MUTATIONS=NAME` looks for one. A bug counts as found when a run with it fails that goes well without it, and when it
//! was a check, a judge or an assertion of the product that failed: no panic of the simulator's own.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mutants::planted;
use mutants::testing::sim::{Options, run};

/// Seeds that are tried for each bug, at most.
const SEEDS_MAX: u64 = 6000;

thread_local! {
    /// Source file of this thread's last panic.
    static PANICKED_IN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A run that fails with a bug.
#[derive(Debug)]
struct Found {
    seed: u64,
    what: String,
    /// The panic that ended it, if one did, was the simulator's own.
    is_simulators: bool,
}

/// Runs a seed.
fn try_seed(seed: u64, bug: Option<usize>) -> Option<Found> {
    planted::switch(bug);
    PANICKED_IN.take();
    let failure = run(seed, Options::default()).err();
    planted::switch(None);
    failure.map(|failure| {
        let is_simulators = PANICKED_IN.take().is_some_and(|file| file.contains("/testing/"));
        Found { seed, what: failure.what, is_simulators }
    })
}

/// The first seed that fails with the bug, and how.
fn find(bug: usize, threads: usize) -> Option<Found> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<Found>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let is_late = found.lock().expect("no panic").as_ref().is_some_and(|first| first.seed < seed);
                    if seed >= SEEDS_MAX || is_late {
                        return;
                    }
                    if let Some(here) = try_seed(seed, Some(bug)) {
                        let mut found = found.lock().expect("no panic");
                        if found.as_ref().is_none_or(|first| seed < first.seed) {
                            *found = Some(here);
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("no panic")
}

/// Numbers of the bugs that the variable asks for.
fn chosen(asked: &str) -> Vec<usize> {
    let numbers = 0..planted::ALL.len();
    let chosen: Vec<usize> = match asked {
        "" => numbers.filter(|number| !planted::ALL[*number].is_rare).collect(),
        "all" => numbers.collect(),
        name => numbers.filter(|number| planted::ALL[*number].name == name).collect(),
    };
    assert!(
        !chosen.is_empty(),
        "QUORATE_MUTATIONS={asked}: no bug has this name; all names stand in engine/mutations/bugs"
    );
    chosen
}

/// Why a failure does not show that the bug was found, if so.
fn objection(found: &Found) -> Option<String> {
    let Found { seed, what, is_simulators } = found;
    if *is_simulators {
        return Some(format!("with seed {seed} the simulator itself panicked: {what}"));
    }
    let without = try_seed(*seed, None)?;
    Some(format!("seed {seed} fails without it, too: {}", without.what))
}

#[test]
fn every_planted_bug_is_found() {
    let chosen = chosen(&std::env::var("QUORATE_MUTATIONS").unwrap_or_default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::panic::set_hook(Box::new(|panic| {
        PANICKED_IN.set(panic.location().map(|location| location.file().to_owned()));
    }));
    let mut missed = Vec::new();
    println!("| planted bug | seeds until it was found | what was seen |\n|---|---|---|");
    for bug in chosen {
        let name = planted::ALL[bug].name;
        match find(bug, threads) {
            Some(found) => {
                let what: String = found.what.chars().take(140).collect();
                println!("| {name} | {} | {what} |", found.seed + 1);
                missed.extend(objection(&found).map(|why| format!("{name}: {why}")));
            }
            None => {
                println!("| {name} | not in {SEEDS_MAX} | |");
                missed.push(format!("{name}: not found in {SEEDS_MAX} seeds"));
            }
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_name_that_no_bug_has_is_refused() {
    std::panic::catch_unwind(|| chosen("NoSuchBug")).expect_err("refused");
}
