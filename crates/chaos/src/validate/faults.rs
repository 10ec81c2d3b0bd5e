//! The faults of a scenario: checks their names and parameters.

use std::{collections::BTreeMap, time::Duration};

use devenv_kinds::faults::{self as fault, InvalidFault};
use devenv_profile::reading::{Findings, Node};
use devenv_spec::ServiceName;
use serde_json::Value;

/// Checks the fault's name and parameters, and reports problems at their position.
pub(super) fn fault_holds(
    node: &Node,
    name: &str,
    parameters: &BTreeMap<String, String>,
    lasting: Option<Duration>,
    findings: &mut Findings,
) {
    let Ok(service) = "service".parse::<ServiceName>() else { return };
    let Err(invalid) = fault::parse("id", name, service, parameters, lasting, 0) else { return };
    let place = match (&invalid, invalid.parameter()) {
        (InvalidFault::UnknownParameter { .. }, Some(parameter)) => {
            node.get("set").and_then(|set| set.entry(parameter)).map(|entry| entry.key)
        }
        (_, Some(parameter)) => node.get("set").and_then(|set| set.get(parameter)).map(|node| node.span),
        (_, None) => node.get("fault").map(|node| node.span),
    };
    let code = match invalid {
        InvalidFault::Unknown { .. } => "unknown-fault",
        InvalidFault::UnknownParameter { .. } => "unknown-parameter",
        InvalidFault::Value { .. } => "bad-value",
    };
    findings.error(place.unwrap_or(node.span), code, invalid.to_string()).maybe_hint(invalid.hint().map(str::to_owned));
}

/// Only the names of the faults, for a file with other errors.
pub(super) fn fault_names(root: &Node, findings: &mut Findings) {
    for node in root.get("timeline").into_iter().flat_map(Node::items) {
        if let Some(name) = node.get("fault").and_then(Node::text).filter(|name| fault::find(name).is_none()) {
            fault_holds(node, name, &BTreeMap::new(), None, findings);
        }
    }
}

/// A scalar as text, a list as its items with commas between.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(items) => items.iter().map(text_of).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        Value::Null | Value::Object(_) => None,
    }
}
