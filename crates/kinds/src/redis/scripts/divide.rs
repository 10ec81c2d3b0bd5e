//! Divides a `.redis` file into parts, and checks all of it before the first one is applied. It reads the file twice and never more than a
//! part of it into memory; [`super::run`] applies the parts.

use std::{collections::HashMap, io::BufReader};

use super::command::{Command, Commands, Malformed};
use crate::script::{Script, ScriptError, source};

/// The size of one part.
const MOST_COMMANDS: usize = 500;
const MOST_WORDS: usize = 20_000;
const MOST_BYTES: usize = 256 * 1024;
/// The limit of the server's scripting language for one call.
const MOST_ARGUMENTS: usize = 7000;

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
    fn commands(&self) -> &[Command] {
        match self {
            Self::Together(commands) => commands,
            Self::Alone(command) => std::slice::from_ref(command),
        }
    }

    fn len(&self) -> u64 {
        self.commands().len() as u64
    }

    /// About as many as the file has for it.
    pub(super) fn bytes(&self) -> u64 {
        self.commands().iter().map(|command| command.bytes() as u64 + 1).sum()
    }
}

/// Which commands the server refuses in its scripts.
pub(super) type Outside = HashMap<String, bool>;

/// Whether a command is known not to be allowed in a script of the server.
pub(super) fn runs_outside(name: &str) -> bool {
    OUTSIDE.contains(&name)
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
        // Most commands of a file are those of the lines before.
        if names.iter().any(|(known, _)| command.is(known)) {
            continue;
        }
        let name = command.name();
        let fail = |message: String| Err(ScriptError::of(&script.path, message).at(command.line));
        match name.as_str() {
            "MULTI" if transaction.is_some() => return fail("MULTI calls can not be nested".to_owned()),
            "MULTI" => transaction = Some(command.line),
            "EXEC" | "DISCARD" if transaction.take().is_none() => return fail(format!("{name} without MULTI")),
            "EXEC" | "DISCARD" => {}
            _ if NEVER.contains(&name.as_str()) => return fail(format!("{name} is not allowed in a file")),
            _ => names.push((name, command.line)),
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
