//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod cli;
mod daemon;
mod doctor;
mod engine;
mod paths;
mod profile;
mod secret;
mod service;
mod spec;

/// The program: everything from the arguments to the exit code.
pub fn main() -> std::process::ExitCode {
    cli::main()
}
