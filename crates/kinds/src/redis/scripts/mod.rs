//! `.redis` commands and `.jsonl` keys, and their ledger: the hash `devenv:ledger` of database 0.
//!
//! The hash is data like any other: it is saved, copied and flushed with the rest, so it never says that something is
//! there which is not. Where the server may evict it (`allkeys-*`), it has a copy ([`ledger_copy`]).
//! Redis has no rollback. Keys are written so that writing them again changes nothing (each is deleted first); commands
//! run in one script of the server together with their row, which nobody can come between, and which stops at the first
//! command that fails.

mod ledger_copy;
mod lines;

use std::time::{Duration, Instant};

use ::redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, TlsCertificates, aio::MultiplexedConnection};
use async_trait::async_trait;
use devenv_secrets::tls;
use devenv_spec::{OfKind, ScriptPlace};

use self::lines::{Command, key_commands, words};
use super::{RedisKind, spec::RedisTarget};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{
        Progress, Recorded, Script, ScriptContext, ScriptError, ScriptFormat,
        lines::lines,
        row::{self, Row},
    },
};

const COMMANDS: ScriptFormat = ScriptFormat("redis-commands");
const KEYS: ScriptFormat = ScriptFormat("redis-keys");

const LEDGER: &str = "devenv:ledger";
const KEYS_AT_ONCE: usize = 1000;
/// What the server's scripting language can hand on in one call.
const MOST_ARGUMENTS: usize = 7000;

/// Runs the commands until one fails, and writes how it went, as one step of the server.
const ATOMIC: &str = r"
local at, line, failure = 4, 0, nil
for _ = 1, tonumber(ARGV[3]) do
    local count = tonumber(ARGV[at + 1])
    local command = {}
    for i = 1, count do command[i] = ARGV[at + 1 + i] end
    line = ARGV[at]
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then failure = answer.err break end
    at = at + 2 + count
