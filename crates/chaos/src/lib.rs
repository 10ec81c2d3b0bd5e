//! Chaos scenarios: a workload, a timeline of faults, and a verdict that the run has to prove.
//!
//! The command line runs them through the daemon's client; nothing here knows the daemon or the engine. `document` and `validate` turn a
//! file into a [`Scenario`], and `plan` turns it with a seed into a plan: both are pure. A run (`runner`, `entry`, `workers`)
//! injects and undoes faults; clients (`workload`) write the answers they get to a log; at the end the stored data is
//! compared with that log (`consistency`, `check`, `verdict`: pure), and the result is reported (`report`).
//! Load tests (`load`) drive the same workloads without faults.

mod check;
mod condition;
mod consistency;
mod daemon_api;
mod document;
mod entry;
mod find;
mod journal;
pub mod load;
mod metrics;
mod operation_log;
mod outcome;
pub mod plan;
mod prober;
mod progress;
mod recovery;
pub mod report;
mod run_context;
mod runner;
pub mod runs;
mod scenario;
mod shrink;
mod stats;
#[cfg(test)]
mod tests;
mod validate;
mod verdict;
mod workers;
mod workload;

pub use daemon_api::{DaemonApi, InjectOrder};
pub use find::{Located, find, find_file, list};
pub use runner::{Inputs, RunError, run};
pub use scenario::Scenario;
pub use shrink::{shrunk, without};
pub use validate::{ServiceFacts, Services, profile_of, read};

/// The lock file that a run holds, one for each environment.
pub fn lock_name(project: &str, instance: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(project).chain_update([0]).chain_update(instance).finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016x}.lock")
}
