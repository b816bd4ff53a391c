//! Every planted bug is found by the simulator: a bug that it cannot find is a hole in it.
//!
//! Needs the feature `mutations`, which no other test and no binary has. One test, because bugs are planted for the whole
//! process.

use engine::mutation::{Mutation, plant};
use engine::testing::sim::{Options, run};

/// Seeds that are tried for each bug, at most.
const SEEDS_MAX: u64 = 4000;

#[test]
fn every_planted_bug_is_found() {
    let only = std::env::var("QUORATE_MUTATION").ok();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    println!("| planted bug | seeds until it was found | what was seen |\n|---|---|---|");
    for mutation in Mutation::ALL {
        if only.as_ref().is_some_and(|only| *only != format!("{mutation:?}")) {
            continue;
        }
        plant(Some(mutation));
        let found =
            (0..SEEDS_MAX).find_map(|seed| run(seed, Options::default()).err().map(|failure| (seed, failure.what)));
        plant(None);
        match found {
            Some((seed, what)) => {
                println!("| {mutation:?} | {} | {} |", seed + 1, what.chars().take(160).collect::<String>())
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
