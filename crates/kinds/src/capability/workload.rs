//! Workloads of chaos scenarios on a server.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{AddressError, Variables};

/// The workloads of one kind.
pub trait Workloads: Send + Sync {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind];
}

/// One sort of workload, by its name in scenarios. Its fields always include `service`, `clients` and `rate`.
pub trait WorkloadKind: Send + Sync {
    fn name(&self) -> &'static str;

    /// A sentence for the schema.
    fn about(&self) -> &'static str;

    /// The schema of its fields.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;

    /// Whether it works in a database, which its field `database` may name.
    fn is_in_database(&self) -> bool {
        false
    }

    /// Makes the workload. The fields match the schema.
    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError>;
}

/// The context of a workload.
#[derive(Clone, Copy)]
pub struct WorkloadSite<'a> {
    pub service: &'a str,
    pub variables: &'a Variables,
    /// Unique to this run; part of the names of tables, keys and topics.
    pub run: &'a str,
    /// The workload's name in its scenario.
    pub label: &'a str,
}

/// Work on one service.
#[async_trait]
pub trait Work: Send + Sync {
    /// Called before any client starts: creates tables, topics, groups.
    async fn set_up(&self) -> Result<(), WorkError>;

    fn client(&self, client: u32) -> Box<dyn Client>;

    /// Completes the jobs of the clients, until stopped.
    async fn complete(&self, _completed: &dyn Completions, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// Jobs that are accepted and not completed yet; `None` if it has no jobs.
    fn outstanding(&self) -> Option<u64> {
        None
    }

    /// The stored operations at the end, read over a new connection; `None` if it stores nothing.
    async fn read_back(&self) -> Result<Option<Observed>, WorkError>;

    /// Removes what it made.
    async fn clean_up(&self) -> Result<(), WorkError>;
}

/// Where completed operations are recorded, outside of the server.
pub trait Completions: Send + Sync {
    fn completed(&self, client: u32, sequence: u64);
}

/// One client: one connection, one operation at a time.
#[async_trait]
pub trait Client: Send {
    async fn connect(&mut self) -> Result<(), String>;

    async fn operate(&mut self, sequence: u64) -> Reply;

    /// An operation that takes longer has an unknown outcome.
    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Acknowledged,
    /// Certainly not done.
    Refused(String),
    /// The outcome is unknown; the connection is not used again.
    Unknown(String),
}

/// What was found in the service: how often each operation is stored.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub found: HashMap<(u32, u64), u32>,
    /// Entries that could not be parsed as an operation.
    pub strangers: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{0}")]
    Said(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// `CLIENT:SEQUENCE`, as stored values contain it.
pub(crate) fn mark(client: u32, sequence: u64) -> String {
    format!("{client}:{sequence}")
}

pub(crate) fn unmark(text: &str) -> Option<(u32, u64)> {
    let (client, sequence) = text.split_once(':')?;
    Some((client.parse().ok()?, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back() {
        assert_eq!(unmark(&mark(3, 77)), Some((3, 77)));
        assert_eq!(unmark("x:1"), None);
    }
}
