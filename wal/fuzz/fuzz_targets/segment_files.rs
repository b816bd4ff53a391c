//! Fuzz target: a log whose files were changed at will. What is checked is in `wal::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal::testing::fuzz::segment_files(data));
