//! Short forms to long ones, in the tree, so that layers merge key by key: `environment: [A=1]` becomes a mapping, a text where
//! a list is meant becomes a list.

use devenv_document::{
    source::{Findings, Span},
    tree::{Content, Entry, Node, Scalar},
};
use indexmap::IndexMap;

pub(crate) fn text_node(span: Span, text: impl Into<String>) -> Node {
    Node { span, content: Content::Scalar(Scalar { text: text.into(), plain: false, filled: None }) }
}

fn null(span: Span) -> Node {
    Node { span, content: Content::Null }
}

fn map_node(span: Span, entries: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    let entries = entries.into_iter().map(|(name, node)| (name.to_owned(), Entry { key: node.span, node }));
    Node { span, content: Content::Map(entries.collect()) }
}

/// One file.
pub(crate) fn document(root: &mut Node, findings: &mut Findings) {
    for service in root.get_mut("services").and_then(Node::map_mut).into_iter().flat_map(|services| services.values_mut()) {
        self::service(&mut service.node, findings);
    }
}

/// One service.
pub(crate) fn service(node: &mut Node, findings: &mut Findings) {
    for name in ["environment", "labels", "annotations", "sysctls"] {
        pairs(node.get_mut(name), findings);
    }
    if let Some(build) = node.get_mut("build") {
        if build.scalar().is_some() {
            *build = map_node(build.span, [("context", build.clone())]);
        }
        for name in ["args", "labels", "additional_contexts"] {
            pairs(build.get_mut(name), findings);
        }
        listed(build.get_mut("extra_hosts"), findings);
        // `{ default: , deploy: ./key }` as `[default, deploy=./key]`.
        if let Some(ssh) = build.get_mut("ssh").filter(|ssh| ssh.map().is_some()) {
            let text = |(name, entry): (&str, &Entry)| match entry.node.text() {
                Some(path) => text_node(entry.key, format!("{name}={path}")),
                None => text_node(entry.key, name),
            };
            ssh.content = Content::List(ssh.entries().map(text).collect());
        }
        for name in ["ssh", "platforms", "tags", "cache_from", "cache_to", "no_cache_filter"] {
            list(build.get_mut(name));
        }
    }
    if let Some(deploy) = node.get_mut("deploy") {
        pairs(deploy.get_mut("labels"), findings);
    }
    listed(node.get_mut("extra_hosts"), findings);
    for name in
        ["dns", "dns_search", "dns_opt", "tmpfs", "env_file", "label_file", "expose", "cap_add", "cap_drop", "security_opt", "profiles"]
    {
        list(node.get_mut(name));
    }
    for item in node.get_mut("env_file").and_then(|list| items_mut(list)).into_iter().flatten() {
        if item.scalar().is_some() {
            *item = map_node(item.span, [("path", item.clone())]);
        }
    }
    for name in ["post_start", "pre_stop", "pre_start"] {
        for item in node.get_mut(name).and_then(|list| items_mut(list)).into_iter().flatten() {
            pairs(item.get_mut("environment"), findings);
        }
    }
    let watch = node.get_mut("develop").and_then(|develop| develop.get_mut("watch")).and_then(|list| items_mut(list));
    for rule in watch.into_iter().flatten() {
        if let Some(exec) = rule.get_mut("exec") {
            pairs(exec.get_mut("environment"), findings);
        }
        for name in ["ignore", "include"] {
            list(rule.get_mut(name));
        }
    }
    // `gpus: all`.
    if let Some(gpus) = node.get_mut("gpus").filter(|gpus| gpus.scalar().is_some()) {
        let all = map_node(gpus.span, [("count", gpus.clone())]);
        gpus.content = Content::List(vec![all]);
    }
    for request in node.get_mut("gpus").and_then(|list| items_mut(list)).into_iter().flatten() {
        pairs(request.get_mut("options"), findings);
    }
    named(node.get_mut("depends_on"), |span| map_node(span, [("condition", text_node(span, "service_started"))]));
    named(node.get_mut("networks"), null);
    if let Some(extends) = node.get_mut("extends").filter(|extends| extends.scalar().is_some()) {
        *extends = map_node(extends.span, [("service", extends.clone())]);
    }
    for name in ["configs", "secrets"] {
        for item in node.get_mut(name).and_then(|list| items_mut(list)).into_iter().flatten() {
            if item.scalar().is_some() {
                *item = map_node(item.span, [("source", item.clone())]);
            }
        }
    }
}

fn items_mut(node: &mut Node) -> Option<&mut Vec<Node>> {
    match &mut node.content {
        Content::List(items) => Some(items),
        _ => None,
    }
}

/// `[A=1, B]` as `{ A: 1, B: }`.
fn pairs(node: Option<&mut Node>, findings: &mut Findings) {
    let Some(node) = node else { return };
    let Content::List(items) = &node.content else { return };
    let mut entries = IndexMap::new();
    for item in items {
        let Some(text) = item.text() else {
            findings.error(item.span, "wrong-type", format!("expected `NAME=value`, but found {}", item.noun()));
            continue;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, text_node(item.span, value)),
            None => (text, null(item.span)),
        };
        entries.insert(name.to_owned(), Entry { key: item.span, node: value });
    }
    node.content = Content::Map(entries);
}

/// `{ host: address }` as `[host=address]`.
fn listed(node: Option<&mut Node>, findings: &mut Findings) {
    let Some(node) = node else { return };
    let Content::Map(entries) = &node.content else { return };
    let mut items = Vec::new();
    for (name, entry) in entries {
        let values: Vec<&Node> = if entry.node.list().is_some() { entry.node.items().collect() } else { vec![&entry.node] };
        for value in values {
            match value.text() {
                Some(value) => items.push(text_node(entry.key, format!("{name}={value}"))),
                None => {
                    findings.error(entry.key, "wrong-type", format!("`{name}` needs a value"));
                }
            }
        }
    }
    node.content = Content::List(items);
}

/// A text as a list of one.
fn list(node: Option<&mut Node>) {
    if let Some(node) = node.filter(|node| node.scalar().is_some()) {
        node.content = Content::List(vec![node.clone()]);
    }
}

/// `[a, b]` as a mapping from each name to what `value` makes.
fn named(node: Option<&mut Node>, value: impl Fn(Span) -> Node) {
    let Some(node) = node else { return };
    let Content::List(items) = &node.content else { return };
    let entries = items.iter().filter_map(|item| Some((item.text()?.to_owned(), Entry { key: item.span, node: value(item.span) })));
    node.content = Content::Map(entries.collect());
}
