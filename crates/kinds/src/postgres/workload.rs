//! Rows of PostgreSQL, for chaos runs.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use devenv_secrets::tls;
use rustls::ClientConfig;
use tokio_postgres::{Config, NoTls, Statement, config::SslMode, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::PostgresKind;
use crate::{
    capability::{AddressError, Observed, Reply, Variables, WorkloadKind, Workloads},
    rows::{RowServer, RowSession, RowsWorkload, url_variable},
};

const CONNECT: Duration = Duration::from_secs(2);

impl Workloads for PostgresKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        const ROWS: &RowsWorkload<Server> = &RowsWorkload::named("postgres-rows");
        &[ROWS]
    }
}

#[derive(Clone)]
pub(crate) struct Server {
    config: Config,
    tls: Option<Arc<ClientConfig>>,
}

pub(crate) struct Session {
    client: tokio_postgres::Client,
    insertion: Option<Statement>,
    _driver: AbortOnDropHandle<()>,
}

#[async_trait]
impl RowServer for Server {
    type Session = Session;

    fn found(variables: &Variables, service: &str, database: Option<&str>) -> Result<Self, AddressError> {
        let name = url_variable(service, database);
        let url = variables.value(&name)?;
        let unreadable = |reason: String| AddressError::Unreadable { name: name.clone(), reason };
        // The driver does not know `verify-full`; the authority's certificate says as much.
        let (plain, query) = url.split_once('?').unwrap_or((url, ""));
        let authority = query.split('&').find_map(|pair| pair.strip_prefix("sslrootcert="));
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| unreadable(error.to_string()))?;
        config.application_name("devenv-chaos").connect_timeout(CONNECT);
        let tls = match authority {
            Some(path) => {
                config.ssl_mode(SslMode::Require);
                let path = crate::transfer::decoded(path);
                tls::use_ring();
                Some(Arc::new(tls::client(Path::new(&path)).map_err(|error| unreadable(error.to_string()))?))
            }
            None => None,
        };
        Ok(Self { config, tls })
    }

    async fn open(&self) -> Result<Session, String> {
        self.session().await.map_err(|error| said(&error))
    }
}

impl Server {
    async fn session(&self) -> Result<Session, tokio_postgres::Error> {
        // The driver ends when its server or its client does. The client gets the same error.
        let (client, driver) = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(MakeRustlsConnect::new(ClientConfig::clone(tls))).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
        };
        Ok(Session { client, insertion: None, _driver: AbortOnDropHandle::new(driver) })
    }
}

#[async_trait]
impl RowSession for Session {
    async fn ask(&mut self) -> Result<(), String> {
        self.client.simple_query("SELECT 1").await.map(drop).map_err(|error| said(&error))
    }

    async fn create(&mut self, table: &str) -> Result<(), String> {
        let create = format!("CREATE TABLE {table} (client integer NOT NULL, sequence bigint NOT NULL)");
        self.client.batch_execute(&create).await.map_err(|error| said(&error))
    }

    async fn prepare(&mut self, table: &str) -> Result<(), String> {
        let statement = self.client.prepare(&format!("INSERT INTO {table} VALUES ($1, $2)")).await.map_err(|error| said(&error))?;
        self.insertion = Some(statement);
        Ok(())
    }

    async fn insert(&mut self, _table: &str, client: u32, sequence: u64) -> Reply {
        let Some(insertion) = &self.insertion else { return Reply::Refused("not prepared".to_owned()) };
        match self.client.execute(insertion, &[&(client as i32), &(sequence as i64)]).await {
            Ok(1) => Reply::Acknowledged,
            Ok(count) => Reply::Unknown(format!("inserted {count} rows")),
            Err(error) => reply_to(&error),
        }
    }

    async fn read(&mut self, table: &str) -> Result<Observed, String> {
        let mut observed = Observed::default();
        let rows = match self.client.query(&format!("SELECT client, sequence, count(*) FROM {table} GROUP BY 1, 2"), &[]).await {
            Ok(rows) => rows,
            // A server that came back without the table has lost every row of it.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(observed),
            Err(error) => return Err(said(&error)),
        };
        for row in rows {
            let (client, sequence, times): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
            observed.found.insert((client as u32, sequence as u64), u32::try_from(times).unwrap_or(u32::MAX));
        }
        Ok(observed)
    }

    async fn remove(&mut self, table: &str) -> Result<(), String> {
        self.client.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await.map_err(|error| said(&error))
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// The server's own no is one, unless it says that it is going down: the row may be there.
fn reply_to(error: &tokio_postgres::Error) -> Reply {
    let going_down = |code: &SqlState| code.code().starts_with("57P") || code.code().starts_with("08");
    match error.as_db_error() {
        Some(refusal) if !going_down(refusal.code()) => Reply::Refused(said(error)),
        _ => Reply::Unknown(said(error)),
    }
}
