//! Real services for tests: one environment for all test processes, and a private part of it for each test.
//!
//! The environment is devenv's: the first test process of a run starts it, the others find it running, and it stays for
//! the next run. Each test changes only its own part: a database copied from the seeded one in milliseconds, a numbered
//! database of Redis, a prefix for topics and groups. Each is removed when its value is dropped, or when the test process
//! ends, however it ends.
//!
//! ```no_run
//! # async fn test() -> Result<(), devenv_harness::HarnessError> {
//! use devenv_harness::TestEnvironment;
//!
//! let environment = TestEnvironment::shared("ci").await?;
//! let orders = environment.postgres("orders").fresh().await?;
//! println!("connect to {}", orders.url());
//! # Ok(())
//! # }
//! ```
//!
//! `devenv` is found by `DEVENV_BIN`, else in `PATH`. Under `devenv test` the environment is the one that the command
//! runs in. Tests without an async runtime use [`blocking`]. A run that should leave nothing running ends with
//! [`TestEnvironment::close`].

pub mod blocking;
mod environment;
mod granted;
#[cfg(test)]
mod guide_tests;
mod private;
mod program;

pub use environment::{Builder, TestEnvironment};
pub use private::{Kafka, Postgres, PrivateDatabase, PrivateRedis, PrivateTopics, Redis};
pub use program::HarnessError;
