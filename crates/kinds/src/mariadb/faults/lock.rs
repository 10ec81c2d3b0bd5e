//! A lock that is not released.

use devenv_faults::{Form, Parameter};

use super::{
    NAME,
    server::{Server, hold, within},
};
use crate::{
    capability::{Effect, FaultSite},
    mariadb::session::{code, identifier, literal, reason},
    sql_faults::SqlFault,
};

/// The server's error number for a lock time-out.
const LOCKED: u16 = 1205;

pub(super) const FAULT: SqlFault = SqlFault::lock(
    "mariadb-lock",
    NAME,
    "Hold a write lock on one table, or on all tables of a database.",
    &[
        Parameter::new("database", Form::Text, "The database. Default: the first."),
        Parameter::new("table", Form::Text, "The table. Default: all tables of the database."),
    ],
);

pub(super) async fn inject(
    server: &Server,
    database: Option<&str>,
    table: Option<&str>,
    site: &mut dyn FaultSite,
) -> Result<Effect, String> {
    let database = database.unwrap_or_else(|| server.database());
    let mut session = server.superuser().await?;
    let qualified = |table: &str| format!("{}.{}", identifier(database), identifier(table));
    let tables: Vec<String> = if let Some(table) = table {
        vec![qualified(table)]
    } else {
        let query = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_TYPE = 'BASE TABLE'",
            literal(database)
        );
        let found = within(session.rows(&query)).await?.map_err(|error| reason(&error))?;
        found.into_iter().flatten().flatten().map(|table| qualified(&table)).collect()
    };
    let Some(first) = tables.first() else { return Err(format!("the database `{database}` has no table to lock")) };
    let locks: Vec<String> = tables.iter().map(|table| format!("{table} WRITE")).collect();
    let statement = format!("SET STATEMENT lock_wait_timeout = 5 FOR LOCK TABLES {}", locks.join(", "));
    within(session.run(&statement)).await?.map_err(|error| reason(&error))?;
    let mut other = server.superuser().await?;
    let refused = within(other.run(&format!("SET STATEMENT lock_wait_timeout = 0 FOR SELECT 1 FROM {first} LIMIT 1"))).await?;
    other.close().await;
    let effect = match refused {
        Err(error) if code(&error) == Some(LOCKED) => {
            Effect::yes(format!("{} tables are locked, and another session cannot read {first}", tables.len()))
        }
        Err(error) => return Err(reason(&error)),
        Ok(()) => Effect::no(format!("another session can read {first}")),
    };
    site.hold(hold(session));
    Ok(effect)
}
