//! Every planted bug is found by the simulator: a bug that it cannot find is a hole in it.
//!
//! Needs the feature `mutations`, which no other test and no binary has. Prints the table that `docs/durability.md` shows.
//! Rare ones take minutes and are looked for only with `QUORATE_MUTATIONS=all`; `QUORATE_MUTATIONS=<name>` looks for one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::mutation::{Mutation, plant};
use engine::testing::sim::{Options, run};

/// Seeds that are tried for each bug, at most.
const SEEDS_MAX: u64 = 6000;

/// The first seed that fails with the bug, and how.
fn find(mutation: Mutation, threads: usize) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                plant(Some(mutation));
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let is_late = found.lock().expect("no panic").as_ref().is_some_and(|(first, _)| *first < seed);
                    if seed >= SEEDS_MAX || is_late {
                        return;
                    }
                    if let Err(failure) = run(seed, Options::default()) {
                        let mut found = found.lock().expect("no panic");
                        if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *found = Some((seed, failure.what));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("no panic")
}

#[test]
fn every_planted_bug_is_found() {
    let chosen = std::env::var("QUORATE_MUTATIONS").unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| planted bug | seeds until it was found | what was seen |\n|---|---|---|");
    for mutation in Mutation::ALL {
        let is_chosen = match chosen.as_str() {
            "" => !mutation.is_rare(),
            "all" => true,
            name => format!("{mutation:?}") == name,
        };
        if !is_chosen {
            continue;
        }
        match find(mutation, threads) {
            Some((seed, what)) => {
                let what: String = what.chars().take(140).collect();
                println!("| {mutation:?} | {} | {what} |", seed + 1);
            }
            None => {
                println!("| {mutation:?} | not in {SEEDS_MAX} | |");
                missed.push(mutation);
            }
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}
