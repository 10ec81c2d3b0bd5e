//! Rules for image, ports, volumes, files and settings.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use devenv_document::{
    source::Findings,
    spelling::{all_of, did_you_mean, one_of},
    tree::{Content, Node, shortened},
    value::{image_name, positive},
};

use devenv_spec::{Size, sensitive};

use super::ContainerKind;
use crate::capability::{KindReload, Rules, ServiceNode};

/// Fields of which only some texts mean something.
fn settings(fields: &Node, findings: &mut Findings) {
    if let Some(server) = fields.get("server") {
        let known = || crate::all().filter(|kind| kind.servers().is_some()).map(crate::ServiceKind::name);
        if let Some(name) = server.text().filter(|name| !known().any(|known| known == *name)) {
            let message = format!("`server` must be {}, but is `{}`", one_of(known()), shortened(name));
            findings.error(server.span, "bad-value", message).maybe_hint(did_you_mean(name, known()));
        }
    }
    for (field, words) in [("network_mode", &["host", "none"][..]), ("pid", &["host"]), ("ipc", &["host", "private", "shareable", "none"])]
    {
        let Some(node) = fields.get(field) else { continue };
        let shared =
            |text: &str| ["service:", "container:"].iter().any(|prefix| text.strip_prefix(prefix).is_some_and(|name| !name.is_empty()));
        if let Some(text) = node.text().filter(|text| !words.contains(text) && !shared(text)) {
            let words: Vec<&str> = words.iter().copied().chain(["service:NAME", "container:NAME"]).collect();
            let message = format!("`{field}` must be {}, but is `{}`", one_of(words), shortened(text));
            findings.error(node.span, "bad-value", message);
        }
    }
    for (_, entry) in fields.get("networks").into_iter().flat_map(Node::entries) {
        if let Some(address) = entry.node.get("address").filter(|node| node.text().is_some_and(|text| text.parse::<Ipv4Addr>().is_err())) {
            findings.error(address.span, "bad-value", format!("`address` must be an IPv4 address, but is {}", address.noun()));
        }
    }
    let hosts = fields.get("publish").into_iter().flat_map(Node::items).filter_map(|port| port.get("address"));
    for address in hosts.filter(|node| node.text().is_some_and(|text| text.parse::<IpAddr>().is_err())) {
        findings.error(address.span, "bad-value", format!("`address` must be an IP address, but is {}", address.noun()));
    }
    if let Some(swap) = fields.get("limits").and_then(|limits| limits.get("swap"))
        && swap.text().is_some_and(|text| text != "unlimited" && text.parse::<Size>().is_err())
    {
        findings.error(swap.span, "bad-size", format!("`swap` must be a size or `unlimited`, but is {}", swap.noun()));
    }
    for label in fields.get("labels").into_iter().flat_map(Node::entries).filter(|(name, _)| name.starts_with("dev.devenv.")) {
        findings.error(label.1.key, "bad-name", format!("the label `{}` is one of devenv's own", label.0));
    }
}

/// Arguments of a build are kept in the history of the image, which everybody who has the image can read.
fn build_arguments(build: &Node, findings: &mut Findings) {
    for (name, entry) in build.get("args").into_iter().flat_map(Node::entries) {
        let value = entry.node.text().unwrap_or_default();
        if !value.is_empty() && (sensitive::sounds_secret(name) || sensitive::password_of_url(value).is_some()) {
            findings
                .warning(
                    entry.key,
                    "secret-in-image",
                    format!("the build argument `{name}` looks like a secret, and stays in the image's history"),
                )
                .hint("list it under `build.secrets`, and use `RUN --mount=type=secret` in the Dockerfile");
        }
    }
}

/// Contexts that are images of other services: none may need itself.
fn contexts(service: &ServiceNode<'_>, build: &Node, services: &[ServiceNode<'_>], findings: &mut Findings) {
    let of_build = |build: &Node| -> Vec<String> {
        let contexts = build.get("additional_contexts").into_iter().flat_map(Node::entries);
        contexts.filter_map(|(_, entry)| entry.node.text()?.strip_prefix("service:").map(str::to_owned)).collect()
    };
    for (name, entry) in build.get("additional_contexts").into_iter().flat_map(Node::entries) {
        let Some(first) = entry.node.text().and_then(|text| text.strip_prefix("service:")) else { continue };
        let (mut seen, mut open) = (BTreeSet::new(), vec![first.to_owned()]);
        while let Some(next) = open.pop() {
            let known = services.iter().find(|other| other.name == next);
            if seen.insert(next)
                && let Some(build) = known.and_then(|other| other.fields.get("build"))
            {
                open.extend(of_build(build));
            }
        }
        if seen.contains(service.name) {
            let message = format!("the image of `{}` needs itself: its context `{name}` is built from it", service.name);
            findings.error(entry.node.span, "dependency-cycle", message).hint("remove one of these contexts");
        }
    }
}

