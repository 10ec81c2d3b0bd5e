//! One service of a Compose file as one service of a profile.

use devenv_document::{
    env_file,
    source::Span,
    spelling::did_you_mean,
    tree::{Content, Entry, Node},
};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    build,
    files::{Placed, Sort, files},
    mounts::mounts,
    ports::ports,
    project::{Project, is_empty},
    words::{duration_of_profile, size_of_profile},
};

/// The longest time that a healthcheck may be given, in milliseconds.
const LONGEST_START: u64 = 24 * 3_600_000;
const MINUTE: u64 = 60_000;

/// The service, or its copy of that number from 1.
pub(crate) fn service(name: &str, entry: &Entry, copy: u16, project: &mut Project<'_>) -> Value {
    let mut converter = Converter {
        name,
        node: &entry.node,
        key: entry.key,
        copy,
        project,
        service: Map::new(),
        container: Map::new(),
        aliases: Vec::new(),
    };
    converter.image();
    converter.program();
    converter.environment();
    converter.ports();
    converter.storage();
    converter.networks();
    converter.machine();
    converter.dependencies();
    converter.health();
    converter.ending();
    converter.resources();
    converter.watch();
    converter.finish()
}

struct Converter<'a, 'p> {
    /// In the file.
    name: &'a str,
    node: &'a Node,
    key: Span,
    copy: u16,
    project: &'a mut Project<'p>,
    service: Map<String, Value>,
    container: Map<String, Value>,
    /// Names on its networks, besides its own.
    aliases: Vec<String>,
}

impl Converter<'_, '_> {
    fn finish(mut self) -> Value {
        let mut service = Map::new();
        service.insert("container".to_owned(), self.container.into());
        // Exactly the variables of the file.
        service.insert("variables_from".to_owned(), json!([]));
        service.append(&mut self.service);
        service.into()
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.container.insert(name.to_owned(), value.into());
    }

    fn copy_text(&mut self, name: &str) {
        if let Some(text) = self.project.values().text(self.node, name).filter(|text| !text.is_empty()) {
            self.set(name, text);
        }
    }

    fn copy_texts(&mut self, name: &str, as_name: &str) {
        let texts = self.project.values().texts(self.node, name);
        if !texts.is_empty() {
            self.set(as_name, texts);
        }
    }

    fn copy_flag(&mut self, name: &str) {
        if self.project.values().boolean(self.node, name) == Some(true) {
            self.set(name, true);
        }
    }

    fn image(&mut self) {
        let image = self.project.values().text(self.node, "image").filter(|image| !image.is_empty());
        match (image, self.node.get("build").filter(|build| !matches!(build.content, Content::Null))) {
            (image, Some(build)) => {
                let mut value = build::build(build, self.project);
                if let Some(image) = image {
                    value.insert("image".to_owned(), json!(image));
                }
                self.set("build", value);
            }
            (Some(image), None) => {
                if image.contains(char::is_whitespace) {
                    let span = self.node.get("image").map_or(self.key, |node| node.span);
                    self.project.findings.error(span, "bad-value", format!("`image` must be an image name, but is `{image}`"));
                }
                self.set("image", image);
            }
            (None, None) if self.node.get("provider").is_none() => {
                let message = format!("the service `{}` has neither `image` nor `build`", self.name);
                self.project.findings.error(self.key, "missing-field", message);
            }
            (None, None) => {}
        }
        self.copy_text("platform");
        let known = ["missing", "if_not_present", "always", "never", "build", "daily", "weekly"];
        let policy = self.project.values().text(self.node, "pull_policy");
        match policy.as_deref() {
            Some("always") => self.set("pull", "always"),
            Some("never") => self.set("pull", "never"),
            Some(other) if !known.contains(&other) && !other.starts_with("every_") => {
                let span = self.node.get("pull_policy").map_or(self.key, |node| node.span);
                let message = format!("`pull_policy` must be one of {}, but is `{other}`", known.join(", "));
                self.project.findings.error(span, "bad-value", message);
            }
            _ => {}
        }
    }

