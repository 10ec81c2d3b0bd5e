//! `build` of a service.

use devenv_document::{
    spelling::did_you_mean,
    tree::{Content, Node},
};
use devenv_spec::Repository;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{paths::is_local, project::Project, words::size_of_profile};

pub(crate) fn build(node: &Node, project: &mut Project<'_>) -> Map<String, Value> {
    let mut build = Map::new();
    let context = project.values().text(node, "context").unwrap_or_else(|| ".".to_owned());
    let repository = Repository::parse(&context).is_some();
    if !is_local(&context) && !repository {
        let span = node.get("context").map_or(node.span, |context| context.span);
        project
            .findings
            .error(
                span,
                "not-supported",
                format!("the build context `{context}` is neither a directory nor the address of a Git repository"),
            )
            .hint("an address over HTTP must end with `.git`, before `#BRANCH:DIRECTORY`; unpack archives, and give their directory");
    }
    let context = if repository || context.starts_with(['.', '/']) { context } else { format!("./{context}") };
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
    let labels: IndexMap<String, String> =
        project.values().pairs(node, "labels").into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
    if !labels.is_empty() {
        build.insert("labels".to_owned(), json!(labels));
    }
    let contexts = contexts(node, project);
    if !contexts.is_empty() {
        build.insert("additional_contexts".to_owned(), json!(contexts));
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

/// Directories, repositories, images, and images of other services.
fn contexts(node: &Node, project: &mut Project<'_>) -> IndexMap<String, String> {
    let mut contexts = IndexMap::new();
    for (name, value) in project.values().pairs(node, "additional_contexts") {
        let value = value.unwrap_or_default();
        let span = node.get("additional_contexts").and_then(|all| all.get(&name)).map_or(node.span, |context| context.span);
        let value = if let Some(service) = value.strip_prefix("service:") {
            let known = project.names.get(service).cloned();
            let Some(known) = known.filter(|_| project.enabled.contains(service)) else {
                let is_known = project.names.contains_key(service);
                let reason = if is_known { "which is left out by its `profiles`" } else { "which does not exist" };
                let message = format!("the additional context `{name}` is the image of the service `{service}`, {reason}");
                let hint = if is_known {
                    "take its profile in with `--profile`, or remove `profiles` from it".to_owned()
                } else {
                    did_you_mean(service, project.names.keys().map(String::as_str))
                        .unwrap_or_else(|| "name a service of this file".to_owned())
                };
                project.findings.error(span, "unknown-service", message).hint(hint);
                continue;
            };
            format!("service:{known}")
        } else if is_local(&value) || value.starts_with("docker-image://") || Repository::parse(&value).is_some() {
            value
        } else {
            let message = format!("the additional context `{name}` is no directory, image, service or Git repository, but `{value}`");
            project.findings.error(span, "not-supported", message).hint("unpack it, and give its directory");
            continue;
        };
        contexts.insert(name, value);
    }
    contexts
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
