//! devenv's own database on the server, which no owner can access: applied scripts, the sources of lease
//! templates, and swaps of databases in progress. It is part of the data and of every copy of the volume.

use mysql_async::Error;

use super::session::{Session, code, literal};
use crate::script::{
    Recorded, Script, mode_from, mode_text,
    plan::{INTERRUPTED, RecordedState},
};

/// The database. Its tables have unique names, because a dump of a service's database includes rows of them.
pub(super) const DATABASE: &str = "devenv_ledger";

/// The table of scripts, which a service's own dumps include.
pub(super) const SCRIPTS: &str = "devenv_script";

const TABLES: [(&str, &str); 4] = [
    (
        SCRIPTS,
        "db VARCHAR(64) NOT NULL, path VARCHAR(700) NOT NULL, checksum CHAR(64) NOT NULL, mode VARCHAR(16) NOT NULL, \
         state ENUM('running', 'interrupted', 'applied', 'failed') NOT NULL, started_at DATETIME(6) NOT NULL, applied_at DATETIME(6), \
         duration_ms BIGINT UNSIGNED, row_count BIGINT UNSIGNED, error TEXT, batch CHAR(32) NOT NULL, PRIMARY KEY (db, path)",
    ),
    ("devenv_database", "db VARCHAR(64) NOT NULL PRIMARY KEY, identity CHAR(32) NOT NULL"),
    ("devenv_template", "db VARCHAR(64) NOT NULL PRIMARY KEY, made_from TEXT NOT NULL, blueprint LONGTEXT NOT NULL"),
    (
        "devenv_exchange",
        "db VARCHAR(64) NOT NULL, moved BOOLEAN NOT NULL, position INT NOT NULL, statement LONGTEXT NOT NULL, PRIMARY KEY (db, moved, position)",
    ),
];

/// The server's error numbers for a missing database and a missing table.
const NO_DATABASE: u16 = 1049;
const NO_TABLE: u16 = 1146;

/// One attempt at a script.
pub(super) struct Mark<'a> {
    pub(super) database: &'a str,
    pub(super) script: &'a Script,
    /// Unique to this attempt.
    pub(super) batch: String,
}

impl<'a> Mark<'a> {
    pub(super) fn new(database: &'a str, script: &'a Script) -> Self {
        Self { database, script, batch: format!("{:032x}", rand::random::<u128>()) }
    }

    pub(super) fn running(&self) -> String {
        self.row("'running'", "NULL", "NULL")
    }

    /// Marks an attempt that was recorded as running, however long ago. One that ends with an error has applied its first part.
    pub(super) fn ended(&self, error: Option<&str>) -> String {
        let (state, applied, error) = match error {
            None => ("applied", "UTC_TIMESTAMP(6)", "NULL".to_owned()),
            Some(error) => ("interrupted", "NULL", literal(error)),
        };
        format!(
            "UPDATE {DATABASE}.devenv_script SET state = '{state}', applied_at = {applied}, error = {error}, \
             duration_ms = TIMESTAMPDIFF(MICROSECOND, started_at, UTC_TIMESTAMP(6)) DIV 1000 WHERE {} AND batch = '{}'",
            self.key(),
            self.batch
        )
    }

    /// Makes the script pending again, whatever its recorded state.
    pub(super) fn forgotten(&self) -> String {
        format!("UPDATE {DATABASE}.devenv_script SET state = 'failed', error = NULL WHERE {}", self.key())
    }

    /// For an attempt whose rows and own row are one transaction.
    pub(super) fn applied(&self, rows: u64, milliseconds: u128) -> String {
        self.row("'applied'", &milliseconds.to_string(), &rows.to_string())
    }

    /// Records the current file as applied; the time of application stays.
    pub(super) fn accepted(&self) -> String {
        format!(
            "INSERT INTO {DATABASE}.devenv_script (db, path, checksum, mode, state, started_at, applied_at, batch) \
             VALUES ({}, {}, {}, {}, 'applied', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), '') ON DUPLICATE KEY UPDATE \
             checksum = VALUES(checksum), mode = VALUES(mode), state = 'applied', error = NULL, applied_at = COALESCE(applied_at, VALUES(applied_at))",
            literal(self.database),
            literal(&self.script.path),
            literal(&self.script.checksum),
            literal(mode_text(self.script.mode))
        )
    }

    pub(super) fn interrupted(&self) -> String {
        format!(
            "UPDATE {DATABASE}.devenv_script SET state = 'interrupted', error = {} WHERE {} AND state = 'running'",
            literal(INTERRUPTED),
            self.key()
        )
    }

    pub(super) fn failed(&self, error: &str) -> String {
        let row = self.row("'failed'", "NULL", "NULL");
        row.replacen(", NULL, '", &format!(", {}, '", literal(error)), 1)
    }

