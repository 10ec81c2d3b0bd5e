//! From a validated profile to a spec: leases what the profile needs, then compiles it, purely.

use std::{collections::BTreeMap, path::PathBuf};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Plan};
use ipnet::Ipv4Net;

use super::{Environment, Environments};
use crate::{
    engine::build::Manifest,
    error::{describe, internal, no_engine},
    net::{self, PortReservations},
    profile::{self, Leases, Profile, SecretSource},
    runtime::builds,
    spec::{EnvironmentSpec, SecretRef, ServiceName, sensitive},
    store::Record,
    tls::{self, Authority},
};

impl Environments {
    /// The environment as the profile wants it, on the ports and the subnet that it keeps.
    pub(crate) async fn compile(&self, environment: &Environment, document: serde_json::Value) -> Result<EnvironmentSpec, ApiError> {
        let profile = parsed(document)?;
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let needs = profile::needs(&profile);
        let running = running(environment);
        let ports = {
            let mut leases = self.shared.leases.lock().expect("no code panics while it holds this lock");
            lease(&mut leases, &record, &needs.ports, &running, |service, kind, message| {
                environment.handle.events.emit(crate::event::NewEvent::of(service, kind, message));
            })?
        };
        declared_secrets(environment, &profile)?;
        environment.vault.ensure_all(&needs.secrets).map_err(|error| ApiError::new(ErrorCode::Internal, describe(&error)))?;
        for (secret, value) in &needs.given {
            environment.vault.keep(secret, value).map_err(internal)?;
        }
        let authority = self.certify(environment, &needs.certificates)?;
        let subnet = self.subnet(&record).await?;
        environment.handle.keep_ports(ports.clone()).await.map_err(ApiError::from)?;
        let leases = Leases { environment: environment.id.clone(), instance: record.instance.clone(), subnet, ports, authority };
        let mut spec = profile::compile(&profile, &leases);
        builds::fingerprint(&mut spec).await?;
        Ok(spec)
    }

    /// The same, of an environment that need not exist, on ports and a subnet that are not taken by it: nothing is changed.
    pub(crate) async fn draft(&self, target: &EnvironmentTarget, document: serde_json::Value) -> Result<EnvironmentSpec, ApiError> {
        self.draft_with_files(target, document).await.map(|(spec, _)| spec)
    }

    /// With the files that each image is built from.
    async fn draft_with_files(
        &self,
        target: &EnvironmentTarget,
        document: serde_json::Value,
    ) -> Result<(EnvironmentSpec, BTreeMap<ServiceName, Manifest>), ApiError> {
        let profile = parsed(document)?;
        let needs = profile::needs(&profile);
        let (record, running) = match self.find(target) {
            Some(environment) => (environment.handle.record().await.map_err(ApiError::from)?, running(&environment)),
            None => (self.new_record(target), Vec::new()),
        };
        let mut tried = self.shared.leases.lock().expect("no code panics while it holds this lock").clone();
        let ports = lease(&mut tried, &record, &needs.ports, &running, |_, _, _| {})?;
        let subnet = self.subnet(&record).await?;
        let authority = tls::certificate_of(&self.shared.store.authority());
        let leases = Leases { environment: record.id.clone(), instance: record.instance.clone(), subnet, ports, authority };
        let mut spec = profile::compile(&profile, &leases);
        let files = builds::fingerprint(&mut spec).await?;
        Ok((spec, files))
    }

    /// What `up` would do. Nothing is changed.
    pub(crate) async fn plan(&self, target: &EnvironmentTarget, document: serde_json::Value) -> Result<Plan, ApiError> {
        let (spec, files) = self.draft_with_files(target, document).await?;
        match self.find(target) {
            Some(environment) => {
                let rebuilds = builds::reasons(environment.runtime.builds().directory(), &files);
                Ok(environment.handle.preview(spec, rebuilds).await?)
            }
            None => Ok(crate::reconcile::preview_new(&spec)),
        }
    }

