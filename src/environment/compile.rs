//! Turns a validated profile into a spec: leases the ports that the profile needs, then compiles it purely.

use std::{collections::BTreeMap, path::PathBuf};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Plan};
use devenv_engine::build::Manifest;
use devenv_profile::{Leases, Profile};
use devenv_secrets::tls::{self, Authority};
use devenv_spec::{EnvironmentSpec, SecretRef, ServiceName};

use super::{
    Environment, Environments,
    ports::{self, Leasing},
    remote,
};
use crate::{
    error::internal,
    runtime::{builds, repositories::Repositories},
};

impl Environments {
    /// The environment according to the profile, on the ports and the subnet that it keeps.
    pub(crate) async fn compile(&self, environment: &Environment, document: serde_json::Value) -> Result<EnvironmentSpec, ApiError> {
        let profile = parsed(document)?;
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let needs = devenv_profile::needs(&profile);
        let leasing = Leasing { record: &record, running: ports::running(environment), others: self.others(&environment.id) };
        let leased = {
            let mut reservations = self.shared.leases.lock().expect("no code panics while it holds this lock");
            leasing.lease(&mut reservations, &needs.ports, |service, kind, message| {
                environment.handle.events.emit(crate::event::NewEvent::of(service, kind, message));
            })?
        };
        environment.declare_secrets(&profile)?;
        environment.vault.ensure_all(&needs.secrets).map_err(internal)?;
        for (secret, value) in &needs.given {
            environment.vault.keep(secret, value).map_err(internal)?;
        }
        let authority = self.certify(environment, &needs.certificates)?;
        let subnet = self.subnet(&record, &profile).await?;
        environment.handle.keep_ports(leased.kept).await.map_err(ApiError::from)?;
        let leases =
            Leases { environment: environment.id.clone(), instance: record.instance.clone(), subnet, ports: leased.ports, authority };
        let mut spec = devenv_profile::compile(&profile, &leases);
        remote::check(&spec, &self.shared.reach, &leases.authority)?;
        for (container, process) in remote::apart(&spec, &self.shared.reach) {
            let message = format!("{container} runs on another machine, from which it does not reach the process {process} on this one");
            environment.handle.events.emit(crate::event::NewEvent::of(container, "service.apart", message));
        }
        self.read_contexts(&mut spec).await?;
        Ok(spec)
    }

    /// The same for an environment that need not exist, on ports and a subnet that are not reserved for it: nothing is changed.
    pub(crate) async fn draft(&self, target: &EnvironmentTarget, document: serde_json::Value) -> Result<EnvironmentSpec, ApiError> {
        self.draft_with_files(target, document).await.map(|(spec, _)| spec)
    }

    /// Adds the fingerprints of the files that each image is built from.
    async fn draft_with_files(
        &self,
        target: &EnvironmentTarget,
        document: serde_json::Value,
    ) -> Result<(EnvironmentSpec, BTreeMap<ServiceName, Manifest>), ApiError> {
        let profile = parsed(document)?;
        let needs = devenv_profile::needs(&profile);
        let (record, running) = match self.find(target) {
            Some(environment) => (environment.handle.record().await.map_err(ApiError::from)?, ports::running(&environment)),
            None => (self.new_record(target), Vec::new()),
        };
        let mut tried = self.shared.leases.lock().expect("no code panics while it holds this lock").clone();
        let leasing = Leasing { record: &record, running, others: self.others(&record.id) };
        let ports = leasing.lease(&mut tried, &needs.ports, |_, _, _| {})?.ports;
        let subnet = self.subnet(&record, &profile).await?;
        let authority = tls::certificate_of(&self.shared.store.authority());
        let leases = Leases { environment: record.id.clone(), instance: record.instance.clone(), subnet, ports, authority };
        let mut spec = devenv_profile::compile(&profile, &leases);
        remote::check(&spec, &self.shared.reach, &leases.authority)?;
        let files = self.read_contexts(&mut spec).await?;
        Ok((spec, files))
    }

    /// Fetches the repositories that images are built from, and takes the fingerprints of all files. Returns the files by service.
    async fn read_contexts(&self, spec: &mut EnvironmentSpec) -> Result<BTreeMap<ServiceName, Manifest>, ApiError> {
        Repositories::new(self.shared.store.repositories()).check_out(spec).await?;
        builds::fingerprint(spec).await
    }

    /// What `up` would do. Nothing is changed.
    pub(crate) async fn plan(&self, target: &EnvironmentTarget, document: serde_json::Value) -> Result<Plan, ApiError> {
        let (spec, files) = self.draft_with_files(target, document).await?;
        match self.find(target) {
            Some(environment) => {
                let rebuilds = builds::reasons(environment.runtime.builds().directory(), &files);
                let scripts = environment.due_scripts(&spec).await;
                Ok(Plan { scripts, ..environment.handle.preview(spec, rebuilds).await? })
            }
            None => Ok(crate::reconcile::preview_new(&spec)),
        }
    }

    /// Creates the certificates of the services that encrypt, once. Returns the authority's own, by which clients verify them.
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
                // Last: its presence shows that both files exist.
                environment.vault.keep(&certificate, &certificate_text).map_err(internal)?;
            }
        }
        Ok(authority.certificate().to_owned())
    }
}

fn parsed(document: serde_json::Value) -> Result<Profile, ApiError> {
    serde_json::from_value(document).map_err(|error| {
        let message = format!("cannot decode the profile that the client sent: {error}");
        ApiError::new(ErrorCode::Usage, message)
            .hint("the daemon may be of another version than this command: run `devenv daemon stop` and try again")
    })
}
