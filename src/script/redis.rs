//! `.redis` commands and `.jsonl` keys, and their ledger: the hash `devenv:ledger` of database 0.
//!
//! The hash is data like any other: it is saved, copied and flushed with the rest, so it never says that something is
//! there which is not. Where the server may evict it (`allkeys-*`), reading keeps it young.
//! Redis has no rollback. Keys are written so that writing them again changes nothing (each is deleted first); commands
//! run in one script of the server together with their row, which nobody can come between, and which stops at the first
//! command that fails.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    time::Instant,
};

use ::redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, TlsCertificates, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Progress, ScriptContext, ScriptError,
    files::{Script, ScriptKind},
    mode_from, mode_text,
    plan::{INTERRUPTED, Recorded, RecordedState},
    source,
};
use crate::{
    spec::{Period, SecretRef},
    tls,
};

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

/// A row of the ledger, as it stands in the hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    checksum: String,
    mode: String,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) struct Server {
    service: String,
    connection: MultiplexedConnection,
}

/// One line of a `.redis` file.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    line: u64,
    words: Vec<Vec<u8>>,
}

/// One line of a `.jsonl` file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(rename = "key")]
    name: String,
    #[serde(rename = "type", default)]
    kind: KeyKind,
    value: Value,
    /// Seconds, or a duration such as `24h`.
    #[serde(default)]
    ttl: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeyKind {
    #[default]
    String,
    Hash,
    List,
    Set,
    Zset,
    Stream,
}

