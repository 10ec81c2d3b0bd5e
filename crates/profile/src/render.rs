//! A profile as a Compose file: each of its services that runs in a container becomes a service of the file, whatever its kind.
//!
//! Pure. A kind's container is compiled as for devenv itself, and written out: image, command, variables, files, volumes, ports. What
//! devenv does from outside (users, databases) is done by files that the image reads at its first start, where it has such files.
//! Secrets become variables of the Compose file: their values are not known here. The command line calls it.

use std::collections::{BTreeMap, BTreeSet};

use devenv_compose::variable;
use devenv_kinds::{
    capability::ServerFacts,
    describe::{FirstStart, METRICS_PORT},
};
use devenv_spec::{
    Condition, ContainerSpec, FileSpec, Mount, MountSource, Probe, RestartWhen, SecretRef, ServiceName, ServiceSpec, Template, sensitive,
};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{Profile, SecretSource, compile};

#[cfg(test)]
mod tests;

/// How long a server may take to its first answer, in seconds.
const FIRST_START: u64 = 180;

/// A Compose file, and what is to be said of it.
pub struct Rendering {
    pub text: String,
    /// The variables that hold secrets: they must be set where the file is used.
    pub variables: Vec<String>,
    /// Services that the file has not, each with the reason.
    pub left_out: Vec<(String, String)>,
    /// What the file's services lack, by service.
    pub missing: Vec<(String, String)>,
}

/// `document` is the profile's own; services that are containers already are taken from there.
pub fn render_profile(profile: &Profile, document: &Value, name: Option<&str>) -> Rendering {
    let mut leases = compile::Leases::none(profile);
    for need in compile::needs(profile).ports {
        // A server that tells its clients where it is needs a port that is known beforehand.
        leases.ports.entry(need.service).or_default().insert(need.container, need.fixed.unwrap_or(need.container));
    }
    let spec = compile::compile(profile, &leases);
    let starts = compile::first_starts(profile, &leases);
    let mut renderer = Renderer { profile, variables: BTreeSet::new(), left_out: Vec::new(), missing: Vec::new() };
    let mut services = Map::new();
    for (service, spec) in &spec.services {
        let Some(container) = spec.container() else {
            renderer.left_out.push((service.to_string(), "it is a process on the host".to_owned()));
            continue;
        };
        let start = starts.get(service).cloned().unwrap_or_default();
        let ports = leases.ports.get(service).cloned().unwrap_or_default();
        let own = &document["services"][service.as_str()];
        let value =
            if is_own_program(spec) { renderer.own(spec, container, own) } else { renderer.of_kind(spec, container, &ports, start) };
        services.insert(service.to_string(), value.into());
    }
    let checked: BTreeSet<String> =
        services.iter().filter(|(_, service)| service.get("probe").is_some()).map(|(name, _)| name.clone()).collect();
    for (service, spec) in &spec.services {
        let Some(value) = services.get_mut(service.as_str()) else { continue };
        let depends = renderer.dependencies(spec, &checked);
        if depends.is_empty() {
            value.as_object_mut().map(|value| value.shift_remove("depends_on"));
        } else {
            value["depends_on"] = depends.into();
        }
    }
    for (name, spec) in spec.services.iter().filter(|_| profile.services.values().any(|service| service.access.is_some())) {
        let networks = spec.container().map(|container| &container.options.networks);
        if let (Some(networks), Some(value)) = (networks.filter(|networks| !networks.is_empty()), services.get_mut(name.as_str())) {
            let networks: Map<String, Value> = networks.iter().map(|(name, place)| (name.clone(), attachment(place))).collect();
            value["container"]["networks"] = networks.into();
            value["container"].as_object_mut().map(|container| container.shift_remove("aliases"));
        }
    }
    let mut whole = Map::new();
    for section in ["networks", "secrets"] {
        if let Some(entries) = document.get(section) {
            whole.insert(section.to_owned(), entries.clone());
        }
    }
    for name in spec.networks.keys().filter(|name| !profile.networks.contains_key(*name)) {
        whole.entry("networks").or_insert_with(|| json!({}))[name.as_str()] = json!({});
    }
    whole.insert("services".to_owned(), services.into());
    // All of them are containers by now.
    let text = devenv_compose::render(&whole.into(), name).unwrap_or_default();
    let Renderer { variables, left_out, missing, .. } = renderer;
    Rendering { text, variables: variables.into_iter().collect(), left_out, missing }
}

fn attachment(place: &devenv_spec::Attachment) -> Value {
    let mut value = Map::new();
    if !place.aliases.is_empty() {
        value.insert("aliases".to_owned(), json!(place.aliases));
    }
    if let Some(address) = place.address {
        value.insert("address".to_owned(), json!(address.to_string()));
    }
    value.into()
}

struct Renderer<'a> {
    profile: &'a Profile,
    variables: BTreeSet<String>,
    left_out: Vec<(String, String)>,
    missing: Vec<(String, String)>,
}

