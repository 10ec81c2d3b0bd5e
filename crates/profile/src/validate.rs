//! Meaning: what the shapes of values cannot say. Works on the merged tree, so that a slip elsewhere hides nothing, and
//! skips everything that the structural check has reported.

use std::collections::BTreeMap;

use devenv_kinds::Kind;
use devenv_spec::ServiceName;

use super::{
    check, graph, interpolate, rules, shape,
    source::{Findings, Sources, Span},
    spelling::{did_you_mean, one_of},
    tree::{Content, Entry, Node, shortened},
};

/// One service of the merged tree.
pub(super) struct Service<'a> {
    pub(super) name: &'a str,
    pub(super) key: Span,
    pub(super) node: &'a Node,
    pub(super) kind: &'a str,
    /// The fields under the kind's name.
    pub(super) fields: &'a Node,
    /// The kind itself, if its fields are right.
    pub(super) typed: Option<Kind>,
}

/// The signals that a service may be sent.
const SIGNALS: &[&str] = &[
    "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP", "SIGCONT", "SIGWINCH", "SIGABRT", "SIGALRM",
    "SIGPIPE", "SIGTSTP",
];

/// Everything that is wrong with what the document means.
pub(super) fn document(root: &Node, sources: &Sources, findings: &mut Findings) {
    report_unset_variables(root, findings);
    if let Some(variables) = root.get("variables") {
        variable_names(variables, findings);
    }
    let Some(entry) = root.entry("services").filter(|entry| entry.node.map().is_some()) else { return };
    let services = services(&entry.node);
    graph::dependencies(&entry.node, &services, findings);
    host_ports(&services, sources, findings);
    for service in &services {
        common(service, findings);
        rules::kind(service, &services, findings);
    }
}

/// Services with a kind; the others were reported.
pub(super) fn services(node: &Node) -> Vec<Service<'_>> {
    let kinds = &shape::service().exactly_one;
    node.entries()
        .filter_map(|(name, entry)| {
            let (kind, fields) = entry.node.entries().find(|(field, _)| kinds.iter().any(|kind| kind == field))?;
            let typed = super::convert::kind(&entry.node);
            Some(Service { name, key: entry.key, node: &entry.node, kind, fields: &fields.node, typed })
        })
        .collect()
}

/// A variable that is not set matters only where no later layer replaced the value.
fn report_unset_variables(node: &Node, findings: &mut Findings) {
    match &node.content {
        Content::Null => {}
        Content::List(items) => items.iter().for_each(|item| report_unset_variables(item, findings)),
        Content::Map(entries) => entries.values().for_each(|entry| report_unset_variables(&entry.node, findings)),
        Content::Scalar(scalar) => {
            for finding in scalar.filled.iter().flat_map(|filled| filled.trouble.iter()) {
                findings.error(finding.span, finding.code, finding.message.clone()).maybe_hint(finding.hint.clone());
            }
        }
    }
}

pub(super) fn variable_names(node: &Node, findings: &mut Findings) {
    for (name, entry) in node.entries() {
        if name.is_empty() || interpolate::name_length(name) != name.len() {
            findings
                .error(entry.key, "bad-name", format!("`{}` is not a variable name", shortened(name)))
                .hint("a name consists of letters, digits and `_`, and does not start with a digit");
        }
    }
}

impl Service<'_> {
    /// A service of the product's own rather than of a built-in kind.
    fn own(&self) -> bool {
        matches!(self.kind, "process" | "container")
    }
}

