//! PURE: parses the lines of `.jsonl`.

use ::redis::Cmd;
use serde::Deserialize;
use serde_json::Value;

use crate::script::{Script, ScriptError, lines::plain};
use devenv_spec::Period;

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

pub(super) fn key_commands(script: &Script, number: u64, line: &str) -> Result<Vec<Cmd>, ScriptError> {
    let fail = |message: String| ScriptError::of(&script.path, message).at(number);
    let key: Key = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
    let wanted = |shape: &str| fail(format!("the value of a {:?} must be {shape}", key.kind).to_lowercase());
    if key.name == super::LEDGER {
        return Err(fail(format!("the key `{}` is kept by devenv", key.name)));
    }
    // SET takes the place of a key of any type, with its expiry.
    let mut commands = Vec::new();
    if !matches!(key.kind, KeyKind::String) {
        let mut remove = ::redis::cmd("DEL");
        remove.arg(&key.name);
        commands.push(remove);
    }
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
        // The value of TTL for a key without an expiry, which exporters write.
        Some(Value::Number(seconds)) if seconds.as_f64() == Some(-1.0) => None,
        Some(Value::Number(seconds)) => {
            let expected = || fail(format!("a ttl is a number of seconds above 0, or -1 for none, not {seconds}"));
            Some(seconds.as_f64().filter(|seconds| *seconds > 0.0).ok_or_else(expected)? * 1000.0)
        }
        Some(Value::String(text)) => Some(text.parse::<Period>().map_err(|error| fail(error.to_string()))?.duration().as_millis() as f64),
        Some(_) => return Err(fail("a ttl is a number of seconds, or text such as `24h`".to_owned())),
    };
    match (ttl, key.kind) {
        (None, _) => {}
        (Some(milliseconds), KeyKind::String) => {
            for set in &mut commands {
                set.arg("PX").arg(milliseconds as u64);
            }
        }
        (Some(milliseconds), _) => {
            let mut command = add("PEXPIRE");
            command.arg(milliseconds as u64);
            commands.push(command);
        }
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(shown(r#"{"key":"a","type":"string","value":{"n":1},"ttl":"5m"}"#).unwrap(), r#"SET a {"n":1} PX 300000"#);
        assert_eq!(shown(r#"{"key":"a","value":"x","ttl":-1}"#).unwrap(), "SET a x");
        assert_eq!(shown(r#"{"key":"l","type":"list","value":["a"],"ttl":2}"#).unwrap(), "DEL l; RPUSH l a; PEXPIRE l 2000");
        assert_eq!(
            shown(r#"{"key":"a","value":"x","ttl":-2}"#).unwrap_err().to_string(),
            "a.sql:7: a ttl is a number of seconds above 0, or -1 for none, not -2"
        );
        assert!(shown(r#"{"key":"devenv:ledger","value":"x"}"#).is_err());
        assert_eq!(shown(r#"{"key":"z","type":"zset","value":{"x":1.5}}"#).unwrap(), "DEL z; ZADD z 1.5 x");
        assert_eq!(shown(r#"{"key":"l","type":"list","value":["a",2]}"#).unwrap(), "DEL l; RPUSH l a 2");
        assert_eq!(
            shown(r#"{"key":"h","type":"hash","value":[]}"#).unwrap_err().to_string(),
            "a.sql:7: the value of a hash must be a non-empty object"
        );
        assert!(shown("{\"key\":").unwrap_err().to_string().starts_with("a.sql:7: "));
    }
}
