//! Any bytes as a broker's answer to each question that devenv asks.
#![no_main]

use devenv_fuzz::{Peer, runtime, split_first};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (which, bytes) = split_first(bytes);
    // In front of the answer: its length, and the number of the question. A quarter of the inputs bring their own.
    let framed = [&(bytes.len() as u32 + 4).to_be_bytes()[..], &1_u32.to_be_bytes(), bytes].concat();
    let answer = if which >= 192 { bytes.to_vec() } else { framed };
    runtime().block_on(devenv_kinds::kafka::fuzzing::question(which, Peer::new(answer)));
});
