//! PostgreSQL, as its superuser where that is needed.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, SimpleQueryMessage, error::SqlState};
use tokio_util::task::AbortOnDropHandle;

use super::{Server, Told};
use crate::kinds::postgres::{
    probe::{Login, connect, words},
    spec::PostgresProvision,
};

const SUPERUSER: &str = "postgres";
const ANSWER: Duration = Duration::from_secs(10);
/// More than any server that is set up for development has.
const MOST: usize = 2000;

/// A session, with the task that drives it.
struct Session {
    client: Client,
    driver: AbortOnDropHandle<()>,
}

/// How to log in, and whom to trust where that is encrypted.
struct Way {
    config: Config,
    tls: Option<rustls::ClientConfig>,
}

impl Server {
    fn postgres(&self) -> Result<PostgresProvision, String> {
        self.provision(PostgresProvision::of)
    }

    fn login(&self, database: Option<&str>, superuser: bool) -> Result<Way, String> {
        let server = self.postgres()?;
        let first = server.databases.first();
        let database = database.or_else(|| first.map(|database| database.name.as_str())).unwrap_or(SUPERUSER).to_owned();
        let owner = server.databases.iter().find(|known| known.name == database).map(|known| known.owner.clone());
        let role = owner.and_then(|owner| server.roles.iter().find(|role| role.name == owner));
        let (user, password) = match role {
            Some(role) if !superuser => (role.name.clone(), role.password.clone()),
            _ => (SUPERUSER.to_owned(), server.password.clone()),
        };
        let password = self.vault.reveal(&password).map_err(|error| error.to_string())?;
        let tls = self.trust(server.tls)?;
        let config = Login { port: server.port, user: &user, password, database: &database, tls: tls.clone() }.config("devenv-fault");
        Ok(Way { config, tls })
    }

    async fn session(&self, way: &Way) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = connect(&way.config, way.tls.clone()).await?;
        // How it ends is seen by the client.
        Ok(Session { client, driver: AbortOnDropHandle::new(tokio::spawn(connection.map(drop))) })
    }

    async fn superuser(&self, database: Option<&str>) -> Result<Session, String> {
        let (config, port) = (self.login(database, true)?, self.postgres()?.port);
        match timeout(ANSWER, self.session(&config)).await {
            Ok(session) => session.map_err(|error| words(port, &error)),
            Err(_) => Err("the server did not answer".to_owned()),
        }
    }

    pub(in super::super) async fn terminate(&self, database: Option<&str>) -> Result<Told, String> {
        let session = self.superuser(None).await?;
        let port = self.postgres()?.port;
        // One of our own, so that the end of a session is seen even where nobody else has one.
        let victim = self.session(&self.login(database, false)?).await.map_err(|error| words(port, &error))?;
        let condition = database.map(|name| format!(" AND datname = '{}'", name.replace('\'', "''"))).unwrap_or_default();
        let query = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid(){condition}"
        );
        let ended = rows(&session.client, &query).await.map_err(|error| words(port, &error))?.len();
        let gone = timeout(Duration::from_secs(3), async {
            while victim.client.simple_query("SELECT 1").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Ok(match gone {
            Ok(()) => Told::yes(format!("terminated {} client sessions and one of devenv's own", ended.saturating_sub(1))),
            Err(_) => Told::no("a session that was terminated is still there"),
        })
    }

    /// Holds every connection that an ordinary client can have.
    pub(in super::super) async fn exhaust(&self, leave: u64) -> Result<(Vec<AbortOnDropHandle<()>>, Told), String> {
        let (config, port) = (self.login(None, false)?, self.postgres()?.port);
        let mut held = Vec::new();
        let last = loop {
            if held.len() >= MOST {
                break format!("opened {MOST} connections, and the server still accepts more");
            }
            match timeout(ANSWER, self.session(&config)).await {
                Ok(Ok(session)) => held.push(session),
                Ok(Err(error)) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => break words(port, &error),
                Ok(Err(error)) => return Err(words(port, &error)),
                Err(_) => return Err("the server did not answer".to_owned()),
            }
        };
        let refused = held.len() < MOST;
        held.truncate(held.len().saturating_sub(leave as usize));
        let told = format!("{} connections are open; the next: {last}", held.len());
        let grip = held.into_iter().map(hold).collect();
        Ok((grip, if refused { Told::yes(told) } else { Told::no(told) }))
    }

    pub(in super::super) async fn lock(
        &self,
        database: Option<&str>,
        table: Option<&str>,
    ) -> Result<(AbortOnDropHandle<()>, Told), String> {
        let port = self.postgres()?.port;
        let said = |error: tokio_postgres::Error| words(port, &error);
        let session = self.superuser(database).await?;
        let tables = if let Some(table) = table {
            vec![table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")]
        } else {
            let query = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname <> 'information_schema'";
            rows(&session.client, query).await.map_err(said)?
        };
        let Some(first) = tables.first() else { return Err("no table to lock".to_owned()) };
        let statement = format!(
            "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            tables.join(", ")
        );
        session.client.simple_query(&statement).await.map_err(said)?;
        let other = self.superuser(database).await?;
        let refused =
            other.client.simple_query(&format!("SET lock_timeout = '200ms'; BEGIN; LOCK TABLE {first} IN ACCESS SHARE MODE")).await;
        let told = match refused {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Told::yes(format!("{} tables are locked, and another session cannot read {first}", tables.len()))
            }
            Err(error) => return Err(said(error)),
            Ok(_) => Told::no(format!("another session can read {first}")),
        };
        Ok((hold(session), told))
    }

    pub(in super::super) async fn read_only(&self, on: bool) -> Result<(), String> {
        let (session, port) = (self.superuser(Some(SUPERUSER)).await?, self.postgres()?.port);
        let statement =
            if on { "ALTER SYSTEM SET default_transaction_read_only = on" } else { "ALTER SYSTEM RESET default_transaction_read_only" };
        for statement in [statement, "SELECT pg_reload_conf()"] {
            session.client.simple_query(statement).await.map_err(|error| words(port, &error))?;
        }
        Ok(())
    }

    pub(in super::super) async fn is_read_only(&self) -> Result<Told, String> {
        let (config, port) = (self.login(None, false)?, self.postgres()?.port);
        let mut last = String::new();
        // A reload takes effect a moment later.
        for _ in 0..100 {
            let session = self.session(&config).await.map_err(|error| words(port, &error))?;
            last =
                rows(&session.client, "SHOW transaction_read_only").await.map_err(|error| words(port, &error))?.pop().unwrap_or_default();
            if last == "on" {
                return Ok(Told::yes("a new transaction of the application's role is read-only"));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(Told::no(format!("transaction_read_only is {last}")))
    }
}

/// For as long as the handle lives.
fn hold(session: Session) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Session { client, driver } = session;
        // Ends when the server ends it, or with the handle.
        let _ = driver.await;
        drop(client);
    }))
}

/// The first column.
async fn rows(client: &Client, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(values.collect())
}
