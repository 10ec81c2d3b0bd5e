//! Data that comes from elsewhere or goes there.

use std::path::Path;

use async_trait::async_trait;
use devenv_api::Content;
use devenv_spec::ServiceSpec;

use super::{BackupError, ServerSite};
use crate::transfer::Address;

/// The transfers of one kind. What is imported comes back as [`Backups::restores`](super::Backups::restores) says.
#[async_trait]
pub trait Transfers: Send + Sync {
    /// The databases of which one can be chosen, first the one that is meant if none is; empty where a transfer is of the
    /// whole server.
    fn databases(&self, service: &ServiceSpec) -> Vec<String>;

    /// The ending of a dump's file, where there is one for each database in a directory.
    fn ending(&self) -> &'static str;

    /// Writes a dump that other servers take.
    async fn export(&self, site: &ServerSite<'_>, database: Option<&str>, file: &Path) -> Result<Vec<Content>, BackupError>;

    /// Looks at a file before anything is done with it; what is wrong with it, and a hint.
    fn check(&self, _file: &Path) -> Result<(), (String, Option<String>)> {
        Ok(())
    }

    /// Servers elsewhere that can be imported from; what to do instead where there is no way.
    fn remote(&self) -> Result<&dyn RemoteSource, &'static str>;
}

/// Takes dumps of servers elsewhere.
#[async_trait]
pub trait RemoteSource: Send + Sync {
    /// Whether addresses begin so: `postgres`.
    fn is_scheme(&self, scheme: &str) -> bool;

    /// The port of an address that says none.
    fn port(&self) -> u16;

    /// Whether every option of the address can be honoured; why not.
    fn check(&self, address: &Address) -> Result<(), String>;

    /// Which database the address means.
    fn database(&self, address: &Address) -> String;

    /// Writes a dump of it. The tools in the container reach the server at `through`: an address and a port.
    async fn fetch(
        &self,
        site: &ServerSite<'_>,
        address: &Address,
        through: (String, u16),
        file: &Path,
    ) -> Result<Vec<Content>, BackupError>;
}
