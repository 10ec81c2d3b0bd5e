//! Layers become one document: maps merge by key, lists replace, the later layer wins.
//!
//! Two refinements. If only one of several fields is allowed (a service's kind, a probe's type), a later one replaces the earlier,
//! so that a profile can replace `kafka` with `redpanda`. A container's volumes merge by `target`.

use super::{
    shape::{Record, Shape},
    tree::{Content, Node},
};

/// `over` on top of `base`.
pub(super) fn merge(base: Node, over: Node, shape: &Shape) -> Node {
    let content = match (base.content, over.content, shape) {
        (Content::Map(mut entries), Content::Map(more), shape) => {
            if let Shape::Record(record) = shape {
                for gone in replaced(record, |field| more.contains_key(field)) {
                    entries.shift_remove(gone);
                }
            }
            for (key, entry) in more {
                match entries.entry(key) {
                    indexmap::map::Entry::Occupied(mut occupied) => {
                        let inner = within(shape, occupied.key()).unwrap_or(&Shape::Any);
                        let before = std::mem::replace(occupied.get_mut(), entry.clone());
                        occupied.get_mut().node = merge(before.node, entry.node, inner);
                    }
                    indexmap::map::Entry::Vacant(vacant) => {
                        vacant.insert(entry);
                    }
                }
            }
            Content::Map(entries)
        }
        (Content::List(items), Content::List(more), Shape::List(of)) if has_key(of) => Content::List(by_target(items, more)),
        (_, over, _) => over,
    };
    Node { span: over.span, content }
}

/// The shape of the value under `key`.
pub(super) fn within<'a>(shape: &'a Shape, key: &str) -> Option<&'a Shape> {
    match shape {
        Shape::Record(record) => record.fields.get(key).map(|field| &field.shape),
        Shape::Map { values, .. } => Some(values),
        Shape::List(items) | Shape::WordOrList { items, .. } => Some(items),
        _ => None,
    }
}

/// The fields of an earlier layer that cannot stay beside those of a later one.
fn replaced(record: &Record, later: impl Fn(&str) -> bool) -> Vec<&str> {
    let alternatives: Vec<&str> = if record.fields.contains_key("image") && record.fields.contains_key("build") {
        vec!["image", "build"]
    } else {
        record.exactly_one.iter().map(String::as_str).collect()
    };
    if alternatives.iter().any(|field| later(field)) {
        alternatives.into_iter().filter(|field| !later(field)).collect()
    } else {
        Vec::new()
    }
}

fn has_key(items: &Shape) -> bool {
    matches!(items, Shape::Record(record) if record.fields.contains_key("target") && record.fields.contains_key("source"))
}

fn by_target(mut items: Vec<Node>, more: Vec<Node>) -> Vec<Node> {
    for node in more {
        let target = node.get("target").and_then(Node::text).map(str::to_owned);
        match items.iter_mut().find(|item| target.is_some() && item.get("target").and_then(Node::text) == target.as_deref()) {
            Some(same) => *same = node,
            None => items.push(node),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        convert, shape,
        source::{Findings, Sources},
        yaml,
    };

    fn merged(base: &str, over: &str) -> String {
        let mut sources = Sources::default();
        let mut findings = Findings::default();
        let document = Shape::Record(shape::DOCUMENT.clone());
        let mut read = |text: &str| {
            let file = sources.add("x", text);
            yaml::parse(&sources, file, &mut findings).root
        };
        let (base, over) = (read(base), read(over));
        let node = merge(base, over, &document);
        assert_eq!(findings.problems(&sources), []);
        convert::json(&node, &document).to_string().replace('"', "")
    }

    #[test]
    fn the_golden_table_of_merges_holds() {
        for (what, base, over, wanted) in [
            ("a scalar is replaced", "description: a", "description: b", "{description:b}"),
            (
                "a map merges by key, in the first one's order",
                "variables: {A: 1, B: 2}",
                "variables: {C: 3, A: 4}",
                "{variables:{A:4,B:2,C:3}}",
            ),
            ("a list replaces", "env_file: [a, b]", "env_file: [c]", "{env_file:[c]}"),
            ("an empty list replaces", "env_file: [a, b]", "env_file: []", "{env_file:[]}"),
            ("an empty map adds nothing", "variables: {A: 1}", "variables: {}", "{variables:{A:1}}"),
            (
                "services merge field by field",
                "services: {db: {postgres: {version: 17, settings: {a: 1}}}}",
                "services: {db: {postgres: {settings: {b: 2}}, optional: true}}",
                "{services:{db:{postgres:{version:17,settings:{a:1,b:2}},optional:true}}}",
            ),
            (
                "another kind replaces the kind",
                "services: {events: {kafka: {topics: {a: {}}}, optional: true}}",
                "services: {events: {redpanda: {}}}",
                "{services:{events:{optional:true,redpanda:{}}}}",
            ),
            (
                "another probe replaces the probe",
                "services: {a: {probe: {http: {path: /}}}}",
                "services: {a: {probe: {log: up}}}",
                "{services:{a:{probe:{log:up}}}}",
            ),
            (
                "a build replaces an image",
                "services: {a: {container: {image: x, user: me}}}",
                "services: {a: {container: {build: {context: .}}}}",
                "{services:{a:{container:{user:me,build:{context:.}}}}}",
            ),
            (
                "ports merge by container port",
                "services: {a: {ports: {80: 1, 81: 2}}}",
                "services: {a: {ports: {81: 3}}}",
                "{services:{a:{ports:{80:1,81:3}}}}",
            ),
            (
                "volumes merge by target",
                "services: {a: {container: {volumes: [{source: x, target: /x}, {source: y, target: /y}]}}}",
                "services: {a: {container: {volumes: [{source: z, target: /x}, {source: w, target: /w}]}}}",
                "{services:{a:{container:{volumes:[{source:z,target:/x},{source:y,target:/y},{source:w,target:/w}]}}}}",
            ),
            (
                "watches replace",
                "services: {a: {watch: [{paths: [a], on_change: restart}]}}",
                "services: {a: {watch: [{paths: [b], on_change: restart}]}}",
                "{services:{a:{watch:[{paths:[b],on_change:restart}]}}}",
            ),
            (
                "nothing is the default again",
                "services: {a: {redis: {maxmemory: 1GiB}}}",
                "services: {a: {redis: {maxmemory: null}}}",
                "{services:{a:{redis:{maxmemory:null}}}}",
            ),
        ] {
            assert_eq!(merged(base, over), wanted, "{what}");
        }
    }
}
