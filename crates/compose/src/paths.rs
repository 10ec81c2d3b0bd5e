//! Relative paths of a file that lies elsewhere, as seen from the project.

use std::path::{Component, Path, PathBuf};

use devenv_document::tree::{Content, Node};

/// Rewrites every relative path of a document.
pub(crate) fn relocate(root: &mut Node, from: &Path, to: &Path) {
    if from == to {
        return;
    }
    for service in root.get_mut("services").and_then(Node::map_mut).into_iter().flat_map(|services| services.values_mut()) {
        self::service(&mut service.node, from, to);
    }
    for section in ["configs", "secrets"] {
        for entry in root.get_mut(section).and_then(Node::map_mut).into_iter().flat_map(|entries| entries.values_mut()) {
            one(entry.node.get_mut("file"), from, to);
        }
    }
}

fn service(node: &mut Node, from: &Path, to: &Path) {
    if let Some(build) = node.get_mut("build") {
        one(build.get_mut("context").filter(|context| context.text().is_some_and(is_local)), from, to);
        let contexts = build.get_mut("additional_contexts").and_then(Node::map_mut);
        for entry in contexts.into_iter().flat_map(|entries| entries.values_mut()) {
            one(Some(&mut entry.node).filter(|node| node.text().is_some_and(is_local)), from, to);
        }
    }
    for item in items(node.get_mut("env_file")) {
        one(item.get_mut("path"), from, to);
    }
    for item in items(node.get_mut("label_file")) {
        one(Some(item), from, to);
    }
    for item in items(node.get_mut("volumes")) {
        let bind = item.get("type").and_then(Node::text) == Some("bind");
        if bind {
            one(item.get_mut("source"), from, to);
        } else if let Content::Scalar(scalar) = &mut item.content
            && scalar.text.starts_with('.')
        {
            let (source, rest) = scalar.text.split_once(':').unwrap_or((&scalar.text, ""));
            scalar.text = format!("{}:{rest}", relative(source, from, to));
        }
    }
    if let Some(develop) = node.get_mut("develop") {
        for item in items(develop.get_mut("watch")) {
            one(item.get_mut("path"), from, to);
        }
    }
}

fn items(node: Option<&mut Node>) -> impl Iterator<Item = &mut Node> {
    let list = node.and_then(|node| match &mut node.content {
        Content::List(items) => Some(items),
        _ => None,
    });
    list.into_iter().flatten()
}

fn one(node: Option<&mut Node>, from: &Path, to: &Path) {
    if let Some(Content::Scalar(scalar)) = node.map(|node| &mut node.content)
        && !scalar.text.starts_with(['/', '~'])
    {
        scalar.text = relative(&scalar.text, from, to);
    }
}

/// Whether a build context is a directory, and no address or image.
pub(crate) fn is_local(context: &str) -> bool {
    let other =
        ["http://", "https://", "git://", "ssh://", "git@", "github.com/", "docker-image://", "oci-layout://", "service:", "target:"];
    !other.iter().any(|prefix| context.starts_with(prefix))
}

/// A path below `from`, as seen from `to`: `./x` if it lies there, else absolute.
pub(crate) fn relative(path: &str, from: &Path, to: &Path) -> String {
    let absolute = lexical(&from.join(path));
    match absolute.strip_prefix(to) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => format!("./{}", below.display()),
        Err(_) => absolute.display().to_string(),
    }
}

/// Without `.` and `..`.
pub(crate) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}
