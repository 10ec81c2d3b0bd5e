//! What each kind asks of its fields beyond their shape.

use std::collections::BTreeSet;

use super::{
    graph,
    source::Findings,
    spelling::did_you_mean,
    tree::{Content, Node, shortened},
    validate::{Service, image_name, not_zero, positive},
};

/// The majors for which images with all extensions exist.
const POSTGRES_VERSIONS: std::ops::RangeInclusive<i64> = 14..=18;

pub(super) fn kind(service: &Service<'_>, services: &[Service<'_>], findings: &mut Findings) {
    let fields = service.fields;
    if let Some(version) = fields.get("version") {
        version_rules(service, version, findings);
    }
    match service.kind {
        "postgres" => postgres(fields, findings),
        "redis" => redis(fields, findings),
        "kafka" | "redpanda" => kafka(fields, findings),
        "pgbouncer" => pgbouncer(service, services, findings),
        "jaeger" => jaeger(fields, findings),
        "prometheus" => prometheus(fields, services, findings),
        "s3" => s3(fields, findings),
        "container" => container(service, findings),
        "process" => process(fields, findings),
        _ => {}
    }
}

fn version_rules(service: &Service<'_>, version: &Node, findings: &mut Findings) {
    let Some(text) = version.text() else { return };
    if service.kind == "postgres" {
        if !text.parse().is_ok_and(|major| POSTGRES_VERSIONS.contains(&major)) {
            let major = text.split('.').next().unwrap_or_default();
            let hint = match major.parse::<i64>() {
                Ok(number) if POSTGRES_VERSIONS.contains(&number) => format!("write only the major version: `\"{major}\"`"),
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
    } else if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        findings
            .error(version.span, "bad-version", format!("`version` must be a version such as `8.0`, but is {}", version.noun()))
            .hint("to use another image, set the service's `image`");
    }
}

fn postgres(fields: &Node, findings: &mut Findings) {
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
                findings.error(entry.key, "bad-name", format!("the role name `{name}` is reserved by PostgreSQL")).hint("set an `owner`");
            }
            None => {}
        }
        extensions(&entry.node, findings);
        settings(&entry.node, findings);
    }
    extensions(fields, findings);
    settings(fields, findings);
}

fn role_name(role: &str, node: &Node, findings: &mut Findings) {
    identifier(role, "a role", node.span, findings);
    if role == "postgres" || role.starts_with("pg_") {
        findings
            .error(node.span, "bad-name", format!("the role name `{role}` is reserved by the server"))
            .hint("the owner is an ordinary role; by default it has the name of its database");
    }
}

/// A name that needs no thought in SQL, URLs and variables.
fn identifier(name: &str, what: &str, span: super::source::Span, findings: &mut Findings) {
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

fn settings(fields: &Node, findings: &mut Findings) {
    for (name, entry) in fields.get("settings").into_iter().flat_map(Node::entries) {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            findings.error(entry.key, "bad-name", format!("`{}` is not a valid setting name", shortened(name)));
        }
    }
}

fn redis(fields: &Node, findings: &mut Findings) {
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
    settings(fields, findings);
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

fn kafka(fields: &Node, findings: &mut Findings) {
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
    for group in fields.get("consumer_groups").into_iter().flat_map(Node::items) {
        if group.text().is_some_and(|name| !good(name)) {
            findings.error(group.span, "bad-name", format!("{} is not a valid consumer group name", group.noun()));
        }
    }
}

fn pgbouncer(service: &Service<'_>, services: &[Service<'_>], findings: &mut Findings) {
    if let Some(node) = service.fields.get("service") {
        of_kind(node, "postgres", services, findings);
    }
    for field in ["pool_size", "max_clients"] {
        if let Some(node) = service.fields.get(field) {
            positive(node, field, findings);
        }
    }
}

