//! Fuzz target: a frame of any kind from a peer. What is checked is in `engine::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine::testing::fuzz::peer_message(data));