fn common(service: &Service<'_>, findings: &mut Findings) {
    let node = service.node;
    for field in ["environment", "probe"] {
        if let Some(entry) = node.entry(field).filter(|_| !service.own()) {
            findings
                .error(
                    entry.key,
                    "not-for-this-kind",
                    format!("`{field}` is for the kinds `process` and `container`, but `{}` is of kind `{}`", service.name, service.kind),
                )
                .hint(if field == "probe" {
                    "remove it: this kind has a built-in probe for its protocol"
                } else {
                    "configure the server with the fields of its kind"
                });
        }
    }
    if let Some(environment) = node.get("environment") {
        variable_names(environment, findings);
    }
    if service.kind == "process" {
        for (field, instead) in
            [("image", "a process runs on the host"), ("ports", "set `port` under `process`"), ("storage", "a process can write anywhere")]
        {
            if let Some(entry) = node.entry(field) {
                findings.error(entry.key, "not-for-this-kind", format!("`{field}` is not allowed for the kind `process`")).hint(instead);
            }
        }
    }
    if let Some(image) = node.get("image") {
        image_name(image, findings);
    }
    if let Some(probe) = node.get("probe") {
        probe_rules(service, probe, findings);
    }
    if let Some(signal) = node.get("stop").and_then(|stop| stop.get("signal")) {
        known_signal(signal, findings);
    }
    if let Some(cpus) = node.get("resources").and_then(|resources| resources.get("cpus")) {
        positive(cpus, "cpus", findings);
    }
    for (owner, field) in [("resources", "memory"), ("storage", "size")] {
        if let Some(size) = node.get(owner).and_then(|inner| inner.get(field)) {
            not_zero(size, field, findings);
        }
    }
    if let Some(timeout) = node.get("ready_timeout") {
        not_zero(timeout, "ready_timeout", findings);
    }
    if let Some(attempts) = node.get("restart").and_then(|restart| restart.get("attempts")) {
        positive(attempts, "attempts", findings);
    }
    for watch in node.get("watch").into_iter().flat_map(Node::items) {
        watch_rules(service, watch, findings);
    }
}

fn probe_rules(service: &Service<'_>, probe: &Node, findings: &mut Findings) {
    if let Some(pattern) = probe.get("log").filter(|node| node.scalar().is_some()) {
        let text = pattern.text().unwrap_or_default();
        if let Err(error) = regex::Regex::new(text) {
            let said = error.to_string();
            let said = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            findings
                .error(pattern.span, "bad-regex", format!("`log` is not a valid regular expression: `{}`: {said}", shortened(text)))
                .hint("put `\\` before characters that are meant literally");
        }
    }
    if let Some(entry) = probe.entry("exec").filter(|entry| entry.node.list().is_some_and(<[Node]>::is_empty)) {
        findings.error(entry.key, "empty-command", "`exec` must not be empty");
    }
    let Some((way, entry)) = probe.entries().find(|(way, _)| matches!(*way, "http" | "tcp")) else { return };
    if let Some(path) = entry.node.get("path").filter(|path| path.text().is_some_and(|path| !path.starts_with('/'))) {
        findings.error(path.span, "bad-value", format!("`path` must start with `/`, but is {}", path.noun()));
    }
    if let Some(status) = entry.node.get("status").filter(|node| whole(node).is_some_and(|status| !(100..600).contains(&status))) {
        findings.error(status.span, "bad-value", format!("`status` must be from 100 to 599, but is {}", status.noun()));
    }
    let has_port = entry.node.entry("port").is_some()
        || service.node.entry("ports").is_some()
        || match service.kind {
            "process" => service.fields.entry("port").is_some(),
            _ => service.fields.get("expose").is_some_and(|expose| expose.list().is_none_or(|items| !items.is_empty())),
        };
    if service.own() && !has_port {
        let hint = if service.kind == "process" { "set `port: 0` under `process`" } else { "set `expose: [8080]` under `container`" };
        findings
            .error(entry.key, "no-port", format!("`{way}` has no port to connect to: `{}` has none", service.name))
            .hint(format!("{hint}, or `port` here"));
    }
}

