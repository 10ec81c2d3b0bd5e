//! The files and directories that a document names.

use super::{
    source::Span,
    tree::Node,
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
        each(service.node.get("prometheus").and_then(|fields| fields.get("rules")), Need::Text, &mut found);
        each(service.node.get("grafana").and_then(|fields| fields.get("dashboards")), Need::Text, &mut found);
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