    async fn subnet(&self, record: &Record) -> Result<Ipv4Net, ApiError> {
        if let Some(subnet) = record.subnet {
            return Ok(subnet);
        }
        let mut taken = self.shared.engine.subnets().await.map_err(|error| no_engine(&error))?;
        taken.extend(net::host_routes());
        net::choose_subnet(&record.id, &taken).map_err(internal)
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
}

/// Makes the profile's own secrets that are generated, and refuses to go on without those that are given.
fn declared_secrets(environment: &Environment, profile: &Profile) -> Result<(), ApiError> {
    for (name, source) in &profile.secrets {
        let secret = sensitive::declared(name);
        match source {
            SecretSource::Generate(length) => environment.vault.ensure_of_length(&secret, *length as usize).map_err(internal)?,
            SecretSource::FromEnv(_) | SecretSource::File(_) | SecretSource::Command(_) if environment.vault.has(&secret) => {}
            SecretSource::FromEnv(_) | SecretSource::File(_) | SecretSource::Command(_) => {
                return Err(ApiError::new(ErrorCode::Failed, format!("the secret `{name}` of the profile has no value"))
                    .hint("run `devenv up`, which reads it"));
            }
        }
    }
    Ok(())
}

fn parsed(document: serde_json::Value) -> Result<Profile, ApiError> {
    serde_json::from_value(document).map_err(|error| {
        let message = format!("cannot decode the profile that the client sent: {error}");
        ApiError::new(ErrorCode::Internal, message)
            .hint("the daemon may be of another version than this command: run `devenv daemon stop` and try again")
    })
}

/// Ports that are in use by the environment itself.
fn running(environment: &Environment) -> Vec<u16> {
    let status = environment.handle.status();
    let running = status.services.iter().filter(|service| service.container.is_some() || service.pid.is_some());
    let mut ports: Vec<u16> = running.flat_map(|service| service.ports.iter().map(|port| port.host)).collect();
    // A service may be away while its ports are held for it.
    ports.extend(environment.runtime.processes.held_ports());
    ports.extend(environment.forwards.ports());
    ports
}

/// The ports that the environment had stay its own. One that another program has taken meanwhile is replaced; one that the profile
/// names is not. `notice` gets a kind of event and its message.
fn lease(
    reservations: &mut PortReservations,
    record: &Record,
    needs: &[profile::PortRequest],
    running: &[u16],
    notice: impl Fn(&ServiceName, &'static str, String),
) -> Result<BTreeMap<ServiceName, BTreeMap<u16, u16>>, ApiError> {
    // Ports of services that are not in this profile are kept for when they come back.
    let mut ports = record.ports.clone();
    for need in needs {
        let entry = ports.entry(need.service.clone()).or_default();
        let had = entry.get(&need.container).copied();
        let host = match (need.fixed, had) {
            (Some(port), _) => {
                let is_running = running.contains(&port);
                reservations.fix(&record.id, &need.service, port, is_running).map_err(|error| taken(&error))?;
                if !is_running && let Some(holder) = net::shadowed_by(port) {
                    notice(&need.service, "service.port-shadowed", shadowed(&need.service, port, &holder));
                }
                port
            }
            (None, Some(port)) if running.contains(&port) || net::is_free(port) => port,
            (None, Some(port)) => {
                let other = reservations.reserve(&record.id, &need.service, need.container).map_err(|error| taken(&error))?;
                notice(
                    &need.service,
                    "service.port-moved",
                    format!("{}: port {port} is used by {}, so the service moved to port {other}", need.service, net::holder_of(port)),
                );
                other
            }
            (None, None) => reservations.reserve(&record.id, &need.service, need.container).map_err(|error| taken(&error))?,
        };
        entry.insert(need.container, host);
    }
    Ok(ports)
}

fn shadowed(service: &ServiceName, port: u16, holder: &net::Holder) -> String {
    format!("{service}: {holder} listens on port {port} of ::1, where `localhost` may lead; {service} is at 127.0.0.1:{port}")
}

fn taken(error: &net::PortError) -> ApiError {
    ApiError::new(ErrorCode::Failed, error.to_string()).hint("stop that program, or set another port under `ports:` in the profile")
}
