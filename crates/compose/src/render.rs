//! The document of a profile as a Compose file: what [`load`](crate::load) makes of one, the other way round.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A service that Compose cannot run as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrendered {
    pub service: String,
    pub reason: String,
}

/// The text of a Compose file. Only services of the kind `container` can be rendered.
pub fn render(document: &Value, name: Option<&str>) -> Result<String, Vec<Unrendered>> {
    let mut renderer = Renderer { owners: BTreeMap::new(), volumes: Map::new(), configs: Map::new(), secrets: Map::new() };
    let services = document["services"].as_object().cloned().unwrap_or_default();
    let mut unrendered = Vec::new();
    for (service, value) in &services {
        match value["container"].as_object() {
            None => {
                let kind = value.as_object().and_then(|fields| fields.keys().next()).map_or("none", String::as_str).to_owned();
                unrendered.push(Unrendered { service: service.clone(), reason: format!("it is no container but of the kind `{kind}`") });
            }
            Some(container) => renderer.note_volumes(service, container),
        }
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

/// `$` would begin a variable.
fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(text.replace('$', "$$")),
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
    volumes: Map<String, Value>,
    configs: Map<String, Value>,
    secrets: Map<String, Value>,
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
    fn note_volumes(&mut self, service: &str, container: &Map<String, Value>) {
        for volume in container.get("volumes").and_then(Value::as_array).into_iter().flatten() {
            let Some(source) = volume["source"].as_str().filter(|source| !source.starts_with(['.', '/'])) else { continue };
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

    fn storage(&mut self, name: &str, container: &Value, rendered: &mut Map<String, Value>) {
        let mut volumes = Vec::new();
        for volume in container["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().unwrap_or_default();
            let bind = source.starts_with(['.', '/']);
            let mut value = Map::new();
            value.insert("type".to_owned(), json!(if bind { "bind" } else { "volume" }));
            if bind {
                value.insert("source".to_owned(), escaped(&volume["source"]));
            } else if volume["external"] == true {
                self.volumes.insert(source.to_owned(), json!({ "external": true }));
                value.insert("source".to_owned(), json!(source));
            } else {
                let owner = volume["of"].as_str().unwrap_or(name);
                let shared = self.owners.get(source).is_some_and(|owners| owners.len() > 1);
                let source = if shared { format!("{owner}-{source}") } else { source.to_owned() };
                self.volumes.insert(source.clone(), json!({}));
                value.insert("source".to_owned(), json!(source));
            }
            value.insert("target".to_owned(), escaped(&volume["target"]));
            if volume["read_only"] == true {
                value.insert("read_only".to_owned(), json!(true));
            }
            if bind {
                let mut options = Map::from_iter([("create_host_path".to_owned(), json!(volume["create"] == true))]);
                for field in ["propagation", "selinux"] {
                    if let Some(option) = volume.get(field) {
                        options.insert(field.to_owned(), option.clone());
                    }
                }
                value.insert("bind".to_owned(), options.into());
            } else if volume["no_copy"] == true {
                value.insert("volume".to_owned(), json!({ "nocopy": true }));
            }
            volumes.push(Value::from(value));
        }
        if !volumes.is_empty() {
            rendered.insert("volumes".to_owned(), volumes.into());
        }
        let mut memory = Vec::new();
        for (target, options) in container["tmpfs"].as_object().into_iter().flatten() {
            let options = options.as_str().unwrap_or_default();
            let size = crate::words::size(options).map(|_| format!("size={options}"));
            let options = size.unwrap_or_else(|| options.to_owned());
            memory.push(if options.is_empty() { target.clone() } else { format!("{target}:{options}") });
        }
        if !memory.is_empty() {
            rendered.insert("tmpfs".to_owned(), escaped(&json!(memory)));
        }
        let (mut configs, mut secrets) = (Vec::new(), Vec::new());
        for (field, list) in [("config_files", &mut configs), ("secret_files", &mut secrets)] {
            for (path, file) in container[field].as_object().into_iter().flatten() {
                let words: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
                let id = format!("{name}{words}");
                let mut used = Map::from_iter([("source".to_owned(), json!(id)), ("target".to_owned(), json!(path))]);
                for field in ["uid", "gid"] {
                    if let Some(value) = file.get(field) {
                        used.insert(field.to_owned(), json!(value.to_string()));
                    }
                }
                if let Some(mode) = file.get("mode") {
                    used.insert("mode".to_owned(), mode.clone());
                }
                let content = file["content"].as_str();
                let variable =
                    content.and_then(|content| content.strip_prefix("${")?.strip_suffix('}')).filter(|_| field == "secret_files");
                let definition = match (variable, content) {
                    (Some(variable), _) => json!({ "environment": variable }),
                    (None, Some(content)) => json!({ "content": content.replace('$', "$$") }),
                    (None, None) => json!({ "file": file["file"] }),
                };
                if field == "secret_files" { &mut self.secrets } else { &mut self.configs }.insert(id, definition);
                list.push(Value::from(used));
            }
        }
        for (section, list) in [("configs", configs), ("secrets", secrets)] {
            if !list.is_empty() {
                rendered.insert(section.to_owned(), list.into());
            }
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

fn dependencies(service: &Value, rendered: &mut Map<String, Value>) {
    let mut depends = Map::new();
    for (name, condition) in service["depends_on"].as_object().into_iter().flatten() {
        let condition = match condition.as_str() {
            Some("ready") => "service_healthy",
            Some("completed") => "service_completed_successfully",
            _ => "service_started",
        };
        let mut value = Map::from_iter([("condition".to_owned(), json!(condition))]);
        if service["on_dependency_restart"] == "restart" {
            value.insert("restart".to_owned(), json!(true));
        }
        depends.insert(name.clone(), value.into());
    }
    if !depends.is_empty() {
        rendered.insert("depends_on".to_owned(), depends.into());
    }
}

fn health(service: &Value, rendered: &mut Map<String, Value>) {
    let Some(command) = service["probe"]["exec"].as_array() else { return };
    let test: Vec<Value> = std::iter::once(json!("CMD")).chain(command.iter().map(escaped)).collect();
    let patience = service["ready_timeout"].as_str().and_then(crate::words::duration);
    // Together they are the time that the service may take.
    rendered.insert(
        "healthcheck".to_owned(),
        match patience.filter(|patience| *patience > 60_000) {
            None => json!({ "test": test, "interval": "1s", "timeout": "1s", "retries": 30 }),
            Some(patience) => json!({
                "test": test,
                "interval": "30s",
                "timeout": "30s",
                "retries": 1,
                "start_period": crate::words::duration_of_profile(patience - 60_000),
            }),
        },
    );
}

fn ending(service: &Value, rendered: &mut Map<String, Value>) {
    if let Some(signal) = service["stop"].get("signal") {
        rendered.insert("stop_signal".to_owned(), signal.clone());
    }
    if let Some(grace) = service["stop"].get("grace") {
        rendered.insert("stop_grace_period".to_owned(), grace.clone());
    }
    let policy = service["restart"]["policy"].as_str().unwrap_or("on-failure");
    match (policy, service["restart"].get("attempts")) {
        ("never", _) => {}
        ("always", None) => {
            rendered.insert("restart".to_owned(), json!("always"));
        }
        ("always", Some(attempts)) => {
            rendered.insert("deploy".to_owned(), json!({ "restart_policy": { "condition": "any", "max_attempts": attempts } }));
        }
        (_, None) => {
            rendered.insert("restart".to_owned(), json!("on-failure"));
        }
        (_, Some(attempts)) => {
            rendered.insert("restart".to_owned(), json!(format!("on-failure:{attempts}")));
        }
    }
}

fn watch(service: &Value, rendered: &mut Map<String, Value>) {
    let mut rules = Vec::new();
    for rule in service["watch"].as_array().into_iter().flatten() {
        let action = match rule["on_change"].as_str() {
            Some("sync") if rule.get("signal").is_some() => "sync",
            Some("sync") => "sync+restart",
            Some("rebuild") => "rebuild",
            _ => "restart",
        };
        for path in rule["paths"].as_array().into_iter().flatten() {
            let mut value = Map::from_iter([("action".to_owned(), json!(action)), ("path".to_owned(), escaped(path))]);
            if let Some(target) = rule.get("to") {
                value.insert("target".to_owned(), escaped(target));
            }
            if let Some(ignore) = rule.get("ignore") {
                value.insert("ignore".to_owned(), escaped(ignore));
            }
            rules.push(Value::from(value));
        }
    }
    if !rules.is_empty() {
        rendered.insert("develop".to_owned(), json!({ "watch": rules }));
    }
}
