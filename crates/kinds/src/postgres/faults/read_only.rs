//! A server that accepts no writes, like a standby.

use std::time::Duration;

use super::{
    NAME,
    session::{Server, rows},
};
use crate::{capability::Effect, postgres::provision::SUPERUSER, sql_faults::SqlFault};

pub(super) const FAULT: SqlFault = SqlFault::read_only("postgres-read-only", NAME, "Make transactions read-only by default.");

pub(super) async fn set(server: &Server, on: bool) -> Result<(), String> {
    let session = server.superuser(Some(SUPERUSER)).await?;
    let statement =
        if on { "ALTER SYSTEM SET default_transaction_read_only = on" } else { "ALTER SYSTEM RESET default_transaction_read_only" };
    for statement in [statement, "SELECT pg_reload_conf()"] {
        session.client.simple_query(statement).await.map_err(|error| server.words(&error))?;
    }
    Ok(())
}

/// Whether a transaction of the application's role is read-only now.
pub(super) async fn look(server: &Server) -> Result<Effect, String> {
    let way = server.login(None, false)?;
    let mut last = String::new();
    // A reload takes effect a moment later.
    for _ in 0..100 {
        let session = server.session(&way).await.map_err(|error| server.words(&error))?;
        last = rows(&session.client, "SHOW transaction_read_only").await.map_err(|error| server.words(&error))?.pop().unwrap_or_default();
        if last == "on" {
            return Ok(Effect::yes("a new transaction of the application's role is read-only"));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(Effect::no(format!("transaction_read_only is {last}")))
}
