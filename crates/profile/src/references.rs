//! The files and directories that a document names.

use devenv_kinds::capability::{FileField, FileUse};
use devenv_spec::Repository;

use super::{
    source::Span,
    tree::{Content, Node, Scalar},
};

/// A path of the profile, and its position.
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

/// Puts the files of a directory in its place. `files` lists what a directory holds, and is none for anything else.
pub(super) fn expand(root: &mut Node, files: impl Fn(&Node, &str) -> Option<Vec<String>>) {
    let services = root.get_mut("services").and_then(Node::map_mut);
    for service in services.into_iter().flat_map(|services| services.values_mut()) {
        for (kind, field, endings) in texts() {
            let list = [kind].iter().chain(field.path).try_fold(&mut service.node, |node, name| node.get_mut(name));
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
        for kind in devenv_kinds::all() {
            let Some(fields) = service.node.get(kind.name()) else { continue };
            for field in kind.files() {
                let mut nodes = Vec::new();
                below(fields, field.path, &mut nodes);
                let need = match field.used_for {
                    FileUse::Script => Need::File,
                    FileUse::Needed => {
                        nodes.retain(|node| node.text().is_none_or(|text| Repository::parse(text).is_none()));
                        Need::File
                    }
                    FileUse::Text(_) => Need::Text,
                    FileUse::Mounted => {
                        nodes.retain(|node| node.text().is_some_and(|path| path.starts_with(['.', '/'])));
                        Need::Later
                    }
                };
                for node in nodes {
                    each(node, need, &mut found);
                }
            }
        }
        for watch in service.node.get("watch").into_iter().flat_map(Node::items) {
            if let Some(paths) = watch.get("paths") {
                each(paths, Need::Later, &mut found);
            }
        }
    }
    found
}

/// Mounted by a name, which is that of a volume.
pub(super) fn volumes(root: &Node) -> Vec<(String, Span)> {
    let mut nodes = Vec::new();
    for (_, service) in root.get("services").into_iter().flat_map(Node::entries) {
        for kind in devenv_kinds::all() {
            let Some(fields) = service.node.get(kind.name()) else { continue };
            for field in kind.files().iter().filter(|field| matches!(field.used_for, FileUse::Mounted)) {
                below(fields, field.path, &mut nodes);
            }
        }
    }
    let named = nodes.into_iter().filter_map(|node| Some((node.text()?.to_owned(), node.span)));
    named.filter(|(name, _)| !name.is_empty() && !name.contains('/') && !name.starts_with('.')).collect()
}

/// The fields whose files' text is wanted, and what the names of such files end in.
fn texts() -> impl Iterator<Item = (&'static str, &'static FileField, &'static [&'static str])> {
    devenv_kinds::all().flat_map(|kind| {
        kind.files().iter().filter_map(move |field| match field.used_for {
            FileUse::Text(endings) => Some((kind.name(), field, endings)),
            FileUse::Script | FileUse::Needed | FileUse::Mounted => None,
        })
    })
}

/// What stands at the path from a node down; `*` is every entry of a mapping or a list.
fn below<'a>(node: &'a Node, path: &[&str], found: &mut Vec<&'a Node>) {
    match path.split_first() {
        None => found.push(node),
        Some((&"*", rest)) => {
            node.entries().for_each(|(_, entry)| below(&entry.node, rest, found));
            node.items().for_each(|item| below(item, rest, found));
        }
        Some((name, rest)) => {
            if let Some(node) = node.get(name) {
                below(node, rest, found);
            }
        }
    }
}

/// A path, or a list of paths.
fn each(node: &Node, need: Need, found: &mut Vec<Named>) {
    for node in node.items().chain([node]) {
        if let Some(path) = node.text() {
            found.push(Named { path: path.to_owned(), span: node.span, need });
        }
    }
}
