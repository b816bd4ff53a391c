//! Runs the fuzz target of a running replica without a compiler that instruments anything.
//!
//! A short search with seeds that never change is part of every test run. For a long one:
//! `QUORATE_FUZZ_SECONDS=3600 cargo test --release -p quorate-engine --no-default-features --features testing --test fuzz_replica --
//! --nocapture`, with `QUORATE_FUZZ_SEED` for another beginning than the clock's. It begins with the corpus, so that what lies far from
//! chance, a node that leads for one, is where it sets out from. `QUORATE_FUZZ_INPUT` runs one input, in hexadecimal digits, as a
//! failure prints it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::testing::fuzz::{Hunt, replica};

/// Inputs of each fixed seed in a plain test run.
const INPUTS_PER_SEED: u64 = 150;

/// How often a long search says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(60);

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hexadecimal digits");
        u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair} is no byte in hexadecimal digits"))
    };
    digits.chunks(2).map(byte).collect()
}

/// The inputs of the corpus, in the order of their names.
fn corpus() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/replica");
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// Searches for as long as it is told to.
fn search(seed: u64, time: Duration) {
    // A failing input is tried thousands of times while it is made smaller; its message comes with the failure.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let mut said = begun;
    let mut hunt = Hunt::new(seed).expect("an honest past");
    println!("seed {seed}, {} s", time.as_secs());
    let mut failure = corpus().iter().find_map(|input| hunt.try_input(input).err());
    while failure.is_none() && begun.elapsed() < time {
        failure = hunt.try_one().err();
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            println!("after {} s: {:?}", begun.elapsed().as_secs(), hunt.report());
        }
    }
    drop(std::panic::take_hook());
    println!("{:?}", hunt.report());
    if let Some(failure) = failure {
        panic!("seed {seed}, input {}: {failure}", hunt.report().inputs_count);
    }
}

#[test]
fn messages_that_make_no_sense_break_no_promise() {
    if let Some(input) = variable("QUORATE_FUZZ_INPUT") {
        return replica(&bytes_of(&input));
    }
    if let Some(seconds) = number("QUORATE_FUZZ_SECONDS") {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let seed = number("QUORATE_FUZZ_SEED").unwrap_or_else(clock);
        return search(seed, Duration::from_secs(seconds));
    }
    for seed in 1..=4 {
        let mut hunt = Hunt::new(seed).expect("an honest past");
        for _ in 0..INPUTS_PER_SEED {
            if let Err(failure) = hunt.try_one() {
                panic!("seed {seed}, input {}: {failure}", hunt.report().inputs_count);
            }
        }
        let report = hunt.report();
        assert!(report.healed_count > 20 && report.lied_to_count > 5, "both kinds are met: {report:?}");
    }
}
