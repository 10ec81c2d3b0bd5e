//! Any bytes as a profile: loading ends, without a panic, and within a bound of memory.
//!
//! `cargo +nightly fuzz run profile fuzz/corpus/profile tests/fixtures/profiles/good tests/fixtures/profiles/bad`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| devenv::check_profile(bytes));
