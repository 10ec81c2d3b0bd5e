//! Structure: whether every value has the shape that its place requires. Each layer is checked by itself; missing
//! values are reported only once all layers are merged.

use devenv_document::value;
use devenv_spec::{Period, ServiceName, Size};

use super::{
    shape::{self, Keys, Record, Shape, TextForm},
    source::{Findings, Span},
    spelling::{did_you_mean, one_of},
    tree::{Content, Entry, Node, Scalar, shortened},
};

/// Checks one file. With `complete` false the file ends in a syntax error, so empty values may be incomplete.
pub(super) fn layer(root: &Node, complete: bool, findings: &mut Findings) {
    against(root, "profile", &shape::document(), complete, findings);
}

/// Checks one file of any sort; `name` is its sort in messages.
pub(super) fn against(root: &Node, name: &str, shape: &Shape, complete: bool, findings: &mut Findings) {
    if matches!(root.content, Content::Null) {
        return;
    }
    let mut check = Check { findings, complete };
    check.value(root, shape, Place { name, key: None, owner: None });
}

/// Checks the merged document for missing values.
pub(super) fn whole(root: &Node, findings: &mut Findings) {
    missing(root, "profile", root.span, &shape::DOCUMENT, findings);
}

/// The position of a value.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    key: Option<Span>,
    /// The mapping around it, for hints about what belongs where.
    owner: Option<&'a Node>,
}

struct Check<'a> {
    findings: &'a mut Findings,
    complete: bool,
}

