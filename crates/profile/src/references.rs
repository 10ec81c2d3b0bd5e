//! The files and directories that a document names.

use super::{
    source::Span,
    tree::{Content, Node, Scalar},
};

/// A path of the profile, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: String,
    pub(super) span: Span,
    pub(super) need: Need,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It must be there.
    File,
    /// Its text goes into the service's configuration.
    Text,
    /// It is used later, and something may make it before that.
    Later,
}

/// Lists of files whose text is wanted, and what the names of such files end in.
const TEXTS: [(&str, &str, &[&str]); 2] = [("prometheus", "rules", &["yml", "yaml"]), ("grafana", "dashboards", &["json"])];

/// Puts the files of a directory in its place. `files` lists what a directory holds, and is none for anything else.
pub(super) fn expand(root: &mut Node, files: impl Fn(&Node, &str) -> Option<Vec<String>>) {
    let services = root.get_mut("services").and_then(Node::map_mut);
    for service in services.into_iter().flat_map(|services| services.values_mut()) {
        for (kind, field, endings) in TEXTS {
            let list = service.node.get_mut(kind).and_then(|fields| fields.get_mut(field));
            let Some(Content::List(items)) = list.map(|list| &mut list.content) else { continue };
            let expanded = items.iter().flat_map(|item| match item.text().and_then(|path| files(item, path)) {
                None => vec![item.clone()],
                Some(paths) => paths
                    .into_iter()
                    .filter(|path| path.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending)))
                    .map(|text| Node { span: item.span, content: Content::Scalar(Scalar { text, plain: true, filled: None }) })
                    .collect(),
            });
            *items = expanded.collect();
        }
    }
}

/// Every path that is named, except for `extends` and `env_file`, which have been read by then.
pub(super) fn files(root: &Node) -> Vec<Named> {
    let mut found = Vec::new();
    for (_, service) in root.get("services").into_iter().flat_map(Node::entries) {
        for kind in ["postgres", "redis", "kafka", "redpanda"] {
            let Some(fields) = service.node.get(kind) else { continue };
            for field in ["admin_init", "init", "seed"] {
                each(fields.get(field), Need::File, &mut found);
            }
            for (_, database) in fields.get("databases").into_iter().flat_map(Node::entries) {
                each(database.node.get("init"), Need::File, &mut found);
                each(database.node.get("seed"), Need::File, &mut found);
            }
        }
        for (kind, field, _) in TEXTS {
            each(service.node.get(kind).and_then(|fields| fields.get(field)), Need::Text, &mut found);
        }
        if let Some(container) = service.node.get("container") {
            one(container.get("build").and_then(|build| build.get("context")), Need::File, &mut found);
            for volume in container.get("volumes").into_iter().flat_map(Node::items) {
                let source = volume.get("source").filter(|node| node.text().is_some_and(|path| path.starts_with(['.', '/'])));
                one(source, Need::Later, &mut found);
            }
        }
        one(service.node.get("process").and_then(|fields| fields.get("directory")), Need::File, &mut found);
        for watch in service.node.get("watch").into_iter().flat_map(Node::items) {
            each(watch.get("paths"), Need::Later, &mut found);
        }
    }
    found
}

fn each(list: Option<&Node>, need: Need, found: &mut Vec<Named>) {
    for node in list.into_iter().flat_map(Node::items) {
        one(Some(node), need, found);
    }
}

fn one(node: Option<&Node>, need: Need, found: &mut Vec<Named>) {
    let Some(node) = node else { return };
    if let Some(path) = node.text() {
        found.push(Named { path: path.to_owned(), span: node.span, need });
    }
}