/// Commands of hooks.
fn hooks(fields: &Node, findings: &mut Findings) {
    let lists = fields.get("hooks").into_iter().flat_map(Node::entries);
    for hook in lists.flat_map(|(_, entry)| entry.node.items()) {
        if let Some(command) = hook.get("command").filter(|command| command.list().is_some_and(<[Node]>::is_empty)) {
            findings.error(command.span, "empty-command", "`command` must not be empty");
        }
    }
}

/// Files that are written into the container.
fn files(fields: &Node, findings: &mut Findings) {
    for field in ["config_files", "secret_files"] {
        for (path, entry) in fields.get(field).into_iter().flat_map(Node::entries) {
            if !path.starts_with('/') {
                let message = format!("`{}` is not an absolute path in the container", shortened(path));
                findings.error(entry.key, "bad-value", message);
            }
            let sources: &[&str] = if field == "secret_files" { &["secret", "content", "file"] } else { &["content", "file"] };
            if sources.iter().filter(|source| entry.node.entry(source).is_some()).count() != 1 {
                let needed = one_of(sources.iter().copied());
                findings.error(entry.key, "missing-field", format!("`{}` needs exactly one of {needed}", shortened(path)));
            }
            if let Some(mode) = entry.node.get("mode")
                && mode.text().is_some_and(|text| {
                    u32::from_str_radix(text, 8).is_ok_and(|mode| mode > 0o7777) || u32::from_str_radix(text, 8).is_err()
                })
            {
                findings.error(mode.span, "bad-value", format!("`mode` must be a file mode such as `0440`, but is {}", mode.noun()));
            }
        }
    }
}

/// A probe from the host reaches only ports that have a place on the host; another program may have that number there.
fn probed_port(service: &ServiceNode<'_>, findings: &mut Findings) {
    let fields = service.fields;
    if fields.entry("network_mode").is_some() {
        return;
    }
    let probe = service.node.get("probe");
    let port = ["http", "tcp"].iter().find_map(|way| probe?.get(way)?.get("port"));
    let Some((port, number)) = port.and_then(|port| Some((port, port.text()?.parse::<u16>().ok()?))) else { return };
    let exposed = fields.get("expose").into_iter().flat_map(Node::items).filter_map(Node::text);
    let published = fields.get("publish").into_iter().flat_map(Node::items).filter_map(|port| port.get("port")?.text());
    let fixed = service.node.get("ports").into_iter().flat_map(Node::entries).map(|(port, _)| port);
    let known: Vec<&str> = exposed.chain(published).chain(fixed).collect();
    if !known.iter().any(|known| known.parse() == Ok(number)) {
        let message = format!("the probe asks port {number}, which `{}` does not expose", service.name);
        let hint = match known.first() {
            Some(_) => format!("its ports are {}; add this one to `expose`, or ask one of them", all_of(known)),
            None => format!("write `expose: [{number}]` under `container`"),
        };
        findings.error(port.span, "unknown-port", message).hint(hint);
    }
}

impl Rules for ContainerKind {
    fn check(&self, service: &ServiceNode<'_>, services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        let images = [fields.entry("image"), service.node.entry("image")].into_iter().flatten().collect::<Vec<_>>();
        match (images.as_slice(), fields.entry("build")) {
            ([], None) if matches!(fields.content, Content::Map(_)) && !fields.entries().any(|(_, entry)| findings.touches(entry.key)) => {
                findings
                    .error(
                        service.key,
                        "missing-field",
                        format!("`{}` needs an image: set `image` or `build` under `container`", service.name),
                    )
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
            if let Some(source) = volume.get("source")
                && let Some(name) = source.text()
                && !name.starts_with(['.', '/'])
                && !name.starts_with("docker-image://")
                && name.contains('/')
            {
                findings
                    .error(source.span, "bad-value", format!("`{name}` is neither a path nor the name of a volume"))
                    .hint(format!("write `./{name}` for a directory of the project"));
            }
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
        if let Some(build) = fields.get("build") {
            build_arguments(build, findings);
            contexts(service, build, services, findings);
        }
        settings(fields, findings);
        files(fields, findings);
        probed_port(service, findings);
        hooks(fields, findings);
    }

    fn is_own_program(&self) -> bool {
        true
    }

    fn port_hint(&self, service: &ServiceNode<'_>) -> Option<&'static str> {
        let listed = |field: &str| service.fields.get(field).is_some_and(|list| list.list().is_none_or(|items| !items.is_empty()));
        let exposed = listed("expose") || listed("publish");
        (!exposed).then_some("set `expose: [8080]` under `container`")
    }

    fn reloads(&self) -> &'static [KindReload] {
        &[KindReload { on_change: "sync", needs: None }, KindReload { on_change: "rebuild", needs: Some("build") }]
    }
}
