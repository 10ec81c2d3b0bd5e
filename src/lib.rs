//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod engine;
mod profile;
mod script;
mod secret;
mod service;
mod shipped;
mod snapshot;
mod spec;
mod tls;
