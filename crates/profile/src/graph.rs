//! Dependencies: whether they exist, can be satisfied, and contain no circle.

use std::collections::HashSet;

use devenv_kinds::{
    Kind,
    capability::{ServiceNode, unknown_service},
};
use devenv_spec::{Condition, ServiceName};
use indexmap::IndexMap;

use super::{
    convert,
    document::ServiceProfile,
    source::{Findings, Span},
    tree::{Entry, Node},
};

/// Checks `depends_on` and the services that kinds name in their own fields.
pub(super) fn dependencies(node: &Node, services: &[ServiceNode<'_>], findings: &mut Findings) {
    let names: Vec<&str> = node.entries().map(|(name, _)| name).collect();
    let servers: HashSet<&str> =
        services.iter().filter(|service| !service.kind.rules().is_own_program()).map(|service| service.name).collect();
    let mut edges: IndexMap<&str, Vec<(String, Span)>> = IndexMap::new();
    for (name, entry) in node.entries() {
        let known = edges.entry(name).or_default();
        for (wanted, dependency) in entry.node.get("depends_on").into_iter().flat_map(Node::entries) {
            if entry_of(node, wanted).is_none() {
                unknown_service(wanted, dependency.key, &names, findings);
                continue;
            }
            if wanted == name {
                findings.error(dependency.key, "dependency-cycle", format!("`{name}` depends on itself")).hint("remove this line");
                continue;
            }
            if dependency.node.text() == Some("completed") && servers.contains(wanted) {
                findings
                    .error(dependency.node.span, "never-completed", format!("`{wanted}` is a server and never completes"))
                    .hint("write `ready`");
            }
            known.push((wanted.to_owned(), dependency.key));
        }
    }
    for (_, entry) in node.entries() {
        for item in entry.node.get("variables_from").into_iter().flat_map(Node::items) {
            if let Some(wanted) = item.text().filter(|wanted| entry_of(node, wanted).is_none()) {
                unknown_service(wanted, item.span, &names, findings);
            }
        }
    }
    for service in services {
        // Invalid fields name nothing.
        let kind = convert::kind(service.node);
        for wanted in references(kind.as_ref()) {
            let span = place_of(service.fields, &wanted).unwrap_or(service.key);
            if entry_of(node, &wanted).is_none() {
                unknown_service(&wanted, span, &names, findings);
            }
        }
        for wanted in waited_for(kind.as_ref()) {
            let span = place_of(service.fields, &wanted).unwrap_or(service.key);
            if wanted != service.name && entry_of(node, &wanted).is_some() {
                edges.entry(service.name).or_default().push((wanted, span));
            }
        }
    }
    for cycle in cycles(&edges) {
        let from = cycle[0].0;
        let text: Vec<&str> = cycle.iter().map(|(name, _)| *name).chain([from]).collect();
        findings
            .error(cycle[0].1, "dependency-cycle", format!("circular dependency: {}", text.join(" -> ")))
            .hint("remove one of these dependencies");
    }
}

/// The services that a kind requires become its dependencies.
pub(super) fn add_references(services: &mut IndexMap<ServiceName, ServiceProfile>) {
    let names: HashSet<ServiceName> = services.keys().cloned().collect();
    for (name, service) in services {
        for wanted in waited_for(Some(&service.kind)) {
            if let Some(target) = names.get(wanted.as_str()).filter(|target| *target != name) {
                service.depends_on.entry(target.clone()).or_insert(Condition::Ready);
            }
        }
    }
}

fn references(kind: Option<&Kind>) -> Vec<String> {
    kind.map(|kind| kind.fields().references()).unwrap_or_default()
}

fn waited_for(kind: Option<&Kind>) -> Vec<String> {
    kind.map(|kind| kind.fields().dependencies()).unwrap_or_default()
}

/// The key of a service, for messages about it.
fn entry_of<'a>(services: &'a Node, name: &str) -> Option<&'a Entry> {
    services.entry(name).filter(|_| name.parse::<ServiceName>().is_ok())
}

/// The position of a text among the fields.
pub(super) fn place_of(node: &Node, text: &str) -> Option<Span> {
    if node.text() == Some(text) {
        return Some(node.span);
    }
    let named = node.entry("service").filter(|entry| entry.node.text() == Some(text)).map(|entry| entry.node.span);
    named
        .or_else(|| node.items().find_map(|item| place_of(item, text)))
        .or_else(|| node.entries().find_map(|(_, entry)| place_of(&entry.node, text)))
}

/// Each circle once, from its first service in the profile's order, with the position of the dependency that continues it.
fn cycles<'a>(edges: &'a IndexMap<&'a str, Vec<(String, Span)>>) -> Vec<Vec<(&'a str, Span)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // The path from the start: each service, and the index of its current dependency.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((index, next)) = way.last_mut() {
            let (index, position) = (*index, *next);
            let Some((target, _)) = edges[index].get(position) else {
                marks[index] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            let Some(target) = edges.get_index_of(target.as_str()) else { continue };
            match marks[target] {
                Mark::Done => {}
                Mark::New => {
                    marks[target] = Mark::Open;
                    way.push((target, 0));
                }
                Mark::Open => {
                    let from = way.iter().position(|(index, _)| *index == target).unwrap_or_default();
                    let cycle = way[from..]
                        .iter()
                        .filter_map(|(index, next)| {
                            let (name, targets) = edges.get_index(*index)?;
                            Some((*name, targets.get(next - 1)?.1))
                        })
                        .collect();
                    found.push(cycle);
                }
            }
        }
    }
    found
}
