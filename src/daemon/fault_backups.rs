//! Backups for faults: a fault that removes data saves it first, and its undo restores it. Both are operations like any
//! other, so they wait for their turn and are finished or undone whatever happens.

use std::sync::OnceLock;

use async_trait::async_trait;
use devenv_api::{
    ApiError, AskedBy, Backup, Compared, EnvironmentTarget, ErrorCode, OperationRequest, RestoreRequest, Restored, ServicesRequest,
    Submission,
};
use devenv_spec::{EnvironmentId, ServiceName};
use serde::de::DeserializeOwned;

use crate::{
    error::internal,
    faults::Backups,
    operation::{Operations, WeakOperations},
};

/// Faults are below operations, so they get the operations here, once these exist.
#[derive(Default)]
pub(super) struct FaultBackups(OnceLock<WeakOperations>);

impl FaultBackups {
    /// Call it once, before environments are adopted.
    pub(super) fn submit_to(&self, operations: &Operations) {
        let _ = self.0.set(operations.downgrade());
    }

    async fn carry_out<T: DeserializeOwned>(
        &self,
        environment: &EnvironmentId,
        request: impl FnOnce(EnvironmentTarget) -> OperationRequest,
    ) -> Result<T, ApiError> {
        let ends = || ApiError::new(ErrorCode::Interrupted, "the environment ends");
        let operations = self.0.get().and_then(WeakOperations::get).ok_or_else(ends)?;
        let target = operations.target(environment).ok_or_else(ends)?;
        let asked_by = AskedBy { command: "a fault".to_owned(), ..AskedBy::default() };
        let follower = operations.submit(Submission { request: request(target), asked_by }).await?;
        serde_json::from_value(follower.result().await?).map_err(internal)
    }
}

#[async_trait]
impl Backups for FaultBackups {
    async fn save(&self, environment: &EnvironmentId, service: &ServiceName) -> Result<String, ApiError> {
        let services = vec![service.to_string()];
        let request = |target| OperationRequest::Backup(ServicesRequest { target, services });
        Ok(self.carry_out::<Backup>(environment, request).await?.id)
    }

    async fn restore(&self, environment: &EnvironmentId, id: &str) -> Result<Vec<Compared>, ApiError> {
        let id = id.to_owned();
        let request = |target| OperationRequest::BackupRestore(RestoreRequest { target, from: None, id });
        Ok(self.carry_out::<Restored>(environment, request).await?.services)
    }
}
