//! The small static programs that devenv puts into containers, as bytes. `build.rs` makes them.
//!
//! The engine puts the launcher into containers, the daemon's faults the holder. Empty where one could not be made.

/// Stands before a container's program where its variables hold secrets (`crates/launcher`).
pub const LAUNCHER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher"));

/// Works in containers' namespaces, for faults (`crates/holder`).
pub const HOLDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/holder"));
