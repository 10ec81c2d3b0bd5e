//! Sessions to the server for faults: as its superuser, or as the owner of a database.

use std::{future::pending, path::PathBuf, time::Duration};

use devenv_secrets::Vault;
use mysql_async::Error;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    capability::FaultSite,
    mariadb::{
        fields::SUPERUSER,
        provision::superuser,
        session::{Login, Session, reason},
        spec::MariadbProvision,
    },
};

const ANSWER: Duration = Duration::from_secs(10);

/// One server, and how to log in.
#[derive(Clone)]
pub(super) struct Server {
    declared: MariadbProvision,
    vault: Vault,
    authority: PathBuf,
}

impl Server {
    pub(super) fn of(site: &dyn FaultSite) -> Result<Self, String> {
        let declared = MariadbProvision::of(site.service())
            .ok_or_else(|| format!("{} is not a server that this fault supports", site.service().name))?;
        Ok(Self { declared, vault: site.vault().clone(), authority: site.authority().to_owned() })
    }

    /// The first database.
    pub(super) fn database(&self) -> &str {
        self.declared.databases.first().map(|database| database.name.as_str()).unwrap_or_default()
    }

    /// Whether the first database belongs to the superuser, who is exempt from some restrictions.
    pub(super) fn is_roots(&self) -> bool {
        self.declared.databases.first().is_none_or(|database| database.owner == SUPERUSER)
    }

    /// Connects to the database (default: the first one) as its owner; as the superuser if the profile does not declare the database.
    pub(super) fn owner(&self, database: Option<&str>) -> Result<Login, String> {
        let wanted = database.unwrap_or_else(|| self.database());
        let mut login = self.root(Some(wanted))?;
        if let Some(database) = self.declared.databases.iter().find(|database| database.name == wanted) {
            login.password = self.vault.reveal(&database.password).map_err(|error| error.to_string())?;
            login.user.clone_from(&database.owner);
        }
        Ok(login)
    }

    pub(super) async fn superuser(&self) -> Result<Session, String> {
        let opened = within(self.root(None)?.open()).await?;
        opened.map_err(|error| reason(&error))
    }

    fn root(&self, database: Option<&str>) -> Result<Login, String> {
        let authority = Some(self.authority.clone());
        superuser(&self.declared.target(), &self.vault, authority, database).map_err(|error| error.to_string())
    }
}

/// A server that does not answer is an error too.
pub(super) async fn within<T>(question: impl Future<Output = Result<T, Error>>) -> Result<Result<T, Error>, String> {
    timeout(ANSWER, question).await.map_err(|_| format!("the server did not answer within {ANSWER:?}"))
}

/// Keeps the session as long as the handle lives.
pub(super) fn hold<S: Send + 'static>(session: S) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let _session = session;
        pending::<()>().await;
    }))
}
