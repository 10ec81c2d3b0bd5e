//! The part of a service that kinds see while they inject and undo faults of their own.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use devenv_kinds::capability::FaultSite;
use devenv_secrets::Vault;
use devenv_spec::{OfKind, ServiceName, ServiceSpec};
use tokio_util::task::AbortOnDropHandle;

use super::{Faults, inject::Work, undo_log::Undo};
use crate::store::Record;

#[async_trait]
impl FaultSite for Work {
    fn service(&self) -> &ServiceSpec {
        &self.service
    }

    fn vault(&self) -> &Vault {
        &self.faults.site.vault
    }

    fn authority(&self) -> &Path {
        &self.faults.site.authority
    }

    fn time(&self) -> Duration {
        self.time
    }

    fn will_undo(&mut self, step: OfKind) -> Result<(), String> {
        self.will_undo(Undo::OfKind(step)).map_err(|error| error.message)
    }

    fn hold(&mut self, task: AbortOnDropHandle<()>) {
        self.held_tasks.push(task);
    }

    fn volume(&self) -> Option<String> {
        first_volume(&self.record, &self.service.name)
    }

    async fn volume_mode(&mut self, volume: &str, mode: Option<&str>) -> Result<String, String> {
        let (record, service, fault) = (&self.record, &self.service.name, &self.entry.fault.id);
        self.faults.directory_mode(record, service, fault, volume, mode).await.map_err(|error| error.message)
    }
}

/// A service whose fault is undone.
pub(super) struct Undone {
    faults: Faults,
    record: Record,
    service: ServiceSpec,
}

impl Undone {
    /// `None` if the service does not exist any more, and so needs no healing.
    pub(super) async fn of(faults: &Faults, step: &OfKind) -> Result<Option<Self>, String> {
        let record = faults.site.handle.record().await.map_err(|error| error.to_string())?;
        let name = step.value["service"].as_str().unwrap_or_default();
        let service = record.spec.as_ref().and_then(|spec| spec.services.get(name)).cloned();
        Ok(service.map(|service| Self { faults: faults.clone(), record, service }))
    }
}

#[async_trait]
impl FaultSite for Undone {
    fn service(&self) -> &ServiceSpec {
        &self.service
    }

    fn vault(&self) -> &Vault {
        &self.faults.site.vault
    }

    fn authority(&self) -> &Path {
        &self.faults.site.authority
    }

    fn time(&self) -> Duration {
        Duration::ZERO
    }

    /// The undo is on record already.
    fn will_undo(&mut self, _: OfKind) -> Result<(), String> {
        Ok(())
    }

    /// There is nothing to wait for.
    fn hold(&mut self, _: AbortOnDropHandle<()>) {}

    fn volume(&self) -> Option<String> {
        first_volume(&self.record, &self.service.name)
    }

    async fn volume_mode(&mut self, volume: &str, mode: Option<&str>) -> Result<String, String> {
        self.faults.directory_mode(&self.record, &self.service.name, "undo", volume, mode).await.map_err(|error| error.message)
    }
}

fn first_volume(record: &Record, service: &ServiceName) -> Option<String> {
    let prefix = format!("{service}/");
    record.volumes.iter().find(|(key, _)| key.starts_with(&prefix)).map(|(_, volume)| volume.clone())
}
