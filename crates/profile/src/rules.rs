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
                Ok(number) if POSTGRES_VERSIONS.contains(&number) => format!("write the major alone: `\"{major}\"`"),
                _ => "the majors are 14 to 18".to_owned(),
            };
            findings
                .error(
                    version.span,
                    "bad-version",
                    format!("`version` must be a major version of PostgreSQL from 14 to 18, and this is {}", version.noun()),
                )
                .hint(hint);
        }
    } else if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        findings
            .error(version.span, "bad-version", format!("`version` must be a version such as `8.0`, and this is {}", version.noun()))
            .hint("for another image use the service's `image`");
    }
}

fn postgres(fields: &Node, findings: &mut Findings) {
    for (name, entry) in fields.get("databases").into_iter().flat_map(Node::entries) {
        identifier(name, "a database", entry.key, findings);
        if matches!(name, "postgres" | "template0" | "template1") {
            findings.error(entry.key, "bad-name", format!("the database `{name}` is the server's own")).hint("give it another name");
        }
        match entry.node.get("owner") {
            Some(owner) => {
                if let Some(role) = owner.text() {
                    role_name(role, owner, findings);
                }
            }
            None if name.starts_with("pg_") => {
                findings.error(entry.key, "bad-name", format!("the role `{name}` would be reserved by PostgreSQL")).hint("name an `owner`");
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
            .error(node.span, "bad-name", format!("the role `{role}` is the server's own"))
            .hint("an owner is an ordinary role, named after its database unless said");
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
            .error(span, "bad-name", format!("`{}` is not the name of {what}", shortened(name)))
            .hint("a name begins with a letter and holds up to 63 letters, digits, `_` and `-`");
    }
}

fn extensions(fields: &Node, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for node in fields.get("extensions").into_iter().flat_map(Node::items) {
        let Some(name) = node.text() else { continue };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            findings.error(node.span, "bad-name", format!("`{}` is not the name of an extension", shortened(name)));
        } else if name == "pgvector" {
            findings.error(node.span, "bad-name", "the extension of pgvector is called `vector`").hint("write `vector`");
        } else if !seen.insert(name) {
            findings.warning(node.span, "given-twice", format!("the extension `{name}` is given twice"));
        }
    }
}

fn settings(fields: &Node, findings: &mut Findings) {
    for (name, entry) in fields.get("settings").into_iter().flat_map(Node::entries) {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            findings.error(entry.key, "bad-name", format!("`{}` is not the name of a setting", shortened(name)));
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
                .error(entry.key, "bad-name", "the user `default` is there anyway, with a generated password")
                .hint("give the user another name");
        } else if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            findings.error(entry.key, "bad-name", format!("`{}` is not the name of a user", shortened(name)));
        }
        if let Some(rules) = entry
            .node
            .get("rules")
            .filter(|rules| rules.text().is_some_and(|text| text.split_whitespace().any(|word| word.starts_with(['>', '<', '#', '!']))))
        {
            findings
                .error(rules.span, "password-in-rules", "`rules` names a password, and the password is generated")
                .hint("remove the word that begins with `>`; the variable `NAME_<USER>_URL` holds the password");
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
            .unwrap_or_else(|| "`60 1 300 10` saves after 60 s if 1 key changed, after 300 s if 10 did".to_owned());
        findings
            .error(rdb.span, "bad-value", format!("`rdb` must be pairs of seconds and changes, or `never`, and this is {}", rdb.noun()))
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
                .error(entry.key, "bad-name", format!("`{}` is not the name of a topic", shortened(name)))
                .hint("a name holds up to 249 letters, digits, `.`, `_` and `-`");
        }
        if let Some(partitions) = entry.node.get("partitions") {
            positive(partitions, "partitions", findings);
        }
    }
    for group in fields.get("consumer_groups").into_iter().flat_map(Node::items) {
        if group.text().is_some_and(|name| !good(name)) {
            findings.error(group.span, "bad-name", format!("{} is not the name of a consumer group", group.noun()));
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
                .error(node.span, "wrong-kind", format!("`{name}` is of kind `{}`, and a `{kind}` service is wanted", service.kind))
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
            findings.error(sampling.span, "bad-value", format!("`sampling` must be from 0.0 to 1.0, and this is {}", sampling.noun()));
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
            findings.error(path.span, "bad-value", format!("`path` must begin with `/`, and this is {}", path.noun()));
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
                .error(bucket.span, "bad-name", format!("`{}` is not the name of a bucket", shortened(name)))
                .hint("a name holds 3 to 63 of a-z, 0-9, `-` and `.`");
        }
    }
}

fn container(service: &Service<'_>, findings: &mut Findings) {
    let fields = service.fields;
    let images = [fields.entry("image"), service.node.entry("image")].into_iter().flatten().collect::<Vec<_>>();
    match (images.as_slice(), fields.entry("build")) {
        ([], None) if matches!(fields.content, Content::Map(_)) && !fields.entries().any(|(_, entry)| findings.touches(entry.key)) => {
            findings
                .error(service.key, "missing-field", format!("`{}` needs an image: `image` or `build` within `container`", service.name))
                .hint("write `image: name:tag`, or `build: { context: . }`");
        }
        ([image, ..], Some(_)) => {
            findings
                .error(image.key, "too-many", format!("`{}` has both `image` and `build`, and only one can be", service.name))
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
                format!("`target` must be an absolute path in the container, and this is {}", target.noun()),
            );
        } else if !targets.insert(path) {
            findings.error(target.span, "given-twice", format!("`{path}` is the target of two volumes"));
        }
    }
}

fn process(fields: &Node, findings: &mut Findings) {
    let Some(command) = fields.entry("command") else { return };
    let nothing = command.node.list().is_some_and(|items| items.first().is_none_or(|first| first.text() == Some("")));
    if nothing {
        findings.error(command.key, "empty-command", "`command` must name a program").hint("write `command: [program, argument]`");
    }
}
