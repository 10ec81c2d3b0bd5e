//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod engine;
mod event;
mod net;
mod profile;
mod reconcile;
mod secret;
mod service;
mod spec;
mod store;