/// A service that must be there, and be of a kind.
fn of_kind(node: &Node, kind: &str, services: &[Service<'_>], findings: &mut Findings) {
    let Some(name) = node.text() else { return };
    match services.iter().find(|service| service.name == name) {
        Some(service) if service.kind == kind => {}
        Some(service) => {
            findings
                .error(node.span, "wrong-kind", format!("`{name}` is a `{}` service, but a `{kind}` service is required", service.kind))
                .maybe_hint(services.iter().find(|service| service.kind == kind).map(|service| format!("write `{}`", service.name)));
        }
        None => {
            let names: Vec<&str> = services.iter().filter(|service| service.kind == kind).map(|service| service.name).collect();
            graph::unknown(name, node.span, &names, findings);
        }
    }
}

fn jaeger(fields: &Node, findings: &mut Findings) {
    if let Some(sampling) = fields.get("sampling") {
        let share = sampling.text().and_then(super::check::number);
        if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            findings.error(sampling.span, "bad-value", format!("`sampling` must be from 0.0 to 1.0, but is {}", sampling.noun()));
        }
    }
}

fn prometheus(fields: &Node, services: &[Service<'_>], findings: &mut Findings) {
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    for (_, entry) in fields.get("scrape").into_iter().flat_map(Node::entries) {
        let service = entry.node.get("service");
        if let Some((node, name)) = service.and_then(|node| Some((node, node.text().filter(|name| !names.contains(name))?))) {
            graph::unknown(name, node.span, &names, findings);
        }
        if let Some(path) = entry.node.get("path").filter(|path| path.text().is_some_and(|path| !path.starts_with('/'))) {
            findings.error(path.span, "bad-value", format!("`path` must start with `/`, but is {}", path.noun()));
        }
        if let Some(interval) = entry.node.get("interval") {
            not_zero(interval, "interval", findings);
        }
    }
}

fn s3(fields: &Node, findings: &mut Findings) {
    for bucket in fields.get("buckets").into_iter().flat_map(Node::items) {
        let Some(name) = bucket.text() else { continue };
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
        if !(3..=63).contains(&name.len()) || !inner || !edge(name.chars().next()) || !edge(name.chars().last()) {
            findings
                .error(bucket.span, "bad-name", format!("`{}` is not a valid bucket name", shortened(name)))
                .hint("a name has 3 to 63 characters from a-z, 0-9, `-` and `.`");
        }
    }
}

fn container(service: &Service<'_>, findings: &mut Findings) {
    let fields = service.fields;
    let images = [fields.entry("image"), service.node.entry("image")].into_iter().flatten().collect::<Vec<_>>();
    match (images.as_slice(), fields.entry("build")) {
        ([], None) if matches!(fields.content, Content::Map(_)) && !fields.entries().any(|(_, entry)| findings.touches(entry.key)) => {
            findings
                .error(service.key, "missing-field", format!("`{}` needs an image: set `image` or `build` under `container`", service.name))
                .hint("write `image: name:tag`, or `build: { context: . }`");
        }
        ([image, ..], Some(_)) => {
            findings
                .error(image.key, "too-many", format!("`{}` has both `image` and `build`, but only one is allowed", service.name))
                .hint("remove one of them");
        }
        ([_, second], None) => {
            findings.error(second.key, "too-many", format!("`{}` has two images", service.name)).hint("remove one of them");
        }
        _ => {}
    }
    if let Some(image) = fields.get("image") {
        image_name(image, findings);
    }
    for port in fields.get("expose").into_iter().flat_map(Node::items) {
        positive(port, "expose", findings);
    }
    let mut targets = BTreeSet::new();
    for volume in fields.get("volumes").into_iter().flat_map(Node::items) {
        let Some(target) = volume.get("target") else { continue };
        let Some(path) = target.text() else { continue };
        if !path.starts_with('/') {
            findings.error(
                target.span,
                "bad-value",
                format!("`target` must be an absolute path in the container, but is {}", target.noun()),
            );
        } else if !targets.insert(path) {
            findings.error(target.span, "given-twice", format!("two volumes have the target `{path}`"));
        }
    }
}

fn process(fields: &Node, findings: &mut Findings) {
    let Some(command) = fields.entry("command") else { return };
    let nothing = command.node.list().is_some_and(|items| items.first().is_none_or(|first| first.text() == Some("")));
    if nothing {
        findings.error(command.key, "empty-command", "`command` must not be empty").hint("write `command: [program, argument]`");
    }
}
