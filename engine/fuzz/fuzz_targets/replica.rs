//! Fuzz target: a running replica that hears what makes no sense. What is checked is in `engine::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine::testing::fuzz::replica(data));
