//! PURE: what the lines of `.redis` and `.jsonl` say.

use ::redis::Cmd;
use serde::Deserialize;
use serde_json::Value;

use crate::script::{Script, ScriptError, lines::plain};
use devenv_spec::Period;

/// One line of a `.redis` file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) line: u64,
    pub(super) words: Vec<Vec<u8>>,
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

impl Command {
    pub(super) fn name(&self) -> String {
        self.words.first().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default()
    }
}

pub(super) fn key_commands(script: &Script, number: u64, line: &str) -> Result<Vec<Cmd>, ScriptError> {
    let fail = |message: String| ScriptError::of(&script.path, message).at(number);
    let key: Key = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
    let wanted = |shape: &str| fail(format!("the value of a {:?} must be {shape}", key.kind).to_lowercase());
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
                command.arg(score.as_f64().ok_or_else(|| wanted("an object with scores by member"))?).arg(member);
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
        (KeyKind::Hash, _) => return Err(wanted("a non-empty object")),
        (KeyKind::List | KeyKind::Set, _) => return Err(wanted("a non-empty list")),
        (KeyKind::Zset, _) => return Err(wanted("an object with scores by member")),
        (KeyKind::Stream, _) => return Err(wanted("a list of objects")),
    }
    let ttl = match &key.ttl {
        None => None,
        Some(Value::Number(seconds)) => {
            Some(seconds.as_f64().filter(|seconds| *seconds > 0.0).ok_or_else(|| fail("a ttl must be more than 0".to_owned()))? * 1000.0)
        }
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

/// A command line as `redis-cli` splits it; nothing for a comment.
pub(super) fn words(line: &str) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
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
            return Err("a closing quote must be followed by a space");
        }
        words.push(word);
        at = next;
    }
    Ok(Some(words))
}

const UNCLOSED: &str = "unterminated quote";

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
        let split = |line: &str| {
            words(line).map(|words| words.map(|words| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()))
        };
        assert_eq!(split(r#"SET "a b" 'it\'s' "\x41\n""#), Ok(Some(vec!["SET".into(), "a b".into(), "it's".into(), "A\n".into()])));
        assert_eq!(split("# remark"), Ok(None));
        assert_eq!(split("SET a \"b"), Err(UNCLOSED));
        assert_eq!(split("SET \"a\"b c"), Err("a closing quote must be followed by a space"));
        assert_eq!(split("SET a \"\""), Ok(Some(vec!["SET".into(), "a".into(), String::new()])));
    }

    #[test]
    fn a_key_becomes_commands_that_may_be_repeated() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.sql"), "").unwrap();
        let script = crate::script::files::tests::file(directory.path(), "a.sql");
        let shown = |line: &str| {
            key_commands(&script, 7, line).map(|commands| {
                let packed: Vec<String> = commands
                    .iter()
                    .map(|command| {
                        String::from_utf8_lossy(&command.get_packed_command())
                            .split("\r\n")
                            .filter(|part| !part.starts_with(['*', '$']) && !part.is_empty())
                            .collect::<Vec<_>>()
                            .join(" ")
                    })
                    .collect();
                packed.join("; ")
            })
        };
        assert_eq!(
            shown(r#"{"key":"a","type":"string","value":{"n":1},"ttl":"5m"}"#).unwrap(),
            r#"DEL a; SET a {"n":1}; PEXPIRE a 300000"#
        );
        assert_eq!(shown(r#"{"key":"z","type":"zset","value":{"x":1.5}}"#).unwrap(), "DEL z; ZADD z 1.5 x");
        assert_eq!(shown(r#"{"key":"l","type":"list","value":["a",2]}"#).unwrap(), "DEL l; RPUSH l a 2");
        assert_eq!(
            shown(r#"{"key":"h","type":"hash","value":[]}"#).unwrap_err().to_string(),
            "a.sql:7: the value of a hash must be a non-empty object"
        );
        assert!(shown("{\"key\":").unwrap_err().to_string().starts_with("a.sql:7: "));
    }
}
