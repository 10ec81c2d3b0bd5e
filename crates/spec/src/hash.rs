//! Decides whether a running workload is still the desired one, and what differs if not.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Workload, template::MASK};

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
    if before != after && (template(before).is_some() || template(after).is_some()) {
        let shown = |value: &Value| template(value).unwrap_or_else(|| show(value));
        let (old, new) = (shown(before), shown(after));
        found.push(if old == new { format!("{path}: its secret value changed") } else { format!("{path}: {old} -> {new}") });
        return;
    }
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

/// The text of a template as a profile has it, without the values of secrets; `None` for any other value.
fn template(value: &Value) -> Option<String> {
    let parts = value.as_array().filter(|parts| !parts.is_empty())?;
    let texts = parts.iter().map(|part| {
        let fields = part.as_object().filter(|fields| fields.len() == 1)?;
        let (name, value) = fields.iter().next()?;
        match (name.as_str(), value) {
            ("text", Value::String(text)) => Some(text.clone()),
            ("secret" | "sensitive", _) => Some(MASK.to_owned()),
            _ => None,
        }
    });
    let text = texts.collect::<Option<String>>()?;
    Some(show(&Value::String(text)))
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

    #[test]
    fn a_changed_variable_is_shown_as_it_is_written_and_a_secret_never() {
        let with = |value: Template| {
            let mut spec = ContainerSpec::new("x");
            spec.environment.insert("TOKEN".into(), value);
            Workload::Container(spec)
        };
        let none = Workload::Container(ContainerSpec::new("x"));
        assert_eq!(differences(&none, &with(Template::text("fast"))), ["environment.TOKEN: unset -> fast"]);
        assert_eq!(differences(&with(Template::text("fast")), &with(Template::text("slow"))), ["environment.TOKEN: fast -> slow"]);
        let given = |value: &str| with(Template::given("TOKEN", value));
        assert_eq!(differences(&given("hunter1"), &given("hunter2")), ["environment.TOKEN: its secret value changed"]);
        assert_eq!(differences(&none, &given("hunter2")), ["environment.TOKEN: unset -> ********"]);
    }
}
