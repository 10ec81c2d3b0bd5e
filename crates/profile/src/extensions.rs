//! PURE: removes the fields that begin with `x-`. They hold what other programs read, and the anchors that the file refers to.

use super::{
    shape::Shape,
    tree::{Content, Node},
};

/// A key of a map is a name that the user gives, and stays; a field of the document is removed.
pub(super) fn remove(node: &mut Node, shape: &Shape) {
    match (&mut node.content, shape) {
        (Content::Map(entries), Shape::Record(record)) => {
            entries.retain(|name, _| !name.starts_with("x-") || record.fields.contains_key(name));
            for (name, entry) in entries {
                if let Some(field) = record.fields.get(name) {
                    remove(&mut entry.node, &field.shape);
                }
            }
        }
        (Content::Map(entries), Shape::Map { values, .. }) => {
            for entry in entries.values_mut() {
                remove(&mut entry.node, values);
            }
        }
        (Content::List(items), Shape::List(of) | Shape::WordOrList { items: of, .. }) => {
            for item in items {
                remove(item, of);
            }
        }
        _ => {}
    }
}
