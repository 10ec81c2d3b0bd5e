//! All connections in use.

use super::{
    NAME,
    server::{Server, hold, within},
};
use crate::{
    capability::{Effect, FaultSite},
    mariadb::session::{code, reason},
    sql_faults::SqlFault,
};

/// More than any server for development allows.
const MOST: usize = 2000;
/// The server's numbers for too many connections, of all users and of this one.
const TOO_MANY: [u16; 2] = [1040, 1203];

pub(super) const FAULT: SqlFault = SqlFault::exhaust("mariadb-exhaust", NAME);

/// Holds every connection that an ordinary client can have. The server keeps one more for its superuser.
pub(super) async fn inject(server: &Server, leave: u64, site: &mut dyn FaultSite) -> Result<Effect, String> {
    let login = server.owner(None)?;
    let mut held = Vec::new();
    let last = loop {
        if held.len() >= MOST {
            break format!("opened {MOST} connections, and the server still accepts more");
        }
        match within(login.connect()).await? {
            Ok(connection) => held.push(connection),
            Err(error) if code(&error).is_some_and(|code| TOO_MANY.contains(&code)) => break reason(&error),
            Err(error) => return Err(reason(&error)),
        }
    };
    let refused = held.len() < MOST;
    held.truncate(held.len().saturating_sub(usize::try_from(leave).unwrap_or(usize::MAX)));
    let what = format!("{} connections are open; the next: {last}", held.len());
    held.into_iter().map(hold).for_each(|task| site.hold(task));
    Ok(if refused { Effect::yes(what) } else { Effect::no(what) })
}
