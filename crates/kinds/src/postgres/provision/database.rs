//! One database: its existence, owner, access rights, and its contents before any script runs.

use std::collections::HashSet;

use tokio_postgres::{Client, error::SqlState};

use super::{DatabaseFound, Superuser, execute, failed, identifier, literal, rows, settings};
use crate::{
    postgres::spec::PostgresDatabase,
    provision::{Change, ProvisionError},
};

const INSIDE: &str = "SELECT 'extension', extname FROM pg_catalog.pg_extension UNION ALL \
    SELECT 'public', pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'public'";

/// The content of its own catalogue.
struct Inside {
    extensions: HashSet<String>,
    /// The owner of the schema `public`, if there is one.
    public_owner: Option<String>,
}

/// `complete`: the contents were found to be as requested.
pub(super) async fn provide(
    server: &Superuser,
    wanted: &PostgresDatabase,
    found: Option<&DatabaseFound>,
    complete: bool,
) -> Result<Vec<Change>, ProvisionError> {
    let mut changes = Vec::new();
    if found.is_none() {
        server.session("postgres", |client| async move { create(&client, wanted).await }).await?;
        changes.push(Change::made(format!("database `{}` created for `{}`", wanted.name, wanted.owner)));
    }
    let outside = outside(wanted, found);
    if complete && found.is_some() && outside.is_empty() {
        return Ok(changes);
    }
    let work = |client: Client| async move {
        let mut changes = Vec::new();
        for step in outside {
            execute(&client, &[step.statement], &step.action).await?;
            changes.push(step.change);
        }
        changes.extend(fill(&client, wanted).await?);
        Ok(changes)
    };
    changes.extend(server.session(&wanted.name, work).await?);
    Ok(changes)
}

/// Whether connections are allowed and all contents are as requested.
pub(super) async fn is_complete(server: &Superuser, wanted: &PostgresDatabase) -> bool {
    let inside = server.session(&wanted.name, |client| async move { Inside::look(&client, &wanted.name).await }).await;
    inside.is_ok_and(|inside| !inside.has_strange_public(wanted) && inside.missing(wanted).next().is_none())
}

/// Created and closed to others by the same connection, so that it is open only briefly.
async fn create(client: &Client, wanted: &PostgresDatabase) -> Result<(), ProvisionError> {
    let (name, owner) = (identifier(&wanted.name), identifier(&wanted.owner));
    let action = format!("create the database `{}`", wanted.name);
    // Two statements: the first cannot run in a transaction.
    match client.batch_execute(&format!("CREATE DATABASE {name} OWNER {owner}")).await {
        Err(error) if error.code() != Some(&SqlState::DUPLICATE_DATABASE) => {
            return Err(failed(&action, &error));
        }
        _ => {}
    }
    execute(client, &[format!("REVOKE CONNECT, TEMP ON DATABASE {name} FROM PUBLIC")], &action).await
}

/// One change that the server's catalogue requires.
struct Step {
    statement: String,
    action: String,
    change: Change,
}

/// What differs in the server's catalogue.
fn outside(wanted: &PostgresDatabase, found: Option<&DatabaseFound>) -> Vec<Step> {
    let (shown, name, owner) = (&wanted.name, identifier(&wanted.name), identifier(&wanted.owner));
    let mut steps = Vec::new();
    let mut step = |statement: String, action: String, change: String| {
        steps.push(Step { statement, action, change: Change::made(change) });
    };
    if let Some(found) = found {
        let provide = || format!("provision the database `{shown}`");
        if found.owner != wanted.owner {
            let change = format!("owner of the database `{shown}` changed to `{}`, it was `{}`", wanted.owner, found.owner);
            step(format!("ALTER DATABASE {name} OWNER TO {owner}"), provide(), change);
        }
        if found.open {
            let change = format!("database `{shown}` closed to all roles but its owner");
            step(format!("REVOKE CONNECT, TEMP ON DATABASE {name} FROM PUBLIC"), provide(), change);
        }
        if !found.owned {
            let change = format!("database `{shown}` opened to its owner `{}`", wanted.owner);
            step(format!("GRANT ALL ON DATABASE {name} TO {owner}"), provide(), change);
        }
    }
    let held = found.map(|found| found.settings.as_slice()).unwrap_or_default();
    for (setting, value) in &wanted.settings {
        if let Some(statement) = settings::statement(shown, setting, value, held) {
            let change = format!("`{setting}` of the database `{shown}` set to `{value}`");
            step(statement, format!("set `{setting}` of the database `{shown}`"), change);
        }
    }
    steps
}

