//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod engine;
mod log;
mod process;
mod profile;
mod secret;
mod service;
mod spec;
mod watch;
