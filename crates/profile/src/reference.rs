//! `docs/reference/profile.md`, generated from the same types as the checks. Only a test writes it.

use std::fmt::Write;

use super::shape::{self, Field, Keys, Record, Shape};

#[test]
fn the_reference_is_the_one_of_the_types() {
    super::tests::stays_current("docs/reference/profile.md", &reference());
}

const INTRODUCTION: &str = "\
# The profile, field by field

<!-- Generated from the types in crates/profile and crates/kinds by `make reference`. -->

A profile is a YAML file that describes an environment. devenv finds profiles by path, or by name in the project's `profiles/`,
in `~/.config/devenv/profiles`, and among the built-in profiles, in that order. `devenv validate` reports all problems of a profile
at once, each with its line. Editors use `schema/profile.schema.json` for completion and checks:

```yaml
# yaml-language-server: $schema=../schema/profile.schema.json
```

## Merging

`extends` lists profiles by name or path. They are merged from left to right, and the file itself comes last.

- Mappings merge by key, and keep the order in which keys first appear. Lists and scalars are replaced.
- A container's `volumes` merge by `target`, a service's `ports` by container port.
- Where only one of several fields is allowed (a service's kind, the type of a probe, `image` and `build`), a later one replaces an earlier one.
- A profile that is extended twice is merged once, at its first position. A profile that extends its own name extends the one it shadows.
- A path in `extends` is resolved relative to the file that contains it, then to the project. All other paths are relative to the project.

`devenv config` prints the result. `devenv config --explain services.db.postgres.version` shows where a value comes from.

## Variables

Values can contain `${NAME}`, `${NAME:-default}` (also used if empty), `${NAME-default}`, `${NAME:?message}`, and `$$` for a dollar sign.
`$NAME` without braces is not expanded. An unset variable is an error. Inside `{…}` and `[…]`, YAML requires quotes: `\"${NAME}\"`.

The order of precedence is: the process environment, then `env_file` (later files override earlier ones), then `variables`.
`extends` and `env_file` can use only the process environment. An `env_file` has the syntax of Compose.

## Values

Sizes are written `64MiB`, `1GiB`, `500MB`, durations `300ms`, `30s`, `5m`, `24h`. Text fields take numbers and words without quotes,
exactly as written (`version: 8.0` is `8.0`, `NO` is `NO`, `0755` is `0755`). Fields that begin with `x-` are left alone. Do not quote numbers, `true` and `false`. `null` resets a field to its default.
";

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## The document\n");
    fields(&mut text, &shape::DOCUMENT, |_| true);
    let service = shape::service();
    text.push_str("\n## A service\n\nA service's name is `[a-z][a-z0-9-]{0,39}`. It has exactly one kind, and any of these:\n");
    let is_kind = |name: &str| service.exactly_one.iter().any(|kind| kind == name);
    fields(&mut text, service, |name| !is_kind(name));
    inner(&mut text, "", service, 3, &|name| !is_kind(name));
    text.push_str("\n## The kinds\n");
    for kind in &service.exactly_one {
        if let Shape::Record(record) = &service.fields[kind.as_str()].shape {
            let _ = write!(text, "\n### `{kind}`\n\n{}\n", service.fields[kind.as_str()].description);
            fields(&mut text, record, |_| true);
            inner(&mut text, &format!("{kind}."), record, 4, &|_| true);
        }
    }
    text
}

fn fields(text: &mut String, record: &Record, wanted: impl Fn(&str) -> bool) {
    if !record.fields.keys().any(|name| wanted(name)) {
        return;
    }
    text.push_str("\n| field | value | default | |\n|---|---|---|---|\n");
    for (name, field) in record.fields.iter().filter(|(name, _)| wanted(name)) {
        let default = if field.required { "required".to_owned() } else { default(field) };
        let _ = writeln!(text, "| `{name}` | {} | {default} | {} |", value(&field.shape), field.description.replace('|', "\\|"));
    }
}

/// The mappings within the fields, each under a heading of its own.
fn inner(text: &mut String, path: &str, record: &Record, level: usize, wanted: &dyn Fn(&str) -> bool) {
    for (name, field) in record.fields.iter().filter(|(name, _)| wanted(name)) {
        let (path, found) = match &field.shape {
            Shape::Record(record) => (format!("{path}{name}"), record),
            Shape::Map { values, .. } => match values.as_ref() {
                Shape::Record(record) => (format!("{path}{name}.NAME"), record),
                _ => continue,
            },
            Shape::List(items) => match items.as_ref() {
                Shape::Record(record) => (format!("{path}{name}[]"), record),
                _ => continue,
            },
            _ => continue,
        };
        if found.is_service() {
            continue;
        }
        let _ = write!(text, "\n{} `{path}`\n", "#".repeat(level));
        if !found.exactly_one.is_empty() {
            text.push_str("\nExactly one of:\n");
        }
        fields(text, found, |_| true);
        inner(text, &format!("{path}."), found, level, &|_| true);
    }
}

fn value(shape: &Shape) -> String {
    match shape {
        Shape::Map { keys: Keys::Integer, values } => format!("mapping of ports to {}", value(values)),
        Shape::Map { values, .. } => format!("mapping of names to {}", value(values)),
        Shape::List(items) => format!("list of {}", value(items)),
        Shape::WordOrList { word, items } => format!("`{word}`, or list of {}", value(items)),
        Shape::Record(_) => "mapping".to_owned(),
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { minimum: 0, maximum } if *maximum == i64::from(u16::MAX) => "0 to 65535".to_owned(),
        Shape::Text(shape::TextForm::Size) => "size".to_owned(),
        Shape::Text(shape::TextForm::Duration) => "duration".to_owned(),
        Shape::Choice(words) => words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        other => other.noun(),
    }
}

fn default(field: &Field) -> String {
    match &field.default {
        None => String::new(),
        Some(value) if value.as_object().is_some_and(serde_json::Map::is_empty) => String::new(),
        Some(value) if value.as_array().is_some_and(Vec::is_empty) => String::new(),
        Some(value) if value.is_object() => String::new(),
        Some(value) => format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    }
}
