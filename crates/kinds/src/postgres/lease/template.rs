//! Templates of databases, and copies of them.

use sha2::{Digest, Sha256};

use super::Shared;
use crate::{
    capability::LeaseError,
    postgres::{
        provision::{identifier, literal, reason, settings},
        spec::PostgresDatabase,
    },
};

const TEMPLATE: &str = "devenv_template_";
/// From this size on, the files of a database are copied, which waits for a checkpoint; for smaller databases a copy through
/// the log is faster.
const COPY_FILES: u64 = 256 << 20;
/// The maximum length of PostgreSQL's names, in bytes.
const LONGEST_NAME: usize = 63;

impl Shared {
    /// A copy of the template that only its owner can access, with the settings that a copy does not inherit.
    pub(super) async fn make(&self, name: &str, wanted: &PostgresDatabase, strategy: &str) -> Result<(), LeaseError> {
        let _permit = self.making.acquire().await;
        let (shown, template, owner) = (identifier(name), identifier(&template_name(&wanted.name)), identifier(&wanted.owner));
        let create = format!("CREATE DATABASE {shown} TEMPLATE {template} OWNER {owner}{strategy}");
        let mut after = vec![format!("REVOKE CONNECT, TEMP ON DATABASE {shown} FROM PUBLIC")];
        after.extend(wanted.settings.iter().filter_map(|(setting, value)| settings::statement(name, setting, value, &[])));
        // The creation by itself, because it cannot run in a transaction with others.
        self.sessions.on(self.sessions.client().await?, &[create, after.join("; ")]).await
    }

    /// Ends the connections to the database: their owners reconnect, and wait.
    pub(super) async fn make_template(&self, template: &str, wanted: &PostgresDatabase, key: &str) -> Result<(), LeaseError> {
        let shown = identifier(template);
        let drop = format!("DROP DATABASE IF EXISTS {shown} WITH (FORCE)");
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()",
            literal(&wanted.name)
        );
        let create = format!("CREATE DATABASE {shown} TEMPLATE {} OWNER {}", identifier(&wanted.name), identifier(&wanted.owner));
        let close = format!("ALTER DATABASE {shown} ALLOW_CONNECTIONS false; COMMENT ON DATABASE {shown} IS {}", literal(key));
        let client = self.sessions.connect().await?;
        let made = async {
            client.batch_execute(&drop).await?;
            // Sent together: clients that reconnect find the database locked, and wait.
            let (ended, created) = tokio::join!(client.batch_execute(&end), client.batch_execute(&create));
            ended.and(created)?;
            // The comment is last: a template without it is incomplete.
            client.batch_execute(&close).await
        };
        made.await.map_err(|error| self.refused("lease a database", reason(&error)))
    }

    /// The size of a database, and the server's version.
    pub(super) async fn size(&self, database: &str) -> Result<(u64, u32), LeaseError> {
        let query = format!("SELECT pg_catalog.pg_database_size({}), current_setting('server_version_num')", literal(database));
        let mut row = self.sessions.ask(&query).await?.into_iter().flatten().flatten();
        let size = row.next().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
        Ok((size, row.next().and_then(|version| version.parse().ok()).unwrap_or_default()))
    }
}

/// The fastest way to copy a database of this size: empty if the server knows only one way.
pub(super) fn strategy(version: u32, size: u64) -> &'static str {
    match version {
        ..150_000 => "",
        _ if size < COPY_FILES => " STRATEGY WAL_LOG",
        _ => " STRATEGY FILE_COPY",
    }
}

/// The identity of the current database, when the server was started, the template's record of what it was made from, and how many rows
/// were written to the database.
pub(super) fn look(database: &str, template: &str) -> String {
    format!(
        "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || '/' || d.oid, pg_catalog.pg_postmaster_start_time(), \
         (SELECT pg_catalog.shobj_description(t.oid, 'pg_database') FROM pg_catalog.pg_database t WHERE t.datname = {}), \
         (SELECT tup_inserted + tup_updated + tup_deleted FROM pg_catalog.pg_stat_database s WHERE s.datid = d.oid) \
         FROM pg_catalog.pg_database d WHERE d.datname = {}",
        literal(template),
        literal(database)
    )
}

/// A name for each database, however long the database's name is.
pub(super) fn template_name(database: &str) -> String {
    let name = format!("{TEMPLATE}{database}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let digest: String = Sha256::digest(database).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{TEMPLATE}{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_databases_are_copied_through_the_log_where_the_server_can() {
        assert_eq!(strategy(140_012, 1 << 20), "");
        assert_eq!(strategy(170_002, 8 << 20), " STRATEGY WAL_LOG");
        assert_eq!(strategy(170_002, 1 << 30), " STRATEGY FILE_COPY");
    }

    #[test]
    fn templates_of_databases_with_long_names_have_names_of_their_own() {
        let (one, other) = ("a".repeat(60), format!("{}b", "a".repeat(59)));
        assert_eq!(template_name("app"), "devenv_template_app");
        assert!(template_name(&one).len() <= LONGEST_NAME);
        assert_ne!(template_name(&one), template_name(&other));
    }
}
