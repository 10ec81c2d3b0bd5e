//! Configs and secrets of a service: files in its container.

use devenv_document::tree::{Content, Node};
use serde_json::{Map, Value, json};

use crate::project::Project;

/// Whose directory the files go to, unless their target says another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Config,
    Secret,
}

/// A mounted file, or one that is written into the container.
pub(crate) enum Placed {
    Mounted(Value),
    /// With its path.
    Written(String, Value),
}

pub(crate) fn files(service: &Node, sort: Sort, project: &mut Project<'_>) -> Vec<Placed> {
    let section = if sort == Sort::Config { "configs" } else { "secrets" };
    let mut placed = Vec::new();
    let Some(node) = service.get(section) else { return placed };
    if !matches!(node.content, Content::List(_) | Content::Null) {
        project.values().wrong(node.span, section, "a list", node);
    }
    for item in node.items() {
        let Some(source) = project.values().text(item, "source") else {
            project.findings.error(item.span, "missing-field", format!("`{section}` needs a name or `source`"));
            continue;
        };
        let Some(definition) = project.root.get(section).and_then(|all| all.get(&source)).cloned() else {
            let message = format!("`{source}` is not defined under `{section}` at the top level of the file");
            project.findings.error(item.span, "unknown-file", message);
            continue;
        };
        let target = project.values().text(item, "target").unwrap_or_else(|| source.clone());
        let directory = if sort == Sort::Config { "" } else { "/run/secrets" };
        let path = if target.starts_with('/') { target } else { format!("{directory}/{target}") };
        let mut value = Map::new();
        for name in ["uid", "gid"] {
            if let Some(number) = project.values().number::<u32>(item, name) {
                value.insert(name.to_owned(), json!(number));
            }
        }
        if let Some(mode) = item.get("mode") {
            match mode.text().and_then(self::mode) {
                Some(mode) => {
                    value.insert("mode".to_owned(), json!(format!("0{mode:o}")));
                }
                None => project.values().wrong(mode.span, "mode", "a file mode such as `0440`", mode),
            }
        }
        let (file, variable, content) = {
            let mut values = project.values();
            (values.text(&definition, "file"), values.text(&definition, "environment"), values.text(&definition, "content"))
        };
        match (file, variable, content) {
            (Some(file), None, None) => {
                // With an owner or a mode of its own it cannot be the file on the host itself.
                if value.is_empty() {
                    let file = if file.starts_with(['.', '/']) { file } else { format!("./{file}") };
                    placed.push(Placed::Mounted(json!({ "source": file, "target": path, "read_only": true })));
                    continue;
                }
                value.insert("file".to_owned(), json!(file));
            }
            (None, Some(variable), None) => {
                let Some(content) = project.variable(&variable) else {
                    let message = format!("`{source}` takes the variable `{variable}`, which is not set");
                    project
                        .findings
                        .error(item.span, "unset-variable", message)
                        .hint(format!("set it before `devenv up`: `export {variable}=…`"));
                    continue;
                };
                value.insert("content".to_owned(), json!(content));
                value.insert("from_variable".to_owned(), json!(variable));
            }
            (None, None, Some(content)) => {
                value.insert("content".to_owned(), json!(content));
            }
            _ => {
                let message = format!("`{source}` needs exactly one of `file`, `environment` and `content`");
                project.findings.error(definition.span, "missing-field", message);
                continue;
            }
        }
        placed.push(Placed::Written(path, value.into()));
    }
    placed
}

/// Octal with a leading zero, else decimal, as YAML reads it.
fn mode(text: &str) -> Option<u32> {
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let mode = octal.map_or_else(|| text.parse().ok(), |digits| u32::from_str_radix(digits, 8).ok());
    mode.filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_mode_is_parsed_as_yaml_parses_numbers() {
        for (text, mode) in
            [("0440", Some(0o440)), ("0o400", Some(0o400)), ("288", Some(0o440)), ("0", Some(0)), ("x", None), ("99999", None)]
        {
            assert_eq!(super::mode(text), mode, "{text}");
        }
    }
}
