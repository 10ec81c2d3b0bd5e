//! What a value may be: the JSON schema of the profile's types, lowered to what the checks, the merge and the reference need.

use std::sync::LazyLock;

use indexmap::IndexMap;
use serde_json::Value;

use super::schema;

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Text(TextForm),
    Integer {
        minimum: i64,
        maximum: i64,
    },
    Number,
    Boolean,
    /// One of these words, each with what it means, if that is said.
    Choice(Vec<(String, Option<String>)>),
    List(Box<Shape>),
    /// A word that stands for a list, such as `all`, or a list.
    WordOrList {
        word: String,
        items: Box<Shape>,
    },
    Map {
        keys: Keys,
        values: Box<Shape>,
    },
    Record(Record),
    /// Not described by the schema; left to the types.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextForm {
    Free,
    Size,
    Duration,
}

/// What the keys of a map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Text,
    Name,
    Integer,
}

/// Fields that are known by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    pub(super) description: String,
    pub(super) fields: IndexMap<String, Field>,
    /// Of these fields exactly one is given: a service's kind, a probe's way.
    pub(super) exactly_one: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) description: String,
    pub(super) required: bool,
    /// May be written as nothing (`null`), which means the default.
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
}

/// The whole document.
pub(super) static DOCUMENT: LazyLock<Record> = LazyLock::new(|| match of_schema(&schema::exact()) {
    Shape::Record(record) => record,
    _ => Record::default(),
});

pub(super) fn document() -> Shape {
    Shape::Record(DOCUMENT.clone())
}

/// What the schema of a document says.
pub(super) fn of_schema(schema: &Value) -> Shape {
    lower(schema, schema, 0)
}

/// A service.
pub(super) fn service() -> &'static Record {
    static NONE: LazyLock<Record> = LazyLock::new(Record::default);
    match DOCUMENT.fields.get("services").map(|field| &field.shape) {
        Some(Shape::Map { values, .. }) => match values.as_ref() {
            Shape::Record(record) => record,
            _ => &NONE,
        },
        _ => &NONE,
    }
}

impl Shape {
    /// For people: what is expected here.
    pub(super) fn noun(&self) -> String {
        match self {
            Self::Text(TextForm::Free) => "text".to_owned(),
            Self::Text(TextForm::Size) => "a size such as `64MiB`".to_owned(),
            Self::Text(TextForm::Duration) => "a duration such as `30s`".to_owned(),
            Self::Integer { minimum, maximum } if *maximum == i64::MAX || *maximum >= i64::from(u32::MAX) => match minimum {
                0 => "a whole number, 0 or more".to_owned(),
                _ => "a whole number".to_owned(),
            },
            Self::Integer { minimum, maximum } => format!("a whole number from {minimum} to {maximum}"),
            Self::Number => "a number".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Choice(words) => super::spelling::one_of(words.iter().map(|(word, _)| word.as_str())),
            Self::List(items) => format!("a list of {}", items.plural()),
            Self::WordOrList { word, items } => format!("`{word}` or a list of {}", items.plural()),
            Self::Map { values, .. } => format!("a mapping of names to {}", values.plural()),
            Self::Record(record) if record.is_service() => "a mapping with one kind".to_owned(),
            Self::Record(record) => format!("a mapping with {}", record.names()),
            Self::Any => "a value".to_owned(),
        }
    }

    fn plural(&self) -> String {
        match self {
            Self::Text(_) => "texts".to_owned(),
            Self::Integer { .. } | Self::Number => "numbers".to_owned(),
            Self::Record(_) | Self::Map { .. } => "mappings".to_owned(),
            other => other.noun(),
        }
    }
}

impl Record {
    /// For messages: the names of its fields, required alternatives first.
    pub(super) fn names(&self) -> String {
        let needed = |name: &str| self.exactly_one.iter().any(|one| one == name);
        let (first, rest): (Vec<&str>, Vec<&str>) = self.fields.keys().map(String::as_str).partition(|name| needed(name));
        super::spelling::one_of(first.into_iter().chain(rest))
    }

    /// Whether this is a service rather than another record with alternatives.
    pub(super) fn is_service(&self) -> bool {
        self.exactly_one.iter().map(String::as_str).eq(devenv_kinds::Kind::NAMES.iter().copied())
    }
}

/// References are followed to this depth; no type of the profile holds itself.
const DEEPEST: usize = 32;

