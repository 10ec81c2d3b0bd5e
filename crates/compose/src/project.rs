//! What all services of a file share, while they are converted: names, copies, profiles, volumes.

use std::collections::{BTreeMap, BTreeSet};

use devenv_document::{
    interpolate::Lookup,
    source::{Findings, Sources, Span},
    spelling::did_you_mean,
    tree::{Content, Entry, Node, shortened},
};
use indexmap::IndexMap;

use crate::{
    load::{Files, Place, Request},
    values::Values,
};

/// What all services share, while they are converted.
pub(crate) struct Project<'a> {
    pub(crate) root: &'a Node,
    pub(crate) findings: &'a mut Findings,
    pub(crate) sources: &'a mut Sources,
    pub(crate) files: &'a dyn Files,
    pub(crate) request: Request<'a>,
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) place: &'a Place<'a>,
    /// What each service of the file is called in the profile.
    pub(crate) names: IndexMap<String, String>,
    /// How many copies of each service there are.
    pub(crate) copies: IndexMap<String, u16>,
    /// The services that are taken in.
    pub(crate) enabled: BTreeSet<String>,
    volumes: IndexMap<String, Volume>,
}

/// A named volume.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) external: bool,
    /// The service that it belongs to: the first one that mounts it.
    pub(crate) owner: String,
    /// What it stands for, where it is no volume.
    pub(crate) device: Option<Device>,
}

/// What options of the driver make of a volume.
#[derive(Debug, Clone)]
pub(crate) enum Device {
    Path(String),
    /// With the options of `mount`.
    Memory(String),
}

impl<'a> Project<'a> {
    /// Who is who, before any service is converted.
    pub(crate) fn new(
        root: &'a Node,
        request: Request<'a>,
        files: &'a dyn Files,
        place: &'a Place<'a>,
        sources: &'a mut Sources,
        findings: &'a mut Findings,
    ) -> Self {
        let mut project = Self {
            root,
            findings,
            sources,
            files,
            request,
            environment: request.environment,
            place,
            names: IndexMap::new(),
            copies: IndexMap::new(),
            enabled: BTreeSet::new(),
            volumes: IndexMap::new(),
        };
        project.name_services();
        project.count();
        project.choose();
        project.find_volumes();
        project
    }