impl Renderer<'_> {
    /// A container of the profile: as it is written there, with the variables that devenv gives it.
    fn own(&mut self, spec: &ServiceSpec, container: &ContainerSpec, written: &Value) -> Map<String, Value> {
        let mut service = written.as_object().cloned().unwrap_or_default();
        service.shift_remove("variables_from");
        service.shift_remove("sleep");
        service.shift_remove("access");
        self.environment(container, &mut service);
        for secret in container.files.iter().flat_map(|file| file.content.secrets()) {
            let source = self.profile.secrets.iter().find(|(name, _)| sensitive::declared(name) == *secret);
            if source.is_some_and(|(_, source)| !matches!(source, SecretSource::File(_))) {
                self.variables.insert(self.variable_of(secret));
            }
        }
        if let Probe::Http { .. } | Probe::Tcp { .. } | Probe::Log { .. } | Probe::OfKind(_) = &spec.probe {
            service.shift_remove("probe");
        }
        for path in container.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Host(path) if path.as_os_str().is_empty() => Some(&mount.target),
            _ => None,
        }) {
            self.missing.push((spec.name.to_string(), format!("`{path}`, the certificate of devenv's own authority")));
        }
        service
    }

    /// A container that is made like the one that devenv makes of a kind.
    fn of_kind(&mut self, spec: &ServiceSpec, made: &ContainerSpec, ports: &BTreeMap<u16, u16>, start: FirstStart) -> Map<String, Value> {
        let mut container = Map::from_iter([("image".to_owned(), json!(made.image.name()))]);
        for (name, words) in [("entrypoint", &made.entrypoint), ("command", &made.command)] {
            if let Some(words) = words {
                container.insert(name.to_owned(), json!(words));
            }
        }
        if let Some(user) = &made.user {
            container.insert("user".to_owned(), json!(user));
        }
        container.insert("init".to_owned(), json!(made.init));
        container.insert("host_alias".to_owned(), json!(false));
        if let Some(size) = made.shared_memory {
            container.insert("shm_size".to_owned(), json!(size.to_string()));
        }
        let (volumes, memory) = self.mounts(&spec.name, &made.mounts);
        if !volumes.is_empty() {
            container.insert("volumes".to_owned(), volumes.into());
        }
        if !memory.is_empty() {
            container.insert("tmpfs".to_owned(), memory.into());
        }
        for file in made.files.iter().chain(&start.files) {
            let (field, value) = self.file(file);
            container.entry(field).or_insert_with(|| json!({}))[file.path.as_str()] = value;
        }
        let mut service = Map::new();
        let shown = made.environment.values().map(Template::redacted).chain(made.command.iter().flatten().cloned()).collect::<Vec<_>>();
        let (mut expose, mut fixed) = (Vec::new(), Map::new());
        for (port, host) in ports.iter().filter(|(port, _)| **port != METRICS_PORT) {
            let known = port != host || shown.iter().any(|text| text.contains(&format!("127.0.0.1:{host}")));
            if known {
                fixed.insert(port.to_string(), json!(host));
            } else {
                expose.push(*port);
            }
        }
        if !expose.is_empty() {
            container.insert("expose".to_owned(), json!(expose));
        }
        service.insert("container".to_owned(), container.into());
        if !fixed.is_empty() {
            service.insert("ports".to_owned(), fixed.into());
        }
        self.environment(made, &mut service);
        if let Some(command) = check(spec, made) {
            service.insert("probe".to_owned(), json!({ "exec": command }));
        }
        // The image makes its data at the first start, and then what devenv would provision.
        service.insert("ready_timeout".to_owned(), json!(format!("{}s", spec.ready_timeout.as_secs().max(FIRST_START))));
        service.insert("stop".to_owned(), json!({ "signal": spec.stop.signal, "grace": format!("{}s", spec.stop.grace.as_secs().max(1)) }));
        let policy = match spec.restart.policy {
            RestartWhen::Never => "never",
            RestartWhen::OnFailure => "on-failure",
            RestartWhen::Always => "always",
        };
        service.insert("restart".to_owned(), json!({ "policy": policy }));
        let resources = json!({ "memory": made.resources.memory.map(|memory| memory.to_string()), "cpus": made.resources.cpus });
        let resources: Map<String, Value> =
            resources.as_object().cloned().unwrap_or_default().into_iter().filter(|(_, value)| !value.is_null()).collect();
        if !resources.is_empty() {
            service.insert("resources".to_owned(), resources.into());
        }
        let mut missing = start.missing;
        if spec.scripts.is_some() {
            missing.push("its scripts and seeds are run by devenv".to_owned());
        }
        self.missing.extend(missing.into_iter().map(|what| (spec.name.to_string(), what)));
        service
    }

    fn environment(&mut self, container: &ContainerSpec, value: &mut Map<String, Value>) {
        let mut variables = Map::new();
        // What names the environment means nothing without devenv.
        for (name, template) in container.environment.iter().filter(|(name, _)| !name.starts_with("DEVENV_")) {
            let text = if template.sensitive().next().is_some() { self.reference(name) } else { self.filled(template) };
            variables.insert(name.clone(), json!(text));
        }
        if variables.is_empty() {
            value.shift_remove("environment");
        } else {
            value.insert("environment".to_owned(), variables.into());
        }
    }

    /// A reference to a variable of the Compose file.
    fn reference(&mut self, name: &str) -> String {
        self.variables.insert(name.to_owned());
        variable(name)
    }

    fn filled(&mut self, template: &Template) -> String {
        template.fill(|secret| {
            let name = self.variable_of(secret);
            self.reference(&name)
        })
    }

    /// `db/app` as `DB_APP_PASSWORD`; a secret of the profile by the variable that it comes from, else by its own name.
    fn variable_of(&self, secret: &SecretRef) -> String {
        let declared = self.profile.secrets.iter().find(|(name, _)| sensitive::declared(name) == *secret);
        match declared {
            Some((_, SecretSource::FromEnv(variable))) => return variable.clone(),
            Some((name, _)) => return name.clone(),
            None => {}
        }
        let upper: String = secret.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let upper = upper.strip_suffix("_DEFAULT").unwrap_or(&upper).to_owned();
        if secret.as_str().contains("key") || secret.as_str().contains("tls") { upper } else { format!("{upper}_PASSWORD") }
    }

    /// The list that a file belongs to, and the file.
    fn file(&mut self, file: &FileSpec) -> (&'static str, Value) {
        let whole = file.content.secrets().count() == 1 && file.content.fill(|_| String::new()).is_empty();
        let mut value = Map::from_iter([("mode".to_owned(), json!(format!("0{:o}", file.mode)))]);
        for (name, number) in [("uid", file.uid), ("gid", file.gid)] {
            if number > 0 {
                value.insert(name.to_owned(), json!(number));
            }
        }
        let content = if let (true, Some(secret)) = (whole, file.content.secrets().next()) {
            let name = self.variable_of(secret);
            self.variables.insert(name.clone());
            format!("${{{name}}}")
        } else {
            self.filled(&file.content)
        };
        value.insert("content".to_owned(), json!(content));
        (if whole { "secret_files" } else { "config_files" }, value.into())
    }

    fn mounts(&mut self, service: &ServiceName, mounts: &[Mount]) -> (Vec<Value>, Map<String, Value>) {
        let (mut volumes, mut memory) = (Vec::new(), Map::new());
        for mount in mounts {
            let mut value = match &mount.source {
                MountSource::Memory => {
                    memory.insert(mount.target.clone(), json!(""));
                    continue;
                }
                MountSource::Host(path) if path.as_os_str().is_empty() => {
                    self.missing.push((service.to_string(), format!("`{}`, the certificate of devenv's own authority", mount.target)));
                    continue;
                }
                MountSource::Host(path) => {
                    let below = path.strip_prefix(&self.profile.project).map(|below| format!("./{}", below.display()));
                    json!({ "source": below.unwrap_or_else(|_| path.display().to_string()) })
                }
                MountSource::Volume(name) => json!({ "source": name }),
                MountSource::Shared { service, volume } => json!({ "source": volume, "of": service.as_str() }),
                MountSource::External(name) => json!({ "source": name, "external": true }),
            };
            value["target"] = json!(mount.target);
            if mount.read_only {
                value["read_only"] = json!(true);
            }
            volumes.push(value);
        }
        (volumes, memory)
    }

    /// Only what Compose itself can see to become healthy is waited for.
    fn dependencies(&mut self, spec: &ServiceSpec, checked: &BTreeSet<String>) -> Map<String, Value> {
        let mut depends = Map::new();
        for (name, condition) in &spec.depends_on {
            if self.left_out.iter().any(|(left, _)| left == name.as_str()) {
                self.missing.push((spec.name.to_string(), format!("it does not wait for `{name}`, which is not in the file")));
                continue;
            }
            let condition = match condition {
                Condition::Completed => "completed",
                Condition::Ready if checked.contains(name.as_str()) => "ready",
                Condition::Ready | Condition::Started => "started",
            };
            depends.insert(name.to_string(), json!(condition));
        }
        depends
    }
}

/// A command in the container by which Compose sees that the service is ready.
fn check(spec: &ServiceSpec, container: &ContainerSpec) -> Option<Vec<String>> {
    if let Probe::Exec { command } = &spec.probe {
        return Some(command.clone());
    }
    let environment: IndexMap<String, String> =
        container.environment.iter().map(|(name, value)| (name.clone(), value.redacted())).collect();
    let words = container.command.iter().flatten().map(String::as_str).collect();
    devenv_kinds::find(&spec.kind)?.servers()?.command(&ServerFacts { environment: &environment, words })
}

/// Whether the profile itself describes the container.
fn is_own_program(spec: &ServiceSpec) -> bool {
    devenv_kinds::find(&spec.kind).is_some_and(|kind| kind.rules().is_own_program())
}
