//! Converts a checked tree to JSON of the required types, and from there to the types.

use devenv_kinds::Kind;
use devenv_spec::ServiceName;
use indexmap::IndexMap;
use serde_json::{Map, Number, Value};

use super::{
    check,
    document::{Network, OwnNetwork, SecretSource, ServiceFields, ServiceProfile, SleepFields},
    merge::within,
    shape::{self, Shape},
    source::Findings,
    tree::{Content, Node},
};

/// The value of a tree. A value that does not fit its shape (which was reported) becomes text.
pub(super) fn json(node: &Node, shape: &Shape) -> Value {
    match &node.content {
        Content::Null => Value::Null,
        Content::List(items) => {
            let inner = within(shape, "").unwrap_or(&Shape::Any);
            items.iter().map(|item| json(item, inner)).collect()
        }
        Content::Map(entries) => entries
            .iter()
            .map(|(key, entry)| (key.clone(), json(&entry.node, within(shape, key).unwrap_or(&Shape::Any))))
            .collect::<Map<_, _>>()
            .into(),
        Content::Scalar(scalar) => {
            let text = scalar.text.as_str();
            let typed = match shape {
                Shape::Boolean => text.parse::<bool>().ok().map(Value::Bool),
                Shape::Integer { .. } => check::integer(text).map(Value::from),
                Shape::Number => devenv_document::value::number(text).and_then(Number::from_f64).map(Value::Number),
                _ => None,
            };
            typed.unwrap_or_else(|| Value::String(text.to_owned()))
        }
    }
}

/// The kind of a service, if its fields are valid.
pub(super) fn kind(service: &Node) -> Option<Kind> {
    let record = shape::service();
    let (name, entry) = service.entries().find(|(name, _)| record.exactly_one.iter().any(|one| one == name))?;
    let value = json(&entry.node, &record.fields.get(name)?.shape);
    serde_json::from_value(Value::Object(Map::from_iter([(name.to_owned(), value)]))).ok()
}

/// The services of a document without problems. Values that the types still reject are reported.
pub(super) fn services(services: &Node, findings: &mut Findings) -> IndexMap<ServiceName, ServiceProfile> {
    let record = shape::service();
    let mut found = IndexMap::new();
    for (name, entry) in services.entries() {
        let mut fields = Map::new();
        let mut kind = Map::new();
        for (field, inner) in entry.node.entries() {
            let shape = within_record(record, field);
            let value = json(&inner.node, shape);
            if record.exactly_one.iter().any(|one| one == field) {
                kind.insert(field.to_owned(), value);
            } else if !value.is_null() {
                fields.insert(field.to_owned(), value);
            }
        }
        let typed = name.parse::<ServiceName>().map_err(|error| error.to_string()).and_then(|name| {
            let fields: ServiceFields = serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
            let kind: Kind = serde_json::from_value(Value::Object(kind)).map_err(|error| error.to_string())?;
            Ok((name, fields.with_kind(kind)))
        });
        match typed {
            Ok((name, service)) => {
                found.insert(name, service);
            }
            Err(message) => {
                findings.error(entry.key, "invalid", format!("`{name}` is invalid: {message}"));
            }
        }
    }
    found
}

/// The secrets of a document without problems.
pub(super) fn secrets(node: &Node) -> IndexMap<String, SecretSource> {
    let shape = within_record(&shape::DOCUMENT, "secrets");
    serde_json::from_value(json(node, shape)).unwrap_or_default()
}

/// The environment's own network, of a document without problems.
pub(super) fn own_network(node: &Node) -> OwnNetwork {
    let shape = within_record(&shape::DOCUMENT, "network");
    serde_json::from_value(json(node, shape)).unwrap_or_default()
}

/// The networks of a document without problems.
pub(super) fn networks(networks: &Node) -> IndexMap<String, Network> {
    let shape = within_record(&shape::DOCUMENT, "networks");
    let Value::Object(networks) = json(networks, shape) else { return IndexMap::new() };
    let network = |value: Value| if value.is_null() { Some(Network::default()) } else { serde_json::from_value(value).ok() };
    networks.into_iter().filter_map(|(name, value)| Some((name, network(value)?))).collect()
}

/// When containers of a document without problems fall asleep.
pub(super) fn sleep(node: &Node) -> Option<SleepFields> {
    serde_json::from_value(json(node, within_record(&shape::DOCUMENT, "sleep"))).unwrap_or_default()
}

fn within_record<'a>(record: &'a shape::Record, field: &str) -> &'a Shape {
    record.fields.get(field).map_or(&Shape::Any, |field| &field.shape)
}
