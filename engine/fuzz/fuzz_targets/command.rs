//! Fuzz target: a command, or a read, as it enters. What is checked is in `engine::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine::testing::fuzz::command(data));
