//! From a validated profile to a spec: leases what the profile needs, then compiles it, purely.

use std::{collections::BTreeMap, path::PathBuf};

use devenv_api::{ApiError, ErrorCode};

use super::{Environments, describe, environments::Environment, internal, no_engine};
use crate::{
    net,
    profile::{self, Leases, Profile},
    spec::{EnvironmentSpec, SecretRef, ServiceName},
    tls::{self, Authority},
};

impl Environments {
    /// The environment as the profile wants it, on the ports and the subnet that it keeps.
    pub(crate) async fn compile(&self, environment: &Environment, document: serde_json::Value) -> Result<EnvironmentSpec, ApiError> {
        let profile: Profile = serde_json::from_value(document).map_err(|error| {
            let message = format!("cannot decode the profile that the client sent: {error}");
            ApiError::new(ErrorCode::Internal, message)
                .hint("the daemon may be of another version than this command: run `devenv daemon stop` and try again")
        })?;
        let mut record = environment.handle.record().await.map_err(ApiError::from)?;
        let needs = profile::needs(&profile);
        environment.vault.ensure_all(&needs.secrets).map_err(|error| ApiError::new(ErrorCode::Internal, describe(&error)))?;
        let mut running: Vec<u16> = environment
            .handle
            .status()
            .services
            .iter()
            .filter(|service| service.container.is_some() || service.pid.is_some())
            .flat_map(|service| service.ports.iter().map(|port| port.host))
            .collect();
        let authority = self.certify(environment, &needs.certificates)?;
        // A service may be away while its ports are held for it.
        running.extend(environment.caretaker.hosts.held_ports());
        running.extend(environment.passages.ports());
        let ports = self.lease(environment, &needs.ports, &record.ports, &running)?;
        let subnet = match record.subnet {
            Some(subnet) => subnet,
            None => {
                let mut taken = self.shared.engine.subnets().await.map_err(|error| no_engine(&error))?;
                taken.extend(net::host_routes());
                net::choose_subnet(&environment.id, &taken).map_err(internal)?
            }
        };
        record.ports.clone_from(&ports);
        environment.handle.keep_ports(ports.clone()).await.map_err(ApiError::from)?;
        let leases = Leases { environment: environment.id.clone(), instance: record.instance.clone(), subnet, ports, authority };
        Ok(profile::compile(&profile, &leases))
    }

    /// Certificates for the services that encrypt, made once; the authority's own, by which clients verify them.
    fn certify(&self, environment: &Environment, services: &[ServiceName]) -> Result<PathBuf, ApiError> {
        let directory = self.shared.store.authority();
        if services.is_empty() {
            return Ok(tls::certificate_of(&directory));
        }
        let authority = Authority::open(&directory).map_err(internal)?;
        for service in services {
            let (certificate, key) = (SecretRef::new(service.as_str(), "tls.crt"), SecretRef::new(service.as_str(), "tls.key"));
            if !environment.vault.has(&certificate) {
                let (certificate_text, key_text) = authority.server(&[service.to_string()]).map_err(internal)?;
                environment.vault.keep(&key, &key_text).map_err(internal)?;
                // Last: it says that both are there.
                environment.vault.keep(&certificate, &certificate_text).map_err(internal)?;
            }
        }
        Ok(authority.certificate().to_owned())
    }

    /// Keeps the environment's ports. A port that another program has taken in the meantime is replaced, and the
    /// user gets a message; a port that the profile names does not move.
    fn lease(
        &self,
        environment: &Environment,
        needs: &[profile::PortRequest],
        kept: &BTreeMap<ServiceName, BTreeMap<u16, u16>>,
        running: &[u16],
    ) -> Result<BTreeMap<ServiceName, BTreeMap<u16, u16>>, ApiError> {
        let mut leases = self.shared.leases.lock().expect("no code panics while it holds this lock");
        // Ports of services that are not in this profile are kept for when they come back.
        let mut ports = kept.clone();
        for need in needs {
            let entry = ports.entry(need.service.clone()).or_default();
            let had = entry.get(&need.container).copied();
            let host = match (need.fixed, had) {
                (Some(port), _) => {
                    leases.fix(&environment.id, &need.service, port, running.contains(&port)).map_err(|error| taken(&error))?;
                    port
                }
                (None, Some(port)) if running.contains(&port) || net::is_free(port) => port,
                (None, Some(port)) => {
                    let moved = leases.lease(&environment.id, &need.service, need.container).map_err(|error| taken(&error))?;
                    let message =
                        format!("{}: port {port} is used by {}, so the service moved to port {moved}", need.service, net::holder_of(port));
                    environment.handle.events.emit(crate::event::News::of(&need.service, "service.port-moved", message));
                    moved
                }
                (None, None) => leases.lease(&environment.id, &need.service, need.container).map_err(|error| taken(&error))?,
            };
            entry.insert(need.container, host);
        }
        Ok(ports)
    }
}

fn taken(error: &net::PortError) -> ApiError {
    ApiError::new(ErrorCode::Failed, error.to_string()).hint("stop that program, or set another port under `ports:` in the profile")
}
