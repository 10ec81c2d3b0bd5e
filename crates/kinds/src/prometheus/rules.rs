//! Rules for what is scraped.

use devenv_document::{source::Findings, tree::Node, value::not_zero};

use super::PrometheusKind;
use crate::capability::{Rules, ServiceNode, unknown_service};

impl Rules for PrometheusKind {
    fn check(&self, service: &ServiceNode<'_>, services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        let names: Vec<&str> = services.iter().map(|service| service.name).collect();
        for (_, entry) in fields.get("scrape").into_iter().flat_map(Node::entries) {
            let service = entry.node.get("service");
            if let Some((node, name)) = service.and_then(|node| Some((node, node.text().filter(|name| !names.contains(name))?))) {
                unknown_service(name, node.span, &names, findings);
            }
            if let Some(path) = entry.node.get("path").filter(|path| path.text().is_some_and(|path| !path.starts_with('/'))) {
                findings.error(path.span, "bad-value", format!("`path` must start with `/`, but is {}", path.noun()));
            }
            if let Some(interval) = entry.node.get("interval") {
                not_zero(interval, "interval", findings);
            }
        }
    }
}
