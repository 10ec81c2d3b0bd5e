//! Terminated sessions.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    NAME,
    session::{Server, rows},
};
use crate::{
    capability::{Effect, FaultSite},
    postgres::provision::literal,
    sql_faults::{self, SqlFault},
};

pub(super) const FAULT: SqlFault = SqlFault::terminate("postgres-terminate", NAME);

pub(super) async fn inject(
    server: Server,
    database: Option<String>,
    every: Option<Duration>,
    site: &mut dyn FaultSite,
) -> Result<Effect, String> {
    sql_faults::terminate(every, site, move || end(server.clone(), database.clone())).await
}

async fn end(server: Server, database: Option<String>) -> Result<Effect, String> {
    let session = server.superuser(None).await?;
    // A session of our own, so that the effect is visible even if no other session exists.
    let victim = server.session(&server.login(database.as_deref(), false)?).await.map_err(|error| server.words(&error))?;
    let condition = database.map(|name| format!(" AND datname = {}", literal(&name))).unwrap_or_default();
    let query = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid(){condition}"
    );
    let ended = rows(&session.client, &query).await.map_err(|error| server.words(&error))?.len();
    let gone = timeout(Duration::from_secs(3), async {
        while victim.client.simple_query("SELECT 1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(match gone {
        Ok(()) => Effect::yes(format!("terminated {} client sessions and one of devenv's own", ended.saturating_sub(1))),
        Err(_) => Effect::no("a session that was terminated is still there"),
    })
}