    fn program(&mut self) {
        for name in ["entrypoint", "command"] {
            if let Some(words) = self.project.values().command(self.node, name) {
                self.set(name, words);
            }
        }
        for name in ["working_dir", "user", "hostname", "domainname"] {
            self.copy_text(name);
        }
        // What profiles add by themselves, Compose does not.
        let init = self.project.values().boolean(self.node, "init") == Some(true);
        self.set("init", init);
        self.set("host_alias", false);
        for name in ["tty", "stdin_open", "read_only", "privileged"] {
            self.copy_flag(name);
        }
    }

    /// Files first, then what the service itself says; a name without a value takes the one of the shell.
    fn environment(&mut self) {
        let mut variables: IndexMap<String, String> = IndexMap::new();
        let files: Vec<Node> = self.node.get("env_file").into_iter().flat_map(Node::items).cloned().collect();
        for file in files {
            let Some(path) = self.project.values().text(&file, "path") else {
                self.project.findings.error(file.span, "missing-field", "`env_file` needs a `path`");
                continue;
            };
            let required = self.project.values().boolean(&file, "required") != Some(false);
            let raw = self.project.values().text(&file, "format").is_some_and(|format| format == "raw");
            let span = file.get("path").map_or(file.span, |node| node.span);
            for (name, value) in read_variables(&path, span, required, raw, &variables, self.project) {
                variables.insert(name, value);
            }
        }
        for (name, value) in self.project.values().pairs(self.node, "environment") {
            match value.or_else(|| self.project.variable(&name)) {
                Some(value) => {
                    variables.insert(name, value);
                }
                // Compose leaves it out, so that the image's own counts.
                None => {
                    variables.shift_remove(&name);
                }
            }
        }
        if !variables.is_empty() {
            self.service.insert("environment".to_owned(), json!(variables));
        }
    }

    fn ports(&mut self) {
        let mut expose = Vec::new();
        let mut fixed = Map::new();
        let mut publish = Vec::new();
        let copies = self.project.copies.get(self.name).copied().unwrap_or(1);
        for port in ports(self.node, &mut self.project.values()) {
            let published = match port.published {
                Some(_) if copies > 1 && port.choice < copies => {
                    let span = self.node.get("ports").map_or(self.key, |node| node.span);
                    let message = format!(
                        "port {} of the host can be published by one container, but `{}` has {copies} copies",
                        port.published.unwrap_or_default(),
                        self.name
                    );
                    self.project.findings.error(span, "port-taken", message).hint(format!(
                        "leave the port of the host out, or give a range: `8000-{}:{}`",
                        7999 + copies,
                        port.target
                    ));
                    continue;
                }
                published => published.map(|first| first + (self.copy - 1).min(port.choice - 1)),
            };
            let loopback = port.address.as_deref().is_none_or(|address| address == "127.0.0.1");
            let known = fixed.contains_key(&port.target.to_string()) || expose.contains(&port.target);
            match published {
                None if loopback && !port.udp && !known => expose.push(port.target),
                Some(host) if loopback && !port.udp && !known => {
                    fixed.insert(port.target.to_string(), json!(host));
                }
                published => {
                    let mut value = Map::from_iter([("port".to_owned(), json!(port.target))]);
                    if let Some(host) = published {
                        value.insert("host".to_owned(), json!(host));
                    }
                    if let Some(address) = port.address {
                        value.insert("address".to_owned(), json!(address));
                    }
                    if port.udp {
                        value.insert("protocol".to_owned(), json!("udp"));
                    }
                    publish.push(Value::from(value));
                }
            }
        }
        if !expose.is_empty() {
            self.set("expose", expose);
        }
        if !publish.is_empty() {
            self.set("publish", publish);
        }
        if !fixed.is_empty() {
            self.service.insert("ports".to_owned(), fixed.into());
        }
    }

