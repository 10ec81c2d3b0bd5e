//! Compares a tree with the table of keys: unknown keys, keys that are not supported, keys on which nothing depends.

use devenv_document::{
    source::Findings,
    spelling::did_you_mean,
    tree::{Node, shortened},
};

use crate::keys::{Inside, Key, Support};

/// Checks a mapping; `path` is what people call it.
pub(crate) fn mapping(node: &Node, path: &str, keys: &[Key], findings: &mut Findings) {
    for (name, entry) in node.entries() {
        if name.starts_with("x-") {
            continue;
        }
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            let owner = if path.is_empty() { "a Compose file".to_owned() } else { format!("`{path}`") };
            findings
                .error(entry.key, "unknown-field", format!("unknown key `{}` in {owner}", shortened(name)))
                .hint(did_you_mean(name, keys.iter().map(|key| key.name)).unwrap_or_else(|| "see docs/compose.md for all keys".to_owned()));
            continue;
        };
        match key.support {
            Support::Yes | Support::How(_) => {}
            Support::Ignored(instead) => {
                findings.warning(entry.key, "not-used", format!("`{name}` has no effect: {instead}"));
            }
            Support::No(instead) => {
                findings.error(entry.key, "not-supported", format!("`{name}` is not supported")).hint(instead);
            }
        }
        let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match key.inside {
            Inside::Value => {}
            Inside::Section(keys) => mapping(&entry.node, &inner, keys, findings),
            Inside::Named(keys) => {
                // A service may be called so; of everything else it is an extension.
                for (name, entry) in entry.node.entries().filter(|(name, _)| inner == "services" || !name.starts_with("x-")) {
                    mapping(&entry.node, &format!("{inner}.{name}"), keys, findings);
                }
            }
            Inside::Items(keys) => entry.node.items().for_each(|item| mapping(item, &inner, keys, findings)),
        }
    }
}
