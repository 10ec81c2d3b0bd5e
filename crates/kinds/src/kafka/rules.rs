//! Rules for topics and consumer groups.

use devenv_document::{
    source::Findings,
    tree::{Node, shortened},
    value::positive,
};

use super::KafkaKind;
use crate::capability::{Rules, ServiceNode};

impl Rules for KafkaKind {
    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        let good = |name: &str| {
            !matches!(name, "" | "." | "..")
                && name.len() <= 249
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        for (name, entry) in fields.get("topics").into_iter().flat_map(Node::entries) {
            if !good(name) {
                findings
                    .error(entry.key, "bad-name", format!("`{}` is not a valid topic name", shortened(name)))
                    .hint("a name has at most 249 letters, digits, `.`, `_` and `-`");
            }
            if let Some(partitions) = entry.node.get("partitions") {
                positive(partitions, "partitions", findings);
            }
        }
        if fields.get("auth").and_then(Node::text) == Some("scram") {
            for (name, entry) in fields.get("settings").into_iter().flat_map(Node::entries) {
                if decides_who_connects(name) {
                    findings
                        .error(
                            entry.key,
                            "reserved-setting",
                            format!("`{name}` decides who may connect, and is set by devenv with `auth: scram`"),
                        )
                        .hint("remove it, or `auth: scram`");
                }
            }
        }
        for group in fields.get("consumer_groups").into_iter().flat_map(Node::items) {
            if group.text().is_some_and(|name| !good(name)) {
                findings.error(group.span, "bad-name", format!("{} is not a valid consumer group name", group.noun()));
            }
        }
    }
}

fn decides_who_connects(setting: &str) -> bool {
    let setting = setting.to_ascii_lowercase();
    setting.starts_with("sasl.")
        || setting.starts_with("listener.")
        || matches!(
            setting.as_str(),
            "listeners" | "advertised.listeners" | "inter.broker.listener.name" | "security.inter.broker.protocol"
        )
}
