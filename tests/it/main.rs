//! Tests that need no container engine: the real binary where it needs no daemon, and the daemon in this process on an
//! engine in memory.

mod builds;
mod changes;
mod cli;
mod collection;
mod commands;
mod concurrency;
mod crash_recovery;
mod disconnects;
mod elsewhere;
mod endurance;
mod failures;
mod faults;
mod foreign_files;
mod forgotten;
mod full_disk;
mod golden;
mod held;
mod hostile_disk;
mod log_probes;
mod panics;
mod relocated;
mod runners;
mod secrets;
mod selected;
mod several;
mod sleep;
mod state_directory;
mod subnets;
mod supply_chain;
mod take_over;
mod timings;
mod ui;
mod users;
mod world;
