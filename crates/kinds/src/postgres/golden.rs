//! PostgreSQL's golden volumes: bringing a server to rest, which files it has then, and checking whether it has written since.

use std::path::Path;

use async_trait::async_trait;
use devenv_spec::{OfKind, ServiceSpec};
use tokio_postgres::Client;

use super::{PostgresKind, provision::Superuser, spec::PostgresProvision};
use crate::{
    capability::{Golden, GoldenServer, LogRange},
    provision::ProvisionContext,
};

/// The data's directory in its volume.
const DATA: &str = "pgdata";

impl Golden for PostgresKind {
    fn directory(&self) -> &'static str {
        DATA
    }

    fn left_behind(&self) -> &'static [&'static str] {
        &["pgdata/postmaster.pid", "pgdata/postmaster.opts"]
    }

    fn key(&self, provision: &OfKind) -> Option<String> {
        let mut declared: PostgresProvision = provision.decode().ok()?;
        declared.port = 0;
        serde_json::to_string(&declared).ok()
    }

    fn check(&self, service: &ServiceSpec, data: &Path) -> Option<Result<(), (String, String)>> {
        let found = std::fs::read_to_string(data.join("PG_VERSION")).ok()?;
        Some(version_fits(service, found.trim()))
    }

    /// The server writes its command there. It may have started after nobody waited for it any more. Initialisation runs
    /// no server, or one without an address.
    fn served(&self, data: &Path) -> bool {
        std::fs::read_to_string(data.join("postmaster.opts")).is_ok_and(|command| !command.contains("\"listen_addresses=\""))
    }

    fn server(&self, provision: &OfKind, cx: ProvisionContext) -> Option<Box<dyn GoldenServer>> {
        Some(Box::new(Watched { declared: provision.decode().ok()?, cx }))
    }
}

/// The files of the write-ahead log that a start after the checkpoint reads, by name: the others are only kept for reuse.
struct Segments {
    first: String,
    last: String,
}

impl LogRange for Segments {
    fn is_needless(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return false };
        let is_segment = directory.ends_with("pgdata/pg_wal") && name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_segment && (name < self.first.as_str() || name > self.last.as_str())
    }
}

/// The server that is copied, through a superuser session.
struct Watched {
    declared: PostgresProvision,
    cx: ProvisionContext,
}

#[async_trait]
impl GoldenServer for Watched {
    async fn checkpoint(&self) -> Result<(Box<dyn LogRange>, String), String> {
        // One file more than now: what is written until the copy ends may go over the end of a file.
        const FILES: &str = "SELECT pg_walfile_name(redo_lsn), pg_walfile_name(pg_current_wal_insert_lsn() + pg_size_bytes(current_setting('wal_segment_size'))::numeric), \
            pg_current_wal_insert_lsn()::text FROM pg_control_checkpoint()";
        let work = |client: Client| async move {
            client.batch_execute("CHECKPOINT").await?;
            let row = client.query_one(FILES, &[]).await?;
            let segments: Box<dyn LogRange> = Box::new(Segments { first: row.get(0), last: row.get(1) });
            Ok((segments, row.get(2)))
        };
        self.ask(work).await
    }

    async fn position(&self) -> Result<String, String> {
        self.one("SELECT pg_current_wal_insert_lsn()::text").await
    }

    async fn next_writer(&self) -> Result<String, String> {
        self.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").await
    }
}

impl Watched {
    async fn one(&self, query: &str) -> Result<String, String> {
        self.ask(|client| async move { Ok(client.query_one(query, &[]).await?.get(0)) }).await
    }

    async fn ask<T, W>(&self, work: impl FnOnce(Client) -> W) -> Result<T, String>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let superuser = Superuser::of(&self.declared, &self.cx).map_err(|error| error.to_string())?;
        superuser.ask("devenv golden", work).await
    }
}

/// PostgreSQL refuses the data of another major version with an unclear message: this explains what to do, and starts nothing.
fn version_fits(spec: &ServiceSpec, found: &str) -> Result<(), (String, String)> {
    let Some(wanted) = spec.container().and_then(|container| major_of(container.image.name())) else { return Ok(()) };
    if found == wanted {
        return Ok(());
    }
    let service = &spec.name;
    let cause = format!(
        "the data of `{service}` was written by PostgreSQL {found}, but the profile requires PostgreSQL {wanted}, which cannot read it; \
            the server was not started"
    );
    let fix = format!(
        "set `version: \"{found}\"` and run `devenv up`, `devenv export {service} {service}.dump`, `devenv down --volumes`; then set \
            `version: \"{wanted}\"` and run `devenv up` and `devenv import {service} {service}.dump`. To drop the data, run `devenv \
            reset {service}` (`devenv undo` brings it back)"
    );
    Err((cause, fix))
}

/// From `postgres:17`, `pgvector/pgvector:pg17`, `postgis/postgis:16-3.4`; `None` if the tag does not show it.
fn major_of(image: &str) -> Option<&str> {
    let tag = image.rsplit_once(':')?.1;
    let tag = tag.strip_prefix("pg").unwrap_or(tag);
    let end = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
    (1..=2).contains(&end).then(|| &tag[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_on_which_a_server_was_started_for_others_is_never_taken_for_a_half_made_first_start() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        assert!(!PostgresKind.served(data), "initdb was under way");
        for (command, expected) in [
            ("/usr/lib/postgresql/17/bin/postgres \"-c\" \"listen_addresses=\" \"-p\" \"5432\"\n", false),
            ("/usr/lib/postgresql/17/bin/postgres \"-c\" \"config_file=/etc/devenv/postgres/postgresql.conf\"\n", true),
            ("/usr/lib/postgresql/17/bin/postgres\n", true),
        ] {
            std::fs::write(data.join("postmaster.opts"), command).unwrap();
            assert_eq!(PostgresKind.served(data), expected, "{command}");
        }
    }

    #[test]
    fn only_the_logs_files_from_the_checkpoint_on_are_copied() {
        let segments = Segments { first: "00000001000000000000000A".to_owned(), last: "00000001000000000000000C".to_owned() };
        for (path, needless) in [
            ("pgdata/pg_wal/000000010000000000000009", true),
            ("pgdata/pg_wal/00000001000000000000000A", false),
            ("pgdata/pg_wal/00000001000000000000000C", false),
            ("pgdata/pg_wal/00000001000000000000000D", true),
            ("pgdata/pg_wal/00000002.history", false),
            ("pgdata/base/000000010000000000000009", false),
        ] {
            assert_eq!(segments.is_needless(Path::new(path)), needless, "{path}");
        }
    }

    #[test]
    fn the_major_version_is_read_from_the_tags_that_images_of_postgresql_have() {
        for (image, major) in [
            ("postgres:17", Some("17")),
            ("pgvector/pgvector:pg16", Some("16")),
            ("postgis/postgis:16-3.4", Some("16")),
            ("localhost:5000/postgres:15.4-alpine", Some("15")),
            ("timescale/timescaledb:latest-pg16", None),
            ("postgres", None),
            ("mine:20240101", None),
        ] {
            assert_eq!(major_of(image), major, "{image}");
        }
    }
}
