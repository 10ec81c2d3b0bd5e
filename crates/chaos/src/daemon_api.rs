//! What a run asks of the daemon, for one environment. The command line's client is one side of it, a fake the other.

use std::collections::BTreeMap;

use async_trait::async_trait;
use devenv_api::{ApiError, Fault, Impairments, Status};

/// A fault to be injected.
#[derive(Debug, Clone, PartialEq)]
pub struct InjectOrder {
    pub id: String,
    pub fault: String,
    pub service: String,
    pub for_ms: Option<u64>,
    pub parameters: BTreeMap<String, String>,
    pub seed: u64,
}

#[async_trait(?Send)]
pub trait DaemonApi {
    async fn status(&self) -> Result<Status, ApiError>;
    /// With their values, as programs on the host get them.
    async fn variables(&self) -> Result<BTreeMap<String, String>, ApiError>;
    /// Why the fault cannot be injected, where that can be known without doing it.
    async fn rehearse(&self, order: &InjectOrder) -> Result<(), ApiError>;
    /// Answered once the fault is witnessed, or was not within its time.
    async fn inject(&self, order: &InjectOrder) -> Result<Fault, ApiError>;
    async fn heal(&self, ids: &[String]) -> Result<(), ApiError>;
    /// What faults change of these services, as it is now.
    async fn impairments(&self, services: &[String]) -> Result<Vec<Impairments>, ApiError>;
    /// Those that are there and those that have healed.
    async fn faults(&self) -> Result<Vec<Fault>, ApiError>;
}
