//! Rules for the service that it pools connections to.

use devenv_document::{source::Findings, tree::Node, value::positive};

use super::PgbouncerKind;
use crate::{
    capability::{Rules, ServiceNode, unknown_service},
    postgres,
};

impl Rules for PgbouncerKind {
    fn check(&self, service: &ServiceNode<'_>, services: &[ServiceNode<'_>], findings: &mut Findings) {
        if let Some(node) = service.fields.get("service") {
            of_kind(node, postgres::NAME, services, findings);
        }
        for field in ["pool_size", "max_clients"] {
            if let Some(node) = service.fields.get(field) {
                positive(node, field, findings);
            }
        }
    }
}

/// A service that must exist, and be of a certain kind.
fn of_kind(node: &Node, kind: &str, services: &[ServiceNode<'_>], findings: &mut Findings) {
    let Some(name) = node.text() else { return };
    match services.iter().find(|service| service.name == name) {
        Some(service) if service.kind.name() == kind => {}
        Some(service) => {
            findings
                .error(
                    node.span,
                    "wrong-kind",
                    format!("`{name}` is a `{}` service, but a `{kind}` service is required", service.kind.name()),
                )
                .maybe_hint(services.iter().find(|service| service.kind.name() == kind).map(|service| format!("write `{}`", service.name)));
        }
        None => {
            let names: Vec<&str> = services.iter().filter(|service| service.kind.name() == kind).map(|service| service.name).collect();
            unknown_service(name, node.span, &names, findings);
        }
    }
}
