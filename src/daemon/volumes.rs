//! Services at rest for a backup of their files: which containers are paused is on disk before they are, so that no death
//! of ours leaves them so.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, ErrorCode, ServiceState};

use crate::{
    engine::ObservedVolume,
    environment::{Environment, Environments},
    error::{internal, no_engine},
    spec::{MountSource, ServiceSpec},
    store::write_atomically,
};

impl Environments {
    pub(crate) async fn volume(&self, name: &str) -> Result<ObservedVolume, ApiError> {
        let volume = self.engine().volume(name).await.map_err(|error| no_engine(&error))?;
        volume.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("volume {name} does not exist")))
    }

    /// Pauses every container of the environment that runs and keeps data.
    pub(super) async fn pause(&self, environment: &Environment) -> Result<(), ApiError> {
        let spec = environment.spec().await?;
        let keeps = |name: &str| spec.services.get(name).is_some_and(keeps_data);
        let may_write = |state: ServiceState| {
            matches!(state, ServiceState::Ready | ServiceState::Starting | ServiceState::Unhealthy | ServiceState::Provisioning)
        };
        let services = environment.handle.status().services.into_iter();
        let running: Vec<String> =
            services.filter(|service| keeps(&service.name) && may_write(service.state)).filter_map(|service| service.container).collect();
        let list = serde_json::to_vec(&running).expect("a list of names serializes to JSON");
        write_atomically(&self.paused_list(environment), &list).map_err(internal)?;
        let paused = futures_util::future::join_all(running.iter().map(|container| self.engine().pause(container))).await;
        if let Some(error) = paused.into_iter().find_map(Result::err) {
            self.resume(environment).await;
            return Err(no_engine(&error));
        }
        Ok(())
    }

    /// Resumes containers that were paused for a copy, now or by an earlier daemon.
    pub(super) async fn resume(&self, environment: &Environment) {
        self.resume_listed(&self.paused_list(environment)).await;
    }

    /// The same, also for what golden volumes were copied from when an earlier daemon died.
    pub(crate) async fn resume_all(&self, environment: &Environment) {
        let directory = self.shared.store.environment(&environment.id);
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let list = path.extension().is_some_and(|extension| extension == "json");
            if list && entry.file_name().to_string_lossy().starts_with("paused") {
                self.resume_listed(&path).await;
            }
        }
    }

    async fn resume_listed(&self, path: &Path) {
        let Some(list) = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Vec<String>>(&text).ok()) else { return };
        let resumed = futures_util::future::join_all(list.iter().map(|container| self.engine().unpause(container))).await;
        for error in resumed.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "Cannot resume a container that was paused for a copy.");
        }
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "Cannot remove the list of paused containers.");
        }
    }

    fn paused_list(&self, environment: &Environment) -> PathBuf {
        self.shared.store.environment(&environment.id).join("paused.json")
    }
}

fn keeps_data(spec: &ServiceSpec) -> bool {
    let mut mounts = spec.container().into_iter().flat_map(|container| &container.mounts);
    mounts.any(|mount| matches!(mount.source, MountSource::Volume(_)))
}