fn lower(root: &Value, schema: &Value, depth: usize) -> Shape {
    if depth > DEEPEST {
        return Shape::Any;
    }
    if let Some(target) = referred(root, schema) {
        return lower(root, target, depth + 1);
    }
    let alternatives: Vec<&Value> =
        ["anyOf", "oneOf"].iter().filter_map(|word| schema[*word].as_array()).flatten().filter(|one| one["type"] != "null").collect();
    if schema.get("properties").is_none() {
        if let [only] = alternatives.as_slice() {
            return lower(root, only, depth + 1);
        }
        if !alternatives.is_empty() {
            return choice_or_tagged(root, schema, &alternatives, depth);
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        return Shape::Choice(words.iter().filter_map(Value::as_str).map(|word| (word.to_owned(), None)).collect());
    }
    match type_of(schema) {
        "string" => Shape::Text(match schema["format"].as_str() {
            Some("size") => TextForm::Size,
            Some("duration") => TextForm::Duration,
            _ => TextForm::Free,
        }),
        "integer" => Shape::Integer {
            minimum: schema["minimum"].as_i64().unwrap_or(i64::MIN),
            maximum: schema["maximum"].as_i64().unwrap_or(match schema["format"].as_str() {
                Some("uint32") => i64::from(u32::MAX),
                _ => i64::MAX,
            }),
        },
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        "array" => Shape::List(Box::new(lower(root, &schema["items"], depth + 1))),
        "object" if schema.get("properties").is_some() => Shape::Record(record(root, schema, depth)),
        "object" => map(root, schema, depth),
        _ => Shape::Any,
    }
}

fn map(root: &Value, schema: &Value, depth: usize) -> Shape {
    if let Some((pattern, values)) = schema["patternProperties"].as_object().and_then(|patterns| patterns.iter().next()) {
        let keys = if pattern.contains(r"\d") { Keys::Integer } else { Keys::Text };
        return Shape::Map { keys, values: Box::new(lower(root, values, depth + 1)) };
    }
    if !schema["additionalProperties"].is_object() {
        // A struct without fields.
        return Shape::Record(record(root, schema, depth));
    }
    let keys = if schema.get("propertyNames").is_some() { Keys::Name } else { Keys::Text };
    Shape::Map { keys, values: Box::new(lower(root, &schema["additionalProperties"], depth + 1)) }
}

/// An enum of words, or one whose variants hold something under their name.
fn choice_or_tagged(root: &Value, schema: &Value, alternatives: &[&Value], depth: usize) -> Shape {
    if let [one, list] = alternatives
        && let Some(word) = one["enum"][0].as_str()
        && type_of(list) == "array"
    {
        return Shape::WordOrList { word: word.to_owned(), items: Box::new(lower(root, &list["items"], depth + 1)) };
    }
    let mut words = Vec::new();
    let mut tagged = Record { description: description(schema), ..Record::default() };
    for one in alternatives {
        if let Some(word) = one["const"].as_str() {
            words.push((word.to_owned(), one["description"].as_str().map(str::to_owned)));
        } else if let Some(more) = one["enum"].as_array() {
            words.extend(more.iter().filter_map(Value::as_str).map(|word| (word.to_owned(), None)));
        } else {
            let variant = record(root, one, depth);
            for (name, mut field) in variant.fields {
                field.required = false;
                if field.description.is_empty() {
                    field.description.clone_from(&variant.description);
                }
                tagged.exactly_one.push(name.clone());
                tagged.fields.insert(name, field);
            }
        }
    }
    match (words.is_empty(), tagged.fields.is_empty()) {
        (false, true) => Shape::Choice(words),
        (true, false) => Shape::Record(tagged),
        _ => Shape::Any,
    }
}

fn record(root: &Value, schema: &Value, depth: usize) -> Record {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let exactly_one: Vec<String> =
        schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["required"][0].as_str().map(str::to_owned)).collect();
    let fields = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let inner = referred(root, property).unwrap_or(property);
            let nullable = property["type"].as_array().is_some_and(|names| names.iter().any(|name| name == "null"))
                || property["anyOf"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "null"));
            let field = Field {
                shape: lower(root, property, depth + 1),
                description: match description(property) {
                    said if said.is_empty() => description(inner),
                    said => said,
                },
                required: required.contains(&name.as_str()),
                nullable,
                default: property.get("default").filter(|value| !value.is_null()).cloned(),
            };
            (name.clone(), field)
        })
        .collect();
    Record { description: description(schema), fields, exactly_one }
}

fn referred<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    root["$defs"].get(schema["$ref"].as_str()?.strip_prefix("#/$defs/")?)
}

fn type_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(name) => name,
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default(),
        _ => "",
    }
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_exactly_one_kind_and_every_part_of_the_document_is_understood() {
        let service = service();
        assert_eq!(service.exactly_one, devenv_kinds::Kind::NAMES);
        for kind in devenv_kinds::Kind::NAMES {
            assert!(matches!(service.fields[*kind].shape, Shape::Record(_)), "{kind}");
        }
        assert_eq!(nothing_known("", &Shape::Record(DOCUMENT.clone())), Vec::<String>::new());
    }

    fn nothing_known(path: &str, shape: &Shape) -> Vec<String> {
        match shape {
            Shape::Any => vec![path.to_owned()],
            Shape::List(items) => nothing_known(&format!("{path}[]"), items),
            Shape::Map { values, .. } => nothing_known(&format!("{path}.*"), values),
            Shape::Record(record) => {
                record.fields.iter().flat_map(|(name, field)| nothing_known(&format!("{path}.{name}"), &field.shape)).collect()
            }
            _ => Vec::new(),
        }
    }
}
