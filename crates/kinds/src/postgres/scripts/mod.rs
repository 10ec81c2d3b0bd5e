//! The ledger of one PostgreSQL database: a table in its schema `devenv`, so that it is cloned, dumped and dropped with the data.
//!
//! The superuser owns the table. A script runs as the database's owner, who may read the table and may call the functions of
//! [`ledger`], which write the script's row in the script's own transaction and fail if that has ended.
//! Each attempt claims its script first, so that a killed attempt can neither begin nor commit later.

pub(super) mod authority;
mod complaint;
mod csv;
mod csv_records;
mod dump;
#[cfg(fuzzing)]
pub mod fuzzing;
mod included;
mod ledger;
mod lexer;
mod meta_command;
pub(super) mod psql;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod scan;
mod sequences;
mod shell;
mod staged;
mod statement;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use devenv_api::LedgerMode;
use devenv_secrets::tls;
use devenv_spec::{OfKind, ScriptPlace, SecretRef};
use tokio_postgres::{Client, Config};
use tokio_util::task::AbortOnDropHandle;

use self::ledger::Mark;
use super::{PostgresKind, access::SUPERUSER, probe, spec::PostgresTarget};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{Recorded, Script, ScriptContext, ScriptError, ScriptFormat, plan::RecordedState},
};

const SQL: ScriptFormat = ScriptFormat("sql");
const SHELL: ScriptFormat = ScriptFormat("shell");
const CSV: ScriptFormat = ScriptFormat("csv");
/// `pg_dump` in custom or tar format.
const DUMP: ScriptFormat = ScriptFormat("dump");
/// `pg_dump` in directory format.
const DUMP_DIRECTORY: ScriptFormat = ScriptFormat("dump-directory");

/// The application name of sessions that read and write the ledger.
const KEPT: &str = "devenv ledger";
/// The name of sessions whose work is one transaction. The next run terminates leftover ones.
pub(super) const FED: &str = "devenv script";
/// The application name of sessions that continue without the daemon, because everything that they need is in the container.
pub(super) const STAGED: &str = "devenv staged script";
/// A script may take its time, whatever time-outs the database has for clients.
pub(super) const SESSION_OPTIONS: &str =
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0";
const ADVICE_AFTER: Duration = Duration::from_mins(10);
/// The time-out for a session to end after it was terminated, and for closing one.
const FAREWELL: Duration = Duration::from_secs(5);

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

    fn reads(&self, script: &Path, format: ScriptFormat, project: &Path) -> Vec<PathBuf> {
        if format == SQL { included::files(script, project).into_iter().collect() } else { Vec::new() }
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

    async fn forget(&mut self, script: &Script) -> Result<(), ScriptError> {
        Database::forget(self, script).await
    }

    async fn close(self: Box<Self>) {
        Database::close(*self).await;
    }
}

/// Where scripts run, and as which role.
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
        // A server that does not answer is left without a goodbye.
        let _ = tokio::time::timeout(FAREWELL, self.driver).await;
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
        while self.is_running().await? && crate::script::staged::is_alive(cx).await? {
            if began.elapsed() > ADVICE_AFTER {
                return Err(ScriptError::of(&self.service, "a script of an earlier run is still running after ten minutes"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Returns when no session of an earlier run exists any more: its pending work could otherwise be done after
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

    pub(super) async fn close(self) {
        self.superuser.close().await;
    }

    pub(super) async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let mark = Mark::new(script);
        if self.claim(&mark, cx).await? {
            return Ok(());
        }
        let result = match script.format {
            CSV => csv::copy(self, &mark, cx).await,
            SQL => psql::sql(self, &mark, cx).await,
            SHELL => shell::run(self, &mark, cx).await,
            DUMP | DUMP_DIRECTORY => dump::restore(self, &mark, cx).await,
            ScriptFormat(other) => Err(ScriptError::of(&script.path, format!("PostgreSQL takes no script of the format `{other}`"))),
        };
        let has_applied = || async { Ok(self.state_of(&mark).await? == Some(RecordedState::Applied)) };
        match result {
            // The row itself is the proof: it is committed together with the script.
            Ok(()) if has_applied().await? => Ok(()),
            Ok(()) => self.failed(&mark, ScriptError::of(&script.path, "it ended without an error before its last line")).await,
            // The server may have finished although the connection was lost.
            Err(_) if has_applied().await.unwrap_or(false) => Ok(()),
            Err(error) => self.failed(&mark, error).await,
        }
    }

    /// A session as the role that scripts run as.
    pub(super) async fn session(&self) -> Result<Session, ScriptError> {
        connect(self.port, self.tls.clone(), &self.role, &self.password, &self.name, FED).await.map_err(|error| self.broken(&error))
    }

    pub(super) fn broken(&self, error: &tokio_postgres::Error) -> ScriptError {
        ScriptError::of(&format!("{}/{}", self.service, self.name), server_message(error))
    }

    /// Deletes what a script has inserted into a table before, for a script that is applied again.
    pub(super) fn is_again(mode: LedgerMode) -> bool {
        mode != LedgerMode::Once
    }
}

/// The server's own message; the driver's Display says only `db error`.
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
    if tls.is_some() {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
    }
    let (client, connection) = probe::connect(&config, tls).await?;
    Ok(Session { client, driver: AbortOnDropHandle::new(tokio::spawn(drive(connection))) })
}

/// A broken connection is reported through the client.
async fn drive<T: Future<Output = Result<(), tokio_postgres::Error>>>(connection: T) {
    connection.await.ok();
}
