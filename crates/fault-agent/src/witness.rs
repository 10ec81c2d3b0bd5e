//! The witness of random faults: reports once that the fault has affected something.

use std::sync::atomic::{AtomicBool, Ordering};

static TOLD: AtomicBool = AtomicBool::new(false);

/// Called for the first affected connection or packet.
pub fn tell() {
    if !TOLD.swap(true, Ordering::Relaxed) {
        println!("hit");
    }
}
