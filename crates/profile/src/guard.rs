//! PURE: restrictions on a profile's own variables and secrets. The loader calls it once services are known.
//!
//! A variable that a service of the environment owns, such as `DATABASE_URL`, leads to that service. One from an env file or
//! `variables` in its place would make tools that write to a server of this environment write to another one, so only a
//! profile that says `override: [NAME]` may replace it. A declared secret is allowed only where the
//! engine and devenv do not print it.

use devenv_spec::{ServiceName, sensitive};
use indexmap::IndexMap;

use super::{
    assemble::{Assembled, Variables},
    compile,
    document::{Profile, SecretSource, VariablesFrom},
    graph, interpolate,
    source::{Findings, Sources, Span},
    spelling,
    tree::{Content, Node},
    variables::{self, Giver},
};

/// Reports variables that replace a connection without permission, and permissions without effect.
pub(super) fn connections(
    assembled: &Assembled,
    owned: &IndexMap<String, ServiceName>,
    overrides: &[String],
    sources: &Sources,
    findings: &mut Findings,
) {
    let Assembled { merged, variables, .. } = assembled;
    for (name, service) in owned {
        if overrides.contains(name) {
            continue;
        }
        for span in places(merged, variables, name) {
            let declared = merged.get("services").and_then(|services| services.entry(service.as_str()));
            let at = declared.map(|entry| format!(" ({})", sources.place(entry.key))).unwrap_or_default();
            findings
                .error(
                    span,
                    "replaces-connection",
                    format!("`{name}` leads to the service `{service}`{at} and must not be replaced by another value"),
                )
                .hint(format!(
                    "remove this line or give it another name; if `{name}` must lead elsewhere, write `override: [{name}]` in the profile"
                ));
        }
    }
    for (name, span) in listed(merged, "override") {
        if !owned.contains_key(&name) {
            let hint = spelling::did_you_mean(&name, owned.keys().map(String::as_str));
            let message = format!("no service of this profile provides the variable `{name}`, so there is nothing to override");
            findings.error(span, "unknown-variable", message).maybe_hint(hint);
        } else if places(merged, variables, &name).is_empty() {
            findings
                .warning(span, "unused-override", format!("`{name}` has no value in `variables` or in an `env_file`"))
                .hint("remove it from `override`, or set the variable");
        }
    }
}

/// Reports names that would be the variable of two services, or of two parts of one, with both places: as warnings where no service
/// gets variables of others, as in a Compose file.
pub(super) fn collisions(merged: &Node, profile: &Profile, sources: &Sources, findings: &mut Findings) {
    let none = VariablesFrom::Services(Vec::new());
    let unused = profile.services.values().all(|service| service.variables_from.as_ref() == Some(&none));
    let found = compile::collisions(profile);
    for (first, second, names) in variables::by_pair(found) {
        let (Some(at), Some(other)) = (place(merged, &second), place(merged, &first)) else { continue };
        let (more, verb) = match names.len() {
            1 => (String::new(), "is"),
            count => (format!(" (and {} more)", count - 1), "are"),
        };
        let message = format!("`{}`{more} {verb} of both {} and {} ({})", names[0], said(&second), said(&first), sources.place(other));
        let hint = match (first.short, second.short) {
            (false, false) => "rename one of them: in the names of variables, `-` and `_` are the same".to_owned(),
            (true, _) => format!("rename `{}`, or put it before `{}`", second.service, first.service),
            (_, true) => format!("rename `{}`", first.service),
        };
        if unused {
            findings.warning(at, "variables-meet", message).hint("`devenv env` prints the first one's");
        } else {
            findings.error(at, "variables-meet", message).hint(hint);
        }
    }
}

fn said(giver: &Giver) -> String {
    match &giver.part {
        Some(part) => format!("`{part}` of the service `{}`", giver.service),
        None if giver.short => format!("the service `{}`, as the first of its kind,", giver.service),
        None => format!("the service `{}`", giver.service),
    }
}

