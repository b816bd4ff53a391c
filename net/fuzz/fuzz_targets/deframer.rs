//! Fuzz target: a stream of any bytes, in pieces. What is checked is in `net::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::testing::fuzz::deframer(data));
