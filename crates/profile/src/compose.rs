//! Converts Compose files to profiles, whose document is checked like any other, and back. Pure; `load` reads the files.
//!
//! A converted document is written as text and parsed like a profile, so that all profiles pass the same checks.
//! Their findings are reported at the service of the Compose file.

use devenv_compose::{Converted, Loaded};
use serde_json::{Map, Value};

use super::{
    assemble::{self, Layer},
    source::{Findings, Sources},
    tree::{Content, Node},
    yaml,
};

/// Compose files, ready to be assembled as a profile.
pub(super) struct Given {
    /// `name:` of the files.
    pub(super) name: Option<String>,
    /// The name under which Docker Compose runs them.
    pub(super) project: String,
    pub(super) sources: Sources,
    /// Warnings.
    pub(super) findings: Findings,
    pub(super) layer: Layer,
    /// The document as it is shown.
    pub(super) shown: Value,
}

/// The layer of a profile from the files; otherwise their problems.
pub(super) fn convert(loaded: Loaded, name: &str) -> Result<Given, (Findings, Sources)> {
    let Loaded { mut sources, mut findings, converted } = loaded;
    let Some(Converted { name: given, project, mut document, mut shown, places }) = converted.filter(|_| !findings.has_errors()) else {
        return Err((findings, sources));
    };
    recognise(&mut document);
    recognise(&mut shown);
    let text = serde_yaml::to_string(&escaped(&document)).unwrap_or_default();
    let file = sources.add(format!("{name} as a profile"), text);
    let mut own = Findings::default();
    let mut layer = assemble::read(&sources, file, false, &mut own);
    // Problems of a service from here on are reported where the Compose file defines it.
    if let Some(services) = layer.root.get_mut("services").and_then(Node::map_mut) {
        for (service, entry) in services.iter_mut() {
            if let Some(place) = places.get(service) {
                entry.key = *place;
                moved(&mut entry.node, *place);
            }
        }
    }
    for finding in own.iter() {
        let place = places.values().next().copied().unwrap_or(finding.span);
        findings.error(place, finding.code, finding.message.clone());
    }
    Ok(Given { name: given, project, sources, findings, layer, shown })
}

fn moved(node: &mut Node, place: super::source::Span) {
    node.span = place;
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| moved(item, place)),
        Content::Map(entries) => entries.values_mut().for_each(|entry| {
            entry.key = place;
            moved(&mut entry.node, place);
        }),
        Content::Null | Content::Scalar(_) => {}
    }
}

/// Images of known servers are probed in their protocol, with the credentials of the file.
fn recognise(document: &mut Value) {
    for service in document["services"].as_object_mut().into_iter().flat_map(|services| services.values_mut()) {
        let environment = service["environment"].clone();
        let Some(container) = service.get_mut("container").and_then(Value::as_object_mut) else { continue };
        let command: Vec<&str> =
            container.get("command").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        // Another entrypoint may start anything.
        let image = container.get("image").and_then(Value::as_str).filter(|_| !container.contains_key("entrypoint"));
        let server = image.and_then(|image| devenv_kinds::server_of(image, &command));
        if let Some(server) = server {
            container.insert("server".to_owned(), Value::from(server));
            let files = server_files(&environment, container);
            if !files.is_empty() {
                container.insert("server_files".to_owned(), files.into());
            }
        }
    }
}

/// What the names of variables with files end with, if devenv's clients need their values.
const READ: &[&str] = &["PASSWORD_FILE", "PASS_FILE", "USER_FILE", "USERNAME_FILE", "DB_FILE", "DATABASE_FILE"];

/// Variables such as `POSTGRES_PASSWORD_FILE`, whose file is one of the project that is mounted into the container.
fn server_files(environment: &Value, container: &Map<String, Value>) -> Map<String, Value> {
    let mounts = || container.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let file = |(name, path): (&String, &Value)| {
        let name = name.strip_suffix("_FILE").filter(|_| READ.iter().any(|end| name.ends_with(end)))?;
        let mount = mounts().find(|mount| mount["target"] == *path)?;
        mount["source"].as_str().filter(|source| source.starts_with(['.', '/']))?;
        Some((name.to_owned(), mount["source"].clone()))
    };
    environment.as_object().into_iter().flatten().filter_map(file).collect()
}

/// `$` begins a variable in a profile.
fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('$', "$$")),
        Value::Array(items) => items.iter().map(escaped).collect(),
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), escaped(value))).collect::<Map<_, _>>().into(),
        other => other.clone(),
    }
}

/// The text of a profile with this document. References to variables stay.
pub fn profile_text(document: &Value) -> String {
    let mut escaped = escaped(document);
    for (name, service) in document["services"].as_object().into_iter().flatten() {
        for (path, file) in service["container"]["secret_files"].as_object().into_iter().flatten() {
            if let Some(content) = file["content"].as_str().filter(|content| content.starts_with("${")) {
                escaped["services"][name.as_str()]["container"]["secret_files"][path.as_str()]["content"] = Value::from(content);
            }
        }
    }
    serde_yaml::to_string(&escaped).unwrap_or_default()
}

/// The document of a profile as a Compose file; otherwise the services that cannot be rendered, with reasons.
pub fn render(document: &Value, name: Option<&str>) -> Result<String, Vec<(String, String)>> {
    devenv_compose::render(document, name).map_err(|all| all.into_iter().map(|one| (one.service, one.reason)).collect())
}

/// Whether a text is a Compose file rather than a profile.
pub(super) fn is_compose(text: &str) -> bool {
    let mut sources = Sources::default();
    let file = sources.add("", text);
    let language = yaml::Language { tags: &["!reset", "!override"], documents: true };
    let root = yaml::parse_with(&sources, file, language, &mut Findings::default()).root;
    let profile = ["extends", "env_file", "variables", "description"].iter().any(|key| root.entry(key).is_some());
    let has_kind = |service: &Node| service.entries().any(|(key, _)| devenv_kinds::find(key).is_some());
    let mut services = root.get("services").into_iter().flat_map(Node::entries).peekable();
    let compose = ["include", "volumes", "secrets", "configs", "version"].iter().any(|key| root.entry(key).is_some());
    !profile && (compose || services.peek().is_some()) && !services.any(|(_, entry)| has_kind(&entry.node))
}

#[cfg(test)]
mod tests {
    use super::is_compose;

    #[test]
    fn a_compose_file_is_distinguished_from_a_profile() {
        for (text, compose) in [
            ("services: { db: { image: x } }", true),
            ("include: [a.yaml]", true),
            ("services: { db: { postgres: {} } }", false),
            ("services: { db: { image: x, container: {} } }", false),
            ("extends: [a]\nservices: {}", false),
            ("", false),
            ("[a", false),
        ] {
            assert_eq!(is_compose(text), compose, "{text}");
        }
    }
}
