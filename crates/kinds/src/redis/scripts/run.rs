//! Applies a `.redis` file in parts, none of which blocks the server for long.
//!
//! A part and the journal of how many commands are done are one step of the server. An interrupted file continues after
//! its last part, so no command is applied twice. The ledger is removed before a part and written back after it, in the
//! same step: commands that flush, swap or remove keys cannot affect it.
//!
//! The next part is sent while the server works on one, so that it never waits for the client. A part that follows a failed one does
//! nothing: the server itself compares the row with the one that the earlier part writes.

use std::time::Instant;

use ::redis::{Cmd, Pipeline, RedisError, Value, cmd};

use super::{
    LEDGER, Server, blocking,
    command::Command,
    divide::{self, Outside, Part},
    flight::Flights,
    ledger_copy::Rows,
};
use crate::script::{Progress, Script, ScriptContext, ScriptError, row::Row, ways_on};

/// Runs the commands until one fails, and writes the ledger. Arguments: the rows of other files; the file; its row if all succeed; the
/// selected database; whether an earlier part may not be answered yet; how many commands are done before; the number of groups; for each
/// group the words of a command and how many such commands follow; all words. It makes no table and converts no number for a command.
const PART: &str = r"
redis.call('SELECT', '0')
if ARGV[5] == '1' then
    local known = redis.call('HGET', KEYS[1], ARGV[2])
    local row = known and cjson.decode(known)
    if row and (row.state ~= 'running' or row.done ~= tonumber(ARGV[6])) then return { 'stopped', '', 0 } end
end
redis.call('DEL', KEYS[1])
redis.call('SELECT', ARGV[4])
local pcall, unpack, type = redis.pcall, unpack, type
local groups = tonumber(ARGV[7])
local group, at, failure, done = 8, 8 + 2 * groups, nil, 0
for _ = 1, groups do
    local words = tonumber(ARGV[group])
    for _ = 1, tonumber(ARGV[group + 1]) do
        local answer = pcall(unpack(ARGV, at, at + words - 1))
        if type(answer) == 'table' and answer.err then failure = answer.err break end
        at = at + words
        done = done + 1
    end
    if failure then break end
    group = group + 2
end
redis.call('SELECT', '0')
for path, row in pairs(cjson.decode(ARGV[1])) do redis.call('HSET', KEYS[1], path, row) end
local row = ARGV[3]
if failure then
    local entry = cjson.decode(row)
    entry.done = tonumber(ARGV[6]) + done
    entry.state = entry.done > 0 and 'interrupted' or 'failed'
    entry.error = 'command ' .. (entry.done + 1) .. ': ' .. failure
    row = cjson.encode(entry)
end
redis.call('HSET', KEYS[1], ARGV[2], row)
return { failure and 'failed' or 'applied', failure or '', done }
";

pub(super) async fn commands(server: &mut Server, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let began = Instant::now();
    let mut rows = server.rows().await.map_err(|error| server.broken(&error))?;
    let journal = rows.remove(&script.path).and_then(|row| serde_json::from_str::<Row>(&row).ok()).and_then(|row| row.journal(script));
    let mut run = Run { script, others: rows, done: 0, sent: 0, selected: "0".to_owned() };
    let result = run.apply(server, journal, cx).await;
    let done = run.done;
    match result {
        Ok(()) => server.write(script, &Row::applied(script, Some(done), began.elapsed())).await,
        Err(mut error) => {
            let row = if done > 0 { Row::interrupted_by(script, &error) } else { Row::failed(script, &error) };
            if let Err(unrecorded) = server.write(script, &row).await {
                tracing::warn!(service = %server.service, path = %script.path, error = %unrecorded, "Cannot record the failure of a script.");
            }
            if done > 0 {
                let ways = ways_on(&server.service, &script.path);
                error.hint = Some(format!("Redis has no rollback, so the previous lines stay applied; {ways}"));
            }
            Err(error)
        }
    }
}

struct Run<'a> {
    script: &'a Script,
    /// The ledger's rows of other files.
    others: Rows,
    /// Commands that the server has answered.
    done: u64,
    /// Commands that will be done when all parts in flight are answered.
    sent: u64,
    /// The database that the file has selected then.
    selected: String,
}

/// `applied`, `failed` or `stopped`; the error; the number of commands that were done.
type Answer = (String, String, u64);
/// The parts that are not answered, with the lines of their commands.
type Parts = Flights<Vec<u64>, Result<Answer, RedisError>>;

