//! The JSON schema of a profile, generated from the types that a profile becomes.
//!
//! Two forms: [`exact`] says what a value is once variables are filled in, and the checks read it; [`published`] is for
//! editors, which see a file as it is written, with `${NAME}` for a number and a bare number for text.

use devenv_kinds::Kind;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::document::Document;

/// The pattern of service names, as in `ServiceName`.
const SERVICE_NAME: &str = "^[a-z][a-z0-9-]{0,39}$";

/// The schema of a whole document, with a service as its common fields and exactly one kind.
pub(crate) fn exact() -> Value {
    let mut generator = SchemaGenerator::default();
    let kinds = generator.subschema_for::<Kind>().to_value();
    let mut root = generator.into_root_schema_for::<Document>().to_value();
    let kind_schema = kinds["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix("#/$defs/"))
        .map(|name| root["$defs"][name].take())
        .unwrap_or(kinds);
    let variants: Vec<Value> = kind_schema["oneOf"].as_array().cloned().unwrap_or_default();
    let service = &mut root["$defs"]["Service"];
    for variant in &variants {
        for (name, schema) in variant["properties"].as_object().into_iter().flatten() {
            service["properties"][name] = schema.clone();
        }
    }
    service["oneOf"] = variants.iter().map(|variant| json!({ "required": variant["required"] })).collect();
    if let Some(definitions) = root["$defs"].as_object_mut() {
        definitions.retain(|name, _| name != "Kind");
    }
    root["properties"]["services"]["propertyNames"] = json!({ "pattern": SERVICE_NAME });
    root
}

/// The schema as committed in `schema/profile.schema.json`.
#[cfg(test)]
pub(crate) fn published() -> Value {
    let mut schema = exact();
    as_written(&mut schema);
    // Of what another profile is laid under, a file may give only a part.
    let kinds = schema["$defs"]["Service"]["oneOf"].take();
    let none = json!({ "not": { "anyOf": kinds.clone() } });
    schema["$defs"]["Service"]["oneOf"] = kinds.as_array().into_iter().flatten().cloned().chain([none]).collect();
    schema["if"] = json!({ "required": ["extends"] });
    schema["else"] = json!({
        "required": ["services"],
        "properties": { "services": { "additionalProperties": { "oneOf": kinds } } },
    });
    let root = schema.as_object_mut().expect("a schema of a struct is an object");
    root.shift_remove("required");
    let mut named = serde_json::Map::new();
    named.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    named.insert("title".to_owned(), json!("devenv profile"));
    for (key, value) in std::mem::take(root) {
        named.entry(key).or_insert(value);
    }
    Value::Object(named)
}

/// Loosens scalars to what may stand for them in a file: a number where text is wanted, `${NAME}` where a number is.
#[cfg(test)]
fn as_written(schema: &mut Value) {
    if let Value::Array(items) = schema {
        items.iter_mut().for_each(as_written);
        return;
    }
    let Value::Object(object) = schema else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.shift_remove("default");
    }
    for (key, value) in object.iter_mut() {
        if !matches!(key.as_str(), "default" | "enum" | "const" | "required" | "propertyNames") {
            as_written(value);
        }
    }
    if object.contains_key("properties") && object.get("additionalProperties") == Some(&json!(false)) {
        object.insert("patternProperties".to_owned(), json!({ "^x-": true }));
    }
    let Some(kind) = object.get("type").cloned() else { return };
    let mut names: Vec<String> = match &kind {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => return,
    };
    if object.contains_key("enum") || object.contains_key("const") {
        return;
    }
    if names.iter().any(|name| name == "string") {
        match object.get("pattern").and_then(Value::as_str) {
            Some(pattern) => {
                let pattern = format!(r"{pattern}|\$\{{");
                object.insert("pattern".to_owned(), json!(pattern));
            }
            None => names.extend(["number".to_owned(), "boolean".to_owned()]),
        }
    } else if names.iter().any(|name| matches!(name.as_str(), "integer" | "number" | "boolean")) {
        names.push("string".to_owned());
        object.insert("pattern".to_owned(), json!(r"\$\{"));
    }
    let kind = if names.len() == 1 { json!(names[0]) } else { json!(names) };
    object.insert("type".to_owned(), kind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_spec::ServiceName;

    #[test]
    fn the_published_schema_is_the_one_of_the_types() {
        crate::tests::stays_current("schema/profile.schema.json", &format!("{:#}\n", published()));
    }

    #[test]
    fn names_that_the_schema_allows_are_service_names() {
        let pattern = regex::Regex::new(SERVICE_NAME).unwrap();
        for name in ["db", "rate-limits", "s3", "Db", "3s", "", "a_b", &"a".repeat(40), &"a".repeat(41)] {
            assert_eq!(pattern.is_match(name), name.parse::<ServiceName>().is_ok(), "{name}");
        }
    }
}