    fn key(&self) -> String {
        format!("db = {} AND path = {}", literal(self.database), literal(&self.script.path))
    }

    fn row(&self, state: &str, milliseconds: &str, rows: &str) -> String {
        let applied = if state == "'applied'" { "UTC_TIMESTAMP(6)" } else { "NULL" };
        format!(
            "REPLACE INTO {DATABASE}.devenv_script (db, path, checksum, mode, state, started_at, applied_at, duration_ms, row_count, error, batch) \
             VALUES ({}, {}, {}, {}, {state}, UTC_TIMESTAMP(6), {applied}, {milliseconds}, {rows}, NULL, '{}')",
            literal(self.database),
            literal(&self.script.path),
            literal(&self.script.checksum),
            literal(mode_text(self.script.mode)),
            self.batch
        )
    }
}

/// Creates what is missing; does nothing if everything exists.
pub(super) async fn provide(session: &mut Session) -> Result<(), Error> {
    let there = format!("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{DATABASE}'");
    let there: Vec<String> = session.rows(&there).await?.into_iter().flatten().flatten().collect();
    if TABLES.iter().all(|(name, _)| there.iter().any(|known| known == name)) {
        return Ok(());
    }
    session.run(&format!("CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")).await?;
    for (name, columns) in TABLES {
        session.run(&format!("CREATE TABLE IF NOT EXISTS {DATABASE}.{name} ({columns}) ENGINE = InnoDB")).await?;
    }
    Ok(())
}

/// What was applied to a database, in the order of application.
pub(super) async fn recorded(session: &mut Session, database: &str) -> Result<Vec<Recorded>, Error> {
    let query = format!(
        "SELECT path, checksum, mode, state, DATE_FORMAT(applied_at, '%Y-%m-%dT%H:%i:%s.%fZ'), duration_ms, row_count, error \
         FROM {DATABASE}.devenv_script WHERE db = {} ORDER BY started_at, path",
        literal(database)
    );
    let rows = match session.rows(&query).await {
        Err(error) if matches!(code(&error), Some(NO_DATABASE | NO_TABLE)) => return Ok(Vec::new()),
        rows => rows?,
    };
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let [path, checksum, mode, state, applied_at, duration, rows, error] = <[_; 8]>::try_from(row).ok()?;
            let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
            Some(Recorded {
                path: path?,
                checksum: checksum?,
                mode: mode_from(&mode?),
                state: match state?.as_str() {
                    "applied" => RecordedState::Applied,
                    "failed" => RecordedState::Failed,
                    "interrupted" => RecordedState::Interrupted,
                    _ => RecordedState::Running,
                },
                applied_at,
                duration_ms: number(duration),
                rows: number(rows),
                error,
            })
        })
        .collect())
}

/// The identity of this database: another one after it was recreated or swapped.
pub(super) async fn identity(session: &mut Session, database: &str) -> Result<String, Error> {
    let find = format!("SELECT identity FROM {DATABASE}.devenv_database WHERE db = {}", literal(database));
    if let Some(found) = session.rows(&find).await?.into_iter().flatten().flatten().next() {
        return Ok(found);
    }
    session.run(&renewed(database)).await?;
    Ok(session.rows(&find).await?.into_iter().flatten().flatten().next().unwrap_or_default())
}

/// Gives a database a new identity.
pub(super) fn renewed(database: &str) -> String {
    format!("REPLACE INTO {DATABASE}.devenv_database VALUES ({}, '{:032x}')", literal(database), rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use devenv_api::LedgerMode;

    use super::*;
    use crate::script::{ScriptFormat, files::Content};

    #[test]
    fn no_path_can_leave_its_quotes_and_a_failure_is_reported_with_its_column() {
        let script = Script {
            path: "a'b.sql".into(),
            content: Content::Shipped(b""),
            format: ScriptFormat("sql"),
            mode: LedgerMode::Once,
            checksum: "c".into(),
            seed: false,
            size: 0,
            only_up: false,
        };
        let mark = Mark { database: "app", script: &script, batch: "b".into() };
        let values = "('app', 'a''b.sql', 'c', 'once', ";
        assert!(mark.running().ends_with(&format!("VALUES {values}'running', UTC_TIMESTAMP(6), NULL, NULL, NULL, NULL, 'b')")));
        assert!(mark.failed("no").ends_with(&format!("VALUES {values}'failed', UTC_TIMESTAMP(6), NULL, NULL, NULL, 'no', 'b')")));
        assert!(mark.applied(7, 3).ends_with(&format!("VALUES {values}'applied', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 3, 7, NULL, 'b')")));
    }
}
