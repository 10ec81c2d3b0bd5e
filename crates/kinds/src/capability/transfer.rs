//! Imports and exports of a server's data.

use std::path::Path;

use async_trait::async_trait;
use devenv_api::Content;
use devenv_spec::ServiceSpec;

use super::{BackupError, ServerSite};
use crate::transfer::Address;

/// The transfers of one kind. [`Backups::restores`](super::Backups::restores) defines how imported data is restored.
#[async_trait]
pub trait Transfers: Send + Sync {
    /// The databases to choose from, first the default; empty if a transfer is of the
    /// whole server.
    fn databases(&self, service: &ServiceSpec) -> Vec<String>;

    /// The suffix of a dump's file, if a directory holds one for each database.
    fn ending(&self) -> &'static str;

    /// Writes a dump that other servers can load.
    async fn export(&self, site: &ServerSite<'_>, database: Option<&str>, file: &Path) -> Result<Vec<Content>, BackupError>;

    /// Checks a file before anything is changed; an error with a hint.
    fn check(&self, _file: &Path) -> Result<(), (String, Option<String>)> {
        Ok(())
    }

    /// Other servers that can be imported from; otherwise an error with the alternative.
    fn remote(&self) -> Result<&dyn RemoteSource, &'static str>;
}

/// Makes dumps of other servers.
#[async_trait]
pub trait RemoteSource: Send + Sync {
    /// Whether this is the scheme of its URLs: `postgres`.
    fn is_scheme(&self, scheme: &str) -> bool;

    /// The default port of a URL.
    fn port(&self) -> u16;

    /// Whether every option of the URL is supported; otherwise the reason.
    fn check(&self, address: &Address) -> Result<(), String>;

    /// The database that the URL names.
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
