//! Meaning: what the shapes of values cannot say. Works on the merged tree, so that a slip elsewhere hides nothing, and
//! skips everything that the structural check has reported.

use std::collections::{BTreeMap, BTreeSet};

use devenv_document::value::{image_name, not_zero, positive};
use devenv_kinds::{
    capability::{KindReload, ServiceKind, ServiceNode, setting_names},
    describe::{METRICS_PORT, PortNeed},
};

use super::{
    access, check, convert, graph, interpolate, shape,
    source::{Findings, Sources, Span},
    spelling::{all_of, did_you_mean, one_of},
    tree::{Content, Node, shortened},
};

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
    networks(root, findings);
    let Some(entry) = root.entry("services").filter(|entry| entry.node.map().is_some()) else { return };
    let services = services(&entry.node);
    graph::dependencies(&entry.node, &services, findings);
    host_ports(&services, sources, findings);
    for service in &services {
        common(service, findings);
        server_ports(service, findings);
        kind_rules(service, &services, findings);
    }
}

/// What the kind asks of its own fields.
fn kind_rules(service: &ServiceNode<'_>, services: &[ServiceNode<'_>], findings: &mut Findings) {
    let rules = service.kind.rules();
    if let Some(version) = service.fields.get("version") {
        rules.version(version, findings);
    }
    setting_names(service.fields, findings);
    rules.check(service, services, findings);
}

/// Networks that the document defines, and those that its containers are on.
fn networks(root: &Node, findings: &mut Findings) {
    let defined: BTreeSet<&str> = root.get("networks").into_iter().flat_map(Node::entries).map(|(name, _)| name).collect();
    if let Some(subnet) = root.get("network").and_then(|network| network.get("subnet")) {
        access::own_subnet(subnet, findings);
    }
    for (name, entry) in root.get("networks").into_iter().flat_map(Node::entries) {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(good) || name.len() > 60 {
            findings.error(entry.key, "bad-name", format!("`{}` is not a network name", shortened(name)));
        }
        if let Some(subnet) =
            entry.node.get("subnet").filter(|node| node.text().is_some_and(|text| text.parse::<ipnet::Ipv4Net>().is_err()))
        {
            let message = format!("`subnet` must be an IPv4 subnet such as `10.9.0.0/24`, but is {}", subnet.noun());
            findings.error(subnet.span, "bad-value", message);
        }
    }
    for (_, service) in root.get("services").into_iter().flat_map(Node::entries) {
        let used = service.node.entries().filter_map(|(_, fields)| fields.node.get("networks")).flat_map(Node::entries);
        for (name, entry) in used.filter(|(name, _)| *name != "default" && !defined.contains(name)) {
            let hint = did_you_mean(name, defined.iter().copied()).unwrap_or_else(|| format!("add `{name}: {{}}` under `networks`"));
            findings.error(entry.key, "unknown-network", format!("unknown network `{}`", shortened(name))).hint(hint);
        }
    }
}

