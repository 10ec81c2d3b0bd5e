//! The document of a profile as a Compose file: what [`load`](crate::load) makes of one, the other way round.

mod life;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use life::{dependencies, ending, health, watch};

use crate::mounts::is_image;

/// A service that Compose cannot run as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrendered {
    pub service: String,
    pub reason: String,
}

/// The text of a Compose file. Only services of the kind `container` can be rendered.
pub fn render(document: &Value, name: Option<&str>) -> Result<String, Vec<Unrendered>> {
    let mut services = owners_first(document["services"].as_object().cloned().unwrap_or_default());
    let mut renderer = Renderer {
        owners: BTreeMap::new(),
        lent: BTreeSet::new(),
        volumes: Map::new(),
        configs: Map::new(),
        secrets: Map::new(),
        images: named_images(&mut services),
        declared: declared(document),
    };
    let mut unrendered = Vec::new();
    for (service, value) in &services {
        match value["container"].as_object() {
            None => {
                let kind = value.as_object().and_then(|fields| fields.keys().next()).map_or("none", String::as_str).to_owned();
                unrendered.push(Unrendered { service: service.clone(), reason: format!("it is no container but of the kind `{kind}`") });
            }
            Some(container) => renderer.note_lent(service, container),
        }
    }
    for (service, value) in &services {
        renderer.note_owners(service, &value["container"]);
    }
    if !unrendered.is_empty() {
        return Err(unrendered);
    }
    let rendered: Map<String, Value> =
        services.iter().map(|(name, service)| (name.clone(), renderer.service(name, service).into())).collect();
    let mut file = Map::new();
    if let Some(name) = name {
        file.insert("name".to_owned(), json!(name));
    }
    file.insert("services".to_owned(), rendered.into());
    let networks: Map<String, Value> =
        document["networks"].as_object().into_iter().flatten().map(|(name, network)| (name.clone(), self::network(network))).collect();
    for (section, entries) in
        [("networks", networks), ("volumes", renderer.volumes), ("configs", renderer.configs), ("secrets", renderer.secrets)]
    {
        if !entries.is_empty() {
            file.insert(section.to_owned(), entries.into());
        }
    }
    Ok(serde_yaml::to_string(&Value::from(file)).unwrap_or_default())
}

/// A volume belongs to the first service of a file that mounts it: that one comes before the others that use it.
fn owners_first(mut services: Map<String, Value>) -> Map<String, Value> {
    let mut ordered = Map::new();
    while !services.is_empty() {
        let waits = |name: &str, service: &Value| {
            let owners = service["container"]["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["of"].as_str());
            owners.filter(|owner| *owner != name).any(|owner| services.contains_key(owner))
        };
        let free: Vec<String> = services.iter().filter(|(name, service)| !waits(name, service)).map(|(name, _)| name.clone()).collect();
        // In a circle nobody is first.
        let next = if free.is_empty() { services.keys().take(1).cloned().collect() } else { free };
        for name in next {
            ordered.extend(services.shift_remove_entry(&name));
        }
    }
    ordered
}

/// The marks around the name of a variable that the file refers to: noncharacters of Unicode, which no text has.
const OPENING: char = '\u{fdd2}';
const CLOSING: char = '\u{fdd3}';

/// The place in a text of the document at which the rendered file refers to a variable, which must then be set.
pub fn variable(name: &str) -> String {
    format!("{OPENING}{name}{CLOSING}")
}

fn escaped_text(text: &str) -> String {
    let text = text.replace('$', "$$");
    if text.contains(OPENING) { text.replace(OPENING, "${").replace(CLOSING, ":?is not set}") } else { text }
}

/// `$` would begin a variable.
fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(escaped_text(text)),
        Value::Array(items) => items.iter().map(escaped).collect(),
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), escaped(value))).collect::<Map<_, _>>().into(),
        other => other.clone(),
    }
}

fn network(network: &Value) -> Value {
    let mut rendered = Map::new();
    if let Some(name) = network["external"].as_str() {
        rendered.insert("external".to_owned(), json!(true));
        rendered.insert("name".to_owned(), json!(name));
    }
    if network["internal"] == true {
        rendered.insert("internal".to_owned(), json!(true));
    }
    if let Some(subnet) = network["subnet"].as_str() {
        rendered.insert("ipam".to_owned(), json!({ "config": [{ "subnet": subnet }] }));
    }
    rendered.into()
}

struct Renderer {
    /// The services that have a volume of each name.
    owners: BTreeMap<String, Vec<String>>,
    /// Volumes that other services use, as service and name.
    lent: BTreeSet<(String, String)>,
    volumes: Map<String, Value>,
    configs: Map<String, Value>,
    secrets: Map<String, Value>,
    /// The images of services, by the names of the services.
    images: BTreeMap<String, String>,
    /// The profile's secrets, as Compose defines them.
    declared: BTreeMap<String, Value>,
}

