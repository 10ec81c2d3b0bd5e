//! The ledger of one PostgreSQL database: a table in its schema `devenv`, so that it is cloned, dumped and dropped with it.
//!
//! The table is the superuser's. A script runs as the database's owner, who may read the table and may call
//! `devenv.record`, which writes the script's row in the script's own transaction and refuses if that has ended.
//! Each attempt claims its script first, so that what a killed attempt has still on its way can neither begin nor commit.

mod csv;
mod psql;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod scan;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use devenv_api::LedgerMode;
use devenv_secrets::tls;
use devenv_spec::{OfKind, ScriptPlace, SecretRef};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::{PostgresKind, spec::PostgresTarget};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{
        Recorded, Script, ScriptContext, ScriptError, ScriptFormat, mode_from, mode_text,
        plan::{INTERRUPTED, RecordedState},
    },
};

const SQL: ScriptFormat = ScriptFormat("sql");
const SHELL: ScriptFormat = ScriptFormat("shell");
const CSV: ScriptFormat = ScriptFormat("csv");
/// `pg_dump` in custom or tar format.
const DUMP: ScriptFormat = ScriptFormat("dump");
/// `pg_dump` in directory format.
const DUMP_DIRECTORY: ScriptFormat = ScriptFormat("dump-directory");

const SUPERUSER: &str = "postgres";
/// Of the sessions that read and write the ledger.
const KEPT: &str = "devenv ledger";
/// The name of sessions that end with their input. The next run terminates leftover ones.
pub(super) const FED: &str = "devenv script";
/// Of sessions that go on without us, because all that they need is in the container.
pub(super) const STAGED: &str = "devenv staged script";
/// A script may take its time, whatever the database says of its clients.
pub(super) const SESSION_OPTIONS: &str =
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0";
const ADVICE_AFTER: Duration = Duration::from_mins(10);
/// The time-out for a session to end after it was terminated, and for closing one.
const FAREWELL: Duration = Duration::from_secs(5);

const SCHEMA: &str = r"
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS devenv;
COMMENT ON SCHEMA devenv IS 'Scripts that were applied here. Kept by devenv.';
CREATE TABLE IF NOT EXISTS devenv.ledger (
    path text PRIMARY KEY,
    checksum text NOT NULL,
    mode text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'interrupted', 'applied', 'failed')),
    started_at timestamptz NOT NULL,
    applied_at timestamptz,
    duration_ms bigint,
    rows bigint,
    error text,
    batch text NOT NULL
);
CREATE TABLE IF NOT EXISTS devenv.claim (path text PRIMARY KEY, batch text NOT NULL);
CREATE OR REPLACE FUNCTION devenv.record(p_path text, p_checksum text, p_mode text, p_state text, p_rows bigint, p_error text, p_batch text, p_atomic boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    began timestamptz;
    counted bigint := p_rows;
BEGIN
    -- An attempt whose process was killed may come late. To begin or commit a script, a session must own its claim; the
    -- row lock makes the next claim wait for this commit. What has begun may always say how it ended.
    PERFORM FROM devenv.claim AS held WHERE held.path = p_path AND held.batch = p_batch FOR UPDATE;
    IF NOT FOUND AND (p_atomic OR p_state = 'running' OR NOT EXISTS (
        SELECT FROM devenv.ledger AS known WHERE known.path = p_path AND known.batch = p_batch)) THEN
        RAISE EXCEPTION 'a later run has taken over the script' USING ERRCODE = '55006';
    END IF;
    IF p_atomic THEN
        IF coalesce(current_setting('devenv.batch', true), '') <> p_batch THEN
            RAISE EXCEPTION 'the script has ended the transaction that it runs in' USING ERRCODE = '25P01';
        END IF;
        began := transaction_timestamp();
        IF counted IS NULL THEN
            SELECT sum(n_tup_ins) INTO counted FROM pg_stat_xact_user_tables WHERE schemaname <> 'devenv';
        END IF;
    ELSE
        SELECT started_at INTO began FROM devenv.ledger AS known WHERE known.path = p_path AND known.batch = p_batch;
    END IF;
    began := coalesce(began, clock_timestamp());
    INSERT INTO devenv.ledger AS known (path, checksum, mode, state, started_at, applied_at, duration_ms, rows, error, batch)
    VALUES (p_path, p_checksum, p_mode, p_state, began,
            CASE WHEN p_state = 'applied' THEN clock_timestamp() END,
            CASE WHEN p_state <> 'running' THEN extract(epoch FROM clock_timestamp() - began) * 1000 END,
            CASE WHEN p_state = 'applied' THEN counted END, p_error, p_batch)
    ON CONFLICT (path) DO UPDATE SET checksum = excluded.checksum, mode = excluded.mode, state = excluded.state,
        started_at = excluded.started_at, applied_at = excluded.applied_at, duration_ms = excluded.duration_ms,
        rows = excluded.rows, error = excluded.error, batch = excluded.batch;
END
$body$;
REVOKE ALL ON SCHEMA devenv FROM PUBLIC;
REVOKE ALL ON FUNCTION devenv.record FROM PUBLIC;
";

#[async_trait]
impl Scripts for PostgresKind {
    fn format(&self, name: &str, packed: bool) -> Option<ScriptFormat> {
        let ends = |ending: &str| name.ends_with(ending);
        match () {
            () if ends(".sql") => Some(SQL),
            () if ends(".csv") => Some(CSV),
            () if ends(".sh") && !packed => Some(SHELL),
            () if (ends(".dump") || ends(".pgdump") || ends(".tar")) && !packed => Some(DUMP),
            () => None,
        }
    }

    fn directory(&self, path: &Path) -> Option<ScriptFormat> {
        (path.join("toc.dat").is_file() || path.join("toc.dat.gz").is_file()).then_some(DUMP_DIRECTORY)
    }

    fn endings(&self) -> &'static str {
        "`.sql`, `.csv` (both also `.gz`, `.xz`, `.zst`), `.sh`, `.dump`, and directories of pg_dump"
    }

    async fn open(
        &self,
        service: &str,
        target: &OfKind,
        place: &ScriptPlace,
        cx: &ScriptContext<'_>,
    ) -> Result<Box<dyn ScriptStore>, ScriptError> {
        let PostgresTarget { port, tls, superuser } = target.decode().map_err(|error| ScriptError::of(service, error.to_string()))?;
        let ScriptPlace::Database { name, role, password } = place else {
            return Err(ScriptError::of(service, "PostgreSQL scripts need a database"));
        };
        Ok(Box::new(Database::open(Place { service, port, tls, superuser: &superuser, database: name, role, password }, cx).await?))
    }
}