    fn storage(&mut self) {
        let name = self.project.copy_name(self.name, self.copy);
        let mut mounts = mounts(&name, self.node, self.project);
        for (sort, field) in [(Sort::Config, "config_files"), (Sort::Secret, "secret_files")] {
            let mut written = Map::new();
            for placed in files(self.node, sort, self.project) {
                match placed {
                    Placed::Mounted(value) => mounts.volumes.push(value),
                    Placed::Written(path, value) => {
                        written.insert(path, value);
                    }
                }
            }
            if !written.is_empty() {
                self.set(field, written);
            }
        }
        if !mounts.volumes.is_empty() {
            self.set("volumes", mounts.volumes);
        }
        if !mounts.memory.is_empty() {
            self.set("tmpfs", mounts.memory);
        }
    }

    fn networks(&mut self) {
        if self.copy > 1 {
            self.aliases.push(self.project.copy_name(self.name, 1));
        }
        if self.project.copy_name(self.name, 1) != self.name {
            self.aliases.push(self.name.to_owned());
        }
        if let Some(name) = self.project.values().text(self.node, "container_name") {
            self.aliases.push(name);
        }
        let linked = self.project.root.get("services").into_iter().flat_map(Node::entries);
        let links = linked.flat_map(|(_, entry)| entry.node.get("links").into_iter().flat_map(Node::items)).filter_map(Node::text);
        self.aliases
            .extend(links.filter_map(|link| link.split_once(':')).filter(|(of, _)| *of == self.name).map(|(_, alias)| alias.to_owned()));
        let mode = self.project.values().text(self.node, "network_mode");
        match mode.as_deref() {
            None | Some("" | "bridge" | "default") => {}
            Some("host" | "none") => self.set("network_mode", mode.unwrap_or_default()),
            Some(other) => {
                let span = self.node.get("network_mode").map_or(self.key, |node| node.span);
                match self.shared_with(other, span, "network_mode") {
                    Some(mode) => self.set("network_mode", mode),
                    None => return,
                }
            }
        }
        let mut attached = Map::new();
        let names: Vec<(String, Node, Span)> = self
            .node
            .get("networks")
            .into_iter()
            .flat_map(Node::entries)
            .map(|(name, entry)| (name.to_owned(), entry.node.clone(), entry.key))
            .collect();
        let mut names: Vec<_> = names
            .into_iter()
            .map(|(name, node, span)| (self.project.values().number::<i64>(&node, "priority").unwrap_or(0), name, node, span))
            .collect();
        names.sort_by_key(|(priority, ..)| -priority);
        for (_, name, node, span) in names {
            let defined = self.project.root.get("networks").is_some_and(|networks| networks.entry(&name).is_some());
            if !defined && name != "default" {
                let known: Vec<&str> =
                    self.project.root.get("networks").into_iter().flat_map(Node::entries).map(|(name, _)| name).collect();
                let hint = did_you_mean(&name, known).unwrap_or_else(|| format!("add `{name}:` under `networks` at the top level"));
                self.project.findings.error(span, "unknown-network", format!("the network `{name}` is not defined")).hint(hint);
                continue;
            }
            let mut value = Map::new();
            let aliases = self.project.values().texts(&node, "aliases");
            if !aliases.is_empty() {
                value.insert("aliases".to_owned(), json!(aliases));
            }
            if let Some(address) = self.project.values().text(&node, "ipv4_address") {
                value.insert("address".to_owned(), json!(address));
            }
            attached.insert(name, value.into());
        }
        if attached.is_empty() && self.project.default_network_is_defined() && !self.container.contains_key("network_mode") {
            attached.insert("default".to_owned(), json!({}));
        }
        let aliases = std::mem::take(&mut self.aliases);
        if attached.is_empty() {
            self.set_aliases(aliases);
            return;
        }
        for value in attached.values_mut().filter_map(Value::as_object_mut).filter(|_| !aliases.is_empty()) {
            let list = value.entry("aliases").or_insert_with(|| json!([]));
            for alias in aliases.iter().map(|alias| json!(alias)) {
                if let Some(list) = list.as_array_mut().filter(|list| !list.contains(&alias)) {
                    list.push(alias);
                }
            }
        }
        // The environment's own network goes without saying.
        let own = attached.len() == 1 && !self.project.default_network_is_defined();
        let own = own.then(|| attached.get("default")).flatten().filter(|value| value.get("address").is_none());
        match own {
            Some(value) => {
                let aliases = value["aliases"].as_array().into_iter().flatten();
                self.set_aliases(aliases.filter_map(Value::as_str).map(str::to_owned).collect());
            }
            None => self.set("networks", attached),
        }
    }

