//! Fuzz target: the first words of a connection. What is checked is in `net::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::testing::fuzz::handshake(data));
