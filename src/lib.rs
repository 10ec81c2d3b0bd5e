//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod engine;
mod profile;
mod secret;
mod service;
mod spec;

/// The door for `fuzz/`, which alone builds with this: everything that a profile's bytes go through.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn check_profile(bytes: &[u8]) {
    profile::check_bytes(bytes);
}