    fn set_aliases(&mut self, mut aliases: Vec<String>) {
        let mut seen = std::collections::HashSet::new();
        aliases.retain(|alias| seen.insert(alias.clone()));
        if !aliases.is_empty() {
            self.set("aliases", aliases);
        }
    }

    /// `service:NAME`, with the name that the service has in the profile.
    fn shared_with(&mut self, text: &str, span: Span, field: &str) -> Option<String> {
        let name = text.strip_prefix("service:");
        let known = name.and_then(|name| self.project.names.get(name)).cloned();
        if let Some(known) = known {
            let depends = self.service.entry("depends_on").or_insert_with(|| json!({}));
            depends.as_object_mut()?.entry(known.clone()).or_insert_with(|| json!("started"));
            return Some(format!("service:{known}"));
        }
        let message = match name {
            Some(name) => format!("`{field}` names the service `{name}`, which does not exist"),
            None => format!("`{field}: {text}` is not supported"),
        };
        self.project.findings.error(span, "not-supported", message).hint("write `host`, `none` or `service:NAME`");
        None
    }

    fn machine(&mut self) {
        for name in ["dns", "dns_search", "group_add", "device_cgroup_rules"] {
            self.copy_texts(name, name);
        }
        self.copy_texts("dns_opt", "dns_options");
        self.copy_texts("security_opt", "security_options");
        self.hosts();
        let mut capabilities = Map::new();
        for (theirs, ours) in [("cap_add", "add"), ("cap_drop", "drop")] {
            let texts = self.project.values().texts(self.node, theirs);
            if !texts.is_empty() {
                capabilities.insert(ours.to_owned(), json!(texts));
            }
        }
        if !capabilities.is_empty() {
            self.set("capabilities", capabilities);
        }
        let devices: Vec<String> = self.devices();
        if !devices.is_empty() {
            self.set("devices", devices);
        }
        for name in ["pid", "ipc"] {
            let Some(text) = self.project.values().text(self.node, name) else { continue };
            if text.starts_with("service:") {
                let span = self.node.get(name).map_or(self.key, |node| node.span);
                if let Some(shared) = self.shared_with(&text, span, name) {
                    self.set(name, shared);
                }
            } else {
                self.set(name, text);
            }
        }
        for name in ["uts", "userns_mode", "cgroup", "cgroup_parent", "runtime", "cpuset", "mac_address"] {
            self.copy_text(name);
        }
        let mut limits = Map::new();
        for (name, as_name) in [
            ("cpu_shares", "cpu_shares"),
            ("cpu_period", "cpu_period"),
            ("cpu_quota", "cpu_quota"),
            ("pids_limit", "pids"),
            ("oom_score_adj", "oom_score_adj"),
            ("mem_swappiness", "swappiness"),
        ] {
            let number = if name.starts_with("cpu_") && name != "cpu_shares" {
                // Microseconds, or a duration.
                let text = self.project.values().text(self.node, name);
                text.and_then(|text| text.parse::<i64>().ok().or_else(|| crate::words::duration(&text).map(|ms| (ms * 1000) as i64)))
            } else {
                self.project.values().number::<i64>(self.node, name)
            };
            if let Some(number) = number {
                limits.insert(as_name.to_owned(), json!(number));
            }
        }
        if let Some(size) = self.project.values().size(self.node, "mem_reservation") {
            limits.insert("memory_reservation".to_owned(), json!(size_of_profile(size)));
        }
        if let Some(text) = self.project.values().text(self.node, "memswap_limit") {
            if text == "-1" {
                limits.insert("swap".to_owned(), json!("unlimited"));
            } else if let Some(size) = self.project.values().size(self.node, "memswap_limit") {
                limits.insert("swap".to_owned(), json!(size_of_profile(size)));
            }
        }
        if self.project.values().boolean(self.node, "oom_kill_disable") == Some(true) {
            limits.insert("oom_kill_disable".to_owned(), json!(true));
        }
        let pids = self.node.get("deploy").and_then(|deploy| deploy.get("resources")?.get("limits")).cloned();
        if let Some(pids) = pids.and_then(|limits| self.project.values().number::<i64>(&limits, "pids")) {
            limits.insert("pids".to_owned(), json!(pids));
        }
        if !limits.is_empty() {
            self.set("limits", limits);
        }
        if let Some(size) = self.project.values().size(self.node, "shm_size") {
            self.set("shm_size", size_of_profile(size));
        }
        for name in ["sysctls", "storage_opt"] {
            let pairs: IndexMap<String, String> =
                self.project.values().pairs(self.node, name).into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
            if !pairs.is_empty() {
                self.set(name, json!(pairs));
            }
        }
        self.labels();
        self.ulimits();
    }

