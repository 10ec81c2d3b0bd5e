//! Rules for users, persistence and settings of a Redis server.

use devenv_document::{
    source::Findings,
    spelling::did_you_mean,
    tree::{Node, shortened},
    value::positive,
};

use super::RedisKind;
use crate::capability::{Rules, ServiceNode};

/// Settings by which a file or another line would decide who may connect, or what the server loads.
const OWNED: &[&str] = &["aclfile", "include", "loadmodule", "masterauth", "masteruser", "requirepass", "unixsocket", "user"];
/// Rules with which a user needs no password, or another than the generated one.
const PASSWORDLESS: &[&str] = &["nopass", "reset", "resetpass"];

impl Rules for RedisKind {
    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        if let Some(rdb) = fields.get("persistence").and_then(|persistence| persistence.get("rdb")) {
            rdb_rules(rdb, findings);
        }
        if let Some(databases) = fields.get("databases") {
            positive(databases, "databases", findings);
        }
        for (name, entry) in fields.get("users").into_iter().flat_map(Node::entries) {
            if name == "default" {
                findings
                    .error(entry.key, "bad-name", "the user `default` always exists, with a generated password")
                    .hint("choose another name for the user");
            } else if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
                findings.error(entry.key, "bad-name", format!("`{}` is not a valid user name", shortened(name)));
            }
            let words = |rules: &&Node| rules.text().unwrap_or_default().to_ascii_lowercase();
            if let Some(rules) = entry.node.get("rules")
                && words(&rules).split_whitespace().any(|word| PASSWORDLESS.contains(&word))
            {
                findings
                    .error(rules.span, "no-password", "`rules` lets everybody in without the generated password")
                    .hint("remove `nopass`, `reset` and `resetpass`; the password is in the variable `NAME_<USER>_URL`");
            }
            if let Some(rules) = entry
                .node
                .get("rules")
                .filter(|rules| rules.text().is_some_and(|text| text.split_whitespace().any(|word| word.starts_with(['>', '<', '#', '!']))))
            {
                findings
                    .error(rules.span, "password-in-rules", "`rules` sets a password, but devenv generates the password")
                    .hint("remove the word that starts with `>`; the password is in the variable `NAME_<USER>_URL`");
            }
        }
        for (name, entry) in fields.get("settings").into_iter().flat_map(Node::entries) {
            if OWNED.iter().any(|owned| name.eq_ignore_ascii_case(owned)) {
                findings
                    .error(
                        entry.key,
                        "reserved-setting",
                        format!("`{name}` decides who may connect or what the server loads, and is set by devenv"),
                    )
                    .hint("declare users under `users`; devenv generates their passwords");
            }
        }
    }
}

fn rdb_rules(rdb: &Node, findings: &mut Findings) {
    let Some(text) = rdb.text().filter(|text| *text != "never") else { return };
    let words: Vec<&str> = text.split_whitespace().collect();
    let numbers = words.iter().all(|word| word.parse::<u32>().is_ok_and(|number| number > 0));
    if words.is_empty() || words.len() % 2 == 1 || !numbers {
        let hint = did_you_mean(text, ["never"])
            .unwrap_or_else(|| "`60 1 300 10` saves after 60 s if 1 key changed, and after 300 s if 10 keys changed".to_owned());
        findings
            .error(rdb.span, "bad-value", format!("`rdb` must be pairs of seconds and changes, or `never`, but is {}", rdb.noun()))
            .hint(hint);
    }
}
