//! `build` of a service.

use devenv_document::tree::{Content, Node};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{paths::is_local, project::Project, words::size_of_profile};

pub(crate) fn build(node: &Node, project: &mut Project<'_>) -> Map<String, Value> {
    let mut build = Map::new();
    let context = project.values().text(node, "context").unwrap_or_else(|| ".".to_owned());
    if !is_local(&context) {
        let span = node.get("context").map_or(node.span, |context| context.span);
        project
            .findings
            .error(span, "not-supported", format!("the build context `{context}` is not a directory"))
            .hint("clone the repository, and give its directory");
    }
    let context = if context.starts_with(['.', '/']) { context } else { format!("./{context}") };
    build.insert("context".to_owned(), json!(context));
    for (theirs, ours) in [("dockerfile", "dockerfile"), ("dockerfile_inline", "inline"), ("target", "target"), ("network", "network")] {
        if let Some(text) = project.values().text(node, theirs) {
            build.insert(ours.to_owned(), json!(text));
        }
    }
    let mut args: IndexMap<String, String> = IndexMap::new();
    for (name, value) in project.values().pairs(node, "args") {
        if let Some(value) = value.or_else(|| project.variable(&name)) {
            args.insert(name, value);
        }
    }
    if !args.is_empty() {
        build.insert("args".to_owned(), json!(args));
    }
    for name in ["labels", "additional_contexts"] {
        let pairs: IndexMap<String, String> =
            project.values().pairs(node, name).into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
        if !pairs.is_empty() {
            build.insert(name.to_owned(), json!(pairs));
        }
    }
    for (name, entry) in node.get("additional_contexts").into_iter().flat_map(Node::entries) {
        let value = entry.node.text().unwrap_or_default();
        if !is_local(value) && !value.starts_with("docker-image://") {
            let message = format!("the additional context `{name}` is neither a directory nor an image, but `{value}`");
            let hint = match value.strip_prefix("service:") {
                Some(service) => format!("give `{service}` an `image`, and write `docker-image://IMAGE`"),
                None => "clone the repository, and give its directory".to_owned(),
            };
            project.findings.error(entry.node.span, "not-supported", message).hint(hint);
        }
    }
    for name in ["extra_hosts", "ssh", "platforms", "cache_from"] {
        let texts = project.values().texts(node, name);
        if !texts.is_empty() {
            build.insert(name.to_owned(), json!(texts));
        }
    }
    for name in ["no_cache", "pull"] {
        if project.values().boolean(node, name) == Some(true) {
            build.insert(name.to_owned(), json!(true));
        }
    }
    if !project.values().texts(node, "no_cache_filter").is_empty() {
        build.insert("no_cache".to_owned(), json!(true));
    }
    if let Some(size) = project.values().size(node, "shm_size") {
        build.insert("shm_size".to_owned(), json!(size_of_profile(size)));
    }
    secrets(node, project, &mut build);
    build
}

/// By name or in the long form; from a file or a variable.
fn secrets(node: &Node, project: &mut Project<'_>, build: &mut Map<String, Value>) {
    let mut secrets = Map::new();
    for item in node.get("secrets").into_iter().flat_map(Node::items) {
        let source = match &item.content {
            Content::Scalar(scalar) => Some(scalar.text.clone()),
            _ => project.values().text(item, "source"),
        };
        let Some(source) = source else { continue };
        let id = project.values().text(item, "target").unwrap_or_else(|| source.clone());
        let Some(definition) = project.root.get("secrets").and_then(|all| all.get(&source)).cloned() else {
            let message = format!("`{source}` is not defined under `secrets` at the top level of the file");
            project.findings.error(item.span, "unknown-file", message);
            continue;
        };
        let mut values = project.values();
        if let Some(file) = values.text(&definition, "file") {
            secrets.insert(id, json!({ "file": file }));
        } else if let Some(variable) = values.text(&definition, "environment") {
            secrets.insert(id, json!({ "from_env": variable }));
        }
    }
    if !secrets.is_empty() {
        build.insert("secrets".to_owned(), secrets.into());
    }
}