    /// `host:address` or `host=address`; of several addresses of one host, the last.
    fn hosts(&mut self) {
        let mut hosts = Map::new();
        for text in self.project.values().texts(self.node, "extra_hosts") {
            let parts = text.split_once('=').or_else(|| text.split_once(':'));
            match parts.filter(|(host, address)| !host.is_empty() && !address.is_empty()) {
                Some((host, address)) => {
                    hosts.insert(host.to_owned(), json!(address.trim_start_matches('[').trim_end_matches(']')));
                }
                None => {
                    let span = self.node.get("extra_hosts").map_or(self.key, |node| node.span);
                    self.project.findings.error(span, "bad-value", format!("`{text}` is no `HOST:ADDRESS`"));
                }
            }
        }
        if !hosts.is_empty() {
            self.set("extra_hosts", hosts);
        }
    }

    fn devices(&mut self) -> Vec<String> {
        let mut devices = Vec::new();
        for item in self.node.get("devices").into_iter().flat_map(Node::items) {
            match item.text() {
                Some(text) if text.starts_with('/') => devices.push(text.to_owned()),
                None if item.map().is_some() => {
                    let mut values = self.project.values();
                    let Some(source) = values.text(item, "source") else { continue };
                    let target = values.text(item, "target").unwrap_or_else(|| source.clone());
                    let permissions = values.text(item, "permissions").unwrap_or_else(|| "rwm".to_owned());
                    devices.push(format!("{source}:{target}:{permissions}"));
                }
                _ => {
                    self.project.findings.error(item.span, "bad-value", format!("{} is not a device's path", item.noun()));
                }
            }
        }
        devices
    }

    fn labels(&mut self) {
        let mut labels: IndexMap<String, String> = IndexMap::new();
        let files: Vec<(String, Span)> = self
            .node
            .get("label_file")
            .into_iter()
            .flat_map(Node::items)
            .filter_map(|node| Some((node.text()?.to_owned(), node.span)))
            .collect();
        for (path, span) in files {
            labels.extend(read_variables(&path, span, true, true, &IndexMap::new(), self.project));
        }
        labels.extend(self.project.values().pairs(self.node, "labels").into_iter().map(|(name, value)| (name, value.unwrap_or_default())));
        if let Some(name) = labels.keys().find(|name| name.starts_with("dev.devenv.")).cloned() {
            let span = self.node.get("labels").map_or(self.key, |node| node.span);
            self.project.findings.error(span, "bad-name", format!("the label `{name}` is one of devenv's own"));
        }
        if !labels.is_empty() {
            self.set("labels", json!(labels));
        }
    }