#[async_trait]
impl ScriptStore for Database {
    async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        Database::recorded(self).await
    }

    async fn settle(&mut self, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        Database::settle(self, cx).await
    }

    async fn interrupted(&mut self, script: &Script) -> Result<(), ScriptError> {
        Database::interrupted(self, script).await
    }

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        Database::apply(self, script, cx).await
    }

    async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        Database::accept(self, script).await
    }

    async fn close(self: Box<Self>) {
        Database::close(*self).await;
    }
}

/// Where scripts run, and as whom.
pub(super) struct Place<'a> {
    pub(super) service: &'a str,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) superuser: &'a SecretRef,
    pub(super) database: &'a str,
    pub(super) role: &'a str,
    pub(super) password: &'a SecretRef,
}

/// One database with its ledger, open.
pub(super) struct Database {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) role: String,
    pub(super) password: String,
    port: u16,
    tls: Option<rustls::ClientConfig>,
    superuser: Session,
}

/// A connection and the task that drives it, which ends with it.
pub(super) struct Session {
    pub(super) client: Client,
    driver: AbortOnDropHandle<()>,
}

impl Session {
    async fn close(self) {
        drop(self.client);
        // A server that does not answer is left without a farewell.
        let _ = tokio::time::timeout(FAREWELL, self.driver).await;
    }
}

/// How one attempt at a script is recorded.
pub(super) struct Mark<'a> {
    pub(super) script: &'a Script,
    /// Unique to this attempt.
    pub(super) batch: String,
}

impl Mark<'_> {
    /// `SELECT devenv.record(…)` for this attempt.
    pub(super) fn sql(&self, state: &str, error: Option<&str>, atomic: bool) -> String {
        format!(
            "SELECT devenv.record({}, {}, {}, {}, NULL, {}, {}, {atomic});",
            literal(&self.script.path),
            literal(&self.script.checksum),
            literal(mode_text(self.script.mode)),
            literal(state),
            error.map_or("NULL".to_owned(), literal),
            literal(&self.batch)
        )
    }
}

