//! Where every value came from: which layers touched it, which one counts, and what variables put in.

use std::fmt;

use devenv_spec::sensitive;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    assemble::{Assembled, Layer, Variables},
    convert,
    merge::within,
    shape::{self, Shape},
    source::{Sources, Span},
    spelling::did_you_mean,
    tree::{Content, Node},
};

/// The merged document with its layers and sources.
pub struct Origins {
    pub(super) sources: Sources,
    layers: Vec<Layer>,
    merged: Node,
    variables: Variables,
}

/// What is known about one key: `devenv config --explain KEY`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    pub key: String,
    /// What counts in the end; nothing if no layer says it and there is no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// No layer says it: the value is the default of its kind.
    pub default: bool,
    /// First to last: a later one is laid over an earlier one.
    pub layers: Vec<Touch>,
}

/// One layer that says something about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Touch {
    /// A file, or `environment` with no line.
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What it says, variables filled in.
    pub value: String,
    /// As it is written, if variables were filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// Where those variables come from: `NAME from .env:3:1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// Whether it is the one that counts; mappings of several layers count together.
    pub counts: bool,
}

/// There is no such key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the profile has no key `{key}`")]
pub struct UnknownKey {
    pub key: String,
    pub hint: Option<String>,
}

impl Origins {
    pub(super) fn new(assembled: Assembled, sources: Sources) -> Self {
        let Assembled { layers, merged, variables } = assembled;
        Self { sources, layers, merged, variables }
    }

    /// The merged document, as `devenv config --json` prints it.
    pub fn effective(&self) -> Value {
        let mut value = self.filled();
        as_written(&mut value);
        value
    }

    /// The same without what users keep secret: by its name under `variables` and `environment`, and passwords in URLs.
    pub fn redacted(&self) -> Value {
        let mut value = self.effective();
        mask(&mut value, &mut Vec::new());
        value
    }

    fn filled(&self) -> Value {
        let mut value = convert::json(&self.merged, &Shape::Record(shape::DOCUMENT.clone()));
        if let Value::Object(document) = &mut value {
            document.shift_remove("extends");
            document.shift_remove("env_file");
            let variables: Map<String, Value> =
                self.variables.given().into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            if variables.is_empty() {
                document.shift_remove("variables");
            } else {
                document.insert("variables".to_owned(), Value::Object(variables));
            }
        }
        value
    }

    /// The merged document, as `devenv config` prints it.
    pub fn effective_yaml(&self) -> String {
        serde_yaml::to_string(&self.effective()).unwrap_or_default()
    }

    pub fn redacted_yaml(&self) -> String {
        serde_yaml::to_string(&self.redacted()).unwrap_or_default()
    }

    /// Which layers touched a key such as `services.db.postgres.settings.shared_buffers`.
    pub fn explain(&self, key: &str) -> Result<Explanation, UnknownKey> {
        let document = Shape::Record(shape::DOCUMENT.clone());
        let mut layers: Vec<Touch> =
            self.layers.iter().filter_map(|layer| find(&layer.root, key).map(|(at, node)| self.touch(at, node))).collect();
        let found = find(&self.merged, key);
        if let Some((at, node)) = found {
            let together = node.map().is_some();
            let last = self.place(at);
            for touch in &mut layers {
                touch.counts = together || (touch.file.as_str(), touch.line, touch.column) == (last.0.as_str(), Some(last.1), Some(last.2));
            }
        }
        if let Some(name) = key.strip_prefix("variables.") {
            self.outside(name, &mut layers);
        }
        let value = match find_value(&self.effective(), key) {
            Some(value) => Some(value.clone()),
            None => found.map(|(_, node)| convert::json(node, &Shape::Any)),
        };
        if layers.is_empty() || value.is_none() {
            let default = default_of(&self.merged, &document, key).map_err(|hint| UnknownKey { key: key.to_owned(), hint })?;
            return Ok(Explanation { key: key.to_owned(), value: default, default: true, layers });
        }
        Ok(Explanation { key: key.to_owned(), value, default: false, layers })
    }

    /// A variable may be given by a file or by the process's environment as well.
    fn outside(&self, name: &str, layers: &mut Vec<Touch>) {
        let mut more = Vec::new();
        if let Some(given) = self.variables.files.get(name) {
            more.push(Touch { value: given.value.clone(), ..self.blank(given.span) });
        }
        if layers.is_empty() && more.is_empty() {
            return;
        }
        if let Some(value) = self.variables.process.get(name) {
            more.push(Touch {
                file: "environment".to_owned(),
                line: None,
                column: None,
                value: value.clone(),
                written: None,
                variables: Vec::new(),
                counts: false,
            });
        }
        if let Some(last) = more.last_mut() {
            last.counts = true;
            for touch in &mut *layers {
                touch.counts = false;
            }
        }
        layers.append(&mut more);
    }

    fn touch(&self, at: Span, node: &Node) -> Touch {
        let mut touch = self.blank(at);
        match &node.content {
            Content::Scalar(scalar) => {
                touch.value.clone_from(&scalar.text);
                if let Some(filled) = &scalar.filled {
                    touch.written = Some(filled.written.clone());
                    touch.variables = filled.names.iter().map(|name| format!("{name} from {}", self.source_of(name))).collect();
                }
            }
            _ => touch.value = convert::json(node, &Shape::Any).to_string(),
        }
        touch
    }

