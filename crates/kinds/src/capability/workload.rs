//! Work that chaos scenarios do on a server, and the question that shows whether it answers.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use devenv_spec::variable_form;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The workloads of one kind.
pub trait Workloads: Send + Sync {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind];
}

/// One kind of work, by the name that scenarios give it. Its fields always hold `service`, `clients` and `rate`.
pub trait WorkloadKind: Send + Sync {
    fn name(&self) -> &'static str;

    /// One sentence for the schema.
    fn about(&self) -> &'static str;

    /// The schema of its fields.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;

    /// Whether it works in a database, which its field `database` may name.
    fn is_in_database(&self) -> bool {
        false
    }

    /// What does the work. The fields have the shape of the schema.
    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError>;
}

/// Where a workload works.
pub struct WorkloadSite<'a> {
    pub service: &'a str,
    pub variables: &'a Variables,
    /// Of this run alone; in names of tables, keys and topics.
    pub run: &'a str,
    /// The workload's name in its scenario.
    pub label: &'a str,
}

/// Work on one service.
#[async_trait]
pub trait Work: Send + Sync {
    /// Before any client: tables, topics, groups.
    async fn set_up(&self) -> Result<(), WorkError>;

    fn client(&self, client: u32) -> Box<dyn Client>;

    /// Completes what the clients ask for, until stopped.
    async fn complete(&self, _completed: &dyn Completions, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// What was accepted and is not completed yet, where there is such a thing.
    fn outstanding(&self) -> Option<u64> {
        None
    }

    /// What is there in the end, over a fresh connection; `None` if nothing is kept.
    async fn read_back(&self) -> Result<Option<Observed>, WorkError>;

    /// Takes away what it made.
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

    /// An operation that takes longer has an unknown end.
    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Acknowledged,
    /// For certain not done.
    Refused(String),
    /// Its end is unknown; the connection is not used again.
    Unknown(String),
}

/// What was found in the service: how often each operation is there.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub found: HashMap<(u32, u64), u32>,
    /// What is there and could not even be read as an operation.
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

/// Opens lines to a server, to see whether and when it answers.
#[async_trait]
pub trait Asker: Send + Sync {
    async fn open(&self) -> Result<Box<dyn Line>, Silent>;
}

/// One connection to a server.
#[async_trait]
pub trait Line: Send {
    /// The shortest question of the protocol.
    async fn ask(&mut self) -> Result<(), Silent>;
}

/// There was no answer. Why does not matter: it is asked again in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent;

/// The variables that the daemon gives, with their values.
#[derive(Debug, Clone, Default)]
pub struct Variables(pub BTreeMap<String, String>);

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("the environment has no variable {name}")]
    Missing { name: String },
    #[error("{name} is not an address: {reason}")]
    Unreadable { name: String, reason: String },
}

impl Variables {
    /// The name of `SERVICE_SUFFIX`.
    pub fn name(service: &str, suffix: &str) -> String {
        format!("{}_{suffix}", variable_form(service))
    }

    /// `SERVICE_SUFFIX`.
    pub fn of(&self, service: &str, suffix: &str) -> Result<&str, AddressError> {
        self.value(&Self::name(service, suffix))
    }

    pub fn value(&self, name: &str) -> Result<&str, AddressError> {
        self.0.get(name).map(String::as_str).ok_or_else(|| AddressError::Missing { name: name.to_owned() })
    }
}

/// `CLIENT:SEQUENCE`, as values carry it.
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

    #[test]
    fn each_kind_is_reached_by_its_own_variables() {
        let pairs = [
            ("MY_DB_URL", "postgres://app:secret@127.0.0.1:5432/app?sslmode=disable"),
            ("CACHE_URL", "redis://default:s@127.0.0.1:6379/0"),
            ("EVENTS_BROKERS", "127.0.0.1:9092"),
            ("API_URL", "http://127.0.0.1:8080/x"),
        ];
        let variables = Variables(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        for (kind, service) in [
            ("postgres", "my-db"),
            ("pgbouncer", "my-db"),
            ("redis", "cache"),
            ("kafka", "events"),
            ("redpanda", "events"),
            ("process", "api"),
        ] {
            assert!(crate::find(kind).unwrap().asker(&variables, service).is_ok(), "{kind}");
        }
        let missing = crate::find("kafka").unwrap().asker(&variables, "my-db").err().map(|error| error.to_string());
        assert_eq!(missing.as_deref(), Some("the environment has no variable MY_DB_BROKERS"));
    }
}