/// Fields of a container that have the same name and form in both languages.
const SAME: &[&str] = &[
    "image",
    "platform",
    "entrypoint",
    "command",
    "working_dir",
    "user",
    "hostname",
    "domainname",
    "tty",
    "stdin_open",
    "read_only",
    "privileged",
    "dns",
    "dns_search",
    "group_add",
    "device_cgroup_rules",
    "devices",
    "pid",
    "ipc",
    "uts",
    "userns_mode",
    "cgroup",
    "cgroup_parent",
    "runtime",
    "cpuset",
    "mac_address",
    "sysctls",
    "storage_opt",
    "labels",
    "ulimits",
    "network_mode",
    "shm_size",
];
/// Limits by their names here and there.
const LIMITS: &[(&str, &str)] = &[
    ("cpu_shares", "cpu_shares"),
    ("cpu_period", "cpu_period"),
    ("cpu_quota", "cpu_quota"),
    ("pids", "pids_limit"),
    ("oom_score_adj", "oom_score_adj"),
    ("swappiness", "mem_swappiness"),
    ("memory_reservation", "mem_reservation"),
    ("oom_kill_disable", "oom_kill_disable"),
];

impl Renderer {
    fn note_lent(&mut self, service: &str, container: &Map<String, Value>) {
        for volume in container.get("volumes").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(owner), Some(source)) = (volume["of"].as_str(), volume["source"].as_str())
                && owner != service
            {
                self.lent.insert((owner.to_owned(), source.to_owned()));
            }
        }
    }

    /// Notes whose volume has which name; two of the same name get names of their own.
    fn note_owners(&mut self, service: &str, container: &Value) {
        for volume in container["volumes"].as_array().into_iter().flatten() {
            let Some(source) = volume["source"].as_str().filter(|source| !source.starts_with(['.', '/']) && !is_image(source)) else {
                continue;
            };
            if self.is_nameless(service, volume) {
                continue;
            }
            let owner = volume["of"].as_str().unwrap_or(service).to_owned();
            let owners = self.owners.entry(source.to_owned()).or_default();
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
    }

    fn service(&mut self, name: &str, service: &Value) -> Map<String, Value> {
        let container = &service["container"];
        let mut rendered = Map::new();
        for field in SAME {
            if let Some(value) = container.get(*field) {
                rendered.insert((*field).to_owned(), escaped(value));
            }
        }
        if container.get("init").is_none_or(|init| *init == true) {
            rendered.insert("init".to_owned(), json!(true));
        }
        for (ours, theirs) in
            [("dns_options", "dns_opt"), ("security_options", "security_opt"), ("pull", "pull_policy"), ("extra_hosts", "extra_hosts")]
        {
            if let Some(value) = container.get(ours) {
                rendered.insert(theirs.to_owned(), escaped(value));
            }
        }
        if container.get("host_alias").is_none_or(|alias| *alias == true) {
            rendered.entry("extra_hosts").or_insert_with(|| json!({}))["host.docker.internal"] = json!("host-gateway");
        }
        for (ours, theirs) in [("add", "cap_add"), ("drop", "cap_drop")] {
            if let Some(value) = container["capabilities"].get(ours) {
                rendered.insert(theirs.to_owned(), value.clone());
            }
        }
        if let Some(build) = container["build"].as_object() {
            self.build(build, &mut rendered);
        }
        for (ours, theirs) in LIMITS {
            if let Some(value) = container["limits"].get(*ours) {
                rendered.insert((*theirs).to_owned(), escaped(value));
            }
        }
        if let Some(swap) = container["limits"]["swap"].as_str() {
            rendered.insert("memswap_limit".to_owned(), json!(if swap == "unlimited" { "-1" } else { swap }));
        }
        if let Some(environment) = service.get("environment") {
            rendered.insert("environment".to_owned(), escaped(environment));
        }
        Self::ports(service, &mut rendered);
        self.storage(name, container, &mut rendered);
        networks(container, &mut rendered);
        dependencies(service, &mut rendered);
        health(service, &mut rendered);
        ending(service, &mut rendered);
        if let Some(memory) = service["resources"].get("memory") {
            rendered.insert("mem_limit".to_owned(), memory.clone());
        }
        if let Some(cpus) = service["resources"].get("cpus") {
            rendered.insert("cpus".to_owned(), cpus.clone());
        }
        watch(service, &mut rendered);
        life::hooks(service, &mut rendered);
        gpus(service, &mut rendered);
        rendered
    }

    fn build(&mut self, build: &Map<String, Value>, rendered: &mut Map<String, Value>) {
        let mut value = Map::new();
        for (field, inner) in build {
            match field.as_str() {
                "image" => {
                    rendered.insert("image".to_owned(), escaped(inner));
                }
                "inline" => {
                    value.insert("dockerfile_inline".to_owned(), escaped(inner));
                }
                "secrets" => {
                    let mut used = Vec::new();
                    for (id, secret) in inner.as_object().into_iter().flatten() {
                        let definition = match secret["from_env"].as_str() {
                            Some(variable) => json!({ "environment": variable }),
                            None => json!({ "file": secret["file"] }),
                        };
                        self.secrets.insert(id.clone(), definition);
                        used.push(json!(id));
                    }
                    value.insert("secrets".to_owned(), used.into());
                }
                other => {
                    value.insert(other.to_owned(), escaped(inner));
                }
            }
        }
        rendered.insert("build".to_owned(), value.into());
    }

    fn ports(service: &Value, rendered: &mut Map<String, Value>) {
        let container = &service["container"];
        let mut ports: Vec<Value> = Vec::new();
        for port in container["expose"].as_array().into_iter().flatten() {
            if service["ports"].get(port.to_string()).is_none() {
                ports.push(json!(format!("127.0.0.1::{port}")));
            }
        }
        for (port, host) in service["ports"].as_object().into_iter().flatten() {
            ports.push(json!(format!("127.0.0.1:{host}:{port}")));
        }
        for publish in container["publish"].as_array().into_iter().flatten() {
            let mut value = Map::from_iter([("target".to_owned(), publish["port"].clone())]);
            if let Some(host) = publish.get("host") {
                value.insert("published".to_owned(), json!(host.to_string()));
            }
            value.insert("host_ip".to_owned(), publish.get("address").cloned().unwrap_or_else(|| json!("127.0.0.1")));
            if let Some(protocol) = publish.get("protocol") {
                value.insert("protocol".to_owned(), protocol.clone());
            }
            ports.push(value.into());
        }
        if !ports.is_empty() {
            rendered.insert("ports".to_owned(), ports.into());
        }
    }
}

