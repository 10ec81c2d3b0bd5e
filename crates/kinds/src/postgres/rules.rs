//! Rules for databases, roles, extensions and settings of a PostgreSQL server.

use std::collections::BTreeSet;

use devenv_document::{
    source::{Findings, Span},
    tree::{Node, shortened},
};

use super::PostgresKind;
use crate::capability::{Rules, ServiceNode, setting_names};

/// The major versions for which images with all extensions exist.
const VERSIONS: std::ops::RangeInclusive<i64> = 14..=18;

impl Rules for PostgresKind {
    fn version(&self, version: &Node, findings: &mut Findings) {
        let Some(text) = version.text() else { return };
        if !text.parse().is_ok_and(|major| VERSIONS.contains(&major)) {
            let major = text.split('.').next().unwrap_or_default();
            let hint = match major.parse::<i64>() {
                Ok(number) if VERSIONS.contains(&number) => format!("write only the major version: `\"{major}\"`"),
                _ => "supported major versions are 14 to 18".to_owned(),
            };
            findings
                .error(
                    version.span,
                    "bad-version",
                    format!("`version` must be a major version of PostgreSQL from 14 to 18, but is {}", version.noun()),
                )
                .hint(hint);
        }
    }

    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        for (name, entry) in fields.get("databases").into_iter().flat_map(Node::entries) {
            identifier(name, "a database", entry.key, findings);
            if matches!(name, "postgres" | "template0" | "template1") {
                findings
                    .error(entry.key, "bad-name", format!("the database name `{name}` is reserved by the server"))
                    .hint("choose another name");
            }
            match entry.node.get("owner") {
                Some(owner) => {
                    if let Some(role) = owner.text() {
                        role_name(role, owner, findings);
                    }
                }
                None if name.starts_with("pg_") => {
                    findings
                        .error(entry.key, "bad-name", format!("the role name `{name}` is reserved by PostgreSQL"))
                        .hint("set an `owner`");
                }
                None => {}
            }
            extensions(&entry.node, findings);
            setting_names(&entry.node, findings);
        }
        extensions(fields, findings);
    }
}

fn role_name(role: &str, node: &Node, findings: &mut Findings) {
    identifier(role, "a role", node.span, findings);
    if role == "postgres" || role.starts_with("pg_") {
        findings
            .error(node.span, "bad-name", format!("the role name `{role}` is reserved by the server"))
            .hint("the owner is an ordinary role; by default it has the name of its database");
    }
}

/// A name that needs no quoting in SQL, URLs and variables.
fn identifier(name: &str, what: &str, span: Span, findings: &mut Findings) {
    let mut characters = name.chars();
    let good = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && name.len() <= 63;
    if !good {
        findings
            .error(span, "bad-name", format!("`{}` is not a valid name for {what}", shortened(name)))
            .hint("a name starts with a letter and has at most 63 letters, digits, `_` and `-`");
    }
}

fn extensions(fields: &Node, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for node in fields.get("extensions").into_iter().flat_map(Node::items) {
        let Some(name) = node.text() else { continue };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            findings.error(node.span, "bad-name", format!("`{}` is not a valid extension name", shortened(name)));
        } else if name == "pgvector" {
            findings.error(node.span, "bad-name", "the name of the pgvector extension is `vector`").hint("write `vector`");
        } else if !seen.insert(name) {
            findings.warning(node.span, "given-twice", format!("duplicate extension `{name}`"));
        }
    }
}
