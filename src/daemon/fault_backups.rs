//! Backups for faults: one that removes data saves it first, and its undoing puts it back.

use std::sync::OnceLock;

use async_trait::async_trait;
use devenv_api::{ApiError, Compared, ErrorCode};

use crate::{
    environment::{Environment, Environments, WeakEnvironments},
    faults::Backups,
    spec::{EnvironmentId, ServiceName},
};

/// Faults are below what makes backups; so the registry is given here once it exists.
#[derive(Default)]
pub(super) struct FaultBackups(OnceLock<WeakEnvironments>);

impl FaultBackups {
    /// To be called once, before environments are adopted.
    pub(super) fn serve(&self, environments: &Environments) {
        let _ = self.0.set(environments.downgrade());
    }

    fn find(&self, id: &EnvironmentId) -> Result<(Environments, Environment), ApiError> {
        let environments = self.0.get().and_then(WeakEnvironments::get);
        let found = environments.and_then(|environments| environments.get(id).map(|environment| (environments, environment)));
        found.ok_or_else(|| ApiError::new(ErrorCode::Interrupted, "the environment ends"))
    }
}

#[async_trait]
impl Backups for FaultBackups {
    async fn save(&self, environment: &EnvironmentId, service: &ServiceName) -> Result<String, ApiError> {
        let (environments, environment) = self.find(environment)?;
        Ok(environments.save_backup(&environment, std::slice::from_ref(service)).await?.id)
    }

    async fn restore(&self, environment: &EnvironmentId, id: &str) -> Result<Vec<Compared>, ApiError> {
        let (environments, environment) = self.find(environment)?;
        Ok(environments.restore_backup(&environment, &environment, id).await?.services)
    }
}
