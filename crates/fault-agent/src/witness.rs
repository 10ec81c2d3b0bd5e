//! The witness of what happens by chance: that it has happened, told once.

use std::sync::atomic::{AtomicBool, Ordering};

static TOLD: AtomicBool = AtomicBool::new(false);

/// To the first connection, or packet, that it is meant for.
pub fn tell() {
    if !TOLD.swap(true, Ordering::Relaxed) {
        println!("hit");
    }
}