impl Inside {
    async fn look(client: &Client, shown: &str) -> Result<Self, ProvisionError> {
        let found = rows(client, INSIDE).await.map_err(|error| failed(&format!("read the contents of the database `{shown}`"), &error))?;
        let (mut extensions, mut public_owner) = (HashSet::new(), None);
        for row in found {
            match <[_; 2]>::try_from(row) {
                Ok([Some(kind), Some(name)]) if kind == "extension" => drop(extensions.insert(name)),
                Ok([_, name]) => public_owner = name,
                Err(_) => {}
            }
        }
        Ok(Self { extensions, public_owner })
    }

    fn has_strange_public(&self, wanted: &PostgresDatabase) -> bool {
        self.public_owner.as_ref().is_some_and(|owner| *owner != wanted.owner)
    }

    fn missing<'a>(&'a self, wanted: &'a PostgresDatabase) -> impl Iterator<Item = &'a str> {
        wanted.extensions.iter().map(|extension| extension.name.as_str()).filter(|name| !self.extensions.contains(*name))
    }
}

async fn fill(client: &Client, wanted: &PostgresDatabase) -> Result<Vec<Change>, ProvisionError> {
    let shown = &wanted.name;
    let inside = Inside::look(client, shown).await?;
    let mut changes = Vec::new();
    if inside.has_strange_public(wanted) {
        let script = format!("ALTER SCHEMA public OWNER TO {}", identifier(&wanted.owner));
        execute(client, &[script], &format!("change the owner of the schema `public` of `{shown}` to `{}`", wanted.owner)).await?;
        changes.push(Change::made(format!("owner of the schema `public` of `{shown}` changed to `{}`", wanted.owner)));
    }
    for extension in inside.missing(wanted) {
        extend(client, extension, shown).await?;
        changes.push(Change::made(format!("extension `{extension}` created in `{shown}`")));
    }
    Ok(changes)
}

async fn extend(client: &Client, name: &str, database: &str) -> Result<(), ProvisionError> {
    let script = format!("CREATE EXTENSION IF NOT EXISTS {} CASCADE", identifier(name));
    let Err(error) = client.batch_execute(&script).await else { return Ok(()) };
    let is_here = format!("SELECT name FROM pg_catalog.pg_available_extensions ORDER BY name = {} DESC, name", literal(name));
    let available: Vec<String> =
        rows(client, &is_here).await.unwrap_or_default().into_iter().filter_map(|row| row.into_iter().next()?).collect();
    if available.is_empty() || available[0] == name {
        return Err(failed(&format!("create the extension `{name}` in `{database}`"), &error));
    }
    Err(ProvisionError::NoExtension { name: name.to_owned(), close: close_to(name, &available) })
}

/// The few names that were probably meant; all of them if the image contains only a few.
fn close_to(name: &str, available: &[String]) -> Vec<String> {
    let known_as = match name {
        "pgvector" => "vector",
        "pg_uuid" | "uuid" => "uuid-ossp",
        "trgm" | "trigram" => "pg_trgm",
        name => name,
    };
    let mut close: Vec<(f64, &String)> = available
        .iter()
        .map(|candidate| {
            let similar = strsim::jaro_winkler(known_as, candidate);
            (if candidate.contains(known_as) || known_as.contains(candidate.as_str()) { similar + 1.0 } else { similar }, candidate)
        })
        .filter(|(similar, _)| *similar > 0.8)
        .collect();
    close.sort_by(|a, b| b.0.total_cmp(&a.0));
    close.into_iter().take(3).map(|(_, candidate)| candidate.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_extension_is_answered_with_the_names_that_were_probably_meant() {
        let available = ["pg_trgm", "pgcrypto", "uuid-ossp", "vector", "hstore"].map(str::to_owned);
        assert_eq!(close_to("pgvector", &available), ["vector"]);
        assert_eq!(close_to("uuid_ossp", &available), ["uuid-ossp"]);
        assert_eq!(close_to("pgtrgm", &available)[0], "pg_trgm");
        assert_eq!(close_to("timescaledb", &available), Vec::<String>::new());
    }
}
