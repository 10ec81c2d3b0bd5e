//! From the merged tree to the document of a profile: its services, and the networks that they are on.

use devenv_document::{
    source::{Findings, Sources, Span},
    tree::Node,
};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    load::{Files, Place, Request},
    project::Project,
    service,
    values::Values,
};

pub(crate) struct Document {
    pub(crate) document: Value,
    /// Where each service is defined.
    pub(crate) places: IndexMap<String, Span>,
}

/// The whole file.
pub(crate) fn document(
    root: &Node,
    request: Request<'_>,
    files: &dyn Files,
    place: &Place<'_>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Document {
    let mut project = Project::new(root, request, files, place, sources, findings);
    let mut services = Map::new();
    let mut places = IndexMap::new();
    let listed: Vec<_> = root.get("services").into_iter().flat_map(Node::entries).collect();
    for (name, entry) in listed {
        if entry.node.map().is_none() {
            project.findings.error(entry.key, "missing-field", format!("the service `{name}` is empty: it needs `image` or `build`"));
            continue;
        }
        let taken_in = project.enabled.contains(name);
        let copies = project.copies.get(name).copied().unwrap_or(1);
        // What runs before it, once for all copies.
        let mut first = Vec::new();
        for copy in 1..=copies.max(1) {
            // What is not taken in is checked all the same.
            let before = project.findings.len();
            let mut value = service::service(name, entry, copy, &mut project);
            if copy == 1 {
                first = service::hooks::before(&project.copy_name(name, 1), &entry.node, &mut value, &mut project);
            } else if let Some((last, _)) = first.last() {
                service::hooks::depend(&mut value, last);
            }
            if copy > 1 {
                // Said once.
                project.findings.retain_since(before, |_| false);
            }
            if taken_in && copies > 0 {
                for (name, value) in first.iter().filter(|_| copy == 1).cloned() {
                    places.insert(name.clone(), entry.key);
                    services.insert(name, value);
                }
                let name = project.copy_name(name, copy);
                places.insert(name.clone(), entry.key);
                services.insert(name, value);
            }
        }
    }
    let networks = networks(&mut project, &services);
    let mut document = Map::new();
    if !networks.is_empty() {
        document.insert("networks".to_owned(), networks.into());
    }
    document.insert("services".to_owned(), services.into());
    Document { document: document.into(), places }
}

/// The networks that services are on.
fn networks(project: &mut Project<'_>, services: &Map<String, Value>) -> Map<String, Value> {
    let mut networks = Map::new();
    for (name, entry) in project.root.get("networks").into_iter().flat_map(Node::entries).filter(|(name, _)| !name.starts_with("x-")) {
        let node = &entry.node;
        let mut values = Values { findings: project.findings };
        let external =
            node.get("external").is_some_and(|external| external.map().is_some() || values.boolean(node, "external") == Some(true));
        let named = values.text(node, "name").or_else(|| node.get("external").and_then(|external| values.text(external, "name")));
        let internal = values.boolean(node, "internal") == Some(true);
        let mut value = Map::new();
        if external {
            value.insert("external".to_owned(), json!(named.clone().unwrap_or_else(|| name.to_owned())));
        } else if named.is_some() {
            project.findings.warning(entry.key, "not-used", format!("`{name}` has a name of its own, but devenv names its networks"));
        }
        if internal {
            value.insert("internal".to_owned(), json!(true));
        }
        let mut values = Values { findings: project.findings };
        if let Some(driver) =
            values.text(node, "driver").filter(|driver| !external && !matches!(driver.as_str(), "" | "bridge" | "default"))
        {
            project
                .findings
                .error(entry.key, "not-supported", format!("networks of the driver `{driver}` are not made by devenv"))
                .hint("make the network yourself, and write `external: true`; for the host's network write `network_mode: host`");
        }
        let configurations: Vec<&Node> = node.get("ipam").and_then(|ipam| ipam.get("config")).into_iter().flat_map(Node::items).collect();
        for subnet in configurations.iter().filter_map(|configuration| configuration.get("subnet")) {
            let Some(text) = subnet.text() else { continue };
            if text.contains(':') {
                project.findings.warning(subnet.span, "not-used", format!("`{text}` has no effect: networks have IPv4 addresses only"));
            } else if value.insert("subnet".to_owned(), json!(text)).is_some() {
                project.findings.error(subnet.span, "too-many", "a network has one IPv4 subnet");
            }
        }
        let used = services.values().any(|service| service["container"]["networks"].get(name).is_some());
        if used && (name != "default" || !value.is_empty()) {
            networks.insert(name.to_owned(), value.into());
        }
    }
    networks
}
