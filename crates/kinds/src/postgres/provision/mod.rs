//! Provisions roles, then databases, then their contents, as the superuser over TCP.
//!
//! The existing state is read first, in one query for the server and one per database, so that nothing is written, and no
//! line appears in the server's log, if everything is as requested. If it was so before, all queries are sent at once.

mod database;
pub(super) mod password;
mod reset_password;
pub mod settings;
mod superuser;

pub use super::access::SUPERUSER;
pub use reset_password::reset_superuser_password;
pub(super) use superuser::SESSION;
pub use superuser::Superuser;

use std::collections::HashMap;

use async_trait::async_trait;
use devenv_engine::Engine;
use devenv_secrets::Vault;
use devenv_spec::OfKind;
use futures_util::future::{join, join_all};
use tokio_postgres::{
    Client, SimpleQueryMessage,
    error::{DbError, SqlState},
};

use super::{PostgresKind, spec::PostgresProvision};
use crate::{
    capability::Provisions,
    provision::{Change, ProvisionContext, ProvisionError},
};

/// The existing state.
struct Found {
    roles: HashMap<String, RoleFound>,
    databases: HashMap<String, DatabaseFound>,
}

struct RoleFound {
    /// May log in. Scripts decide on other rights.
    may_log_in: bool,
    verifier: Option<String>,
}

struct DatabaseFound {
    owner: String,
    /// Everybody may connect or create temporary tables.
    open: bool,
    /// The owner may connect.
    owned: bool,
    /// Lines of `name=value`.
    settings: Vec<String>,
}

const ROLES: &str = "SELECT rolname, rolcanlogin, rolpassword FROM pg_catalog.pg_authid";

const DATABASES: &str = "SELECT datname, pg_catalog.pg_get_userbyid(datdba), \
    has_database_privilege('public', d.oid, 'CONNECT') OR has_database_privilege('public', d.oid, 'TEMP'), \
    has_database_privilege(datdba, d.oid, 'CONNECT'), pg_catalog.array_to_string(s.setconfig, E'\\n') \
    FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0";

#[async_trait]
impl Provisions for PostgresKind {
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        apply(&wanted.decode()?, cx).await
    }

    /// It is in the data.
    fn survives_restart(&self) -> bool {
        true
    }

    async fn mend_password(
        &self,
        wanted: &OfKind,
        engine: &dyn Engine,
        container: &str,
        vault: &Vault,
    ) -> Result<Option<String>, ProvisionError> {
        reset_superuser_password(engine, container, &wanted.decode()?, vault).await?;
        Ok(Some("the superuser's password was set to the one of this environment".to_owned()))
    }
}

async fn apply(wanted: &PostgresProvision, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
    let server = Superuser::of(wanted, cx)?;
    let mut roles = Vec::new();
    for role in &wanted.roles {
        if role.name != SUPERUSER {
            roles.push((role.name.as_str(), cx.vault.reveal(&role.password)?));
        }
    }
    let shared = |client: Client| async move {
        let found = look(&client).await?;
        let (mut changes, mut script) = (Vec::new(), Vec::new());
        provide_roles(&roles, &found, &mut changes, &mut script);
        close_shared(&found, &mut changes, &mut script);
        execute(&client, &script, "provision the roles").await?;
        Ok((found, changes))
    };
    let complete = wanted.databases.iter().map(async |database| cx.again && database::is_complete(&server, database).await);
    let (shared, complete) = join(server.session("postgres", shared), join_all(complete)).await;
    let (found, mut changes) = shared?;
    // Each in its own connections, all at once: creating a database takes far longer than querying it.
    let databases = wanted
        .databases
        .iter()
        .zip(complete)
        .map(|(database, complete)| database::provide(&server, database, found.databases.get(&database.name), complete));
    // To the end of each, so that an error leaves no session behind that the next attempt would meet.
    for result in join_all(databases).await {
        changes.extend(result?);
    }
    Ok(changes)
}

