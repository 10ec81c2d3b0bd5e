//! What brokers of this protocol write into a spec, and read back: the probe, topics and groups, the target of scripts. Pure.

use devenv_spec::{OfKind, Probe, SecretRef, ServiceSpec};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::NAME;

/// As whom devenv asks a broker that wants a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaLogin {
    pub user: String,
    pub password: SecretRef,
}

/// Metadata with a controller, the advertised address connectable, a coordinator found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaProbe {
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<KafkaLogin>,
}

/// The broker, as scripts reach it from the host on the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaTarget {
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<KafkaLogin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaProvision {
    pub port: u16,
    pub topics: Vec<TopicSpec>,
    pub consumer_groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<KafkaLogin>,
    /// Who else may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<KafkaLogin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    pub settings: IndexMap<String, String>,
}

impl KafkaProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}

impl KafkaTarget {
    pub fn into_target(self) -> OfKind {
        OfKind::new(NAME, &self)
    }
}

impl KafkaProvision {
    pub fn into_provision(self) -> OfKind {
        OfKind::new(NAME, &self)
    }

    /// What the service declares, if it is a broker of this protocol.
    pub fn of(service: &ServiceSpec) -> Option<Self> {
        service.provision.iter().filter(|provision| provision.kind == NAME).find_map(|provision| provision.decode().ok())
    }

    /// The same for a broker in a container that the user configures, as its probe asks it.
    pub fn of_container(service: &ServiceSpec) -> Option<Self> {
        let Probe::OfKind(probe) = &service.probe else { return None };
        let KafkaProbe { port, login } = (probe.kind == NAME).then(|| probe.decode().ok()).flatten()?;
        Some(Self { port, topics: Vec::new(), consumer_groups: Vec::new(), login, users: Vec::new() })
    }
}
