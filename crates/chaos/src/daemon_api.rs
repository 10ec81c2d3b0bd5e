//! What a run asks of the daemon, for one environment. The command line's client implements it, and so does the fake of the tests.

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
    /// Why the fault cannot be injected, as far as that is known without injecting it.
    async fn check(&self, order: &InjectOrder) -> Result<(), ApiError>;
    /// Returns once the effect of the fault was observed, or was not observed in time.
    async fn inject(&self, order: &InjectOrder) -> Result<Fault, ApiError>;
    async fn heal(&self, ids: &[String]) -> Result<(), ApiError>;
    /// What faults have changed of these services now.
    async fn impairments(&self, services: &[String]) -> Result<Vec<Impairments>, ApiError>;
    /// Active faults and healed ones.
    async fn faults(&self) -> Result<Vec<Fault>, ApiError>;
}
