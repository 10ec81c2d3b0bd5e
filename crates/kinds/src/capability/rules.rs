//! The rules of a kind for its fields beyond their types. Pure: from the tree to findings with positions.

use devenv_document::{
    source::{Findings, Span},
    spelling::{all_of, did_you_mean},
    tree::{Node, shortened},
};

use super::ServiceKind;

/// One service of the merged tree.
pub struct ServiceNode<'a> {
    pub name: &'a str,
    pub key: Span,
    pub node: &'a Node,
    pub kind: &'static dyn ServiceKind,
    /// The fields under the kind's name.
    pub fields: &'a Node,
}

/// A reaction to changed files that only some kinds have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindReload {
    /// The word in `on_change`.
    pub on_change: &'static str,
    /// The field of the kind that it requires.
    pub needs: Option<&'static str>,
}

/// The rules of one kind: they add problems of a service to the findings.
pub trait Rules: Send + Sync {
    /// The field `version`, if it is given.
    fn version(&self, version: &Node, findings: &mut Findings) {
        let Some(text) = version.text() else { return };
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            findings
                .error(version.span, "bad-version", format!("`version` must be a version such as `8.0`, but is {}", version.noun()))
                .hint("to use another image, set the service's `image`");
        }
    }

    /// Everything else of the service in `services`.
    fn check(&self, service: &ServiceNode<'_>, services: &[ServiceNode<'_>], findings: &mut Findings);

    /// Whether it runs a program of the project, which has its own variables and probe and may exit, rather than a server
    /// that devenv knows.
    fn is_own_program(&self) -> bool {
        false
    }

    /// A hint how to give it a port, for a probe without one.
    fn port_hint(&self, _service: &ServiceNode<'_>) -> Option<&'static str> {
        None
    }

    /// Fields of the kind that hold a port of the host, 0 for any.
    fn host_ports(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reactions to changed files besides those of every service.
    fn reloads(&self) -> &'static [KindReload] {
        &[]
    }
}

/// For kinds without rules beyond types.
pub(super) struct NoRules;

impl Rules for NoRules {
    fn check(&self, _service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], _findings: &mut Findings) {}
}

/// A reference to a service that does not exist.
pub fn unknown_service(wanted: &str, span: Span, names: &[&str], findings: &mut Findings) {
    if findings.touches(span) {
        return;
    }
    let hint = did_you_mean(wanted, names.iter().copied())
        .unwrap_or_else(|| format!("the services of this profile are {}", all_of(names.iter().copied())));
    findings.error(span, "unknown-service", format!("unknown service `{wanted}`")).hint(hint);
}

/// The names under `settings`.
pub fn setting_names(fields: &Node, findings: &mut Findings) {
    for (name, entry) in fields.get("settings").into_iter().flat_map(Node::entries) {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            findings.error(entry.key, "bad-name", format!("`{}` is not a valid setting name", shortened(name)));
        }
        // A line break would start another setting in the server's configuration file.
        if entry.node.text().is_some_and(|value| value.contains(|c: char| c.is_control() && c != '\t')) {
            findings
                .error(
                    entry.node.span,
                    "bad-value",
                    format!("the value of `{}` contains a line break or control character", shortened(name)),
                )
                .hint("write the value in one line, and each setting under its own name");
        }
    }
}
