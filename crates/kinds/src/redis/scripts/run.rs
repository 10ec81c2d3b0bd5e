//! Applies a `.redis` file in parts, none of which blocks the server for long.
//!
//! A part and the journal of how many commands are done are one step of the server. An interrupted file continues after
//! its last part, so no command is applied twice. The ledger is removed before a part and written back after it, in the
//! same step: commands that flush, swap or remove keys cannot affect it.

use std::{collections::HashMap, io::BufReader, time::Instant};

use ::redis::{Cmd, Pipeline, RedisError, Value, cmd};

use super::{
    LEDGER, Server, blocking,
    command::{Command, Commands, Malformed},
    ledger_copy::Rows,
};
use crate::script::{Progress, Script, ScriptContext, ScriptError, row::Row, source, ways_on};

/// The size of one part.
const MOST_COMMANDS: usize = 500;
const MOST_WORDS: usize = 20_000;
const MOST_BYTES: usize = 256 * 1024;
/// The limit of the server's scripting language for one call.
const MOST_ARGUMENTS: usize = 7000;

/// Runs the commands until one fails, and writes the ledger.
const PART: &str = r"
redis.call('SELECT', '0')
redis.call('DEL', KEYS[1])
local db, at, line, failure, done = ARGV[4], 6, '0', nil, 0
redis.call('SELECT', db)
for _ = 1, tonumber(ARGV[5]) do
    local count = tonumber(ARGV[at + 1])
    local command = {}
    for i = 1, count do command[i] = ARGV[at + 1 + i] end
    line = ARGV[at]
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then failure = answer.err break end
    if string.upper(command[1]) == 'SELECT' then db = command[2] end
    done = done + 1
    at = at + 2 + count
end
redis.call('SELECT', '0')
for path, row in pairs(cjson.decode(ARGV[1])) do redis.call('HSET', KEYS[1], path, row) end
local entry = cjson.decode(ARGV[3])
entry.done = entry.done + done
entry.selected = db
if failure then
    entry.state = entry.done > 0 and 'interrupted' or 'failed'
    entry.error = 'line ' .. line .. ': ' .. failure
end
redis.call('HSET', KEYS[1], ARGV[2], cjson.encode(entry))
return { failure and line or '', failure or '', db, tostring(done) }
";

/// Commands that make no sense in a file, or would end or change the connection that it runs on.
const NEVER: [&str; 11] =
    ["WATCH", "UNWATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SHUTDOWN", "RESET", "QUIT", "HELLO", "AUTH"];

/// Commands that the server refuses in its own scripts, besides those that it reports itself.
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

/// The commands of one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Together(Vec<Command>),
    /// Not allowed in a server script.
    Alone(Command),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Together(commands) => commands.len() as u64,
            Self::Alone(_) => 1,
        }
    }
}

/// Which commands the server refuses in its scripts.
pub(super) type Outside = HashMap<String, bool>;

pub(super) async fn commands(server: &mut Server, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let began = Instant::now();
    let mut rows = server.rows().await.map_err(|error| server.broken(&error))?;
    let journal = rows.remove(&script.path).and_then(|row| serde_json::from_str::<Row>(&row).ok()).and_then(|row| row.journal(script));
    let mut run = Run { script, others: rows, done: 0, selected: "0".to_owned() };
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
    done: u64,
    /// The database that the file has selected.
    selected: String,
}

