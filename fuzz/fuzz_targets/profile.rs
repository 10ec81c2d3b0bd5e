//! Any bytes as a profile: reading, filling in, checking and merging end, without a panic and within a bound of memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| devenv_profile::check_bytes(bytes));