end
redis.call('SELECT', '0')
local entry = cjson.decode(ARGV[2])
if failure then entry.state = 'failed' entry.rows = nil entry.error = 'line ' .. line .. ': ' .. failure end
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(entry))
return { failure and line or '', failure or '' }
";

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
        let readable = rows.into_iter().filter_map(|(path, row)| Some((path, serde_json::from_str::<Row>(&row).ok()?)));
        Ok(row::recorded(readable.collect()))
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

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let result = if script.format == KEYS { self.keys(script, cx).await } else { self.commands(script).await };
        if let Err(error) = &result
            && let Err(unrecorded) = self.write(script, &Row::failed(script, error)).await
        {
            tracing::warn!(service = %self.service, path = %script.path, error = %unrecorded, "Cannot record the failure of a script.");
        }
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
            let root = std::fs::read(authority).map_err(|error| fail(error.to_string()))?;
            tls::use_ring();
            Client::build_with_tls(
                format!("rediss://default:{password}@127.0.0.1:{port}/0"),
                TlsCertificates { client_tls: None, root_cert: Some(root) },
            )
        } else {
            Client::open(format!("redis://default:{password}@127.0.0.1:{port}/0"))
        };
        // A large script may take longer than any answer to a client should.
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

    /// Setting the same keys again is idempotent: an interrupted attempt needs no record.
    async fn keys(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let began = Instant::now();
        let checking = script.clone();
        // Every line is read once before the first is written, so that a bad one leaves nothing behind.
        blocking(script, move || lines(&checking, |number, line| key_commands(&checking, number, line).map(|_| ()))).await?;
        let (sender, mut batches) = tokio::sync::mpsc::channel(2);
        let reading = script.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            let read = lines(&reading, |number, line| {
                batch.push((number, key_commands(&reading, number, line)?));
                if batch.len() == KEYS_AT_ONCE && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                    return Err(ScriptError::of(&reading.path, "its keys have no recipient"));
                }
                Ok(())
            });
            if !batch.is_empty() {
                sender.blocking_send(batch).ok();
            }
            read
        });
        let mut rows = 0;
        let mut bytes = 0;
        while let Some(batch) = batches.recv().await {
            rows += batch.len() as u64;
            bytes += self.write_keys(script, &batch).await?;
            (cx.progress)(Progress { path: &script.path, rows, bytes: bytes.min(script.size), total_bytes: script.size });
        }
        reader.await.map_err(|error| ScriptError::of(&script.path, error.to_string()))??;
        self.write(script, &Row::applied(script, Some(rows), began.elapsed())).await
    }

    async fn write_keys(&mut self, script: &Script, batch: &[(u64, Vec<Cmd>)]) -> Result<u64, ScriptError> {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        let mut owners = Vec::new();
        let mut bytes = 0;
        for (line, commands) in batch {
            for command in commands {
                bytes += command.get_packed_command().len() as u64;
                pipeline.add_command(command.clone());
                owners.push(*line);
            }
        }
        pipeline.ignore_errors();
        let answers: Result<Vec<Result<::redis::Value, RedisError>>, _> = pipeline.query_async(&mut self.connection).await;
        let answers = answers.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
        for (line, answer) in owners.iter().zip(answers) {
            answer.map_err(|error| ScriptError::of(&script.path, error.to_string()).at(*line))?;
        }
        Ok(bytes)
    }

    async fn commands(&mut self, script: &Script) -> Result<(), ScriptError> {
        let began = Instant::now();
        let reading = script.clone();
        let commands = blocking(script, move || {
            let mut commands = Vec::new();
            lines(&reading, |number, line| {
                if let Some(words) = words(line).map_err(|message| ScriptError::of(&reading.path, message).at(number))? {
                    commands.push(Command { line: number, words });
                }
                Ok(())
            })?;
            Ok(commands)
        })
        .await?;
        let mut outside = false;
        for command in &commands {
            let name = command.name();
            if [
                "MULTI",
                "EXEC",
                "DISCARD",
                "WATCH",
                "SUBSCRIBE",
                "PSUBSCRIBE",
                "SSUBSCRIBE",
                "MONITOR",
                "SHUTDOWN",
                "RESET",
                "QUIT",
                "HELLO",
                "AUTH",
            ]
            .contains(&name.as_str())
            {
                return Err(ScriptError::of(&script.path, format!("{name} is not allowed in a script, which runs as one transaction"))
                    .at(command.line));
            }
            outside |=
                command.words.len() > MOST_ARGUMENTS || self.is_outside_scripts(command).await.map_err(|error| self.broken(&error))?;
        }
        let rows = commands.len() as u64;
        if outside { self.run_in_multi(script, &commands, began).await } else { self.run_as_script(script, &commands, rows).await }
    }

    /// Whether the server refuses the command in its own scripts, as it does `CONFIG SET` and `ACL SETUSER`.
    async fn is_outside_scripts(&mut self, command: &Command) -> Result<bool, RedisError> {
        const OUTSIDE: [&str; 14] = [
            "ACL",
            "CONFIG",
            "FUNCTION",
            "SCRIPT",
            "CLIENT",
            "EVAL",
            "EVALSHA",
            "FCALL",
            "BGSAVE",
            "SAVE",
            "BGREWRITEAOF",
            "MODULE",
            "DEBUG",
            "LATENCY",
        ];
        if OUTSIDE.contains(&command.name().as_str()) {
            return Ok(true);
        }
        let flags: ::redis::Value = ::redis::cmd("COMMAND").arg("INFO").arg(&command.words[0]).query_async(&mut self.connection).await?;
        Ok(format!("{flags:?}").contains("noscript"))
    }

    async fn run_as_script(&mut self, script: &Script, commands: &[Command], rows: u64) -> Result<(), ScriptError> {
        let mut call = ::redis::cmd("EVAL");
        call.arg(ATOMIC)
            .arg(1)
            .arg(LEDGER)
            .arg(&script.path)
            .arg(Row::applied(script, Some(rows), Duration::ZERO).text())
            .arg(commands.len());
        for command in commands {
            call.arg(command.line).arg(command.words.len()).arg(&command.words);
        }
        let answer: Result<(String, String), _> = call.query_async(&mut self.connection).await;
        let (line, message) = answer.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
        if message.is_empty() {
            return Ok(());
        }
        let message = message.strip_prefix("ERR ").unwrap_or(&message);
        Err(ScriptError::of(&script.path, message)
            .at(line.parse::<u64>().ok())
            .hint("Redis has no rollback: the previous lines stay applied"))
    }

    /// The row says `running` in the same transaction, and how it went right after it.
    async fn run_in_multi(&mut self, script: &Script, commands: &[Command], began: Instant) -> Result<(), ScriptError> {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        pipeline.cmd("HSET").arg(LEDGER).arg(&script.path).arg(Row::running(script).text());
        for command in commands {
            let mut built = Cmd::new();
            built.arg(&command.words);
            pipeline.add_command(built);
        }
        pipeline.cmd("SELECT").arg(0);
        pipeline.ignore_errors();
        let answers: Result<Vec<Result<::redis::Value, RedisError>>, _> = pipeline.query_async(&mut self.connection).await;
        let answers = answers.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
        for (command, answer) in commands.iter().zip(answers.into_iter().skip(1)) {
            answer.map_err(|error| {
                ScriptError::of(&script.path, error.to_string())
                    .at(command.line)
                    .hint("Redis has no rollback: the other lines stay applied")
            })?;
        }
        self.write(script, &Row::applied(script, Some(commands.len() as u64), began.elapsed())).await
    }
}

async fn blocking<T: Send + 'static>(
    script: &Script,
    work: impl FnOnce() -> Result<T, ScriptError> + Send + 'static,
) -> Result<T, ScriptError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ScriptError::of(&script.path, error.to_string()))?
}
