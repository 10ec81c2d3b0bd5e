//! Rows of MariaDB: each is inserted once, in a transaction of its own.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use devenv_spec::variable_form;
use mysql_async::{Conn, Error, prelude::Queryable};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;

use super::{
    MariadbKind,
    fields::PORT,
    session::{Login, Texts, code, identifier, is_lost, reason, texts},
};
use crate::{
    capability::{
        AddressError, Asker, Client, Line, Observed, Reply, Silent, Variables, Work, WorkError, WorkloadKind, WorkloadSite, Workloads,
        asker::silent,
    },
    transfer::Address,
};

/// The server's number for a table that is not there.
const NO_TABLE: u16 = 1146;

impl Workloads for MariadbKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        &[&MariadbRows]
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MariadbWorkload")]
#[expect(dead_code, reason = "the fields that all workloads have are read by the scenario")]
struct Fields {
    /// The service.
    service: String,
    /// The database, as its owner; the first one unless said.
    #[serde(default)]
    database: Option<String>,
    /// How many work at once.
    #[serde(default)]
    clients: Option<u32>,
    /// Operations a second of all clients together: `400/s`.
    #[serde(default)]
    rate: Option<String>,
}

struct MariadbRows;

impl WorkloadKind for MariadbRows {
    fn name(&self) -> &'static str {
        "mariadb-rows"
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
        let login = found(site.variables, site.service, fields.database.as_deref())?;
        let table = identifier(&format!("devenv_chaos_{}_{}", site.run, site.label.replace('-', "_")));
        Ok(Arc::new(Rows { login, table }))
    }
}

/// How to ask whether it answers.
pub(super) fn asker(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Server(found(variables, service, None)?)))
}

struct Server(Login);

struct Session(Conn);

#[async_trait]
impl Asker for Server {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(Session(self.0.connect().await.map_err(silent)?)))
    }
}

#[async_trait]
impl Line for Session {
    async fn ask(&mut self) -> Result<(), Silent> {
        self.0.query_drop("DO 0").await.map_err(silent)
    }
}

/// From the address that an application would use.
fn found(variables: &Variables, service: &str, database: Option<&str>) -> Result<Login, AddressError> {
    let name = match database {
        Some(database) => Variables::name(service, &format!("{}_URL", variable_form(database))),
        None => Variables::name(service, "URL"),
    };
    let unreadable = |reason: &str| AddressError::Unreadable { name: name.clone(), reason: reason.to_owned() };
    let address = Address::parse(variables.value(&name)?).map_err(&unreadable)?;
    let address = address.ok_or_else(|| unreadable("it is a path"))?;
    let authority = address.options.iter().find(|(option, _)| option == "ssl-ca").map(|(_, path)| PathBuf::from(path));
    Ok(Login {
        port: address.port.unwrap_or(PORT),
        user: address.user.unwrap_or_default(),
        password: address.password.unwrap_or_default(),
        database: address.database,
        authority,
    })
}

struct Rows {
    login: Login,
    /// Quoted.
    table: String,
}

struct Inserter {
    login: Login,
    table: String,
    number: u32,
    connection: Option<Conn>,
}

impl Rows {
    async fn run(&self, statement: &str) -> Result<Vec<Texts>, Error> {
        let mut connection = self.login.connect().await?;
        let rows = connection.query::<mysql_async::Row, _>(statement).await?;
        connection.disconnect().await.ok();
        Ok(rows.into_iter().map(texts).collect())
    }
}

fn said(error: &Error) -> WorkError {
    WorkError::Said(reason(error))
}

#[async_trait]
impl Work for Rows {
    async fn set_up(&self) -> Result<(), WorkError> {
        // Without a key, so that a row that is there twice can be seen.
        let create = format!("CREATE TABLE {} (client INT NOT NULL, sequence BIGINT NOT NULL) ENGINE = InnoDB", self.table);
        self.run(&create).await.map(drop).map_err(|error| said(&error))
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        Box::new(Inserter { login: self.login.clone(), table: self.table.clone(), number, connection: None })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let mut observed = Observed::default();
        let rows = match self.run(&format!("SELECT client, sequence, COUNT(*) FROM {} GROUP BY 1, 2", self.table)).await {
            Ok(rows) => rows,
            // A server that came back without the table has lost every row of it.
            Err(error) if code(&error) == Some(NO_TABLE) => return Ok(Some(observed)),
            Err(error) => return Err(said(&error)),
        };
        for row in rows {
            match operation(&row) {
                Some((client, sequence, times)) => drop(observed.found.insert((client, sequence), times)),
                None => observed.strangers += 1,
            }
        }
        Ok(Some(observed))
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        self.run(&format!("DROP TABLE IF EXISTS {}", self.table)).await.map(drop).map_err(|error| said(&error))
    }
}

fn operation(row: &Texts) -> Option<(u32, u64, u32)> {
    let [client, sequence, times] = &row[..] else { return None };
    Some((client.as_ref()?.parse().ok()?, sequence.as_ref()?.parse().ok()?, times.as_ref()?.parse().ok()?))
}

#[async_trait]
impl Client for Inserter {
    async fn connect(&mut self) -> Result<(), String> {
        self.connection = None;
        self.connection = Some(self.login.connect().await.map_err(|error| reason(&error))?);
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(connection) = &mut self.connection else { return Reply::Refused("not connected".to_owned()) };
        let insert = format!("INSERT INTO {} VALUES ({}, {sequence})", self.table, self.number);
        match connection.query_drop(insert).await {
            Ok(()) => Reply::Acknowledged,
            // The server's own no is one, unless it says that it is going down: the row may be there.
            Err(error) if is_lost(&error) => Reply::Unknown(reason(&error)),
            Err(error) => Reply::Refused(reason(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_found_by_the_address_that_an_application_uses() {
        let variables = Variables(
            [("STORE_AU_DIT_URL", "mysql://au%2Fdit:s@127.0.0.1:3307/au_dit?ssl-mode=VERIFY_IDENTITY&ssl-ca=/state/ca.pem")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        );
        let login = found(&variables, "store", Some("au-dit")).unwrap();
        assert_eq!((login.port, login.user.as_str(), login.database.as_deref()), (3307, "au/dit", Some("au_dit")));
        assert_eq!(login.authority, Some(PathBuf::from("/state/ca.pem")));
        assert!(found(&variables, "store", None).is_err());
    }

    #[test]
    fn a_row_that_is_none_of_ours_is_no_operation() {
        let row = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned())).to_vec();
        assert_eq!(operation(&row(["3", "77", "1"])), Some((3, 77, 1)));
        assert_eq!(operation(&row(["-1", "77", "1"])), None);
    }
}
