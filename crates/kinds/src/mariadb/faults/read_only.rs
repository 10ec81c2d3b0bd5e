//! A server that accepts no writes, like a replica.

use devenv_spec::OfKind;
use serde_json::json;

use super::{
    NAME, WRITABLE,
    server::{Server, within},
};
use crate::{
    capability::{Effect, FaultSite},
    mariadb::session::{code, identifier, reason},
    sql_faults::SqlFault,
};

/// The server's error number for a statement that an option prevents.
const PREVENTED: u16 = 1290;

pub(super) const FAULT: SqlFault = SqlFault::read_only("mariadb-read-only", NAME, "Refuse the writes of all users but the superuser.");

/// A server that its profile makes read-only is refused: the undo would make it writable.
pub(super) async fn inject(server: &Server, site: &mut dyn FaultSite) -> Result<Effect, String> {
    let mut session = server.superuser().await?;
    let now = within(session.rows("SELECT @@GLOBAL.read_only")).await?.map_err(|error| reason(&error))?;
    session.close().await;
    if now.into_iter().flatten().flatten().next().is_none_or(|value| value != "0") {
        return Err("the server is read-only already".to_owned());
    }
    site.will_undo(OfKind::new(WRITABLE, &json!({ "service": site.service().name })))?;
    set(server, true).await?;
    look(server).await
}

pub(super) async fn set(server: &Server, on: bool) -> Result<(), String> {
    let mut session = server.superuser().await?;
    let set = within(session.run(if on { "SET GLOBAL read_only = ON" } else { "SET GLOBAL read_only = OFF" })).await?;
    session.close().await;
    set.map_err(|error| reason(&error))
}

/// Whether the application's user is refused a write that it may normally do. The write would change nothing.
async fn look(server: &Server) -> Result<Effect, String> {
    if server.is_roots() {
        return Ok(Effect::no("the first database belongs to the superuser, who may still write"));
    }
    let mut session = within(server.owner(None)?.open()).await?.map_err(|error| reason(&error))?;
    let written = within(session.run(&format!("CREATE DATABASE IF NOT EXISTS {}", identifier(server.database())))).await?;
    session.close().await;
    match written {
        Err(error) if code(&error) == Some(PREVENTED) => Ok(Effect::yes(format!("the application's user is refused: {}", reason(&error)))),
        Err(error) => Err(reason(&error)),
        Ok(()) => Ok(Effect::no("the application's user may still write")),
    }
}
