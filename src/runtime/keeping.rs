//! Keeps the files of versions that become ready. The service runtime and the readiness check call it; [`Versions`] copies.

use std::time::SystemTime;

use devenv_spec::{ServiceSpec, Workload};

use super::{EnvironmentRuntime, versions::Versions};
use crate::reconcile::Instance;

impl EnvironmentRuntime {
    /// Keeps the files of a version that has just become ready.
    pub(super) async fn keep_version(&self, spec: &ServiceSpec, instance: &Instance) {
        self.propose_version(spec, instance, SystemTime::now()).await;
        self.confirm_proposed(spec, instance).await;
    }

    /// Copies the files of a version whose readiness is only to be confirmed. `copied` is when a container had them at the latest: its files
    /// were copied into it, and newer ones follow.
    pub(super) async fn propose_version(&self, spec: &ServiceSpec, instance: &Instance, copied: SystemTime) {
        let run = instance.run;
        let started = match &spec.workload {
            Workload::Process(_) => self.processes.started_at(&spec.name),
            Workload::Container(_) => Some(copied),
        };
        if let Some(started) = started {
            self.blocking(spec, move |versions, spec| versions.propose(spec, run, started)).await;
        }
    }

    pub(super) async fn confirm_proposed(&self, spec: &ServiceSpec, instance: &Instance) {
        let run = instance.run;
        self.blocking(spec, move |versions, spec| versions.confirm(&spec.name, run)).await;
    }

    /// `None` if it panicked, or the disk does not answer; both are logged.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        spec: &ServiceSpec,
        work: impl FnOnce(&Versions, &ServiceSpec) -> T + Send + 'static,
    ) -> Option<T> {
        let (versions, name, spec) = (self.versions.clone(), &spec.name, spec.clone());
        // Only rules name files of the project.
        let places = if spec.watch.is_empty() { Vec::new() } else { vec![self.project.clone()] };
        let done = devenv_files::read_in_time(places, move || work(&versions, &spec)).await;
        done.inspect_err(|error| tracing::warn!(%error, service = %name, "Cannot look at the files of a version.")).ok()
    }
}