async fn look(client: &Client) -> Result<Found, ProvisionError> {
    let read = |rows: Vec<Vec<Option<String>>>| rows.into_iter();
    let (roles, databases) = futures_util::try_join!(rows(client, ROLES), rows(client, DATABASES))
        .map_err(|error| failed("read the server's roles and databases", &error))?;
    let is_true = |value: Option<String>| value.as_deref() == Some("t");
    let roles = read(roles).filter_map(|row| {
        let [name, may_log_in, verifier] = <[_; 3]>::try_from(row).ok()?;
        Some((name?, RoleFound { may_log_in: is_true(may_log_in), verifier }))
    });
    let databases = read(databases).filter_map(|row| {
        let [name, owner, open, owned, settings] = <[_; 5]>::try_from(row).ok()?;
        let settings = settings.unwrap_or_default().lines().map(str::to_owned).collect();
        Some((name?, DatabaseFound { owner: owner?, open: is_true(open), owned: is_true(owned), settings }))
    });
    Ok(Found { roles: roles.collect(), databases: databases.collect() })
}

fn provide_roles(wanted: &[(&str, String)], found: &Found, changes: &mut Vec<Change>, script: &mut Vec<String>) {
    for (name, password) in wanted {
        let quoted = identifier(name);
        match found.roles.get(*name) {
            None => {
                changes.push(Change::made(format!("role `{name}` created")));
                script.push(format!("CREATE ROLE {quoted} WITH {PLAIN} PASSWORD {}", verifier(password)));
            }
            Some(role) => {
                if !role.may_log_in {
                    changes.push(Change::made(format!("role `{name}` may log in")));
                    script.push(format!("ALTER ROLE {quoted} WITH LOGIN"));
                }
                if !role.verifier.as_deref().is_some_and(|verifier| password::matches(verifier, password)) {
                    changes.push(Change::made(format!("password of the role `{name}` set to the stored one")));
                    script.push(format!("ALTER ROLE {quoted} WITH PASSWORD {}", verifier(password)));
                }
            }
        }
    }
}

/// A new role. Rights that an `admin_init` script grants it later stay.
const PLAIN: &str = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

/// The password never leaves this process: the server stores the verifier that it would have computed itself.
fn verifier(password: &str) -> String {
    literal(&postgres_protocol::password::scram_sha_256(password.as_bytes()))
}

/// A service's role can access only its own database, so the databases that every server has are closed to it too.
fn close_shared(found: &Found, changes: &mut Vec<Change>, script: &mut Vec<String>) {
    for name in ["postgres", "template1"] {
        if found.databases.get(name).is_some_and(|database| database.open) {
            changes.push(Change::made(format!("database `{name}` is open to superusers only")));
            script.push(format!("REVOKE CONNECT, TEMP ON DATABASE {} FROM PUBLIC", identifier(name)));
        }
    }
}

/// Whether the server went away during the query: it restarts, or its connection was closed.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    const GOING: [SqlState; 3] = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    error.is_closed() || error.code().map_or_else(|| error.as_db_error().is_none(), |code| GOING.contains(code))
}

/// Whether another session changed the same catalogue entry first, or holds it. The catalogue's own updates have no SQLSTATE for that,
/// and their messages are in the server's language, but the server names the routine that refused.
fn is_overtaken(error: &DbError) -> bool {
    const OVERTAKEN: [SqlState; 6] = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_OBJECT,
        SqlState::OBJECT_IN_USE,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    let updates = ["simple_heap_update", "simple_heap_delete"];
    OVERTAKEN.contains(error.code()) || error.routine().is_some_and(|routine| updates.contains(&routine))
}

fn failed(action: &str, error: &tokio_postgres::Error) -> ProvisionError {
    let reason = reason(error);
    match error.as_db_error() {
        _ if is_lost(error) => ProvisionError::Unreachable { reason },
        Some(refusal) if is_overtaken(refusal) => ProvisionError::Overtaken { action: action.to_owned(), reason },
        _ => ProvisionError::refused(action, reason),
    }
}

pub async fn rows(client: &Client, query: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

async fn execute(client: &Client, statements: &[String], action: &str) -> Result<(), ProvisionError> {
    if statements.is_empty() {
        return Ok(());
    }
    client.batch_execute(&statements.join(";\n")).await.map_err(|error| failed(action, &error))
}

pub fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code().code()),
        None => error.to_string(),
    }
}

pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Correct whatever `standard_conforming_strings` is.
pub fn literal(value: &str) -> String {
    if value.contains('\\') {
        format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_leave_their_quotes() {
        assert_eq!(identifier(r#"a"; DROP"#), r#""a""; DROP""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'; DROP"), r"E'\\''; DROP'");
    }
}
