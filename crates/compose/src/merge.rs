//! Layers on one another, as Compose lays them: mappings merge by key, lists are appended, commands are replaced; `!reset` takes
//! away what is below, and `!override` replaces it.

use std::collections::BTreeMap;

use devenv_document::{
    source::Span,
    tree::{Content, Node},
};

pub(crate) const RESET: &str = "!reset";
pub(crate) const OVERRIDE: &str = "!override";

/// The tagged values of all files.
pub(crate) type Tags = BTreeMap<Span, String>;

/// Lists that are one value.
const REPLACED: &[&str] = &["command", "entrypoint", "test"];

pub(crate) fn merge(base: &mut Node, over: Node, tags: &Tags) {
    lay(base, over, "", tags);
}

fn lay(base: &mut Node, over: Node, name: &str, tags: &Tags) {
    if tags.get(&over.span).is_some_and(|tag| tag == OVERRIDE) || REPLACED.contains(&name) {
        *base = over;
        return;
    }
    match (&mut base.content, over.content) {
        (Content::Map(entries), Content::Map(more)) => {
            for (key, entry) in more {
                if tags.get(&entry.node.span).is_some_and(|tag| tag == RESET) {
                    entries.shift_remove(&key);
                    continue;
                }
                match entries.get_mut(&key) {
                    Some(known) => lay(&mut known.node, entry.node, &key, tags),
                    None => {
                        entries.insert(key, entry);
                    }
                }
            }
        }
        (Content::List(items), Content::List(more)) => items.extend(more),
        // An empty key of a later file changes nothing, but for a value that is taken from the shell.
        (_, Content::Null) => {}
        (_, content) => *base = Node { span: over.span, content },
    }
}

/// Takes away what is tagged `!reset` where nothing is below it.
pub(crate) fn strip(node: &mut Node, tags: &Tags) {
    match &mut node.content {
        Content::Map(entries) => {
            entries.retain(|_, entry| tags.get(&entry.node.span).is_none_or(|tag| tag != RESET));
            entries.values_mut().for_each(|entry| strip(&mut entry.node, tags));
        }
        Content::List(items) => items.iter_mut().for_each(|item| strip(item, tags)),
        Content::Null | Content::Scalar(_) => {}
    }
}

/// About how large a tree is, for a limit on copies.
pub(crate) fn weight(node: &Node) -> usize {
    64 + match &node.content {
        Content::Null => 0,
        Content::Scalar(scalar) => scalar.text.len(),
        Content::List(items) => items.iter().map(weight).sum(),
        Content::Map(entries) => entries.iter().map(|(key, entry)| key.len() + weight(&entry.node)).sum(),
    }
}
