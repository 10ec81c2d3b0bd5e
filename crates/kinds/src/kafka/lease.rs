//! Kafka: a prefix for topics and groups. Topics are made at their first use, so a lease itself makes nothing.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{LeaseError, PREFIX};
use devenv_spec::ServiceName;

use crate::probe::kafka_wire::{Connection, WireError};

/// A group cannot be deleted while it has members, and those of a dead holder are members until their session ends.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(3);

/// The leases on one broker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KafkaLeases {
    service: ServiceName,
    port: u16,
    /// Prefixes that are leased.
    held: Arc<Mutex<HashSet<String>>>,
}

impl KafkaLeases {
    pub(crate) fn new(service: ServiceName, port: u16) -> Self {
        Self { service, port, held: Arc::default() }
    }

    /// The same leases on the broker as it is now.
    pub(crate) fn renewed(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub(crate) fn take(&self, lease: &str) -> String {
        let prefix = format!("{PREFIX}{lease}.");
        self.held.lock().expect("no holder of this lock panics").insert(prefix.clone());
        prefix
    }

    /// Deletes what was made with the prefix.
    pub(crate) async fn give_back(&self, prefix: &str) {
        self.held.lock().expect("no holder of this lock panics").remove(prefix);
        for attempt in 1..=ATTEMPTS {
            match self.remove(prefix).await {
                Ok(true) => return,
                Ok(false) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
                Ok(false) => tracing::debug!(prefix, "Groups of a lease still have members; the next sweep deletes them."),
                Err(error) => {
                    tracing::debug!(%error, prefix, "Topics and groups of a lease could not be deleted; the next sweep finds them.");
                    return;
                }
            }
        }
    }

    /// Deletes what leases of an earlier daemon left behind.
    pub(crate) async fn sweep(&self) -> Result<(), LeaseError> {
        match self.remove(PREFIX).await {
            Ok(_) => Ok(()),
            Err(error) => Err(LeaseError::refused(&self.service, "delete the topics of leases", error)),
        }
    }

    /// Whether nothing is left.
    async fn remove(&self, prefix: &str) -> Result<bool, WireError> {
        let mut broker = Connection::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
        let mut groups = broker.groups().await?;
        let held = self.held.lock().expect("no holder of this lock panics").clone();
        let is_due = |name: &String| name.starts_with(prefix) && !held.iter().any(|held| name.starts_with(held.as_str()));
        groups.retain(&is_due);
        let mut gone = true;
        if !groups.is_empty() {
            gone = broker.delete_groups(&groups).await?.iter().all(|outcome| outcome.code == 0);
        }
        let mut topics: Vec<String> = broker.metadata(None).await?.topics.into_iter().map(|topic| topic.name).collect();
        topics.retain(&is_due);
        if !topics.is_empty() {
            broker.delete_topics(&topics).await?;
        }
        Ok(gone)
    }
}
