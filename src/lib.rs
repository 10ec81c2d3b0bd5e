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

/// Runs as the keeper of one program if the arguments are `keeper --directory DIR`, and returns when that has ended.
/// To be asked first of all: a keeper starts with every service, and must not pay for what only a client or daemon needs.
pub fn keep() -> Option<std::process::ExitCode> {
    process::keeper::main_if_asked(std::env::args_os().skip(1))
}
