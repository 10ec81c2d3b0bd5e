//! Leases: private parts of running services, made in milliseconds and gone with their holder.
//!
//! # Theory of operation
//!
//! A lease on PostgreSQL is a database of its own, copied from a pristine copy of a database of the profile
//! ([`postgres`]); on Redis a numbered database with an ACL user of its own ([`redis`]); on Kafka a prefix for topics
//! and groups ([`kafka`]). Whatever is made for a lease carries [`PREFIX`] in its name, so that what a killed daemon left
//! is found again: [`Leases::sweep`] removes what no lease of this daemon knows.
//!
//! `daemon::leases` grants and ends leases; nothing here knows of connections or clients.

mod kafka;
mod postgres;
mod redis;
mod variables;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use indexmap::IndexMap;

use self::{kafka::KafkaLeases, postgres::PostgresLeases, redis::RedisLeases, variables::Private};
use devenv_secrets::SecretError;
use devenv_spec::{EnvironmentSpec, Probe, Provision, ServiceName, ServiceSpec};

use crate::provision::ProvisionContext;

/// Begins the name of everything that is made for a lease.
const PREFIX: &str = "devenv_lease_";

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("there is no service `{0}` in this environment")]
    NoService(String),
    #[error("`{name}` is a service of the kind {kind}, of which nothing can be leased")]
    NotLeasable { name: String, kind: String },
    #[error("no PostgreSQL service of this environment has a database `{name}`; there is {}", known.join(", "))]
    NoDatabase { name: String, known: Vec<String> },
    #[error("nothing of this environment can be leased: it has no PostgreSQL, Redis or Kafka")]
    Nothing,
    #[error("cannot read a secret")]
    Secret(#[from] SecretError),
    #[error("`{service}`: cannot {action}: {reason}")]
    Refused { service: String, action: String, reason: String },
    #[error("all {count} numbered databases of `{service}` are taken")]
    NoNumber { service: String, count: u32 },
}

impl LeaseError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoService(_) | Self::NotLeasable { .. } => Some("`devenv status` lists the services and their kinds"),
            Self::NoNumber { .. } => Some("give the service more with `databases:` in the profile, or run fewer tests at once"),
            Self::Refused { .. } => Some("`devenv status` shows whether the service is ready"),
            Self::NoDatabase { .. } | Self::Nothing | Self::Secret(_) => None,
        }
    }

    fn refused(service: &ServiceName, action: &str, reason: impl fmt::Display) -> Self {
        Self::Refused { service: service.to_string(), action: action.to_owned(), reason: reason.to_string() }
    }
}

/// What is wanted.
pub struct Wanted<'a> {
    pub spec: &'a EnvironmentSpec,
    /// The environment's variables in their host form, filled.
    pub variables: IndexMap<String, String>,
    pub services: &'a [String],
    pub database: Option<&'a str>,
    /// Changes when the data that a lease begins with does.
    pub data: &'a str,
}

/// A lease that was granted. It lasts until [`Self::end`].
pub struct Granted {
    pub id: String,
    pub services: Vec<String>,
    /// The private database's name.
    pub database: Option<String>,
    pub variables: IndexMap<String, String>,
    parts: Vec<Part>,
}

enum Part {
    Postgres(PostgresLeases, String),
    Redis(RedisLeases, redis::Taken),
    Kafka(KafkaLeases, String),
}

/// The leases of one environment. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    cx: ProvisionContext,
    known: Arc<Mutex<HashMap<ServiceName, Lessor>>>,
}

/// Who grants leases on one service.
#[derive(Clone)]
enum Lessor {
    Postgres(PostgresLeases),
    Redis(RedisLeases),
    Kafka(KafkaLeases),
}

impl Leases {
    pub fn new(cx: ProvisionContext) -> Self {
        Self { cx, known: Arc::default() }
    }

