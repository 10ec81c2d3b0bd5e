//! Private parts of a running server, made for one client and removed with it.

use std::sync::Arc;

use async_trait::async_trait;
use devenv_spec::ServiceSpec;
use indexmap::IndexMap;

use crate::{lease::LeaseError, provision::ProvisionContext};

/// The leases of one kind.
pub trait Leases: Send + Sync {
    /// What grants leases on this service; `None` if nothing of it can be leased. It is kept from one lease to the next.
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>>;
}

/// Grants leases on one server.
#[async_trait]
pub trait Lessor: Send + Sync {
    /// The same leases on the service as it is now: address and declarations are the new ones, and leases that were granted
    /// before stay known. `None` if the service is another one now.
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>>;

    /// The declared databases, where a lease is a copy of one; `None` where it is not.
    fn databases(&self) -> Option<Vec<String>>;

    /// Makes a private part. `database` is one of [`Self::databases`]; `data` changes when what it holds does.
    async fn take(&self, lease: &str, database: Option<&str>, data: &str) -> Result<Box<dyn Part>, LeaseError>;

    /// Removes what leases of an earlier daemon left behind.
    async fn sweep(&self) -> Result<(), LeaseError>;
}

/// One private part.
#[async_trait]
pub trait Part: Send + Sync {
    /// The private database's name, where it is one.
    fn database(&self) -> Option<&str> {
        None
    }

    /// Points every variable that leads to the shared part to this one. Pure.
    fn make_private(&self, variables: &mut IndexMap<String, String>);

    /// Removes it. What cannot be removed now is found by the next sweep.
    async fn give_back(self: Box<Self>);
}
