//! When a service starts, is healthy, is restarted and stops, and what it may use.

use devenv_document::{
    source::Span,
    spelling::did_you_mean,
    tree::{Content, Node},
};
use serde_json::{Map, Value, json};

use crate::{
    project::is_empty,
    words::{duration_of_profile, size_of_profile},
};

use super::{Converter, hooks::hook};

/// The longest time that a healthcheck may be given, in milliseconds.
const LONGEST_START: u64 = 24 * 3_600_000;
const MINUTE: u64 = 60_000;

impl Converter<'_, '_> {
    pub(super) fn dependencies(&mut self) {
        let mut depends = self.service.shift_remove("depends_on").and_then(|value| value.as_object().cloned()).unwrap_or_default();
        let mut follows = false;
        let listed = self.node.get("depends_on").into_iter().flat_map(Node::entries);
        let links = self.node.get("links").into_iter().flat_map(Node::items);
        let links = links.filter_map(|link| Some((link.text()?.split(':').next()?.to_owned(), link.clone(), link.span)));
        let mounted = self.node.get("volumes_from").into_iter().flat_map(Node::items);
        let mounted = mounted.filter_map(|item| {
            let name = item.text()?.split(':').next()?;
            (name != "container").then(|| (name.to_owned(), item.clone(), item.span))
        });
        let all: Vec<(String, Node, Span)> =
            listed.map(|(name, entry)| (name.to_owned(), entry.node.clone(), entry.key)).chain(links).chain(mounted).collect();
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

    pub(super) fn health(&mut self) {
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

    pub(super) fn ending(&mut self) {
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

    pub(super) fn resources(&mut self) {
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

    pub(super) fn watch(&mut self) {
        let mut rules = Vec::new();
        for rule in self.node.get("develop").and_then(|develop| develop.get("watch")).into_iter().flat_map(Node::items) {
            let mut values = self.project.values();
            let Some(path) = values.text(rule, "path") else {
                self.project.findings.error(rule.span, "missing-field", "`watch` needs a `path`");
                continue;
            };
            let path = if path.starts_with(['.', '/']) { path } else { format!("./{path}") };
            let mut value = Map::from_iter([("paths".to_owned(), json!([path]))]);
            for name in ["ignore", "include"] {
                let globs = values.texts(rule, name);
                if !globs.is_empty() {
                    value.insert(name.to_owned(), json!(globs));
                }
            }
            let action = values.choice(rule, "action", &["sync", "sync+restart", "sync+exec", "rebuild", "restart"]);
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
                    match (sync, rule.get("exec")) {
                        ("sync+exec", Some(exec)) => {
                            value.extend(hook(exec, self.project).map(|hook| ("exec".to_owned(), hook)));
                        }
                        ("sync+exec", None) => {
                            self.project.findings.error(rule.span, "missing-field", "`action: sync+exec` needs `exec`");
                        }
                        // A signal that changes nothing: the program finds its new files by itself.
                        ("sync", _) => {
                            value.insert("signal".to_owned(), json!("SIGCONT"));
                        }
                        _ => {}
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