    pub(crate) fn values(&mut self) -> Values<'_> {
        Values { findings: self.findings }
    }

    /// A variable of the process, or of `.env`.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.place.variables.value(name)
    }

    /// The profile's name of a copy of a service.
    pub(crate) fn copy_name(&self, name: &str, copy: u16) -> String {
        let name = self.names.get(name).map_or(name, String::as_str);
        if copy > 1 { format!("{name}-{copy}") } else { name.to_owned() }
    }

    /// Names as profiles have them: lower case, with `-`, from a letter on.
    fn name_services(&mut self) {
        let mut taken = BTreeSet::new();
        for (name, entry) in self.root.get("services").into_iter().flat_map(Node::entries) {
            let mut plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
            if !plain.starts_with(|c: char| c.is_ascii_lowercase()) {
                plain = format!("s-{plain}");
            }
            plain.truncate(36);
            let base = plain.clone();
            let mut number = 2;
            while !taken.insert(plain.clone()) {
                plain = format!("{base}-{number}");
                number += 1;
            }
            if plain != name {
                let message = format!("the service `{name}` is called `{plain}` here; on the network it has both names");
                self.findings.warning(entry.key, "renamed", message);
            }
            self.names.insert(name.to_owned(), plain);
        }
    }

    fn count(&mut self) {
        for (name, entry) in self.root.get("services").into_iter().flat_map(Node::entries) {
            let mut values = Values { findings: self.findings };
            let scale: Option<u16> = values.number(&entry.node, "scale");
            let deploy = entry.node.get("deploy");
            let replicas: Option<u16> = deploy.and_then(|deploy| values.number(deploy, "replicas"));
            let global = deploy.and_then(|deploy| values.choice(deploy, "mode", &["replicated", "global", "replicated-job", "global-job"]));
            let mut copies = replicas.or(scale).unwrap_or(1);
            if global.is_some_and(|mode| mode.starts_with("global")) {
                copies = 1;
            }
            if copies > 50 {
                self.findings.error(entry.key, "too-many", format!("`{name}` has {copies} copies, more than the limit of 50"));
                copies = 1;
            }
            self.copies.insert(name.to_owned(), copies);
        }
    }

    /// Services without profiles, those of the profiles that are asked for, and those that are named with what they need.
    fn choose(&mut self) {
        let given: Vec<String> = if self.request.profiles.is_empty() {
            let text = self.variable("COMPOSE_PROFILES").unwrap_or_default();
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        } else {
            self.request.profiles.to_vec()
        };
        let mut known = BTreeSet::new();
        for (name, entry) in self.root.get("services").into_iter().flat_map(Node::entries) {
            let profiles = Values { findings: self.findings }.texts(&entry.node, "profiles");
            if profiles.is_empty() || profiles.iter().any(|profile| given.contains(profile)) || given.iter().any(|given| given == "*") {
                self.enabled.insert(name.to_owned());
            }
            known.extend(profiles);
        }
        for profile in given.iter().filter(|profile| *profile != "*" && !known.contains(*profile)) {
            let hint = did_you_mean(profile, known.iter().map(String::as_str));
            self.findings.warning(self.root.span, "unknown-profile", format!("no service has the profile `{profile}`")).maybe_hint(hint);
        }
        let mut wanted: Vec<String> = self.request.services.to_vec();
        while let Some(name) = wanted.pop() {
            let own = self.names.iter().find(|(own, plain)| **own == name || **plain == name).map(|(own, _)| own.clone());
            let Some(own) = own else { continue };
            if self.enabled.insert(own.clone()) || self.request.services.contains(&name) {
                let node = self.root.get("services").and_then(|services| services.get(&own));
                let needed = node.and_then(|node| node.get("depends_on")).into_iter().flat_map(Node::entries);
                wanted.extend(needed.map(|(name, _)| name.to_owned()).filter(|name| !self.enabled.contains(name)));
            }
        }
    }

    /// Whose each named volume is: of the first service that mounts it, whichever are taken in.
    fn find_volumes(&mut self) {
        for (name, entry) in self.root.get("volumes").into_iter().flat_map(Node::entries).filter(|(name, _)| !name.starts_with("x-")) {
            let mut values = Values { findings: self.findings };
            let external = entry
                .node
                .get("external")
                .is_some_and(|external| external.map().is_some() || values.boolean(&entry.node, "external") == Some(true));
            let named =
                values.text(&entry.node, "name").or_else(|| entry.node.get("external").and_then(|external| values.text(external, "name")));
            if let Some(driver) = values.text(&entry.node, "driver").filter(|driver| !external && driver != "local" && !driver.is_empty()) {
                let message = format!("volumes of the driver `{driver}` are not made by devenv");
                self.findings.error(entry.key, "not-supported", message).hint("make the volume yourself, and write `external: true`");
            }
            if !external && named.is_some() {
                let message = format!("`{name}` has a name of its own, but devenv names its volumes: Compose's are not touched");
                self.findings.warning(entry.key, "not-used", message);
            }
            let device = values_of_driver(entry, &mut Values { findings: self.findings });
            let name_of = named.filter(|_| external).unwrap_or_else(|| name.to_owned());
            let volume = Volume { name: name_of, external, owner: String::new(), device };
            self.volumes.insert(name.to_owned(), volume);
        }
        for (service, entry) in self.root.get("services").into_iter().flat_map(Node::entries) {
            for item in entry.node.get("volumes").into_iter().flat_map(Node::items) {
                let source = match item.text() {
                    Some(text) => text.split_once(':').map(|(source, _)| source),
                    None => item.get("source").and_then(Node::text),
                };
                if let Some(volume) = source.and_then(|source| self.volumes.get_mut(source)).filter(|volume| volume.owner.is_empty()) {
                    volume.owner = self.names.get(service).cloned().unwrap_or_default();
                }
            }
        }
    }

    /// A named volume; none if the file does not define it, which is reported.
    pub(crate) fn volume(&mut self, source: &str, span: Span) -> Option<Volume> {
        let known = self.volumes.get(source).cloned();
        if known.is_none() {
            let hint = did_you_mean(source, self.volumes.keys().map(String::as_str))
                .unwrap_or_else(|| format!("add `{source}:` under `volumes` at the top level, or write `./{source}` for a directory"));
            self.findings.error(span, "unknown-volume", format!("the volume `{source}` is not defined")).hint(hint);
        }
        known
    }

    /// Whether the file says something of the network that services are on by default.
    pub(crate) fn default_network_is_defined(&self) -> bool {
        let default = self.root.get("networks").and_then(|networks| networks.get("default"));
        default.is_some_and(|node| node.entries().any(|(name, _)| matches!(name, "internal" | "external" | "ipam")))
    }
}

/// What the options of the local driver say of a volume.
fn values_of_driver(volume: &Entry, values: &mut Values<'_>) -> Option<Device> {
    let options = volume.node.get("driver_opts").filter(|options| !is_empty(options))?;
    let texts: Vec<String> = ["type", "o", "device"].iter().map(|name| values.text(options, name).unwrap_or_default()).collect();
    let [kind, mount, device] = texts.as_slice() else { return None };
    let bind = mount.split(',').any(|option| matches!(option, "bind" | "rbind"));
    match kind.as_str() {
        "none" | "" if bind && device.starts_with(['/', '.']) => Some(Device::Path(device.clone())),
        "none" | "" if bind => {
            values.findings.error(
                volume.key,
                "bad-value",
                format!("`device` must be a path that begins with `/` or `.`, but is `{}`", shortened(device)),
            );
            None
        }
        "tmpfs" => Some(Device::Memory(mount.clone())),
        _ => {
            values
                .findings
                .error(volume.key, "not-supported", format!("volumes of the type `{}` are not made by devenv", shortened(kind)))
                .hint("make the volume with `docker volume create`, and write `external: true`");
            None
        }
    }
}

/// A mapping of a tree, or nothing.
pub(crate) fn is_empty(node: &Node) -> bool {
    matches!(&node.content, Content::Null) || node.map().is_some_and(IndexMap::is_empty)
}