    fn ulimits(&mut self) {
        let mut ulimits = Map::new();
        for (name, entry) in self.node.get("ulimits").into_iter().flat_map(Node::entries) {
            let node = &entry.node;
            let mut values = self.project.values();
            let (soft, hard) = if node.map().is_some() {
                (values.number::<i64>(node, "soft"), values.number::<i64>(node, "hard"))
            } else {
                let both = node.text().and_then(|text| text.parse::<i64>().ok());
                (both, both)
            };
            match (soft.or(hard), hard.or(soft)) {
                (Some(soft), Some(hard)) => {
                    ulimits.insert(name.to_owned(), json!({ "soft": soft, "hard": hard }));
                }
                _ => self.project.values().wrong(node.span, name, "a number, or `soft` and `hard`", node),
            }
        }
        if !ulimits.is_empty() {
            self.set("ulimits", ulimits);
        }
    }

    fn dependencies(&mut self) {
        let mut depends = self.service.shift_remove("depends_on").and_then(|value| value.as_object().cloned()).unwrap_or_default();
        let mut follows = false;
        let listed = self.node.get("depends_on").into_iter().flat_map(Node::entries);
        let links = self.node.get("links").into_iter().flat_map(Node::items);
        let links = links.filter_map(|link| Some((link.text()?.split(':').next()?.to_owned(), link.clone(), link.span)));
        let all: Vec<(String, Node, Span)> =
            listed.map(|(name, entry)| (name.to_owned(), entry.node.clone(), entry.key)).chain(links).collect();
        for (name, node, span) in all {
            let required = self.project.values().boolean(&node, "required") != Some(false);
            if !self.project.names.contains_key(&name) {
                if required {
                    let hint = did_you_mean(&name, self.project.names.keys().map(String::as_str));
                    let message = format!("`{}` depends on the service `{name}`, which does not exist", self.name);
                    self.project.findings.error(span, "unknown-service", message).maybe_hint(hint);
                }
                continue;
            }
            if !self.project.enabled.contains(&name) {
                if required && self.project.enabled.contains(self.name) {
                    let message = format!("`{}` depends on `{name}`, whose profiles are not asked for", self.name);
                    self.project
                        .findings
                        .error(span, "not-enabled", message)
                        .hint("give its profile with `--profile`, or write `required: false`");
                }
                continue;
            }
            let condition =
                self.project.values().choice(&node, "condition", &["service_started", "service_healthy", "service_completed_successfully"]);
            follows |= self.project.values().boolean(&node, "restart") == Some(true);
            let condition = match condition.as_deref() {
                Some("service_healthy") => "ready",
                Some("service_completed_successfully") => "completed",
                _ => "started",
            };
            for copy in 1..=self.project.copies.get(&name).copied().unwrap_or(1) {
                depends.insert(self.project.copy_name(&name, copy), json!(condition));
            }
        }
        if !depends.is_empty() {
            self.service.insert("depends_on".to_owned(), depends.into());
        }
        self.service.insert("on_dependency_restart".to_owned(), json!(if follows { "restart" } else { "ignore" }));
    }

