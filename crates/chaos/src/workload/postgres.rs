//! Rows of PostgreSQL: each is inserted once, in a transaction of its own.

use std::sync::Arc;

use async_trait::async_trait;
use rustls::ClientConfig;
use tokio_postgres::{Config, NoTls, Statement, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::{Client, Reply, Work, WorkError};
use crate::{address::Address, tally::Observed};

pub(crate) struct Rows {
    server: Server,
    table: String,
}

#[derive(Clone)]
struct Server {
    config: Config,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection, which ends with this.
pub(crate) struct Session {
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
    pub(crate) async fn open(config: &Config, tls: Option<&Arc<ClientConfig>>) -> Result<Self, tokio_postgres::Error> {
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

impl Rows {
    pub(super) fn new(address: Address, run: &str, label: &str) -> Result<Self, WorkError> {
        let Address::Postgres { config, tls } = address else { return Err(WorkError::Said("the server is not PostgreSQL".to_owned())) };
        let table = format!("devenv_chaos_{run}_{}", label.replace('-', "_"));
        Ok(Self { server: Server { config: *config, tls }, table })
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
