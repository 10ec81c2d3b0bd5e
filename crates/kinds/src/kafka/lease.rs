//! Kafka: a prefix for topics and groups. Topics are made at their first use, so a lease itself makes nothing.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use devenv_secrets::Vault;
use devenv_spec::{ServiceName, ServiceSpec};
use indexmap::IndexMap;
use tokio::net::TcpStream;

use super::{
    KafkaKind,
    login::Login,
    spec::KafkaProvision,
    wire::{Connection, WireError},
};
use crate::{
    capability::{Leases, Lessor, Part},
    lease::{LeaseError, PREFIX, variables::set},
    provision::ProvisionContext,
};

/// A group cannot be deleted while it has members; those of a dead client stay members until their session ends.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(3);

impl Leases for KafkaKind {
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>> {
        Some(Arc::new(KafkaLeases::new(service.name.clone(), server(service)?, cx.vault.clone())))
    }
}

/// A broker of this kind, or one in a container that the user configures.
fn server(service: &ServiceSpec) -> Option<KafkaProvision> {
    KafkaProvision::of(service).or_else(|| KafkaProvision::of_container(service))
}

#[async_trait]
impl Lessor for KafkaLeases {
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        Some(Arc::new(self.clone().renewed(server(service)?)))
    }

    fn databases(&self) -> Option<Vec<String>> {
        None
    }

    async fn take(&self, lease: &str, _: Option<&str>, _: &str) -> Result<Box<dyn Part>, LeaseError> {
        Ok(Box::new(PrivatePrefix { prefix: KafkaLeases::take(self, lease), leases: self.clone() }))
    }

    async fn sweep(&self) -> Result<(), LeaseError> {
        KafkaLeases::sweep(self).await
    }
}

/// A prefix that was leased.
struct PrivatePrefix {
    leases: KafkaLeases,
    prefix: String,
}

#[async_trait]
impl Part for PrivatePrefix {
    fn make_private(&self, variables: &mut IndexMap<String, String>) {
        make_private(&self.leases.service, &self.prefix, variables);
    }

    async fn give_back(self: Box<Self>) {
        self.leases.give_back(&self.prefix).await;
    }
}

fn make_private(service: &ServiceName, prefix: &str, variables: &mut IndexMap<String, String>) {
    for name in ["TOPIC_PREFIX", "GROUP_PREFIX"] {
        set(variables, format!("{}_{name}", service.variable()), prefix);
        variables.entry(format!("KAFKA_{name}")).or_insert_with(|| prefix.to_owned());
    }
}

/// The leases on one broker. Cheap to clone.
#[derive(Clone)]
struct KafkaLeases {
    service: ServiceName,
    server: KafkaProvision,
    vault: Vault,
    /// Prefixes that are leased.
    held: Arc<Mutex<HashSet<String>>>,
}

impl KafkaLeases {
    fn new(service: ServiceName, server: KafkaProvision, vault: Vault) -> Self {
        Self { service, server, vault, held: Arc::default() }
    }

    /// The same leases on the broker as it is now.
    fn renewed(self, server: KafkaProvision) -> Self {
        Self { server, ..self }
    }

    async fn connect(&self) -> Result<Connection, WireError> {
        let login = Login::of(self.server.login.as_ref(), &self.vault).map_err(std::io::Error::other)?;
        Connection::open(TcpStream::connect(("127.0.0.1", self.server.port)).await?, login.as_ref()).await
    }

    fn take(&self, lease: &str) -> String {
        let prefix = format!("{PREFIX}{lease}.");
        self.held.lock().expect("no code panics while it holds this lock").insert(prefix.clone());
        prefix
    }

    /// Deletes what was made with the prefix.
    async fn give_back(&self, prefix: &str) {
        self.held.lock().expect("no code panics while it holds this lock").remove(prefix);
        for attempt in 1..=ATTEMPTS {
            match self.remove(prefix).await {
                Ok(true) => return,
                Ok(false) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
                Ok(false) => tracing::debug!(prefix, "Groups of a lease still have members; the next sweep deletes them."),
                Err(error) => {
                    tracing::debug!(%error, prefix, "Cannot delete the topics and groups of a lease; the next sweep does.");
                    return;
                }
            }
        }
    }

    /// Deletes what leases of an earlier daemon left behind.
    async fn sweep(&self) -> Result<(), LeaseError> {
        match self.remove(PREFIX).await {
            Ok(_) => Ok(()),
            Err(error) => Err(LeaseError::refused(&self.service, "delete the topics of leases", error)),
        }
    }

    /// Whether everything has been removed.
    async fn remove(&self, prefix: &str) -> Result<bool, WireError> {
        let mut broker = self.connect().await?;
        let mut groups = broker.groups().await?;
        let held = self.held.lock().expect("no code panics while it holds this lock").clone();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lease_has_the_short_forms() {
        let mut variables = IndexMap::new();
        make_private(&"events".parse().unwrap(), "x.", &mut variables);
        make_private(&"audit".parse().unwrap(), "y.", &mut variables);
        assert_eq!((variables["KAFKA_TOPIC_PREFIX"].as_str(), variables["EVENTS_GROUP_PREFIX"].as_str()), ("x.", "x."));
        assert_eq!(variables["AUDIT_TOPIC_PREFIX"], "y.");
    }
}
