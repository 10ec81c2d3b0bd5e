//! Applies a `.jsonl` file, some keys at a time. Each is set as a whole, so that setting it again changes nothing: an interrupted attempt needs
//! no record.

use std::time::Instant;

use ::redis::{Cmd, Pipeline, RedisError, Value};

use super::{Server, blocking, flight::Flights, lines::key_commands};
use crate::script::{Progress, Script, ScriptContext, ScriptError, lines::lines, row::Row};

const KEYS_AT_ONCE: u64 = 500;

/// Some keys, ready to be sent.
#[derive(Default)]
struct Batch {
    keys: u64,
    bytes: u64,
    pipeline: Pipeline,
    /// For each command the line of its key.
    lines: Vec<u64>,
}

impl Batch {
    fn add(&mut self, line: u64, text: &str, commands: Vec<Cmd>) {
        self.keys += 1;
        self.bytes += text.len() as u64 + 1;
        for command in commands {
            self.pipeline.add_command(command);
            self.lines.push(line);
        }
    }
}

/// What remains of a batch that was sent.
struct Sent {
    keys: u64,
    bytes: u64,
    lines: Vec<u64>,
}

/// An error, or the answers to all commands of a batch.
type Answers = Result<Vec<Result<Value, RedisError>>, RedisError>;

pub(super) async fn keys(server: &mut Server, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let began = Instant::now();
    let checking = script.clone();
    // Every line is parsed before the first is written, so that a bad one has no effect.
    blocking(script, move || lines(&checking, |number, line| key_commands(&checking, number, line).map(|_| ()))).await?;
    let (sender, mut batches) = tokio::sync::mpsc::channel(2);
    let reading = script.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut batch = Batch::default();
        let read = lines(&reading, |number, line| {
            batch.add(number, line, key_commands(&reading, number, line)?);
            if batch.keys == KEYS_AT_ONCE && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Err(ScriptError::of(&reading.path, "its keys have no recipient"));
            }
            Ok(())
        });
        if batch.keys > 0 {
            sender.blocking_send(batch).ok();
        }
        read
    });
    let mut written = Written { script, keys: 0, bytes: 0 };
    let mut flights = Flights::default();
    while let Some(Batch { keys, bytes, mut pipeline, lines }) = batches.recv().await {
        if flights.is_full() {
            written.land(&mut flights, cx).await?;
        }
        pipeline.atomic().ignore_errors();
        let mut connection = server.connection.clone();
        flights.send(Sent { keys, bytes, lines }, async move { pipeline.query_async(&mut connection).await }).await;
    }
    while !flights.is_empty() {
        written.land(&mut flights, cx).await?;
    }
    reader.await.map_err(|error| ScriptError::of(&script.path, error.to_string()))??;
    server.write(script, &Row::applied(script, Some(written.keys), began.elapsed())).await
}

/// How much the server has answered.
struct Written<'a> {
    script: &'a Script,
    keys: u64,
    bytes: u64,
}

impl Written<'_> {
    async fn land(&mut self, flights: &mut Flights<Sent, Answers>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let Some((sent, answers)) = flights.land().await else { return Ok(()) };
        let answers = answers.map_err(|error| ScriptError::of(&self.script.path, error.to_string()))?;
        for (line, answer) in sent.lines.iter().zip(answers) {
            answer.map_err(|error| ScriptError::of(&self.script.path, error.to_string()).at(*line))?;
        }
        self.keys += sent.keys;
        self.bytes += sent.bytes;
        let total_bytes = self.script.size;
        (cx.progress)(Progress { path: &self.script.path, rows: self.keys, bytes: self.bytes.min(total_bytes), total_bytes });
        Ok(())
    }
}
