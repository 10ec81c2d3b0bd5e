//! Rows of MariaDB, for chaos runs.

use std::path::PathBuf;

use async_trait::async_trait;
use mysql_async::{Conn, Row, prelude::Queryable};

use super::{
    MariadbKind,
    fields::PORT,
    session::{Login, Texts, code, identifier, is_lost, reason, texts},
};
use crate::{
    capability::{AddressError, Observed, Reply, Variables, WorkloadKind, Workloads},
    rows::{RowServer, RowSession, RowsWorkload, url_variable},
    transfer::Address,
};

/// The server's error number for a missing table.
const NO_TABLE: u16 = 1146;

impl Workloads for MariadbKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        const ROWS: &RowsWorkload<Server> = &RowsWorkload::named("mariadb-rows");
        &[ROWS]
    }
}

#[derive(Clone)]
pub(super) struct Server(Login);

pub(super) struct Session(Conn);

#[async_trait]
impl RowServer for Server {
    type Session = Session;

    fn found(variables: &Variables, service: &str, database: Option<&str>) -> Result<Self, AddressError> {
        let name = url_variable(service, database);
        let unreadable = |reason: &str| AddressError::Unreadable { name: name.clone(), reason: reason.to_owned() };
        let address = Address::parse(variables.value(&name)?).map_err(&unreadable)?;
        let address = address.ok_or_else(|| unreadable("it is a path"))?;
        let authority = address.options.iter().find(|(option, _)| option == "ssl-ca").map(|(_, path)| PathBuf::from(path));
        Ok(Self(Login {
            port: address.port.unwrap_or(PORT),
            user: address.user.unwrap_or_default(),
            password: address.password.unwrap_or_default(),
            database: address.database,
            authority,
        }))
    }

    async fn open(&self) -> Result<Session, String> {
        Ok(Session(self.0.connect().await.map_err(|error| reason(&error))?))
    }
}

impl Session {
    async fn run(&mut self, statement: String) -> Result<(), String> {
        self.0.query_drop(statement).await.map_err(|error| reason(&error))
    }
}

#[async_trait]
impl RowSession for Session {
    async fn ask(&mut self) -> Result<(), String> {
        self.run("DO 0".to_owned()).await
    }

    async fn create(&mut self, table: &str) -> Result<(), String> {
        let table = identifier(table);
        self.run(format!("CREATE TABLE {table} (client INT NOT NULL, sequence BIGINT NOT NULL) ENGINE = InnoDB")).await
    }

    async fn insert(&mut self, table: &str, client: u32, sequence: u64) -> Reply {
        match self.0.query_drop(format!("INSERT INTO {} VALUES ({client}, {sequence})", identifier(table))).await {
            Ok(()) => Reply::Acknowledged,
            // A refusal of the server is final, unless it says that it is shutting down: then the row may be stored.
            Err(error) if is_lost(&error) => Reply::Unknown(reason(&error)),
            Err(error) => Reply::Refused(reason(&error)),
        }
    }

    async fn read(&mut self, table: &str) -> Result<Observed, String> {
        let mut observed = Observed::default();
        let query = format!("SELECT client, sequence, COUNT(*) FROM {} GROUP BY 1, 2", identifier(table));
        let rows: Vec<Row> = match self.0.query(query).await {
            Ok(rows) => rows,
            // A server that came back without the table has lost every row of it.
            Err(error) if code(&error) == Some(NO_TABLE) => return Ok(observed),
            Err(error) => return Err(reason(&error)),
        };
        for row in rows {
            match operation(&texts(row)) {
                Some((client, sequence, times)) => drop(observed.found.insert((client, sequence), times)),
                None => observed.strangers += 1,
            }
        }
        Ok(observed)
    }

    async fn remove(&mut self, table: &str) -> Result<(), String> {
        self.run(format!("DROP TABLE IF EXISTS {}", identifier(table))).await
    }
}

fn operation(row: &Texts) -> Option<(u32, u64, u32)> {
    let [client, sequence, times] = &row[..] else { return None };
    Some((client.as_ref()?.parse().ok()?, sequence.as_ref()?.parse().ok()?, times.as_ref()?.parse().ok()?))
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
        let Server(login) = Server::found(&variables, "store", Some("au-dit")).unwrap();
        assert_eq!((login.port, login.user.as_str(), login.database.as_deref()), (3307, "au/dit", Some("au_dit")));
        assert_eq!(login.authority, Some(PathBuf::from("/state/ca.pem")));
        assert!(Server::found(&variables, "store", None).is_err());
    }

    #[test]
    fn a_row_that_is_none_of_ours_is_no_operation() {
        let row = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned())).to_vec();
        assert_eq!(operation(&row(["3", "77", "1"])), Some((3, 77, 1)));
        assert_eq!(operation(&row(["-1", "77", "1"])), None);
    }
}