fn networks(container: &Value, rendered: &mut Map<String, Value>) {
    let mut networks = Map::new();
    for (name, attachment) in container["networks"].as_object().into_iter().flatten() {
        let mut value = Map::new();
        if let Some(aliases) = attachment.get("aliases") {
            value.insert("aliases".to_owned(), aliases.clone());
        }
        if let Some(address) = attachment.get("address") {
            value.insert("ipv4_address".to_owned(), address.clone());
        }
        networks.insert(name.clone(), value.into());
    }
    if let Some(aliases) = container.get("aliases") {
        networks.insert("default".to_owned(), json!({ "aliases": aliases }));
    }
    if !networks.is_empty() {
        rendered.insert("networks".to_owned(), networks.into());
    }
}

fn gpus(service: &Value, rendered: &mut Map<String, Value>) {
    let mut requests = Vec::new();
    for request in service["container"]["gpus"].as_array().into_iter().flatten() {
        let mut value = Map::new();
        for (ours, theirs) in
            [("driver", "driver"), ("count", "count"), ("ids", "device_ids"), ("capabilities", "capabilities"), ("options", "options")]
        {
            if let Some(field) = request.get(ours) {
                value.insert(theirs.to_owned(), if *field == json!(-1) { json!("all") } else { escaped(field) });
            }
        }
        value.entry("capabilities").or_insert_with(|| json!(["gpu"]));
        requests.push(Value::from(value));
    }
    if !requests.is_empty() {
        let devices = json!({ "resources": { "reservations": { "devices": requests } } });
        rendered.entry("deploy").or_insert_with(|| json!({}))["resources"] = devices["resources"].clone();
    }
}

/// The image of each service. One that another mounts gets a name if it has none, because Compose mounts images by their names.
fn named_images(services: &mut Map<String, Value>) -> BTreeMap<String, String> {
    let mounted: BTreeSet<String> = services
        .values()
        .flat_map(|service| service["container"]["volumes"].as_array().into_iter().flatten())
        .filter_map(|volume| volume["source"].as_str()?.strip_prefix("service:").map(str::to_owned))
        .collect();
    let mut images = BTreeMap::new();
    for (name, service) in services.iter_mut() {
        if mounted.contains(name)
            && let Some(build) = service.get_mut("container").and_then(|container| container.get_mut("build")?.as_object_mut())
        {
            build.entry("image").or_insert_with(|| json!(format!("{name}:latest")));
        }
        let container = &service["container"];
        if let Some(image) = container["image"].as_str().or_else(|| container["build"]["image"].as_str()) {
            images.insert(name.clone(), image.to_owned());
        }
    }
    images
}

/// The secrets of the profile: those that are neither files nor variables are given by variables of their names.
fn declared(document: &Value) -> BTreeMap<String, Value> {
    let secrets = document["secrets"].as_object().into_iter().flatten();
    let defined = |name: &str, source: &Value| match (source["from_env"].as_str(), source["file"].as_str()) {
        (None, Some(file)) => json!({ "file": file }),
        (variable, _) => json!({ "environment": variable.unwrap_or(name) }),
    };
    secrets.map(|(name, source)| (name.clone(), defined(name, source))).collect()
}
