//! MariaDB's own faults, injected as its superuser where that is needed.

mod exhaust;
mod lock;
mod read_only;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod server;
mod terminate;

use async_trait::async_trait;
use devenv_faults::FaultKind;
use devenv_spec::OfKind;

use super::{MariadbKind, NAME};
use crate::{
    capability::{Effect, FaultSite, Faults},
    sql_faults::Action,
};
use server::Server;

/// The undo step that makes a server accept writes again.
const WRITABLE: &str = "mariadb-writable";

#[async_trait]
impl Faults for MariadbKind {
    fn kinds(&self) -> &'static [&'static dyn FaultKind] {
        &[&terminate::FAULT, &exhaust::FAULT, &lock::FAULT, &read_only::FAULT]
    }

    async fn inject(&self, action: &OfKind, site: &mut dyn FaultSite) -> Result<Effect, String> {
        let server = Server::of(site)?;
        match action.decode().map_err(|error| error.to_string())? {
            Action::Terminate { database, every } => terminate::inject(server, database, every, site).await,
            Action::Exhaust { leave } => exhaust::inject(&server, leave, site).await,
            Action::Lock { database, table } => lock::inject(&server, database.as_deref(), table.as_deref(), site).await,
            Action::ReadOnly => read_only::inject(&server, site).await,
        }
    }

    fn steps(&self) -> &'static [&'static str] {
        &[WRITABLE]
    }

    async fn undo(&self, _: &OfKind, site: &mut dyn FaultSite) -> Result<(), String> {
        read_only::set(&Server::of(site)?, false).await
    }
}
