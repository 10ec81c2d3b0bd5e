//! The small static programs that devenv puts into containers, as bytes. `build.rs` makes them.
//!
//! The engine puts the launcher into containers, and `src/faults` the fault agent. Empty if one could not be built.

/// Starts before a container's program if its variables contain secrets (`crates/launcher`).
pub const LAUNCHER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher"));

/// Works in containers' namespaces, for faults (`crates/fault-agent`).
pub const FAULT_AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fault-agent"));