/// Services with a kind; the others were reported.
pub(super) fn services(node: &Node) -> Vec<ServiceNode<'_>> {
    let kinds = &shape::service().exactly_one;
    node.entries()
        .filter_map(|(name, entry)| {
            let (kind, fields) = entry.node.entries().find(|(field, _)| kinds.iter().any(|kind| kind == field))?;
            let kind = devenv_kinds::find(kind)?;
            Some(ServiceNode { name, key: entry.key, node: &entry.node, kind, fields: &fields.node })
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

fn variable_names(node: &Node, findings: &mut Findings) {
    names_of_variables(node, str::to_owned, "a name consists of letters, digits and `_`, and does not start with a digit", findings);
}

/// `plain` makes a variable's name of what may stand besides.
fn names_of_variables(node: &Node, plain: impl Fn(&str) -> String, hint: &str, findings: &mut Findings) {
    for (name, entry) in node.entries() {
        let plain = plain(name);
        if plain.is_empty() || interpolate::name_length(&plain) != plain.len() {
            findings.error(entry.key, "bad-name", format!("`{}` is not a variable name", shortened(name))).hint(hint);
        }
    }
}

fn common(service: &ServiceNode<'_>, findings: &mut Findings) {
    let node = service.node;
    for field in ["environment", "probe", "variables_from"] {
        if let Some(entry) = node.entry(field).filter(|_| !service.kind.rules().is_own_program()) {
            let programs = all_of(devenv_kinds::all().filter(|kind| kind.rules().is_own_program()).map(ServiceKind::name));
            findings
                .error(
                    entry.key,
                    "not-for-this-kind",
                    format!("`{field}` is for the kinds {programs}, but `{}` is of kind `{}`", service.name, service.kind.name()),
                )
                .hint(match field {
                    "probe" => "remove it: this kind has a built-in probe for its protocol",
                    "variables_from" => "remove it: a server gets no variables of other services",
                    _ => "configure the server with the fields of its kind",
                });
        }
    }
    if let Some(environment) = node.get("environment") {
        // Some programs read settings from variables whose names have dots, such as `discovery.type`; a shell has none of them.
        let plain = |name: &str| name.replace(['.', '-'], "_");
        names_of_variables(
            environment,
            plain,
            "a name consists of letters, digits, `_`, `.` and `-`, and does not start with a digit",
            findings,
        );
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

fn probe_rules(service: &ServiceNode<'_>, probe: &Node, findings: &mut Findings) {
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
    if entry.node.entry("port").is_none()
        && service.node.entry("ports").is_none()
        && let Some(hint) = service.kind.rules().port_hint(service)
    {
        findings
            .error(entry.key, "no-port", format!("`{way}` has no port to connect to: `{}` has none", service.name))
            .hint(format!("{hint}, or `port` here"));
    }
}

fn watch_rules(service: &ServiceNode<'_>, watch: &Node, findings: &mut Findings) {
    if let Some(paths) = watch.entry("paths").filter(|entry| entry.node.list().is_some_and(<[Node]>::is_empty)) {
        findings.error(paths.key, "empty", "`paths` must not be empty");
    }
    for glob in ["ignore", "include"].into_iter().filter_map(|field| watch.get(field)).flat_map(Node::items) {
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
    if let Some(exec) = watch.entry("exec").filter(|_| change != "sync") {
        findings.error(exec.key, "not-for-this-change", format!("`exec` is only for `on_change: sync`, not for `{change}`"));
    }
    let needed = match change {
        "signal" => Some("signal"),
        "run" => Some("run"),
        "sync" => Some("to"),
        _ => None,
    };
    if let Some(field) = needed.filter(|field| watch.entry(field).is_none()) {
        findings.error(on_change.span, "missing-field", format!("`on_change: {change}` needs `{field}`"));
    }
    if let Some(message) = wrong_reload(service, change) {
        findings.error(on_change.span, "not-for-this-kind", message);
    }
}

/// Why the service cannot react to changes in this way, if only some kinds can.
fn wrong_reload(service: &ServiceNode<'_>, change: &str) -> Option<String> {
    let of = |kind: &dyn ServiceKind| kind.rules().reloads().iter().copied().find(|reload| reload.on_change == change);
    let able = devenv_kinds::all().find(|kind| of(*kind).is_some())?.name();
    match of(service.kind) {
        None => Some(format!("`on_change: {change}` is only for the kind `{able}`")),
        Some(KindReload { needs: Some(field), .. }) if service.fields.entry(field).is_none() => {
            Some(format!("`on_change: {change}` needs the field `{field}` of the {able}"))
        }
        Some(_) => None,
    }
}

/// A server has the ports of its kind, and no others.
fn server_ports(service: &ServiceNode<'_>, findings: &mut Findings) {
    if service.kind.rules().is_own_program() {
        return;
    }
    // Fields that are wrong were reported, and say nothing of ports.
    let Some(kind) = convert::kind(service.node) else { return };
    let needs: Vec<PortNeed> = kind.fields().ports().into_iter().filter(|need| need.container != METRICS_PORT).collect();
    for (port, entry) in service.node.get("ports").into_iter().flat_map(Node::entries) {
        let Ok(number) = port.parse::<u16>() else { continue };
        if number == 0 || needs.iter().any(|need| need.known_as == number || need.container == number) {
            continue;
        }
        let known: Vec<String> = needs.iter().map(|need| need.known_as.to_string()).collect();
        let of_kind = all_of(known.iter().map(String::as_str));
        let message = format!("`{}` has no port {number}: the ports of a `{}` are {of_kind}", service.name, service.kind.name());
        let hint = match (known.as_slice(), entry.node.text()) {
            ([], _) => "remove it".to_owned(),
            ([only, ..], Some(host)) if host.parse::<u16>().is_ok_and(|host| host > 0) => {
                format!("the container's port comes first: `{only}: {}`", shortened(host))
            }
            ([only, ..], _) => format!("write `{only}` and the port of the host"),
        };
        findings.error(entry.key, "unknown-port", message).hint(hint);
    }
}

/// Fixed host ports are given once.
fn host_ports(services: &[ServiceNode<'_>], sources: &Sources, findings: &mut Findings) {
    let mut taken: BTreeMap<i64, (&str, Span)> = BTreeMap::new();
    for service in services {
        let fixed = service.node.get("ports").into_iter().flat_map(|ports| ports.entries().map(|(_, entry)| &entry.node));
        let own = service.kind.rules().host_ports().iter().filter_map(|field| service.fields.get(field));
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