/// Where the profile names what a variable is about.
fn place(merged: &Node, giver: &Giver) -> Option<Span> {
    let service = merged.get("services")?.entry(giver.service.as_str())?;
    let part = giver.part.as_deref().and_then(|part| key_of(&service.node, part).or_else(|| graph::place_of(&service.node, part)));
    Some(part.unwrap_or(service.key))
}

fn key_of(node: &Node, name: &str) -> Option<Span> {
    node.entry(name).map(|entry| entry.key).or_else(|| node.entries().find_map(|(_, entry)| key_of(&entry.node, name)))
}

/// Where the profile sets a variable.
fn places(merged: &Node, variables: &Variables, name: &str) -> Vec<Span> {
    let written = merged.get("variables").and_then(|node| node.entry(name)).map(|entry| entry.key);
    variables.files.get(name).map(|given| given.span).into_iter().chain(written).collect()
}

fn listed(merged: &Node, field: &str) -> Vec<(String, Span)> {
    let items = merged.get(field).into_iter().flat_map(Node::items);
    items.filter_map(|item| Some((item.text()?.to_owned(), item.span))).collect()
}

/// The names in `override`.
pub(super) fn overrides(merged: &Node) -> Vec<String> {
    listed(merged, "override").into_iter().map(|(name, _)| name).collect()
}

/// Reports secrets with invalid names, undeclared secrets, and secrets in places where they would be shown.
pub(super) fn secrets(merged: &Node, declared: &IndexMap<String, SecretSource>, findings: &mut Findings) {
    for (name, entry) in merged.get("secrets").into_iter().flat_map(Node::entries) {
        if name.is_empty() || interpolate::name_length(name) != name.len() {
            findings
                .error(entry.key, "bad-name", format!("`{name}` is not a name of a secret"))
                .hint("a name consists of letters, digits and `_`, and does not begin with a digit");
        }
        if let Some(SecretSource::Generate(length)) = declared.get(name)
            && !(8..=4096).contains(length)
        {
            findings.error(entry.node.span, "out-of-range", "a generated secret has from 8 to 4096 characters");
        }
        if matches!(declared.get(name), Some(SecretSource::Command(words)) if words.is_empty()) {
            findings.error(entry.node.span, "empty", "the command has no words");
        }
    }
    uses(merged, &mut Vec::new(), declared, findings);
    for (_, service) in merged.get("services").into_iter().flat_map(Node::entries) {
        let fields = service.node.entries().filter_map(|(_, kind)| kind.node.get("secret_files"));
        for secret in fields.flat_map(Node::entries).filter_map(|(_, file)| file.node.get("secret")) {
            if let Some(name) = secret.text().filter(|name| !declared.contains_key(*name)) {
                unknown(name, secret.span, declared, findings);
            }
        }
    }
}

fn unknown(name: &str, span: Span, declared: &IndexMap<String, SecretSource>, findings: &mut Findings) {
    let hint = spelling::did_you_mean(name, declared.keys().map(String::as_str));
    findings
        .error(span, "unknown-secret", format!("the secret `{name}` is not declared"))
        .hint(hint.unwrap_or_else(|| format!("declare it, such as `secrets: {{ {name}: {{ from_env: {name} }} }}`")));
}

fn uses<'a>(node: &'a Node, path: &mut Vec<&'a str>, declared: &IndexMap<String, SecretSource>, findings: &mut Findings) {
    match &node.content {
        Content::Null => {}
        Content::List(items) => items.iter().for_each(|item| uses(item, path, declared, findings)),
        Content::Map(_) => {
            for (key, entry) in node.entries() {
                path.push(key);
                uses(&entry.node, path, declared, findings);
                path.pop();
            }
        }
        Content::Scalar(scalar) => {
            for name in sensitive::declared_in(&scalar.text) {
                if !matches!(path.as_slice(), ["variables", _] | ["services", _, "environment", _]) {
                    findings
                        .error(node.span, "secret-shown", format!("the secret `{name}` would be visible to others here"))
                        .hint("use it under `variables` or in the `environment` of a service, and let the program read the variable");
                } else if !declared.contains_key(name) {
                    unknown(name, node.span, declared, findings);
                }
            }
        }
    }
}
