//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events tell. `ARCHITECTURE.md` is the map.

mod backup;
mod chaos;
mod cli;
mod daemon;
mod diagnosis;
mod doctor;
mod engine;
mod event;
mod fault;
mod figures;
mod lease;
mod log;
mod net;
mod paths;
mod probe;
mod process;
mod profile;
mod provision;
mod reconcile;
mod script;
mod secret;
mod server;
mod service;
mod shipped;
mod snapshot;
mod spec;
mod store;
mod tls;
mod watch;

/// The program: everything from the arguments to the exit code.
pub fn main() -> std::process::ExitCode {
    // First of all: a keeper starts with every host process, and must not pay for what only a client or daemon needs.
    let arguments = || std::env::args_os().skip(1);
    process::keeper::main_if_asked(arguments())
        .or_else(|| process::leash::main_if_asked(arguments()))
        .or_else(|| chaos::main_if_asked(arguments()))
        .unwrap_or_else(cli::main)
}

/// The door for `fuzz/`, which alone builds with this: everything that a profile's bytes go through.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn check_profile(bytes: &[u8]) {
    profile::check_bytes(bytes);
}
