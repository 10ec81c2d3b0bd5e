//! Decides whether a running workload is still the desired one, and what differs if not.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Workload;

/// Increased when the canonical form changes, so that an upgrade does not recreate running containers.
const VERSION: u32 = 1;

/// The canonical hash of a workload, with the version of its canonical form: `1:0123456789abcdef`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpecHash(String);

impl SpecHash {
    pub fn of(workload: &Workload) -> Self {
        let canonical = canonical(workload).to_string();
        let digest = Sha256::digest(canonical.as_bytes());
        let hex = hex::encode(&digest[..16]);
        Self(format!("{VERSION}:{hex}"))
    }

    pub fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sorts keys at every level, so that the order in a profile does not matter.
fn canonical(workload: &Workload) -> Value {
    fn sort(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sort(value))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(entries.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(sort).collect()),
            scalar => scalar,
        }
    }
    sort(serde_json::to_value(workload).expect("a workload serializes to JSON"))
}

/// The differences, one per line, for people: `command: +shared_buffers=96MB`.
pub fn differences(before: &Workload, after: &Workload) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &canonical(before), &canonical(after), &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let inner = if path.is_empty() || path == "container" || path == "process" { key.clone() } else { format!("{path}.{key}") };
                let (old, new) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
                compare(&inner, old, new, found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old != new => {
            let gone: Vec<String> = old.iter().filter(|item| !new.contains(item)).map(|item| format!("-{}", show(item))).collect();
            let come: Vec<String> = new.iter().filter(|item| !old.contains(item)).map(|item| format!("+{}", show(item))).collect();
            let all: Vec<String> = gone.into_iter().chain(come).collect();
            let what = if all.is_empty() { "another order".to_owned() } else { all.join(" ") };
            found.push(format!("{path}: {what}"));
        }
        (old, new) if old != new => found.push(format!("{path}: {} -> {}", show(old), show(new))),
        _ => {}
    }
}

fn show(value: &Value) -> String {
    let text = match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerSpec, Template};

    fn container(arguments: &[&str]) -> Workload {
        let mut spec = ContainerSpec::new("postgres:17");
        spec.command = Some(arguments.iter().map(ToString::to_string).collect());
        Workload::Container(spec)
    }

    #[test]
    fn the_order_of_variables_does_not_matter_and_their_values_do() {
        let mut one = ContainerSpec::new("x");
        one.environment.insert("A".into(), Template::text("1"));
        one.environment.insert("B".into(), Template::text("2"));
        let mut two = ContainerSpec::new("x");
        two.environment.insert("B".into(), Template::text("2"));
        two.environment.insert("A".into(), Template::text("1"));
        assert_eq!(SpecHash::of(&Workload::Container(one.clone())), SpecHash::of(&Workload::Container(two.clone())));
        two.environment.insert("A".into(), Template::text("3"));
        assert_ne!(SpecHash::of(&Workload::Container(one)), SpecHash::of(&Workload::Container(two)));
    }

    #[test]
    fn a_changed_argument_is_named() {
        let found = differences(&container(&["postgres"]), &container(&["postgres", "-c", "shared_buffers=96MB"]));
        assert_eq!(found, ["command: +-c +shared_buffers=96MB"]);
    }
}
