//! A lock that is not released.

use devenv_faults::{Form, Parameter};
use tokio_postgres::error::SqlState;

use super::{
    NAME,
    session::{Server, hold, rows},
};
use crate::{
    capability::{Effect, FaultSite},
    postgres::provision::identifier,
    sql_faults::SqlFault,
};

pub(super) const FAULT: SqlFault = SqlFault::lock(
    "postgres-lock",
    NAME,
    "Hold an exclusive lock on one table, or on all tables of a database.",
    &[
        Parameter::new("database", Form::Text, "The database. Default: the first."),
        Parameter::new("table", Form::Text, "The table. Default: all user tables."),
    ],
);

pub(super) async fn inject(
    server: &Server,
    database: Option<&str>,
    table: Option<&str>,
    site: &mut dyn FaultSite,
) -> Result<Effect, String> {
    let said = |error: tokio_postgres::Error| server.words(&error);
    let session = server.superuser(database).await?;
    let tables = if let Some(table) = table {
        vec![table.split('.').map(identifier).collect::<Vec<_>>().join(".")]
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
    let other = server.superuser(database).await?;
    let refused = other.client.simple_query(&format!("SET lock_timeout = '200ms'; BEGIN; LOCK TABLE {first} IN ACCESS SHARE MODE")).await;
    let effect = match refused {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Effect::yes(format!("{} tables are locked, and another session cannot read {first}", tables.len()))
        }
        Err(error) => return Err(said(error)),
        Ok(_) => Effect::no(format!("another session can read {first}")),
    };
    site.hold(hold(session));
    Ok(effect)
}
