//! What the profile declares to exist inside a service, brought about idempotently on every `up`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::SecretRef;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provision {
    Postgres(PostgresProvision),
    Redis(RedisProvision),
    Kafka(KafkaProvision),
    S3(S3Provision),
}

/// Roles first, then databases, then what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresProvision {
    pub port: u16,
    pub tls: bool,
    /// The superuser's password.
    pub password: SecretRef,
    pub roles: Vec<PostgresRole>,
    pub databases: Vec<PostgresDatabase>,
}

/// A role that may log in and has no other right by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresRole {
    pub name: String,
    pub password: SecretRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresDatabase {
    pub name: String,
    /// Owns the database and its schema `public`; nobody else may connect, superusers aside.
    pub owner: String,
    pub extensions: Vec<ExtensionSpec>,
    /// `ALTER DATABASE … SET`.
    pub settings: IndexMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionSpec {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisProvision {
    pub port: u16,
    pub tls: bool,
    pub password: SecretRef,
    /// ACL users: name, rules, password.
    pub users: Vec<(String, String, SecretRef)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaProvision {
    pub port: u16,
    pub topics: Vec<TopicSpec>,
    pub consumer_groups: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    pub settings: IndexMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Provision {
    pub port: u16,
    pub access_key: SecretRef,
    pub secret_key: SecretRef,
    pub buckets: Vec<String>,
}
