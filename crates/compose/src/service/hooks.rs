//! Commands at points of a service's life: those that run in its container, and those that run before it in containers of their own.

use devenv_document::tree::Node;
use serde_json::{Map, Value, json};

use crate::{mounts::of_service, project::Project};

use super::Converter;

/// Of a service's name, so that the names of the containers before it stay short enough.
const LONGEST_NAME: usize = 20;

impl Converter<'_, '_> {
    pub(super) fn hooks(&mut self) {
        let mut hooks = Map::new();
        for name in ["post_start", "pre_stop"] {
            let listed = self.node.get(name).into_iter().flat_map(Node::items);
            let list: Vec<Value> = listed.filter_map(|item| hook(item, self.project)).collect();
            if !list.is_empty() {
                hooks.insert(name.to_owned(), list.into());
            }
        }
        if !hooks.is_empty() {
            self.set("hooks", hooks);
        }
    }
}

/// A command in the service's own container.
pub(super) fn hook(item: &Node, project: &mut Project<'_>) -> Option<Value> {
    let Some(command) = project.values().command(item, "command").filter(|command| !command.is_empty()) else {
        project.findings.error(item.span, "missing-field", "a hook needs a `command`");
        return None;
    };
    let mut value = Map::from_iter([("command".to_owned(), json!(command))]);
    for name in ["user", "working_dir"] {
        if let Some(text) = project.values().text(item, name).filter(|text| !text.is_empty()) {
            value.insert(name.to_owned(), json!(text));
        }
    }
    let mut variables = Map::new();
    for (name, given) in project.values().pairs(item, "environment") {
        if let Some(given) = given.or_else(|| project.variable(&name)) {
            variables.insert(name, json!(given));
        }
    }
    if !variables.is_empty() {
        value.insert("environment".to_owned(), variables.into());
    }
    if project.values().boolean(item, "privileged") == Some(true) {
        value.insert("privileged".to_owned(), json!(true));
    }
    Some(value.into())
}

/// The services that run to their end before `service`, in order; `service` then depends on the last one. Each has the mounts, the
/// networks and the variables of the service, as in Compose.
pub(crate) fn before(name: &str, node: &Node, service: &mut Value, project: &mut Project<'_>) -> Vec<(String, Value)> {
    let mut made: Vec<(String, Value)> = Vec::new();
    for (number, item) in node.get("pre_start").into_iter().flat_map(Node::items).enumerate() {
        if project.values().boolean(item, "per_replica") == Some(true) {
            project
                .findings
                .error(item.span, "not-supported", "`per_replica: true` is not supported")
                .hint("leave it out: the command runs once, before the first copy of the service");
            continue;
        }
        let Some(hook) = hook(item, project) else { continue };
        let image = project.values().text(item, "image").filter(|image| !image.is_empty());
        let (own, container) = (own_name(name, number, project), before_container(name, &service["container"], &hook, image));
        let mut value = Map::from_iter([("container".to_owned(), Value::from(container)), ("variables_from".to_owned(), json!([]))]);
        let mut depends = service["depends_on"].as_object().cloned().unwrap_or_default();
        if let Some((last, _)) = made.last() {
            depends.insert(last.clone(), json!("completed"));
        }
        if !depends.is_empty() {
            value.insert("depends_on".to_owned(), depends.into());
        }
        let mut variables = service["environment"].as_object().cloned().unwrap_or_default();
        variables.extend(hook["environment"].as_object().cloned().unwrap_or_default());
        if !variables.is_empty() {
            value.insert("environment".to_owned(), variables.into());
        }
        value.insert("on_dependency_restart".to_owned(), json!("ignore"));
        value.insert("restart".to_owned(), json!({ "policy": "never" }));
        made.push((own, value.into()));
    }
    if let Some((last, _)) = made.last() {
        depend(service, last);
    }
    made
}

/// The service starts when the other one has run to its end.
pub(crate) fn depend(service: &mut Value, other: &str) {
    if let Some(depends) =
        service.as_object_mut().and_then(|service| service.entry("depends_on").or_insert_with(|| json!({})).as_object_mut())
    {
        depends.insert(other.to_owned(), json!("completed"));
    }
}

fn own_name(name: &str, number: usize, project: &Project<'_>) -> String {
    let short: String = name.chars().take(LONGEST_NAME).collect();
    let taken = |own: &String| project.names.values().any(|known| known == own);
    let own = format!("{}-pre-start-{}", short.trim_end_matches('-'), number + 1);
    if taken(&own) { format!("{own}-2") } else { own }
}

fn before_container(name: &str, container: &Value, hook: &Value, image: Option<String>) -> Map<String, Value> {
    let mut made = Map::new();
    match image {
        Some(image) => {
            made.insert("image".to_owned(), json!(image));
        }
        None => made.extend(["image", "build", "platform", "pull"].into_iter().filter_map(|field| copied(container, field))),
    }
    made.insert("command".to_owned(), hook["command"].clone());
    made.extend(["user", "working_dir", "privileged"].into_iter().filter_map(|field| copied(hook, field)));
    made.insert("init".to_owned(), json!(false));
    made.insert("host_alias".to_owned(), json!(false));
    let volumes: Vec<Value> =
        container["volumes"].as_array().into_iter().flatten().map(|volume| of_service(volume.clone(), name)).collect();
    if !volumes.is_empty() {
        made.insert("volumes".to_owned(), volumes.into());
    }
    let networks: Map<String, Value> =
        container["networks"].as_object().into_iter().flatten().map(|(network, _)| (network.clone(), json!({}))).collect();
    if !networks.is_empty() {
        made.insert("networks".to_owned(), networks.into());
    }
    made.extend(["network_mode"].into_iter().filter_map(|field| copied(container, field)));
    made
}

fn copied(from: &Value, field: &str) -> Option<(String, Value)> {
    from.get(field).map(|value| (field.to_owned(), value.clone()))
}