impl Run<'_> {
    async fn apply(&mut self, server: &mut Server, journal: Option<(u64, String)>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let script = self.script;
        // Every command is parsed before the first is applied, so that a bad line has no effect.
        let checking = script.clone();
        let names = blocking(script, move || names(&checking)).await?;
        let outside = self.outside(server, names).await?;
        if let Some((done, selected)) = journal {
            (self.done, self.selected) = (done, selected);
        }
        let (sender, mut parts) = tokio::sync::mpsc::channel(2);
        let (reading, passed_over) = (script.clone(), self.done);
        let reader =
            tokio::task::spawn_blocking(move || divided(&reading, &outside, passed_over, &mut |part| sender.blocking_send(part).is_ok()));
        let mut bytes = 0;
        while let Some(part) = parts.recv().await {
            bytes += match &part {
                Part::Together(commands) => commands.iter().map(|command| command.bytes() as u64 + 1).sum(),
                Part::Alone(command) => command.bytes() as u64 + 1,
            };
            match part {
                Part::Together(commands) => self.together(server, &commands).await?,
                Part::Alone(command) => self.alone(server, &command).await?,
            }
            (cx.progress)(Progress { path: &script.path, rows: self.done, bytes: bytes.min(script.size), total_bytes: script.size });
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
            let refused = OUTSIDE.contains(&name.as_str()) || format!("{flags:?}").contains("noscript");
            outside.insert(name, refused);
        }
        Ok(outside)
    }

    async fn together(&mut self, server: &mut Server, commands: &[Command]) -> Result<(), ScriptError> {
        let mut call = cmd("EVAL");
        call.arg(PART)
            .arg(1)
            .arg(LEDGER)
            .arg(serde_json::to_string(&self.others).expect("a map of texts serializes to JSON"))
            .arg(&self.script.path)
            .arg(Row::running_at(self.script, self.done, &self.selected).text())
            .arg(&self.selected)
            .arg(commands.len());
        for command in commands {
            call.arg(command.line).arg(command.words.len()).arg(&command.words);
        }
        let answer: Result<(String, String, String, String), RedisError> = call.query_async(&mut server.connection).await;
        let (line, message, selected, done) = answer.map_err(|error| self.fail(error.to_string()))?;
        self.done += done.parse::<u64>().unwrap_or_default();
        self.selected = selected;
        if message.is_empty() {
            return Ok(());
        }
        Err(self.fail(message.strip_prefix("ERR ").unwrap_or(&message)).at(line.parse::<u64>().ok()))
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
        Ok(())
    }
}

fn open(script: &Script) -> Result<Commands<BufReader<Box<dyn std::io::Read + Send>>>, ScriptError> {
    let input = source::open(script).map_err(|error| ScriptError::of(&script.path, format!("cannot be read: {error}")))?;
    Ok(Commands::new(BufReader::with_capacity(256 * 1024, input)))
}

fn next<R: std::io::BufRead>(script: &Script, commands: &mut Commands<R>) -> Result<Option<Command>, ScriptError> {
    commands.next().map_err(|Malformed { line, message }| ScriptError::of(&script.path, message).at(line))
}

/// The names of all commands, each with the first line where it is used. An error if a line is invalid.
pub(super) fn names(script: &Script) -> Result<Vec<(String, u64)>, ScriptError> {
    let mut input = open(script)?;
    let mut names: Vec<(String, u64)> = Vec::new();
    let mut transaction = None;
    while let Some(command) = next(script, &mut input)? {
        let name = command.name();
        let fail = |message: String| Err(ScriptError::of(&script.path, message).at(command.line));
        match name.as_str() {
            "MULTI" if transaction.is_some() => return fail("MULTI calls can not be nested".to_owned()),
            "MULTI" => transaction = Some(command.line),
            "EXEC" | "DISCARD" if transaction.take().is_none() => return fail(format!("{name} without MULTI")),
            "EXEC" | "DISCARD" => {}
            _ if NEVER.contains(&name.as_str()) => return fail(format!("{name} is not allowed in a file")),
            _ if names.iter().all(|(known, _)| *known != name) => names.push((name, command.line)),
            _ => {}
        }
    }
    match transaction {
        Some(line) => Err(ScriptError::of(&script.path, "this MULTI has no EXEC, so its commands would be thrown away").at(line)),
        None => Ok(names),
    }
}