    /// Makes the private parts of every service that is wanted, all at the same time, or none.
    pub async fn grant(&self, wanted: Wanted<'_>) -> Result<Granted, LeaseError> {
        let id = new_id();
        let lessors = self.chosen(&wanted)?;
        let mut granted = Granted { id: id.clone(), services: Vec::new(), database: None, variables: wanted.variables, parts: Vec::new() };
        let mut privates = Vec::new();
        let mut refused = None;
        let parts = join_all(lessors.into_iter().map(|(service, database, lessor)| {
            let (id, data) = (id.clone(), wanted.data.to_owned());
            async move { (service.clone(), lessor.take(&id, service, database, &data).await) }
        }));
        for (service, part) in parts.await {
            match part {
                Ok((part, private)) => {
                    if let Private::Database { name, .. } = &private {
                        granted.database.get_or_insert_with(|| name.clone());
                    }
                    granted.parts.push(part);
                    privates.push(private);
                    granted.services.push(service.to_string());
                }
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            granted.end().await;
            return Err(error);
        }
        variables::make_private(&mut granted.variables, &privates);
        Ok(granted)
    }

    /// Removes what leases of an earlier daemon left behind.
    pub async fn sweep(&self, spec: &EnvironmentSpec) {
        let lessors = spec.services.values().filter_map(|service| self.lessor(service));
        let swept = join_all(lessors.map(|lessor| async move {
            match lessor {
                Lessor::Postgres(lessor) => lessor.sweep().await,
                Lessor::Redis(lessor) => lessor.sweep().await,
                Lessor::Kafka(lessor) => lessor.sweep().await,
            }
        }));
        for result in swept.await {
            if let Err(error) = result {
                // The next lease on it looks again.
                tracing::debug!(%error, "What leases may have left behind could not be looked for.");
            }
        }
    }

    /// Who grants what was asked for, with the database to copy where that means something.
    fn chosen(&self, wanted: &Wanted<'_>) -> Result<Vec<(ServiceName, String, Lessor)>, LeaseError> {
        let services = &wanted.spec.services;
        let mut chosen: Vec<&ServiceSpec> = Vec::new();
        for name in wanted.services {
            chosen.push(services.get(name.as_str()).ok_or_else(|| LeaseError::NoService(name.clone()))?);
        }
        if chosen.is_empty() {
            chosen = services.values().filter(|service| self.lessor(service).is_some()).collect();
        }
        let mut found = Vec::new();
        let mut known = Vec::new();
        for service in chosen {
            let Some(lessor) = self.lessor(service) else {
                return Err(LeaseError::NotLeasable { name: service.name.to_string(), kind: service.kind.clone() });
            };
            let databases = databases(service);
            let database = match wanted.database {
                Some(name) if !databases.is_empty() => databases.iter().find(|database| **database == name).copied(),
                _ => databases.first().copied(),
            };
            known.extend(databases.iter().map(|database| format!("`{database}`")));
            match (&lessor, database) {
                (Lessor::Postgres(_), None) => {}
                (_, database) => found.push((service.name.clone(), database.unwrap_or_default().to_owned(), lessor)),
            }
        }
        let has_database = found.iter().any(|(_, _, lessor)| matches!(lessor, Lessor::Postgres(_)));
        match wanted.database {
            Some(name) if !has_database => Err(LeaseError::NoDatabase { name: name.to_owned(), known }),
            _ if found.is_empty() => Err(LeaseError::Nothing),
            _ => Ok(found),
        }
    }

    /// The one that knows this service's leases. Where the service is not as it was, it has the new one's ways and still
    /// knows the leases that were granted before.
    fn lessor(&self, service: &ServiceSpec) -> Option<Lessor> {
        let mut known = self.known.lock().expect("no holder of this lock panics");
        let provision = service.provision.iter().find_map(|provision| match provision {
            Provision::Postgres(provision) => Some(provision),
            _ => None,
        });
        let former = known.get(&service.name).cloned();
        let lessor = match (provision, &service.probe) {
            (Some(provision), _) => match former {
                Some(Lessor::Postgres(lessor)) => Lessor::Postgres(lessor.renewed(provision)),
                _ => Lessor::Postgres(PostgresLeases::new(service.name.clone(), provision.clone(), self.cx.clone())),
            },
            (None, Probe::Redis { port, password, tls, .. }) => match former {
                Some(Lessor::Redis(lessor)) => Lessor::Redis(lessor.renewed(*port, password, *tls)),
                _ => Lessor::Redis(RedisLeases::new(service.name.clone(), *port, password.clone(), *tls, self.cx.clone())),
            },
            (None, Probe::Kafka { port }) => match former {
                Some(Lessor::Kafka(lessor)) => Lessor::Kafka(lessor.renewed(*port)),
                _ => Lessor::Kafka(KafkaLeases::new(service.name.clone(), *port)),
            },
            (None, _) => return None,
        };
        known.insert(service.name.clone(), lessor.clone());
        Some(lessor)
    }
}

impl Lessor {
    /// A private part, and what variables say of it.
    async fn take(self, id: &str, service: ServiceName, database: String, data: &str) -> Result<(Part, Private), LeaseError> {
        Ok(match self {
            Self::Postgres(lessor) => {
                let name = lessor.take(&database, data).await?;
                (Part::Postgres(lessor, name.clone()), Private::Database { service, database, name })
            }
            Self::Redis(lessor) => {
                let taken = lessor.take(id).await?;
                let (user, password, number) = (taken.user.clone(), taken.password.clone(), taken.number);
                (Part::Redis(lessor, taken), Private::Number { service, user, password, number })
            }
            Self::Kafka(lessor) => {
                let prefix = lessor.take(id);
                (Part::Kafka(lessor, prefix.clone()), Private::Prefix { service, prefix })
            }
        })
    }
}

impl Granted {
    /// Removes all of it. What cannot be removed now is found by the next sweep.
    pub async fn end(self) {
        join_all(self.parts.into_iter().map(|part| async move {
            match part {
                Part::Postgres(lessor, name) => lessor.give_back(name).await,
                Part::Redis(lessor, taken) => lessor.give_back(taken).await,
                Part::Kafka(lessor, prefix) => lessor.give_back(&prefix).await,
            }
        }))
        .await;
    }
}

fn databases(service: &ServiceSpec) -> Vec<&str> {
    let provisions = service.provision.iter().filter_map(|provision| match provision {
        Provision::Postgres(provision) => Some(provision),
        _ => None,
    });
    provisions.flat_map(|provision| provision.databases.iter().map(|database| database.name.as_str())).collect()
}

/// Nobody can guess it, so a holder that knows its own cannot name another's.
fn new_id() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}