impl Run<'_> {
    async fn apply(&mut self, server: &mut Server, journal: Option<(u64, String)>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let script = self.script;
        // Every command is parsed before the first is applied, so that a bad line has no effect.
        let checking = script.clone();
        let names = blocking(script, move || divide::names(&checking)).await?;
        let outside = self.outside(server, names).await?;
        if let Some((done, selected)) = journal {
            (self.done, self.sent, self.selected) = (done, done, selected);
        }
        let (sender, mut parts) = tokio::sync::mpsc::channel(2);
        let (reading, passed_over) = (script.clone(), self.done);
        let reader = tokio::task::spawn_blocking(move || {
            divide::divided(&reading, &outside, passed_over, &mut |part| sender.blocking_send(part).is_ok())
        });
        let mut bytes = 0;
        let mut flights = Parts::default();
        while let Some(part) = parts.recv().await {
            bytes += part.bytes();
            match part {
                Part::Together(commands) => {
                    if flights.is_full() {
                        self.land(&mut flights).await?;
                    }
                    self.send(server, &commands, &mut flights).await;
                }
                Part::Alone(command) => {
                    while !flights.is_empty() {
                        self.land(&mut flights).await?;
                    }
                    self.alone(server, &command).await?;
                }
            }
            (cx.progress)(Progress { path: &script.path, rows: self.done, bytes: bytes.min(script.size), total_bytes: script.size });
        }
        while !flights.is_empty() {
            self.land(&mut flights).await?;
        }
        reader.await.map_err(|error| self.fail(error.to_string()))?
    }

    fn fail(&self, message: impl Into<String>) -> ScriptError {
        ScriptError::of(&self.script.path, message)
    }

    /// Asks the server once for each name. An unknown command is reported before anything is applied.
    async fn outside(&self, server: &mut Server, names: Vec<(String, u64)>) -> Result<Outside, ScriptError> {
        let mut outside = Outside::new();
        for (name, line) in names {
            let flags: Value =
                cmd("COMMAND").arg("INFO").arg(&name).query_async(&mut server.connection).await.map_err(|error| server.broken(&error))?;
            if matches!(&flags, Value::Array(found) if matches!(found.as_slice(), [Value::Nil])) {
                return Err(self.fail(format!("unknown command `{name}`")).at(line));
            }
            let refused = divide::runs_outside(&name) || format!("{flags:?}").contains("noscript");
            outside.insert(name, refused);
        }
        Ok(outside)
    }

    /// Sends a part before it returns, and does not wait for the answer.
    async fn send(&mut self, server: &Server, commands: &[Command], flights: &mut Parts) {
        let (before, selected) = (self.sent, std::mem::take(&mut self.selected));
        self.sent += commands.len() as u64;
        let last_select = commands.iter().rev().find(|command| command.is("SELECT")).and_then(|command| command.words.get(1));
        self.selected = last_select.map_or_else(|| selected.clone(), |database| String::from_utf8_lossy(database).into_owned());
        let groups: Vec<&[Command]> = commands.chunk_by(|a, b| a.words.len() == b.words.len()).collect();
        let mut call = cmd("EVAL");
        call.arg(PART)
            .arg(1)
            .arg(LEDGER)
            .arg(serde_json::to_string(&self.others).expect("a map of texts serializes to JSON"))
            .arg(&self.script.path)
            .arg(Row::running_at(self.script, self.sent, &self.selected).text())
            .arg(selected)
            .arg(u8::from(!flights.is_empty()))
            .arg(before)
            .arg(groups.len());
        for group in groups {
            call.arg(group.first().map_or(0, |command| command.words.len())).arg(group.len());
        }
        for command in commands {
            call.arg(&command.words);
        }
        let mut connection = server.connection.clone();
        let lines = commands.iter().map(|command| command.line).collect();
        flights.send(lines, async move { call.query_async(&mut connection).await }).await;
    }

    /// Waits for the answer to the part that was sent first.
    async fn land(&mut self, flights: &mut Parts) -> Result<(), ScriptError> {
        let Some((lines, answer)) = flights.land().await else { return Ok(()) };
        let (state, message, done) = answer.map_err(|error| self.fail(error.to_string()))?;
        self.done += done;
        match state.as_str() {
            "applied" => Ok(()),
            "failed" => Err(self.fail(message.strip_prefix("ERR ").unwrap_or(&message)).at(lines.get(done as usize).copied())),
            _ => Err(self.fail("its row in the ledger was changed while it was applied")),
        }
    }

    async fn alone(&mut self, server: &mut Server, command: &Command) -> Result<(), ScriptError> {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        pipeline.cmd("SELECT").arg(0);
        pipeline.cmd("DEL").arg(LEDGER);
        pipeline.cmd("SELECT").arg(&self.selected);
        let mut built = Cmd::new();
        built.arg(&command.words);
        pipeline.add_command(built);
        pipeline.cmd("SELECT").arg(0);
        let row = Row::running_at(self.script, self.done + 1, &self.selected).text();
        let write = pipeline.cmd("HSET").arg(LEDGER).arg(&self.script.path).arg(row);
        for (path, row) in &self.others {
            write.arg(path).arg(row);
        }
        pipeline.ignore_errors();
        let answers: Result<Vec<Result<Value, RedisError>>, _> = pipeline.query_async(&mut server.connection).await;
        let answers = answers.map_err(|error| self.fail(error.to_string()))?;
        if let Some(Err(error)) = answers.into_iter().nth(3) {
            return Err(self.fail(error.to_string()).at(command.line));
        }
        self.done += 1;
        self.sent = self.done;
        Ok(())
    }
}