/// Passes the file's parts, without the commands that are done already, to `take` until it wants no more.
pub(super) fn divided(script: &Script, outside: &Outside, passed_over: u64, take: &mut dyn FnMut(Part) -> bool) -> Result<(), ScriptError> {
    let mut input = open(script)?;
    let mut parts = Parts { take, together: Vec::new(), words: 0, bytes: 0, passed_over };
    let mut transaction: Option<Vec<Command>> = None;
    while let Some(command) = next(script, &mut input)? {
        match (command.name().as_str(), &mut transaction) {
            ("MULTI", _) => transaction = Some(Vec::new()),
            ("DISCARD", _) => transaction = None,
            ("EXEC", _) => {
                // What belongs together is one part, however large.
                let block = transaction.take().unwrap_or_default();
                parts.flush();
                parts.put(Part::Together(block));
            }
            (name, Some(block)) => {
                if outside.get(name) == Some(&true) {
                    let message = format!("{name} is not allowed between MULTI and EXEC in a file");
                    return Err(ScriptError::of(&script.path, message).at(command.line));
                }
                block.push(command);
            }
            (name, None) if outside.get(name) == Some(&true) || command.words.len() > MOST_ARGUMENTS => {
                parts.flush();
                parts.put(Part::Alone(command));
            }
            (_, None) => parts.add(command),
        }
    }
    parts.flush();
    Ok(())
}

struct Parts<'a> {
    take: &'a mut dyn FnMut(Part) -> bool,
    together: Vec<Command>,
    words: usize,
    bytes: usize,
    passed_over: u64,
}

impl Parts<'_> {
    fn add(&mut self, command: Command) {
        if self.passed_over > 0 {
            self.passed_over -= 1;
            return;
        }
        self.words += command.words.len();
        self.bytes += command.bytes();
        self.together.push(command);
        if self.together.len() >= MOST_COMMANDS || self.words >= MOST_WORDS || self.bytes >= MOST_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        (self.words, self.bytes) = (0, 0);
        let together = std::mem::take(&mut self.together);
        if !together.is_empty() {
            (self.take)(Part::Together(together));
        }
    }

    /// A part was done as a whole or not at all.
    fn put(&mut self, part: Part) {
        if self.passed_over >= part.len() {
            self.passed_over -= part.len();
        } else {
            (self.take)(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, Script) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.sql"), text).unwrap();
        let script = crate::script::files::tests::file(directory.path(), "a.sql");
        (directory, script)
    }

    fn parts(text: &str, passed_over: u64) -> Vec<String> {
        let (_directory, script) = script(text);
        let outside = Outside::from([("CONFIG".to_owned(), true)]);
        let mut all = Vec::new();
        divided(&script, &outside, passed_over, &mut |part| {
            all.push(match part {
                Part::Together(commands) => commands.iter().map(Command::name).collect::<Vec<_>>().join("+"),
                Part::Alone(command) => format!("({})", command.name()),
            });
            true
        })
        .unwrap();
        all
    }

    #[test]
    fn a_file_is_divided_where_it_may_be_and_goes_on_where_it_stopped() {
        let text = "SET a 1\nINCR a\nCONFIG SET x 1\nMULTI\nSET b 1\nSET c 1\nEXEC\nMULTI\nDEL a\nDISCARD\nGET a\n";
        assert_eq!(parts(text, 0), ["SET+INCR", "(CONFIG)", "SET+SET", "GET"]);
        assert_eq!(parts(text, 1), ["INCR", "(CONFIG)", "SET+SET", "GET"]);
        assert_eq!(parts(text, 3), ["SET+SET", "GET"]);
        assert_eq!(parts(text, 5), ["GET"]);
        let long = "INCR a\n".repeat(1201);
        let sizes: Vec<usize> = parts(&long, 1).iter().map(|part| part.split('+').count()).collect();
        assert_eq!(sizes, [500, 500, 200]);
    }

    #[test]
    fn forbidden_content_of_a_file_is_reported_before_anything_runs() {
        for (text, wanted) in [
            ("SET a 1\nMULTI\n", "a.sql:2: this MULTI has no EXEC, so its commands would be thrown away"),
            ("EXEC\n", "a.sql:1: EXEC without MULTI"),
            ("MULTI\nMULTI\n", "a.sql:2: MULTI calls can not be nested"),
            ("GET a\nSUBSCRIBE x\n", "a.sql:2: SUBSCRIBE is not allowed in a file"),
        ] {
            assert_eq!(names(&script(text).1).unwrap_err().to_string(), wanted);
        }
        assert_eq!(names(&script("set a 1\nGET a\nSET b 1\n").1).unwrap(), [("SET".to_owned(), 1), ("GET".to_owned(), 2)]);
    }
}
