//! The parameters of a fault, validated, with defaults.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{FaultKind, InvalidFault, nearest};
use devenv_spec::Period;

/// One value, in its form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    Duration(Duration),
    Size(u64),
    /// Bytes a second.
    Rate(u64),
    Percent(f64),
    Count(u64),
    Number(f64),
    Boolean(bool),
    Text(String),
}

/// All of them, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    pub fn parse(kind: &dyn FaultKind, given: &BTreeMap<String, String>) -> Result<Self, InvalidFault> {
        let fault = kind.name().to_owned();
        for name in given.keys() {
            if !kind.parameters().iter().any(|parameter| parameter.name == name) {
                let hint = match nearest(name, kind.parameters().iter().map(|parameter| parameter.name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if kind.parameters().is_empty() => "it has no parameters".to_owned(),
                    None => format!(
                        "its parameters are {}",
                        kind.parameters().iter().map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")
                    ),
                };
                return Err(InvalidFault::UnknownParameter { fault, name: name.clone(), hint });
            }
        }
        let mut values = BTreeMap::new();
        for parameter in kind.parameters() {
            let Some(text) = given.get(parameter.name).map(String::as_str).or(parameter.default) else { continue };
            let value = parameter.form.parse(text.trim()).ok_or_else(|| InvalidFault::Value {
                fault: fault.clone(),
                name: parameter.name.to_owned(),
                value: text.to_owned(),
                expected: parameter.form.words(),
            })?;
            values.insert(parameter.name.to_owned(), value);
        }
        Ok(Self(values))
    }

    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.0.get(name) {
            Some(Value::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    /// Bytes, or bytes a second.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        match self.0.get(name) {
            Some(Value::Size(bytes) | Value::Rate(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    pub fn percent(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(Value::Percent(percent)) => Some(*percent),
            _ => None,
        }
    }

    pub fn count(&self, name: &str) -> Option<u64> {
        match self.0.get(name) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        }
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub fn is(&self, name: &str, text: &str) -> bool {
        self.text(name) == Some(text)
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Boolean(true)))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// As text, for reports.
    pub fn to_json(&self) -> serde_json::Value {
        let text = |value: &Value| match value {
            Value::Duration(duration) => Period::new(*duration).to_string(),
            Value::Size(bytes) => size(*bytes),
            Value::Rate(bytes) => format!("{}/s", size(*bytes)),
            Value::Percent(percent) => format!("{percent}%"),
            Value::Count(count) => count.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            Value::Text(text) => text.clone(),
        };
        serde_json::Value::Object(self.0.iter().map(|(name, value)| (name.clone(), text(value).into())).collect())
    }
}

fn size(bytes: u64) -> String {
    format!("{bytes}B").parse::<devenv_spec::Size>().map_or_else(|_| bytes.to_string(), |size| size.to_string())
}