impl Check<'_> {
    fn value(&mut self, node: &Node, shape: &Shape, place: Place<'_>) {
        match (&node.content, shape) {
            (_, Shape::Any) => {}
            (Content::Scalar(scalar), _) if scalar.is_broken() => {}
            (Content::Map(_), Shape::Record(record)) => self.record(node, record, place),
            (Content::Map(_), Shape::Map { keys, values }) => {
                for (name, entry) in node.entries() {
                    self.key(name, entry, *keys);
                    self.value(&entry.node, values, Place { name, key: Some(entry.key), owner: Some(node) });
                }
            }
            (Content::List(items), Shape::List(of) | Shape::WordOrList { items: of, .. }) => {
                for item in items {
                    self.value(item, of, Place { key: None, ..place });
                }
            }
            (Content::Scalar(scalar), Shape::WordOrList { word, .. }) if scalar.text == *word => {}
            (Content::Scalar(scalar), Shape::Text(form)) => self.text(node, scalar, *form, place),
            (Content::Scalar(scalar), Shape::Choice(words)) => {
                let words = || words.iter().map(|(word, _)| word.as_str());
                if !words().any(|word| word == scalar.text) {
                    let message = format!("`{}` must be {}, but is `{}`", place.name, one_of(words()), shortened(scalar.written()));
                    let hint = did_you_mean(&scalar.text, words());
                    self.findings.error(node.span, "bad-value", message).maybe_hint(hint);
                }
            }
            (Content::Scalar(scalar), Shape::Boolean | Shape::Integer { .. } | Shape::Number) => {
                self.typed(node, scalar, shape, place);
            }
            (Content::Null, _) if !self.complete => {}
            _ => self.wrong(node, shape, place),
        }
    }

    fn record(&mut self, node: &Node, record: &Record, place: Place<'_>) {
        let mut chosen: Option<(&str, &Entry)> = None;
        for (name, entry) in node.entries() {
            let Some(field) = record.fields.get(name) else {
                self.unknown(name, entry, node, record, place);
                continue;
            };
            if record.exactly_one.iter().any(|one| one == name) {
                if let Some((first, _)) = chosen {
                    self.findings
                        .error(entry.key, "too-many", format!("`{}` has both `{first}` and `{name}`, but only one is allowed", place.name))
                        .hint("remove one of them");
                }
                chosen = chosen.or(Some((name, entry)));
            }
            if matches!(entry.node.content, Content::Null) && field.nullable {
                continue;
            }
            self.value(&entry.node, &field.shape, Place { name, key: Some(entry.key), owner: Some(node) });
        }
    }

    fn unknown(&mut self, name: &str, entry: &Entry, node: &Node, record: &Record, place: Place<'_>) {
        let known = || record.fields.keys().map(String::as_str);
        let common = shape::service();
        let elsewhere = if record.exactly_one.is_empty() {
            let outside = place.owner.is_some_and(|owner| {
                common.exactly_one.iter().any(|kind| owner.entry(kind).is_some_and(|entry| entry.node.span == node.span))
            });
            (outside && common.fields.contains_key(name))
                .then(|| format!("`{name}` is a field of the service: move it next to `{}`", place.name))
        } else {
            node.entries().find_map(|(kind, _)| match &common.fields.get(kind)?.shape {
                Shape::Record(inner) if record.exactly_one.iter().any(|one| one == kind) && inner.fields.contains_key(name) => {
                    Some(format!("`{name}` is a field of `{kind}`: move it into `{kind}`"))
                }
                _ => None,
            })
        };
        let expected = if record.fields.is_empty() { "it has no fields".to_owned() } else { format!("expected {}", record.names()) };
        let hint = match (elsewhere, did_you_mean(name, known())) {
            (Some(hint), _) => hint,
            (None, Some(hint)) => format!("{hint} ({expected})"),
            (None, None) => expected,
        };
        let message = format!("unknown field `{}` in {}", shortened(name), owner_noun(place.name, record));
        self.findings.error(entry.key, "unknown-field", message).hint(hint);
    }

    fn key(&mut self, name: &str, entry: &Entry, keys: Keys) {
        match keys {
            Keys::Name => {
                if let Err(invalid) = name.parse::<ServiceName>() {
                    self.findings.error(entry.key, "bad-name", invalid.to_string());
                }
            }
            Keys::Integer if name.starts_with(['0', '+']) || !name.parse::<u16>().is_ok_and(|port| port > 0) => {
                let hint = match range(name) {
                    Some(first) => each_port(first),
                    None => "write the container's port first: `5432: 15432`".to_owned(),
                };
                self.findings
                    .error(entry.key, "bad-value", format!("`{}` is not a port: a port is a number from 1 to 65535", shortened(name)))
                    .hint(hint);
            }
            Keys::Integer | Keys::Text => {}
        }
    }

    fn text(&mut self, node: &Node, scalar: &Scalar, form: TextForm, place: Place<'_>) {
        let good = match form {
            TextForm::Free => return,
            TextForm::Size => scalar.text.parse::<Size>().is_ok(),
            TextForm::Duration => scalar.text.parse::<Period>().is_ok(),
        };
        if good {
            return;
        }
        let (code, noun, hint) = match form {
            TextForm::Duration => ("bad-duration", "a duration", "write a whole number and a unit: `300ms`, `30s`, `5m`, `24h`"),
            _ => ("bad-size", "a size", "write a whole number and a unit: `64MiB`, `1GiB`, `500MB`"),
        };
        let message = format!("`{}` must be {noun}, but is `{}`", place.name, shortened(scalar.written()));
        self.findings.error(node.span, code, message).hint(hint);
    }

    fn typed(&mut self, node: &Node, scalar: &Scalar, shape: &Shape, place: Place<'_>) {
        let text = scalar.text.as_str();
        let good = match shape {
            Shape::Boolean => matches!(text, "true" | "false"),
            Shape::Integer { minimum, maximum } => integer(text).is_some_and(|number| (*minimum..=*maximum).contains(&number)),
            _ => value::number(text).is_some(),
        };
        if good && scalar.typed_by_spelling() {
            return;
        }
        let hint = match (good, shape) {
            (true, _) => Some("remove the quotes".to_owned()),
            (false, Shape::Boolean) => match text.to_lowercase().as_str() {
                "yes" | "on" | "y" | "true" | "1" => Some("write `true`".to_owned()),
                "no" | "off" | "n" | "false" | "0" => Some("write `false`".to_owned()),
                _ => None,
            },
            (false, Shape::Integer { .. }) => {
                range(text).map(|first| format!("a range is not allowed: write one number, such as `{}: {first}`", place.name))
            }
            _ => None,
        };
        let message = format!("`{}` must be {}, but is `{}`", place.name, shape.noun(), shortened(scalar.written()));
        self.findings.error(node.span, "wrong-type", message).maybe_hint(hint);
    }

    fn wrong(&mut self, node: &Node, shape: &Shape, place: Place<'_>) {
        // YAML that could not be parsed is represented as empty.
        if self.findings.touches(node.span) {
            return;
        }
        let span = match node.content {
            Content::Scalar(_) => node.span,
            _ => place.key.unwrap_or(node.span),
        };
        let found = match node.content {
            Content::Null => "is empty".to_owned(),
            _ => format!("is {}", node.noun()),
        };
        let message = format!("`{}` must be {}, but {found}", place.name, shape.noun());
        self.findings.error(span, "wrong-type", message).maybe_hint(rewritten(node, shape, place.name));
    }
}

/// The first port of a range such as `8000-8010`.
fn range(text: &str) -> Option<u16> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first < last).then_some(first)
}

fn each_port(first: u16) -> String {
    format!("a range is not allowed: write each port, the container's first, such as `{first}: {first}`")
}