fn watch_rules(service: &Service<'_>, watch: &Node, findings: &mut Findings) {
    if let Some(paths) = watch.entry("paths").filter(|entry| entry.node.list().is_some_and(<[Node]>::is_empty)) {
        findings.error(paths.key, "empty", "`paths` must not be empty");
    }
    for glob in watch.get("ignore").into_iter().flat_map(Node::items) {
        if let Some(error) = glob.text().and_then(|text| globset::Glob::new(text).err()) {
            findings.error(glob.span, "bad-glob", format!("{} is not a valid glob: {}", glob.noun(), error.kind()));
        }
    }
    if let Some(signal) = watch.get("signal") {
        known_signal(signal, findings);
    }
    for field in ["build", "run"] {
        if let Some(entry) = watch.entry(field).filter(|entry| entry.node.list().is_some_and(<[Node]>::is_empty)) {
            findings.error(entry.key, "empty-command", format!("`{field}` must not be empty"));
        }
    }
    let Some(on_change) = watch.get("on_change") else { return };
    let change = on_change.text().unwrap_or_default();
    let needed = match change {
        "signal" => Some("signal"),
        "run" => Some("run"),
        "sync" => Some("to"),
        _ => None,
    };
    if let Some(field) = needed.filter(|field| watch.entry(field).is_none()) {
        findings.error(on_change.span, "missing-field", format!("`on_change: {change}` needs `{field}`"));
    }
    let wrong = match change {
        "swap" if service.kind != "process" => Some("`on_change: swap` is only for the kind `process`"),
        "swap" if service.fields.entry("port").is_none() => Some("`on_change: swap` needs the process to have a `port`"),
        "sync" if service.kind != "container" => Some("`on_change: sync` is only for the kind `container`"),
        "rebuild" if service.fields.entry("build").is_none() => Some("`on_change: rebuild` needs a container with `build`"),
        _ => None,
    };
    if let Some(message) = wrong {
        findings.error(on_change.span, "not-for-this-kind", message);
    }
}

/// Fixed host ports are given once.
fn host_ports(services: &[Service<'_>], sources: &Sources, findings: &mut Findings) {
    let mut taken: BTreeMap<i64, (&str, Span)> = BTreeMap::new();
    for service in services {
        let fixed = service.node.get("ports").into_iter().flat_map(|ports| ports.entries().map(|(_, entry)| &entry.node));
        let own = ["port", "debug_port"].into_iter().filter_map(|field| service.fields.get(field).filter(|_| service.kind == "process"));
        for (node, leased) in fixed.map(|node| (node, false)).chain(own.map(|node| (node, true))) {
            let Some(port) = whole(node) else { continue };
            if port == 0 {
                if !leased {
                    findings
                        .error(node.span, "bad-value", "a fixed host port must be from 1 to 65535")
                        .hint("remove it from `ports` to get a free port assigned");
                }
                continue;
            }
            if let Some((first, at)) = taken.get(&port) {
                findings
                    .error(node.span, "port-taken", format!("host port {port} is already used by `{first}` ({})", sources.place(*at)))
                    .hint("remove one of them to get a free port assigned");
            } else {
                taken.insert(port, (service.name, node.span));
            }
        }
    }
}

/// An image's name, not a sentence.
pub(super) fn image_name(node: &Node, findings: &mut Findings) {
    if node.text().is_some_and(|name| name.is_empty() || name.contains(char::is_whitespace)) {
        findings.error(node.span, "bad-value", format!("`image` must be an image name, but is {}", node.noun()));
    }
}

fn known_signal(node: &Node, findings: &mut Findings) {
    let Some(name) = node.text().filter(|name| !SIGNALS.contains(name)) else { return };
    let upper = format!("SIG{}", name.to_uppercase().trim_start_matches("SIG"));
    let hint = did_you_mean(&upper, SIGNALS.iter().copied());
    findings
        .error(node.span, "unknown-signal", format!("`{}` is not a signal that can be sent", shortened(name)))
        .hint(hint.unwrap_or_else(|| format!("expected {}", one_of(SIGNALS.iter().copied()))));
}

/// A whole number, if this is one.
pub(super) fn whole(node: &Node) -> Option<i64> {
    node.text().and_then(check::integer)
}

/// A number above 0; text that is not a number was reported.
pub(super) fn positive(node: &Node, field: &str, findings: &mut Findings) {
    if node.text().and_then(check::number).is_some_and(|number| number <= 0.0) {
        findings.error(node.span, "bad-value", format!("`{field}` must be more than 0, but is {}", node.noun()));
    }
}

/// A size or duration above 0.
pub(super) fn not_zero(node: &Node, field: &str, findings: &mut Findings) {
    if node.text().is_some_and(|text| text.starts_with('0') && text.trim_start_matches('0').starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        findings.error(node.span, "bad-value", format!("`{field}` must be more than 0, but is {}", node.noun()));
    }
}

/// The key of a service, for messages about it.
pub(super) fn entry_of<'a>(services: &'a Node, name: &str) -> Option<&'a Entry> {
    services.entry(name).filter(|_| name.parse::<ServiceName>().is_ok())
}