impl Server {
    pub(super) async fn open(service: &str, port: u16, tls: bool, password: &SecretRef, cx: &ScriptContext<'_>) -> Result<Self, ScriptError> {
        let fail = |error: String| ScriptError::of(service, error);
        let password = cx.vault.reveal(password).map_err(|error| fail(error.to_string()))?;
        let client = if tls {
            let authority = cx.authority.ok_or_else(|| fail("its certificate authority is not known".to_owned()))?;
            let root = std::fs::read(authority).map_err(|error| fail(error.to_string()))?;
            tls::use_ring();
            Client::build_with_tls(format!("rediss://default:{password}@127.0.0.1:{port}/0"), TlsCertificates { client_tls: None, root_cert: Some(root) })
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

    pub(super) async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        let found: Result<HashMap<String, String>, _> = ::redis::cmd("HGETALL").arg(LEDGER).query_async(&mut self.connection).await;
        let found = found.map_err(|error| self.broken(&error))?;
        let mut recorded: Vec<Recorded> = found
            .into_iter()
            .filter_map(|(path, row)| {
                let row: Row = serde_json::from_str(&row).ok()?;
                Some(Recorded {
                    path,
                    checksum: row.checksum,
                    mode: mode_from(&row.mode),
                    state: match row.state.as_str() {
                        "applied" => RecordedState::Applied,
                        "failed" => RecordedState::Failed,
                        "interrupted" => RecordedState::Interrupted,
                        _ => RecordedState::Running,
                    },
                    applied_at: row.applied_at,
                    duration_ms: row.duration_ms,
                    rows: row.rows,
                    error: row.error,
                })
            })
            .collect();
        recorded.sort_by(|a, b| (&a.applied_at, &a.path).cmp(&(&b.applied_at, &b.path)));
        Ok(recorded)
    }

    async fn write(&mut self, script: &Script, row: &Row) -> Result<(), ScriptError> {
        let written: Result<(), _> = ::redis::cmd("HSET").arg(LEDGER).arg(&script.path).arg(text(row)).query_async(&mut self.connection).await;
        written.map_err(|error| self.broken(&error))
    }

    pub(super) async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, &row(script, "applied", None)).await
    }

    pub(super) async fn interrupted(&mut self, script: &Script) -> Result<(), ScriptError> {
        let cut = Row { error: Some(INTERRUPTED.to_owned()), ..row(script, "interrupted", None) };
        self.write(script, &cut).await
    }

    pub(super) async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let result = match script.kind {
            ScriptKind::RedisKeys => self.keys(script, cx).await,
            _ => self.commands(script).await,
        };
        if let Err(error) = &result {
            let failed = Row { error: Some(error.to_string()), ..row(script, "failed", None) };
            if let Err(unrecorded) = self.write(script, &failed).await {
                tracing::warn!(service = %self.service, path = %script.path, error = %unrecorded, "A failed script could not be recorded as failed.");
            }
        }
        result
    }

    /// The same keys again are the same keys: an attempt that was cut off needs no trace.
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
                    return Err(ScriptError::of(&reading.path, "nobody takes its keys"));
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
        let duration_ms = Some(began.elapsed().as_millis() as u64);
        self.write(script, &Row { duration_ms, ..row(script, "applied", Some(rows)) }).await
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
            if ["MULTI", "EXEC", "DISCARD", "WATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SHUTDOWN", "RESET", "QUIT", "HELLO", "AUTH"].contains(&name.as_str()) {
                return Err(ScriptError::of(&script.path, format!("{name} has no place in a script, which runs as one transaction")).at(command.line));
            }
            outside |= command.words.len() > MOST_ARGUMENTS || self.is_outside_scripts(command).await.map_err(|error| self.broken(&error))?;
        }
        let rows = commands.len() as u64;
        if outside { self.run_in_multi(script, &commands, began).await } else { self.run_as_script(script, &commands, rows).await }
    }

    /// Whether the server refuses the command in its own scripts, as it does `CONFIG SET` and `ACL SETUSER`.
    async fn is_outside_scripts(&mut self, command: &Command) -> Result<bool, RedisError> {
        const OUTSIDE: [&str; 14] = ["ACL", "CONFIG", "FUNCTION", "SCRIPT", "CLIENT", "EVAL", "EVALSHA", "FCALL", "BGSAVE", "SAVE", "BGREWRITEAOF", "MODULE", "DEBUG", "LATENCY"];
        if OUTSIDE.contains(&command.name().as_str()) {
            return Ok(true);
        }
        let flags: ::redis::Value = ::redis::cmd("COMMAND").arg("INFO").arg(&command.words[0]).query_async(&mut self.connection).await?;
        Ok(format!("{flags:?}").contains("noscript"))
    }

    async fn run_as_script(&mut self, script: &Script, commands: &[Command], rows: u64) -> Result<(), ScriptError> {
        let mut call = ::redis::cmd("EVAL");
        call.arg(ATOMIC).arg(1).arg(LEDGER).arg(&script.path).arg(text(&row(script, "applied", Some(rows)))).arg(commands.len());
        for command in commands {
            call.arg(command.line).arg(command.words.len()).arg(&command.words);
        }
        let answer: Result<(String, String), _> = call.query_async(&mut self.connection).await;
        let (line, message) = answer.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
        if message.is_empty() {
            return Ok(());
        }
        let message = message.strip_prefix("ERR ").unwrap_or(&message);
        Err(ScriptError::of(&script.path, message).at(line.parse::<u64>().ok()).hint("Redis has no rollback: the lines before it stay applied"))
    }

    /// The row says `running` in the same transaction, and how it went right after it.
    async fn run_in_multi(&mut self, script: &Script, commands: &[Command], began: Instant) -> Result<(), ScriptError> {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        pipeline.cmd("HSET").arg(LEDGER).arg(&script.path).arg(text(&row(script, "running", None)));
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
            answer.map_err(|error| ScriptError::of(&script.path, error.to_string()).at(command.line).hint("Redis has no rollback: the other lines stay applied"))?;
        }
        let duration_ms = Some(began.elapsed().as_millis() as u64);
        self.write(script, &Row { duration_ms, ..row(script, "applied", Some(commands.len() as u64)) }).await
    }
}

impl Command {
    fn name(&self) -> String {
        self.words.first().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default()
    }
}

