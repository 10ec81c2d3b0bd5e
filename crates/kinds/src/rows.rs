//! The workload of servers with tables: rows that are inserted once, each in its own transaction.
//!
//! A kind with such a server implements [`RowServer`] and [`RowSession`] in its `workload.rs`, and lists a [`RowsWorkload`] among
//! its workloads. Chaos runs drive it through the traits of [`capability`](crate::capability).

use std::sync::Arc;

use async_trait::async_trait;
use devenv_spec::variable_form;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;

use crate::capability::{
    AddressError, Asker, Client, Line, Observed, Reply, Silent, Variables, Work, WorkError, WorkloadKind, WorkloadSite, asker::silent,
};

/// How to reach a server, as an application would.
#[async_trait]
pub(crate) trait RowServer: Clone + Send + Sync + Sized + 'static {
    type Session: RowSession;

    /// From the variables: in this database, or the first one.
    fn found(variables: &Variables, service: &str, database: Option<&str>) -> Result<Self, AddressError>;

    async fn open(&self) -> Result<Self::Session, String>;
}

/// One connection, which ends with this.
#[async_trait]
pub(crate) trait RowSession: Send + Sync + 'static {
    /// Sends the shortest request.
    async fn ask(&mut self) -> Result<(), String>;

    /// Creates a table with client and sequence number, without a key, so that duplicate rows are visible.
    async fn create(&mut self, table: &str) -> Result<(), String>;

    /// Called before the first insertion of this session.
    async fn prepare(&mut self, _table: &str) -> Result<(), String> {
        Ok(())
    }

    async fn insert(&mut self, table: &str, client: u32, sequence: u64) -> Reply;

    /// The rows of the table; none if the table is lost.
    async fn read(&mut self, table: &str) -> Result<Observed, String>;

    async fn remove(&mut self, table: &str) -> Result<(), String>;
}

/// The workload itself, by its name in scenarios.
pub(crate) struct RowsWorkload<S> {
    name: &'static str,
    server: std::marker::PhantomData<fn() -> S>,
}

impl<S> RowsWorkload<S> {
    pub(crate) const fn named(name: &'static str) -> Self {
        Self { name, server: std::marker::PhantomData }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RowsWorkload")]
#[expect(dead_code, reason = "the fields that all workloads have are read by the scenario")]
struct Fields {
    /// The service.
    service: String,
    /// The database, used as its owner. Default: the first one.
    #[serde(default)]
    database: Option<String>,
    /// The number of concurrent clients.
    #[serde(default)]
    clients: Option<u32>,
    /// Operations per second of all clients together: `400/s`.
    #[serde(default)]
    rate: Option<String>,
}

impl<S: RowServer> WorkloadKind for RowsWorkload<S> {
    fn name(&self) -> &'static str {
        self.name
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
        let server = S::found(site.variables, site.service, fields.database.as_deref())?;
        Ok(Arc::new(Rows { server, table: format!("devenv_chaos_{}_{}", site.run, site.label.replace('-', "_")) }))
    }
}

/// The name of the variable with the address of a database of the service, or of its first one.
pub(crate) fn url_variable(service: &str, database: Option<&str>) -> String {
    match database {
        Some(database) => Variables::name(service, &format!("{}_URL", variable_form(database))),
        None => Variables::name(service, "URL"),
    }
}

/// How to ask whether the server answers.
pub(crate) fn asker<S: RowServer>(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Questions(S::found(variables, service, None)?)))
}

struct Questions<S>(S);

struct Open<S>(S);

#[async_trait]
impl<S: RowServer> Asker for Questions<S> {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(Open(self.0.open().await.map_err(silent)?)))
    }
}

#[async_trait]
impl<S: RowSession> Line for Open<S> {
    async fn ask(&mut self) -> Result<(), Silent> {
        self.0.ask().await.map_err(silent)
    }
}

struct Rows<S> {
    server: S,
    table: String,
}

struct Inserter<S: RowServer> {
    server: S,
    table: String,
    number: u32,
    session: Option<S::Session>,
}

#[async_trait]
impl<S: RowServer> Work for Rows<S> {
    async fn set_up(&self) -> Result<(), WorkError> {
        self.server.open().await.map_err(WorkError::Said)?.create(&self.table).await.map_err(WorkError::Said)
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        Box::new(Inserter { server: self.server.clone(), table: self.table.clone(), number, session: None })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let observed = self.server.open().await.map_err(WorkError::Said)?.read(&self.table).await;
        observed.map(Some).map_err(WorkError::Said)
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        self.server.open().await.map_err(WorkError::Said)?.remove(&self.table).await.map_err(WorkError::Said)
    }
}

#[async_trait]
impl<S: RowServer> Client for Inserter<S> {
    async fn connect(&mut self) -> Result<(), String> {
        self.session = None;
        let mut session = self.server.open().await?;
        session.prepare(&self.table).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(session) = &mut self.session else { return Reply::Refused("not connected".to_owned()) };
        session.insert(&self.table, self.number, sequence).await
    }
}
