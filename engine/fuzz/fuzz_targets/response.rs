//! Fuzz target: an answer as a client reads it. What is checked is in `engine::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine::testing::fuzz::response(data));
