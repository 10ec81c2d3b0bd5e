//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod diagnosis;
mod engine;
mod probe;
mod profile;
mod provision;
mod secret;
mod service;
mod spec;