fn row(script: &Script, state: &str, rows: Option<u64>) -> Row {
    let applied_at = (state == "applied").then(|| jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
    let duration_ms = applied_at.is_some().then_some(0);
    Row { checksum: script.checksum.clone(), mode: mode_text(script.mode).to_owned(), state: state.to_owned(), applied_at, duration_ms, rows, error: None }
}

fn text(row: &Row) -> String {
    serde_json::to_string(row).expect("a row is plain data")
}

async fn blocking<T: Send + 'static>(script: &Script, work: impl FnOnce() -> Result<T, ScriptError> + Send + 'static) -> Result<T, ScriptError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ScriptError::of(&script.path, error.to_string()))?
}

/// Calls with every line that is not empty, with its number.
pub(super) fn lines(script: &Script, mut with: impl FnMut(u64, &str) -> Result<(), ScriptError>) -> Result<(), ScriptError> {
    let fail = |error: std::io::Error, line| ScriptError::of(&script.path, format!("cannot be read: {error}")).at(line);
    let input = BufReader::with_capacity(256 * 1024, source::open(script).map_err(|error| fail(error, None))?);
    for (number, line) in (1..).zip(input.lines()) {
        let line = line.map_err(|error| fail(error, Some(number)))?;
        if !line.trim().is_empty() {
            with(number, line.trim_start_matches('\u{feff}'))?;
        }
    }
    Ok(())
}

fn key_commands(script: &Script, number: u64, line: &str) -> Result<Vec<Cmd>, ScriptError> {
    let fail = |message: String| ScriptError::of(&script.path, message).at(number);
    let key: Key = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
    let wanted = |shape: &str| fail(format!("the value of a {:?} has to be {shape}", key.kind).to_lowercase());
    let mut remove = ::redis::cmd("DEL");
    remove.arg(&key.name);
    let mut commands = vec![remove];
    let add = |name: &str| {
        let mut command = ::redis::cmd(name);
        command.arg(&key.name);
        command
    };
    match (key.kind, &key.value) {
        (KeyKind::String, value) => {
            let mut command = add("SET");
            command.arg(plain(value));
            commands.push(command);
        }
        (KeyKind::Hash, Value::Object(fields)) if !fields.is_empty() => {
            let mut command = add("HSET");
            for (field, value) in fields {
                command.arg(field).arg(plain(value));
            }
            commands.push(command);
        }
        (KeyKind::List | KeyKind::Set, Value::Array(items)) if !items.is_empty() => {
            let mut command = add(if matches!(key.kind, KeyKind::List) { "RPUSH" } else { "SADD" });
            for item in items {
                command.arg(plain(item));
            }
            commands.push(command);
        }
        (KeyKind::Zset, Value::Object(members)) if !members.is_empty() => {
            let mut command = add("ZADD");
            for (member, score) in members {
                command.arg(score.as_f64().ok_or_else(|| wanted("an object of scores by member"))?).arg(member);
            }
            commands.push(command);
        }
        (KeyKind::Stream, Value::Array(entries)) if !entries.is_empty() => {
            for entry in entries {
                let fields = entry.as_object().filter(|fields| !fields.is_empty()).ok_or_else(|| wanted("a list of objects"))?;
                let mut command = add("XADD");
                command.arg("*");
                for (field, value) in fields {
                    command.arg(field).arg(plain(value));
                }
                commands.push(command);
            }
        }
        (KeyKind::Hash, _) => return Err(wanted("an object that is not empty")),
        (KeyKind::List | KeyKind::Set, _) => return Err(wanted("a list that is not empty")),
        (KeyKind::Zset, _) => return Err(wanted("an object of scores by member")),
        (KeyKind::Stream, _) => return Err(wanted("a list of objects")),
    }
    let ttl = match &key.ttl {
        None => None,
        Some(Value::Number(seconds)) => Some(seconds.as_f64().filter(|seconds| *seconds > 0.0).ok_or_else(|| fail("a ttl is longer than nothing".to_owned()))? * 1000.0),
        Some(Value::String(text)) => Some(text.parse::<Period>().map_err(|error| fail(error.to_string()))?.duration().as_millis() as f64),
        Some(_) => return Err(fail("a ttl is a number of seconds, or text such as `24h`".to_owned())),
    };
    if let Some(milliseconds) = ttl {
        let mut command = add("PEXPIRE");
        command.arg(milliseconds as u64);
        commands.push(command);
    }
    Ok(commands)
}

