//! Fuzz target: headers out of any bytes. What is checked is in `wal::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::testing::fuzz::frame_header(data));
