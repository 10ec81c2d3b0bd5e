//! Rows of PostgreSQL: each is inserted once, in a transaction of its own.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use devenv_secrets::tls;
use devenv_spec::variable_form;
use rustls::ClientConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::{Config, NoTls, Statement, config::SslMode, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::PostgresKind;
use crate::capability::{
    AddressError, Asker, Client, Line, Observed, Reply, Silent, Variables, Work, WorkError, WorkloadKind, WorkloadSite, Workloads,
    asker::silent,
};

const CONNECT: Duration = Duration::from_secs(2);

impl Workloads for PostgresKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        &[&PostgresRows]
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PostgresWorkload")]
#[expect(dead_code, reason = "the fields that all workloads have are read by the scenario")]
struct Fields {
    /// The service.
    service: String,
    /// The database, used as its owner. Default: the first one.
    #[serde(default)]
    database: Option<String>,
    /// How many work at once.
    #[serde(default)]
    clients: Option<u32>,
    /// Operations a second of all clients together: `400/s`.
    #[serde(default)]
    rate: Option<String>,
}

struct PostgresRows;

impl WorkloadKind for PostgresRows {
    fn name(&self) -> &'static str {
        "postgres-rows"
    }

    fn about(&self) -> &'static str {
        "Rows that are inserted, each in a transaction of its own."
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Fields>()
    }

    fn is_in_database(&self) -> bool {
        true
    }

    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError> {
        let fields = Fields::deserialize(fields).map_err(|error| WorkError::Said(error.to_string()))?;
        let server = Server::found(site.variables, site.service, fields.database.as_deref())?;
        Ok(Arc::new(Rows { server, table: format!("devenv_chaos_{}_{}", site.run, site.label.replace('-', "_")) }))
    }
}

/// How to ask whether it answers.
pub(crate) fn asker(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Server::found(variables, service, None)?))
}

#[async_trait]
impl Asker for Server {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(Session::open(&self.config, self.tls.as_ref()).await.map_err(silent)?))
    }
}

#[async_trait]
impl Line for Session {
    async fn ask(&mut self) -> Result<(), Silent> {
        self.client.simple_query("SELECT 1").await.map(drop).map_err(silent)
    }
}

struct Rows {
    server: Server,
    table: String,
}

#[derive(Clone)]
struct Server {
    config: Config,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection, which ends with this.
struct Session {
    pub client: tokio_postgres::Client,
    _driver: AbortOnDropHandle<()>,
}

struct Inserter {
    server: Server,
    table: String,
    number: u32,
    session: Option<(Session, Statement)>,
}

impl Session {
    async fn open(config: &Config, tls: Option<&Arc<ClientConfig>>) -> Result<Self, tokio_postgres::Error> {
        // The driver ends when its server or its client does. The client gets the same error.
        let (client, driver) = match tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
            Some(tls) => {
                let (client, connection) = config.connect(MakeRustlsConnect::new(ClientConfig::clone(tls))).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
        };
        Ok(Self { client, _driver: AbortOnDropHandle::new(driver) })
    }
}

impl Server {
    fn found(variables: &Variables, service: &str, database: Option<&str>) -> Result<Self, AddressError> {
        let name = match database {
            Some(database) => Variables::name(service, &format!("{}_URL", variable_form(database))),
            None => Variables::name(service, "URL"),
        };
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
        Session::open(&self.config, self.tls.as_ref()).await.map_err(|error| said(&error))
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

#[async_trait]
impl Work for Rows {
    async fn set_up(&self) -> Result<(), WorkError> {
        let session = self.server.open().await.map_err(WorkError::Said)?;
        // Without a key, so that a row that is there twice can be seen.
        let create = format!("CREATE TABLE {} (client integer NOT NULL, sequence bigint NOT NULL)", self.table);
        session.client.batch_execute(&create).await.map_err(|error| WorkError::Said(said(&error)))
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        Box::new(Inserter { server: self.server.clone(), table: self.table.clone(), number, session: None })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let session = self.server.open().await.map_err(WorkError::Said)?;
        let mut observed = Observed::default();
        let query = format!("SELECT client, sequence, count(*) FROM {} GROUP BY 1, 2", self.table);
        let rows = match session.client.query(&query, &[]).await {
            Ok(rows) => rows,
            // A server that came back without the table has lost every row of it.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Some(observed)),
            Err(error) => return Err(WorkError::Said(said(&error))),
        };
        for row in rows {
            let (client, sequence, times): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
            observed.found.insert((client as u32, sequence as u64), u32::try_from(times).unwrap_or(u32::MAX));
        }
        Ok(Some(observed))
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        let session = self.server.open().await.map_err(WorkError::Said)?;
        session.client.batch_execute(&format!("DROP TABLE IF EXISTS {}", self.table)).await.map_err(|error| WorkError::Said(said(&error)))
    }
}

#[async_trait]
impl Client for Inserter {
    async fn connect(&mut self) -> Result<(), String> {
        self.session = None;
        let session = self.server.open().await?;
        let insert = format!("INSERT INTO {} VALUES ($1, $2)", self.table);
        let statement = session.client.prepare(&insert).await.map_err(|error| said(&error))?;
        self.session = Some((session, statement));
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some((session, statement)) = &self.session else { return Reply::Refused("not connected".to_owned()) };
        match session.client.execute(statement, &[&(self.number as i32), &(sequence as i64)]).await {
            Ok(1) => Reply::Acknowledged,
            Ok(count) => Reply::Unknown(format!("inserted {count} rows")),
            Err(error) => reply_to(&error),
        }
    }
}
