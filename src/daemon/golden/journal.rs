//! A server at rest for a moment: what is on its disk then, and whether it has moved since.

use std::path::Path;

use tokio_postgres::Client;

use crate::{
    kinds::postgres::{provision::Superuser, spec::PostgresProvision},
    provision::ProvisionContext,
};

/// The files of the write-ahead log that a start after the checkpoint reads, by name: the others are kept for reuse alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Journal {
    first: String,
    last: String,
}

impl Journal {
    pub(super) fn is_needless(&self, path: &Path) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return false };
        let is_segment = directory.ends_with("pgdata/pg_wal") && name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_segment && (name < self.first.as_str() || name > self.last.as_str())
    }
}

/// The server that is copied, as its superuser sees it.
pub(super) struct Watched {
    pub(super) provision: PostgresProvision,
    pub(super) cx: ProvisionContext,
}

/// Where its write-ahead log ends: as long as it ends there, nothing has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position(String);

/// The next transaction that writes: as long as it is the next, what the data says is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NextWriter(String);

impl Watched {
    /// Brings everything that is written to the files.
    pub(super) async fn checkpoint(&self) -> Result<(Journal, Position), String> {
        // One file more than now: what is written until the copy ends may go over the end of a file.
        const FILES: &str = "SELECT pg_walfile_name(redo_lsn), pg_walfile_name(pg_current_wal_insert_lsn() + pg_size_bytes(current_setting('wal_segment_size'))::numeric), \
            pg_current_wal_insert_lsn()::text FROM pg_control_checkpoint()";
        let work = |client: Client| async move {
            client.batch_execute("CHECKPOINT").await?;
            let row = client.query_one(FILES, &[]).await?;
            Ok((Journal { first: row.get(0), last: row.get(1) }, Position(row.get(2))))
        };
        self.ask(work).await
    }

    pub(super) async fn position(&self) -> Result<Position, String> {
        self.one("SELECT pg_current_wal_insert_lsn()::text").await.map(Position)
    }

    pub(super) async fn next_writer(&self) -> Result<NextWriter, String> {
        self.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").await.map(NextWriter)
    }

    async fn one(&self, query: &str) -> Result<String, String> {
        self.ask(|client| async move { Ok(client.query_one(query, &[]).await?.get(0)) }).await
    }

    async fn ask<T, W>(&self, work: impl FnOnce(Client) -> W) -> Result<T, String>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let superuser = Superuser::of(&self.provision, &self.cx).map_err(|error| error.to_string())?;
        superuser.ask("devenv golden", work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_journals_files_from_the_checkpoint_on_are_copied() {
        let journal = Journal { first: "00000001000000000000000A".to_owned(), last: "00000001000000000000000C".to_owned() };
        for (path, needless) in [
            ("pgdata/pg_wal/000000010000000000000009", true),
            ("pgdata/pg_wal/00000001000000000000000A", false),
            ("pgdata/pg_wal/00000001000000000000000C", false),
            ("pgdata/pg_wal/00000001000000000000000D", true),
            ("pgdata/pg_wal/00000002.history", false),
            ("pgdata/base/000000010000000000000009", false),
        ] {
            assert_eq!(journal.is_needless(Path::new(path)), needless, "{path}");
        }
    }
}
