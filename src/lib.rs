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
mod operation;
mod operation_store;
mod paths;
mod reconcile;
mod reload;
mod runtime;
mod server;
mod store;

// Crates under the names that they have here.
use devenv_chaos as chaos;
use devenv_engine as engine;
use devenv_kinds::{self as kinds, backup, diagnosis, faults as fault, lease, metrics, probe, provision, script};
use devenv_logs as log;
use devenv_processes as process;
use devenv_profile as profile;
use devenv_secrets::{self as secret, tls};
use devenv_snapshots as snapshot;
use devenv_spec as spec;
use devenv_watch as watch;

/// The program: everything from the arguments to the exit code.
pub fn main() -> std::process::ExitCode {
    // First of all: a process shim starts with every host process, and must not load what only a client or daemon needs.
    let arguments = || std::env::args_os().skip(1);
    process::shim::main_if_asked(arguments())
        .or_else(|| process::parent_death::main_if_asked(arguments()))
        .or_else(|| kinds::main_if_asked(arguments()))
        .unwrap_or_else(cli::main)
}
