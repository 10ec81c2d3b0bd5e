//! Private parts of a running server, made for one client and removed with it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use devenv_secrets::SecretError;
use devenv_spec::{ServiceName, ServiceSpec};
use indexmap::IndexMap;

use super::ProvisionContext;

/// The leases of one kind.
pub trait Leases: Send + Sync {
    /// Grants leases on this service; `None` if it has nothing to lease. It is kept between leases.
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>>;
}

/// Grants leases on one server.
#[async_trait]
pub trait Lessor: Send + Sync {
    /// The same leases for the service's new address and declarations; leases that were granted
    /// before stay known. `None` if the service is another one now.
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>>;

    /// The declared databases, if a lease is a copy of one; otherwise `None`.
    fn databases(&self) -> Option<Vec<String>>;

    /// Makes a private part. `database` is one of [`Self::databases`]; `data` changes when its contents do.
    async fn take(&self, lease: &str, database: Option<&str>, data: &str) -> Result<Box<dyn Part>, LeaseError>;

    /// Removes what leases of an earlier daemon left behind.
    async fn sweep(&self) -> Result<(), LeaseError>;
}

/// One private part.
#[async_trait]
pub trait Part: Send + Sync {
    /// The private database's name, if it is one.
    fn database(&self) -> Option<&str> {
        None
    }

    /// Changes every variable with the shared part's address to this one's. Pure.
    fn make_private(&self, variables: &mut IndexMap<String, String>);

    /// Removes it. The next sweep finds what cannot be removed now.
    async fn give_back(self: Box<Self>);
}

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("unknown service `{0}` in this environment")]
    NoService(String),
    #[error("`{name}` is a {kind} service, which does not support leases")]
    NotLeasable { name: String, kind: String },
    #[error("no service of this environment has a database `{name}` that can be leased; there is {}", known.join(", "))]
    NoDatabase { name: String, known: Vec<String> },
    /// The kinds that have leases, for people.
    #[error("nothing of this environment can be leased: leases are for {0}")]
    Nothing(String),
    #[error("cannot read a secret")]
    Secret(#[from] SecretError),
    #[error("`{service}`: cannot {action}: {reason}")]
    Refused { service: String, action: String, reason: String },
    #[error("all {count} numbered databases of `{service}` are in use")]
    NoNumber { service: String, count: u32 },
}

impl LeaseError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoService(_) => Some("run `devenv status` to list the services and their kinds"),
            Self::NotLeasable { .. } => Some(
                "run `devenv status` to list the services and their kinds; a PostgreSQL, Redis or Kafka in a container has leases if it publishes \
                 its port",
            ),
            Self::NoNumber { .. } => Some("increase `databases:` of the service in the profile, or run fewer tests in parallel"),
            Self::Refused { .. } => Some("run `devenv status` to check whether the service is ready"),
            Self::NoDatabase { .. } | Self::Nothing(_) | Self::Secret(_) => None,
        }
    }

    pub(crate) fn refused(service: &ServiceName, action: &str, reason: impl fmt::Display) -> Self {
        Self::Refused { service: service.to_string(), action: action.to_owned(), reason: reason.to_string() }
    }
}