pub(super) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Database {
    pub(super) async fn open(place: Place<'_>, cx: &ScriptContext<'_>) -> Result<Self, ScriptError> {
        let fail = |error: String| ScriptError::of(place.service, error);
        let reveal = |secret: &SecretRef| cx.vault.reveal(secret).map_err(|error| fail(error.to_string()));
        let tls = tls::trust(place.tls, cx.authority).map_err(|error| fail(error.to_string()))?;
        let secret = reveal(place.superuser)?;
        let superuser = connect(place.port, tls.clone(), SUPERUSER, &secret, place.database, KEPT)
            .await
            .map_err(|error| fail(server_message(&error)))?;
        Ok(Self {
            service: place.service.to_owned(),
            name: place.database.to_owned(),
            role: place.role.to_owned(),
            password: reveal(place.password)?,
            port: place.port,
            tls,
            superuser,
        })
    }

    /// Creates the ledger if needed, and ends or awaits the session of an earlier run that died or was cancelled.
    pub(super) async fn settle(&self, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        self.end_others().await?;
        self.provide().await?;
        let began = std::time::Instant::now();
        while self.is_running().await? && psql::staged_is_alive(cx).await? {
            if began.elapsed() > ADVICE_AFTER {
                return Err(ScriptError::of(&self.service, "a script of an earlier run is still running after ten minutes"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Returns when no session of an earlier run is there any more: what it still had on its way would else come after
    /// our claims.
    async fn end_others(&self) -> Result<(), ScriptError> {
        const END: &str = "SELECT pid, pg_terminate_backend(pid, $3) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name IN ($1, $2) AND pid <> pg_backend_pid()";
        let patience = FAREWELL.as_millis() as i64;
        let ended = self.superuser.client.query(END, &[&FED, &KEPT, &patience]).await.map_err(|error| self.broken(&error))?;
        match ended.iter().find(|row| row.get::<_, Option<bool>>(1) != Some(true)) {
            Some(row) => {
                let message = format!("the session {} of an earlier run does not end", row.get::<_, i32>(0));
                Err(ScriptError::of(&format!("{}/{}", self.service, self.name), message)
                    .hint("see what it waits for in `pg_stat_activity`"))
            }
            None => Ok(()),
        }
    }

    async fn provide(&self) -> Result<(), ScriptError> {
        let mut setup = SCHEMA.to_owned();
        if self.role != SUPERUSER {
            let role = identifier(&self.role);
            let grants = format!(
                "GRANT USAGE ON SCHEMA devenv TO {role}; GRANT SELECT ON devenv.ledger TO {role}; GRANT EXECUTE ON FUNCTION devenv.record TO {role};"
            );
            setup.push_str(&grants);
        }
        self.superuser.client.batch_execute(&setup).await.map_err(|error| self.broken(&error))
    }

    pub(super) async fn close(self) {
        self.superuser.close().await;
    }

    async fn is_running(&self) -> Result<bool, ScriptError> {
        let row = self
            .superuser
            .client
            .query_one("SELECT count(*) FROM devenv.ledger WHERE state = 'running'", &[])
            .await
            .map_err(|error| self.broken(&error))?;
        Ok(row.get::<_, i64>(0) > 0)
    }

    pub(super) async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        const ALL: &str = r#"SELECT path, checksum, mode, state, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), duration_ms, rows, error
            FROM devenv.ledger ORDER BY started_at, path"#;
        let there = "SELECT to_regclass('devenv.ledger') IS NOT NULL";
        if !self.superuser.client.query_one(there, &[]).await.map_err(|error| self.broken(&error))?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let rows = self.superuser.client.query(ALL, &[]).await.map_err(|error| self.broken(&error))?;
        Ok(rows
            .iter()
            .map(|row| Recorded {
                path: row.get(0),
                checksum: row.get(1),
                mode: mode_from(row.get(2)),
                state: match row.get(3) {
                    "applied" => RecordedState::Applied,
                    "failed" => RecordedState::Failed,
                    "interrupted" => RecordedState::Interrupted,
                    _ => RecordedState::Running,
                },
                applied_at: row.get(4),
                duration_ms: row.get::<_, Option<i64>>(5).map(|value| value as u64),
                rows: row.get::<_, Option<i64>>(6).map(|value| value as u64),
                error: row.get(7),
            })
            .collect())
    }

    pub(super) async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let mark = Mark { script, batch: format!("{:032x}", rand::random::<u128>()) };
        if self.claim(&mark, cx).await? {
            return Ok(());
        }
        let result = match script.format {
            CSV => csv::copy(self, &mark, cx).await,
            SQL => psql::sql(self, &mark, cx).await,
            SHELL => psql::shell(self, &mark, cx).await,
            DUMP | DUMP_DIRECTORY => psql::dump(self, &mark, cx).await,
            ScriptFormat(other) => Err(ScriptError::of(&script.path, format!("PostgreSQL takes no script of the format `{other}`"))),
        };
        match result {
            // The row itself is the proof: it is committed together with the script.
            Ok(()) if self.has_applied(&mark).await? => Ok(()),
            Ok(()) => {
                self.failed(
                    &mark,
                    ScriptError::of(&script.path, "it ended before its last line").hint("check for a `\\q`, or for something left open"),
                )
                .await
            }
            // The server may have finished although the way back was cut.
            Err(_) if self.has_applied(&mark).await.unwrap_or(false) => Ok(()),
            Err(error) => self.failed(&mark, error).await,
        }
    }

    /// Whether a late attempt has finished it in the meantime.
    async fn claim(&mut self, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<bool, ScriptError> {
        const CLAIM: &str =
            "INSERT INTO devenv.claim (path, batch) VALUES ($1, $2) ON CONFLICT (path) DO UPDATE SET batch = excluded.batch";
        let script = mark.script;
        self.superuser.client.execute(CLAIM, &[&script.path, &mark.batch]).await.map_err(|error| self.broken(&error))?;
        let find = |found: Vec<Recorded>| found.into_iter().find(|found| found.path == script.path && found.checksum == script.checksum);
        let mut found = find(self.recorded().await?);
        if found.as_ref().is_some_and(|found| found.state == RecordedState::Running) {
            self.settle(cx).await?;
            found = find(self.recorded().await?);
        }
        match found.map(|found| found.state) {
            Some(RecordedState::Running) => {
                self.interrupted(script).await?;
                Err(ScriptError::of(&script.path, INTERRUPTED))
            }
            Some(RecordedState::Applied) => Ok(script.mode != LedgerMode::Always),
            Some(RecordedState::Failed | RecordedState::Interrupted) | None => Ok(false),
        }
    }

    pub(super) async fn interrupted(&self, script: &Script) -> Result<(), ScriptError> {
        const CUT_OFF: &str = "UPDATE devenv.ledger SET state = 'interrupted', error = $2 WHERE path = $1 AND state = 'running'";
        self.superuser.client.execute(CUT_OFF, &[&script.path, &INTERRUPTED]).await.map_err(|error| self.broken(&error))?;
        Ok(())
    }

    async fn has_applied(&self, mark: &Mark<'_>) -> Result<bool, ScriptError> {
        let found = self
            .superuser
            .client
            .query_opt(
                "SELECT 1 FROM devenv.ledger WHERE path = $1 AND batch = $2 AND state = 'applied'",
                &[&mark.script.path, &mark.batch],
            )
            .await;
        Ok(found.map_err(|error| self.broken(&error))?.is_some())
    }

    async fn failed(&self, mark: &Mark<'_>, mut error: ScriptError) -> Result<(), ScriptError> {
        error.message = error.message.replace(&self.password, "********");
        if let Err(unrecorded) = self.superuser.client.batch_execute(&mark.sql("failed", Some(&error.to_string()), false)).await {
            tracing::warn!(service = %self.service, path = %mark.script.path, error = %server_message(&unrecorded), "Cannot record the failure of a script.");
        }
        Err(error)
    }

    pub(super) async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        const ACCEPT: &str = "INSERT INTO devenv.ledger AS known (path, checksum, mode, state, started_at, applied_at, batch) VALUES ($1, $2, $3, 'applied', clock_timestamp(), clock_timestamp(), '')
            ON CONFLICT (path) DO UPDATE SET checksum = excluded.checksum, mode = excluded.mode, state = 'applied', error = NULL, applied_at = coalesce(known.applied_at, excluded.applied_at)";
        self.provide().await?;
        self.superuser
            .client
            .execute(ACCEPT, &[&script.path, &script.checksum, &mode_text(script.mode)])
            .await
            .map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// A session as the role that scripts run as.
    pub(super) async fn session(&self) -> Result<Session, ScriptError> {
        connect(self.port, self.tls.clone(), &self.role, &self.password, &self.name, FED).await.map_err(|error| self.broken(&error))
    }

    pub(super) fn broken(&self, error: &tokio_postgres::Error) -> ScriptError {
        ScriptError::of(&format!("{}/{}", self.service, self.name), server_message(error))
    }

    /// Replaces what a script has put into a table before, for a script that is applied again.
    pub(super) fn is_again(mode: LedgerMode) -> bool {
        mode != LedgerMode::Once
    }
}

/// The server's own words; the driver's Display says only `db error`.
pub(super) fn server_message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(found) => {
            let mut text = found.message().to_owned();
            for more in [found.detail(), found.hint()].into_iter().flatten() {
                text = format!("{text} ({more})");
            }
            text
        }
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

async fn connect(
    port: u16,
    tls: Option<rustls::ClientConfig>,
    user: &str,
    password: &str,
    database: &str,
    application: &str,
) -> Result<Session, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(user)
        .password(password)
        .dbname(database)
        .application_name(application)
        .options(SESSION_OPTIONS);
    config.connect_timeout(Duration::from_secs(10));
    if let Some(tls) = tls {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = config.connect(tokio_postgres_rustls::MakeRustlsConnect::new(tls)).await?;
        return Ok(Session { client, driver: AbortOnDropHandle::new(tokio::spawn(drive(connection))) });
    }
    let (client, connection) = config.connect(NoTls).await?;
    Ok(Session { client, driver: AbortOnDropHandle::new(tokio::spawn(drive(connection))) })
}

/// A broken connection is reported to the user of the client.
async fn drive<T: Future<Output = Result<(), tokio_postgres::Error>>>(connection: T) {
    connection.await.ok();
}
