//! What this kind writes into a spec, and reads back: its probe, its virtual hosts, the targets of scripts. Pure.

use devenv_spec::{OfKind, Probe, SecretRef, ServiceSpec};
use serde::{Deserialize, Serialize};

use super::NAME;

/// Log in over AMQP as `user` and open the virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RabbitmqProbe {
    pub port: u16,
    pub user: String,
    pub password: SecretRef,
    pub vhost: String,
}

/// The server's management API, as its administrator reaches it from the host on the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RabbitmqTarget {
    pub management: u16,
    /// The administrator's password.
    pub administrator: SecretRef,
    /// The virtual host of messages that name none.
    pub vhost: String,
}

/// Virtual hosts, each with a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RabbitmqProvision {
    pub target: RabbitmqTarget,
    pub vhosts: Vec<RabbitmqVhost>,
}

/// A virtual host that only its user and the administrator can access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RabbitmqVhost {
    pub name: String,
    pub user: String,
    /// The user's.
    pub password: SecretRef,
}

impl RabbitmqProbe {
    pub fn into_probe(self) -> Probe {
        Probe::OfKind(OfKind::new(NAME, &self))
    }
}

impl RabbitmqTarget {
    pub fn into_target(self) -> OfKind {
        OfKind::new(NAME, &self)
    }
}

impl RabbitmqProvision {
    pub fn into_provision(self) -> OfKind {
        OfKind::new(NAME, &self)
    }

    /// What the service declares, if it is a RabbitMQ server.
    pub fn of(service: &ServiceSpec) -> Option<Self> {
        service.provision.iter().filter(|provision| provision.kind == NAME).find_map(|provision| provision.decode().ok())
    }
}
