//! Simulated clusters: a few seeds in every test run, and that a run is nothing but its seed.

use engine::testing::sim::{Options, run};

#[test]
fn clusters_keep_their_promises_under_faults() {
    let mut parts_count = 0;
    for seed in 0..40 {
        match run(seed, Options::default()) {
            Ok(report) => parts_count += report.parts_count,
            Err(failure) => panic!("{failure}\n{}", failure.trace.join("\n")),
        }
    }
    assert!(parts_count > 1000, "answers come in several parts: {parts_count}");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 100..110 {
        let (first, second) = (run(seed, Options::default()), run(seed, Options { keep_trace: true }));
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed}");
    }
}
