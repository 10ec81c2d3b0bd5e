//! `.redis` commands and `.jsonl` keys, and their ledger: the hash `devenv:ledger` of database 0.
//!
//! The hash is data like any other: it is saved, copied and flushed with the rest, so it always agrees with the
//! data. If the server may evict it (`allkeys-*`), it has a copy ([`ledger_copy`]).
//! Redis has no rollback. Keys are written so that writing them again changes nothing (each is deleted first); commands
//! are applied in parts, each with a journal of the file's progress ([`run`]).

mod command;
mod divide;
mod flight;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keys;
mod ledger_copy;
mod lines;
mod run;

use std::time::Duration;

use ::redis::{AsyncConnectionConfig, Client, RedisError, TlsCertificates, aio::MultiplexedConnection};
use async_trait::async_trait;
use devenv_secrets::tls;
use devenv_spec::{OfKind, ScriptPlace};

use super::{RedisKind, spec::RedisTarget};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{
        Recorded, Script, ScriptContext, ScriptError, ScriptFormat,
        row::{self, Row},
    },
};

const COMMANDS: ScriptFormat = ScriptFormat("redis-commands");
const KEYS: ScriptFormat = ScriptFormat("redis-keys");

const LEDGER: &str = "devenv:ledger";

#[async_trait]
impl Scripts for RedisKind {
    fn format(&self, name: &str, _packed: bool) -> Option<ScriptFormat> {
        [(".redis", COMMANDS), (".jsonl", KEYS)].iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }

    fn endings(&self) -> &'static str {
        "`.redis` and `.jsonl`"
    }

    async fn open(
        &self,
        service: &str,
        target: &OfKind,
        _: &ScriptPlace,
        cx: &ScriptContext<'_>,
    ) -> Result<Box<dyn ScriptStore>, ScriptError> {
        let target = target.decode().map_err(|error| ScriptError::of(service, error.to_string()))?;
        Ok(Box::new(Server::open(service, target, cx).await?))
    }
}

struct Server {
    service: String,
    connection: MultiplexedConnection,
}

#[async_trait]
impl ScriptStore for Server {
    async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        let rows = self.rows().await.map_err(|error| self.broken(&error))?;
        // An interrupted file continues where its journal says.
        let read = |row: &str| Some(serde_json::from_str::<Row>(row).ok()?.resumable());
        Ok(row::recorded(rows.into_iter().filter_map(|(path, row)| Some((path, read(&row)?))).collect()))
    }

    async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, &Row::applied(script, None, Duration::ZERO)).await?;
        self.keep_spare().await;
        Ok(())
    }

    async fn interrupted(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, &Row::interrupted(script)).await?;
        self.keep_spare().await;
        Ok(())
    }

    async fn forget(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, &Row::forgotten(script)).await?;
        self.keep_spare().await;
        Ok(())
    }

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let result = if script.format == KEYS {
            let result = keys::keys(self, script, cx).await;
            if let Err(error) = &result
                && let Err(unrecorded) = self.write(script, &Row::failed(script, error)).await
            {
                tracing::warn!(service = %self.service, path = %script.path, error = %unrecorded, "Cannot record the failure of a script.");
            }
            result
        } else {
            run::commands(self, script, cx).await
        };
        self.keep_spare().await;
        result
    }
}

impl Server {
    async fn open(service: &str, target: RedisTarget, cx: &ScriptContext<'_>) -> Result<Self, ScriptError> {
        let RedisTarget { port, tls, password } = target;
        let fail = |error: String| ScriptError::of(service, error);
        let password = cx.vault.reveal(&password).map_err(|error| fail(error.to_string()))?;
        let client = if tls {
            let authority = cx.authority.ok_or_else(|| fail("its certificate authority is unknown".to_owned()))?;
            let root = devenv_files::read_bounded_in_time(authority, tls::LARGEST).map_err(|error| fail(error.to_string()))?;
            tls::use_ring();
            Client::build_with_tls(
                format!("rediss://default:{password}@127.0.0.1:{port}/0"),
                TlsCertificates { client_tls: None, root_cert: Some(root) },
            )
        } else {
            Client::open(format!("redis://default:{password}@127.0.0.1:{port}/0"))
        };
        // A large script may take longer than any ordinary answer.
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = async { client?.get_multiplexed_async_connection_with_config(&patient).await }.await;
        Ok(Self { service: service.to_owned(), connection: connection.map_err(|error| fail(error.to_string()))? })
    }

    fn broken(&self, error: &RedisError) -> ScriptError {
        ScriptError::of(&self.service, error.to_string())
    }

    async fn write(&mut self, script: &Script, row: &Row) -> Result<(), ScriptError> {
        let written: Result<(), _> =
            ::redis::cmd("HSET").arg(LEDGER).arg(&script.path).arg(row.text()).query_async(&mut self.connection).await;
        written.map_err(|error| self.broken(&error))
    }
}

/// Runs what reads a file, away from what waits.
async fn blocking<T: Send + 'static>(
    script: &Script,
    work: impl FnOnce() -> Result<T, ScriptError> + Send + 'static,
) -> Result<T, ScriptError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ScriptError::of(&script.path, error.to_string()))?
}
