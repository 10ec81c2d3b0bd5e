//! Leases: private parts of running services, made in milliseconds and removed with their client.
//!
//! # Theory of operation
//!
//! Each kind makes its own private parts: a copy of a database, a numbered database with its own user, a prefix
//! for topics. The name of everything that is made for a lease contains [`PREFIX`], so that what a killed daemon left is found again:
//! [`Leases::sweep`] removes what no lease of this daemon knows.
//!
//! `operation::lease` grants and ends leases; nothing here knows of connections or clients.

pub(crate) mod variables;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use indexmap::IndexMap;

use devenv_spec::{EnvironmentSpec, Probe, ServiceName, ServiceSpec};

pub use crate::capability::LeaseError;
use crate::capability::{self, Lessor, Part, ProvisionContext, ServiceKind};

/// The prefix of the name of everything that is made for a lease.
pub(crate) const PREFIX: &str = "devenv_lease_";

/// The requested lease.
pub struct LeaseSpec<'a> {
    pub spec: &'a EnvironmentSpec,
    /// The environment's variables in their host form, with values.
    pub variables: IndexMap<String, String>,
    pub services: &'a [String],
    pub database: Option<&'a str>,
    /// Having nothing to lease is no error.
    pub optional: bool,
    /// Changes when the data that a lease copies changes.
    pub data: &'a str,
}

/// A lease that was granted. It lasts until [`Self::end`].
pub struct Granted {
    pub id: String,
    pub services: Vec<String>,
    /// The private database's name.
    pub database: Option<String>,
    pub variables: IndexMap<String, String>,
    parts: Vec<Box<dyn Part>>,
}

/// The leases of one environment. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    cx: ProvisionContext,
    known: Arc<Mutex<HashMap<ServiceName, Arc<dyn Lessor>>>>,
}

impl Leases {
    pub fn new(cx: ProvisionContext) -> Self {
        Self { cx, known: Arc::default() }
    }

    /// Makes the private parts of every requested service, all at the same time, or none.
    pub async fn grant(&self, wanted: LeaseSpec<'_>) -> Result<Granted, LeaseError> {
        let id = new_id();
        let lessors = self.chosen(&wanted)?;
        let mut granted = Granted { id: id.clone(), services: Vec::new(), database: None, variables: wanted.variables, parts: Vec::new() };
        let mut refused = None;
        let parts = join_all(lessors.into_iter().map(|(service, database, lessor)| {
            let (id, data) = (id.clone(), wanted.data.to_owned());
            async move { (service, lessor.take(&id, database.as_deref(), &data).await) }
        }));
        for (service, part) in parts.await {
            match part {
                Ok(part) => {
                    if let Some(name) = part.database() {
                        granted.database.get_or_insert_with(|| name.to_owned());
                    }
                    granted.parts.push(part);
                    granted.services.push(service.to_string());
                }
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            granted.end().await;
            return Err(error);
        }
        for part in &granted.parts {
            part.make_private(&mut granted.variables);
        }
        Ok(granted)
    }

    /// Removes what leases of an earlier daemon left behind.
    pub async fn sweep(&self, spec: &EnvironmentSpec) {
        let lessors: Vec<_> = spec.services.values().filter_map(|service| self.lessor(service)).collect();
        let swept = join_all(lessors.iter().map(|lessor| lessor.sweep()));
        for result in swept.await {
            if let Err(error) = result {
                // The next lease on it tries again.
                tracing::debug!(%error, "Cannot search for the remains of leases.");
            }
        }
    }

    /// The services that grant the request, with the database to copy if a lease is a copy of one.
    fn chosen(&self, wanted: &LeaseSpec<'_>) -> Result<Vec<Chosen>, LeaseError> {
        let services = &wanted.spec.services;
        let mut chosen: Vec<&ServiceSpec> = Vec::new();
        for name in wanted.services {
            chosen.push(services.get(name.as_str()).ok_or_else(|| LeaseError::NoService(name.clone()))?);
        }
        if chosen.is_empty() {
            chosen = services.values().filter(|service| self.lessor(service).is_some()).collect();
        }
        let mut found: Vec<Chosen> = Vec::new();
        let mut known = Vec::new();
        for service in chosen {
            let Some(lessor) = self.lessor(service) else {
                return Err(LeaseError::NotLeasable { name: service.name.to_string(), kind: service.kind.clone() });
            };
            let Some(databases) = lessor.databases() else {
                found.push((service.name.clone(), None, lessor));
                continue;
            };
            let database = match wanted.database {
                Some(name) => databases.iter().find(|database| *database == name),
                None => databases.first(),
            };
            if let Some(database) = database {
                found.push((service.name.clone(), Some(database.clone()), lessor));
            }
            known.extend(databases.iter().map(|database| format!("`{database}`")));
        }
        let has_database = found.iter().any(|(_, database, _)| database.is_some());
        match wanted.database {
            Some(name) if !has_database => Err(LeaseError::NoDatabase { name: name.to_owned(), known }),
            _ if found.is_empty() && !wanted.optional => Err(LeaseError::Nothing(leasable())),
            _ => Ok(found),
        }
    }

    /// The lessor that knows this service's leases. If the service has changed, it uses the new settings and still
    /// knows the leases that were granted before.
    fn lessor(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        let leases = crate::find(&service.kind).and_then(ServiceKind::leases).or_else(|| in_container(service))?;
        let mut known = self.known.lock().expect("no code panics while it holds this lock");
        let renewed = known.get(&service.name).and_then(|former| former.renewed(service));
        let lessor = renewed.or_else(|| leases.lessor(service, &self.cx))?;
        known.insert(service.name.clone(), lessor.clone());
        Some(lessor)
    }
}

impl Granted {
    /// Removes everything. The next sweep finds what cannot be removed now.
    pub async fn end(self) {
        join_all(self.parts.into_iter().map(Part::give_back)).await;
    }
}

/// A service, the database to copy if a lease is a copy of one, and the lessor.
type Chosen = (ServiceName, Option<String>, Arc<dyn Lessor>);

/// The leases of the kind of server that a container holds, if devenv talks to it in its own protocol.
fn in_container(service: &ServiceSpec) -> Option<&'static dyn capability::Leases> {
    let Probe::OfKind(probe) = &service.probe else { return None };
    crate::find(&probe.kind)?.leases()
}

/// The kinds that have leases, for people.
fn leasable() -> String {
    crate::all().filter(|kind| kind.leases().is_some()).map(ServiceKind::name).collect::<Vec<_>>().join(", ")
}

/// It cannot be guessed, so a client that knows its own cannot find another's.
pub(crate) fn new_id() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}
