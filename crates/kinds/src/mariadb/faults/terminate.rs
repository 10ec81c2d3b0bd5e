//! Terminated sessions.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    NAME,
    server::{Server, within},
};
use crate::{
    capability::{Effect, FaultSite},
    mariadb::session::{code, literal, reason},
    sql_faults::{self, SqlFault},
};

/// The server's error number for a killed session.
const NO_SESSION: u16 = 1094;

pub(super) const FAULT: SqlFault = SqlFault::terminate("mariadb-terminate", NAME);

pub(super) async fn inject(
    server: Server,
    database: Option<String>,
    every: Option<Duration>,
    site: &mut dyn FaultSite,
) -> Result<Effect, String> {
    sql_faults::terminate(every, site, move || end(server.clone(), database.clone())).await
}

async fn end(server: Server, database: Option<String>) -> Result<Effect, String> {
    let mut session = server.superuser().await?;
    // A session of our own, so that the effect is visible even if no other session exists.
    let mut victim = within(server.owner(database.as_deref())?.open()).await?.map_err(|error| reason(&error))?;
    let condition = database.map(|name| format!(" AND DB = {}", literal(&name))).unwrap_or_default();
    let query = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon' AND USER <> 'system user'{condition}"
    );
    let sessions = within(session.rows(&query)).await?.map_err(|error| reason(&error))?;
    let mut ended = 0_usize;
    for id in sessions.into_iter().flatten().flatten() {
        match within(session.run(&format!("KILL CONNECTION {id}"))).await? {
            Ok(()) => ended += 1,
            Err(error) if code(&error) == Some(NO_SESSION) => {}
            Err(error) => return Err(reason(&error)),
        }
    }
    session.close().await;
    let gone = timeout(Duration::from_secs(3), async {
        while victim.run("DO 0").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(match gone {
        Ok(()) => Effect::yes(format!("terminated {} client sessions and one of devenv's own", ended.saturating_sub(1))),
        Err(_) => Effect::no("a session that was terminated is still there"),
    })
}
