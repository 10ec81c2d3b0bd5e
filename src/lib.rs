//! devenv: a local development environment supervisor.
//!
//! Kinds describe, the planner decides, the engine acts, events report. `ARCHITECTURE.md` is the map.

mod backups;
mod blocking;
mod cli;
mod daemon;
mod doctor;
mod environment;
mod error;
mod event;
mod faults;
mod golden;
#[doc(hidden)]
pub mod hosted;
mod inherit;
mod net;
mod openapi;
mod operation;
mod operation_store;
mod paths;
mod reconcile;
mod reload;
mod runtime;
mod server;
mod store;

use devenv_processes::{parent_death, shim};

/// The program: everything from the arguments to the exit code.
pub fn main() -> std::process::ExitCode {
    // First of all: a process shim starts with every host process, and must not load what only a client or daemon needs.
    let arguments = || std::env::args_os().skip(1);
    shim::main_if_asked(arguments())
        .or_else(|| parent_death::main_if_asked(arguments()))
        .or_else(|| devenv_kinds::main_if_asked(arguments()))
        .unwrap_or_else(cli::main)
}
