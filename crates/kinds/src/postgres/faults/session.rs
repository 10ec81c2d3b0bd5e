//! Sessions to the server for faults: as its superuser, or as the application's role.

use std::{path::PathBuf, time::Duration};

use devenv_secrets::{Vault, tls};
use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    capability::FaultSite,
    postgres::{
        probe::{Login, connect, words},
        provision::SUPERUSER,
        spec::PostgresProvision,
    },
};

pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// One server, and how to log in.
#[derive(Clone)]
pub(super) struct Server {
    declared: PostgresProvision,
    vault: Vault,
    authority: PathBuf,
}

/// A session, with the task that drives it.
pub(super) struct Session {
    pub(super) client: Client,
    driver: AbortOnDropHandle<()>,
}

/// The login, and the certificates to trust for an encrypted connection.
pub(super) struct Way {
    config: Config,
    tls: Option<rustls::ClientConfig>,
}

impl Server {
    pub(super) fn of(site: &dyn FaultSite) -> Result<Self, String> {
        let declared = PostgresProvision::of(site.service())
            .ok_or_else(|| format!("{} is not a server that this fault supports", site.service().name))?;
        Ok(Self { declared, vault: site.vault().clone(), authority: site.authority().to_owned() })
    }

    /// To the database (default: the first one), as its owner or as the superuser.
    pub(super) fn login(&self, database: Option<&str>, superuser: bool) -> Result<Way, String> {
        let server = &self.declared;
        let first = server.databases.first();
        let database = database.or_else(|| first.map(|database| database.name.as_str())).unwrap_or(SUPERUSER).to_owned();
        let owner = server.databases.iter().find(|known| known.name == database).map(|known| known.owner.clone());
        let role = owner.and_then(|owner| server.roles.iter().find(|role| role.name == owner));
        let (user, password) = match role {
            Some(role) if !superuser => (role.name.clone(), role.password.clone()),
            _ => (SUPERUSER.to_owned(), server.password.clone()),
        };
        let password = self.vault.reveal(&password).map_err(|error| error.to_string())?;
        let tls = tls::trust(server.tls, Some(&self.authority)).map_err(|error| error.to_string())?;
        let config = Login { port: server.port, user: &user, password, database: &database, tls: tls.clone() }.config("devenv-fault");
        Ok(Way { config, tls })
    }

    pub(super) async fn session(&self, way: &Way) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = connect(&way.config, way.tls.clone()).await?;
        // The client notices how it ends.
        Ok(Session { client, driver: AbortOnDropHandle::new(tokio::spawn(connection.map(drop))) })
    }

    pub(super) async fn superuser(&self, database: Option<&str>) -> Result<Session, String> {
        let way = self.login(database, true)?;
        match timeout(ANSWER, self.session(&way)).await {
            Ok(session) => session.map_err(|error| self.words(&error)),
            Err(_) => Err("the server did not answer".to_owned()),
        }
    }

    pub(super) fn words(&self, error: &tokio_postgres::Error) -> String {
        words(self.declared.port, error)
    }
}

/// Keeps the session as long as the handle lives.
pub(super) fn hold(session: Session) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Session { client, driver } = session;
        // Ends when the server ends it, or with the handle.
        let _ = driver.await;
        drop(client);
    }))
}

/// The first column.
pub(super) async fn rows(client: &Client, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(values.collect())
}
