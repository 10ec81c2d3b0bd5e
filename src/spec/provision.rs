//! What the profile declares to exist inside a service, brought about idempotently on every `up`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::SecretRef;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Provision {
    Postgres(PostgresProvision),
    Redis(RedisProvision),
    Kafka(KafkaProvision),
    S3(S3Provision),
}

/// Roles first, then databases, then what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PostgresProvision {
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// The superuser's password.
    pub(crate) password: SecretRef,
    pub(crate) roles: Vec<PostgresRole>,
    pub(crate) databases: Vec<PostgresDatabase>,
}

/// A role that may log in and has no other right by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PostgresRole {
    pub(crate) name: String,
    pub(crate) password: SecretRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PostgresDatabase {
    pub(crate) name: String,
    /// Owns the database and its schema `public`; nobody else may connect, superusers aside.
    pub(crate) owner: String,
    pub(crate) extensions: Vec<ExtensionSpec>,
    /// `ALTER DATABASE … SET`.
    pub(crate) settings: IndexMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtensionSpec {
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RedisProvision {
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) password: SecretRef,
    /// ACL users: name, rules, password.
    pub(crate) users: Vec<(String, String, SecretRef)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KafkaProvision {
    pub(crate) port: u16,
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) consumer_groups: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicSpec {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) settings: IndexMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct S3Provision {
    pub(crate) port: u16,
    pub(crate) access_key: SecretRef,
    pub(crate) secret_key: SecretRef,
    pub(crate) buckets: Vec<String>,
}