/// How to write the same in the required shape.
fn rewritten(node: &Node, shape: &Shape, name: &str) -> Option<String> {
    match (&node.content, shape) {
        (Content::Null, Shape::Record(record)) if record.is_service() => {
            Some(format!("write `{name}: {{ postgres: {{}} }}`, or another kind"))
        }
        (Content::Null, Shape::Record(_) | Shape::Map { .. }) => Some(format!("write `{name}: {{}}`, or remove it")),
        (Content::Null, Shape::List(_)) => Some(format!("write `{name}: []`, or remove it")),
        (Content::Null, Shape::Text(TextForm::Free)) => Some(format!("write `{name}: \"\"` for empty text, or remove it")),
        // Compose takes the directory alone.
        (Content::Scalar(scalar), Shape::Record(record)) if record.fields.contains_key("context") => {
            Some(format!("write `{name}: {{ context: {} }}`", shortened(scalar.written())))
        }
        (Content::Scalar(scalar), Shape::List(items) | Shape::WordOrList { items, .. })
            if matches!(**items, Shape::Text(_) | Shape::Integer { .. }) =>
        {
            let words: Vec<&str> = scalar.written().split_whitespace().collect();
            Some(format!("write `{name}: [{}]`", shortened(&words.join(", "))))
        }
        (Content::List(items), Shape::Map { keys: Keys::Integer, .. }) => {
            // Where other tools write `host:container/protocol`.
            let (first, protocol) = items.first().and_then(Node::text).map(|text| text.split_once('/').unwrap_or((text, "tcp")))?;
            let mut parts = first.rsplit(':');
            let container = parts.next()?;
            let host = parts.next().unwrap_or(container);
            let advice = match (range(container), range(host)) {
                (Some(first), _) if protocol == "tcp" => return Some(each_port(first)),
                (Some(_), _) => "a range is not allowed: write each port, such as",
                (None, Some(_)) => "a range is not allowed: write one port of the host, such as",
                (None, None) => "write",
            };
            let one = |port: &str| range(port).map_or_else(|| shortened(port), |first| first.to_string());
            if protocol != "tcp" {
                let host = if host.parse::<u16>().is_ok() || range(host).is_some() { host } else { container };
                return Some(format!(
                    "{advice} `publish: [{{ port: {}, host: {}, protocol: {} }}]` under `container`",
                    one(container),
                    one(host),
                    shortened(protocol)
                ));
            }
            Some(format!("{advice} `{name}: {{ {}: {} }}`, the container's port first", one(container), one(host)))
        }
        (Content::List(items), Shape::Map { values, .. }) => {
            let first = items.first().and_then(Node::text)?;
            let value = match values.as_ref() {
                Shape::Choice(words) => words.first()?.0.as_str(),
                Shape::Record(_) => "{}",
                _ => "value",
            };
            let key = first.split(['=', ':']).next().unwrap_or(first);
            Some(format!("write `{name}: {{ {}: {value} }}`", shortened(key)))
        }
        _ => None,
    }
}

fn owner_noun(name: &str, record: &Record) -> String {
    if record.is_service() { format!("the service `{name}`, nor a kind") } else { format!("`{name}`") }
}

/// A decimal whole number in an unambiguous form.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The missing values of a document. A mapping with an unknown key is skipped, because that key was probably meant.
pub(super) fn missing(node: &Node, name: &str, at: Span, record: &Record, findings: &mut Findings) {
    // An empty file is a mapping without fields.
    if node.map().is_none() && !matches!(node.content, Content::Null) {
        return;
    }
    let has = |field: &str| node.entry(field).is_some();
    let slips = node.entries().any(|(key, entry)| !record.fields.contains_key(key) && findings.touches(entry.key));
    if !slips {
        for (field, _) in record.fields.iter().filter(|(field, known)| known.required && !has(field)) {
            findings
                .error(at, "missing-field", format!("`{name}` needs `{field}`"))
                .maybe_hint((field == "services").then(|| "write at least `services: { db: { postgres: {} } }`".to_owned()));
        }
        if !record.exactly_one.is_empty() && !record.exactly_one.iter().any(|one| has(one)) {
            let of = if record.is_service() { "no kind" } else { "nothing in it" };
            let message = format!("`{name}` has {of}: it needs {}", one_of(record.exactly_one.iter().map(String::as_str)));
            findings.error(at, "missing-kind", message);
        }
    }
    for (key, entry) in node.entries() {
        if let Some(field) = record.fields.get(key) {
            missing_within(&entry.node, key, entry.key, &field.shape, findings);
        }
    }
}

fn missing_within(node: &Node, name: &str, at: Span, shape: &Shape, findings: &mut Findings) {
    match shape {
        Shape::Record(_) if matches!(node.content, Content::Null) => {}
        Shape::Record(record) => missing(node, name, at, record, findings),
        Shape::Map { values, .. } => {
            for (key, entry) in node.entries() {
                missing_within(&entry.node, key, entry.key, values, findings);
            }
        }
        Shape::List(items) | Shape::WordOrList { items, .. } => {
            for item in node.items() {
                missing_within(item, name, item.span, items, findings);
            }
        }
        _ => {}
    }
}