    fn health(&mut self) {
        let Some(health) = self.node.get("healthcheck").filter(|health| !is_empty(health)) else { return };
        let mut values = self.project.values();
        let disabled = values.boolean(health, "disable") == Some(true);
        let interval = values.duration(health, "interval").unwrap_or(30_000);
        let timeout = values.duration(health, "timeout").unwrap_or(30_000);
        let start_period = values.duration(health, "start_period").unwrap_or(0);
        values.duration(health, "start_interval");
        let retries = values.number::<u64>(health, "retries").unwrap_or(3);
        let command = match health.get("test").map(|test| (&test.content, test)) {
            None | Some((Content::Null, _)) => None,
            Some((Content::Scalar(scalar), _)) if scalar.text == "NONE" => None,
            Some((Content::Scalar(scalar), _)) => Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), scalar.text.clone()]),
            Some((Content::List(_), test)) => {
                let words: Vec<String> = test.items().filter_map(|item| item.text().map(str::to_owned)).collect();
                match words.split_first() {
                    Some((first, rest)) if first == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
                    Some((first, rest)) if first == "CMD-SHELL" && !rest.is_empty() => {
                        Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.join(" ")])
                    }
                    Some((first, _)) if first == "NONE" => None,
                    _ => {
                        let message = "`test` must begin with `CMD`, `CMD-SHELL` or `NONE`, and a command";
                        self.project.findings.error(test.span, "bad-value", message);
                        None
                    }
                }
            }
            Some((_, test)) => {
                values.wrong(test.span, "test", "text or a list", test);
                None
            }
        };
        if let Some(command) = command.filter(|_| !disabled) {
            self.service.insert("probe".to_owned(), json!({ "exec": command }));
            let patience = start_period.saturating_add(retries.max(1).saturating_mul(interval.saturating_add(timeout)));
            if patience > MINUTE {
                self.service.insert("ready_timeout".to_owned(), json!(duration_of_profile(patience.min(LONGEST_START))));
            }
        }
    }

    fn ending(&mut self) {
        let mut stop = Map::new();
        if let Some(signal) = self.project.values().text(self.node, "stop_signal") {
            let signal = if signal.starts_with("SIG") || signal.parse::<u8>().is_ok() { signal } else { format!("SIG{signal}") };
            stop.insert("signal".to_owned(), json!(signal));
        }
        if let Some(grace) = self.project.values().duration(self.node, "stop_grace_period") {
            stop.insert("grace".to_owned(), json!(duration_of_profile(grace.max(1))));
        }
        if !stop.is_empty() {
            self.service.insert("stop".to_owned(), stop.into());
        }
        let mut restart = Map::from_iter([("policy".to_owned(), json!("never"))]);
        let text = self.project.values().text(self.node, "restart");
        let (policy, attempts) = text
            .as_deref()
            .map_or(("no", None), |text| text.split_once(':').map_or((text, None), |(policy, attempts)| (policy, Some(attempts))));
        match policy {
            "no" | "false" | "" => {}
            "always" | "unless-stopped" => {
                restart.insert("policy".to_owned(), json!("always"));
            }
            "on-failure" => {
                restart.insert("policy".to_owned(), json!("on-failure"));
            }
            other => {
                let span = self.node.get("restart").map_or(self.key, |node| node.span);
                let message = format!("`restart` must be `no`, `always`, `on-failure` or `unless-stopped`, but is `{other}`");
                self.project.findings.error(span, "bad-value", message);
            }
        }
        if let Some(attempts) = attempts.and_then(|attempts| attempts.parse::<u32>().ok()).filter(|attempts| *attempts > 0) {
            restart.insert("attempts".to_owned(), json!(attempts));
        }
        if let Some(deployed) = self.node.get("deploy").and_then(|deploy| deploy.get("restart_policy")) {
            let mut values = self.project.values();
            let condition = values.choice(deployed, "condition", &["none", "on-failure", "any"]);
            let policy = match condition.as_deref() {
                Some("none") => "never",
                Some("on-failure") => "on-failure",
                _ => "always",
            };
            restart.insert("policy".to_owned(), json!(policy));
            if let Some(attempts) = values.number::<u32>(deployed, "max_attempts").filter(|attempts| *attempts > 0) {
                restart.insert("attempts".to_owned(), json!(attempts));
            }
        }
        self.service.insert("restart".to_owned(), restart.into());
    }

    fn resources(&mut self) {
        let limits = self.node.get("deploy").and_then(|deploy| deploy.get("resources")?.get("limits"));
        let mut resources = Map::new();
        let mut values = self.project.values();
        let memory = values.size(self.node, "mem_limit").or_else(|| limits.and_then(|limits| values.size(limits, "memory")));
        if let Some(memory) = memory.filter(|memory| *memory > 0) {
            resources.insert("memory".to_owned(), json!(size_of_profile(memory)));
        }
        let cpus = values.number::<f64>(self.node, "cpus").or_else(|| limits.and_then(|limits| values.number(limits, "cpus")));
        if let Some(cpus) = cpus.filter(|cpus| *cpus > 0.0) {
            resources.insert("cpus".to_owned(), json!(cpus));
        }
        if !resources.is_empty() {
            self.service.insert("resources".to_owned(), resources.into());
        }
        let reserved = self.node.get("deploy").and_then(|deploy| deploy.get("resources")?.get("reservations"));
        if let Some(size) = reserved.and_then(|reserved| self.project.values().size(reserved, "memory")) {
            let limits = self.container.entry("limits").or_insert_with(|| json!({}));
            if let Some(limits) = limits.as_object_mut() {
                limits.entry("memory_reservation").or_insert_with(|| json!(size_of_profile(size)));
            }
        }
    }

    fn watch(&mut self) {
        let mut rules = Vec::new();
        for rule in self.node.get("develop").and_then(|develop| develop.get("watch")).into_iter().flat_map(Node::items) {
            let mut values = self.project.values();
            let Some(path) = values.text(rule, "path") else {
                self.project.findings.error(rule.span, "missing-field", "`watch` needs a `path`");
                continue;
            };
            let path = if path.starts_with(['.', '/']) { path } else { format!("./{path}") };
            let mut value = Map::from_iter([("paths".to_owned(), json!([path]))]);
            let ignore = values.texts(rule, "ignore");
            if !ignore.is_empty() {
                value.insert("ignore".to_owned(), json!(ignore));
            }
            let action = values.choice(rule, "action", &["sync", "sync+restart", "rebuild", "restart"]);
            let target = values.text(rule, "target");
            let change = match action.as_deref() {
                None => continue,
                Some("rebuild") => "rebuild",
                Some("restart") => "restart",
                Some(sync) => {
                    let Some(target) = target else {
                        self.project.findings.error(rule.span, "missing-field", format!("`action: {sync}` needs a `target`"));
                        continue;
                    };
                    value.insert("to".to_owned(), json!(target));
                    if sync == "sync" {
                        // A signal that changes nothing: the program finds its new files by itself.
                        value.insert("signal".to_owned(), json!("SIGCONT"));
                    }
                    "sync"
                }
            };
            value.insert("on_change".to_owned(), json!(change));
            rules.push(Value::from(value));
        }
        if !rules.is_empty() {
            self.service.insert("watch".to_owned(), rules.into());
        }
    }
}

/// The variables of a file; those before may be used in its values.
fn read_variables(
    path: &str,
    span: Span,
    required: bool,
    raw: bool,
    before: &IndexMap<String, String>,
    project: &mut Project<'_>,
) -> IndexMap<String, String> {
    let on_disk = project.request.project.join(path);
    if !required && !project.files.has(&on_disk) {
        return IndexMap::new();
    }
    let text = match project.files.read(&on_disk).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            project.findings.error(span, "not-utf8", format!("`{path}` is not UTF-8"));
            return IndexMap::new();
        }
        Err(reason) => {
            let hint = format!("create it, or write `required: false` if it is optional: {}", on_disk.display());
            project.findings.error(span, "missing-file", format!("`{path}` {reason}")).hint(hint);
            return IndexMap::new();
        }
    };
    if raw {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        return lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect();
    }
    let file = project.sources.add(path, text);
    let given = before.iter().map(|(name, value)| (name.clone(), env_file::Given { value: value.clone(), span })).collect();
    let parsed = env_file::parse(project.sources, file, &project.place.variables, &given, project.findings);
    parsed.into_iter().map(|(name, given)| (name, given.value)).collect()
}
