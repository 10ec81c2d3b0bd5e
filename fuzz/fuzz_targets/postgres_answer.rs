//! Any bytes as what a PostgreSQL server says to a probe: its login, and the answer to its question.
#![no_main]

use devenv_fuzz::{Peer, runtime, split_first};

/// Logged in, and ready for a query.
const LOGGED_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (which, bytes) = split_first(bytes);
    let said = if which % 2 == 0 { [LOGGED_IN, bytes].concat() } else { bytes.to_vec() };
    runtime().block_on(devenv_kinds::postgres::probe::fuzz(Peer::new(said)));
});
