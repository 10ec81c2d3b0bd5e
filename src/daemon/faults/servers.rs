//! Faults that servers know themselves: sessions to Redis, PostgreSQL and Kafka, as their superuser.

mod kafka;
mod postgres;
mod redis;

use super::Environment;
use std::path::PathBuf;

use crate::{
    secret::Vault,
    spec::{ServiceName, ServiceSpec},
    tls,
};

pub(super) use super::act::Told;

/// One server, and the way into it.
pub(super) struct Server {
    spec: ServiceSpec,
    vault: Vault,
    /// By which a server with TLS is verified.
    authority: PathBuf,
}

impl Server {
    pub(super) async fn of(environment: &Environment, service: &ServiceName) -> Result<Self, String> {
        let record = environment.handle.record().await.map_err(|error| error.to_string())?;
        let spec =
            record.spec.as_ref().and_then(|spec| spec.services.get(service)).ok_or_else(|| format!("unknown service `{service}`"))?;
        Ok(Self { spec: spec.clone(), vault: environment.vault.clone(), authority: environment.caretaker.authority().to_owned() })
    }

    /// What a client of this server trusts, if it encrypts.
    fn trust(&self, encrypts: bool) -> Result<Option<rustls::ClientConfig>, String> {
        tls::trust(encrypts, Some(&self.authority)).map_err(|error| error.to_string())
    }

    fn provision<T>(&self, of: impl Fn(&ServiceSpec) -> Option<T>) -> Result<T, String> {
        of(&self.spec).ok_or_else(|| format!("{} is not a server that this fault supports", self.spec.name))
    }
}
