//! All connections in use.

use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use super::{
    NAME,
    session::{ANSWER, Server, hold},
};
use crate::{
    capability::{Effect, FaultSite},
    sql_faults::SqlFault,
};

/// More than any server for development allows.
const MOST: usize = 2000;

pub(super) const FAULT: SqlFault = SqlFault::exhaust("postgres-exhaust", NAME);

/// Holds every connection that an ordinary client can have.
pub(super) async fn inject(server: &Server, leave: u64, site: &mut dyn FaultSite) -> Result<Effect, String> {
    let way = server.login(None, false)?;
    let mut held = Vec::new();
    let last = loop {
        if held.len() >= MOST {
            break format!("opened {MOST} connections, and the server still accepts more");
        }
        match timeout(ANSWER, server.session(&way)).await {
            Ok(Ok(session)) => held.push(session),
            Ok(Err(error)) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => break server.words(&error),
            Ok(Err(error)) => return Err(server.words(&error)),
            Err(_) => return Err("the server did not answer".to_owned()),
        }
    };
    let refused = held.len() < MOST;
    held.truncate(held.len().saturating_sub(leave as usize));
    let what = format!("{} connections are open; the next: {last}", held.len());
    held.into_iter().map(hold).for_each(|task| site.hold(task));
    Ok(if refused { Effect::yes(what) } else { Effect::no(what) })
}
