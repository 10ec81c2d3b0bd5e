//! What the container is on the machine: namespaces, rights, devices, limits, labels.

use devenv_document::{source::Span, tree::Node};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::words::size_of_profile;

use super::{Converter, read_variables};

impl Converter<'_, '_> {
    pub(super) fn machine(&mut self) {
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
            if text.starts_with("service:") || text.starts_with("container:") {
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
        self.gpus();
    }

    /// Devices that the engine reserves by a driver: `gpus`, and those of `deploy`.
    fn gpus(&mut self) {
        let reserved = self.node.get("deploy").and_then(|deploy| deploy.get("resources")?.get("reservations")?.get("devices"));
        let mut requests = Vec::new();
        for (item, always) in self
            .node
            .get("gpus")
            .into_iter()
            .flat_map(Node::items)
            .map(|item| (item, true))
            .chain(reserved.into_iter().flat_map(Node::items).map(|item| (item, false)))
        {
            let mut value = Map::new();
            let mut values = self.project.values();
            if let Some(driver) = values.text(item, "driver") {
                value.insert("driver".to_owned(), json!(driver));
            }
            match values.text(item, "count").as_deref() {
                None => {}
                Some("all") => {
                    value.insert("count".to_owned(), json!(-1));
                }
                Some(_) => value.extend(values.number::<i64>(item, "count").map(|count| ("count".to_owned(), json!(count)))),
            }
            let ids = values.texts(item, "device_ids");
            if !ids.is_empty() {
                value.insert("ids".to_owned(), json!(ids));
            }
            let mut capabilities = values.texts(item, "capabilities");
            if always && !capabilities.is_empty() && !capabilities.iter().any(|one| one == "gpu") {
                capabilities.push("gpu".to_owned());
            }
            if !capabilities.is_empty() {
                value.insert("capabilities".to_owned(), json!(capabilities));
            } else if !always {
                self.project.findings.error(item.span, "missing-field", "`devices` needs `capabilities`, such as `[gpu]`");
                continue;
            }
            let options: IndexMap<String, String> =
                self.project.values().pairs(item, "options").into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
            if !options.is_empty() {
                value.insert("options".to_owned(), json!(options));
            }
            requests.push(Value::from(value));
        }
        if !requests.is_empty() {
            self.set("gpus", requests);
        }
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
}
