//! One database: that it exists, whose it is, who may enter, and what is in it before any script runs.

use tokio_postgres::{Client, error::SqlState};

use super::{DatabaseFound, Server, execute, failed, identifier, literal, rows, settings};
use crate::{
    provision::{Change, ProvisionError},
    spec::PostgresDatabase,
};

const INSIDE: &str = "SELECT 'extension', extname FROM pg_catalog.pg_extension UNION ALL \
    SELECT 'public', pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'public'";

pub(super) async fn provide(
    server: &Server,
    wanted: &PostgresDatabase,
    found: Option<&DatabaseFound>,
) -> Result<Vec<Change>, ProvisionError> {
    let mut changes = Vec::new();
    if found.is_none() {
        server.session("postgres", |client| async move { create(&client, wanted).await }).await?;
        changes.push(Change::made(format!("database `{}` created for `{}`", wanted.name, wanted.owner)));
    }
    let inside = |client: Client| async move {
        let mut changes = outside(&client, wanted, found).await?;
        changes.extend(fill(&client, wanted).await?);
        Ok(changes)
    };
    changes.extend(server.session(&wanted.name, inside).await?);
    Ok(changes)
}

/// Made and closed by the same connection, so that it is open for no longer than it takes to say so.
async fn create(client: &Client, wanted: &PostgresDatabase) -> Result<(), ProvisionError> {
    let (name, owner) = (identifier(&wanted.name), identifier(&wanted.owner));
    let action = format!("create the database `{}`", wanted.name);
    // Two statements: the first refuses to share a transaction.
    match client.batch_execute(&format!("CREATE DATABASE {name} OWNER {owner}")).await {
        Err(error) if error.code() != Some(&SqlState::DUPLICATE_DATABASE) => {
            return Err(failed(&action, &error));
        }
        _ => {}
    }
    execute(client, &[format!("REVOKE CONNECT, TEMP ON DATABASE {name} FROM PUBLIC")], &action).await
}

/// What the server's catalogue says of the database.
async fn outside(client: &Client, wanted: &PostgresDatabase, found: Option<&DatabaseFound>) -> Result<Vec<Change>, ProvisionError> {
    let (mut changes, mut script) = (Vec::new(), Vec::new());
    let (shown, name, owner) = (&wanted.name, identifier(&wanted.name), identifier(&wanted.owner));
    if let Some(found) = found {
        if found.owner != wanted.owner {
            changes.push(Change::made(format!("database `{shown}` given to `{}`, it was `{}`'s", wanted.owner, found.owner)));
            script.push(format!("ALTER DATABASE {name} OWNER TO {owner}"));
        }
        if found.open {
            changes.push(Change::made(format!("database `{shown}` closed to all but its owner")));
            script.push(format!("REVOKE CONNECT, TEMP ON DATABASE {name} FROM PUBLIC"));
        }
        if !found.owned {
            changes.push(Change::made(format!("database `{shown}` opened to its owner `{}`", wanted.owner)));
            script.push(format!("GRANT ALL ON DATABASE {name} TO {owner}"));
        }
    }
    execute(client, &script, &format!("provide the database `{shown}`")).await?;
    let held = found.map(|found| found.settings.as_slice()).unwrap_or_default();
    for (setting, value) in &wanted.settings {
        if let Some(statement) = settings::statement(shown, setting, value, held) {
            execute(client, &[statement], &format!("set `{setting}` of the database `{shown}`")).await?;
            changes.push(Change::made(format!("`{setting}` of the database `{shown}` set to `{value}`")));
        }
    }
    Ok(changes)
}

/// What its own catalogue says.
async fn fill(client: &Client, wanted: &PostgresDatabase) -> Result<Vec<Change>, ProvisionError> {
    let shown = &wanted.name;
    let inside = rows(client, INSIDE).await.map_err(|error| failed(&format!("read what the database `{shown}` holds"), &error))?;
    let holds = |kind: &str, name: &str| inside.iter().any(|row| matches!(&row[..], [Some(a), Some(b)] if a == kind && b == name));
    let mut changes = Vec::new();
    let has_public = inside.iter().any(|row| row.first().is_some_and(|kind| kind.as_deref() == Some("public")));
    if has_public && !holds("public", &wanted.owner) {
        let script = format!("ALTER SCHEMA public OWNER TO {}", identifier(&wanted.owner));
        execute(client, &[script], &format!("give the schema `public` of `{shown}` to `{}`", wanted.owner)).await?;
        changes.push(Change::made(format!("schema `public` of `{shown}` given to `{}`", wanted.owner)));
    }
    for extension in &wanted.extensions {
        if !holds("extension", &extension.name) {
            extend(client, &extension.name, shown).await?;
            changes.push(Change::made(format!("extension `{}` created in `{shown}`", extension.name)));
        }
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

/// The few names that were probably meant; all of them if the image holds only a few.
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