/// Text as it is, anything else as compact JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A command line as `redis-cli` splits it; nothing for a comment.
fn words(line: &str) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
    let bytes = line.trim().as_bytes();
    if bytes.is_empty() || bytes[0] == b'#' {
        return Ok(None);
    }
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (word, next) = match bytes[at] {
            b'"' => double_quoted(bytes, at + 1)?,
            b'\'' => single_quoted(bytes, at + 1)?,
            _ => {
                let end = bytes[at..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |end| at + end);
                (bytes[at..end].to_vec(), end)
            }
        };
        if bytes.get(next).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err("a closing quote has to be followed by a space");
        }
        words.push(word);
        at = next;
    }
    Ok(Some(words))
}

const UNCLOSED: &str = "a quote is not closed";

fn double_quoted(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut word = Vec::new();
    loop {
        match (bytes.get(at).copied().ok_or(UNCLOSED)?, bytes.get(at + 1).copied()) {
            (b'"', _) => return Ok((word, at + 1)),
            (b'\\', Some(b'x')) if bytes.get(at + 2..at + 4).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => {
                let hex = std::str::from_utf8(&bytes[at + 2..at + 4]).unwrap_or("00");
                word.push(u8::from_str_radix(hex, 16).unwrap_or(0));
                at += 4;
            }
            (b'\\', Some(escaped)) => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            (byte, _) => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut word = Vec::new();
    loop {
        match bytes.get(at).copied().ok_or(UNCLOSED)? {
            b'\'' => return Ok((word, at + 1)),
            b'\\' if bytes.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_redis_cli_splits_it() {
        let split = |line: &str| words(line).map(|words| words.map(|words| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()));
        assert_eq!(split(r#"SET "a b" 'it\'s' "\x41\n""#), Ok(Some(vec!["SET".into(), "a b".into(), "it's".into(), "A\n".into()])));
        assert_eq!(split("# remark"), Ok(None));
        assert_eq!(split("SET a \"b"), Err(UNCLOSED));
        assert_eq!(split("SET \"a\"b c"), Err("a closing quote has to be followed by a space"));
        assert_eq!(split("SET a \"\""), Ok(Some(vec!["SET".into(), "a".into(), String::new()])));
    }

    #[test]
    fn a_key_becomes_commands_that_may_be_repeated() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.sql"), "").unwrap();
        let script = crate::script::files::tests::file(directory.path(), "a.sql");
        let shown = |line: &str| {
            key_commands(&script, 7, line).map(|commands| {
                let packed: Vec<String> = commands.iter().map(|command| String::from_utf8_lossy(&command.get_packed_command()).split("\r\n").filter(|part| !part.starts_with(['*', '$']) && !part.is_empty()).collect::<Vec<_>>().join(" ")).collect();
                packed.join("; ")
            })
        };
        assert_eq!(shown(r#"{"key":"a","type":"string","value":{"n":1},"ttl":"5m"}"#).unwrap(), r#"DEL a; SET a {"n":1}; PEXPIRE a 300000"#);
        assert_eq!(shown(r#"{"key":"z","type":"zset","value":{"x":1.5}}"#).unwrap(), "DEL z; ZADD z 1.5 x");
        assert_eq!(shown(r#"{"key":"l","type":"list","value":["a",2]}"#).unwrap(), "DEL l; RPUSH l a 2");
        assert_eq!(shown(r#"{"key":"h","type":"hash","value":[]}"#).unwrap_err().to_string(), "a.sql:7: the value of a hash has to be an object that is not empty");
        assert!(shown("{\"key\":").unwrap_err().to_string().starts_with("a.sql:7: "));
    }
}
