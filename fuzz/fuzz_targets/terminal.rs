//! Any text to a terminal: nothing of it moves the cursor, and JSON stays the same document.
#![no_main]

// Alone, since the crate that it belongs to takes long to build with what the fuzzer needs.
#[path = "../../src/cli/terminal.rs"]
mod terminal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| terminal::check(&String::from_utf8_lossy(bytes)));
