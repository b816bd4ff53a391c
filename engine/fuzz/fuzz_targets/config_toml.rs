//! Fuzz target: a settings file. What is checked is in `engine::testing::fuzz`; this only calls it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine::testing::fuzz::config_toml(data));