    fn source_of(&self, name: &str) -> String {
        if self.variables.process.contains_key(name) {
            return "the environment".to_owned();
        }
        if let Some(given) = self.variables.files.get(name) {
            return self.sources.place(given.span);
        }
        match self.merged.get("variables").and_then(|variables| variables.entry(name)) {
            Some(entry) => self.sources.place(entry.node.span),
            None => "its default".to_owned(),
        }
    }

    fn blank(&self, at: Span) -> Touch {
        let (file, line, column) = self.place(at);
        Touch { file, line: Some(line), column: Some(column), value: String::new(), written: None, variables: Vec::new(), counts: false }
    }

    fn place(&self, at: Span) -> (String, u32, u32) {
        (self.sources.get(at.file).name.clone(), at.line, at.column)
    }
}

/// The place and value of a key. Keys of maps may hold dots, so the longest key that fits is taken.
fn find<'a>(node: &'a Node, key: &str) -> Option<(Span, &'a Node)> {
    if let Some(items) = node.list() {
        let (index, rest) = key.split_once('.').map_or((key, None), |(index, rest)| (index, Some(rest)));
        let item = items.get(index.parse::<usize>().ok()?)?;
        return match rest {
            Some(rest) => find(item, rest),
            None => Some((item.span, item)),
        };
    }
    if let Some(entry) = node.entry(key) {
        let at = if entry.node.scalar().is_some() { entry.node.span } else { entry.key };
        return Some((at, &entry.node));
    }
    ends(key).find_map(|end| find(node.get(&key[..end])?, &key[end + 1..]))
}

fn find_value<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    if let Value::Array(items) = value {
        let (index, rest) = key.split_once('.').map_or((key, None), |(index, rest)| (index, Some(rest)));
        let item = items.get(index.parse::<usize>().ok()?)?;
        return rest.map_or(Some(item), |rest| find_value(item, rest));
    }
    value.get(key).or_else(|| ends(key).find_map(|end| find_value(value.get(&key[..end])?, &key[end + 1..])))
}

/// Where a key may be cut, the longest first.
fn ends(key: &str) -> impl Iterator<Item = usize> {
    key.rmatch_indices('.').map(|(end, _)| end).collect::<Vec<_>>().into_iter()
}

/// The default of a field that no layer gives; an error with a hint if there is no such field.
fn default_of(node: &Node, shape: &Shape, key: &str) -> Result<Option<Value>, Option<String>> {
    if key.is_empty() {
        return Ok(None);
    }
    let (first, rest) = ends(key)
        .find(|end| node.get(&key[..*end]).is_some())
        .map_or_else(|| key.split_once('.').unwrap_or((key, "")), |end| (&key[..end], &key[end + 1..]));
    match shape {
        Shape::Record(record) => {
            let Some(field) = record.fields.get(first) else {
                return Err(did_you_mean(first, record.fields.keys().map(String::as_str)));
            };
            // Of a service's kinds, those that it is not of have no defaults.
            if record.exactly_one.iter().any(|one| one == first) && node.get(first).is_none() {
                return Err(None);
            }
            if rest.is_empty() {
                return Ok(field.default.clone());
            }
            let inner = node.get(first);
            let given = field.default.as_ref().and_then(|default| find_value(default, rest)).cloned();
            match inner {
                Some(inner) => default_of(inner, &field.shape, rest).map(|found| found.or(given)),
                None => default_of(&Node { span: node.span, content: Content::Null }, &field.shape, rest).map(|found| found.or(given)),
            }
        }
        Shape::Map { .. } => match node.get(first) {
            Some(inner) if !rest.is_empty() => default_of(inner, within(shape, first).unwrap_or(&Shape::Any), rest),
            _ => Err(did_you_mean(first, node.entries().map(|(name, _)| name))),
        },
        _ => Err(None),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match &self.value {
            Some(value) if self.default => writeln!(f, "{} = {} (the default)", self.key, shown(value))?,
            Some(value) => writeln!(f, "{} = {}", self.key, shown(value))?,
            None => writeln!(f, "{} is not set", self.key)?,
        }
        for touch in &self.layers {
            let place = match (touch.line, touch.column) {
                (Some(line), Some(column)) => format!("{}:{line}:{column}", touch.file),
                _ => touch.file.clone(),
            };
            let counts = if touch.counts { "" } else { " (replaced)" };
            write!(f, "  {place}: {}{counts}", touch.value)?;
            if let Some(written) = &touch.written {
                write!(f, ", written as {written}, {}", touch.variables.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
/// Declared secrets stand as in the profile.
fn as_written(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(as_written),
        Value::Array(items) => items.iter_mut().for_each(as_written),
        Value::String(text) => *text = sensitive::named(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn mask(value: &mut Value, path: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                path.push(key.clone());
                mask(inner, path);
                path.pop();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, path)),
        Value::String(text) => *text = masked_at(&path.iter().map(String::as_str).collect::<Vec<_>>(), text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A document as it may be shown.
pub fn masked(document: &Value) -> Value {
    let mut document = document.clone();
    mask(&mut document, &mut Vec::new());
    document
}

/// A value as it may be shown, by its place in the document.
pub fn masked_at(path: &[&str], text: &str) -> String {
    let given = matches!(path, ["variables", _] | ["services", _, "environment", _] | [.., "settings" | "args", _]);
    if matches!(path, [.., "secret_files", _, "content"]) && !text.starts_with("${") {
        return sensitive::MASK.to_owned();
    }
    match path.last().filter(|_| given && !text.starts_with("${secret:")) {
        Some(name) => sensitive::masked(name, text),
        None => sensitive::masked_urls(text),
    }
}
